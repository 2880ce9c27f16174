//! What came of it.

use serde_json::{Value, json};

use super::sample::{Sample, percentiles};
use super::traffic::Tally;
use crate::scaling::Step;

/// What came of it: requests, replicas, and every look at both.
#[derive(Clone, Debug)]
pub struct Report {
    /// What became of the requests.
    pub tally: Tally,
    /// Each change of the Deployment's `spec.replicas`.
    pub steps: Vec<Step>,
    /// Every look.
    pub samples: Vec<Sample>,
    /// The tokens that are pending once nothing is asked any more.
    pub pending_at_end: f64,
}

impl Report {
    /// The most replicas that there were.
    pub fn most(&self) -> i32 {
        self.steps.iter().map(|step| step.replicas).max().unwrap_or_default()
    }

    /// All of it; times in seconds where nothing else is said.
    pub fn json(&self) -> Value {
        let ttft = percentiles(self.tally.first_bytes.iter().map(|(_, took)| *took), [0.5, 0.95, 0.99]);
        let step = |step: &Step| json!({"at": step.at.as_secs_f64(), "replicas": step.replicas});
        json!({
            "requests": {
                "sent": self.tally.sent, "answered": self.tally.answered, "refused": self.tally.refused, "lost": self.tally.lost,
            },
            "ttft_ms": {"p50": ttft[0], "p95": ttft[1], "p99": ttft[2]},
            "replicas": {"most": self.most(), "steps": self.steps.iter().map(step).collect::<Vec<_>>()},
            "pending_tokens_at_end": self.pending_at_end,
            "samples": self.samples,
        })
    }
}
