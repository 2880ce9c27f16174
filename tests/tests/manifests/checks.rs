//! What has to agree across the manifests. Each check answers with the disagreements it found, so that the tests can
//! also show that it finds one in a set that was spoilt on purpose.

use std::collections::{BTreeMap, BTreeSet};

use penstock_exchange::{Config, metrics};
use serde_json::Value;

use super::contract;
use super::promql;
use super::set::{Set, list, names};

pub type Problems = Vec<String>;

/// Every copy of the configuration is the same document, but for `waitForBody`, which goes with the flag that the EnvoyFilter sets.
pub fn configuration_copies(set: &Set) -> Problems {
    let reference = &set.one("WasmPlugin")["spec"]["pluginConfig"];
    let mut problems = Problems::new();
    if &set.one("TrafficExtension")["spec"]["wasm"]["pluginConfig"] != reference {
        problems.push("pluginConfig of the TrafficExtension differs from that of the WasmPlugin".into());
    }
    let json = added_config(set)["configuration"]["value"].as_str().unwrap_or("");
    let mut expected = reference.clone();
    expected["waitForBody"] = Value::Bool(true);
    match serde_json::from_str::<Value>(json) {
        Ok(copy) if copy == expected => {}
        Ok(_) => problems.push("the JSON in the EnvoyFilter differs from pluginConfig of the WasmPlugin".into()),
        Err(error) => problems.push(format!("the EnvoyFilter's configuration is not JSON: {error}")),
    }
    problems
}

/// The filters accept it.
pub fn configuration(set: &Set) -> Problems {
    let document = set.one("WasmPlugin")["spec"]["pluginConfig"].to_string();
    Config::parse(document.as_bytes()).err().map(|errors| errors.to_string()).into_iter().collect()
}

/// Whoever makes up keys meets a limit that all strangers share.
pub fn strangers(set: &Set) -> Problems {
    let config = &set.one("WasmPlugin")["spec"]["pluginConfig"];
    let is_plain = |source: &Value| source["header"].is_string() && source["trusted"] != true;
    let bounds_all =
        |limit: &Value| limit["match"]["tenant"] == "unnamed" && limit["per"].is_null() && limit["tokens"].is_u64();
    let has_plain = list(&config["tenant"]["from"]).iter().any(is_plain);
    let is_bounded = list(&config["limits"]).iter().any(bounds_all);
    (has_plain && !is_bounded)
        .then(|| "no limit of tokens for all unnamed tenants together".into())
        .into_iter()
        .collect()
}

/// Penstock is for the hosts that the routes are for, and none of them is a wildcard: that would be reached by any host.
pub fn hosts(set: &Set) -> Problems {
    let ours = &set.one("WasmPlugin")["spec"]["pluginConfig"]["hosts"];
    let routed = &set.one("VirtualService")["spec"]["hosts"];
    let mut problems = Problems::new();
    if ours != routed {
        problems.push(format!("hosts are {ours}, those of the VirtualService {routed}"));
    }
    for server in list(&set.one("Gateway")["spec"]["servers"]) {
        if list(&server["hosts"]).iter().any(|host| host.as_str().is_none_or(|host| host.contains('*'))) {
            problems.push(format!("the Gateway's hosts are {}, a wildcard", server["hosts"]));
        }
    }
    problems
}

/// The mesh makes paths normal that servers read differently, and lets no client wait for a 100 that comes with the request's end.
pub fn mesh(set: &Set) -> Problems {
    let values = set.file("mesh/values-istiod.yaml");
    let mut problems = Problems::new();
    let normalization = &values["meshConfig"]["pathNormalization"]["normalization"];
    if normalization != "DECODE_AND_MERGE_SLASHES" {
        problems.push(format!("paths are made normal as {normalization}"));
    }
    if values["env"]["ENABLE_100_CONTINUE_HEADERS"] != "false" {
        problems.push("gateways keep `Expect: 100-continue` to themselves, with waitForBody: true".into());
    }
    problems
}

/// All three load the same module, as the same plugin, for the same gateways, with the same answer to a trap.
pub fn module_copies(set: &Set) -> Problems {
    let plugin = &set.one("WasmPlugin")["spec"];
    let extension = &set.one("TrafficExtension")["spec"];
    let filter = &set.one("EnvoyFilter")["spec"];
    let added = added_config(set);
    let remote = &added["vm_config"]["code"]["remote"];
    let pin = extension["wasm"]["sha256"].as_str().unwrap_or("nil");
    let policy = "ISTIO_META_WASM_IMAGE_PULL_POLICY";
    let equal = [
        ("url", &plugin["url"], &extension["wasm"]["url"]),
        ("url and uri", &plugin["url"], &remote["http_uri"]["uri"]),
        ("sha256", &plugin["sha256"], &extension["wasm"]["sha256"]),
        ("sha256", &remote["sha256"], &Value::from(pin)),
        ("pluginName", &plugin["pluginName"], &extension["wasm"]["pluginName"]),
        ("pluginName and root_id", &plugin["pluginName"], &added["root_id"]),
        ("failStrategy", &plugin["failStrategy"], &extension["wasm"]["failStrategy"]),
        ("failStrategy and failure_policy", &plugin["failStrategy"], &added["failure_policy"]),
        ("imagePullPolicy", &plugin["imagePullPolicy"], &extension["wasm"]["imagePullPolicy"]),
        (
            "imagePullPolicy",
            &plugin["imagePullPolicy"],
            &added["vm_config"]["environment_variables"]["key_values"][policy],
        ),
        ("phase", &plugin["phase"], &extension["phase"]),
        ("selector", &plugin["selector"], &extension["selector"]),
        ("selector and workloadSelector", &plugin["selector"]["matchLabels"], &filter["workloadSelector"]["labels"]),
        ("selector of the Telemetry", &plugin["selector"], &set.one("Telemetry")["spec"]["selector"]),
        ("selector of the PodMonitor", &plugin["selector"], &set.one("PodMonitor")["spec"]["selector"]),
    ];
    let differ = equal.into_iter().filter(|(_, left, right)| left != right);
    differ.map(|(what, left, right)| format!("{what}: {left} and {right}")).collect()
}

/// The EnvoyFilter replaces the filter under every name that Istio gives it, by the configuration that it adds.
pub fn filter_names(set: &Set) -> Problems {
    let mut problems = Problems::new();
    let prefix = "extensions.istio.io";
    let title = |kind: &str| {
        let meta = &set.one(kind)["metadata"];
        format!("{}.{}", meta["namespace"].as_str().unwrap_or(""), meta["name"].as_str().unwrap_or(""))
    };
    let (plugin, extension) = (title("WasmPlugin"), title("TrafficExtension"));
    let wanted = BTreeSet::from([
        format!("{prefix}/wasmplugin/{plugin}"),
        format!("{prefix}/trafficextension/{plugin}~istio-translated-wasmplugin"),
        format!("{prefix}/trafficextension/{extension}"),
    ]);
    let added = &patches(set, "EXTENSION_CONFIG")[0]["patch"]["value"]["name"];
    let mut replaced = BTreeSet::new();
    for patch in patches(set, "HTTP_FILTER") {
        let name = &patch["match"]["listener"]["filterChain"]["filter"]["subFilter"]["name"];
        replaced.insert(name.as_str().unwrap_or("").to_owned());
        if &patch["patch"]["value"]["name"] != added {
            problems.push(format!("{name} is replaced by a filter that is not {added}"));
        }
    }
    if replaced != wanted {
        problems.push(format!("the EnvoyFilter replaces {replaced:?}, Istio calls the filter {wanted:?}"));
    }
    if added_config(set)["allow_on_headers_stop_iteration"] != Value::Bool(true) {
        problems.push("the EnvoyFilter does not set allow_on_headers_stop_iteration".into());
    }
    problems
}

/// The mesh cuts out every label there is, and no tag is the end of another: Envoy's regex is unanchored.
pub fn stat_tags(set: &Set) -> Problems {
    let defaults = &set.file("mesh/values-istiod.yaml")["meshConfig"]["defaultConfig"];
    let tags: Vec<_> = list(&defaults["extraStatTags"]).iter().filter_map(Value::as_str).collect();
    let mut problems: Problems = metrics::TAGS
        .iter()
        .filter(|label| !tags.contains(label))
        .map(|label| format!("extraStatTags lacks {label}"))
        .collect();
    for (i, tag) in tags.iter().enumerate() {
        for other in tags.iter().enumerate().filter(|(j, _)| *j != i).map(|(_, other)| other) {
            if other.ends_with(tag) {
                problems.push(format!("extraStatTags: {tag} is the end of {other}"));
            }
        }
    }
    problems
}

/// Routes and subsets are exactly the versions of the configuration.
pub fn versions(set: &Set) -> Problems {
    let wanted = configured_versions(set);
    let mut routes = BTreeSet::new();
    let mut problems = Problems::new();
    for route in list(&set.one("VirtualService")["spec"]["http"]) {
        let destination = &route["route"][0]["destination"];
        let subset = destination["subset"].as_str().unwrap_or("");
        let host = destination["host"].as_str().unwrap_or("");
        for matched in list(&route["match"]) {
            let header = |name: &str| matched["headers"][name]["exact"].as_str().unwrap_or("").to_owned();
            let (model, version) = (header("x-penstock-model"), header("x-penstock-version"));
            if version != subset || !host.starts_with(&format!("{model}.")) {
                problems.push(format!("the route for {model} {version} leads to {subset} of {host}"));
            }
            routes.insert((model, version));
        }
    }
    let mut subsets = BTreeSet::new();
    for rule in set.of_kind("DestinationRule") {
        let host = rule.value["spec"]["host"].as_str().unwrap_or("");
        let model = host.split('.').next().unwrap_or("");
        subsets.extend(names(&rule.value["spec"]["subsets"]).into_iter().map(|name| (model.to_owned(), name)));
    }
    for (what, found) in [("routes", routes), ("subsets", subsets)] {
        if found != wanted {
            problems.push(format!("{what} are {found:?}, pluginConfig has {wanted:?}"));
        }
    }
    problems
}

/// A ScaledObject per version, that asks for that version's pending tokens and divides them by what a replica may hold.
pub fn scaling(set: &Set) -> Problems {
    let mut problems = Problems::new();
    let mut scaled = BTreeSet::new();
    for object in set.of_kind("ScaledObject") {
        let spec = &object.value["spec"];
        let mut complain = |what: String| problems.push(format!("{}: {what}", object.title()));
        let metadata = &spec["triggers"][0]["metadata"];
        let query = metadata["query"].as_str().unwrap_or("");
        let asked = promql::names(query);
        if asked.selectors.len() != 1
            || asked.selectors[0].metric != "penstock_pending_tokens"
            || !query.starts_with("sum(")
        {
            complain(format!("{query} is not a sum of penstock_pending_tokens"));
            continue;
        }
        let matchers: BTreeMap<_, _> = asked.selectors[0].matchers.iter().cloned().collect();
        let label = |name: &str| matchers.get(name).cloned().unwrap_or_default();
        let (model, version) = (label("model"), label("version"));
        let deployment = format!("{model}-{version}");
        if spec["scaleTargetRef"]["name"] != *deployment || object.value["metadata"]["name"] != *deployment {
            complain(format!("asks for {model} {version}, and scales {}", spec["scaleTargetRef"]["name"]));
        }
        let per_replica = &model_named(set, &model)["pending"]["perReplica"];
        if metadata["threshold"] != *per_replica.to_string() {
            complain(format!("threshold {} is not pending.perReplica {per_replica}", metadata["threshold"]));
        }
        if metadata["ignoreNullValues"] != "false" {
            complain("ignoreNullValues has to be \"false\": no series is not an empty queue".into());
        }
        if spec["triggers"][0]["metricType"] != "AverageValue" {
            complain("metricType has to be AverageValue: the query is a total".into());
        }
        for key in ["threshold", "activationThreshold"] {
            if metadata[key].as_str().is_none_or(|text| text.parse::<f64>().is_err()) {
                complain(format!("{key} {} is not a number in a string", metadata[key]));
            }
        }
        scaled.insert((model, version));
    }
    let wanted = configured_versions(set);
    if scaled != wanted {
        problems.push(format!("scaled are {scaled:?}, pluginConfig has {wanted:?}"));
    }
    problems
}

/// Every series that a query asks for exists, with the labels and the values that it asks for.
pub fn series(set: &Set) -> Problems {
    let rules: Vec<_> = rules(set).collect();
    let recorded: BTreeSet<_> = rules.iter().filter_map(|rule| rule["record"].as_str()).collect();
    let expressions = rules.iter().filter_map(|rule| rule["expr"].as_str());
    let scaled = set.of_kind("ScaledObject").map(|object| &object.value["spec"]["triggers"][0]["metadata"]["query"]);
    let panels = list(&set.dashboard["panels"]).iter().flat_map(|panel| list(&panel["targets"]));
    let queries = scaled.chain(panels.map(|target| &target["expr"])).filter_map(Value::as_str);
    let mut problems = Problems::new();
    for query in expressions.chain(queries) {
        let asked = promql::names(query);
        let mut complain = |what: String| problems.push(format!("{what}, in {query}"));
        for selector in &asked.selectors {
            let Some(labels) = contract::series_labels(&selector.metric) else {
                if !recorded.contains(selector.metric.as_str()) {
                    complain(format!("there is no metric {}", selector.metric));
                }
                continue;
            };
            for (label, value) in &selector.matchers {
                if !labels.contains(&label.as_str()) {
                    complain(format!("{} has no label {label}", selector.metric));
                }
                for unknown in unknown_values(label, value) {
                    complain(format!("{label} is never {unknown}"));
                }
            }
        }
        for label in &asked.grouping {
            let known = metrics::TAGS.contains(&label.as_str());
            if !known && !contract::SCRAPE_LABELS.contains(&label.as_str()) && label != "le" {
                complain(format!("no metric has the label {label}"));
            }
        }
    }
    problems
}

/// Alerts say how bad, what, and what to do; the runbook has a section for each, and no section is left over.
pub fn alerts(set: &Set, runbooks: &str) -> Problems {
    let mut sections: BTreeSet<_> =
        runbooks.lines().filter_map(|line| line.strip_prefix("## ")).map(str::to_lowercase).collect();
    let mut problems = Problems::new();
    for alert in rules(set).filter(|rule| rule.get("alert").is_some()) {
        let name = alert["alert"].as_str().unwrap_or("");
        for key in ["summary", "description", "runbook_url"] {
            if alert["annotations"][key].as_str().is_none_or(str::is_empty) {
                problems.push(format!("{name} has no {key}"));
            }
        }
        if !["critical", "warning", "info"].map(Value::from).contains(&alert["labels"]["severity"]) {
            problems.push(format!("{name}: severity is {}", alert["labels"]["severity"]));
        }
        if alert["annotations"]["summary"].as_str().is_some_and(|summary| summary.contains("{{")) {
            problems.push(format!("{name}: a summary is the same for every firing; put values into the description"));
        }
        let anchor = name.to_lowercase();
        if alert["annotations"]["runbook_url"] != *format!("istio/monitoring/runbooks.md#{anchor}") {
            problems.push(format!("{name}: runbook_url is {}", alert["annotations"]["runbook_url"]));
        }
        if !sections.remove(&anchor) {
            problems.push(format!("{name} has no section in the runbooks"));
        }
    }
    problems.extend(sections.iter().map(|section| format!("the runbook {section} belongs to no alert")));
    problems
}

/// The constants in the alerts are those of the configuration.
pub fn alert_constants(set: &Set) -> Problems {
    let mut problems = Problems::new();
    let near = alert_expression(set, "PenstockNearCeiling");
    for model in configured_models(set) {
        let ceiling = model["pending"]["ceiling"].as_u64().unwrap_or(0);
        if !near.ends_with(&format!("> {}", ceiling * 9 / 10)) {
            problems.push(format!(
                "PenstockNearCeiling is not at 90 % of the ceiling {ceiling} of {}: {near}",
                model["name"]
            ));
        }
    }
    problems
}

/// What the access log's provider writes is the record that Penstock leaves, and the Telemetry turns that provider on.
pub fn access_log(set: &Set) -> Problems {
    let providers = &set.file("mesh/values-istiod.yaml")["meshConfig"]["extensionProviders"];
    let defined = names(providers);
    let wanted = names(&set.one("Telemetry")["spec"]["accessLogging"][0]["providers"]);
    let mut problems: Problems =
        wanted.difference(&defined).map(|name| format!("no access log provider {name} is defined")).collect();
    let labels = &providers[0]["envoyFileAccessLog"]["logFormat"]["labels"];
    if labels["penstock"] != "%FILTER_STATE(wasm.penstock.exchange:PLAIN)%" {
        problems.push(format!("the access log writes {} for Penstock", labels["penstock"]));
    }
    problems
}

/// The versions of the configuration, as (model, version).
pub fn configured_versions(set: &Set) -> BTreeSet<(String, String)> {
    let mut versions = BTreeSet::new();
    for model in configured_models(set) {
        let name = model["name"].as_str().unwrap_or("");
        versions.extend(names(&model["versions"]).into_iter().map(|version| (name.to_owned(), version)));
    }
    versions
}

/// The rules of every group.
pub fn rules(set: &Set) -> impl Iterator<Item = &Value> {
    list(&set.one("PrometheusRule")["spec"]["groups"]).iter().flat_map(|group| list(&group["rules"]))
}

fn unknown_values<'a>(label: &str, value: &'a str) -> Vec<&'a str> {
    let known = contract::values(label);
    value.split('|').filter(|value| known.as_ref().is_some_and(|known| !known.contains(value))).collect()
}

fn alert_expression<'a>(set: &'a Set, name: &str) -> &'a str {
    let alert = rules(set).find(|rule| rule["alert"] == *name);
    alert.and_then(|alert| alert["expr"].as_str()).unwrap_or("").trim()
}

fn configured_models(set: &Set) -> &[Value] {
    list(&set.one("WasmPlugin")["spec"]["pluginConfig"]["models"])
}

fn model_named<'a>(set: &'a Set, name: &str) -> &'a Value {
    configured_models(set).iter().find(|model| model["name"] == *name).unwrap_or(&Value::Null)
}

fn patches<'a>(set: &'a Set, apply_to: &str) -> Vec<&'a Value> {
    let patches = list(&set.one("EnvoyFilter")["spec"]["configPatches"]);
    patches.iter().filter(|patch| patch["applyTo"] == *apply_to).collect()
}

/// The plugin's configuration as the EnvoyFilter adds it.
fn added_config(set: &Set) -> &Value {
    &patches(set, "EXTENSION_CONFIG")[0]["patch"]["value"]["typed_config"]["config"]
}
