//! One look at everything: what is asked, what waits, who serves, and how long the first token takes.

use std::collections::VecDeque;
use std::time::Duration;

use penstock_harness::envoy::Metrics;
use serde::Serialize;

use super::traffic::Tally;

/// Over how long arrivals and latencies are taken together.
const WINDOW: Duration = Duration::from_secs(3);

/// One look.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Sample {
    /// Seconds since the traffic began.
    pub at: f64,
    /// Tokens that arrive in a second: prompts, and what is expected as answers; also those that were refused for want of capacity.
    pub demand_tokens_per_second: f64,
    /// Tokens that are admitted and not done.
    pub backlog_tokens: f64,
    /// What the Deployment is told to have.
    pub replicas: i32,
    /// How many of them serve.
    pub serving: usize,
    /// Half of the first tokens came within that, of late; 0 where none came.
    pub ttft_p50_ms: f64,
    /// 95 of 100 did.
    pub ttft_p95_ms: f64,
}

impl Sample {
    /// What a person looks at.
    pub fn line(&self) -> String {
        format!(
            "{:>4.0} s  demand {:>6.0} tokens/s  backlog {:>7.0} tokens  replicas {:>2} ({} serve)  TTFT p50 {:>5.0} ms, p95 {:>5.0} ms",
            self.at,
            self.demand_tokens_per_second,
            self.backlog_tokens,
            self.replicas,
            self.serving,
            self.ttft_p50_ms,
            self.ttft_p95_ms,
        )
    }
}

/// Makes samples of what counters and gauges say.
#[derive(Debug)]
pub struct Sampler {
    model: &'static str,
    /// When, and what had arrived by then: of the last while, oldest first.
    seen: VecDeque<(Duration, f64)>,
}

impl Sampler {
    /// For a model.
    pub fn new(model: &'static str) -> Self {
        Self { model, seen: VecDeque::new() }
    }

    /// What there is to see now.
    pub fn take(&mut self, now: Duration, metrics: &Metrics, tally: &Tally, replicas: i32, serving: usize) -> Sample {
        let arrived = arrived(metrics, self.model);
        while self.seen.front().is_some_and(|(then, _)| *then + WINDOW < now) {
            self.seen.pop_front();
        }
        let rate = |(then, before): &(Duration, f64)| (arrived - before) / (now - *then).as_secs_f64().max(1e-3);
        let demand = self.seen.front().map_or(0.0, rate);
        self.seen.push_back((now, arrived));
        let recent = tally.first_bytes.iter().rev().take_while(|(at, _)| *at + WINDOW > now);
        let ttft = percentiles(recent.map(|(_, took)| *took), [0.5, 0.95]);
        Sample {
            at: now.as_secs_f64(),
            demand_tokens_per_second: demand,
            backlog_tokens: metrics.sum("penstock_pending_tokens", &[("model", self.model)]),
            replicas,
            serving,
            ttft_p50_ms: ttft[0],
            ttft_p95_ms: ttft[1],
        }
    }
}

fn arrived(metrics: &Metrics, model: &str) -> f64 {
    let admitted = |kind| metrics.sum("penstock_admitted_tokens_total", &[("model", model), ("kind", kind)]);
    admitted("prompt") + admitted("expected") + metrics.sum("penstock_refused_demand_tokens_total", &[("model", model)])
}

/// The nearest ranks in milliseconds; 0 without any value.
pub fn percentiles<const N: usize>(values: impl Iterator<Item = Duration>, parts: [f64; N]) -> [f64; N] {
    let mut sorted: Vec<f64> = values.map(|value| value.as_secs_f64() * 1000.0).collect();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().saturating_sub(1) as f64;
    parts.map(|part| sorted.get((part * last).round() as usize).map_or(0.0, |value| value.round()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn demand_is_what_came_of_late() {
        let page = |prompt: u64, refused: u64| {
            Metrics::parse(&format!(
                "penstock_admitted_tokens_total{{model=\"chat\",kind=\"prompt\"}} {prompt}\n\
                 penstock_admitted_tokens_total{{model=\"chat\",kind=\"cached\"}} 7\n\
                 penstock_admitted_tokens_total{{model=\"chat\",kind=\"expected\"}} 100\n\
                 penstock_refused_demand_tokens_total{{model=\"chat\",reason=\"shed\"}} {refused}\n\
                 penstock_pending_tokens{{model=\"chat\",phase=\"prefill\"}} 40\n\
                 penstock_pending_tokens{{model=\"other\",phase=\"prefill\"}} 50\n"
            ))
        };
        let mut sampler = Sampler::new("chat");
        let seconds = Duration::from_secs;
        let tally = Tally {
            first_bytes: vec![(seconds(1), seconds(9)), (seconds(10), seconds(1)), (seconds(11), seconds(3))],
            ..Tally::default()
        };
        assert_eq!(sampler.take(seconds(10), &page(1000, 0), &tally, 1, 1).demand_tokens_per_second, 0.0);
        let sample = sampler.take(seconds(12), &page(1500, 300), &tally, 2, 1);
        assert_eq!((sample.demand_tokens_per_second, sample.backlog_tokens), (400.0, 40.0));
        assert_eq!((sample.ttft_p50_ms, sample.ttft_p95_ms), (3000.0, 3000.0));
    }

    #[test]
    fn ranks() {
        let values = (0..=100).map(Duration::from_millis);
        assert_eq!(percentiles(values, [0.5, 0.95]), [50.0, 95.0]);
        assert_eq!(percentiles([].into_iter(), [0.5]), [0.0]);
    }
}
