//! What a document is: a resource of Kubernetes, Helm values, a configuration, an Envoy's bootstrap.

use penstock_exchange::Config;
use serde_json::{Value, json};

use penstock_document::at::At;

/// One document.
#[derive(Clone, Debug)]
pub struct Document {
    /// All of it.
    pub root: At,
    /// What it is.
    pub kind: Kind,
    /// `metadata.name`, as kustomize changes it.
    pub name: String,
    /// `metadata.namespace`, as kustomize changes it; `default` where there is none.
    pub namespace: String,
}

/// What a document is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A resource: the group of its API, and its kind.
    Resource(String, String),
    /// The chart's values: `config` is Penstock's configuration.
    Values,
    /// The configuration by itself.
    Config,
    /// An Envoy's configuration.
    Envoy,
    /// Rules as Prometheus reads them.
    Rules,
    /// A dashboard of Grafana's.
    Dashboard,
    /// Values for Istio's control plane.
    Mesh,
    /// Something else.
    Other,
}

/// The names of the modules.
pub const MODULES: [&str; 5] = ["penstock", "token-counter", "tenant-bucket", "canary-router", "pending-gauge"];

/// What a document of a file is made of: of a list, the items.
pub fn documents(root: At) -> Vec<Document> {
    if root.get("kind").words() == "List" && root.get("items").exists() {
        return root.get("items").items().into_iter().map(document).collect();
    }
    if root.get("kind").words() == "ConfigMap" {
        return in_config_map(&root);
    }
    vec![document(root)]
}

/// Of a ConfigMap, what of its data is a document of Penstock's: an Envoy's file, a dashboard, rules.
fn in_config_map(root: &At) -> Vec<Document> {
    let data = root.get("data").entries().into_iter().map(|(_, value)| value);
    let ours = data.filter(|value| value.mentions("penstock")).filter_map(|value| value.inner()).filter(At::is_map);
    ours.map(document).chain([document(root.clone())]).collect()
}

fn document(root: At) -> Document {
    let meta = root.get("metadata");
    let namespace = meta.get("namespace").text().unwrap_or("default").to_owned();
    Document { kind: kind(&root), name: meta.get("name").words().to_owned(), namespace, root }
}

fn kind(root: &At) -> Kind {
    let (version, kind) = (root.get("apiVersion"), root.get("kind"));
    if let (Some(version), Some(kind)) = (version.text(), kind.text()) {
        let group = version.split_once('/').map_or("", |(group, _)| group);
        return Kind::Resource(group.to_owned(), kind.to_owned());
    }
    if root.pb("static_resources").exists() {
        return Kind::Envoy;
    }
    if root.get("meshConfig").is_map() {
        return Kind::Mesh;
    }
    if root.get("groups").items().iter().any(|group| group.get("rules").exists()) {
        return Kind::Rules;
    }
    if root.get("panels").exists() && root.get("schemaVersion").exists() {
        return Kind::Dashboard;
    }
    if is_config(root) {
        return Kind::Config;
    }
    if is_config(&root.get("config")) {
        return Kind::Values;
    }
    Kind::Other
}

/// Whether most of a map's keys are the configuration's.
pub fn is_config(at: &At) -> bool {
    const ENTRIES_MAX: usize = 60;
    let entries = at.entries();
    if entries.is_empty() || entries.len() > ENTRIES_MAX {
        return false;
    }
    let known = entries.iter().filter(|(key, _)| is_section(key)).count();
    known * 2 > entries.len()
}

/// Whether the configuration has this key, which its parser knows.
fn is_section(key: &str) -> bool {
    let document = json!({key: Value::Null}).to_string();
    let unknown = |what: &str| what.starts_with("unknown field");
    !Config::parse(document.as_bytes()).is_err_and(|errors| errors.0.iter().any(|problem| unknown(&problem.what)))
}

impl Document {
    /// Whether it is a resource of this kind.
    pub fn is(&self, group: &str, kind: &str) -> bool {
        matches!(&self.kind, Kind::Resource(own, name) if own == group && name == kind)
    }

    /// `spec`.
    pub fn spec(&self) -> At {
        self.root.get("spec")
    }

    /// The part of a WasmPlugin or TrafficExtension that is about its module, if it is one of Penstock's.
    pub fn wasm(&self) -> Option<At> {
        let wasm = if self.is("extensions.istio.io", "WasmPlugin") {
            self.spec()
        } else if self.is("extensions.istio.io", "TrafficExtension") {
            self.spec().get("wasm")
        } else {
            return None;
        };
        let is_ours = MODULES.contains(&wasm.get("pluginName").words())
            || is_module(wasm.get("url").words())
            || is_config(&wasm.get("pluginConfig"));
        is_ours.then_some(wasm)
    }

    /// Whether it puts one of Penstock's modules into gateways.
    pub fn is_plugin(&self) -> bool {
        self.wasm().is_some()
    }

    /// `Kind namespace/name`.
    pub fn title(&self) -> String {
        match &self.kind {
            Kind::Resource(_, kind) => format!("{kind} {}/{}", self.namespace, self.name),
            _ => self.root.file.to_string(),
        }
    }
}

/// Whether a URL or a path is that of one of Penstock's modules.
pub fn is_module(url: &str) -> bool {
    let name = url.rsplit('/').next().unwrap_or(url);
    let name = name.split([':', '@']).next().unwrap_or(name);
    MODULES.contains(&name.strip_suffix(".wasm").unwrap_or(name))
}
