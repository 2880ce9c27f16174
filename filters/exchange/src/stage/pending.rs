//! Pending: the request is in flight, until it is over; then its times are observed, and what it taught of its server is kept.

use penstock_pending::{Landed, Series};
use penstock_units::{Millis, Tokens};

use super::order::Stage;
use crate::demand::learnt;
use crate::facts::{Facts, Used};
use crate::flow::Flow;
use crate::limits::{self, Applicant};
use crate::metrics::Metric;
use crate::port::Effect;
use crate::response::Response;
use crate::want::Want;
use crate::world::World;

/// Keeps the request in the sums.
pub fn run(id: u32, flow: &Flow, world: &mut World<'_>) {
    let Facts { tenant, prompt_tokens, expected_output, .. } = &flow.facts;
    world.worker.ledger.admit(id, flow.served_by(), tenant, *prompt_tokens, *expected_output, world.now);
    // Most configurations have none, and to look is cheaper than to find the model by its name.
    let has_ceilings = flow.config.models.iter().any(|model| model.ceiling.is_some());
    if has_ceilings && flow.model(&flow.config).is_some_and(|model| model.ceiling.is_some()) {
        world.worker.tell_load(world.now, world.store);
    }
}

/// The end: it is no longer in flight. Harmless for a request that never was.
pub fn done(id: u32, world: &mut World<'_>) -> Option<Landed> {
    world.worker.ledger.done(id)
}

/// The end: how long it took, what the server reported of its cache, and whether there was a server at all.
pub fn settle(flow: &Flow, response: &Response, used: Option<Used>, landed: Option<Landed>, world: &mut World<'_>) {
    if !world.worker.plugin.owns(Stage::Pending) {
        return;
    }
    if let Some(landed) = landed {
        came_to(landed, flow, response, used, world);
    }
    let Some(used) = used else { return };
    let ttft = flow.facts.ttft_ms.filter(|_| flow.facts.stream);
    if let Some(lesson) = landed.filter(|_| !used.counted).and_then(|landed| world.worker.ledger.lesson(landed)) {
        lesson.reported(flow.facts.prompt_tokens, used.prompt, used.cached);
        if let Some(ttft) = ttft {
            // A server is not slower for having come late.
            let ttft = ttft.saturating_sub(flow.facts.held.as_ref().map_or(Millis::ZERO, |held| held.ms));
            lesson.answered(used.prompt.saturating_sub(used.cached), ttft);
        }
    }
    let (labels, serving) = (flow.served_by(), flow.serving());
    let now = world.now;
    let mut observe = |metric, value| {
        let series = world.worker.series.of(serving, metric, 0, &labels);
        world.out.push(Effect::Observe(series, value));
    };
    observe(Metric::Duration, response.duration(now).0);
    let Some(ttft) = ttft else { return };
    observe(Metric::Ttft, ttft.0);
    let after_first = used.completion.0.saturating_sub(1);
    if let Some(between) = response.decode_time().0.checked_div(after_first) {
        observe(Metric::InterToken, between);
    }
}

/// Demand is what was asked for until it is known what came of it. What its server has refused was none, and an answer was as long as it was.
/// What failed with nothing stays as it was asked for, as with more servers it might not have: as far as its limits admit that, since nothing is
/// charged for it.
fn came_to(landed: Landed, flow: &Flow, response: &Response, used: Option<Used>, world: &mut World<'_>) {
    let is_demand = match used {
        Some(Used { reserved: true, .. }) => true,
        Some(used) => return world.worker.ledger.generated(landed, used.completion),
        None => match response.want(world.properties) {
            Some(want) => wanted(flow.served_by(), want, flow, world),
            None => !response.is_refusal() && counts(flow.served_by(), flow, world).is_some(),
        },
    };
    if !is_demand {
        world.worker.ledger.refused(landed);
    }
}

/// The request failed for want of capacity of what would have served it: what it would have been is counted, as far as its limits would have
/// admitted it. Whether they would.
pub fn wanted(served_by: [&str; 2], want: Want, flow: &Flow, world: &mut World<'_>) -> bool {
    let counted = counts(served_by, flow, world);
    if let Some(tokens) = counted.filter(|tokens| *tokens > Tokens::ZERO) {
        let [model, _] = served_by;
        let series = world.worker.series.id(Metric::RefusedDemand, &[model, want.label()]);
        world.out.push(Effect::Count(series, tokens.0));
    }
    counted.is_some()
}

/// What a request that came to nothing would have been; `None` where it was no demand.
fn counts([model, version]: [&str; 2], flow: &Flow, world: &mut World<'_>) -> Option<Tokens> {
    let facts = &flow.facts;
    let known = learnt([model, version], world.store);
    let cached = known.map_or(Tokens::ZERO, |known| known.ratio().of(facts.prompt_tokens));
    let tokens = facts.prompt_tokens.saturating_sub(cached).saturating_add(facts.expected_output);
    let replica = world.worker.served.figures(&Series { model: model.to_owned(), version: version.to_owned() });
    let secret = world.worker.secret;
    let by = Applicant { secret: &secret, caller: &flow.caller, facts };
    let mut books = world.worker.books(world.now, world.store);
    limits::demand::counts(&flow.config, by, tokens, replica, &mut books).then_some(tokens)
}
