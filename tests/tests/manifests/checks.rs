//! What has to agree across the manifests. Each check answers with the disagreements it found, so that the tests can
//! also show that it finds one in a set that was spoilt on purpose.

use std::collections::BTreeSet;

use penstock_exchange::{Config, metrics};
use serde_json::{Value, json};

use super::contract;
use super::gates;
use super::promql;
use super::set::{Set, list, names};

pub type Problems = Vec<String>;

/// What the EnvoyFilter adds is the plugin's document, but for `waitForBody`, which goes with the flag that it sets.
pub fn configuration_copies(set: &Set) -> Problems {
    let json = added_config(set)["configuration"]["value"].as_str().unwrap_or("");
    let mut expected = set.config().clone();
    expected["waitForBody"] = Value::Bool(true);
    match serde_json::from_str::<Value>(json) {
        Ok(copy) if copy == expected => Problems::new(),
        Ok(_) => vec!["the JSON in the EnvoyFilter differs from pluginConfig".into()],
        Err(error) => vec![format!("the EnvoyFilter's configuration is not JSON: {error}")],
    }
}

/// The filters accept it.
pub fn configuration(set: &Set) -> Problems {
    Config::parse(set.config().to_string().as_bytes()).err().map(|errors| errors.to_string()).into_iter().collect()
}

/// Whoever makes up keys meets a limit that all strangers share.
pub fn strangers(set: &Set) -> Problems {
    let config = set.config();
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
    let ours = &set.config()["hosts"];
    let mut problems = Problems::new();
    for route in set.documents.iter() {
        let hosts = match route.kind() {
            "VirtualService" => &route.value["spec"]["hosts"],
            "HTTPRoute" => &route.value["spec"]["hostnames"],
            _ => continue,
        };
        if hosts != ours {
            problems.push(format!("hosts are {ours}, those of {} {hosts}", route.title()));
        }
    }
    let spec = &set.one("Gateway")["spec"];
    let servers = list(&spec["servers"]).iter().flat_map(|server| list(&server["hosts"]));
    let listeners = list(&spec["listeners"]).iter().map(|listener| &listener["hostname"]);
    let open: Vec<_> = servers.chain(listeners).cloned().collect();
    if &Value::Array(open.clone()) != ours
        || open.iter().any(|host| host.as_str().is_none_or(|host| host.contains('*')))
    {
        problems.push(format!("hosts are {ours}, those of the Gateway {open:?}"));
    }
    problems
}

/// Paths are made normal that servers read differently, on every gateway; and no client waits for a 100 that comes with the request's end.
pub fn paths(set: &Set) -> Problems {
    let mut problems = Problems::new();
    let merged = patches(set, "NETWORK_FILTER").into_iter().map(|patch| &patch["patch"]["value"]["typed_config"]);
    let is_normal = |manager: &Value| {
        manager["normalize_path"] == true
            && manager["merge_slashes"] == true
            && manager["path_with_escaped_slashes_action"] == "UNESCAPE_AND_FORWARD"
    };
    if !merged.into_iter().any(is_normal) {
        problems.push("the EnvoyFilter does not make paths normal".into());
    }
    if set.istiod["env"]["ENABLE_100_CONTINUE_HEADERS"] != "false" {
        problems.push("gateways keep `Expect: 100-continue` to themselves, with waitForBody: true".into());
    }
    problems
}

/// Plugin and EnvoyFilter load the same module, as the same plugin, with the same answer to a trap; and all is for the same gateways.
pub fn module_copies(set: &Set) -> Problems {
    let (plugin, wasm) = (&set.plugin()["spec"], set.wasm());
    let added = added_config(set);
    let code = &added["vm_config"]["code"];
    let environment = &added["vm_config"]["environment_variables"]["key_values"];
    let pin = wasm["sha256"].as_str().unwrap_or("nil");
    let url = code["local"]["filename"].as_str().map(|path| Value::from(format!("file://{path}")));
    let url = url.unwrap_or_else(|| code["remote"]["http_uri"]["uri"].clone());
    let policy = match wasm["failStrategy"].as_str() {
        Some("FAIL_CLOSE") => "FAIL_CLOSED",
        other => other.unwrap_or(""),
    };
    let mut equal = vec![
        ("url and uri", wasm["url"].clone(), url),
        ("pluginName and root_id", wasm["pluginName"].clone(), added["root_id"].clone()),
        ("failStrategy and failure_policy", policy.into(), added["failure_policy"].clone()),
        ("imagePullPolicy", wasm["imagePullPolicy"].clone(), environment["ISTIO_META_WASM_IMAGE_PULL_POLICY"].clone()),
    ];
    if code.get("remote").is_some() {
        equal.push(("sha256", pin.into(), code["remote"]["sha256"].clone()));
    }
    let bound = bound_to(plugin);
    for kind in ["EnvoyFilter", "Telemetry", "RequestAuthentication", "AuthorizationPolicy"] {
        for document in set.of_kind(kind) {
            equal.push((kind, bound.clone(), bound_to(&document.value["spec"])));
        }
    }
    for document in set.of_kind("PodMonitor") {
        let labels = match plugin["targetRefs"][0]["name"].as_str() {
            Some(gateway) => json!({"gateway.networking.k8s.io/gateway-name": gateway}),
            None => bound.clone(),
        };
        equal.push(("PodMonitor", labels, document.value["spec"]["selector"]["matchLabels"].clone()));
    }
    let differ = equal.into_iter().filter(|(_, left, right)| left != right || left.is_null());
    differ.map(|(what, left, right)| format!("{what}: {left} and {right}")).collect()
}

/// The pods that a policy is for: their labels, or the Gateways that they belong to. A resource that says nothing is for all pods.
fn bound_to(spec: &Value) -> Value {
    let labels = [&spec["selector"]["matchLabels"], &spec["workloadSelector"]["labels"], &spec["targetRefs"]];
    labels.into_iter().find(|labels| !labels.is_null()).cloned().unwrap_or_default()
}

/// The EnvoyFilter replaces the filter under every name that Istio gives it, by the configuration that it adds.
pub fn filter_names(set: &Set) -> Problems {
    let mut problems = Problems::new();
    let prefix = "extensions.istio.io";
    let meta = &set.plugin()["metadata"];
    let plugin = format!("{}.{}", meta["namespace"].as_str().unwrap_or(""), meta["name"].as_str().unwrap_or(""));
    let wanted = BTreeSet::from([
        format!("{prefix}/wasmplugin/{plugin}"),
        format!("{prefix}/trafficextension/{plugin}~istio-translated-wasmplugin"),
        format!("{prefix}/trafficextension/{plugin}"),
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
    for patch in patches(set, "HTTP_FILTER") {
        // The second is what the agent puts there where the module cannot be fetched.
        let types = &patch["patch"]["value"]["config_discovery"]["type_urls"];
        for wanted in ["wasm.v3.Wasm", "rbac.v3.RBAC"] {
            if !list(types).contains(&format!("type.googleapis.com/envoy.extensions.filters.http.{wanted}").into()) {
                problems.push(format!("the filter takes no {wanted}"));
            }
        }
    }
    if set.one("EnvoyFilter")["spec"]["priority"].as_i64().is_none_or(|priority| priority <= 0) {
        problems.push("the EnvoyFilter says nothing of its order (IST0151)".into());
    }
    if added_config(set)["allow_on_headers_stop_iteration"] != Value::Bool(true) {
        problems.push("the EnvoyFilter does not set allow_on_headers_stop_iteration".into());
    }
    problems
}

/// Every label is cut out, wherever the tags are set, and no tag is the end of another: Envoy's regex is unanchored.
pub fn stat_tags(set: &Set) -> Problems {
    let annotation = "sidecar.istio.io/extraStatTags";
    let of =
        |annotations: &Value| annotations[annotation].as_str().unwrap_or("").split(',').map(str::to_owned).collect();
    let mesh = list(&set.istiod["meshConfig"]["defaultConfig"]["extraStatTags"]);
    let mut places: Vec<(&str, Vec<String>)> = vec![
        ("the mesh", mesh.iter().filter_map(Value::as_str).map(str::to_owned).collect()),
        ("the gateway's values", of(&set.gateway_pods["podAnnotations"])),
    ];
    if set.one("Gateway")["spec"].get("infrastructure").is_some() {
        places.push(("the Gateway", of(&set.one("Gateway")["spec"]["infrastructure"]["annotations"])));
    }
    let mut problems = Problems::new();
    for (place, tags) in places {
        let missing = metrics::TAGS.iter().filter(|label| !tags.iter().any(|tag| tag == *label));
        problems.extend(missing.map(|label| format!("extraStatTags of {place} lacks {label}")));
        for (i, tag) in tags.iter().enumerate() {
            let others = tags.iter().enumerate().filter(|(j, _)| *j != i).map(|(_, other)| other);
            let longer = others.filter(|other| other.ends_with(tag.as_str()));
            problems.extend(longer.map(|other| format!("extraStatTags of {place}: {tag} is the end of {other}")));
        }
    }
    problems
}

/// Routes are exactly the versions of the configuration, and what is left goes somewhere; so are the subsets that they lead to.
pub fn versions(set: &Set) -> Problems {
    let wanted = configured_versions(set);
    let (mut routes, mut is_rest_routed) = (BTreeSet::new(), false);
    let mut problems = Problems::new();
    // Flagger tells the versions apart in a VirtualService that it makes.
    let delegated = delegated(set);
    for Route { model, version, service, subset } in routes_of(set) {
        let (Some(model), Some(version)) = (model, version) else {
            is_rest_routed = true;
            continue;
        };
        let leads_there = match &subset {
            Some(subset) => *subset == version && service == model,
            None => service == format!("{model}-{version}"),
        };
        if !leads_there {
            problems.push(format!("the route for {model} {version} leads to {subset:?} of {service}"));
        }
        routes.insert((model, version));
    }
    let wanted: BTreeSet<_> = wanted.into_iter().filter(|(model, _)| !delegated.contains(model)).collect();
    if routes != wanted {
        problems.push(format!("routes are {routes:?}, pluginConfig has {wanted:?}"));
    }
    if !is_rest_routed {
        problems.push("no route takes what the others do not".into());
    }
    if set.of_kind("VirtualService").next().is_some() {
        let mut subsets = BTreeSet::new();
        for rule in set.of_kind("DestinationRule") {
            let model = service(&rule.value["spec"]["host"]);
            subsets.extend(names(&rule.value["spec"]["subsets"]).into_iter().map(|name| (model.clone(), name)));
        }
        if subsets != wanted {
            problems.push(format!("subsets are {subsets:?}, pluginConfig has {wanted:?}"));
        }
    }
    problems
}

/// Models whose route leads to another VirtualService, which is that of a Canary.
fn delegated(set: &Set) -> BTreeSet<String> {
    let canaries: Vec<_> = set.of_kind("Canary").map(|canary| &canary.value["metadata"]).collect();
    let rules = set.of_kind("VirtualService").flat_map(|service| list(&service.value["spec"]["http"]));
    let model = |rule: &Value| {
        let is_there =
            canaries.iter().any(|own| ["name", "namespace"].iter().all(|key| own[key] == rule["delegate"][key]));
        rule["match"][0]["headers"]["x-penstock-model"]["exact"].as_str().filter(|_| is_there).map(str::to_owned)
    };
    rules.filter_map(model).collect()
}

/// A route: the headers that it asks for, and the Service or InferencePool and the subset that it leads to.
pub struct Route {
    pub model: Option<String>,
    pub version: Option<String>,
    pub service: String,
    pub subset: Option<String>,
}

/// The routes of every VirtualService and HTTPRoute, in their order.
pub fn routes_of(set: &Set) -> Vec<Route> {
    let owned = |value: &Value| value.as_str().map(str::to_owned);
    let mut routes = Vec::new();
    for rule in set.of_kind("VirtualService").flat_map(|service| list(&service.value["spec"]["http"])) {
        let headers = &rule["match"][0]["headers"];
        let destination = &rule["route"][0]["destination"];
        routes.push(Route {
            model: owned(&headers["x-penstock-model"]["exact"]),
            version: owned(&headers["x-penstock-version"]["exact"]),
            service: service(&destination["host"]),
            subset: owned(&destination["subset"]),
        });
    }
    for rule in set.of_kind("HTTPRoute").flat_map(|route| list(&route.value["spec"]["rules"])) {
        let headers = list(&rule["matches"][0]["headers"]);
        let header = |name: &str| headers.iter().find(|h| h["name"] == name).and_then(|h| owned(&h["value"]));
        routes.push(Route {
            model: header("x-penstock-model"),
            version: header("x-penstock-version"),
            service: service(&rule["backendRefs"][0]["name"]),
            subset: None,
        });
    }
    routes
}

/// The Service of a host name.
fn service(host: &Value) -> String {
    host.as_str().unwrap_or("").split('.').next().unwrap_or("").to_owned()
}

/// Every series that a query asks for exists, with the labels and the values that it asks for.
pub fn series(set: &Set) -> Problems {
    let rules: Vec<_> = rules(set).collect();
    let recorded: BTreeSet<_> = rules.iter().filter_map(|rule| rule["record"].as_str()).collect();
    let expressions = rules.iter().filter_map(|rule| rule["expr"].as_str());
    let triggers = set.of_kind("ScaledObject").flat_map(|object| list(&object.value["spec"]["triggers"]));
    let scaled = triggers.map(|trigger| &trigger["metadata"]["query"]);
    let queries = expressions.chain(scaled.filter_map(Value::as_str)).map(str::to_owned);
    let gates = gates::queries(set).into_iter().map(|(_, _, query)| gates::filled(&query));
    asked(queries.chain(set.panels()).chain(gates), &recorded)
}

/// The same of these queries, where these are the names that rules record.
fn asked(queries: impl Iterator<Item = String>, recorded: &BTreeSet<&str>) -> Problems {
    let mut problems = Problems::new();
    for query in queries {
        let asked = promql::names(&query);
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
            if !contract::is_label(label) {
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
        if !["page", "critical", "warning", "info"].map(Value::from).contains(&alert["labels"]["severity"]) {
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

/// Each runbook says what the alert means, a query that confirms it, which some metric answers, what to do first, and who is to know.
pub fn runbook_parts(set: &Set, runbooks: &str) -> Problems {
    let recorded: BTreeSet<_> = rules(set).filter_map(|rule| rule["record"].as_str()).collect();
    let mut problems = Problems::new();
    for section in runbooks.split("\n## ").skip(1) {
        let name = section.lines().next().unwrap_or_default();
        for parts in
            [&["**What it means.**"][..], &["**Confirm** with `"], &["**Look at**", "**Do**"], &["**Escalate** to "]]
        {
            if !parts.iter().any(|part| section.contains(part)) {
                problems.push(format!("the runbook {name} lacks {parts:?}"));
            }
        }
        let query = section.split("**Confirm** with `").nth(1).and_then(|rest| rest.split('`').next());
        problems.extend(
            asked(query.map(str::to_owned).into_iter(), &recorded)
                .into_iter()
                .map(|problem| format!("{name}: {problem}")),
        );
    }
    problems
}

/// The constants in the alerts are those of the configuration.
pub fn alert_constants(set: &Set) -> Problems {
    let mut problems = Problems::new();
    let near = alert_expression(set, "PenstockNearCeiling");
    for model in configured_models(set) {
        let Some(ceiling) = model["pending"]["ceiling"].as_u64() else { continue };
        let wanted = format!("{{model={}}})) > {}", model["name"], ceiling * 9 / 10);
        if !near.lines().any(|line| line.trim().ends_with(&wanted)) {
            problems.push(format!("PenstockNearCeiling does not ask for {wanted}: {near}"));
        }
    }
    problems
}

/// What the access log's provider writes is the record that Penstock leaves, and the Telemetry turns that provider on.
pub fn access_log(set: &Set) -> Problems {
    let providers = &set.istiod["meshConfig"]["extensionProviders"];
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
    list(&set.config()["models"])
}

pub fn model_named<'a>(set: &'a Set, name: &str) -> &'a Value {
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
