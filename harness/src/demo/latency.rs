//! What the filters add to a request: the same request to the same Envoy with and without them, in turn.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

/// Pause between two pairs, so that the probes are not the load.
const PAUSE: Duration = Duration::from_millis(20);
/// The probes' tenants: many, so that none of them meets its own limits. That of all strangers together admits them all.
const TENANTS: usize = 256;

/// Pairs of response times in milliseconds: with the filters, without.
#[derive(Clone, Debug, Default)]
pub(super) struct Latency {
    pairs: Vec<(f64, f64)>,
    /// Requests that went through the filters.
    pub(super) through_filters: u64,
    /// Prompt tokens that the server reported for the requests that did not.
    pub(super) prompt_tokens_without: u64,
    /// Prompt tokens that the filters counted for the probes.
    pub(super) prompt_tokens_counted: u64,
}

/// Measures until the deadline.
///
/// # Errors
/// When a probe cannot be sent or read.
pub(super) async fn measure(with: String, without: String, until: Instant) -> Result<Latency, String> {
    let client = reqwest::Client::new();
    let mut latency = Latency::default();
    let mut number = 0;
    while Instant::now() < until {
        // Whoever comes second finds warmer caches: the two take turns in going first.
        let first_with = number % 2 == 0;
        let (mut pair, mut order) = ((0.0, 0.0), [true, false]);
        if !first_with {
            order.reverse();
        }
        for filtered in order {
            let url = if filtered { &with } else { &without };
            let (took, answer) = probe(&client, url, number).await.map_err(|error| format!("a probe: {error}"))?;
            if filtered {
                pair.0 = took;
                latency.through_filters += 1;
                latency.prompt_tokens_counted += answer.counted;
            } else {
                pair.1 = took;
                latency.prompt_tokens_without += answer.reported;
            }
        }
        latency.pairs.push(pair);
        number += 1;
        sleep(PAUSE).await;
    }
    Ok(latency)
}

struct Answer {
    counted: u64,
    reported: u64,
}

/// About 2 KB of prompt, one token of answer, and a model server that takes no time: what is left is the way there and back.
async fn probe(client: &reqwest::Client, url: &str, number: usize) -> reqwest::Result<(f64, Answer)> {
    let prompt = "A gate lets as much water through as the turbine can take. ".repeat(34);
    let body = json!({"model": "chat", "max_tokens": 1, "messages": [{"role": "user", "content": prompt}]});
    let request = client
        .post(format!("{url}/v1/chat/completions"))
        .header("x-api-key", format!("probe-{}", number % TENANTS))
        .header("x-model-server", json!({"ttft_ms": 0, "inter_token_ms": 0, "status": 200}).to_string())
        .json(&body);
    let began = Instant::now();
    let response = request.send().await?;
    let header = response.headers().get("x-penstock-prompt-tokens").cloned();
    let body = response.bytes().await?;
    let took = began.elapsed().as_secs_f64() * 1000.0;
    let answer: Value = serde_json::from_slice(&body).unwrap_or_default();
    let reported = answer["usage"]["prompt_tokens"].as_u64().unwrap_or(0);
    let counted = header.and_then(|value| value.to_str().ok()?.parse().ok()).unwrap_or(0);
    Ok((took, Answer { counted, reported }))
}

impl Latency {
    pub(super) fn json(&self) -> Value {
        let with = sorted(self.pairs.iter().map(|pair| pair.0));
        let without = sorted(self.pairs.iter().map(|pair| pair.1));
        let added = sorted(self.pairs.iter().map(|pair| pair.0 - pair.1));
        let ratios = sorted(self.pairs.iter().map(|pair| pair.0 / pair.1));
        let (p50, p99) = (0.5, 0.99);
        json!({
            "pairs": self.pairs.len(),
            "with_filters_ms": {"p50": at(&with, p50), "p99": at(&with, p99)},
            "without_filters_ms": {"p50": at(&without, p50), "p99": at(&without, p99)},
            // The difference of the percentiles; the p99 of single pairs would mix both sides' bad luck.
            "added_ms": {"p50": round(at(&with, p50) - at(&without, p50)), "p99": round(at(&with, p99) - at(&without, p99))},
            "added_in_pairs_ms": {"p25": at(&added, 0.25), "p50": at(&added, p50), "p75": at(&added, 0.75)},
            "ratio": {"p25": at(&ratios, 0.25), "p50": at(&ratios, p50), "p75": at(&ratios, 0.75)},
        })
    }
}

fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values
}

/// The nearest rank; 0 without any value.
fn at(sorted: &[f64], quantile: f64) -> f64 {
    let last = sorted.len().saturating_sub(1);
    let rank = (quantile * last as f64).round() as usize;
    round(sorted.get(rank).copied().unwrap_or_default())
}

/// Microseconds are as exact as it gets.
fn round(milliseconds: f64) -> f64 {
    (milliseconds * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_and_ratio_of_known_pairs() {
        let pairs = (0..=100).map(|n| (f64::from(n) + 3.0, f64::from(n) + 1.0)).collect();
        let json = Latency { pairs, ..Latency::default() }.json();
        assert_eq!(json["pairs"], 101);
        assert_eq!(json["with_filters_ms"], json!({"p50": 53.0, "p99": 102.0}));
        assert_eq!(json["without_filters_ms"], json!({"p50": 51.0, "p99": 100.0}));
        assert_eq!(json["added_ms"], json!({"p50": 2.0, "p99": 2.0}));
        assert_eq!(json["ratio"]["p50"], 1.039);
    }
}
