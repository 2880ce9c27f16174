//! Samples of two moments become rows: gauges as they are, counters by how fast they grow. Nothing here knows a clock or the network.

use std::collections::{BTreeMap, BTreeSet};

use penstock_harness::envoy::{Metrics, Sample};
use serde::Serialize;

use crate::canary::statistics::quantile;

/// Where there is no more to tell apart: a request that was refused before it had a version.
const NO_VERSION: &str = "none";

/// What there is to see.
#[derive(Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct View {
    /// Whether there is any metric of a filter.
    pub filters: bool,
    pub models: Vec<Model>,
    pub tenants: Vec<Tenant>,
}

/// One model.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Model {
    pub name: String,
    /// Tokens admitted and not yet done.
    pub prefill: f64,
    pub decode: f64,
    /// Tokens a second that come in: of prompts without what is expected to be cached, and expected of answers.
    pub demand_prompt: f64,
    pub demand_output: f64,
    pub versions: Vec<Version>,
}

/// One version. Its share is that of the requests, as weights are not metrics.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Version {
    pub name: String,
    pub pending: f64,
    pub per_second: f64,
    pub share: Option<f64>,
    pub errors_per_second: f64,
    pub ttft_p50: Option<f64>,
    pub ttft_p95: Option<f64>,
}

/// One tenant.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Tenant {
    pub name: String,
    pub per_second: f64,
    pub limited_per_second: f64,
    pub shed_per_second: f64,
}

/// What there is between two looks, so many seconds apart.
pub fn view(before: &Metrics, after: &Metrics, seconds: f64) -> View {
    let grown = growth(before, after);
    let rate = |name: &str, labels: &[(&str, &str)]| grown.sum(name, labels) / seconds.max(0.001);
    let models = values(after, "model", &[]).into_iter().map(|name| {
        let of = [("model", name.as_str())];
        let with = |key, value| [of[0], (key, value)];
        let all: f64 = grown.select(REQUESTS, &of).filter(|sample| !is_unplaced(sample)).map(|one| one.value).sum();
        let versions = values(after, "version", &of).into_iter().filter(|version| version != NO_VERSION);
        let versions = versions.map(|version| {
            let own = [of[0], ("version", version.as_str())];
            let outcome = |outcome| rate(REQUESTS, &[own[0], own[1], ("outcome", outcome)]);
            let ttft = |q| quantile(&buckets(&grown, &own), q).map(|estimate| estimate.value);
            Version {
                pending: after.sum("penstock_pending_requests", &own),
                per_second: rate(REQUESTS, &own),
                share: (all > 0.0).then(|| grown.sum(REQUESTS, &own) / all),
                errors_per_second: outcome("upstream_error"),
                ttft_p50: ttft(0.5),
                ttft_p95: ttft(0.95),
                name: version.clone(),
            }
        });
        let admitted = |kind| rate("penstock_admitted_tokens_total", &with("kind", kind));
        Model {
            prefill: after.sum("penstock_pending_tokens", &with("phase", "prefill")),
            decode: after.sum("penstock_pending_tokens", &with("phase", "decode")),
            demand_prompt: (admitted("prompt") - admitted("cached")).max(0.0),
            demand_output: admitted("expected"),
            versions: versions.collect(),
            name: name.clone(),
        }
    });
    let tenants = values(after, "tenant", &[]).into_iter().map(|name| {
        let outcome = |outcome| rate(REQUESTS, &[("tenant", name.as_str()), ("outcome", outcome)]);
        Tenant {
            per_second: rate(REQUESTS, &[("tenant", &name)]),
            limited_per_second: outcome("limited"),
            shed_per_second: outcome("shed"),
            name: name.clone(),
        }
    });
    View {
        filters: after.0.iter().any(|sample| sample.name.starts_with("penstock_")),
        models: models.collect(),
        tenants: tenants.collect(),
    }
}

const REQUESTS: &str = "penstock_requests_total";

fn is_unplaced(sample: &Sample) -> bool {
    sample.labels.get("version").is_none_or(|version| version == NO_VERSION)
}

fn values(metrics: &Metrics, label: &str, of: &[(&str, &str)]) -> BTreeSet<String> {
    let has =
        |sample: &&Sample| of.iter().all(|(name, value)| sample.labels.get(*name).is_some_and(|own| own == value));
    let samples = metrics.0.iter().filter(|sample| sample.name.starts_with("penstock_")).filter(has);
    samples.filter_map(|sample| sample.labels.get(label)).filter(|value| !value.is_empty()).cloned().collect()
}

/// By how much counters grew, as Prometheus sees it: one that fell began anew, and one that was not there begins now.
fn growth(before: &Metrics, after: &Metrics) -> Metrics {
    let key = |sample: &Sample| (sample.name.clone(), sample.labels.clone());
    let known: BTreeMap<_, f64> = before.0.iter().map(|sample| (key(sample), sample.value)).collect();
    let grown = after.0.iter().map(|sample| {
        let was = known.get(&key(sample)).copied().filter(|was| *was <= sample.value).unwrap_or(0.0);
        Sample { value: sample.value - was, ..sample.clone() }
    });
    Metrics(grown.collect())
}

fn buckets(grown: &Metrics, of: &[(&str, &str)]) -> Vec<(f64, f64)> {
    let mut buckets: Vec<(f64, f64)> = Vec::new();
    for sample in grown.select("penstock_ttft_milliseconds_bucket", of) {
        let Some(bound) = sample.labels.get("le").and_then(|le| le.parse::<f64>().ok()) else { continue };
        match buckets.iter_mut().find(|(own, _)| *own == bound) {
            Some((_, count)) => *count += sample.value,
            None => buckets.push((bound, sample.value)),
        }
    }
    buckets.sort_by(|one, other| one.0.total_cmp(&other.0));
    buckets
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// Two seconds of a model with two versions.
    pub fn two() -> View {
        let at = |ok: u32, canary: u32, limited: u32, slow: u32| {
            Metrics::parse(&format!(
                "penstock_pending_tokens{{model=\"chat\",version=\"stable\",phase=\"prefill\"}} 1200\n\
                 penstock_pending_tokens{{model=\"chat\",version=\"stable\",phase=\"decode\"}} 340\n\
                 penstock_pending_requests{{model=\"chat\",version=\"stable\"}} 3\n\
                 penstock_admitted_tokens_total{{model=\"chat\",version=\"stable\",kind=\"prompt\"}} {}\n\
                 penstock_admitted_tokens_total{{model=\"chat\",version=\"stable\",kind=\"cached\"}} {ok}\n\
                 penstock_requests_total{{model=\"chat\",version=\"stable\",tenant=\"acme\",outcome=\"ok\"}} {ok}\n\
                 penstock_requests_total{{model=\"chat\",version=\"canary\",tenant=\"acme\",outcome=\"upstream_error\"}} {canary}\n\
                 penstock_requests_total{{model=\"chat\",version=\"none\",tenant=\"other\",outcome=\"limited\"}} {limited}\n\
                 penstock_ttft_milliseconds_bucket{{model=\"chat\",version=\"stable\",le=\"100\"}} {ok}\n\
                 penstock_ttft_milliseconds_bucket{{model=\"chat\",version=\"stable\",le=\"200\"}} {}\n\
                 penstock_ttft_milliseconds_bucket{{model=\"chat\",version=\"stable\",le=\"+Inf\"}} {}\n",
                ok * 10,
                ok + slow,
                ok + slow,
            ))
        };
        view(&at(10, 7, 4, 0), &at(16, 2, 14, 2), 2.0)
    }

    #[test]
    fn rates_are_those_of_the_time_between() {
        let View { filters, models, tenants } = two();
        assert!(filters);
        let [chat] = &models[..] else { panic!("{models:?}") };
        assert_eq!((chat.prefill, chat.decode), (1200.0, 340.0));
        // 60 prompt tokens in two seconds, 6 of them cached.
        assert_eq!(chat.demand_prompt, 27.0);
        let [canary, stable] = &chat.versions[..] else { panic!("{chat:?}") };
        assert_eq!((stable.per_second, stable.share), (3.0, Some(0.75)));
        // Its counter fell from 7 to 2: it began anew, and 2 came.
        assert_eq!((canary.per_second, canary.errors_per_second), (1.0, 1.0));
        // 6 of 8 within 100 ms, 2 more within 200: rank 4 at 66.7, rank 7.6 at 180.
        assert!(stable.ttft_p50.is_some_and(|ms| (ms - 66.7).abs() < 0.1), "{stable:?}");
        assert!(stable.ttft_p95.is_some_and(|ms| (ms - 180.0).abs() < 0.1), "{stable:?}");
        let other = tenants.iter().find(|tenant| tenant.name == "other").unwrap();
        assert_eq!((other.limited_per_second, other.shed_per_second), (5.0, 0.0));
    }

    #[test]
    fn without_a_filter_there_is_nothing() {
        let nothing = Metrics::parse("envoy_server_live{model=\"x\"} 1\n");
        assert_eq!(view(&nothing, &nothing, 1.0), View::default());
    }
}
