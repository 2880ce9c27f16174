//! Queries: of ScaledObjects, rules, dashboards and analyses. A query for what is never there is empty, and empty reads as well.

use std::collections::{BTreeMap, BTreeSet};

use penstock_document::at::At;
use penstock_exchange::{Outcome, metrics};

use super::promql::{self, Selector};
use crate::check::document::{Document, Kind};
use crate::check::finding::Findings;
use crate::check::set::{Set, versions};

/// Holds the queries against the configurations and the metrics.
pub fn check(set: &Set, found: &mut Findings) {
    let recorded: BTreeSet<String> =
        set.documents.iter().flat_map(rules).map(|rule| rule.get("record").words().to_owned()).collect();
    let models = set.models();
    for at in set.documents.iter().flat_map(queries) {
        for selector in promql::names(at.words()).selectors {
            if selector.metric.starts_with("penstock_") && !recorded.contains(&selector.metric) {
                one(&at, &selector, &models, found);
            }
        }
    }
}

/// The rules of a document.
fn rules(document: &Document) -> Vec<At> {
    let groups = match &document.kind {
        Kind::Rules => document.root.get("groups"),
        Kind::Resource(_, kind) if kind == "PrometheusRule" => document.spec().get("groups"),
        _ => return Vec::new(),
    };
    groups.items().iter().flat_map(|group| group.get("rules").items()).collect()
}

/// All queries of a document.
fn queries(document: &Document) -> Vec<At> {
    let spec = document.spec();
    let all: Vec<At> = match &document.kind {
        Kind::Rules => rules(document).iter().map(|rule| rule.get("expr")).collect(),
        Kind::Dashboard => panels(&document.root, 0),
        Kind::Resource(_, kind) => match kind.as_str() {
            "PrometheusRule" => rules(document).iter().map(|rule| rule.get("expr")).collect(),
            "ScaledObject" => {
                spec.get("triggers").items().iter().map(|trigger| trigger.get("metadata").get("query")).collect()
            }
            "AnalysisTemplate" | "ClusterAnalysisTemplate" => {
                let metrics = spec.get("metrics").items();
                metrics.iter().map(|metric| metric.get("provider").get("prometheus").get("query")).collect()
            }
            "MetricTemplate" => vec![spec.get("query")],
            _ => Vec::new(),
        },
        _ => Vec::new(),
    };
    all.into_iter().filter(At::exists).collect()
}

fn panels(at: &At, depth: usize) -> Vec<At> {
    let panels = at.get("panels").items();
    let mut all: Vec<At> =
        panels.iter().flat_map(|panel| panel.get("targets").items()).map(|target| target.get("expr")).collect();
    // Rows hold panels, and no rows.
    if depth == 0 {
        all.extend(panels.iter().flat_map(|row| self::panels(row, 1)));
    }
    all
}

fn one(at: &At, selector: &Selector, models: &BTreeMap<String, At>, found: &mut Findings) {
    let line = at.line_at(selector.offset);
    let metric = &selector.metric;
    let Some((labels, is_bucket)) = labels(metric) else {
        found.say_in_line("PS603", at, line, &[("metric", metric)]);
        return;
    };
    for (label, ..) in &selector.matchers {
        // What else there is comes with the scrape, and may have any name.
        let is_ours = metrics::TAGS.contains(&label.as_str()) || (label == "le" && !is_bucket);
        if is_ours && !labels.contains(&label.as_str()) {
            found.say_in_line("PS604", at, line, &[("metric", metric), ("label", &format!("the label {label}"))]);
        }
        let known = values(label);
        let strange = selector
            .values(label)
            .into_iter()
            .filter(|value| !known.is_empty() && !value.is_empty() && !known.contains(value));
        for value in strange {
            found.say_in_line("PS604", at, line, &[("metric", metric), ("label", &format!("{label}={value:?}"))]);
        }
    }
    if models.is_empty() {
        return;
    }
    named(at, line, selector, models, found);
}

/// Models and versions, which the configurations name. `other` is whatever they do not.
fn named(at: &At, line: usize, selector: &Selector, models: &BTreeMap<String, At>, found: &mut Findings) {
    let list = |names: Vec<&str>| names.join(", ");
    let is_other = |value: &str| value.is_empty() || value == "other";
    let asked = selector.values("model");
    for value in asked.iter().filter(|value| !is_other(value) && !models.contains_key(**value)) {
        let known = list(models.keys().map(String::as_str).collect());
        found.say_in_line("PS601", at, line, &[("value", value), ("known", &known)]);
    }
    let of: Vec<_> = models.iter().filter(|(name, _)| asked.is_empty() || asked.contains(&name.as_str())).collect();
    let known: BTreeSet<String> = of.iter().flat_map(|(_, model)| versions(model)).map(|(name, _)| name).collect();
    if of.is_empty() || known.is_empty() {
        return;
    }
    for value in selector.values("version").iter().filter(|value| !is_other(value) && !known.contains(**value)) {
        let (model, known) = (list(asked.clone()), list(known.iter().map(String::as_str).collect()));
        let model = if model.is_empty() { "no model".to_owned() } else { model };
        found.say_in_line("PS602", at, line, &[("model", &model), ("value", value), ("known", &known)]);
    }
}

/// The labels of a series, and whether it is one of a histogram's buckets.
fn labels(series: &str) -> Option<(&'static [&'static str], bool)> {
    let parts =
        ["_bucket", "_sum", "_count"].iter().filter_map(|part| Some((series.strip_suffix(part)?, *part == "_bucket")));
    let own = std::iter::once((series, false));
    own.chain(parts).find_map(|(name, is_bucket)| Some((metrics::labels(name)?, is_bucket)))
}

/// The values of labels with a fixed alphabet; none for the others.
fn values(label: &str) -> Vec<&'static str> {
    use Outcome::{Abandoned, ClientError, Denied, Limited, Ok, Shed, UpstreamError};
    match label {
        "phase" => vec!["prefill", "decode"],
        "kind" => vec!["prompt", "cached", "completion", "reasoning", "expected"],
        "outcome" => [Ok, Limited, Shed, Denied, ClientError, UpstreamError, Abandoned].map(Outcome::label).to_vec(),
        _ => Vec::new(),
    }
}
