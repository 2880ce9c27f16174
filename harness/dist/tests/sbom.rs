//! The list of what is in a module, next to cargo's own and to what the module itself says.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use penstock_dist::sbom::{Module, describe};
use serde_json::Value;

fn checkout() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("the root").to_owned()
}

fn text(features: Option<&str>, table: Option<&[u8]>) -> String {
    let module = Module { name: "penstock-x", package: "penstock", features, table, bytes: b"abc" };
    describe(&checkout(), &module).unwrap_or_else(|message| panic!("{message}"))
}

fn bill(features: Option<&str>, table: Option<&[u8]>) -> Value {
    serde_json::from_str(&text(features, table)).expect("JSON")
}

/// `name@version` of the components, with their scopes.
fn scopes(bill: &Value) -> BTreeMap<String, String> {
    let components = bill["components"].as_array().expect("components").iter();
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    components.map(|one| (word(&one["bom-ref"]), word(&one["scope"]))).collect()
}

#[test]
fn every_crate_of_the_tree_is_listed_and_no_other() {
    let listed = scopes(&bill(None, None));
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let arguments = ["tree", "--locked", "--target", "wasm32-wasip1", "--package", "penstock", "--prefix", "none"];
    let output = Command::new(cargo).current_dir(checkout()).args(arguments).args(["--edges", "normal,build"]).output();
    let output = String::from_utf8(output.expect("cargo runs").stdout).expect("UTF-8");
    let tree: BTreeSet<String> = output
        .lines()
        .filter_map(|line| line.split_once(" v"))
        .map(|(name, rest)| format!("{name}@{}", rest.split(' ').next().expect("a version")))
        .collect();
    assert!(tree.len() > 40, "{output}");
    let crates = listed.keys().filter(|name| name.contains('@')).cloned();
    let own = tree.iter().find(|name| name.starts_with("penstock@")).expect("the package").clone();
    assert_eq!(crates.chain([own]).collect::<BTreeSet<_>>(), tree);
}

#[test]
fn what_the_module_says_is_in_it_is_listed_as_linked() {
    let listed = scopes(&bill(None, None));
    let module = fs::read(checkout().join("dist/penstock.wasm")).expect("dist/penstock.wasm; run `cargo xtask build`");
    // The messages of panics: `crates/serde_json-1.0.154/src/de.rs`.
    let module = String::from_utf8_lossy(&module);
    let named = module.split("crates/").skip(1).filter_map(|rest| rest.split_once("/src/")).map(|(name, _)| name);
    let named: BTreeSet<String> = named
        .filter_map(|name| name.rsplit_once('-'))
        .filter(|(_, version)| version.split('.').count() == 3)
        .map(|(name, version)| format!("{name}@{version}"))
        .collect();
    assert!(named.iter().any(|name| name.starts_with("serde_json@")), "{named:?}");
    for name in named {
        assert_eq!(listed.get(&name).map(String::as_str), Some("required"), "{name}");
    }
}

#[test]
fn what_only_ran_at_build_time_is_told_apart() {
    let listed = scopes(&bill(None, None));
    let scope = |name: &str| {
        let prefix = format!("{name}@");
        listed.iter().find(|(reference, _)| reference.starts_with(&prefix)).map(|(_, scope)| scope.as_str())
    };
    for linked in ["penstock-guest", "penstock-tokens", "proxy-wasm", "serde", "serde_json", "sha2"] {
        assert_eq!(scope(linked), Some("required"), "{linked}");
    }
    for tool in ["serde_derive", "syn", "tiktoken-rs", "regex-syntax"] {
        assert_eq!(scope(tool), Some("excluded"), "{tool}");
    }
    for stranger in ["wasmtime", "tokio", "proptest"] {
        assert_eq!(scope(stranger), None, "{stranger}");
    }
    assert_eq!(listed["rust/std"], "required");
}

#[test]
fn vocabularies_are_those_that_are_built_in() {
    let of = |features: Option<&str>, table: Option<&[u8]>| {
        let listed = scopes(&bill(features, table)).into_keys();
        listed.filter_map(|name| Some(name.strip_prefix("vocabulary/")?.to_owned())).collect::<Vec<_>>()
    };
    assert_eq!(of(None, None), ["cl100k_base", "o200k_base"]);
    assert_eq!(of(Some("o200k"), None), ["o200k_base"]);
    assert_eq!(of(Some(""), Some(b"abc")), ["custom"]);
}

#[test]
fn every_part_hangs_on_the_module() {
    let bill = bill(None, None);
    assert_eq!((&bill["bomFormat"], &bill["specVersion"]), (&Value::from("CycloneDX"), &Value::from("1.6")));
    let subject = &bill["metadata"]["component"];
    assert_eq!(subject["name"], "penstock-x");
    let hash = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(subject["hashes"], serde_json::json!([{"alg": "SHA-256", "content": hash}]));

    let edges: BTreeMap<&str, &Vec<Value>> = bill["dependencies"]
        .as_array()
        .expect("dependencies")
        .iter()
        .map(|edge| (edge["ref"].as_str().expect("a name"), edge["dependsOn"].as_array().expect("names")))
        .collect();
    let root = subject["bom-ref"].as_str().expect("a name");
    let (mut open, mut reached) = (vec![root], BTreeSet::new());
    while let Some(name) = open.pop() {
        if reached.insert(name) {
            open.extend(edges.get(name).into_iter().flat_map(|names| names.iter()).filter_map(Value::as_str));
        }
    }
    let linked = scopes(&bill).into_iter().filter(|(_, scope)| scope == "required").map(|(name, _)| name);
    let linked: BTreeSet<String> = linked.chain([root.to_owned()]).collect();
    assert_eq!(reached.into_iter().map(str::to_owned).collect::<BTreeSet<_>>(), linked);
}

#[test]
fn components_have_licences_and_sources_that_can_be_checked() {
    let bill = bill(None, None);
    for component in bill["components"].as_array().expect("components") {
        let name = &component["name"];
        let licence = component["licenses"][0]["expression"].as_str().unwrap_or_default();
        assert!(!licence.is_empty() && !licence.contains('/'), "{name}: `{licence}`");
        let is_crate = component["bom-ref"].as_str().is_some_and(|name| name.contains('@'));
        let is_own = name.as_str().is_some_and(|name| name.starts_with("penstock"));
        // Penstock's own crates are not published: their names there would be somebody else's.
        assert_eq!(component.get("purl").is_some(), is_crate && !is_own, "{name}");
        assert_eq!(component["hashes"][0]["content"].is_string(), is_crate && !is_own, "{name}");
    }
}

#[test]
fn nothing_says_where_it_was_made() {
    let text = text(None, None);
    assert!(!text.contains(checkout().to_str().expect("UTF-8")), "the checkout");
    for word in ["registry", "index.", "\"/", ".cargo"] {
        assert!(!text.contains(word), "{word}");
    }
    assert_eq!(text.matches("://").count(), 1, "an address beside that of the schema");
    assert_eq!(text, self::text(None, None));
}
