//! The series that Prometheus gets from Penstock, and what else a query may lean on.

use penstock_exchange::metrics::{self, Metric};
use penstock_exchange::{Handling, Outcome};

/// Labels that Prometheus adds when it scrapes a PodMonitor.
pub const SCRAPE_LABELS: [&str; 2] = ["namespace", "pod"];

/// Metrics that reach Prometheus as `_bucket`, `_sum` and `_count`.
const HISTOGRAMS: [Metric; 4] = [Metric::Ttft, Metric::InterToken, Metric::Duration, Metric::EstimateError];

/// What the proxy itself counts, and is compared with: the name, and the labels that are asked for (Istio, "Standard Metrics").
const PROXY: (&str, [&str; 1]) = ("istio_requests_total", ["reporter"]);

/// The labels of a series, `le` included for a histogram's buckets. `None`: there is no such series.
pub fn series_labels(series: &str) -> Option<Vec<&'static str>> {
    if series == PROXY.0 {
        return Some([PROXY.1.as_slice(), &SCRAPE_LABELS].concat());
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
        "kind" => Some(vec!["prompt", "cached", "completion", "reasoning"]),
        _ => None,
    }
}
