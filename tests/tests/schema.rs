//! `envoy/config.schema.json`: the JSON Schema of the configuration, as it is made of the types, and as it is shipped.

use std::fs;

use penstock_exchange::Config;
use penstock_exchange::config::schema;
use penstock_tests::checkout;
use serde_json::{Value, json};

#[test]
fn the_shipped_schema_is_that_of_the_types() {
    let path = checkout().join("envoy/config.schema.json");
    if std::env::var_os("UPDATE_SCHEMA").is_some() {
        fs::write(&path, format!("{:#}\n", schema())).expect("written");
    }
    let shipped: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap_or_default()).unwrap_or_default();
    assert!(shipped == schema(), "{} is out of date; run this test with UPDATE_SCHEMA=1", path.display());
}

/// What the schema accepts is of the right shape, so whatever the parser then says is about values; what has another shape neither takes.
#[test]
fn schema_and_parser_agree_on_the_shape() {
    let validator = jsonschema::validator_for(&schema()).expect("a schema");
    let readme = fs::read_to_string(checkout().join("README.md")).expect("README.md");
    let example =
        readme.split("```yaml\ntenant:").nth(1).and_then(|rest| rest.split("```").next()).expect("an example");
    let example: Value = serde_yaml_ng::from_str(&format!("tenant:{example}")).expect("YAML");
    let parsed = Config::parse(example.to_string().as_bytes());
    assert!(parsed.is_ok() && validator.is_valid(&example), "{parsed:?} {:?}", validator.validate(&example));
    for (pointer, value) in [
        ("/limit", json!([])),
        ("/models/0/outputs", json!({})),
        ("/models/0/output/max", json!("many")),
        ("/limits/0/per", json!("tenant")),
        ("/tenants/acme/priority", json!("urgent")),
        ("/waitForBody", json!("sometimes")),
        ("/mesh/onError", json!("maybe")),
    ] {
        let mut broken = example.clone();
        let (parent, key) = pointer.rsplit_once('/').expect("a pointer");
        broken.pointer_mut(parent).expect(parent)[key] = value;
        assert!(!validator.is_valid(&broken), "the schema takes {pointer}");
        assert!(Config::parse(broken.to_string().as_bytes()).is_err(), "the parser takes {pointer}");
    }
    for wait in [json!("auto"), json!(true), json!(false)] {
        assert!(validator.is_valid(&json!({"waitForBody": wait})));
    }
}
