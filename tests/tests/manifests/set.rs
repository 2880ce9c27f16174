//! What `kubectl apply -k` takes from folders of `istio/`, read once.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

/// A complete set: the folders that are applied together, below `istio/`.
pub type Folders = &'static [&'static str];

/// Every set that is shipped.
pub const SETS: [Folders; 5] = [
    &["mesh/wasmplugin", "autoscaling", "monitoring"],
    &["mesh/trafficextension", "autoscaling", "monitoring"],
    &["gateway-api"],
    &["rollout/argo", "monitoring"],
    &["rollout/flagger", "monitoring"],
];
/// Values for the charts of Istio, which stand beside every set: for `istiod`, and for `gateway`.
pub const ISTIOD: &str = "mesh/values-istiod.yaml";
pub const GATEWAY: &str = "mesh/values-gateway.yaml";

/// One YAML document and the file that it stands in, relative to `istio/`.
#[derive(Clone, Debug)]
pub struct Document {
    pub path: PathBuf,
    pub value: Value,
}

impl Document {
    pub fn kind(&self) -> &str {
        self.value["kind"].as_str().unwrap_or("")
    }

    /// `Kind namespace/name (file)`, for messages.
    pub fn title(&self) -> String {
        let meta = &self.value["metadata"];
        format!(
            "{} {}/{} ({})",
            self.kind(),
            meta["namespace"].as_str().unwrap_or(""),
            meta["name"].as_str().unwrap_or(""),
            self.path.display()
        )
    }
}

/// The resources of a set, and the values for Istio's own charts.
#[derive(Clone, Debug)]
pub struct Set {
    pub documents: Vec<Document>,
    pub istiod: Value,
    pub gateway_pods: Value,
}

impl Set {
    /// Reads and parses what the folders apply. Panics with the file's name if one does not parse.
    pub fn load(folders: Folders) -> Set {
        let root = root();
        let files = folders.iter().flat_map(|folder| reached(&root.join(folder)).expect("every file is there"));
        let documents = files.flat_map(|file| {
            let path = file.strip_prefix(&root).expect("found under the root").to_path_buf();
            parse(&file).into_iter().map(move |value| Document { path: path.clone(), value })
        });
        Set::of(documents.filter(|document| document.kind() != "Kustomization").collect())
    }

    /// Resources that come from elsewhere, beside the shipped values for Istio's charts.
    pub fn of(documents: Vec<Document>) -> Set {
        let values = |file: &str| parse(&root().join(file)).remove(0);
        Set { documents, istiod: values(ISTIOD), gateway_pods: values(GATEWAY) }
    }

    pub fn of_kind(&self, kind: &str) -> impl Iterator<Item = &Document> {
        self.documents.iter().filter(move |document| document.kind() == kind)
    }

    /// The only resource of a kind.
    pub fn one(&self, kind: &str) -> &Value {
        let found: Vec<_> = self.of_kind(kind).collect();
        assert_eq!(found.len(), 1, "expected one {kind}, found {found:?}");
        &found[0].value
    }

    /// The plugin, of whichever kind.
    pub fn plugin(&self) -> &Value {
        let kind = if self.of_kind("WasmPlugin").next().is_some() { "WasmPlugin" } else { "TrafficExtension" };
        self.one(kind)
    }

    /// What the plugin says of its module and its configuration.
    pub fn wasm(&self) -> &Value {
        let spec = &self.plugin()["spec"];
        spec.get("wasm").unwrap_or(spec)
    }

    /// The configuration of the filters.
    pub fn config(&self) -> &Value {
        &self.wasm()["pluginConfig"]
    }

    /// Grafana's dashboards, by the names of their files.
    pub fn dashboards(&self) -> Vec<(String, Value)> {
        let files = self.of_kind("ConfigMap").filter_map(|map| map.value["data"].as_object()).flatten();
        let boards = files.filter(|(name, _)| name.ends_with(".json"));
        let read = |(name, board): (&String, &Value)| {
            let board = board.as_str().and_then(|board| serde_json::from_str(board).ok());
            (name.clone(), board.unwrap_or_else(|| panic!("{name} is no JSON")))
        };
        boards.map(read).collect()
    }

    /// What the panels of the dashboards ask.
    pub fn panels(&self) -> Vec<String> {
        let boards = self.dashboards();
        let panels = boards.iter().flat_map(|(_, board)| list(&board["panels"]));
        let targets = panels.flat_map(|panel| list(&panel["targets"]));
        targets.filter_map(|target| target["expr"].as_str()).map(str::to_owned).collect()
    }

    /// The first resource of a kind, to be spoilt by a test that wants a check to fail.
    pub fn one_mut(&mut self, kind: &str) -> &mut Value {
        let found = self.documents.iter_mut().find(|document| document.kind() == kind);
        &mut found.unwrap_or_else(|| panic!("no {kind}")).value
    }
}

/// The folder `istio/`.
pub fn root() -> PathBuf {
    fs::canonicalize(Path::new(env!("CARGO_MANIFEST_DIR")).join("../istio")).expect("istio/")
}

/// The YAML files that the kustomization of a folder reaches, itself included; `Err` names a file that does not exist.
pub fn reached(folder: &Path) -> Result<BTreeSet<PathBuf>, String> {
    let kustomization = canonical(&folder.join("kustomization.yaml"))?;
    let resources = parse(&kustomization).remove(0)["resources"].take();
    let mut files = BTreeSet::from([kustomization]);
    for resource in list(&resources) {
        files.insert(canonical(&folder.join(resource.as_str().unwrap_or("")))?);
    }
    Ok(files)
}

/// The items of a JSON array; none for anything else.
pub fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// The names of a list of objects: `[{"name": …}, …]`.
pub fn names(value: &Value) -> BTreeSet<String> {
    list(value).iter().filter_map(|item| item["name"].as_str()).map(str::to_owned).collect()
}

/// Every document of a YAML file.
pub fn parse(file: &Path) -> Vec<Value> {
    let text = fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    parse_text(&text, &file.display().to_string())
}

/// Every document of a YAML text. By way of YAML's own value, because that one refuses duplicate keys.
pub fn parse_text(text: &str, name: &str) -> Vec<Value> {
    serde_yaml_ng::Deserializer::from_str(text)
        .map(|document| {
            let yaml = serde_yaml_ng::Value::deserialize(document);
            let yaml = yaml.unwrap_or_else(|error| panic!("{name}: {error}"));
            serde_json::to_value(yaml).unwrap_or_else(|error| panic!("{name}: {error}"))
        })
        .filter(|value| !value.is_null())
        .collect()
}

fn canonical(path: &Path) -> Result<PathBuf, String> {
    fs::canonicalize(path).map_err(|error| format!("{}: {error}", path.display()))
}
