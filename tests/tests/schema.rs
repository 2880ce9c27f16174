//! `envoy/config.schema.json`: the JSON Schema of the configuration, as it is made of the types, as it is shipped, and as
//! `docs/configuration.md` explains it.

use std::collections::{BTreeMap, BTreeSet};
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

/// Of the chart's values, `config` is the configuration, so Helm refuses what the filters would. The rest is the chart's own.
#[test]
fn the_charts_schema_has_the_configuration_as_it_is() {
    let path = checkout().join("istio/chart/values.schema.json");
    let shipped: Value = serde_json::from_str(&fs::read_to_string(&path).expect("readable")).expect("JSON");
    let mut config = schema();
    config.as_object_mut().expect("an object").remove("$schema");
    let mut definitions = config.as_object_mut().and_then(|config| config.remove("$defs")).expect("definitions");
    assert!(definitions.get("Config").is_none());
    definitions["Config"] = config;
    let mut wanted = shipped.clone();
    wanted["properties"]["config"] = json!({"$ref": "#/$defs/Config"});
    wanted["$defs"] = definitions;
    if std::env::var_os("UPDATE_SCHEMA").is_some() {
        fs::write(&path, format!("{wanted:#}\n")).expect("written");
    } else {
        assert!(shipped == wanted, "{} is out of date; run this test with UPDATE_SCHEMA=1", path.display());
    }
}

/// Every value that the chart has is described by its schema, and the other way round.
#[test]
fn the_charts_schema_and_its_values_have_the_same_keys() {
    let chart = checkout().join("istio/chart");
    let schema: Value =
        serde_json::from_str(&fs::read_to_string(chart.join("values.schema.json")).expect("readable")).expect("JSON");
    let values: Value =
        serde_yaml_ng::from_str(&fs::read_to_string(chart.join("values.yaml")).expect("readable")).expect("YAML");
    let keys = |value: &Value| value.as_object().expect("an object").keys().cloned().collect::<BTreeSet<_>>();
    let sections = &schema["properties"];
    // `global` belongs to whoever has this chart in theirs.
    assert_eq!(keys(&values), keys(sections).into_iter().filter(|key| key != "global").collect());
    for (section, value) in values.as_object().expect("sections") {
        if section != "config" {
            assert_eq!(keys(value), keys(&sections[section]["properties"]), "{section}");
        }
    }
    let problems: Vec<_> =
        jsonschema::validator_for(&schema).expect("a schema").iter_errors(&values).map(|e| e.to_string()).collect();
    assert!(problems.is_empty(), "{problems:?}");
}

#[test]
fn parser_and_schema_take_the_examples_of_the_docs() {
    let validator = jsonschema::validator_for(&schema()).expect("a schema");
    for file in ["README.md", "docs/configuration.md"] {
        let examples = examples(file);
        assert!(!examples.is_empty(), "{file} has no example");
        for example in examples {
            let parsed = Config::parse(example.to_string().as_bytes());
            let valid = validator.validate(&example);
            assert!(parsed.is_ok() && valid.is_ok(), "{file}: {parsed:?} {valid:?}");
        }
    }
}

/// What the schema accepts is of the right shape, so whatever the parser then says is about values; what has another shape neither takes.
#[test]
fn schema_and_parser_agree_on_the_shape() {
    let validator = jsonschema::validator_for(&schema()).expect("a schema");
    let example = examples("docs/configuration.md").swap_remove(0);
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

#[test]
fn every_key_is_described() {
    for (path, key) in keys() {
        assert!(!key.description.is_empty(), "{path} has no doc comment below filters/exchange/src/config/raw");
        assert!(key.example.is_some(), "the doc comment of {path} has no \"Example: `…`.\"");
    }
}

#[test]
fn the_tables_of_the_docs_have_every_key_with_its_default() {
    let mut documented = BTreeMap::new();
    for row in table_rows("docs/configuration.md", "key") {
        let [paths, _, default, example, _] = row.as_slice() else { panic!("a row of five cells: {row:?}") };
        for path in paths.split(", ").map(|path| path.trim_matches('`').to_owned()) {
            let default = match default.as_str() {
                "required" => Usual::Required,
                // Words explain a default that is no fixed value.
                text => literal(text).map_or(Usual::None, Usual::Value),
            };
            let twice = documented.insert(path.clone(), (default, literal(example)));
            assert!(twice.is_none(), "{path} has two rows in docs/configuration.md");
        }
    }
    for (path, key) in keys() {
        let Some((default, example)) = documented.remove(&path) else {
            panic!("{path} is in no table of docs/configuration.md")
        };
        assert!(default == key.default, "{path}: docs/configuration.md says {default:?}, the schema {:?}", key.default);
        assert!(example == key.example, "{path}: docs/configuration.md says {example:?}, the schema {:?}", key.example);
    }
    assert!(documented.is_empty(), "no keys of the configuration: {:?}", documented.keys());
}

/// What the schema says is the default is what the parser takes where nothing is said.
#[test]
fn the_defaults_are_those_of_the_parser() {
    let bare = json!({
        "tenant": {"from": [{"header": "x-tenant"}, {"jwt": "org"}]}, "tenants": {"NAME": {}}, "mesh": {"service": "rls", "salt": "x"}, "feedback": {},
        "paths": {}, "models": [{
            "name": "m", "output": {}, "price": {}, "pending": {}, "coldStart": {"cluster": "c"},
            "versions": [{"name": "v", "weight": 1, "price": {}, "coldStart": {"cluster": "c"}}, {"name": "w", "weight": 1, "coldStart": {"cluster": "d"}}],
            "breaker": {}, "rules": [{"name": "r"}],
            "guard": {
                "errors": {}, "ttft": {"slowerThanMs": 1}, "length": {"cap": 1}, "category": {"header": "x-use", "values": ["code"]},
            },
        }],
        "limits": [{"name": "l", "tokens": 9, "every": "1m", "cost": {}}],
    });
    let mut told = bare.clone();
    for (path, key) in keys() {
        let Usual::Value(default) = key.default else { continue };
        let pointer = format!("/{}", path.replace("[]", ".0").replace('.', "/"));
        let (parent, name) = pointer.rsplit_once('/').expect("a pointer");
        // Keys that take whole numbers take no `1.0`.
        let whole = default.as_f64().filter(|number| number.fract() == 0.0).map(|number| json!(number as u64));
        told.pointer_mut(parent).unwrap_or_else(|| panic!("{path}"))[name] = whole.unwrap_or(default);
    }
    let parsed = |document: &Value| {
        let mut config = Config::parse(document.to_string().as_bytes()).expect("valid");
        // The log says what nobody has said.
        config.notices.clear();
        format!("{config:?}")
    };
    assert_eq!(parsed(&bare), parsed(&told));
}

/// The documents in a file's blocks of YAML.
fn examples(file: &str) -> Vec<Value> {
    let text = fs::read_to_string(checkout().join(file)).expect(file);
    let blocks = text.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next());
    blocks.map(|block| serde_yaml_ng::from_str(block).expect(file)).collect()
}

/// The rows of the tables in a file whose first column has this title, cell by cell.
fn table_rows(file: &str, title: &str) -> Vec<Vec<String>> {
    let text = fs::read_to_string(checkout().join(file)).expect(file);
    let (mut rows, mut inside) = (Vec::new(), false);
    for line in text.lines() {
        let Some(row) = line.strip_prefix("| ").and_then(|line| line.strip_suffix(" |")) else {
            inside = false;
            continue;
        };
        let cells: Vec<String> = row.split(" | ").map(|cell| cell.trim().to_owned()).collect();
        if cells[0] == title {
            inside = true;
        } else if inside && !cells[0].starts_with('-') {
            rows.push(cells);
        }
    }
    rows
}

/// The value of a cell that is nothing but one in backticks.
fn literal(cell: &str) -> Option<Value> {
    let text = cell.strip_prefix('`')?.strip_suffix('`')?;
    serde_yaml_ng::from_str(text).ok().map(plain)
}

#[derive(Debug, PartialEq)]
enum Usual {
    Required,
    Value(Value),
    None,
}

/// A key, as the schema has it.
struct Key {
    description: String,
    default: Usual,
    example: Option<Value>,
}

/// Every key of the schema by its path, as in `limits[].session.calls` and `tenants.NAME.class`.
fn keys() -> BTreeMap<String, Key> {
    let root = schema();
    let mut keys = BTreeMap::new();
    walk(&root, &root, "", &mut keys);
    keys
}

fn walk(root: &Value, node: &Value, path: &str, keys: &mut BTreeMap<String, Key>) {
    let description = |node: &Value| node["description"].as_str().unwrap_or_default().to_owned();
    for (name, value) in node["properties"].as_object().into_iter().flatten() {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        let required = node["required"].as_array().is_some_and(|names| names.contains(&json!(name)));
        // A choice with one key, as in {header: x}, is described as a choice.
        let own = if value["description"].is_string() { value } else { node };
        let said = description(own);
        let example = said.split_once("Example: `").and_then(|(_, rest)| rest.split('`').next());
        let default = match value.get("default") {
            _ if required => Usual::Required,
            Some(value) => Usual::Value(plain(value.clone())),
            None => Usual::None,
        };
        let example = example.and_then(|text| serde_yaml_ng::from_str(text).ok()).map(plain);
        keys.insert(path.clone(), Key { description: said, default, example });
        walk(root, value, &path, keys);
    }
    for choice in ["anyOf", "oneOf"].iter().flat_map(|word| node[word].as_array().into_iter().flatten()) {
        walk(root, choice, path, keys);
    }
    for (word, suffix) in [("items", "[]"), ("additionalProperties", ".NAME")] {
        if node[word].is_object() {
            walk(root, &node[word], &format!("{path}{suffix}"), keys);
        }
    }
    if let Some(definition) = node["$ref"].as_str() {
        walk(root, root.pointer(definition.trim_start_matches('#')).expect(definition), path, keys);
    }
}

/// Numbers are equal whether they are written as 1 or as 1.0.
fn plain(value: Value) -> Value {
    match value {
        Value::Number(number) => json!(number.as_f64()),
        Value::Array(values) => values.into_iter().map(plain).collect(),
        Value::Object(map) => {
            map.into_iter().map(|(key, value)| (key, plain(value))).collect::<serde_json::Map<_, _>>().into()
        }
        other => other,
    }
}
