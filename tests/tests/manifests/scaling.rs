//! What has to agree between a ScaledObject and the configuration.

use std::collections::BTreeSet;

use serde_json::Value;

use super::checks::{Problems, configured_versions, model_named};
use super::promql::{self, Selector};
use super::set::{Set, list};

/// A ScaledObject per version, whose replicas follow at once and go one at a time.
pub fn scaling(set: &Set) -> Problems {
    let mut problems = Problems::new();
    let mut scaled = BTreeSet::new();
    for object in set.of_kind("ScaledObject") {
        let spec = &object.value["spec"];
        let mut complain = |what: String| problems.push(format!("{}: {what}", object.title()));
        let (model, version) = signal(set, spec, &mut complain);
        let deployment = format!("{model}-{version}");
        if spec["scaleTargetRef"]["name"] != *deployment || object.value["metadata"]["name"] != *deployment {
            complain(format!("asks for {model} {version}, and scales {}", spec["scaleTargetRef"]["name"]));
        }
        list(&spec["triggers"]).iter().for_each(|trigger| answer(trigger, &mut complain));
        pace(spec, &mut complain);
        scaled.insert((model, version));
    }
    // What is rolled out by others has one object for both versions, whose replicas are theirs.
    let others: BTreeSet<_> = ["Rollout", "Canary"]
        .into_iter()
        .flat_map(|kind| set.of_kind(kind))
        .filter_map(|object| object.value["metadata"]["name"].as_str())
        .collect();
    let wanted: BTreeSet<_> =
        configured_versions(set).into_iter().filter(|(model, _)| !others.contains(model.as_str())).collect();
    if scaled != wanted && !scaled.is_empty() {
        problems.push(format!("scaled are {scaled:?}, pluginConfig has {wanted:?}"));
    }
    problems
}

/// The query is of one version, which is returned: in replicas, by what the configuration says that one does, or else in pending tokens, of which
/// it says how many one may have.
fn signal(set: &Set, spec: &Value, complain: &mut impl FnMut(String)) -> (String, String) {
    let metadata = &spec["triggers"][0]["metadata"];
    let query = metadata["query"].as_str().unwrap_or("");
    let asked: Vec<_> = promql::names(query).selectors.into_iter().filter(|series| series.metric != "up").collect();
    let label = |series: &Selector, name: &str| {
        series.matchers.iter().find(|(own, _)| own == name).map(|(_, value)| value.clone()).unwrap_or_default()
    };
    let first = asked.first().map(|first| (label(first, "model"), label(first, "version")));
    let (model, version) = first.unwrap_or_default();
    // What was refused has no version.
    let has_version = |series: &Selector| series.metric != "penstock_refused_demand_tokens_total";
    let is_strange = |series: &&Selector| {
        label(series, "model") != model || (has_version(series) && label(series, "version") != version)
    };
    if let Some(strange) = asked.iter().find(is_strange) {
        complain(format!("asks for {model} {version}, and for {strange:?}"));
    }
    let of = model_named(set, &model);
    let own = list(&of["versions"]).iter().find(|own| own["name"] == *version);
    let figure = |key: &str| own.and_then(|own| own["replica"][key].as_u64()).or_else(|| of["replica"][key].as_u64());
    let threshold = match (figure("prefillTokensPerSecond"), figure("decodeTokensPerSecond")) {
        (Some(prefill), Some(decode)) => {
            for (kind, figure) in [("prompt", prefill), ("expected", decode)] {
                let divided = format!("kind=\"{kind}\"}}[1m]))) / {figure}");
                if !query.lines().any(|line| line.ends_with(&divided)) {
                    complain(format!("{kind} tokens are not divided by {figure}, in {query}"));
                }
            }
            "1".to_owned()
        }
        _ => {
            let is_sum = query.trim_start_matches(['(', '\n', ' ']).starts_with("sum(");
            if !is_sum || asked.iter().any(|series| series.metric != "penstock_pending_tokens") {
                complain(format!("{query} is not a sum of penstock_pending_tokens"));
            }
            of["pending"]["perReplica"].to_string()
        }
    };
    if metadata["threshold"] != *threshold {
        complain(format!("threshold {} is not {threshold}", metadata["threshold"]));
    }
    (model, version)
}

/// What comes back is taken for a total, and nothing for an error.
fn answer(trigger: &Value, complain: &mut impl FnMut(String)) {
    let metadata = &trigger["metadata"];
    if metadata["ignoreNullValues"] != "false" {
        complain("ignoreNullValues has to be \"false\": no series is not an empty queue".into());
    }
    if trigger["metricType"] != "AverageValue" {
        complain("metricType has to be AverageValue: the query is a total".into());
    }
    for key in ["threshold", "activationThreshold"] {
        if metadata[key].as_str().is_none_or(|text| text.parse::<f64>().is_err()) {
            complain(format!("{key} {} is not a number in a string", metadata[key]));
        }
    }
}

/// All that are missing come in one step, one goes at a time, the last of them after all others, and a Prometheus that starts anew changes nothing.
fn pace(spec: &Value, complain: &mut impl FnMut(String)) {
    let seconds = |value: &Value| value.as_u64().unwrap_or_default();
    let max = seconds(&spec["maxReplicaCount"]);
    let behavior = &spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"];
    let up = &behavior["scaleUp"]["policies"][0];
    if up["type"] != "Pods" || up["value"] != max || seconds(&behavior["scaleUp"]["stabilizationWindowSeconds"]) > 0 {
        complain(format!("what is missing does not come in one step: {up}"));
    }
    let (down, period) = (&behavior["scaleDown"], seconds(&behavior["scaleDown"]["policies"][0]["periodSeconds"]));
    if list(&down["policies"]).len() != 1 || down["policies"][0]["value"] != 1 || down["policies"][0]["type"] != "Pods"
    {
        complain(format!("more than one goes at a time: {down}"));
    }
    let walk = seconds(&down["stabilizationWindowSeconds"]) + max.saturating_sub(1) * period;
    if seconds(&spec["cooldownPeriod"]) <= walk {
        complain(format!(
            "a cooldownPeriod of {} is over before the walk down is, after {walk} s",
            spec["cooldownPeriod"]
        ));
    }
    let fallback = &spec["fallback"];
    if seconds(&fallback["failureThreshold"]) * seconds(&spec["pollingInterval"]) < 60 {
        complain(format!("the fallback is there before a Prometheus that starts anew: {fallback}"));
    }
    // At 0 KEDA takes what there is for idle while Prometheus does not answer.
    if seconds(&fallback["replicas"]) < 1 || fallback["behavior"] != "currentReplicasIfHigher" {
        complain(format!("the fallback takes replicas away: {fallback}"));
    }
}
