//! `istio/chart`, rendered by Helm: into the sets that are shipped, and for whatever values a test has.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

use super::set::{Document, parse_text, root};
use super::tools;

/// A folder of `istio/` that is rendered: from these values of `chart/examples`, what the templates below these folders make.
pub struct Rendered {
    pub folder: &'static str,
    examples: &'static [&'static str],
    templates: &'static [&'static str],
}

pub const RENDERED: [Rendered; 7] = [
    Rendered { folder: "mesh/wasmplugin", examples: &["two-models", "wasmplugin"], templates: &["mesh"] },
    Rendered { folder: "mesh/trafficextension", examples: &["two-models"], templates: &["mesh"] },
    Rendered { folder: "autoscaling", examples: &["two-models"], templates: &["autoscaling"] },
    Rendered { folder: "monitoring", examples: &["two-models"], templates: &["monitoring"] },
    Rendered { folder: "gateway-api", examples: &["gateway-api"], templates: &["mesh", "autoscaling", "monitoring"] },
    Rendered { folder: "rollout/argo", examples: &["rollout", "argo"], templates: &["mesh", "rollout"] },
    Rendered { folder: "rollout/flagger", examples: &["rollout", "flagger"], templates: &["mesh", "rollout"] },
];

/// Helm; without it the reason to skip.
pub struct Helm(PathBuf);

impl Helm {
    pub fn find() -> Option<Helm> {
        tools::program("helm", "PENSTOCK_HELM").map(Helm)
    }

    /// The files of a rendered folder, by their names.
    pub fn folder(&self, rendered: &Rendered) -> BTreeMap<String, String> {
        let examples: Vec<_> =
            rendered.examples.iter().map(|name| root().join(format!("chart/examples/{name}.yaml"))).collect();
        let names: Vec<_> = rendered.examples.iter().map(|name| format!("chart/examples/{name}.yaml")).collect();
        let source = names.join(" and ");
        let mut files: BTreeMap<String, String> = BTreeMap::new();
        for (template, text) in sources(&printed(&self.template(&examples, &[]))) {
            let path = Path::new(&template);
            let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else { panic!("{template}") };
            if rendered.templates.iter().any(|wanted| Path::new(wanted) == folder) {
                let file = files
                    .entry(name.to_string_lossy().into_owned())
                    .or_insert_with(|| format!("# Rendered by Helm from {source}: change it there, or in chart/.\n"));
                if file.lines().count() > 1 {
                    file.push_str("---\n");
                }
                file.push_str(&text);
            }
        }
        let mut kustomization = "# Rendered beside the files.\napiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources:\n".to_owned();
        for name in files.keys() {
            kustomization.push_str(&format!("- {name}\n"));
        }
        files.insert("kustomization.yaml".into(), kustomization);
        files
    }

    /// What the chart makes of the values of these files, with these on top of them.
    pub fn template(&self, files: &[PathBuf], set: &[&str]) -> Output {
        self.run(&["template"], files, set)
    }

    /// What whoever installs it is told.
    pub fn notes(&self, files: &[PathBuf], set: &[&str]) -> String {
        let said = printed(&self.run(&["install", "--dry-run=client"], files, set));
        said.split_once("\nNOTES:\n").expect("notes").1.to_owned()
    }

    fn run(&self, verb: &[&str], files: &[PathBuf], set: &[&str]) -> Output {
        let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join("helm");
        let mut command = Command::new(&self.0);
        command.args(verb).arg("penstock").arg(root().join("chart")).args(["--namespace", "istio-ingress"]);
        for file in files {
            command.arg("-f").arg(file);
        }
        for value in set {
            command.args(["--set-json", value]);
        }
        // Nothing of this machine's own Helm is read or written.
        for folder in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
            command.env(folder, &home);
        }
        command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"))
    }
}

/// What Helm printed. Panics with its message if it failed.
pub fn printed(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

/// The resources that Helm printed.
pub fn resources(text: &str) -> Vec<Document> {
    let documents = |(path, text): (String, String)| {
        let values: Vec<Value> = parse_text(&text, &path);
        values.into_iter().map(move |value| Document { path: PathBuf::from(&path), value })
    };
    sources(text).into_iter().flat_map(documents).collect()
}

/// Writes a folder's files, and takes away what is no longer made.
pub fn write(folder: &Path, files: &BTreeMap<String, String>) {
    fs::create_dir_all(folder).expect("a folder");
    let wanted: BTreeSet<_> = files.keys().map(String::as_str).collect();
    for path in yaml_files(folder) {
        if !wanted.contains(name(&path)) && is_rendered(&path) {
            fs::remove_file(&path).expect("removed");
        }
    }
    for (name, text) in files {
        fs::write(folder.join(name), text).expect("written");
    }
}

/// How a folder differs from what is rendered.
pub fn differences(folder: &Path, files: &BTreeMap<String, String>) -> Vec<String> {
    let mut differ: Vec<_> = files
        .iter()
        .filter(|(name, text)| fs::read_to_string(folder.join(name)).ok().as_ref() != Some(*text))
        .map(|(name, _)| folder.join(name).display().to_string())
        .collect();
    let stale = yaml_files(folder).into_iter().filter(|path| !files.contains_key(name(path)) && is_rendered(path));
    differ.extend(stale.map(|path| format!("{} is made no more", path.display())));
    differ
}

/// Whether a file says in its first line that it is made. Others may stand beside them: unit tests, runbooks.
fn is_rendered(path: &Path) -> bool {
    fs::read_to_string(path).is_ok_and(|text| text.starts_with("# Rendered "))
}

fn yaml_files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().map(|entry| entry.expect("a readable entry").path());
    entries.filter(|path| path.extension().is_some_and(|ending| ending == "yaml")).collect()
}

fn name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or("")
}

/// The documents that Helm printed, each with the template that it comes from, relative to `templates/`.
fn sources(text: &str) -> Vec<(String, String)> {
    let mut documents: Vec<(String, String)> = Vec::new();
    for line in text.lines() {
        if line == "---" {
            continue;
        }
        if let Some(source) = line.strip_prefix("# Source: penstock/templates/") {
            documents.push((source.to_owned(), String::new()));
        } else if let Some((_, document)) = documents.last_mut() {
            // Helm leaves the blank lines of actions.
            if !line.trim().is_empty() {
                document.push_str(line.trim_end());
                document.push('\n');
            }
        }
    }
    documents
}
