//! Two versions of a model beside one another.

use serde_json::{Value, json};

use super::counts::Counts;
use super::statistics::{Estimate, difference, mean, quantile, share, times};

/// How a figure is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// A count.
    Requests,
    /// A part of 1, shown in percent.
    Share,
    Milliseconds,
    Tokens,
    Microdollars,
}

/// One figure of both versions.
#[derive(Debug)]
pub struct Row {
    /// What it is, for people.
    pub name: String,
    /// The same, in JSON.
    pub key: String,
    pub unit: Unit,
    pub stable: Option<Estimate>,
    pub canary: Option<Estimate>,
    /// Canary minus stable for shares, canary over stable for the rest.
    pub change: Option<Estimate>,
}

impl Row {
    /// Whether the interval of the change leaves no change out.
    pub fn differs(&self) -> bool {
        let none = if self.unit == Unit::Share { 0.0 } else { 1.0 };
        self.change.and_then(|change| change.interval).is_some_and(|(low, high)| none < low || high < none)
    }
}

/// All of it.
#[derive(Debug)]
pub struct Comparison {
    pub model: String,
    pub stable: String,
    pub canary: String,
    pub rows: Vec<Row>,
    /// What the guards say of each.
    pub states: [Option<&'static str>; 2],
}

/// What of a version is counted.
struct Version<'a> {
    counts: &'a Counts,
    of: [(&'a str, &'a str); 2],
}

impl Version<'_> {
    fn sum(&self, name: &str, more: &[(&str, &str)]) -> f64 {
        self.counts.sum(name, &[&self.of[..], more].concat())
    }

    fn outcome(&self, outcome: &str) -> f64 {
        self.sum("penstock_requests_total", &[("outcome", outcome)]).round()
    }

    /// Those that a server had to answer: neither refused here nor left.
    fn answered(&self) -> f64 {
        self.outcome("ok") + self.outcome("upstream_error")
    }

    fn finished(&self, reason: Option<&str>) -> f64 {
        let reason = reason.map(|reason| ("reason", reason));
        self.sum("penstock_finish_total", reason.as_slice()).round()
    }

    fn quantile(&self, name: &str, q: f64) -> Option<Estimate> {
        quantile(&self.counts.buckets(name, &self.of), q)
    }

    fn per_answer(&self, name: &str, more: &[(&str, &str)]) -> Option<Estimate> {
        let each = self.counts.each(name, &[&self.of[..], more].concat());
        if each.iter().all(|sum| *sum == 0.0) {
            return None;
        }
        let ok = self.counts.each("penstock_requests_total", &[&self.of[..], &[("outcome", "ok")]].concat());
        mean(&each.into_iter().zip(ok).collect::<Vec<_>>())
    }
}

/// Sets both versions beside one another.
pub fn compare(counts: &Counts, model: &str, stable: &str, canary: &str) -> Comparison {
    let of = |version| Version { counts, of: [("model", model), ("version", version)] };
    let both = [of(stable), of(canary)];
    let row = |name: &str, key: &str, unit: Unit, of: &dyn Fn(&Version<'_>) -> Option<Estimate>| {
        let [stable, canary] = [of(&both[0]), of(&both[1])];
        let pair = canary.zip(stable);
        let change = match unit {
            Unit::Share => pair.map(|(canary, stable)| difference(canary, stable)),
            Unit::Requests => None,
            // A quantile's interval is one of ranks, and not even: two of them make no ratio.
            Unit::Milliseconds => pair.and_then(|(canary, stable)| {
                let bare = |one: Estimate| Estimate { interval: None, ..one };
                times(bare(canary), bare(stable))
            }),
            Unit::Tokens | Unit::Microdollars => pair.and_then(|(canary, stable)| times(canary, stable)),
        };
        Row { name: name.to_owned(), key: key.to_owned(), unit, stable, canary, change }
    };
    let (ttft, pace) = ("penstock_ttft_milliseconds_bucket", "penstock_inter_token_milliseconds_bucket");
    let mut rows = vec![
        row("requests", "requests", Unit::Requests, &|of| Some(Estimate { value: of.answered(), interval: None })),
        row("failed", "errors", Unit::Share, &|of| share(of.outcome("upstream_error"), of.answered())),
        row("TTFT p50", "ttft_p50_milliseconds", Unit::Milliseconds, &|of| of.quantile(ttft, 0.5)),
        row("TTFT p95", "ttft_p95_milliseconds", Unit::Milliseconds, &|of| of.quantile(ttft, 0.95)),
        row("inter-token p50", "inter_token_p50_milliseconds", Unit::Milliseconds, &|of| of.quantile(pace, 0.5)),
        row("inter-token p95", "inter_token_p95_milliseconds", Unit::Milliseconds, &|of| of.quantile(pace, 0.95)),
        row("tokens an answer", "tokens_per_answer", Unit::Tokens, &|of| {
            of.per_answer("penstock_tokens_total", &[("kind", "completion")])
        }),
        row("cost an answer", "microdollars_per_answer", Unit::Microdollars, &|of| {
            of.per_answer("penstock_cost_microdollars_total", &[])
        }),
    ];
    for reason in counts.values("penstock_finish_total", &[("model", model)], "reason") {
        let (name, key) = (format!("finish {reason}"), format!("finish_{reason}"));
        rows.push(row(&name, &key, Unit::Share, &|of| share(of.finished(Some(&reason)), of.finished(None))));
    }
    let state = |version| counts.state(&[("model", model), ("version", version)]);
    Comparison {
        model: model.to_owned(),
        stable: stable.to_owned(),
        canary: canary.to_owned(),
        rows,
        states: [state(stable), state(canary)],
    }
}

impl Comparison {
    /// For programs. Intervals are at 95 %.
    pub fn json(&self) -> Value {
        let estimate = |one: &Option<Estimate>| {
            one.map(|one| json!({"value": one.value, "low": one.interval.map(|(low, _)| low), "high": one.interval.map(|(_, high)| high)}))
        };
        let rows = self.rows.iter().map(|row| {
            let change = if row.unit == Unit::Share { "difference" } else { "ratio" };
            (row.key.clone(), json!({
                "stable": estimate(&row.stable), "canary": estimate(&row.canary), change: estimate(&row.change), "differs": row.differs(),
            }))
        });
        json!({
            "model": self.model,
            "stable": {"version": self.stable, "state": self.states[0]},
            "canary": {"version": self.canary, "state": self.states[1]},
            "figures": rows.collect::<serde_json::Map<_, _>>(),
        })
    }
}
