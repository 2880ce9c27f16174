//! Resources against the schemas of their custom resource definitions, as strictly as `kubectl --validate=strict`: a
//! field that the schema does not know is an error. CEL rules (`x-kubernetes-validations`) are not evaluated.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::{Mutex, OnceLock};

use jsonschema::Validator;
use serde_json::{Map, Value, json};

use super::set::{Set, list, parse};

/// A schema per `apiVersion` and kind.
pub struct Schemas(Mutex<BTreeMap<(String, String), Schema>>);

/// Compiled when it is first asked for: few of the kinds are used, and compiling takes time.
enum Schema {
    Read(Value),
    Compiled(Validator),
}

impl Schemas {
    /// The schemas of some folders, read once for all tests of a process: megabytes of YAML.
    pub fn shared(folders: &[PathBuf]) -> &'static Schemas {
        static SCHEMAS: OnceLock<Schemas> = OnceLock::new();
        SCHEMAS.get_or_init(|| Schemas::load(folders))
    }

    /// Reads the definitions out of every `.yaml` file of the folders.
    fn load(folders: &[PathBuf]) -> Schemas {
        let mut schemas = BTreeMap::new();
        let files =
            |folder: &PathBuf| fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        for file in folders.iter().flat_map(files).map(|entry| entry.expect("a readable entry").path()) {
            if file.extension().is_none_or(|ending| ending != "yaml") {
                continue;
            }
            for definition in parse(&file) {
                let spec = &definition["spec"];
                for version in list(&spec["versions"]) {
                    let api = format!("{}/{}", text(&spec["group"]), text(&version["name"]));
                    let kind = text(&spec["names"]["kind"]).to_owned();
                    schemas.insert((api, kind), Schema::Read(version["schema"]["openAPIV3Schema"].clone()));
                }
            }
        }
        Schemas(Mutex::new(schemas))
    }

    /// What is wrong with the resources of a set. What every cluster knows has no definition here.
    pub fn problems_of(&self, set: &Set) -> Vec<String> {
        let defined = set.documents.iter().filter(|resource| resource.value["apiVersion"] != "v1");
        defined
            .flat_map(|resource| {
                self.problems(&resource.value).into_iter().map(|p| format!("{}: {p}", resource.title()))
            })
            .collect()
    }

    /// Whether there is a definition.
    pub fn knows(&self, api: &str, kind: &str) -> bool {
        self.0.lock().expect("no panic while it was held").contains_key(&(api.to_owned(), kind.to_owned()))
    }

    /// What is wrong with a resource; empty if nothing is.
    pub fn problems(&self, resource: &Value) -> Vec<String> {
        let key = (text(&resource["apiVersion"]).to_owned(), text(&resource["kind"]).to_owned());
        let mut schemas = self.0.lock().expect("no panic while it was held");
        let Some(schema) = schemas.get_mut(&key) else { return vec![format!("no definition of {} {}", key.0, key.1)] };
        if let Schema::Read(read) = schema {
            *schema = Schema::Compiled(compile(read));
        }
        let Schema::Compiled(validator) = schema else { return Vec::new() };
        validator.iter_errors(resource).map(|e| format!("{}: {e}", e.instance_path())).collect()
    }
}

/// OpenAPI 3.0 schemas are JSON Schema draft 4 with `nullable` and Kubernetes' extensions. What every resource has, a
/// definition need not mention.
fn compile(schema: &Value) -> Validator {
    let mut schema = strict(schema);
    for implied in ["apiVersion", "kind", "metadata"] {
        let properties = schema["properties"].as_object_mut().expect("a definition lists properties");
        properties.entry(implied).or_insert_with(|| json!({}));
    }
    jsonschema::options()
        .with_draft(jsonschema::Draft::Draft4)
        .build(&schema)
        .unwrap_or_else(|error| panic!("a definition does not compile: {error}"))
}

/// Closes every object that lists its properties. `allOf`, `anyOf`, `oneOf` and `not` stay as they are: in a structural
/// schema they only restrict values, and list no more than the properties that they talk about.
fn strict(schema: &Value) -> Value {
    let Some(schema) = schema.as_object() else { return schema.clone() };
    let mut closed: Map<String, Value> = schema.clone();
    if let Some(properties) = schema.get("properties").and_then(Value::as_object) {
        let properties: Map<_, _> = properties.iter().map(|(name, inner)| (name.clone(), strict(inner))).collect();
        closed.insert("properties".into(), properties.into());
        let open = schema.get("x-kubernetes-preserve-unknown-fields") == Some(&json!(true))
            || schema.get("x-kubernetes-embedded-resource") == Some(&json!(true))
            || schema.contains_key("additionalProperties");
        if !open {
            closed.insert("additionalProperties".into(), json!(false));
        }
    }
    for inner in ["items", "additionalProperties"] {
        if let Some(value) = schema.get(inner) {
            closed.insert(inner.into(), strict(value));
        }
    }
    // Go's inline flags are no JSON Schema pattern; what they restrict is not checked.
    if schema.get("pattern").and_then(Value::as_str).is_some_and(|pattern| pattern.contains("(?i)")) {
        closed.remove("pattern");
    }
    if schema.get("nullable") == Some(&json!(true)) {
        return json!({"anyOf": [{"enum": [null]}, closed]});
    }
    closed.into()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("")
}
