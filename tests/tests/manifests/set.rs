//! The files under `istio/`, read once.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

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

/// Everything under `istio/`.
#[derive(Clone, Debug)]
pub struct Set {
    pub root: PathBuf,
    pub documents: Vec<Document>,
    /// Grafana's dashboard, the one file that is JSON.
    pub dashboard: Value,
}

impl Set {
    /// Reads and parses every `.yaml` file. Panics with the file's name if one does not parse.
    pub fn load() -> Set {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../istio");
        let mut files = Vec::new();
        walk(&root, &mut files);
        files.retain(|file| file.extension().is_some_and(|ending| ending == "yaml"));
        files.sort();
        let documents = files
            .iter()
            .flat_map(|file| {
                let path = file.strip_prefix(&root).expect("found under the root").to_path_buf();
                parse(file).into_iter().map(move |value| Document { path: path.clone(), value })
            })
            .collect();
        let dashboard = parse(&root.join("monitoring/dashboard.json")).remove(0);
        Set { root, documents, dashboard }
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

    /// The only document of a file, for files that are not Kubernetes resources.
    pub fn file(&self, path: &str) -> &Value {
        let found: Vec<_> = self.documents.iter().filter(|document| document.path == Path::new(path)).collect();
        assert_eq!(found.len(), 1, "expected one document in {path}");
        &found[0].value
    }

    /// What goes to a cluster: documents with a kind, but not the kustomizations.
    pub fn resources(&self) -> impl Iterator<Item = &Document> {
        self.documents.iter().filter(|document| !matches!(document.kind(), "" | "Kustomization"))
    }

    /// The first resource of a kind, to be spoilt by a test that wants a check to fail.
    pub fn one_mut(&mut self, kind: &str) -> &mut Value {
        let found = self.documents.iter_mut().find(|document| document.kind() == kind);
        &mut found.unwrap_or_else(|| panic!("no {kind}")).value
    }
}

/// The YAML files that a kustomization reaches, itself included; `Err` names a file that does not exist.
pub fn reached(kustomization: &Path) -> Result<BTreeSet<PathBuf>, String> {
    let folder = kustomization.parent().expect("a file has a folder");
    let mut files = BTreeSet::from([canonical(kustomization)?]);
    let documents = parse(kustomization);
    for resource in list(&documents[0]["resources"]) {
        let target = folder.join(resource.as_str().unwrap_or(""));
        if target.is_dir() {
            files.extend(reached(&target.join("kustomization.yaml"))?);
        } else {
            files.insert(canonical(&target)?);
        }
    }
    for file in list(&documents[0]["configMapGenerator"]).iter().flat_map(|generator| list(&generator["files"])) {
        canonical(&folder.join(file.as_str().unwrap_or("")))?;
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

fn canonical(path: &Path) -> Result<PathBuf, String> {
    fs::canonicalize(path).map_err(|error| format!("{}: {error}", path.display()))
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let path = entry.expect("a readable entry").path();
        if path.is_dir() {
            walk(&path, files);
        } else {
            files.push(path);
        }
    }
}

/// Every document of a YAML file. By way of YAML's own value, because that one refuses duplicate keys.
pub fn parse(file: &Path) -> Vec<Value> {
    let text = fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    serde_yaml_ng::Deserializer::from_str(&text)
        .map(|document| {
            let yaml = serde_yaml_ng::Value::deserialize(document);
            let yaml = yaml.unwrap_or_else(|error| panic!("{}: {error}", file.display()));
            serde_json::to_value(yaml).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
        })
        .filter(|value| !value.is_null())
        .collect()
}
