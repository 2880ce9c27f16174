//! What rules say: for which requests they are, and which versions are within their bounds, and cheapest.

use penstock_canary::{Split, Versions};
use penstock_dialects::Request;
use penstock_pending::{Series, Sum};
use penstock_units::{Nanos, Tokens};

use crate::config::{Bounds, Choosers, Model, Spend, When};
use crate::flow::Flow;
use crate::keys;
use crate::labels;
use crate::world::World;

/// Whether a rule is for this request. What is not known of it yet does not hold.
pub fn holds(when: &When, flow: &Flow) -> bool {
    let facts = &flow.facts;
    let is_counted = flow.is_known || flow.read.is_some();
    let has = |asked: Option<bool>, is_there: &dyn Fn(&Request) -> bool| match (asked, flow.read.as_deref()) {
        (None, _) => true,
        (Some(asked), Some(read)) => is_there(&read.request) == asked,
        (Some(_), None) => false,
    };
    when.class.as_ref().is_none_or(|class| facts.class.as_ref() == Some(class))
        && (when.tenants.is_empty() || (flow.caller.is_named && when.tenants.contains(&flow.caller.tenant)))
        && when.prompt.is_none_or(|(from, below)| is_counted && (from..below).contains(&facts.prompt_tokens))
        && has(when.tools, &|request| !request.tools.is_empty())
        && has(when.images, &|request| !request.images.is_empty() || request.images_beyond > 0)
        && when.budget_below.is_none_or(|below| facts.budget_left.is_some_and(|left| left < below))
}

/// The versions of a rule that are not to serve: those that are full, and of the others those for which the request costs more than
/// for the cheapest, leaving out those that are taken back. None, where all are full.
pub fn dearer(flow: &Flow, model: &Model, among: &Split, taken_back: Versions, world: &mut World<'_>) -> Versions {
    let costs = costs(flow, model, among, taken_back, world);
    let Some(least) = costs.iter().map(|(_, cost)| *cost).min() else { return Versions::NONE };
    let cheapest = costs.into_iter().filter(|(_, cost)| *cost == least);
    cheapest.fold(Versions::NONE, |all, (at, _)| all.and(Versions::one(at))).others()
}

/// What the request costs for the model's own versions at least, where a rule weighs that against the models that it falls back to: none,
/// where all are full, fail or are taken back. `None`: nothing is weighed, as where whoever asks has chosen a version, or headers have gone.
pub fn preference(flow: &Flow, model: &Model, world: &mut World<'_>) -> Option<Option<u64>> {
    let routing = model.routing.as_ref().filter(|_| flow.body.holds_headers())?;
    let rule = routing.rules.iter().find(|rule| holds(&rule.when, flow)).filter(|rule| rule.weighs_fallbacks)?;
    let may_choose = |choosers: &&Choosers| choosers.may(flow.caller.is_named.then_some(flow.caller.tenant.as_str()));
    let choosers = routing.choosers.as_ref().filter(may_choose);
    if choosers.is_some_and(|choosers| flow.caller.value(&choosers.header, &model.name).is_some()) {
        return None;
    }
    let out = out(model, world);
    Some(costs(flow, model, &rule.split, out, world).into_iter().map(|(_, cost)| cost).min())
}

/// What is drawn by for the request; `None` where nothing is.
pub fn split<'m>(flow: &Flow, model: &'m Model) -> Option<&'m Split> {
    let routing = model.routing.as_ref()?;
    let rule = routing.rules.iter().find(|rule| holds(&rule.when, flow));
    Some(rule.map_or(&routing.split, |rule| &rule.split))
}

/// What the request costs for a model at most, whichever of its versions is drawn. `None`: none may serve it.
pub fn at_most(flow: &Flow, model: &Model, world: &mut World<'_>) -> Option<u64> {
    let out = out(model, world);
    let Some(routing) = &model.routing else { return (!out.has(0)).then(|| model.price.nanodollars(spend(flow))) };
    costs(flow, model, &routing.split, out, world).into_iter().map(|(_, cost)| cost).max()
}

/// The versions that fail, or are taken back.
fn out(model: &Model, world: &World<'_>) -> Versions {
    world.worker.trials.taken_back(model).and(world.worker.breakers.left_alone(model, world.now))
}

fn spend(flow: &Flow) -> Spend {
    Spend { prompt: flow.facts.prompt_tokens, cached: Tokens::ZERO, output: flow.facts.expected_output }
}

/// What the request costs for each of these versions, but for those that are `out`, or beyond their bounds.
fn costs(flow: &Flow, model: &Model, among: &Split, out: Versions, world: &mut World<'_>) -> Vec<(usize, u64)> {
    let (spend, full) = (spend(flow), full(flow, model, world));
    let all = model.versions.iter().enumerate();
    let is_free = |at: usize| among.has(at) && !out.has(at) && full.get(at).is_some_and(|is_full| !is_full);
    all.filter(|(at, _)| is_free(*at)).map(|(at, version)| (at, version.price.nanodollars(spend))).collect()
}

/// Which versions are beyond their bounds, with this request.
fn full(flow: &Flow, model: &Model, world: &mut World<'_>) -> Vec<bool> {
    let late = world.worker.lateness.late(model, world.now);
    let mut full: Vec<bool> = (0..model.versions.len()).map(|at| late.has(at)).collect();
    let has_bounds = model.versions.iter().any(|version| version.bounds != Bounds::default());
    if !has_bounds {
        return full;
    }
    let own = flow.facts.prompt_tokens.saturating_add(flow.facts.expected_output);
    let mut pending = vec![(own, None::<Nanos>); model.versions.len()];
    let now = world.now;
    // What this worker holds is known to the moment, and what others do as of their last heartbeats.
    let mut add = |rows: Vec<(Series, Sum)>| {
        for (series, sum) in rows.into_iter().filter(|(series, _)| series.model == labels::model(&model.name)) {
            let at = model.versions.iter().position(|version| version.name == series.version);
            if let Some((tokens, since)) = at.and_then(|at| pending.get_mut(at)) {
                *tokens = tokens.saturating_add(sum.tokens());
                *since = since.iter().copied().chain(sum.since).min();
            }
        }
    };
    add(world.worker.ledger.sums());
    let slots = world.worker.slots(keys::pending, now, world.store);
    slots.filter(|slot| !world.worker.is_own(slot)).for_each(|slot| add(slot.rows));
    for ((version, (tokens, since)), full) in model.versions.iter().zip(pending).zip(&mut full) {
        let waited = since.map_or(Nanos::ZERO, |since| now.saturating_sub(since));
        *full |= version.bounds.pending.is_some_and(|most| tokens > most)
            || version.bounds.oldest_wait.is_some_and(|most| waited > most);
    }
    full
}
