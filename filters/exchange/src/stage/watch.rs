//! Watch: what becomes of a request tells for or against the version that serves it. Not a stage of its own, as it stops nothing: it looks
//! on while the request goes out, while its answer comes, and at its end.
//!
//! What a caller can bring about alone is no evidence, or anybody could have a canary taken back who gets to it: a client that leaves, or
//! reads slowly; what is wrong with the request, or with who asks; prompts that are absurdly long, and answers that are asked to be too long
//! for the proxy's patience; the proxy's own circuit breakers, which whoever sends enough can trip.

use penstock_canary::guard::{Amount, Outcome as Ended, Record};
use penstock_units::{Millis, Nanos};

use super::order::{Plugin, Stage};
use crate::config::{Guard, Model};
use crate::facts::{Outcome, Used};
use crate::flow::Flow;
use crate::identity::header;
use crate::labels;
use crate::port::{Effect, Headers};
use crate::response::Response;
use crate::trials::{Subject, late};
use crate::want::Want;
use crate::world::World;

/// What is remembered of a request.
#[derive(Default)]
pub struct State {
    evidence: Option<Box<Sent>>,
    /// Its first token is awaited, as its version has a bound for it.
    first: Option<Awaited>,
}

/// A stream of a version that has a bound for its first token.
struct Awaited {
    series: usize,
    /// When it went out.
    sent: Nanos,
}

/// One that is evidence.
struct Sent {
    subject: Subject,
    /// Its first token is awaited.
    awaits: bool,
}

/// The request goes out.
pub fn sent(id: u32, state: &mut State, flow: &Flow, world: &mut World<'_>) {
    if world.worker.lateness.is_kept() {
        state.first = awaited(flow, world);
    }
    // To look at all is cheaper than to find the one by its name.
    if flow.config.models.iter().all(|model| model.guard.is_none()) {
        return;
    }
    let config = flow.config.clone();
    let Some(model) = flow.model(&config) else { return };
    let Some(guard) = model.guard.as_ref().filter(|_| world.worker.plugin.owns(Stage::Route)) else { return };
    let Some(version) = place(flow, model).filter(|_| is_evidence(flow, guard)) else { return };
    let subject = Subject { model: model.place, version, category: category(guard, world), sent: world.now };
    let bound = guard.ttft.filter(|(_, prompt_max)| flow.facts.stream && flow.facts.prompt_tokens <= *prompt_max);
    let bound = bound.filter(|_| !may_be_held(flow, model, world)).map(|(bound, _)| late(bound, world.now));
    world.worker.trials.sent(id, subject, bound);
    state.evidence = Some(Box::new(Sent { subject, awaits: bound.is_some() }));
}

fn awaited(flow: &Flow, world: &World<'_>) -> Option<Awaited> {
    let is_ours = flow.facts.stream && !flow.is_count && world.worker.plugin.owns(Stage::Route);
    let series = flow.series().filter(|series| is_ours && world.worker.lateness.looks_at(*series))?;
    let model = flow.model(&flow.config)?;
    (!may_be_held(flow, model, world)).then_some(Awaited { series, sent: world.now })
}

/// A plugin behind this one may hold it, and nobody here knows for how long.
fn may_be_held(flow: &Flow, model: &Model, world: &World<'_>) -> bool {
    world.worker.plugin != Plugin::Penstock && model.cold_start(flow.facts.version.as_deref()).is_some()
}

/// Whether what becomes of it says something of its version.
fn is_evidence(flow: &Flow, guard: &Guard) -> bool {
    let is_trusted = || !guard.named_only || flow.config.tenant(&flow.facts.tenant).is_some();
    // One that was not drawn says more of who chose it than of what was chosen; but who probes asks all versions the same.
    let by_chance =
        |by: &str| by == "pin" || by == labels::FALLBACK || (by == labels::OVERRIDE && flow.caller.is_probe);
    let is_fair = flow.facts.chosen_by.as_deref().is_none_or(by_chance);
    is_fair && !flow.is_count && !flow.facts.background && flow.facts.prompt_tokens <= guard.prompt_max && is_trusted()
}

/// The place of its version.
fn place(flow: &Flow, model: &Model) -> Option<usize> {
    let drawn = flow.facts.version.as_deref()?;
    model.versions.iter().position(|version| version.name == drawn)
}

fn category(guard: &Guard, world: &World<'_>) -> Option<usize> {
    let category = guard.category.as_ref()?;
    let value = world.properties.get(&["request", "headers", &category.header])?;
    category.values.iter().position(|known| known.as_bytes() == value)
}

/// The head of the answer is here: its server answers, or fails.
pub fn heard(flow: &Flow, response: &Response, headers: &Headers, world: &mut World<'_>) {
    let Some(status) = response.status().filter(|_| flow.facts.refused.is_none()) else { return };
    let fails = status >= 500 || status == 429;
    if fails && !is_the_servers(flow, response, world) {
        return;
    }
    if let Some(series) = flow.series() {
        let caller = flow.config.tenant_place(&flow.facts.tenant);
        world.worker.breakers.heard(series, caller, fails.then(|| asked(headers)));
    }
}

/// For how long a server asks to be left alone.
fn asked(headers: &Headers) -> Nanos {
    let number = |name: &str| core::str::from_utf8(header(headers, name)?).ok()?.trim().parse::<u64>().ok();
    let precise = number("retry-after-ms").map(|ms| Millis(ms).to_nanos());
    precise
        .or_else(|| number("retry-after").map(|seconds| Nanos::SECOND.saturating_mul(seconds)))
        .unwrap_or(Nanos::ZERO)
}

/// Some of the answer is here.
pub fn chunk(id: u32, state: &mut State, response: &Response, world: &mut World<'_>) {
    if state.first.is_some() && response.has_begun() {
        began(state, world);
    }
    let Some(sent) = state.evidence.as_deref_mut().filter(|sent| sent.awaits) else { return };
    if response.has_begun() {
        sent.awaits = false;
        world.worker.trials.first_token(id, world.now);
    }
}

/// The first token is here, or the client has waited for it in vain.
fn began(state: &mut State, world: &mut World<'_>) {
    if let Some(Awaited { series, sent }) = state.first.take() {
        world.worker.lateness.heard(series, world.now.saturating_sub(sent));
    }
}

/// The end.
pub fn settle(
    id: u32,
    state: &mut State,
    flow: &Flow,
    response: &Response,
    outcome: Outcome,
    used: Option<Used>,
    world: &mut World<'_>,
) {
    if state
        .first
        .as_ref()
        .is_some_and(|awaited| world.worker.lateness.is_overdue(awaited.series, awaited.sent, world.now))
    {
        began(state, world);
    }
    let Some(Sent { subject, awaits }) = state.evidence.take().map(|sent| *sent) else { return };
    if awaits {
        // One that is overdue by now has been told, or is told here; of one that ended before that nothing is known.
        world.worker.trials.give_up(id, world.now);
    }
    let Some(guard) = flow.model(&flow.config).and_then(|model| model.guard.as_ref()) else { return };
    match outcome {
        Outcome::UpstreamError if is_the_servers(flow, response, world) => {
            world.worker.trials.told(subject, |record| record.outcome(Ended::Error, true));
        }
        Outcome::Ok => {
            let what = |record| answered(record, flow, guard, response, used);
            world.worker.trials.told(subject, what);
        }
        _ => {}
    }
}

/// Whether it failed by its server, as far as can be known.
fn is_the_servers(flow: &Flow, response: &Response, world: &World<'_>) -> bool {
    let facts = &flow.facts;
    // Who asks for a long answer in one piece asks for a timeout.
    let is_long = !facts.stream && facts.max_output.is_some_and(|most| most > facts.expected_output);
    let is_overlong = is_long && response.proxy_gave_up(world.properties);
    facts.refused.is_none() && !is_overlong && response.want(world.properties) != Some(Want::Room)
}

/// What an answer in full says.
fn answered(record: Record, flow: &Flow, guard: &Guard, response: &Response, used: Option<Used>) -> Record {
    let facts = &flow.facts;
    let mut record = record;
    if let Some(quality) = &facts.quality {
        // A ceiling of the client's cuts answers short, or leaves nothing of them, or no JSON.
        let is_whole = facts.max_output.is_none() || quality.finish.as_deref() != Some("length");
        let is_broken = quality.malformed_tool_args || quality.malformed_json_output;
        record = record
            .outcome(Ended::Truncated, is_whole && quality.finish.as_deref() == Some("length"))
            .outcome(Ended::Empty, is_whole && quality.empty)
            .outcome(Ended::Filtered, quality.finish.as_deref() == Some("filter"))
            .outcome(Ended::Malformed, is_whole && is_broken);
    }
    if let Some((bound, pace)) = guard.inter_token.zip(response.pace()).filter(|_| facts.stream) {
        record = record.outcome(Ended::InterToken, pace > bound.to_nanos());
    }
    if let Some(used) = used.filter(|used| !used.reserved) {
        let version = flow.facts.version.as_deref();
        let price = flow.model(&flow.config).map(|model| *model.price(version)).unwrap_or_default();
        for (amount, value, cap) in [
            (Amount::Cost, price.nanodollars(used.spend()), guard.cost_cap),
            (Amount::Length, used.completion.0, guard.length_cap),
        ] {
            if let Some(cap) = cap {
                record = record.amount(amount, value, cap);
            }
        }
    }
    record
}

/// Whether what becomes of it is evidence.
pub fn is_watched(state: &State) -> bool {
    state.evidence.is_some()
}

/// What the client is told: that the version that it would have had is taken back.
pub fn response_headers(flow: &Flow, world: &mut World<'_>) {
    if let Some(version) = &flow.rolled_back {
        world.out.push(Effect::ResponseHeader("x-penstock-rolled-back", version.clone().into_bytes()));
    }
}
