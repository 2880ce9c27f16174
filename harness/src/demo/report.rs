//! What the demo shows: the table while it runs, and the summary at the end.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::time::Duration;

use serde_json::{Value, json};

use super::latency::Latency;
use super::roll_back::RollBack;
use super::traffic::Tally;
use crate::envoy::Metrics;
use crate::model_server::Totals;

const OUTCOMES: [&str; 7] = ["ok", "limited", "shed", "denied", "client_error", "upstream_error", "abandoned"];
const IN_FLIGHT: &str = "penstock_pending_requests";
const PENDING: &str = "penstock_pending_tokens";
const REQUESTS: &str = "penstock_requests_total";

/// The most that was pending at any of the moments looked at.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Peak {
    tokens: f64,
    requests: f64,
}

impl Peak {
    pub(super) fn see(&mut self, metrics: &Metrics) {
        self.tokens = self.tokens.max(metrics.sum(PENDING, &[]));
        self.requests = self.requests.max(metrics.sum(IN_FLIGHT, &[]));
    }
}

/// All that is pending, tokens and requests together: 0 means that nothing is.
pub(super) fn pending_total(metrics: &Metrics) -> f64 {
    metrics.sum(PENDING, &[]) + metrics.sum(IN_FLIGHT, &[])
}

/// One line per model and version, and one for the outcomes.
pub(super) fn table(metrics: &Metrics, elapsed: Duration) -> String {
    let mut text = format!("{:>4} s  pending tokens\n", elapsed.as_secs());
    let heads = ["model", "version", "prefill", "decode", "in flight", "ok", "share"];
    row(&mut text, heads.map(str::to_owned));
    let served = served(metrics);
    let total: f64 = served.values().sum();
    for (model, version) in versions(metrics) {
        let labels = [("model", model.as_str()), ("version", version.as_str())];
        let tokens = |phase| metrics.sum(PENDING, &[labels[0], labels[1], ("phase", phase)]);
        let share = served.get(&version).copied().unwrap_or_default() / total.max(1.0);
        row(
            &mut text,
            [
                model.clone(),
                version.clone(),
                tokens("prefill").to_string(),
                tokens("decode").to_string(),
                metrics.sum(IN_FLIGHT, &labels).to_string(),
                metrics.sum(REQUESTS, &[labels[0], labels[1], ("outcome", "ok")]).to_string(),
                format!("{:.1} %", share * 100.0),
            ],
        );
    }
    let outcomes: Vec<String> = outcomes(metrics).iter().map(|(name, count)| format!("{name} {count}")).collect();
    let _ = writeln!(text, "requests: {}", outcomes.join(", "));
    text
}

fn row(text: &mut String, cells: [String; 7]) {
    let [model, version, prefill, decode, in_flight, ok, share] = cells;
    let _ = writeln!(text, "  {model:<8} {version:<8} {prefill:>9} {decode:>8} {in_flight:>9} {ok:>7} {share:>8}");
}

/// Model and version of every gauge of pending tokens.
fn versions(metrics: &Metrics) -> BTreeSet<(String, String)> {
    let label = |labels: &BTreeMap<String, String>, name| labels.get(name).cloned().unwrap_or_default();
    let samples = metrics.select(PENDING, &[]);
    samples.map(|sample| (label(&sample.labels, "model"), label(&sample.labels, "version"))).collect()
}

fn outcomes(metrics: &Metrics) -> BTreeMap<&'static str, u64> {
    let counts = OUTCOMES.map(|outcome| (outcome, metrics.sum(REQUESTS, &[("outcome", outcome)]) as u64));
    counts.into_iter().filter(|(_, count)| *count > 0).collect()
}

/// Requests by version, those that were sent to one.
fn served(metrics: &Metrics) -> BTreeMap<String, f64> {
    let mut served = BTreeMap::new();
    for (_, version) in versions(metrics) {
        let labels = [("version", version.as_str())];
        let sent = ["ok", "abandoned", "upstream_error"]
            .map(|outcome| metrics.sum(REQUESTS, &[labels[0], ("outcome", outcome)]))
            .iter()
            .sum();
        served.insert(version.clone(), sent);
    }
    served
}

/// What came of the demo.
#[derive(Clone, Debug)]
pub struct Report {
    value: Value,
    roll_back: RollBack,
}

impl Report {
    pub(super) fn new(
        (runs_on, seconds): (&str, u64),
        metrics: &Metrics,
        peak: &Peak,
        latency: &Latency,
        tally: &Tally,
        servers: &[Totals; 2],
        roll_back: RollBack,
    ) -> Self {
        let served = served(metrics);
        let total: f64 = served.values().sum();
        let share: BTreeMap<_, _> =
            served.iter().map(|(name, sent)| (name, (sent / total.max(1.0) * 1e4).round() / 1e4)).collect();
        let reported: u64 = servers.iter().map(|totals| totals.prompt_tokens).sum();
        let value = json!({
            "runs_on": runs_on,
            "seconds": seconds,
            "requests": {
                "sent": tally.sent + latency.through_filters,
                "by_outcome": outcomes(metrics),
                "failed_unexpectedly": tally.failed,
            },
            "prompt_tokens": {
                "counted_by_filters": metrics.sum("penstock_tokens_total", &[("kind", "prompt")]) as u64,
                "in_response_headers": tally.header_prompt_tokens + latency.prompt_tokens_counted,
                "reported_by_servers": reported.saturating_sub(latency.prompt_tokens_without),
            },
            "share_by_version": share,
            "pending_tokens": {"peak": peak.tokens as u64, "final": metrics.sum(PENDING, &[]) as u64},
            "pending_requests": {"peak": peak.requests as u64, "final": metrics.sum(IN_FLIGHT, &[]) as u64},
            "latency": latency.json(),
            "roll_back": roll_back.json(),
        });
        Self { value, roll_back }
    }

    /// All of it: requests by outcome, prompt tokens as counted and as reported, shares, pending tokens, latency in milliseconds, the
    /// roll-back.
    pub fn json(&self) -> &Value {
        &self.value
    }

    /// The same in a few sentences.
    pub fn text(&self) -> String {
        let value = &self.value;
        let (tokens, pending, latency) = (&value["prompt_tokens"], &value["pending_tokens"], &value["latency"]);
        let lines = [
            format!(
                "{} requests in {} s on {}: {}",
                value["requests"]["sent"],
                value["seconds"],
                value["runs_on"].as_str().unwrap_or_default(),
                value["requests"]["by_outcome"],
            ),
            format!(
                "prompt tokens: {} counted before forwarding, {} reported by the model servers",
                tokens["counted_by_filters"], tokens["reported_by_servers"]
            ),
            format!("share by version: {}", value["share_by_version"]),
            format!("pending tokens: {} at the peak, {} at the end", pending["peak"], pending["final"]),
            format!(
                "response time with and without the filters, in turn: p50 {} and {} ms, p99 {} and {} ms ({} pairs)",
                latency["with_filters_ms"]["p50"],
                latency["without_filters_ms"]["p50"],
                latency["with_filters_ms"]["p99"],
                latency["without_filters_ms"]["p99"],
                latency["pairs"],
            ),
            format!(
                "added in a pair: {} ms (half of all between {} and {})",
                latency["added_in_pairs_ms"]["p50"],
                latency["added_in_pairs_ms"]["p25"],
                latency["added_in_pairs_ms"]["p75"],
            ),
            self.roll_back.text(),
        ];
        lines.join("\n")
    }

    /// The roll-back as a picture.
    pub fn svg(&self) -> String {
        self.roll_back.svg()
    }
}
