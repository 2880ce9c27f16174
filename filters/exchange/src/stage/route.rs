//! Route: which version of the model serves the request, and what its server calls the model.
//!
//! Who may choose a version has it. For all others it is drawn: from what the first sticky source says, else anew.

use penstock_dialects::{Dialect, OriginKey};
use penstock_units::Fingerprint;

use super::order::Stage;
use super::stop::Stop;
use crate::config::{Model, Routing, Source};
use crate::facts::Facts;
use crate::flow::Flow;
use crate::keys::{self, Realm};
use crate::port::Effect;
use crate::refusal::Refusal;
use crate::response::Response;
use crate::served::{self, Tag};
use crate::world::World;

/// What is remembered of a request.
#[derive(Default)]
pub struct State {
    /// Its choice of a version was not its to make.
    is_ignored: bool,
    /// It is to be remembered which version gave the response.
    remembers: bool,
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
    let version = match chosen(state, flow, model, routing)? {
        Some(version) => {
            flow.facts.chosen_by = Some("override".to_owned());
            version
        }
        None => drawn(flow, model, routing, world),
    };
    let Some(version) = model.versions.get(version) else { return Ok(()) };
    state.remembers = routing.remembers_responses && flow.dialect == Dialect::Responses;
    flow.facts.version = Some(version.name.clone());
    world.out.push(Effect::RequestHeader("x-penstock-version", version.name.clone().into_bytes()));
    Ok(())
}

/// The version that whoever asks has chosen, where that is theirs to choose.
fn chosen(state: &mut State, flow: &Flow, model: &Model, routing: &Routing) -> Result<Option<usize>, Stop> {
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

/// The version that is drawn.
fn drawn(flow: &mut Flow, model: &Model, routing: &Routing, world: &mut World<'_>) -> usize {
    for source in &routing.sticky {
        let key = match source {
            Source::Body(OriginKey::PreviousResponse) => {
                if let Some(version) = went_before(flow, model, routing, world) {
                    return version;
                }
                continue;
            }
            Source::Body(key) => flow.read.as_ref().and_then(|read| read.request.origin(*key)),
            other => flow.caller.shared_value(other, &model.name),
        };
        if let Some(key) = key {
            return of_point(flow, model, routing, penstock_canary::point(&model.name, key), world);
        }
    }
    let point = ((world.entropy)() >> 32) as u32;
    of_point(flow, model, routing, point, world)
}

/// The version that serves a point: its owner, unless that is taken back, and others have a share.
fn of_point(flow: &mut Flow, model: &Model, routing: &Routing, point: u32, world: &World<'_>) -> usize {
    let owner = routing.split.draw(point);
    let taken_back = world.worker.trials.taken_back(model);
    if taken_back == 0 {
        return owner;
    }
    let version = routing.split.draw_avoiding(point, |version| has(taken_back, version)).unwrap_or(owner);
    flow.rolled_back = model.versions.get(owner).filter(|_| version != owner).map(|owner| owner.name.clone());
    version
}

/// Whether the bit of this place is set.
fn has(bits: u8, version: usize) -> bool {
    u32::try_from(version).ok().and_then(|version| bits.checked_shr(version)).is_some_and(|bits| bits & 1 == 1)
}

/// The version that gave the response on which this request goes on, as long as it has a share.
fn went_before(flow: &Flow, model: &Model, routing: &Routing, world: &mut World<'_>) -> Option<usize> {
    let id = flow.read.as_ref()?.request.origin(OriginKey::PreviousResponse)?;
    let of = response(flow, id, world);
    let tag = served::by(of, &keys::response(of), world.store)?;
    let secret = world.worker.secret;
    let version = model.versions.iter().position(|version| Tag::of(&secret, &version.name) == tag)?;
    let is_there = routing.split.has(version) && !has(world.worker.trials.taken_back(model), version);
    is_there.then_some(version)
}

/// What a response is remembered by: it is its tenant's, and no other's.
fn response(flow: &Flow, id: &[u8], world: &World<'_>) -> Fingerprint {
    let Facts { tenant, model, .. } = &flow.facts;
    let realm = if flow.caller.is_named { Realm::Named } else { Realm::Strangers };
    realm.mark(world.worker.secret.fingerprint([b"response", tenant.as_bytes(), model.as_bytes(), id]))
}

/// Whether [`remember`] is to be called as the response comes.
pub fn remembers(state: &State) -> bool {
    state.remembers
}

/// Some of the response is here. Once its server has said what it is called, it is remembered which version that was.
#[inline(never)]
pub fn remember(state: &mut State, flow: &Flow, response: &Response, world: &mut World<'_>) {
    let (Some(id), Some(version)) = (response.id(), &flow.facts.version) else { return };
    let of = self::response(flow, id, world);
    served::remember(of, Tag::of(&world.worker.secret, version), &keys::response(of), world.store);
    state.remembers = false;
}

/// Whether the body has to be read for it: where some version of the model is called otherwise by its server, or something in it pins the
/// caller.
pub fn needs_body(flow: &Flow, world: &World<'_>) -> bool {
    let model = flow.model(&flow.config).filter(|_| world.worker.plugin.owns(Stage::Route));
    model.is_some_and(|model| {
        let is_in_body = |source: &Source| matches!(source, Source::Body(_));
        let is_sticky = || model.routing.as_ref().is_some_and(|routing| routing.sticky.iter().any(is_in_body));
        model.versions.iter().any(|version| version.model.is_some()) || is_sticky()
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
