//! The chart for values that no example has: what it makes of them holds together as well, and what it cannot make it refuses, by name.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use super::render::{printed, resources};
use super::set::{SETS, Set, root};
use super::{CHECKS, checks, demand, helm, runbooks, schemas, tools};

/// What is laid over `two-models.yaml`, and the checks that do not apply then.
const VARIANTS: [(&str, &[&str], &[&str]); 14] = [
    ("the other gateway", &["gateway.kind=\"gatewayAPI\""], &[]),
    ("the other gateway, the other plugin", &["gateway.kind=\"gatewayAPI\"", "plugin.kind=\"WasmPlugin\""], &[]),
    (
        "a pinned file, closed where it cannot be loaded",
        &["plugin.url=\"file:///etc/penstock.wasm\"", "plugin.failStrategy=\"FAIL_CLOSE\""],
        &[],
    ),
    ("a digest", &["plugin.sha256=\"246c6a889938d703aa7ba351c2a6abcbba304db0c338c25b9939a23cafb13851\""], &[]),
    (
        "another selector, TLS, tokens required",
        &[
            "gateway.selector={\"app\":\"llm\"}",
            "gateway.tlsSecret=\"llm-tls\"",
            "gateway.port=443",
            "authentication.requireToken=true",
        ],
        &[],
    ),
    ("large numbers", &["config.limits[0].tokens=123456789012", "config.limits[0].burst=123456789012"], &[]),
    (
        "models of other names, one of them for all others, not split",
        &[
            "config.models=[{\"name\":\"*\",\"tokenizer\":{\"like\":\"o200k_base\"},\"pending\":{\"perReplica\":9,\"ceiling\":1000000}},\
              {\"name\":\"gpt-4.1\",\"tokenizer\":\"o200k_base\",\"pending\":{\"perReplica\":9},\"versions\":[{\"name\":\"a\",\"weight\":1}]}]",
            "servers.models={\"*\":{\"service\":\"rest\"},\"gpt-4.1\":{\"service\":\"gpt\",\"port\":80}}",
        ],
        // These compare the names of models with those of Services.
        &["versions", "scaling", "alert_constants"],
    ),
    (
        "a version that goes to 0, other figures for one version, an authenticated Prometheus, no prediction, caches watched",
        &[
            "autoscaling.models.chat.canary={\"min\":0,\"max\":4,\"scaleDownPeriodSeconds\":30,\"coldStartSeconds\":0,\"kvCacheUtilization\":0.8}",
            "config.models[0].versions[1].replica={\"decodeTokensPerSecond\":2400}",
            "autoscaling.authentication={\"modes\":\"bearer\",\"ref\":{\"name\":\"prometheus\",\"kind\":\"ClusterTriggerAuthentication\"}}",
        ],
        &[],
    ),
    (
        "one of the models is Argo's",
        &[
            "rollouts={\"kind\":\"argo\",\"models\":{\"chat\":{\"replicas\":4,\"bakeHours\":48,\"maxCostRatio\":2}}}",
            "config.models[0].versions=[{\"name\":\"a\",\"weight\":9},{\"name\":\"b\",\"weight\":1}]",
        ],
        &[],
    ),
    ("an installation with labels", &["monitoring.labels={\"release\":\"prometheus\"}"], &[]),
    ("copies for a version that answers nobody", &COPIES, &[]),
    ("the same on the other gateway", &[COPIES[0], COPIES[1], "gateway.kind=\"gatewayAPI\""], &[]),
    (
        "weights that somebody else moves",
        &["config.models[0].versions=[{\"name\":\"stable\"},{\"name\":\"canary\"}]", "config.models[0].owns=\"pin\""],
        // A route has weights, as it is meant to.
        &["versions"],
    ),
    (
        "the same on the other gateway",
        &[
            "config.models[0].versions=[{\"name\":\"stable\"},{\"name\":\"canary\"}]",
            "config.models[0].owns=\"pin\"",
            "gateway.kind=\"gatewayAPI\"",
        ],
        &["versions"],
    ),
];

const COPIES: [&str; 2] = [
    "config.models[0].versions=[{\"name\":\"stable\",\"weight\":9},{\"name\":\"canary\",\"weight\":1},{\"name\":\"next\",\"weight\":0}]",
    "config.models[0].shadow={\"version\":\"next\",\"percent\":5}",
];

#[test]
fn the_chart_holds_together_for_other_values() {
    let Some(helm) = helm("the_chart_holds_together_for_other_values") else { return };
    let schemas = schemas("the_chart_holds_together_for_other_values");
    for (name, values, exempt) in VARIANTS {
        let set = Set::of(resources(&printed(&helm.template(&[example()], values))));
        let checks = CHECKS.iter().filter(|(check, _)| !exempt.contains(check));
        let mut problems: Vec<_> = checks.flat_map(|(_, check)| check(&set)).collect();
        problems.extend(checks::alerts(&set, &runbooks()));
        problems.extend(schemas.iter().flat_map(|schemas| schemas.problems_of(&set)));
        assert!(problems.is_empty(), "{name}: {problems:#?}");
    }
}

/// What is marked for a copy has a route in front of its version's, and whoever comes back one in front of the weights.
#[test]
fn copies_and_pins_have_routes_in_front_of_others() {
    let Some(helm) = helm("copies_and_pins_have_routes_in_front_of_others") else { return };
    let routes = |values: &[&str]| {
        let set = Set::of(resources(&printed(&helm.template(&[example()], values))));
        set.one("VirtualService")["spec"]["http"].as_array().unwrap().clone()
    };
    let names = |routes: &[serde_json::Value]| -> Vec<String> {
        let chat = routes.iter().map(|route| route["name"].as_str().unwrap().to_owned());
        chat.filter(|name| name.starts_with("chat-") && !name.starts_with("chat-small")).collect()
    };
    let copied = routes(&COPIES);
    assert_eq!(names(&copied), ["chat-stable-copied", "chat-stable", "chat-canary-copied", "chat-canary", "chat-next"]);
    assert_eq!(copied[0]["mirrors"][0]["destination"]["subset"], "next");
    assert_eq!(copied[0]["match"][0]["headers"]["x-penstock-shadow"]["exact"], "next");
    let (_, pin, _) = VARIANTS[12];
    let pinned = routes(pin);
    assert_eq!(names(&pinned), ["chat-stable", "chat-canary", "chat-weights"]);
    let weights = pinned.iter().find(|route| route["name"] == "chat-weights").unwrap();
    let weights: Vec<_> = weights["route"].as_array().unwrap().iter().map(|to| to["weight"].as_u64()).collect();
    assert_eq!(weights, [Some(100), Some(0)]);
}

/// Argo moves the weights, and not the route by which sessions come back to the canary; Flagger would make routes of its own.
#[test]
fn weights_that_argo_moves_are_not_those_of_who_comes_back() {
    let Some(helm) = helm("weights_that_argo_moves_are_not_those_of_who_comes_back") else { return };
    let (_, pin, _) = VARIANTS[12];
    let with = |rollouts: &str| helm.template(&[example()], &[pin, &[rollouts]].concat());
    let set = Set::of(resources(&printed(&with(
        "rollouts={\"kind\":\"argo\",\"models\":{\"chat\":{\"replicas\":4,\"weight\":20}}}",
    ))));
    let canary = &set.one("Rollout")["spec"]["strategy"]["canary"];
    assert_eq!(canary["trafficRouting"]["istio"]["virtualService"]["routes"], json!(["chat-weights"]));
    assert_eq!(canary["steps"][1], json!({"setWeight": 20}));
    let routes = set.one("VirtualService")["spec"]["http"].as_array().unwrap();
    let to = |name: &str| {
        let route = routes.iter().find(|route| route["name"] == name).expect(name);
        route["route"].as_array().unwrap().iter().map(|to| to["destination"]["subset"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(
        [to("chat-canary"), to("chat-weights")],
        [vec![json!("canary")], vec![json!("stable"), json!("canary")]]
    );
    let refused = with("rollouts={\"kind\":\"flagger\",\"models\":{\"chat\":{}}}");
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && said.contains("`chat` has owns: pin"), "{said}");
}

/// Under the Gateway API what asks for more headers goes first: a version's route before the weights, and these before the rest.
#[test]
fn a_pinned_model_has_weights_in_an_httproute() {
    let Some(helm) = helm("a_pinned_model_has_weights_in_an_httproute") else { return };
    let routes = |values: &[&str]| -> Vec<serde_json::Value> {
        let set = Set::of(resources(&printed(&helm.template(&[example()], values))));
        set.of_kind("HTTPRoute").map(|route| route.value.clone()).collect()
    };
    let asked = |route: &serde_json::Value| {
        let headers = &route["spec"]["rules"][0]["matches"][0]["headers"];
        headers.as_array().map_or(0, Vec::len)
    };
    let (_, pin, _) = VARIANTS[13];
    let pinned = routes(pin);
    let named = |name: &str| pinned.iter().find(|route| route["metadata"]["name"] == *name).expect(name);
    let weights = named("llm-chat-weights");
    assert_eq!([named("llm-chat-canary"), weights, named("llm-otherwise")].map(asked), [2, 1, 0]);
    let backends = weights["spec"]["rules"][0]["backendRefs"].as_array().unwrap();
    let told = |to: &serde_json::Value| {
        let set = &to["filters"][0]["responseHeaderModifier"]["set"][0];
        (to["name"].clone(), to["weight"].clone(), set["name"].clone(), set["value"].clone())
    };
    let wanted = [("chat-stable", 100, "stable"), ("chat-canary", 0, "canary")];
    let wanted =
        wanted.map(|(name, weight, version)| (name.into(), weight.into(), "x-penstock-version".into(), version.into()));
    assert_eq!(backends.iter().map(told).collect::<Vec<_>>(), wanted);
    // Where what is pinned is every other model, the weights are for the rest.
    let all: Vec<&str> = pin
        .iter()
        .copied()
        .chain(["config.models[0].name=\"*\"", "servers.models={\"*\":{\"service\":\"any\"}}"])
        .collect();
    let names: Vec<_> = routes(&all).iter().map(|route| route["metadata"]["name"].clone()).collect();
    assert!(names.contains(&"llm-any-weights".into()) && !names.contains(&"llm-otherwise".into()), "{names:?}");
}

/// A model that takes what no other does is routed behind the others, and is `other` in metrics.
#[test]
fn the_model_for_all_others_comes_last() {
    let Some(helm) = helm("the_model_for_all_others_comes_last") else { return };
    let (_, values, _) = VARIANTS[6];
    let set = Set::of(resources(&printed(&helm.template(&[example()], values))));
    let routes = set.one("VirtualService")["spec"]["http"].as_array().unwrap();
    let names: Vec<_> = routes.iter().map(|route| route["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["gpt-a", "rest", "otherwise"]);
    assert!(
        routes[1].get("match").is_none() && routes[0]["match"][0]["headers"]["x-penstock-model"]["exact"] == "gpt-4.1"
    );
    let queries: Vec<_> =
        set.of_kind("ScaledObject").map(|o| &o.value["spec"]["triggers"][0]["metadata"]["query"]).collect();
    for (query, series) in
        queries.iter().zip(["model=\"gpt-4.1\",version=\"a\"", "model=\"other\",version=\"default\""])
    {
        let wanted = format!("sum(max by (namespace, pod, phase) (penstock_pending_tokens{{{series}}}))");
        assert!(query.as_str().is_some_and(|query| query.contains(&wanted)), "{query} has no {wanted}");
    }
}

/// What servers use of their caches: of this Deployment's pods alone, each pod once, and 0 where there is none to tell.
#[test]
fn caches_are_counted_once_for_each_pod() {
    let test = "caches_are_counted_once_for_each_pod";
    let (Some(helm), Some((promtool, _))) = (helm(test), demand::promtool(test)) else { return };
    let (_, values, _) = VARIANTS[7];
    let set = Set::of(resources(&printed(&helm.template(&[example()], values))));
    let object = set.of_kind("ScaledObject").find(|object| object.value["metadata"]["name"] == "chat-canary");
    let query = &object.expect("the canary's").value["spec"]["triggers"][1]["metadata"]["query"];
    let used = |job: &str, namespace: &str, pod: &str, share: &str| {
        let series = format!("vllm:kv_cache_usage_perc{{job={job:?},namespace={namespace:?},pod={pod:?}}}");
        json!({"series": series, "values": format!("{share} {share}")})
    };
    let all = [
        used("a", "llm", "chat-canary-5f7d9c-x2x9z", "0.5"),
        // Scraped by a second job as well, a moment later.
        used("b", "llm", "chat-canary-5f7d9c-x2x9z", "0.25"),
        used("a", "llm", "chat-canary-5f7d9c-k8s4w", "0.25"),
        // Others: another Deployment, one whose name goes on, another namespace.
        used("a", "llm", "chat-stable-5f7d9c-x2x9z", "0.5"),
        used("a", "llm", "chat-canary-large-5f7d9c-x2x9z", "0.5"),
        used("a", "else", "chat-canary-5f7d9c-x2x9z", "0.5"),
    ];
    let case = |series: &[Value], wanted: f64| {
        let sample = json!({"labels": "{}", "value": wanted});
        let asked = json!({"expr": query, "eval_time": "5s", "exp_samples": [sample]});
        json!({"interval": "5s", "input_series": series, "promql_expr_test": [asked]})
    };
    let cases = json!({"evaluation_interval": "5s", "tests": [case(&all, 0.75), case(&all[3..], 0.0)]});
    assert_eq!(demand::failures(&promtool, "caches", &cases), None);
}

/// What a version says of itself wins over the defaults, a 0 too, and what follows from it is worked out.
#[test]
fn a_version_scales_as_it_says() {
    let Some(helm) = helm("a_version_scales_as_it_says") else { return };
    let (_, values, _) = VARIANTS[7];
    let set = Set::of(resources(&printed(&helm.template(&[example()], values))));
    let object = |name: &str| {
        let found = set.of_kind("ScaledObject").find(|object| object.value["metadata"]["name"] == *name);
        found.expect(name).value["spec"].clone()
    };
    let (canary, stable) = (object("chat-canary"), object("chat-stable"));
    assert_eq!((&canary["minReplicaCount"], &stable["minReplicaCount"]), (&json!(0), &json!(1)));
    // 600 and 3 x 30 s, and one more; 600 and 15 x 120 s, and one more.
    assert_eq!((&canary["cooldownPeriod"], &stable["cooldownPeriod"]), (&json!(720), &json!(2520)));
    let query =
        |spec: &serde_json::Value, i: usize| spec["triggers"][i]["metadata"]["query"].as_str().unwrap().to_owned();
    assert!(query(&canary, 0).contains("/ 2400") && !query(&canary, 0).contains("predict_linear"));
    assert!(query(&stable, 0).contains("/ 1800") && query(&stable, 0).contains("predict_linear"));
    assert!(
        query(&canary, 1).contains("pod=~\"chat-canary-") && canary["triggers"][1]["metadata"]["threshold"] == "0.8"
    );
    for trigger in canary["triggers"].as_array().unwrap() {
        assert_eq!(trigger["metadata"]["authModes"], "bearer");
        assert_eq!(trigger["authenticationRef"]["name"], "prometheus");
    }
    assert!(stable["triggers"].as_array().unwrap().len() == 1);
}

/// Who installs it is told which versions are scaled by what is pending alone, and what to do about it.
#[test]
fn the_notes_name_what_nobody_has_measured() {
    let Some(helm) = helm("the_notes_name_what_nobody_has_measured") else { return };
    for (values, wanted) in [
        (vec![], Some("not by what arrives: chat-small-stable.")),
        (
            vec!["config.models[1].replica={\"prefillTokensPerSecond\":30000}"],
            Some("not by what arrives: chat-small-stable."),
        ),
        (vec!["config.models[1].replica={\"prefillTokensPerSecond\":30000,\"decodeTokensPerSecond\":4000}"], None),
        (vec!["autoscaling.enabled=false"], None),
    ] {
        let said = helm.notes(&[example()], &values);
        assert_eq!(said.contains("penstock plan"), wanted.is_some(), "{values:?}: {said}");
        assert!(said.contains(wanted.unwrap_or("")), "{values:?}: {said}");
    }
}

/// Helm lays maps over one another: a default in `values.yaml` would stay beside one's own labels, and select nothing.
#[test]
fn labels_of_ones_own_take_the_place_of_the_usual_ones() {
    let Some(helm) = helm("labels_of_ones_own_take_the_place_of_the_usual_ones") else { return };
    let set = Set::of(resources(&printed(&helm.template(&[example()], &["gateway.selector={\"app\":\"llm\"}"]))));
    assert_eq!(set.plugin()["spec"]["selector"]["matchLabels"], json!({"app": "llm"}));
}

#[test]
fn what_is_switched_off_is_not_there() {
    let Some(helm) = helm("what_is_switched_off_is_not_there") else { return };
    let off = [
        ("envoyFilter.enabled=false", "EnvoyFilter"),
        ("routes.enabled=false", "VirtualService"),
        ("routes.enabled=false", "DestinationRule"),
        ("accessLog.enabled=false", "Telemetry"),
        ("authentication.jwtRules=[]", "RequestAuthentication"),
        ("autoscaling.enabled=false", "ScaledObject"),
        ("monitoring.enabled=false", "PodMonitor"),
        ("monitoring.enabled=false", "PrometheusRule"),
        ("gateway.create=false", "Gateway"),
    ];
    for (value, kind) in off {
        let set = Set::of(resources(&printed(&helm.template(&[example()], &[value]))));
        assert_eq!(set.of_kind(kind).count(), 0, "{kind} with {value}");
    }
}

/// The alerts and the dashboards hold to what is given, and to nothing else.
#[test]
fn objectives_are_those_that_are_given() {
    let Some(helm) = helm("objectives_are_those_that_are_given") else { return };
    let given = ["monitoring.objectives={\"answered\":0.9991,\"firstToken\":0.97,\"firstTokenMilliseconds\":10000}"];
    let text = printed(&helm.template(&[example()], &given));
    for (part, times) in [("* (1 - 0.9991)", 8), ("* (1 - 0.97)", 8), ("{le=~\"10000(?:[.]0)?\"}", 7), ("OBJECTIVE", 0)]
    {
        assert_eq!(text.matches(part).count(), times, "{part}");
    }
    assert!(text.contains("First token within 10000 ms, over a day"));
    let default = printed(&helm.template(&[example()], &[]));
    assert_eq!(default.matches("* (1 - 0.995)").count(), 8);
}

/// Each is refused, and what Helm says names the place.
#[test]
fn the_chart_refuses_what_it_cannot_render() {
    let Some(helm) = helm("the_chart_refuses_what_it_cannot_render") else { return };
    let argo = |models: &str| format!("rollouts={{\"kind\":\"argo\",\"models\":{models}}}");
    let (nothing, unknown, single) =
        (argo("{}"), argo("{\"nobody\":{\"replicas\":4}}"), argo("{\"chat-small\":{\"replicas\":4}}"));
    let (own_names, uncounted) = (argo("{\"chat\":{\"replicas\":4}}"), argo("{\"chat\":{}}"));
    let refused = [
        (nothing.as_str(), "rollouts.models is empty"),
        (&unknown, "rollouts.models: `nobody` needs two versions"),
        (&single, "rollouts.models: `chat-small` needs two versions"),
        (&own_names, "the versions of `chat` have different names"),
        (&uncounted, "rollouts.models.chat.replicas"),
        ("rollouts.kind=\"spinnaker\"", "/rollouts/kind"),
        ("rollouts.defaults.maxErrorRatio=2", "/rollouts/defaults/maxErrorRatio"),
        ("monitoring.objectives.firstToken=0.9", "/monitoring/objectives/firstToken"),
        ("monitoring.objectives.firstTokenMilliseconds=2000", "/monitoring/objectives/firstTokenMilliseconds"),
        ("config.models=[]", "config.models is empty"),
        ("config.hosts=[]", "config.hosts is empty"),
        ("config.models[0].outputs={}", "outputs"),
        ("config.limits[0].tokens=\"many\"", "/config/limits/0/tokens"),
        ("config.waitForBody=true", "config.waitForBody is set by the EnvoyFilter"),
        ("config.models[1].name=\"llama 3\"", "servers.models: `llama 3` is no name of a Service"),
        ("config.models[1].pending.perReplica=null", "`chat-small` says neither what a replica does"),
        ("autoscaling.models.chat-small={\"stable\":{\"min\":0}}", "chat-small-stable has a min of 0 and a weight"),
        ("autoscaling.defaults.fallbackReplicas=0", "/autoscaling/defaults/fallbackReplicas"),
        ("autoscaling.defaults.scaleDownWindowSeconds=0", "/autoscaling/defaults/scaleDownWindowSeconds"),
        ("autoscaling.defaults.utilization=60", "/autoscaling/defaults/utilization"),
        ("plugin.url=\"\"", "plugin.url is empty"),
        ("plugin.kind=\"Both\"", "/plugin/kind"),
        ("plugin.sha256=\"latest\"", "/plugin/sha256"),
        ("plugin.image=\"x\"", "image"),
        ("gateway.kind=\"ingress\"", "/gateway/kind"),
        ("routes.otherwise={\"model\":\"nobody\"}", "routes.otherwise: there is no version"),
        ("authentication={\"jwtRules\":[],\"requireToken\":true}", "would refuse everybody"),
    ];
    for (value, wanted) in refused {
        let output = helm.template(&[example()], &[value]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(wanted), "{value}: {said}");
    }
}

/// A version that is scaled by what is pending is woken by who is held for it; where headers do not wait, nobody can be.
#[test]
fn a_version_may_go_to_zero_where_requests_wait_for_it() {
    let Some(helm) = helm("a_version_may_go_to_zero_where_requests_wait_for_it") else { return };
    let values = [
        "autoscaling.models.chat-small={\"stable\":{\"min\":0}}",
        "config.models[1].coldStart={\"cluster\":\"chat-small\",\"probe\":\"/health\"}",
    ];
    let set = Set::of(resources(&printed(&helm.template(&[example()], &values))));
    let mut objects = set.of_kind("ScaledObject").map(|object| &object.value);
    let object = objects.find(|object| object["metadata"]["name"] == "chat-small-stable").expect("a ScaledObject");
    assert_eq!(object["spec"]["minReplicaCount"], 0);
    let refused = helm.template(&[example()], &[values[0], values[1], "envoyFilter.enabled=false"]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("chat-small-stable has a min of 0"), "{refused:?}");
}

fn example() -> std::path::PathBuf {
    root().join("chart/examples/two-models.yaml")
}

/// What istiod's own analysis says of the sets: warnings that come with the kind of resource (IST0133: there is an EnvoyFilter, and a DENY that
/// speaks of HTTP alone), and nothing else. IST0151 is an EnvoyFilter without priority, IST0101 a reference to what is not there.
#[test]
fn istioctl_has_nothing_to_say() {
    let name = "istioctl_has_nothing_to_say";
    let Some(istioctl) = tools::program("istioctl", "PENSTOCK_ISTIOCTL") else {
        return tools::skip(name, "no istioctl; put it on the PATH, or set PENSTOCK_ISTIOCTL");
    };
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("analysis");
    fs::create_dir_all(&place).unwrap();
    let said = |set: &Set| {
        let namespaces = ["istio-ingress", "llm"]
            .map(|name| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}));
        let documents = set.documents.iter().map(|document| &document.value).chain(&namespaces);
        // JSON is YAML.
        fs::write(place.join("set.yaml"), documents.map(|document| format!("---\n{document}\n")).collect::<String>())
            .unwrap();
        let output = Command::new(&istioctl)
            .args(["analyze", "--use-kube=false", "--all-namespaces", "set.yaml"])
            .current_dir(&place)
            .output()
            .unwrap();
        (output.status.success(), [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap()).concat())
    };
    for folders in SETS {
        let (is_well, text) = said(&Set::load(folders));
        let codes: Vec<_> = text.lines().filter(|line| line.contains("[IST") && !line.contains("[IST0133]")).collect();
        assert!(is_well && text.contains("[IST0133]") && codes.is_empty(), "{folders:?}: {text}");
    }
    for (kind, key, code) in
        [("EnvoyFilter", "/spec/priority", "IST0151"), ("VirtualService", "/spec/gateways/0", "IST0101")]
    {
        let mut set = Set::load(SETS[0]);
        let place = set.one_mut(kind).pointer_mut(key).expect(key);
        *place = if place.is_string() { json!("nowhere") } else { json!(0) };
        let (_, text) = said(&set);
        assert!(text.contains(code), "{text}");
    }
}
