//! ScaledObjects that ask for tokens: each is for one version, and divides by what a replica does, or by what it may have waiting.

use std::collections::BTreeSet;

use penstock_document::at::At;

use super::promql::{self, Names};
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
                size(object, &trigger, &asked, at, version, set.gateways(), found);
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

/// Whether it is the sum of what is pending, and nothing is calculated with it. It may hold while a gateway is not `up`.
fn is_total(asked: &Names) -> bool {
    const AGGREGATIONS: [&str; 5] = ["sum", "max", "avg", "present_over_time", "max_over_time"];
    asked.selectors.iter().all(|selector| matches!(selector.metric.as_str(), "penstock_pending_tokens" | "up"))
        && !asked.has_arithmetic
        && asked.functions.iter().all(|name| AGGREGATIONS.contains(&name.as_str()))
}

/// The tokens that arrive, of a kind.
fn arrives(asked: &Names, kind: &str) -> bool {
    asked.selectors.iter().any(|selector| {
        let kinds = selector.values("kind");
        selector.metric == "penstock_admitted_tokens_total" && (kinds.is_empty() || kinds.contains(&kind))
    })
}

fn signal(trigger: &At, asked: &Names, found: &mut Findings) {
    let metadata = trigger.get("metadata");
    let nulls = metadata.get("ignoreNullValues");
    if nulls.text() != Some("false") {
        found.say("PS609", if nulls.exists() { &nulls } else { &metadata }, &[]);
    }
    let kind = trigger.get("metricType");
    if kind.exists() && kind.words() != "AverageValue" {
        found.say("PS608", &kind, &[("what", &format!("metricType is {}, and the query is a total", kind.words()))]);
    }
    let query = metadata.get("query");
    if is_total(asked) && asked.functions.first().is_none_or(|name| name != "sum") {
        found.say("PS608", &query, &[("what", &format!("{} is not a sum", query.words().trim()))]);
    }
}

/// Thresholds and replicas, by what the model says of a replica. `gateways`: how many there may be, each of which has the model's ceiling.
fn size(
    object: &Document,
    trigger: &At,
    asked: &Names,
    model: &At,
    version: &str,
    gateways: f64,
    found: &mut Findings,
) {
    let spec = object.spec();
    let name = model.get("name").words().to_owned();
    let (min, max) = (spec.get("minReplicaCount"), spec.get("maxReplicaCount"));
    let own = versions(model).into_iter().find(|(own, _)| own == version).map(|(_, at)| at);
    let weight = own.as_ref().and_then(|at| at.get("weight").number()).unwrap_or_default();
    // KEDA's own minimum is 0.
    if min.number().unwrap_or_default() == 0.0 {
        // What arrives for a version is counted whether it has a replica or not; what is pending is not there without one.
        let wakes = ["prompt", "expected"].iter().any(|kind| arrives(asked, kind));
        // Then requests wait for it, and are pending meanwhile.
        let waits = own.iter().chain([model]).any(|at| at.get("coldStart").exists());
        let at = if min.exists() { &min } else { &spec };
        if weight > 0.0 && !wakes && !waits {
            found.say("PS606", at, &[("model", &name), ("version", &version), ("weight", &weight)]);
        }
        walk(&spec, found);
    }
    let threshold = trigger.get("metadata").get("threshold");
    let shown = |at: &At| at.text().unwrap_or("missing").to_owned();
    if !is_total(asked) {
        let replica = |key: &str| {
            let of = |at: &At| at.get("replica").get(key).number();
            own.as_ref().and_then(of).or_else(|| of(model))
        };
        figures(trigger, asked, [replica("prefillTokensPerSecond"), replica("decodeTokensPerSecond")], &name, found);
        return;
    }
    let pending = model.get("pending");
    let share = pending.get("perReplica").number();
    if threshold.number().is_none() || threshold.number() != share {
        let (value, wanted) = (shown(&threshold), shown(&pending.get("perReplica")));
        found.say("PS605", &threshold, &[("value", &value), ("model", &name), ("wanted", &wanted)]);
    }
    let (Some(share), Some(ceiling), Some(replicas)) = (share, pending.get("ceiling").number(), max.number()) else {
        return;
    };
    if share * replicas > ceiling * gateways {
        let each = if gateways > 1.0 { format!(" of each of {gateways} gateways") } else { String::new() };
        let ceiling = format!("{ceiling}{each}");
        found.say("PS607", &max, &[("replicas", &replicas), ("share", &share), ("ceiling", &ceiling)]);
    }
}

/// What arrives is divided by what a replica does, and is in replicas then.
fn figures(trigger: &At, asked: &Names, wanted: [Option<f64>; 2], model: &str, found: &mut Findings) {
    let metadata = trigger.get("metadata");
    if asked.divisors.is_empty() || !["prompt", "expected"].iter().any(|kind| arrives(asked, kind)) {
        return;
    }
    for (kind, key, wanted) in
        [("prompt", "prefillTokensPerSecond", wanted[0]), ("expected", "decodeTokensPerSecond", wanted[1])]
    {
        let Some(wanted) = wanted.filter(|_| arrives(asked, kind)) else { continue };
        if !asked.divisors.contains(&wanted) {
            let named: [(&str, &dyn std::fmt::Display); 4] =
                [("kind", &kind), ("model", &model), ("key", &key), ("wanted", &wanted)];
            found.say("PS610", &metadata.get("query"), &named);
        }
    }
    let threshold = metadata.get("threshold");
    if threshold.number() != Some(1.0) {
        found.say("PS611", &threshold, &[("value", &threshold.text().unwrap_or("missing"))]);
    }
}

/// Whether the last replica waits for the others to go, where all of them may.
fn walk(spec: &At, found: &mut Findings) {
    let down = spec.get("advanced").get("horizontalPodAutoscalerConfig").get("behavior").get("scaleDown");
    let policies = down.get("policies").items();
    let (Some(max), [policy]) = (spec.get("maxReplicaCount").number(), policies.as_slice()) else { return };
    let (Some(pods), Some(period)) = (policy.get("value").number(), policy.get("periodSeconds").number()) else {
        return;
    };
    if policy.get("type").words() != "Pods" || pods < 1.0 {
        return;
    }
    // Both are 300 s where nothing is said.
    let window = down.get("stabilizationWindowSeconds").number().unwrap_or(300.0);
    let cooldown = spec.get("cooldownPeriod");
    let wanted = window + ((max - 1.0) / pods).ceil() * period;
    let seconds = cooldown.number().unwrap_or(300.0);
    if seconds <= wanted {
        let at = if cooldown.exists() { &cooldown } else { spec };
        found.say("PS612", at, &[("seconds", &seconds), ("wanted", &wanted)]);
    }
}
