//! ScaledObjects that ask for pending tokens: each is for one version, and divides by what a replica may hold.

use std::collections::BTreeSet;

use super::promql::{self, Names};
use crate::check::at::At;
use crate::check::document::Document;
use crate::check::finding::Findings;
use crate::check::set::{Set, versions};

/// Holds the ScaledObjects against the configurations.
pub fn check(set: &Set, found: &mut Findings) {
    let models = set.models();
    let mut scaled = BTreeSet::new();
    for object in set.of("keda.sh", "ScaledObject") {
        for trigger in object.spec().get("triggers").items() {
            let query = trigger.get("metadata").get("query");
            let asked = promql::names(query.words());
            let ours: Vec<_> =
                asked.selectors.iter().filter(|selector| selector.metric.starts_with("penstock_")).collect();
            let Some(first) = ours.first() else { continue };
            signal(&trigger, &asked, found);
            let (of_model, of_version) = (first.values("model"), first.values("version"));
            let (&[model], &[version]) = (of_model.as_slice(), of_version.as_slice()) else { continue };
            scaled.insert((model.to_owned(), version.to_owned()));
            if let Some(at) = models.get(model) {
                size(object, &trigger, &asked, at, version, found);
            }
        }
    }
    if scaled.is_empty() {
        return;
    }
    for (name, model) in &models {
        for (version, at) in versions(model) {
            if !scaled.contains(&(name.clone(), version.clone())) {
                found.say("PS406", &at, &[("model", name), ("version", &version)]);
            }
        }
    }
}

/// Whether it is the sum of what is pending, and nothing is calculated with it.
fn is_total(asked: &Names) -> bool {
    asked.selectors.iter().all(|selector| selector.metric == "penstock_pending_tokens")
        && !asked.has_arithmetic
        && asked.functions.iter().all(|name| matches!(name.as_str(), "sum" | "max" | "avg"))
}

fn signal(trigger: &At, asked: &Names, found: &mut Findings) {
    let metadata = trigger.get("metadata");
    let nulls = metadata.get("ignoreNullValues");
    if nulls.text() != Some("false") {
        found.say("PS609", if nulls.exists() { &nulls } else { &metadata }, &[]);
    }
    if !is_total(asked) {
        return;
    }
    let query = metadata.get("query");
    if asked.functions.first().is_none_or(|name| name != "sum") {
        found.say("PS608", &query, &[("what", &format!("{} is not a sum", query.words().trim()))]);
    }
    let kind = trigger.get("metricType");
    if kind.exists() && kind.words() != "AverageValue" {
        found.say("PS608", &kind, &[("what", &format!("metricType is {}, and the query is a total", kind.words()))]);
    }
}

/// Thresholds and replicas, by what the model says of a replica.
fn size(object: &Document, trigger: &At, asked: &Names, model: &At, version: &str, found: &mut Findings) {
    let spec = object.spec();
    let name = model.get("name").words().to_owned();
    let (min, max) = (spec.get("minReplicaCount"), spec.get("maxReplicaCount"));
    let own = versions(model).into_iter().find(|(own, _)| own == version);
    let weight = own.and_then(|(_, at)| at.get("weight").number()).unwrap_or_default();
    // KEDA's own minimum is 0.
    if min.number().unwrap_or_default() == 0.0 && weight > 0.0 {
        let at = if min.exists() { &min } else { &spec };
        found.say("PS606", at, &[("model", &name), ("version", &version), ("weight", &weight)]);
    }
    if !is_total(asked) {
        return;
    }
    let threshold = trigger.get("metadata").get("threshold");
    let pending = model.get("pending");
    let share = pending.get("perReplica").number();
    if threshold.number().is_none() || threshold.number() != share {
        let shown = |at: &At| at.text().unwrap_or("missing").to_owned();
        let (value, wanted) = (shown(&threshold), shown(&pending.get("perReplica")));
        found.say("PS605", &threshold, &[("value", &value), ("model", &name), ("wanted", &wanted)]);
    }
    let (Some(share), Some(ceiling), Some(replicas)) = (share, pending.get("ceiling").number(), max.number()) else {
        return;
    };
    if share * replicas > ceiling {
        found.say("PS607", &max, &[("replicas", &replicas), ("share", &share), ("ceiling", &ceiling)]);
    }
}
