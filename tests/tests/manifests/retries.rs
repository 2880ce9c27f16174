//! What is sent a second time: once, only what no server can have begun with, and little of it.

use serde_json::Value;

use super::checks::Problems;
use super::set::{Set, list};

/// A prompt that no server has seen: it could not be reached, or refused the stream.
const SAFE: [&str; 2] = ["connect-failure", "refused-stream"];

/// Every route, and what is in front of every server.
pub fn retries(set: &Set) -> Problems {
    let mut problems = Problems::new();
    for service in set.of_kind("VirtualService") {
        for route in list(&service.value["spec"]["http"]).iter().filter(|route| route.get("delegate").is_none()) {
            let title = format!("{}, {}", service.title(), route["name"]);
            problems.extend(unsafe_in(&route["retries"]).map(|what| format!("{title}: {what}")));
        }
    }
    for canary in set.of_kind("Canary") {
        let own = &canary.value["spec"]["service"];
        problems.extend(unsafe_in(&own["retries"]).map(|what| format!("{}: {what}", canary.title())));
        problems.extend(unhealthy(&own["trafficPolicy"]).map(|what| format!("{}: {what}", canary.title())));
    }
    // HTTPRoutes have none of their own.
    let default = &set.istiod["meshConfig"]["defaultHttpRetryPolicy"];
    problems.extend(unsafe_in(default).map(|what| format!("defaultHttpRetryPolicy: {what}")));
    for rule in set.of_kind("DestinationRule") {
        let policy = &rule.value["spec"]["trafficPolicy"];
        problems.extend(unhealthy(policy).map(|what| format!("{}: {what}", rule.title())));
        let budget = policy["retryBudget"]["percent"].as_f64();
        if !budget.is_some_and(|percent| (1.0..=20.0).contains(&percent)) {
            problems.push(format!("{}: no budget for what is sent again", rule.title()));
        }
    }
    problems
}

fn unsafe_in(retries: &Value) -> Option<String> {
    let mut on = retries["retryOn"].as_str().unwrap_or("5xx").split(',');
    if retries["attempts"] != 1 {
        return Some("is not sent once more".into());
    }
    // What is not streamed shows nothing of itself before it is complete, and would be generated twice.
    if retries.get("perTryTimeout").is_some() {
        return Some("has a time for each try".into());
    }
    on.find(|class| !SAFE.contains(class)).map(|class| format!("sends again what a server may have begun: {class}"))
}

/// Pods that cannot be reached are left out, but never most of them.
fn unhealthy(policy: &Value) -> Option<&'static str> {
    let detection = &policy["outlierDetection"];
    let is_so = detection["consecutiveLocalOriginFailures"].as_u64().is_some_and(|failures| failures > 0)
        && detection["maxEjectionPercent"].as_u64().is_some_and(|percent| percent <= 50);
    (!is_so).then_some("leaves out no pod that cannot be reached, or too many")
}
