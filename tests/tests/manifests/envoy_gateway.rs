//! The example for Envoy Gateway: its parts name one another, and it is what the definitions allow.

use std::collections::BTreeSet;

use penstock_exchange::{Config, metrics};
use serde_json::Value;

use super::set::{Set, list, names, parse, root};
use super::{checks, schemas, tools};

const FILE: &str = "envoy/envoy-gateway/penstock.yaml";

fn example() -> Set {
    let path = root().join("..").join(FILE);
    let document = |value| super::set::Document { path: FILE.into(), value };
    Set::of(parse(&path).into_iter().map(document).collect())
}

#[test]
fn the_patch_finds_the_filter_and_lets_headers_wait() {
    let set = example();
    let (policy, gateway) = (set.one("EnvoyExtensionPolicy"), set.one("Gateway"));
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let [namespace, name] = ["namespace", "name"].map(|key| text(&policy["metadata"][key]));
    let filter = format!("'envoy.filters.http.wasm/envoyextensionpolicy/{namespace}/{name}/wasm/0'");
    let listener = format!(
        "{}/{}/{}",
        text(&gateway["metadata"]["namespace"]),
        text(&gateway["metadata"]["name"]),
        text(&gateway["spec"]["listeners"][0]["name"])
    );
    let patches = list(&set.one("EnvoyPatchPolicy")["spec"]["jsonPatches"]);
    for patch in patches {
        assert!(text(&patch["operation"]["jsonPath"]).contains(&filter) && patch["name"] == *listener, "{patch}");
    }
    let set_to = |path: &str| patches.iter().find(|patch| patch["operation"]["path"] == path);
    assert_eq!(set_to("/allow_on_headers_stop_iteration").expect("set")["operation"]["value"], true);
    assert_eq!(set_to("/failure_policy").expect("set")["operation"]["value"], "FAIL_RELOAD");
    assert_eq!(policy["spec"]["wasm"][0]["config"]["waitForBody"], true);
    for kind in ["EnvoyExtensionPolicy", "ClientTrafficPolicy"] {
        assert_eq!(set.one(kind)["spec"]["targetRefs"][0]["name"], gateway["metadata"]["name"], "{kind}");
    }
}

#[test]
fn its_configuration_is_accepted_and_every_version_has_a_route() {
    let set = example();
    let plugin = &set.one("EnvoyExtensionPolicy")["spec"]["wasm"][0];
    assert_eq!(plugin["rootID"], "penstock");
    if let Err(errors) = Config::parse(plugin["config"].to_string().as_bytes()) {
        panic!("{errors}");
    }
    let route = &set.one("HTTPRoute")["spec"];
    assert_eq!(route["hostnames"], plugin["config"]["hosts"]);
    let routed = checks::routes_of(&set);
    // What no rule names goes to a version as well: the last rule has no headers.
    let destinations: BTreeSet<_> = routed.iter().map(|route| route.service.clone()).collect();
    let model = &plugin["config"]["models"][0];
    let wanted =
        names(&model["versions"]).into_iter().map(|version| format!("{}-{version}", model["name"].as_str().unwrap()));
    assert_eq!(destinations, wanted.collect());
    assert!(routed.last().is_some_and(|route| route.model.is_none()));
}

#[test]
fn its_proxies_cut_out_every_label() {
    let set = example();
    let bootstrap = set.one("EnvoyProxy")["spec"]["bootstrap"]["value"].as_str().expect("a text").to_owned();
    let bootstrap = super::set::parse_text(&bootstrap, FILE).remove(0);
    let tags = list(&bootstrap["stats_config"]["stats_tags"]);
    for tag in tags {
        let name = tag["tag_name"].as_str().expect("a name");
        assert_eq!(tag["regex"], format!(r"({name}=\.=(.*?);\.;)"));
    }
    let tags: BTreeSet<_> = tags.iter().filter_map(|tag| tag["tag_name"].as_str()).collect();
    assert_eq!(tags, metrics::TAGS.iter().copied().collect());
}

#[test]
fn it_is_what_the_definitions_allow() {
    let name = "envoy_gateway::it_is_what_the_definitions_allow";
    let Some(schemas) = schemas(name) else { return };
    let mut set = example();
    if !schemas.knows("gateway.envoyproxy.io/v1alpha1", "EnvoyPatchPolicy") {
        tools::skip(name, "PENSTOCK_CRDS has no definitions of Envoy Gateway; only the others are checked");
        set.documents.retain(|document| document.value["apiVersion"] != "gateway.envoyproxy.io/v1alpha1");
    }
    let problems = schemas.problems_of(&set);
    assert!(problems.is_empty(), "{problems:#?}");
}
