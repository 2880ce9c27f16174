//! The EnvoyFilter beside the plugin: it takes the plugin's place in the chain, under a name that has the plugin's in it.

use penstock_document::at::At;
use serde_json::Value;

use super::plugins::{binding, first_of};
use crate::check::finding::Findings;
use crate::check::set::{Filter, Plugin, Set, Wasm};

/// The filter that Istio's agent puts where a module cannot be fetched.
const RBAC: &str = "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC";

/// Holds the EnvoyFilters against the set.
pub fn check(set: &Set, found: &mut Findings) {
    for filter in set.filters.iter().filter(|filter| !filter.added.is_empty()) {
        let spec = filter.document.spec();
        if !spec.get("priority").exists() {
            found.say("PS209", &spec, &[]);
        }
        patches(filter, found);
        if replaced(filter).is_empty() {
            // It brings its own place in the chain, by an INSERT.
            continue;
        }
        if set.plugins.is_empty() {
            found.say("PS208", &filter.document.root.get("kind"), &[]);
        }
        for (i, plugin) in set.plugins.iter().enumerate() {
            // One too many is told as that.
            if first_of(plugin, &set.plugins[..i]).is_some() {
                continue;
            }
            names(filter, plugin, found);
            bindings(filter, plugin, found);
            if let Some(wasm) = filter.added.iter().find(|wasm| is_for(wasm, plugin)) {
                same(wasm, plugin, found);
            }
        }
    }
}

/// Whether it runs the same plugin. With one of each it does, whatever it is called.
fn is_for(wasm: &Wasm, plugin: &Plugin) -> bool {
    let (root, name) = (wasm.plugin.pb("root_id"), plugin.wasm.get("pluginName"));
    root.words() == name.words() || !crate::check::document::MODULES.contains(&name.words())
}

/// The names of the filters that it replaces.
fn replaced(filter: &Filter) -> Vec<At> {
    let of_patch = |patch: At| {
        let is_http =
            patch.get("applyTo").words() == "HTTP_FILTER" && patch.get("patch").get("operation").words() == "REPLACE";
        is_http.then(|| patch.down(&["match", "listener", "filterChain", "filter", "subFilter", "name"]))
    };
    filter.document.spec().get("configPatches").items().into_iter().filter_map(of_patch).collect()
}

fn patches(filter: &Filter, found: &mut Findings) {
    let patches = filter.document.spec().get("configPatches").items();
    let value = |patch: &At| patch.get("patch").get("value");
    let is_added = |patch: &&At| patch.get("applyTo").words() == "EXTENSION_CONFIG";
    let added: Vec<_> =
        patches.iter().filter(is_added).map(|patch| value(patch).get("name").words().to_owned()).collect();
    for patch in patches.iter().filter(|patch| patch.get("applyTo").words() == "HTTP_FILTER") {
        let operation = patch.get("patch").get("operation");
        let target = patch.down(&["match", "listener", "filterChain", "filter", "subFilter", "name"]);
        if operation.words() == "MERGE" && target.words().starts_with("extensions.istio.io/") {
            found.say("PS221", &operation, &[("operation", &"MERGE")]);
        }
        let discovery = value(patch).pb("config_discovery");
        if !discovery.exists() {
            continue;
        }
        let name = value(patch).get("name");
        if !added.iter().any(|added| added == name.words()) {
            found.say("PS218", &name, &[("name", &name.words())]);
        }
        let types = discovery.pb("type_urls");
        if types.items().iter().all(|item| item.words() != RBAC) {
            found.say("PS210", &types, &[]);
        }
    }
}

/// `extensions.istio.io/<kind>/<namespace>.<name>`: Istio 1.30 and later translate a WasmPlugin.
fn names(filter: &Filter, plugin: &Plugin, found: &mut Findings) {
    let title = format!("{}.{}", plugin.document.namespace, plugin.document.name);
    let extension = format!("extensions.istio.io/trafficextension/{title}");
    let wanted = if plugin.document.is("extensions.istio.io", "WasmPlugin") {
        vec![format!("extensions.istio.io/wasmplugin/{title}"), format!("{extension}~istio-translated-wasmplugin")]
    } else {
        vec![extension]
    };
    let replaced = replaced(filter);
    if replaced.iter().all(|name| !wanted.iter().any(|wanted| wanted == name.words())) {
        let Some(first) = replaced.first() else { return };
        found.say("PS207", first, &[("wanted", &wanted.join(" or ")), ("plugin", &plugin.document.title())]);
    }
}

/// Namespaces, selectors and targets. In Istio's root namespace a filter is for all namespaces.
fn bindings(filter: &Filter, plugin: &Plugin, found: &mut Findings) {
    let ((namespace, labels, targets), (others_namespace, others_labels, others_targets)) =
        (binding(&filter.document), binding(&plugin.document));
    let in_root = namespace == "istio-system";
    if (namespace == others_namespace || in_root) && labels == others_labels && targets == others_targets {
        return;
    }
    let say = |namespace: &str, labels: &std::collections::BTreeMap<String, String>, targets: &[String]| {
        let labels = labels.iter().map(|(key, value)| format!("{key}: {value}"));
        let all: Vec<_> = labels.chain(targets.iter().cloned()).collect();
        let all = if all.is_empty() { "all pods".to_owned() } else { all.join(", ") };
        format!("{all} in {namespace}")
    };
    let spec = filter.document.spec();
    let bound = ["workloadSelector", "targetRefs"].map(|key| spec.get(key)).into_iter().find(At::exists);
    let at = bound.unwrap_or_else(|| filter.document.root.get("metadata"));
    let (value, others) = (say(&namespace, &labels, &targets), say(&others_namespace, &others_labels, &others_targets));
    found.say("PS217", &at, &[("value", &value), ("others", &others)]);
}

/// What both of them say has to be the same.
fn same(wasm: &Wasm, plugin: &Plugin, found: &mut Findings) {
    let remote = wasm.plugin.down(&["vm_config", "code", "remote"]);
    let pinned = |at: &At| Some(at.words()).filter(|pin| !pin.is_empty() && *pin != "nil").map(str::to_owned);
    let text = |at: &At| at.text().map(str::to_owned);
    let module = remote.pb("http_uri").get("uri");
    let pairs = [
        ("uri", text(&module), module.clone(), "url", text(&plugin.wasm.get("url"))),
        ("sha256", pinned(&remote.get("sha256")), remote.get("sha256"), "sha256", pinned(&plugin.wasm.get("sha256"))),
        (
            "root_id",
            text(&wasm.plugin.pb("root_id")),
            wasm.plugin.pb("root_id"),
            "pluginName",
            text(&plugin.wasm.get("pluginName")),
        ),
    ];
    for (key, value, at, other, others) in pairs {
        if remote.exists() && value != others {
            let shown = |text: &Option<String>| text.clone().unwrap_or_else(|| "missing".to_owned());
            let (value, others) = (shown(&value), shown(&others));
            found.say("PS205", &at, &[("key", &key), ("value", &value), ("other", &other), ("others", &others)]);
        }
    }
    let (Some(own), Some(other)) = (&wasm.config, &plugin.config) else { return };
    let (mut mine, mut theirs) = (own.json(), other.json());
    for document in [&mut mine, &mut theirs] {
        if let Value::Object(keys) = document {
            keys.remove("waitForBody");
        }
    }
    if let Some(path) = difference(&mine, &theirs, String::new()) {
        let (there, here) = (own.find(&path), other.find(&path));
        found.say("PS204", &here, &[("line", &there.line), ("where", &path)]);
    }
}

/// The first place where two documents differ.
fn difference(one: &Value, other: &Value, path: String) -> Option<String> {
    let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    match (one, other) {
        (Value::Object(one), Value::Object(other)) => {
            let keys = one.keys().chain(other.keys().filter(|key| !one.contains_key(*key)));
            let null = Value::Null;
            let mut pairs = keys.map(|key| (key, one.get(key).unwrap_or(&null), other.get(key).unwrap_or(&null)));
            pairs.find_map(|(key, one, other)| difference(one, other, below(key)))
        }
        (Value::Array(one), Value::Array(other)) if one.len() == other.len() => {
            let mut pairs = one.iter().zip(other).enumerate();
            pairs.find_map(|(i, (one, other))| difference(one, other, format!("{path}[{i}]")))
        }
        (Value::Number(one), Value::Number(other)) => (one.as_f64() != other.as_f64()).then_some(path),
        _ => (one != other).then_some(path),
    }
}
