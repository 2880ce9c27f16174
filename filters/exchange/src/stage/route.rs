//! Route: which version of the model serves the request, and what its server calls the model.
//!
//! Who may choose a version has it. For all others the first rule that holds says between which versions is drawn: from what the first
//! sticky source says, else anew. Where the weights are the route's (`owns: pin`) nothing is drawn, and the version is the one that is seen
//! to have served; whoever has a sticky value comes back to it.

mod memory;
pub mod rules;

use penstock_canary::{Split, Versions};
use penstock_dialects::{Dialect, OriginKey};

use self::memory::{Marks, Sticky};
use super::order::Stage;
use super::stop::Stop;
use crate::config::{Model, Owner, Routing, Rule, Source};
use crate::flow::Flow;
use crate::labels;
use crate::port::{Effect, Headers};
use crate::refusal::Refusal;
use crate::response::Response;
use crate::world::World;

/// What is remembered of a request.
#[derive(Default)]
pub struct State {
    /// Its choice of a version was not its to make.
    is_ignored: bool,
    marks: Marks,
}

/// Chooses the version, where the headers can still tell it.
///
/// # Errors
/// [`Stop::Refuse`] for the choice of a version that there is not.
pub fn run(state: &mut State, flow: &mut Flow, world: &mut World<'_>) -> Result<(), Stop> {
    let config = flow.config.clone();
    match flow.model(&config) {
        Some(model) if flow.body.holds_headers() => choose(state, flow, model, world),
        _ => Ok(()),
    }
}

/// Chooses it before the body is there, where headers cannot wait: only possible where there is no choice of models.
///
/// # Errors
/// As [`run`] has them.
pub fn run_ahead(state: &mut State, flow: &mut Flow, world: &mut World<'_>) -> Result<(), Stop> {
    let config = flow.config.clone();
    let mut models = config.models.iter().filter(|model| !model.is_implicit);
    if let (Some(model), None, true) = (models.next(), models.next(), world.worker.plugin.owns(Stage::Route)) {
        // Routes ask for both.
        world.out.push(Effect::RequestHeader("x-penstock-model", model.name.clone().into_bytes()));
        return choose(state, flow, model, world);
    }
    Ok(())
}

fn choose(state: &mut State, flow: &mut Flow, model: &Model, world: &mut World<'_>) -> Result<(), Stop> {
    let Some(routing) = &model.routing else { return Ok(()) };
    state.marks.response = routing.remembers_responses && flow.dialect == Dialect::Responses;
    let sticky = sticky(flow, model, routing);
    let mut rolled_back = None;
    let (version, chosen_by) = match chosen(state, flow, model, routing)? {
        Some(version) => (Some(version), Some(labels::OVERRIDE)),
        None if routing.owner == Owner::Route => {
            let version = memory::pinned(&mut state.marks, flow, model, sticky, world);
            (version, version.map(|_| "pin"))
        }
        None => {
            let rule = routing.rules.iter().find(|rule| rules::holds(&rule.when, flow));
            let drawn = drawn(flow, model, (routing, rule), sticky, world);
            rolled_back = drawn.rolled_back;
            (Some(drawn.version), rule.map(|rule| rule.name.as_str()))
        }
    };
    let place = version.map(|version| model.series.saturating_add(version));
    let version = version.and_then(|version| model.versions.get(version)).map(|version| version.name.as_str());
    let shadow = routing.shadow.as_ref().map(|shadow| (shadow.version.as_str(), shadow.end));
    let shadow = shadow.filter(|(copy, end)| version != Some(*copy) && is_copied(model, *end, sticky.key, world));
    flow.place = place;
    if let Some(owner) = rolled_back.and_then(|owner| model.versions.get(owner)) {
        flow.rolled_back = Some(owner.name.clone());
    }
    let facts = &mut flow.facts;
    if let Some(by) = chosen_by {
        facts.chosen_by = Some(by.to_owned());
    }
    if let Some(version) = version {
        facts.version = Some(version.to_owned());
        world.out.push(Effect::RequestHeader("x-penstock-version", version.as_bytes().to_vec()));
    }
    if let Some((copy, _)) = shadow {
        facts.shadow = Some(copy.to_owned());
        world.out.push(Effect::RequestHeader("x-penstock-shadow", copy.as_bytes().to_vec()));
    }
    Ok(())
}

/// Whether the route is to copy the request.
fn is_copied(model: &Model, end: u64, key: Option<&[u8]>, world: &World<'_>) -> bool {
    let point = match key {
        // Not the callers of the first canary.
        Some(key) => penstock_canary::point(&["shadow of ", &model.name].concat(), key),
        None => (world.entropy)() as u32,
    };
    u64::from(point) < end
}

/// What pins the caller.
fn sticky<'a>(flow: &'a Flow, model: &'a Model, routing: &Routing) -> Sticky<'a> {
    let origin = |key| flow.read.as_deref().and_then(|read| read.request.origin(key));
    let mut sticky = Sticky { key: None, before: None };
    for source in &routing.sticky {
        sticky.key = match source {
            Source::Body(key @ OriginKey::PreviousResponse) => {
                sticky.before = origin(*key);
                None
            }
            Source::Body(key) => origin(*key),
            other => flow.caller.shared_value(other, &model.name),
        };
        if sticky.key.is_some() {
            break;
        }
    }
    sticky
}

/// The version that whoever asks has chosen, where that is theirs to choose. It is one of the model that was asked for: where another one
/// serves its name says nothing.
fn chosen(state: &mut State, flow: &Flow, model: &Model, routing: &Routing) -> Result<Option<usize>, Stop> {
    if flow.facts.chosen_by.as_deref() == Some(labels::FALLBACK) {
        return Ok(None);
    }
    let Some(choosers) = &routing.choosers else { return Ok(None) };
    let Some(name) = flow.caller.value(&choosers.header, &model.name) else { return Ok(None) };
    if !choosers.may(flow.caller.is_named.then_some(flow.caller.tenant.as_str())) {
        state.is_ignored = true;
        return Ok(None);
    }
    let known = model.versions.iter().position(|version| version.name.as_bytes() == name);
    match (known, &choosers.header) {
        (None, Source::Header(header)) => Err(Refusal::unknown_version(header, name, model).into()),
        (known, _) => Ok(known),
    }
}

/// What a draw came to.
struct Drawn {
    version: usize,
    /// Whose it was, where that version is taken back.
    rolled_back: Option<usize>,
}

/// The version that is drawn: always the same for the same key. Those that are taken back do not serve, as long as others have a share.
fn drawn(
    flow: &Flow,
    model: &Model,
    (routing, rule): (&Routing, Option<&Rule>),
    Sticky { key, before }: Sticky<'_>,
    world: &mut World<'_>,
) -> Drawn {
    if let Some(version) = flow.tries {
        return Drawn { version, rolled_back: None };
    }
    let split = rule.map_or(&routing.split, |rule| &rule.split);
    let taken_back = world.worker.trials.taken_back(model);
    let thrifty = rule.filter(|rule| rule.is_cheapest);
    let dearer = |out: Versions, world: &mut World<'_>| {
        thrifty.map(|rule| rules::dearer(flow, model, &rule.split, out, world)).unwrap_or_default()
    };
    let avoided = taken_back.and(dearer(taken_back, world));
    let failing = world.worker.breakers.left_alone(model, world.now);
    let is_free = |version: &usize| split.has(*version) && !avoided.and(failing).has(*version);
    if let Some(version) = before.and_then(|id| memory::went_before(flow, model, id, world)).filter(is_free) {
        return Drawn { version, rolled_back: None };
    }
    let point = match key {
        Some(key) => penstock_canary::point(&model.name, key),
        None => ((world.entropy)() >> 32) as u32,
    };
    let owner = split.draw(point);
    if avoided.and(failing) == Versions::NONE {
        return Drawn { version: owner, rolled_back: None };
    }
    let draw = |split: &Split, avoided: Versions| split.draw_avoiding(point, |version| avoided.has(version));
    let among = draw(split, avoided).or_else(|| draw(split, taken_back));
    let version = among.or_else(|| draw(&routing.split, taken_back)).unwrap_or(owner);
    let version = if failing.has(version) {
        // What fails is left alone where the rule has something else, and one request at a time tries it.
        let out = taken_back.and(failing);
        let other = draw(split, out.and(dearer(out, world))).or_else(|| draw(split, out));
        let World { worker, store, now, .. } = world;
        let may = worker.breakers.lets(model, version, *now, &mut **store);
        other.filter(|_| !may).unwrap_or(version)
    } else {
        version
    };
    Drawn { version, rolled_back: (version != owner && taken_back.has(owner)).then_some(owner) }
}

/// Whether [`remember`] is to be called as the response comes.
pub fn remembers(state: &State) -> bool {
    state.marks.response
}

/// Some of the response is here. Once its server has said what it is called, it is remembered which version that was.
#[inline(never)]
pub fn remember(state: &mut State, flow: &Flow, response: &Response, world: &mut World<'_>) {
    memory::remember(&mut state.marks, flow, response, world);
}

/// Whether [`heard`] is to be called with the head of the response.
pub fn listens(flow: &Flow, response: &Response, world: &World<'_>) -> bool {
    flow.config.has_pins || response.lacks_route(world.properties)
}

/// The head of the response is here.
#[inline(never)]
pub fn heard(id: u32, state: &State, flow: &mut Flow, headers: &Headers, response: &Response, world: &mut World<'_>) {
    memory::heard(id, &state.marks, flow, headers, response, world);
}

/// Whether the body has to be read for it: where some version of the model is called otherwise by its server, or something in it pins the
/// caller.
pub fn needs_body(flow: &Flow, world: &World<'_>) -> bool {
    let model = flow.model(&flow.config).filter(|_| world.worker.plugin.owns(Stage::Route));
    model.is_some_and(|model| {
        let is_in_body = |source: &Source| matches!(source, Source::Body(_));
        let asks = || {
            model.routing.as_ref().is_some_and(|routing| {
                routing.sticky.iter().any(is_in_body) || routing.rules.iter().any(|rule| rule.when.is_of_body())
            })
        };
        model.versions.iter().any(|version| version.model.is_some()) || asks()
    })
}

/// Writes the model's name into the request, as the server that it goes to has it. `fallback`: the model that takes the place of the one
/// that was asked for.
pub fn write(flow: &mut Flow, fallback: Option<&str>, world: &World<'_>) {
    let Flow { config, facts, body, read: Some(read), .. } = flow else { return };
    let request = &read.request;
    let versions = config.model(&facts.model).filter(|_| world.worker.plugin.owns(Stage::Route));
    let version = versions.into_iter().flat_map(|model| &model.versions);
    let version = version.into_iter().find(|version| facts.version.as_ref() == Some(&version.name));
    let name = version.and_then(|version| version.model.as_deref()).or(fallback);
    if let Some(name) = name.filter(|name| request.model.as_deref() != Some(name)) {
        body.edit(request.with_model(name));
    }
}

/// What the client is told.
pub fn response_headers(state: &State, flow: &Flow, world: &mut World<'_>) {
    if let Some(version) = flow.facts.version.as_ref().filter(|_| world.worker.plugin.owns(Stage::Route)) {
        world.out.push(Effect::ResponseHeader("x-penstock-version", version.clone().into_bytes()));
    }
    if state.is_ignored {
        world.out.push(Effect::ResponseHeader("x-penstock-override", b"ignored".to_vec()));
    }
}
