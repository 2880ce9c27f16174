//! What rules say: for which requests they are, and which versions are within their bounds, and cheapest.

use penstock_canary::Versions;
use penstock_dialects::Request;
use penstock_pending::{Series, Sum};
use penstock_units::{Nanos, Tokens};

use crate::config::{Bounds, Model, Rule, Spend, When};
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
pub fn dearer(flow: &Flow, model: &Model, rule: &Rule, taken_back: Versions, world: &mut World<'_>) -> Versions {
    let spend = Spend { prompt: flow.facts.prompt_tokens, cached: Tokens::ZERO, output: flow.facts.expected_output };
    let full = full(flow, model, world);
    let all = model.versions.iter().enumerate();
    let is_free = |at: usize| rule.split.has(at) && !taken_back.has(at) && full.get(at).is_some_and(|is_full| !is_full);
    let free = all.filter(|(at, _)| is_free(*at));
    let costs: Vec<(usize, u64)> = free.map(|(at, version)| (at, version.price.nanodollars(spend))).collect();
    let Some(least) = costs.iter().map(|(_, cost)| *cost).min() else { return Versions::NONE };
    let cheapest = costs.into_iter().filter(|(_, cost)| *cost == least);
    cheapest.fold(Versions::NONE, |all, (at, _)| all.and(Versions::one(at))).others()
}

/// Which versions are beyond their bounds, with this request.
fn full(flow: &Flow, model: &Model, world: &mut World<'_>) -> Vec<bool> {
    let mut full = vec![false; model.versions.len()];
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
        *full = version.bounds.pending.is_some_and(|most| tokens > most)
            || version.bounds.oldest_wait.is_some_and(|most| waited > most);
    }
    full
}
