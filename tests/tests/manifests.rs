//! The manifests under `istio/` are what the chart makes of its examples, and hold together: every copy agrees, every
//! series that a query asks for is one that the filters export, and every resource is what its definition allows.
//!
//! `UPDATE_MANIFESTS=1` renders them anew. That takes Helm (`PENSTOCK_HELM`, or on the `PATH`). Two more things are not in
//! the repository: `PENSTOCK_CRDS` names folders of custom resource definitions, and promtool (Debian package
//! `prometheus`, or `PENSTOCK_PROMTOOL`) runs the rules' unit tests.

#[path = "manifests/asked.rs"]
mod asked;
#[path = "manifests/chart.rs"]
mod chart;
#[path = "manifests/checks.rs"]
mod checks;
#[path = "manifests/contract.rs"]
mod contract;
#[path = "manifests/crds.rs"]
mod crds;
#[path = "manifests/demand.rs"]
mod demand;
#[path = "manifests/envoy_gateway.rs"]
mod envoy_gateway;
#[path = "manifests/gates.rs"]
mod gates;
#[path = "manifests/guide.rs"]
mod guide;
#[path = "manifests/oracle.rs"]
mod oracle;
#[path = "manifests/panels.rs"]
mod panels;
#[path = "manifests/promql.rs"]
mod promql;
#[path = "manifests/render.rs"]
mod render;
#[path = "manifests/retries.rs"]
mod retries;
#[path = "manifests/rollouts.rs"]
mod rollouts;
#[path = "manifests/scaling.rs"]
mod scaling;
#[path = "manifests/set.rs"]
mod set;
#[path = "manifests/tools.rs"]
mod tools;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use serde_json::{Value, json};

use checks::Problems;
use render::{Helm, RENDERED};
use set::{SETS, Set, reached, root};

#[test]
fn the_sets_are_what_the_chart_makes_of_its_examples() {
    let Some(helm) = helm("the_sets_are_what_the_chart_makes_of_its_examples") else { return };
    let mut differ = Vec::new();
    for rendered in &RENDERED {
        let (folder, files) = (root().join(rendered.folder), helm.folder(rendered));
        if std::env::var_os("UPDATE_MANIFESTS").is_some() {
            render::write(&folder, &files);
        }
        differ.extend(render::differences(&folder, &files));
    }
    assert!(differ.is_empty(), "out of date, run this test with UPDATE_MANIFESTS=1: {differ:#?}");
}

#[test]
fn every_file_is_reached() {
    for rendered in &RENDERED {
        let folder = root().join(rendered.folder);
        let reached = reached(&folder).unwrap();
        for file in fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()) {
            // Unit tests and runbooks are not for the cluster.
            let is_test = file.file_name().is_some_and(|name| name.to_string_lossy().starts_with("tests"));
            let is_applied = file.extension().is_some_and(|ending| ending == "yaml") && !is_test;
            assert!(!is_applied || reached.contains(&file), "no kustomization names {}", file.display());
        }
    }
    let folders: BTreeSet<_> = RENDERED.iter().map(|rendered| rendered.folder).collect();
    assert_eq!(folders, SETS.into_iter().flatten().copied().collect());
}

#[test]
fn no_set_applies_both_kinds_of_plugin_and_each_is_complete() {
    for (folders, plugin, route) in [
        (SETS[0], "WasmPlugin", "VirtualService"),
        (SETS[1], "TrafficExtension", "VirtualService"),
        (SETS[2], "TrafficExtension", "HTTPRoute"),
    ] {
        let set = Set::load(folders);
        let plugins: Vec<_> = ["WasmPlugin", "TrafficExtension"].map(|kind| set.of_kind(kind).count()).into();
        assert_eq!(plugins.iter().sum::<usize>(), 1, "{folders:?}");
        for kind in [plugin, route, "EnvoyFilter", "Gateway", "Telemetry", "PodMonitor", "PrometheusRule"] {
            assert!(set.of_kind(kind).next().is_some(), "{kind} in {folders:?}");
        }
    }
}

#[test]
fn the_manifests_agree() {
    for folders in SETS {
        let set = Set::load(folders);
        let problems: Problems =
            CHECKS.iter().flat_map(|(_, check)| check(&set)).chain(checks::alerts(&set, &runbooks())).collect();
        let problems = [problems, checks::runbook_parts(&set, &runbooks())].concat();
        assert!(problems.is_empty(), "{folders:?}: {problems:#?}");
    }
}

/// A check and its name.
type Check = (&'static str, fn(&Set) -> Problems);

const CHECKS: [Check; 15] = [
    ("configuration", checks::configuration),
    ("configuration_copies", checks::configuration_copies),
    ("strangers", checks::strangers),
    ("hosts", checks::hosts),
    ("paths", checks::paths),
    ("module_copies", checks::module_copies),
    ("filter_names", checks::filter_names),
    ("stat_tags", checks::stat_tags),
    ("versions", checks::versions),
    ("retries", retries::retries),
    ("rollouts", rollouts::rollouts),
    ("scaling", scaling::scaling),
    ("series", checks::series),
    ("alert_constants", checks::alert_constants),
    ("access_log", checks::access_log),
];

/// Each edit breaks the set in a way that somebody will one day break it, and the named check has to see it.
#[test]
fn every_check_sees_the_mistake_that_it_is_for() {
    let added = "/spec/configPatches/0/patch/value/typed_config/config";
    let trigger = "/spec/triggers/0/metadata";
    let config = "/spec/wasm/pluginConfig";
    let down = "/spec/advanced/horizontalPodAutoscalerConfig/behavior/scaleDown";
    let steps = "/spec/strategy/canary/steps";
    let istio = "/spec/strategy/canary/trafficRouting/istio";
    let edits: [(&str, &str, String, Value); 58] = [
        ("configuration", "WasmPlugin", "/spec/pluginConfig/limits/0/every".into(), json!("1x")),
        ("configuration", "TrafficExtension", format!("{config}/models/0/output"), json!({"expected": 256})),
        ("configuration_copies", "TrafficExtension", format!("{config}/limits/0/tokens"), json!(1)),
        ("configuration_copies", "EnvoyFilter", format!("{added}/configuration/value"), json!("{}")),
        ("configuration_copies", "EnvoyFilter", format!("{added}/configuration/value"), json!("models: []")),
        ("strangers", "WasmPlugin", "/spec/pluginConfig/limits/2/match/tenant".into(), json!("acme")),
        ("hosts", "VirtualService", "/spec/hosts".into(), json!(["llm.example.com", "other.example.com"])),
        ("hosts", "HTTPRoute", "/spec/hostnames".into(), json!(["other.example.com"])),
        ("hosts", "Gateway", "/spec/servers/0/hosts".into(), json!(["*"])),
        ("paths", "EnvoyFilter", "/spec/configPatches/5/patch/value/typed_config/merge_slashes".into(), json!(false)),
        ("module_copies", "TrafficExtension", "/spec/wasm/url".into(), json!("oci://elsewhere")),
        ("module_copies", "EnvoyFilter", format!("{added}/failure_policy"), json!("FAIL_CLOSED")),
        ("module_copies", "EnvoyFilter", "/spec/workloadSelector/labels".into(), json!({"app": "other"})),
        ("module_copies", "RequestAuthentication", "/spec".into(), json!({"jwtRules": []})),
        ("module_copies", "AuthorizationPolicy", "/spec/targetRefs/0/name".into(), json!("other")),
        ("filter_names", "WasmPlugin", "/metadata/namespace".into(), json!("elsewhere")),
        ("filter_names", "TrafficExtension", "/metadata/name".into(), json!("other")),
        ("filter_names", "EnvoyFilter", "/spec/configPatches/2/patch/value/name".into(), json!("other")),
        ("filter_names", "EnvoyFilter", "/spec/priority".into(), json!(0)),
        ("filter_names", "EnvoyFilter", format!("{added}/allow_on_headers_stop_iteration"), json!(false)),
        ("versions", "VirtualService", "/spec/http/0/match/0/headers/x-penstock-version/exact".into(), json!("canary")),
        ("versions", "VirtualService", "/spec/http/0/route/0/destination/subset".into(), json!("canary")),
        ("versions", "HTTPRoute", "/spec/rules/0/matches/0/headers/0/value".into(), json!("other")),
        ("versions", "DestinationRule", "/spec/subsets/1/name".into(), json!("next")),
        ("retries", "VirtualService", "/spec/http/0/retries/retryOn".into(), json!("connect-failure,reset")),
        ("retries", "VirtualService", "/spec/http/0/retries/attempts".into(), json!(2)),
        ("retries", "VirtualService", "/spec/http/0/retries".into(), json!({"attempts": 1, "perTryTimeout": "30s"})),
        ("retries", "DestinationRule", "/spec/trafficPolicy/retryBudget".into(), json!({})),
        ("retries", "DestinationRule", "/spec/trafficPolicy/outlierDetection/maxEjectionPercent".into(), json!(100)),
        ("retries", "Canary", "/spec/service/retries/retryOn".into(), json!("5xx")),
        ("scaling", "ScaledObject", format!("{trigger}/query"), json!("avg(penstock_pending_tokens{model=\"chat\"})")),
        ("scaling", "ScaledObject", format!("{trigger}/threshold"), json!("100")),
        ("scaling", "ScaledObject", format!("{trigger}/ignoreNullValues"), json!("true")),
        ("scaling", "TrafficExtension", format!("{config}/models/0/replica/prefillTokensPerSecond"), json!(9000)),
        ("scaling", "ScaledObject", "/spec/cooldownPeriod".into(), json!(600)),
        ("scaling", "ScaledObject", "/spec/maxReplicaCount".into(), json!(17)),
        ("scaling", "ScaledObject", "/spec/fallback/failureThreshold".into(), json!(3)),
        ("scaling", "ScaledObject", "/spec/fallback/replicas".into(), json!(0)),
        ("scaling", "ScaledObject", format!("{down}/policies/0/value"), json!(2)),
        ("series", "ScaledObject", format!("{trigger}/query"), json!("sum(penstock_pending_token)")),
        ("series", "ScaledObject", format!("{trigger}/query"), json!("sum(penstock_pending_tokens{tenant=\"a\"})")),
        ("series", "ScaledObject", format!("{trigger}/query"), json!("sum(penstock_pending_tokens{phase=\"queued\"})")),
        ("rollouts", "Rollout", format!("{istio}/virtualService/routes/0"), json!("chat-stable")),
        ("rollouts", "Rollout", format!("{istio}/virtualService/name"), json!("llm")),
        ("rollouts", "Rollout", format!("{istio}/destinationRule/name"), json!("chat-small")),
        ("rollouts", "Rollout", format!("{istio}/destinationRule/canarySubsetName"), json!("next")),
        ("rollouts", "Rollout", format!("{steps}/1/setWeight"), json!(50)),
        ("rollouts", "Rollout", format!("{steps}/3/analysis/templates/0/templateName"), json!("penstock")),
        ("rollouts", "Rollout", format!("{steps}/3/analysis/args/0/name"), json!("of")),
        ("rollouts", "Rollout", "/spec/strategy/canary/analysis/args/1/value".into(), json!("stable")),
        ("rollouts", "AnalysisTemplate", "/spec/args/0/name".into(), json!("of")),
        ("rollouts", "Canary", "/spec/analysis/match/0/headers/x-penstock-version/exact".into(), json!("stable")),
        ("rollouts", "Canary", "/spec/analysis/metrics/2/templateRef/name".into(), json!("errors")),
        ("rollouts", "Canary", "/spec/analysis/metrics/2/templateVariables/minRequests".into(), json!(50)),
        ("rollouts", "Canary", "/spec/analysis/metrics/3/thresholdRange".into(), json!({})),
        ("series", "MetricTemplate", "/spec/query".into(), json!("sum(penstock_errors_total)")),
        ("alert_constants", "TrafficExtension", format!("{config}/models/0/pending/ceiling"), json!(500_000)),
        ("access_log", "Telemetry", "/spec/accessLogging/0/providers/0/name".into(), json!("other")),
    ];
    let whole = SETS.map(Set::load);
    for (name, kind, pointer, value) in edits {
        let has_it = |set: &&Set| set.of_kind(kind).next().is_some_and(|first| first.value.pointer(&pointer).is_some());
        let mut set = whole.iter().find(has_it).unwrap_or_else(|| panic!("no {kind} has {pointer}")).clone();
        *set.one_mut(kind).pointer_mut(&pointer).unwrap() = value;
        let (_, check) = CHECKS.iter().find(|(known, _)| *known == name).unwrap();
        assert!(!check(&set).is_empty(), "{name} does not see the change of {pointer} in {kind}");
    }
}

#[test]
fn stat_tags_must_be_complete_and_distinct() {
    for tags in [
        "model,version,phase,tenant,outcome,reason,limit,handling",
        "model,version,phase,tenant,outcome,reason,limit,handling,kind,mykind",
    ] {
        let mut set = Set::load(SETS[2]);
        set.gateway_pods["podAnnotations"]["sidecar.istio.io/extraStatTags"] = json!(tags);
        set.istiod["meshConfig"]["defaultConfig"]["extraStatTags"] = tags.split(',').collect();
        set.one_mut("Gateway")["spec"]["infrastructure"]["annotations"]["sidecar.istio.io/extraStatTags"] = json!(tags);
        assert_eq!(checks::stat_tags(&set).len(), 3, "{tags}");
    }
}

#[test]
fn the_dashboards_ask_for_series_that_exist() {
    let mut set = Set::load(SETS[2]);
    let names: Vec<_> = set.dashboards().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["debug.json", "executive.json", "on-call.json"]);
    let map = set.documents.iter_mut().find(|document| document.value["data"].get("debug.json").is_some());
    let board = &mut map.expect("dashboards").value["data"]["debug.json"];
    *board = json!(board.as_str().unwrap().replace("penstock_streams_total", "penstock_stream_total"));
    assert_eq!(checks::series(&set).len(), 1);
}

/// Its port is closed and it may stream for minutes, so whoever scraped it would take it for dark.
#[test]
fn a_pod_that_drains_is_no_target() {
    for folders in SETS {
        let set = Set::load(folders);
        let monitor = &set.one("PodMonitor")["spec"]["podMetricsEndpoints"][0];
        let drops = |ready: &str| {
            set::list(&monitor["relabelings"]).iter().any(|rule| {
                rule["sourceLabels"] == json!(["__meta_kubernetes_pod_ready"])
                    && rule["action"] == "drop"
                    && rule["regex"].as_str() == Some(ready)
            })
        };
        assert!(drops("false") && !drops("true") && !drops("unknown"), "{folders:?}: {monitor}");
    }
}

#[test]
fn an_alert_needs_a_runbook_and_a_runbook_an_alert() {
    let set = Set::load(SETS[0]);
    let fewer = runbooks().replace("## PenstockNearCeiling", "");
    assert_eq!(checks::alerts(&set, &fewer).len(), 1);
    let more = runbooks() + "\n## PenstockForgotten\n";
    assert_eq!(checks::alerts(&set, &more).len(), 1);
    for (part, other) in [
        ("**Escalate** to whoever can give GPUs.", ""),
        ("**Confirm** with `model:penstock_backlog_seconds`", "**Confirm** with `model:penstock_backlog_minutes`"),
        (
            "**Confirm** with `model:penstock_backlog_seconds`",
            "**Confirm** with `penstock_pending_tokens{tenant=\"a\"}`",
        ),
    ] {
        let spoilt = runbooks().replacen(part, other, 1);
        assert_eq!(checks::runbook_parts(&set, &spoilt).len(), 1, "{part}");
    }
}

#[test]
fn queries_are_read_as_prometheus_reads_them() {
    let names = promql::names(
        r#"sum by (model, le) (rate(a_bucket{model="x",le=~"1|2"}[5m])) / on(pod) label_replace(b:c, "d", "$1", "e", "(.*)") > 14.4 * 0.005 and absent(f)"#,
    );
    let metrics: Vec<_> = names.selectors.iter().map(|selector| selector.metric.as_str()).collect();
    assert_eq!(metrics, ["a_bucket", "b:c", "f"]);
    assert_eq!(names.selectors[0].matchers, [("model".into(), "x".into()), ("le".into(), "1|2".into())]);
    assert_eq!(names.grouping, ["model", "le", "pod"]);
}

#[test]
fn every_resource_is_what_its_definition_allows() {
    let Some(schemas) = schemas("every_resource_is_what_its_definition_allows") else { return };
    for folders in SETS {
        let problems = schemas.problems_of(&Set::load(folders));
        assert!(problems.is_empty(), "{problems:#?}");
    }
}

/// The validator of the test above can fail: on a field that nobody knows, on a wrong type, on a value outside of an
/// enumeration.
#[test]
fn a_spoilt_resource_is_refused() {
    let Some(schemas) = schemas("a_spoilt_resource_is_refused") else { return };
    let edits = [
        ("WasmPlugin", "/spec", "allowOnHeadersStopIteration", json!(true)),
        ("WasmPlugin", "/spec", "priority", json!("high")),
        ("TrafficExtension", "/spec/wasm", "failStrategy", json!("FAIL_RETRY")),
        ("TrafficExtension", "/spec", "url", json!("oci://misplaced")),
        ("EnvoyFilter", "/spec/configPatches/0", "applyto", json!("CLUSTER")),
        ("VirtualService", "/spec/http/0", "timeOut", json!("1s")),
        ("ScaledObject", "/spec", "maxReplicaCount", json!("16")),
        ("ScaledObject", "/spec/fallback", "replica", json!(1)),
        ("ScaledObject", "/spec/triggers/0/metadata", "threshold", json!(24000)),
        ("PodMonitor", "/spec/podMetricsEndpoints/0", "path", json!(["/stats"])),
        ("PrometheusRule", "/spec/groups/0/rules/0", "severity", json!("critical")),
        ("Telemetry", "/spec", "accessLog", json!([])),
        ("HTTPRoute", "/spec/rules/0/matches/0/headers/0", "exact", json!("chat")),
        ("Rollout", "/spec/strategy/canary/steps/0", "setWeights", json!(5)),
        ("AnalysisTemplate", "/spec/metrics/0", "successCriterion", json!("true")),
        ("Canary", "/spec/analysis", "stepweight", json!(5)),
        ("MetricTemplate", "/spec", "querry", json!("1")),
        ("RequestAuthentication", "/spec/jwtRules/0", "jwksURI", json!("https://issuer.example.com")),
    ];
    let whole = SETS.map(Set::load);
    for (kind, pointer, key, value) in edits {
        let mut set = whole.iter().find(|set| set.of_kind(kind).next().is_some()).expect(kind).clone();
        let resource = set.one_mut(kind);
        assert_eq!(schemas.problems(resource), [""; 0]);
        resource.pointer_mut(pointer).unwrap_or_else(|| panic!("{kind} has no {pointer}"))[key] = value.clone();
        assert!(!schemas.problems(resource).is_empty(), "{kind} {pointer}/{key} = {value} was accepted");
    }
}

#[test]
fn promtool_accepts_the_rules_and_their_unit_tests_pass() {
    let name = "promtool_accepts_the_rules_and_their_unit_tests_pass";
    let Some(promtool) = tools::program("promtool", "PENSTOCK_PROMTOOL") else {
        return tools::skip_or_fail(name, "no promtool; install Debian's package prometheus, or set PENSTOCK_PROMTOOL");
    };
    let set = Set::load(SETS[0]);
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("rules");
    fs::create_dir_all(&folder).unwrap();
    // JSON is YAML.
    fs::write(folder.join("rules.yaml"), set.one("PrometheusRule")["spec"].to_string()).unwrap();
    tools::run(Command::new(&promtool).args(["check", "rules", "rules.yaml"]).current_dir(&folder));
    // Days of evaluations each, on one core.
    thread::scope(|scope| {
        for tests in TESTS {
            fs::copy(root().join("monitoring").join(tests), folder.join(tests)).unwrap();
            let mut test = Command::new(&promtool);
            test.args(["test", "rules", tests]).current_dir(&folder);
            scope.spawn(move || tools::run(&mut test));
        }
    });
}

/// Files of unit tests of the rules.
const TESTS: [&str; 2] = ["tests.yaml", "tests-objectives.yaml"];

#[test]
fn every_alert_has_unit_tests_in_which_it_fires_and_does_not() {
    let set = Set::load(SETS[0]);
    let tests = TESTS.map(|tests| set::parse(&root().join("monitoring").join(tests)).remove(0));
    let tests = tests.iter().flat_map(|tests| set::list(&tests["tests"]));
    let cases = tests.flat_map(|test| set::list(&test["alert_rule_test"]));
    let (silent, fires): (Vec<_>, Vec<_>) = cases.partition(|case| set::list(&case["exp_alerts"]).is_empty());
    let named = |cases: Vec<&Value>| -> BTreeSet<String> {
        cases.iter().filter_map(|case| case["alertname"].as_str()).map(str::to_owned).collect()
    };
    let alerts = checks::rules(&set).filter_map(|rule| rule["alert"].as_str()).map(str::to_owned);
    let alerts: BTreeSet<String> = alerts.collect();
    assert_eq!(named(fires), alerts);
    assert_eq!(named(silent), alerts);
}

#[test]
fn kustomize_builds_every_folder() {
    let name = "kustomize_builds_every_folder";
    let build = match (tools::program("kustomize", "PENSTOCK_KUSTOMIZE"), tools::program("kubectl", "PENSTOCK_KUBECTL"))
    {
        (Some(kustomize), _) => vec![kustomize.into_os_string(), "build".into()],
        (None, Some(kubectl)) => vec![kubectl.into_os_string(), "kustomize".into()],
        (None, None) => return tools::skip(name, "neither kustomize nor kubectl on the PATH"),
    };
    for rendered in &RENDERED {
        let folder = root().join(rendered.folder);
        let resources = Set::load(std::slice::from_ref(&rendered.folder)).documents.len();
        let built = tools::run(Command::new(&build[0]).args(&build[1..]).arg(folder));
        let kinds = built.lines().filter(|line| line.starts_with("kind: ")).count();
        assert_eq!(kinds, resources, "{}", rendered.folder);
    }
}

/// The definitions, if `PENSTOCK_CRDS` says where they are, as `PATH` says where programs are. A folder that is named but missing is an error where tools
/// are required.
fn schemas(test: &str) -> Option<&'static crds::Schemas> {
    let Some(folders) = std::env::var_os("PENSTOCK_CRDS") else {
        tools::skip(
            test,
            "PENSTOCK_CRDS names no folder of custom resource definitions; `cargo xtask test --cluster` does",
        );
        return None;
    };
    let folders: Vec<PathBuf> = std::env::split_paths(&folders).collect();
    if let Some(folder) = folders.iter().find(|folder| !folder.is_dir()) {
        tools::skip_or_fail(test, &format!("PENSTOCK_CRDS: {} is not a folder", folder.display()));
        return None;
    }
    Some(crds::Schemas::shared(&folders))
}

fn helm(test: &str) -> Option<Helm> {
    let helm = Helm::find();
    if helm.is_none() {
        tools::skip(test, "no Helm; put it on the PATH, or set PENSTOCK_HELM; `cargo xtask test --cluster` builds one");
    }
    helm
}

fn runbooks() -> String {
    fs::read_to_string(root().join("monitoring/runbooks.md")).unwrap()
}
