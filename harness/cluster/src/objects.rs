//! Objects as they stand in files: YAML documents, and Kustomize's lists of files.

use std::fs;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

/// The documents of a YAML file; empty ones are left out.
///
/// # Errors
/// When the file is not there or is not YAML.
pub fn read(path: &Path) -> Result<Vec<Value>, String> {
    let said = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let text = fs::read_to_string(path).map_err(|error| said(&error))?;
    let documents = serde_yaml_ng::Deserializer::from_str(&text).map(Value::deserialize);
    let documents: Result<Vec<Value>, _> = documents.collect();
    Ok(documents.map_err(|error| said(&error))?.into_iter().filter(|document| !document.is_null()).collect())
}

/// All objects of a directory with a kustomization.yaml, in the order of its list; what the list has beside files and such directories is an error.
///
/// # Errors
/// When something is not there, is not YAML, or is more than a list of resources.
pub fn kustomization(directory: &Path) -> Result<Vec<Value>, String> {
    let path = directory.join("kustomization.yaml");
    let list = read(&path)?.pop().unwrap_or_default();
    let others = list.as_object().into_iter().flatten().map(|(key, _)| key.as_str());
    let others: Vec<&str> = others.filter(|key| !["apiVersion", "kind", "resources"].contains(key)).collect();
    if !others.is_empty() {
        return Err(format!("{}: only `resources` is understood, not {others:?}", path.display()));
    }
    let mut objects = Vec::new();
    for name in list["resources"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        let resource = directory.join(name);
        objects.extend(if resource.is_dir() { kustomization(&resource)? } else { read(&resource)? });
    }
    Ok(objects)
}

/// The objects of this kind.
pub fn of_kind<'a>(objects: &'a mut [Value], kind: &'a str) -> impl Iterator<Item = &'a mut Value> {
    objects.iter_mut().filter(move |object| object["kind"] == kind)
}

/// Replaces a text wherever it stands in values, and as a part of them.
pub fn replace(value: &mut Value, from: &str, to: &str) {
    match value {
        Value::String(text) => *text = text.replace(from, to),
        Value::Array(items) => items.iter_mut().for_each(|item| replace(item, from, to)),
        Value::Object(map) => map.values_mut().for_each(|item| replace(item, from, to)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Kind, namespace and name.
pub fn describe(object: &Value) -> String {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    format!("{} {}/{}", text("/kind"), text("/metadata/namespace"), text("/metadata/name"))
}
