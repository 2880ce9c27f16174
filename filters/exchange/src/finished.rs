//! Why answers ended, by what served them: counted in the worker, and told with the heartbeat.

use penstock_dialects::{Finish, Quality};

use crate::config::Config;
use crate::labels;
use crate::metrics::{Metric, Registry};
use crate::port::Effect;

/// As label values; the last is an answer that does not say.
const REASONS: [&str; 8] = ["stop", "tool_calls", "length", "filter", "other", "malformed", "empty", "none"];

/// What was counted since the last heartbeat, in the order of the configuration's series.
#[derive(Default)]
pub struct Finished {
    counts: Vec<[u64; REASONS.len()]>,
    is_told: bool,
}

impl Finished {
    /// Of a configuration.
    pub fn new(config: &Config) -> Self {
        Self { counts: vec![Default::default(); config.series], is_told: false }
    }

    /// An answer ended, for the reason at this place.
    pub fn count(&mut self, series: usize, place: usize) {
        if let Some(count) = self.counts.get_mut(series).and_then(|counts| counts.get_mut(place)) {
            *count = count.saturating_add(1);
        }
    }

    /// The heartbeat. Series of which nothing was counted yet are told from zero on.
    pub fn tell(&mut self, config: &Config, registry: &mut Registry, out: &mut Vec<Effect>) {
        let is_told = core::mem::replace(&mut self.is_told, true);
        for ((model, version), counts) in config.serving().zip(&mut self.counts) {
            let [model, version] = labels::served(model, version);
            let counts = REASONS.into_iter().zip(core::mem::take(counts));
            for (reason, count) in counts.filter(|(_, count)| *count > 0 || !is_told) {
                out.push(Effect::Count(registry.id(Metric::Finish, &[model, version, reason]), count));
            }
        }
    }
}

/// The place of the most telling reason: what cut an answer short explains what is wrong with it.
pub fn reason(quality: &Quality) -> usize {
    match quality.finish {
        Some(Finish::Length) => 2,
        Some(Finish::Filter) => 3,
        _ if quality.malformed_tool_args || quality.malformed_json_output => 5,
        _ if quality.empty => 6,
        Some(Finish::Stop) => 0,
        Some(Finish::ToolCalls) => 1,
        Some(Finish::Other) => 4,
        None => 7,
    }
}
