//! The series that Prometheus gets from Penstock, and what else a query may lean on.

use penstock_exchange::metrics::{self, Metric};
use penstock_exchange::{Handling, Outcome};

/// Labels that Prometheus adds when it scrapes a PodMonitor.
pub const SCRAPE_LABELS: [&str; 4] = ["job", "instance", "namespace", "pod"];

/// Metrics that reach Prometheus as `_bucket`, `_sum` and `_count`.
const HISTOGRAMS: [Metric; 4] = [Metric::Ttft, Metric::InterToken, Metric::Duration, Metric::EstimateError];

/// What others count: the name, and the labels that are asked for. Istio's "Standard Metrics"; Envoy's "HTTP connection manager:
/// Statistics"; Prometheus' own; vLLM's "Production Metrics"; KEDA's "Integrate with Prometheus".
const OTHERS: [(&str, &[&str]); 8] = [
    ("ALERTS", &["alertname", "alertstate", "severity"]),
    // As the PodMonitor names what Envoy counts.
    ("envoy_wasm_vm_reload_success", &["plugin"]),
    ("envoy_wasm_vm_reload_failure", &["plugin"]),
    ("istio_requests_total", &["reporter", "response_code"]),
    ("envoy_http_downstream_rq_xx", &["envoy_http_conn_manager_prefix", "envoy_response_code_class"]),
    ("up", &[]),
    ("vllm:kv_cache_usage_perc", &[]),
    ("keda_scaler_detail_errors_total", &["scaledObject"]),
];

/// The labels of a series, `le` included for a histogram's buckets. `None`: there is no such series.
pub fn series_labels(series: &str) -> Option<Vec<&'static str>> {
    if let Some((_, labels)) = OTHERS.iter().find(|(name, _)| *name == series) {
        return Some([*labels, &SCRAPE_LABELS].concat());
    }
    let histogram = |name: &str| HISTOGRAMS.iter().any(|metric| metric.name() == name);
    for name in metrics::NAMES {
        let parts: &[(&str, &[&str])] =
            if histogram(name) { &[("_bucket", &["le"]), ("_sum", &[]), ("_count", &[])] } else { &[("", &[])] };
        for (suffix, more) in parts {
            if series.strip_prefix(name) == Some(*suffix) {
                return Some([metrics::labels(name)?, *more, &SCRAPE_LABELS].concat());
            }
        }
    }
    None
}

/// Whether some series has this label.
pub fn is_label(label: &str) -> bool {
    let others = OTHERS.iter().flat_map(|(_, labels)| *labels);
    metrics::TAGS.iter().chain(&SCRAPE_LABELS).chain(&["le"]).chain(others).any(|known| *known == label)
}

/// The values that a label with a fixed alphabet can have.
pub fn values(label: &str) -> Option<Vec<&'static str>> {
    use Outcome::{Abandoned, ClientError, Denied, Limited, Ok, Shed, UpstreamError};
    match label {
        "phase" => Some(vec!["prefill", "decode"]),
        "outcome" => {
            Some([Ok, Limited, Shed, Denied, ClientError, UpstreamError, Abandoned].map(Outcome::label).to_vec())
        }
        "handling" => Some(Handling::ALL.map(Handling::label).to_vec()),
        "reporter" => Some(vec!["source", "destination"]),
        "kind" => Some(vec!["prompt", "cached", "completion", "reasoning", "expected"]),
        _ => None,
    }
}
