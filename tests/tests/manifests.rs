//! The manifests under `istio/` hold together: every file is reached, every copy agrees, every series that a query asks
//! for is one that the filters export, and every resource is what its definition allows.
//!
//! Two tests lean on things that are not in the repository: `PENSTOCK_CRDS` names a folder of custom resource
//! definitions, and promtool (Debian package `prometheus`, or `PENSTOCK_PROMTOOL`) runs the rules' unit tests.

#[path = "manifests/checks.rs"]
mod checks;
#[path = "manifests/contract.rs"]
mod contract;
#[path = "manifests/crds.rs"]
mod crds;
#[path = "manifests/promql.rs"]
mod promql;
#[path = "manifests/set.rs"]
mod set;
#[path = "manifests/tools.rs"]
mod tools;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use serde_json::{Value, json};

use checks::Problems;
use set::{Set, parse, reached};

/// Folders that are applied: `kubectl apply -k`.
const APPLIED: [&str; 4] = ["mesh/wasmplugin", "mesh/trafficextension", "autoscaling", "monitoring"];
/// YAML that is not for the cluster: Helm values and the rules' unit tests.
const NOT_APPLIED: [&str; 2] = ["mesh/values-istiod.yaml", "monitoring/tests.yaml"];

#[test]
fn every_file_is_reached_and_every_resource_exists() {
    let set = Set::load();
    let mut found: BTreeSet<PathBuf> = BTreeSet::new();
    for folder in APPLIED {
        found.extend(reached(&set.root.join(folder).join("kustomization.yaml")).unwrap());
    }
    for file in NOT_APPLIED {
        assert!(found.insert(fs::canonicalize(set.root.join(file)).unwrap()), "{file} is applied");
    }
    let all: BTreeSet<_> = set.documents.iter().map(|d| fs::canonicalize(set.root.join(&d.path)).unwrap()).collect();
    let orphans: Vec<_> = all.difference(&found).collect();
    assert!(orphans.is_empty(), "no kustomization names {orphans:?}");
}

#[test]
fn no_folder_applies_both_kinds_of_plugin_and_each_brings_the_base() {
    let set = Set::load();
    for (folder, own, other) in [
        ("mesh/wasmplugin", "WasmPlugin", "TrafficExtension"),
        ("mesh/trafficextension", "TrafficExtension", "WasmPlugin"),
    ] {
        let files = reached(&set.root.join(folder).join("kustomization.yaml")).unwrap();
        let kinds: Vec<_> = files.iter().flat_map(|file| parse(file)).map(|d| d["kind"].clone()).collect();
        for (kind, wanted) in [(own, 1), (other, 0), ("EnvoyFilter", 1), ("VirtualService", 1)] {
            assert_eq!(kinds.iter().filter(|k| *k == kind).count(), wanted, "{kind} in {folder}");
        }
    }
}

#[test]
fn the_manifests_agree() {
    let set = Set::load();
    let runbooks = runbooks(&set);
    let problems: Problems =
        CHECKS.iter().flat_map(|(_, check)| check(&set)).chain(checks::alerts(&set, &runbooks)).collect();
    assert!(problems.is_empty(), "{problems:#?}");
}

/// A check and its name.
type Check = (&'static str, fn(&Set) -> Problems);

const CHECKS: [Check; 13] = [
    ("configuration", checks::configuration),
    ("configuration_copies", checks::configuration_copies),
    ("strangers", checks::strangers),
    ("hosts", checks::hosts),
    ("mesh", checks::mesh),
    ("module_copies", checks::module_copies),
    ("filter_names", checks::filter_names),
    ("stat_tags", checks::stat_tags),
    ("versions", checks::versions),
    ("scaling", checks::scaling),
    ("series", checks::series),
    ("alert_constants", checks::alert_constants),
    ("access_log", checks::access_log),
];

/// Each edit breaks the set in a way that somebody will one day break it, and the named check has to see it.
#[test]
fn every_check_sees_the_mistake_that_it_is_for() {
    let added = "/spec/configPatches/0/patch/value/typed_config/config";
    let trigger = "/spec/triggers/0/metadata";
    let edits: [(&str, &str, String, Value); 26] = [
        ("configuration", "WasmPlugin", "/spec/pluginConfig/limits/0/every".into(), json!("1x")),
        ("configuration", "WasmPlugin", "/spec/pluginConfig/models/0/output".into(), json!({"expected": 256})),
        ("configuration_copies", "TrafficExtension", "/spec/wasm/pluginConfig/limits/0/tokens".into(), json!(1)),
        ("configuration_copies", "EnvoyFilter", format!("{added}/configuration/value"), json!("{}")),
        ("configuration_copies", "EnvoyFilter", format!("{added}/configuration/value"), json!("models: []")),
        ("strangers", "WasmPlugin", "/spec/pluginConfig/limits/2/match/tenant".into(), json!("acme")),
        ("hosts", "VirtualService", "/spec/hosts".into(), json!(["llm.example.com", "other.example.com"])),
        ("hosts", "Gateway", "/spec/servers/0/hosts".into(), json!(["*"])),
        ("module_copies", "TrafficExtension", "/spec/wasm/url".into(), json!("oci://elsewhere")),
        ("module_copies", "EnvoyFilter", format!("{added}/failure_policy"), json!("FAIL_CLOSED")),
        ("module_copies", "EnvoyFilter", "/spec/workloadSelector/labels".into(), json!({"app": "other"})),
        ("filter_names", "WasmPlugin", "/metadata/namespace".into(), json!("elsewhere")),
        ("filter_names", "TrafficExtension", "/metadata/name".into(), json!("other")),
        ("filter_names", "EnvoyFilter", "/spec/configPatches/2/patch/value/name".into(), json!("other")),
        ("filter_names", "EnvoyFilter", format!("{added}/allow_on_headers_stop_iteration"), json!(false)),
        ("versions", "VirtualService", "/spec/http/0/match/0/headers/x-penstock-version/exact".into(), json!("stable")),
        ("versions", "VirtualService", "/spec/http/0/route/0/destination/subset".into(), json!("stable")),
        ("versions", "DestinationRule", "/spec/subsets/1/name".into(), json!("next")),
        ("scaling", "ScaledObject", format!("{trigger}/query"), json!("avg(penstock_pending_tokens{model=\"chat\"})")),
        ("scaling", "ScaledObject", format!("{trigger}/threshold"), json!("100")),
        ("scaling", "ScaledObject", format!("{trigger}/ignoreNullValues"), json!("true")),
        ("series", "ScaledObject", format!("{trigger}/query"), json!("sum(penstock_pending_token)")),
        ("series", "ScaledObject", format!("{trigger}/query"), json!("sum(penstock_pending_tokens{tenant=\"a\"})")),
        ("series", "ScaledObject", format!("{trigger}/query"), json!("sum(penstock_pending_tokens{phase=\"queued\"})")),
        ("alert_constants", "WasmPlugin", "/spec/pluginConfig/models/0/pending/ceiling".into(), json!(500_000)),
        ("access_log", "Telemetry", "/spec/accessLogging/0/providers/0/name".into(), json!("other")),
    ];
    let whole = Set::load();
    for (name, kind, pointer, value) in edits {
        let mut set = whole.clone();
        let place = set.one_mut(kind).pointer_mut(&pointer).unwrap_or_else(|| panic!("{kind} has no {pointer}"));
        *place = value;
        let (_, check) = CHECKS.iter().find(|(known, _)| *known == name).unwrap();
        assert!(!check(&set).is_empty(), "{name} does not see the change of {pointer} in {kind}");
    }
}

#[test]
fn stat_tags_must_be_complete_and_distinct() {
    for tags in [
        json!(["model", "version", "phase", "tenant", "outcome", "reason", "limit", "handling"]),
        json!(["model", "version", "phase", "tenant", "outcome", "reason", "limit", "handling", "kind", "mykind"]),
    ] {
        let mut set = Set::load();
        let values = set.documents.iter_mut().find(|d| d.path == Path::new("mesh/values-istiod.yaml")).unwrap();
        values.value["meshConfig"]["defaultConfig"]["extraStatTags"] = tags.clone();
        assert_eq!(checks::stat_tags(&set).len(), 1, "{tags}");
    }
}

#[test]
fn the_dashboard_asks_for_series_that_exist() {
    let mut set = Set::load();
    assert!(set::list(&set.dashboard["panels"]).len() > 5);
    set.dashboard["panels"][0]["targets"][0]["expr"] = json!("sum by (model) (penstock_pending_token)");
    assert_eq!(checks::series(&set).len(), 1);
}

#[test]
fn an_alert_needs_a_runbook_and_a_runbook_an_alert() {
    let set = Set::load();
    let fewer = runbooks(&set).replace("## PenstockNearCeiling", "");
    assert_eq!(checks::alerts(&set, &fewer).len(), 1);
    let more = runbooks(&set) + "\n## PenstockForgotten\n";
    assert_eq!(checks::alerts(&set, &more).len(), 1);
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
    let set = Set::load();
    let problems: Vec<_> = set
        .resources()
        .flat_map(|resource| {
            schemas.problems(&resource.value).into_iter().map(|p| format!("{}: {p}", resource.title()))
        })
        .collect();
    assert!(problems.is_empty(), "{problems:#?}");
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
    ];
    let whole = Set::load();
    for (kind, pointer, key, value) in edits {
        let mut set = whole.clone();
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
    let set = Set::load();
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("rules");
    fs::create_dir_all(&folder).unwrap();
    // JSON is YAML.
    fs::write(folder.join("rules.yaml"), set.one("PrometheusRule")["spec"].to_string()).unwrap();
    fs::copy(set.root.join("monitoring/tests.yaml"), folder.join("tests.yaml")).unwrap();
    tools::run(Command::new(&promtool).args(["check", "rules", "rules.yaml"]).current_dir(&folder));
    tools::run(Command::new(&promtool).args(["test", "rules", "tests.yaml"]).current_dir(&folder));
}

#[test]
fn every_alert_has_a_unit_test_in_which_it_fires() {
    let set = Set::load();
    let tests = set.file("monitoring/tests.yaml");
    let cases = set::list(&tests["tests"]).iter().flat_map(|test| set::list(&test["alert_rule_test"]));
    let fired: BTreeSet<_> = cases
        .filter(|case| !set::list(&case["exp_alerts"]).is_empty())
        .filter_map(|case| case["alertname"].as_str())
        .collect();
    let alerts: BTreeSet<_> = checks::rules(&set).filter_map(|rule| rule["alert"].as_str()).collect();
    assert_eq!(fired, alerts);
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
    let set = Set::load();
    for folder in APPLIED {
        let files = reached(&set.root.join(folder).join("kustomization.yaml")).unwrap();
        let documents: Vec<_> = files.iter().flat_map(|file| parse(file)).collect();
        let resources = documents.iter().filter(|d| d["kind"] != "Kustomization").count();
        let generated: usize = documents.iter().map(|d| set::list(&d["configMapGenerator"]).len()).sum();
        let built = tools::run(Command::new(&build[0]).args(&build[1..]).arg(set.root.join(folder)));
        let kinds = built.lines().filter(|line| line.starts_with("kind: ")).count();
        assert_eq!(kinds, resources + generated, "{folder}");
    }
}

/// The definitions for the kinds in use, if `PENSTOCK_CRDS` says where they are. A folder that is named but missing is
/// an error where tools are required.
fn schemas(test: &str) -> Option<&'static crds::Schemas> {
    let Some(folder) = std::env::var_os("PENSTOCK_CRDS").map(PathBuf::from) else {
        tools::skip(test, "PENSTOCK_CRDS names no folder of custom resource definitions");
        return None;
    };
    if !folder.is_dir() {
        tools::skip_or_fail(test, &format!("PENSTOCK_CRDS: {} is not a folder", folder.display()));
        return None;
    }
    // Megabytes of YAML: read once for all tests.
    static SCHEMAS: OnceLock<crds::Schemas> = OnceLock::new();
    Some(SCHEMAS.get_or_init(|| {
        let set = Set::load();
        let used: BTreeSet<_> =
            set.resources().map(|r| (r.value["apiVersion"].as_str().unwrap_or(""), r.kind())).collect();
        crds::Schemas::load(&folder, &|api, kind| used.contains(&(api, kind)))
    }))
}

fn runbooks(set: &Set) -> String {
    fs::read_to_string(set.root.join("monitoring/runbooks.md")).unwrap()
}
