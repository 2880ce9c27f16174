//! What was counted of versions, over equal stretches of time.

use std::collections::{BTreeMap, BTreeSet};

use penstock_harness::envoy::{Metrics, Sample};

/// What is read: a metric, and the labels that it is added up by.
pub const COUNTERS: [(&str, &[&str]); 6] = [
    ("penstock_requests_total", &["model", "version", "outcome"]),
    ("penstock_tokens_total", &["model", "version", "kind"]),
    ("penstock_cost_microdollars_total", &["model", "version"]),
    ("penstock_finish_total", &["model", "version", "reason"]),
    ("penstock_ttft_milliseconds_bucket", &["model", "version", "le"]),
    ("penstock_inter_token_milliseconds_bucket", &["model", "version", "le"]),
];
/// The guard's verdict.
pub const STATE: &str = "penstock_canary_state";

/// What there was in each stretch, and the verdicts at the end.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// By how much each series grew.
    pub stretches: Vec<Metrics>,
    /// The guards' states.
    pub states: Metrics,
}

impl Counts {
    /// Models and their versions.
    pub fn versions(&self) -> BTreeMap<String, BTreeSet<String>> {
        let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        let of = |sample: &Sample| {
            let label = |name: &str| sample.labels.get(name).cloned();
            // What was refused before it had a version is not one.
            Some((label("model")?, label("version").filter(|version| version != "none" && !version.is_empty())?))
        };
        for (model, version) in self.stretches.iter().flat_map(|stretch| &stretch.0).filter_map(of) {
            found.entry(model).or_default().insert(version);
        }
        found
    }

    /// The sum of a series in each stretch.
    pub fn each(&self, name: &str, labels: &[(&str, &str)]) -> Vec<f64> {
        self.stretches.iter().map(|stretch| stretch.sum(name, labels)).collect()
    }

    /// The sum of a series.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.each(name, labels).iter().sum()
    }

    /// Buckets of a histogram: upper bounds, and how many are not above them.
    pub fn buckets(&self, name: &str, labels: &[(&str, &str)]) -> Vec<(f64, f64)> {
        let mut buckets: Vec<(f64, f64)> = Vec::new();
        for sample in self.stretches.iter().flat_map(|stretch| stretch.select(name, labels)) {
            let Some(bound) = sample.labels.get("le").and_then(|le| le.parse::<f64>().ok()) else { continue };
            match buckets.iter_mut().find(|(own, _)| *own == bound) {
                Some((_, count)) => *count += sample.value,
                None => buckets.push((bound, sample.value)),
            }
        }
        buckets.sort_by(|one, other| one.0.total_cmp(&other.0));
        buckets
    }

    /// The values that a label of a series has.
    pub fn values(&self, name: &str, labels: &[(&str, &str)], label: &str) -> BTreeSet<String> {
        let samples = self.stretches.iter().flat_map(|stretch| stretch.select(name, labels));
        samples.filter_map(|sample| sample.labels.get(label).cloned()).collect()
    }

    /// The worst that a gateway's guard says of a version: rolled back before all, then promote-ready only where all are.
    pub fn state(&self, labels: &[(&str, &str)]) -> Option<&'static str> {
        let states: Vec<f64> = self.states.select(STATE, labels).map(|sample| sample.value).collect();
        let least = states.iter().copied().reduce(f64::min)?;
        Some(match least {
            _ if states.contains(&2.0) => "rolled back",
            3.0 => "promote-ready",
            0.0 if states.iter().all(|state| *state == 0.0) => "none",
            _ => "running",
        })
    }
}

/// By how much counters grew between two scrapes of one proxy.
///
/// # Errors
/// When one has fallen: then it is another process.
pub fn growth(before: &Metrics, after: &Metrics) -> Result<Metrics, String> {
    let key = |sample: &Sample| (sample.name.clone(), sample.labels.clone());
    let known: BTreeMap<_, f64> = before.0.iter().map(|sample| (key(sample), sample.value)).collect();
    let counters = after.0.iter().filter(|sample| COUNTERS.iter().any(|(name, _)| *name == sample.name));
    let grown = counters.map(|sample| {
        let value = sample.value - known.get(&key(sample)).copied().unwrap_or(0.0);
        if value < 0.0 {
            return Err(format!("{} fell: the proxy was started anew in between", sample.name));
        }
        Ok(Sample { value, ..sample.clone() })
    });
    grown.collect::<Result<_, _>>().map(Metrics)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_new_grew_from_nothing_and_what_fell_is_an_error() {
        let before = Metrics::parse("penstock_requests_total{model=\"chat\",version=\"a\",outcome=\"ok\"} 7\n");
        let after = Metrics::parse(concat!(
            "penstock_requests_total{model=\"chat\",version=\"a\",outcome=\"ok\"} 9\n",
            "penstock_requests_total{model=\"chat\",version=\"b\",outcome=\"ok\"} 3\n",
            "penstock_pending_tokens{model=\"chat\",version=\"a\",phase=\"prefill\"} 5\n",
        ));
        let grown = growth(&before, &after).unwrap();
        assert_eq!((grown.sum("penstock_requests_total", &[]), grown.0.len()), (5.0, 2));
        assert!(growth(&after, &before).is_err());
    }

    #[test]
    fn one_gateway_that_rolled_back_is_enough() {
        let of = |states: &[u32]| Counts {
            stretches: Vec::new(),
            states: Metrics::parse(
                &states
                    .iter()
                    .enumerate()
                    .map(|(pod, state)| format!("penstock_canary_state{{version=\"b\",pod=\"{pod}\"}} {state}\n"))
                    .collect::<String>(),
            ),
        };
        for (states, wanted) in [
            (&[][..], None),
            (&[0, 0], Some("none")),
            (&[1, 0], Some("running")),
            (&[3, 1], Some("running")),
            (&[3, 3], Some("promote-ready")),
            (&[3, 2], Some("rolled back")),
        ] {
            assert_eq!(of(states).state(&[("version", "b")]), wanted, "{states:?}");
        }
    }
}
