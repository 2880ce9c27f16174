//! Pending: the request is in flight, until it is over; then its times are observed.

use penstock_pending::Series;

use super::order::Stage;
use crate::facts::{Facts, Used};
use crate::flow::Flow;
use crate::metrics::Metric;
use crate::port::Effect;
use crate::response::Response;
use crate::world::World;

/// Keeps the request in the sums.
pub fn run(id: u32, flow: &Flow, world: &mut World<'_>) {
    let [model, version] = flow.served_by();
    let series = Series { model: model.to_owned(), version: version.to_owned() };
    let Facts { tenant, prompt_tokens, expected_output, .. } = &flow.facts;
    world.worker.ledger.admit(id, series, tenant, *prompt_tokens, *expected_output);
    if flow.model(&flow.config).is_some_and(|model| model.ceiling.is_some()) {
        world.worker.tell_load(world.now, world.store);
    }
}

/// The end: it is no longer in flight. Harmless for a request that never was.
pub fn done(id: u32, world: &mut World<'_>) {
    world.worker.ledger.done(id);
}

/// The end: how long it took.
pub fn settle(flow: &Flow, response: &Response, used: Option<Used>, world: &mut World<'_>) {
    let Some(used) = used.filter(|_| world.worker.plugin.owns(Stage::Pending)) else { return };
    let labels = flow.served_by();
    let now = world.now;
    let mut observe = |metric, value| {
        let series = world.worker.series.id(metric, &labels);
        world.out.push(Effect::Observe(series, value));
    };
    observe(Metric::Duration, response.duration(now).0);
    let Some(ttft) = flow.facts.ttft_ms.filter(|_| flow.facts.stream) else { return };
    observe(Metric::Ttft, ttft.0);
    let after_first = used.completion.0.saturating_sub(1);
    if let Some(between) = response.decode_time().0.checked_div(after_first) {
        observe(Metric::InterToken, between);
    }
}
