//! Objects as they stand in files: YAML documents, and what Kustomize makes of them.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde::Deserialize;
use serde_json::Value;

use crate::place::Place;

/// The documents of a YAML file; empty ones are left out.
///
/// # Errors
/// When the file is not there or is not YAML.
pub fn read(path: &Path) -> Result<Vec<Value>, String> {
    let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    documents(&text).map_err(|error| format!("{}: {error}", path.display()))
}

/// What Kustomize makes of a directory with a kustomization.yaml.
///
/// # Errors
/// Kustomize's.
pub fn kustomization(place: &Place, directory: &Path) -> Result<Vec<Value>, String> {
    let mut kubectl = Command::new(place.file("kubectl")?);
    let output = kubectl.arg("kustomize").arg(directory).output().map_err(|error| format!("kubectl: {error}"))?;
    if !output.status.success() {
        return Err(format!("{}: {}", directory.display(), String::from_utf8_lossy(&output.stderr).trim()));
    }
    documents(&String::from_utf8_lossy(&output.stdout)).map_err(|error| format!("{}: {error}", directory.display()))
}

fn documents(text: &str) -> Result<Vec<Value>, String> {
    let documents: Result<Vec<Value>, _> =
        serde_yaml_ng::Deserializer::from_str(text).map(Value::deserialize).collect();
    Ok(documents.map_err(|error| error.to_string())?.into_iter().filter(|document| !document.is_null()).collect())
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

/// Changes the module's configurations: that of plugins of this kind, which is a document, and that of EnvoyFilters, which is in a string.
///
/// # Panics
/// Where an EnvoyFilter has a configuration that is not JSON.
pub fn configure(objects: &mut [Value], kind: &str, change: impl Fn(&mut Value)) {
    let pointer = if kind == "WasmPlugin" { "/spec/pluginConfig" } else { "/spec/wasm/pluginConfig" };
    of_kind(objects, kind).filter_map(|plugin| plugin.pointer_mut(pointer)).for_each(&change);
    let patches = of_kind(objects, "EnvoyFilter").filter_map(|filter| filter["spec"]["configPatches"].as_array_mut());
    for patch in patches.flatten() {
        let text = patch.pointer_mut("/patch/value/typed_config/config/configuration/value");
        let Some(Value::String(text)) = text else { continue };
        let mut config: Value = serde_json::from_str(text).expect("JSON");
        change(&mut config);
        *text = config.to_string();
    }
}

/// Kind, namespace and name.
pub fn describe(object: &Value) -> String {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    format!("{} {}/{}", text("/kind"), text("/metadata/namespace"), text("/metadata/name"))
}
