//! The configurations in `envoy/` are what users copy: each is parsed, validated by Envoy itself, and held to the rules for labels.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use penstock_exchange::Config;
use penstock_exchange::metrics::TAGS;
use penstock_harness::envoy::{Chain, Gateway};
use penstock_tests::{checkout, find_envoy, module, skip};
use serde_json::Value;

fn configs() -> Vec<PathBuf> {
    let entries = fs::read_dir(checkout().join("envoy")).expect("envoy/").map(|entry| entry.expect("an entry").path());
    let configs: Vec<_> =
        entries.filter(|path| path.extension().is_some_and(|extension| extension == "yaml")).collect();
    assert!(!configs.is_empty());
    configs
}

fn read(path: &Path) -> Value {
    let text = fs::read_to_string(path).expect("readable");
    serde_yaml_ng::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every object in the document that has a `vm_config`, wherever it stands.
fn plugins(value: &Value) -> Vec<&Value> {
    match value {
        Value::Object(map) if map.contains_key("vm_config") => vec![value],
        Value::Object(map) => map.values().flat_map(plugins).collect(),
        Value::Array(items) => items.iter().flat_map(plugins).collect(),
        _ => Vec::new(),
    }
}

/// A plugin's configuration. Envoy hands a string over as it is, and everything else in protobuf's binary form.
fn configuration(plugin: &Value) -> &str {
    assert_eq!(plugin["configuration"]["@type"], "type.googleapis.com/google.protobuf.StringValue");
    plugin["configuration"]["value"].as_str().expect("a string")
}

#[test]
fn plugin_configurations_are_accepted_by_the_parser() {
    for path in configs() {
        let document = read(&path);
        let plugins = plugins(&document);
        assert!(!plugins.is_empty(), "{}: no plugin", path.display());
        for plugin in plugins {
            if let Err(errors) = Config::parse(configuration(plugin).as_bytes()) {
                panic!("{}: {errors}", path.display());
            }
        }
    }
}

#[test]
fn who_makes_up_identities_meets_a_limit_of_all_strangers() {
    for path in configs() {
        for plugin in plugins(&read(&path)) {
            let configuration: Value = serde_json::from_str(configuration(plugin)).expect("JSON");
            let sources = configuration["tenant"]["from"].as_array().map_or(&[][..], Vec::as_slice);
            let is_plain = |source: &Value| source["header"].is_string() && source["trusted"] != true;
            let bounds_all = |limit: &Value| limit["match"]["tenant"] == "unnamed" && limit["per"].is_null();
            let limits = configuration["limits"].as_array().map_or(&[][..], Vec::as_slice);
            let is_bounded = limits.iter().any(|limit| bounds_all(limit) && limit["tokens"].is_u64());
            assert!(is_bounded || !sources.iter().any(is_plain), "{}: no limit for strangers", path.display());
        }
    }
}

#[test]
fn plugins_wait_for_bodies_restart_and_share_one_vm_id() {
    for path in configs() {
        for plugin in plugins(&read(&path)) {
            assert_eq!(plugin["allow_on_headers_stop_iteration"], true, "{}", path.display());
            assert_eq!(plugin["failure_policy"], "FAIL_RELOAD", "{}", path.display());
            assert_eq!(plugin["vm_config"]["vm_id"], "penstock", "{}", path.display());
        }
    }
}

#[test]
fn clients_are_known_by_their_connection() {
    for path in configs() {
        for listener in read(&path)["static_resources"]["listeners"].as_array().expect("listeners") {
            let manager = &listener["filter_chains"][0]["filters"][0]["typed_config"];
            assert_eq!(manager["use_remote_address"], true, "{}: x-forwarded-for is believed", path.display());
        }
    }
}

#[test]
fn labels_are_cut_out_by_patterns_that_do_not_meet() {
    for path in configs() {
        let document = read(&path);
        let tags = document["stats_config"]["stats_tags"].as_array().expect("stats_tags");
        let names: Vec<&str> = tags.iter().map(|tag| tag["tag_name"].as_str().expect("tag_name")).collect();
        for tag in tags {
            let name = tag["tag_name"].as_str().unwrap_or_default();
            assert_eq!(tag["regex"], format!(r"({name}=\.=(.*?);\.;)"), "{}", path.display());
            // The pattern finds a tag anywhere in the name, so also at the end of a longer tag.
            let longer = names.iter().find(|other| **other != name && other.ends_with(name));
            assert_eq!(longer, None, "{}: {name} is the end of another tag", path.display());
        }
        // One tag per label that any metric has; one that no metric has would cost every stat a search.
        assert_eq!(BTreeSet::from_iter(names), BTreeSet::from_iter(TAGS.iter().copied()), "{}", path.display());
    }
}

#[test]
fn routes_lead_to_the_cluster_of_each_version() {
    for path in configs() {
        let document = read(&path);
        let clusters = document["static_resources"]["clusters"].as_array().expect("clusters");
        for plugin in plugins(&document) {
            let configuration: Value = serde_json::from_str(configuration(plugin)).expect("JSON");
            for model in configuration["models"].as_array().into_iter().flatten() {
                for version in model["versions"].as_array().into_iter().flatten() {
                    assert!(clusters.iter().any(|cluster| cluster["name"] == version["name"]), "{version}");
                }
            }
        }
    }
}

#[test]
fn envoy_accepts_the_files_as_they_are_and_the_variants_that_tests_use() {
    let envoy = match find_envoy() {
        Ok(envoy) => envoy,
        Err(reason) => skip!("{reason}"),
    };
    module("penstock");
    for path in configs() {
        validate(&envoy, &path);
    }
    let gateway = Gateway::load(&checkout(), "gateway.yaml").expect("gateway.yaml");
    for chain in [Chain::Without, Chain::One, Chain::Row, Chain::RowInOneVm] {
        let rendered = gateway.clone().chain(chain).and_listener_without("plain").render();
        let path = std::env::temp_dir().join(format!("penstock-{}-{chain:?}.json", std::process::id()));
        fs::write(&path, rendered.bootstrap).expect("written");
        validate(&envoy, &path);
        fs::remove_file(&path).expect("removed");
    }
}

fn validate(envoy: &Path, config: &Path) {
    let mut command = Command::new(envoy);
    // The module's path in the file is relative to the checkout.
    command.current_dir(checkout()).args(["--mode", "validate", "--log-level", "error", "-c"]).arg(config);
    let output = command.output().expect("Envoy runs");
    assert!(output.status.success(), "{}:\n{}", config.display(), String::from_utf8_lossy(&output.stderr));
}
