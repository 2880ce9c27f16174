//! Count: what a request costs, what is written into it for that, and what its end teaches.

use penstock_dialects::{ImagePrice, Media, Request, UsageFilter};
use penstock_tokens::ratio::{Features, Ratio};
use penstock_units::{Millis, Tokens};

use super::order::Stage;
use super::stop::Stop;
use crate::body::Body;
use crate::budget::{OutputBudget, Prompted};
use crate::config::Model;
use crate::expectation::Expectation;
use crate::facts::{Facts, Outcome, Used};
use crate::flow::{Flow, Read};
use crate::json::decimal;
use crate::keys;
use crate::media::{self, Cost};
use crate::metrics::Metric;
use crate::pace::Pace;
use crate::port::{Effect, Store};
use crate::refusal::Refusal;
use crate::tools;
use crate::voices;
use crate::world::World;

/// By how many times an estimate may be too high. The 95th percentile of what is learnt of a tokenizer is 12 % off; before it is learnt, and
/// for what goes by its length, twice is what built-in vocabularies differ by on ordinary texts.
const ESTIMATE_MAX: u64 = 2;

/// What counting remembers of a request.
#[derive(Default)]
pub struct State {
    /// What the estimate was made of, where the model's tokenizer is only alike and what the server reports teaches it.
    teaches: Option<Box<Features>>,
    /// What the prompt costs at least: where the count is an estimate, less than that.
    prompt_min: Tokens,
    /// How many answers were asked for.
    choices: u64,
    /// They are to begin with the prompt.
    echoes: bool,
    /// The ceiling that was written into the request.
    ceiling: Option<Tokens>,
}

/// Counts the request for the model that it asks for.
///
/// # Errors
/// [`Stop::Refuse`] where its prompt is longer than the model takes, or has something in it that has no price.
pub fn run(state: &mut State, flow: &mut Flow, world: &mut World<'_>) -> Result<(), Stop> {
    let config = flow.config.clone();
    let Some(model) = flow.model(&config) else { return Ok(()) };
    if let Some((what, key)) = media::unpriced(flow, model) {
        return Err(Refusal::no_price(what, key).into());
    }
    for_model(state, flow, model, world);
    match model.context.filter(|_| is_too_long(state, flow, model)) {
        Some(context) => Err(Refusal::too_long(flow.dialect, flow.facts.prompt_tokens, context).into()),
        None => Ok(()),
    }
}

/// Whether the model takes the prompt that was counted: one that is not too long, and has nothing in it that has no price here.
pub fn takes(state: &State, flow: &Flow, model: &Model) -> bool {
    media::unpriced(flow, model).is_none() && !is_too_long(state, flow, model)
}

/// Whether the prompt that was counted is longer than the model takes, whatever is wrong with the count. Of several prompts none may be.
fn is_too_long(state: &State, flow: &Flow, model: &Model) -> bool {
    let request = flow.read.as_deref().map(|read| &read.request).filter(|request| !request.is_cut_to_fit);
    let room = request.zip(model.context).map(|(request, context)| context.saturating_mul(request.prompts));
    room.is_some_and(|room| state.prompt_min > room)
}

/// Counts the request for this model: its prompt, and the output that may come of it.
pub fn for_model(state: &mut State, flow: &mut Flow, model: &Model, world: &mut World<'_>) {
    flow.facts.model.clone_from(&model.name);
    let rough = count_prompt(state, flow, model, world);
    budget_output(state, flow, model, rough, world);
}

/// What of the prompt's cost only says how much there may be.
fn count_prompt(state: &mut State, flow: &mut Flow, model: &Model, world: &mut World<'_>) -> Tokens {
    let Some(Read { request, prompt, .. }) = flow.read.as_deref() else { return Tokens::ZERO };
    let extras = extras(flow.dialect.image_price(), request, &flow.body, model, world);
    let features = model.approximate.then(|| prompt.features(model.encoding, request.messages));
    let framing = flow.dialect.framing();
    let around = Tokens(framing.tokens(request.messages, request.names));
    let texts = match &features {
        Some(features) => Tokens(ratio(&model.name, world.store).estimate(features)),
        None => prompt.tokens(model.encoding).saturating_add(around),
    };
    let is_whole = extras.is_none() && !request.unseen && !request.has_texts_beside;
    let Cost { tokens: extra, rough } = extras.unwrap_or_default();
    flow.facts.prompt_tokens = [texts, Tokens(request.token_ids), extra].into_iter().sum();
    let is_known = is_whole && !prompt.estimated && !model.approximate;
    flow.facts.estimated = !is_known || !framing.documented || request.is_cut_to_fit;
    let tokens = flow.facts.prompt_tokens;
    state.prompt_min = if !flow.facts.estimated {
        tokens
    } else if is_known {
        // Only what frames the texts is not known.
        tokens.saturating_sub(around)
    } else {
        Tokens(tokens.saturating_sub(rough).0 / ESTIMATE_MAX)
    };
    // The fit is of texts and messages, and learns nothing from requests with anything else in them.
    state.teaches = features.filter(|_| is_whole && request.token_ids == 0).map(Box::new);
    rough
}

fn budget_output(state: &mut State, flow: &mut Flow, model: &Model, rough: Tokens, world: &mut World<'_>) {
    let learnt = expected(flow, world.store);
    let Flow { dialect, facts, body, read: Some(read), .. } = flow else { return };
    let Read { request, budget, .. } = read.as_mut();
    // A document may have fewer pages than its bytes hold, and its answer is not to be cut short for that.
    let tokens = facts.prompt_tokens.saturating_sub(rough);
    let prompt = Prompted { tokens, is_estimate: facts.estimated };
    let can_write = world.worker.plugin.owns(Stage::Count) && body.can_be_edited();
    *budget = OutputBudget::new(*dialect, request, model, prompt, learnt, can_write);
    (state.choices, state.echoes) = (request.choices, request.echo);
    facts.max_output = budget.most;
    facts.expected_output = budget.expected;
}

/// What tools, images, sounds, films, documents and unknown fields cost, where there are any.
fn extras(price: ImagePrice, request: &Request, body: &Body, model: &Model, world: &World<'_>) -> Option<Cost> {
    if request.tools.is_empty() && request.images.is_empty() && request.media == Media::default() {
        return None;
    }
    let tools = request.tools.iter().filter_map(|at| body.text(at.clone(), world.properties));
    let tools: Tokens = tools.map(|definition| tools::tokens(&definition, model.encoding)).sum();
    let media = media::cost(price, request, model);
    Some(Cost { tokens: media.tokens.saturating_add(tools), ..media })
}

/// Writes into the request what counting needs of it: the ceiling that was reserved, and that usage is reported. What takes the usage out of
/// the answer again, where the client did not ask for it.
pub fn write(state: &mut State, flow: &mut Flow) -> Option<Box<UsageFilter>> {
    let Flow { read: Some(read), body, .. } = flow else { return None };
    let Read { request, budget, .. } = read.as_ref();
    if !body.can_be_edited() {
        return None;
    }
    let splices = budget.write(request);
    if !splices.is_empty() {
        state.ceiling = budget.ceiling;
    }
    body.edit(splices);
    if !request.stream || request.include_usage || !flow.dialect.usage_on_request() {
        return None;
    }
    body.edit(request.with_usage());
    Some(Box::new(if request.has_stream_options() { UsageFilter::all() } else { UsageFilter::default() }))
}

/// What the client is told.
pub fn response_headers(state: &State, flow: &Flow, world: &mut World<'_>) {
    if !world.worker.plugin.owns(Stage::Count) {
        return;
    }
    // What is refused before it is counted has none.
    if !flow.facts.prompt_hash.is_empty() {
        let tokens = decimal(flow.facts.prompt_tokens.0).into_bytes();
        world.out.push(Effect::ResponseHeader("x-penstock-prompt-tokens", tokens));
        if flow.facts.estimated {
            world.out.push(Effect::ResponseHeader("x-penstock-estimated", b"true".to_vec()));
        }
    }
    if let Some(ceiling) = state.ceiling {
        world.out.push(Effect::ResponseHeader("x-penstock-max-tokens", decimal(ceiling.0).into_bytes()));
    }
}

/// The end: what was used teaches the next estimates, and is added to the totals.
pub fn settle(
    state: &State,
    flow: &Flow,
    (outcome, reason): (Outcome, Option<usize>),
    used: Option<Used>,
    took: Millis,
    world: &mut World<'_>,
) {
    if let Some(used) = used {
        learn_ratio(state, &flow.facts, used, world.store);
        learn_output(state, flow, outcome, used, took, world);
    }
    if world.worker.plugin.owns(Stage::Count) {
        if let Some(reason) = reason.filter(|_| flow.dialect.generates())
            && let Some(series) = flow.series()
        {
            world.worker.finished.count(series, reason);
        }
        totals(flow, outcome, used, world);
    }
}

/// The server's own count teaches the estimate of the next request.
fn learn_ratio(state: &State, facts: &Facts, used: Used, store: &mut dyn Store) {
    let Some(features) = state.teaches.as_ref().filter(|_| !used.counted) else { return };
    let _ = store.update(&keys::ratio(&facts.model), &mut |old| {
        let mut ratio = old.map(Ratio::decode).unwrap_or_default();
        ratio.learn(features, used.prompt.0);
        Some(ratio.encode())
    });
}

/// How much was generated tells how much to expect.
fn learn_output(state: &State, flow: &Flow, outcome: Outcome, used: Used, took: Millis, world: &mut World<'_>) {
    // What stays as it was reserved has not shown how long it is, nor has what has the prompt in it.
    let is_hidden = used.reserved || (used.counted && state.echoes);
    if flow.is_known || outcome != Outcome::Ok || !flow.dialect.generates() || is_hidden {
        return;
    }
    let each = Tokens(used.completion.0.checked_div(state.choices).unwrap_or(0));
    let Facts { model, class, .. } = &flow.facts;
    let (who, store) = (voice(flow, world), &mut world.store);
    let mut told = None;
    let _ = store.update(&keys::answers(model, flow.tenant_label()), &mut |old| {
        let mut expectation = old.map(Expectation::decode).unwrap_or_default();
        expectation.learn(each);
        told = class.as_ref().and_then(|_| expectation.told());
        Some(expectation.encode())
    });
    if let (Some(told), Some(class)) = (told, class) {
        let page = &keys::expected(model, class);
        let _ = store.update(page, &mut |old| voices::say(old.unwrap_or_default(), who, told.0));
    }
    let _ = store.update(&keys::pace(model), &mut |old| Pace::heard(old.unwrap_or_default(), who, each, took));
}

/// How much output to expect of whoever asks: by its own answers, else by what its class's tenants say.
fn expected(flow: &Flow, store: &mut dyn Store) -> Option<Tokens> {
    let Facts { model, class, .. } = &flow.facts;
    let own = store.get(&keys::answers(model, flow.tenant_label()));
    let own = own.as_deref().map(Expectation::decode).and_then(|learnt| learnt.p90());
    own.or_else(|| {
        let page = store.get(&keys::expected(model, class.as_ref()?))?;
        voices::believed(&page).map(Tokens)
    })
}

/// What a model may have generated in this time, as far as this can be known of whoever asked.
pub fn generated_in(flow: &Flow, took: Millis, world: &mut World<'_>) -> Tokens {
    let page = world.store.get(&keys::pace(&flow.facts.model)).unwrap_or_default();
    Pace::tokens(Pace::known(&page, voice(flow, world)), took)
}

/// Whose voice it is: those without a name are one, as names cost nothing to make up.
fn voice(flow: &Flow, world: &World<'_>) -> u64 {
    world.worker.secret.hash([flow.tenant_label().as_bytes()])
}

fn totals(flow: &Flow, outcome: Outcome, used: Option<Used>, world: &mut World<'_>) {
    let ([model, version], tenant) = (flow.served_by(), flow.tenant_label());
    let World { worker, out, .. } = world;
    let serving = flow.serving();
    let labels = [model, version, tenant, outcome.label()];
    let requests = worker.series.of(serving, Metric::Requests, outcome as usize, &labels);
    out.push(Effect::Count(requests, 1));
    let Some(used) = used else { return };
    let kinds = [
        ("prompt", used.prompt),
        ("cached", used.cached),
        ("completion", used.completion),
        ("reasoning", used.reasoning),
    ];
    for (choice, (kind, tokens)) in kinds.into_iter().enumerate() {
        if tokens > Tokens::ZERO {
            let series = worker.series.of(serving, Metric::Tokens, choice, &[model, version, tenant, kind]);
            out.push(Effect::Count(series, tokens.0));
        }
    }
    let Some(configured) = flow.model(&flow.config) else { return };
    let nano = configured.price(flow.facts.version.as_deref()).nanodollars(used.spend());
    if nano > 0 {
        let cost = worker.series.of(serving, Metric::Cost, 0, &[model, version, tenant]);
        let micro = worker.microdollars(cost, nano);
        if micro > 0 {
            out.push(Effect::Count(cost, micro));
        }
    }
    if !used.counted {
        let error = used.prompt.0.abs_diff(flow.facts.prompt_tokens.0);
        let series = worker.series.of(serving, Metric::EstimateError, 0, &[model, version]);
        out.push(Effect::Observe(series, error));
    }
}

/// What the workers learnt of a model's tokenizer.
fn ratio(model: &str, store: &mut dyn Store) -> Ratio {
    store.get(&keys::ratio(model)).as_deref().map(Ratio::decode).unwrap_or_default()
}
