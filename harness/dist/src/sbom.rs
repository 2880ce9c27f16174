//! What is in a module: a software bill of materials in [CycloneDX 1.6](https://cyclonedx.org/docs/1.6/json/), as cargo resolves it for the
//! target and the features of the module.
//!
//! What is linked into the module has the scope `required`; what only ran while it was compiled (build scripts, macros) is `excluded`. Two
//! things are in the module that are no dependency of its package: the standard library, and the vocabularies, which a build script takes
//! from tiktoken-rs.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::path::Path;
use std::process::Command;

use serde::Serialize;

use crate::image::hexadecimal;

const TARGET: &str = "wasm32-wasip1";
/// Between the fields of what cargo prints; no name, version, licence or path has it.
const FORMAT: &str = "\t{p}\t{l}";
/// Features of the plugins, and whose merges they build in.
const VOCABULARIES: [(&str, &str); 2] = [("o200k", "o200k_base"), ("cl100k", "cl100k_base")];
/// Where the vocabularies come from.
const SOURCE: &str = "tiktoken-rs";

/// A module to describe.
#[derive(Clone, Copy, Debug)]
pub struct Module<'a> {
    /// The name of its image.
    pub name: &'a str,
    /// The package that was compiled.
    pub package: &'a str,
    /// Its features, with commas between them; the default ones where this is missing.
    pub features: Option<&'a str>,
    /// The vocabulary of one's own that is built in, as `penstock vocab` made it.
    pub table: Option<&'a [u8]>,
    /// What was compiled of it.
    pub bytes: &'a [u8],
}

/// The bill of materials, as JSON that ends in a line break.
///
/// # Errors
/// When cargo or the compiler cannot be asked, or their answers cannot be read.
pub fn describe(checkout: &Path, module: &Module<'_>) -> Result<String, String> {
    let linked = tree(checkout, module, "normal,no-proc-macro")?;
    let all = tree(checkout, module, "normal,build")?;
    let root = linked.first().ok_or_else(|| format!("{}: cargo knows no such package", module.package))?.clone();
    let lock = checkout.join("Cargo.lock");
    let checksums = std::fs::read_to_string(&lock).map_err(|error| format!("{}: {error}", lock.display()))?;
    let checksums = checksums_of(&checksums);

    let mut components = BTreeMap::new();
    for (nodes, scope) in [(&all, "excluded"), (&linked, "required")] {
        components.extend(nodes.iter().map(|node| (node.reference(), node.component(scope, &checksums))));
    }
    components.remove(&root.reference());
    let mut dependencies = edges(&linked);
    let own = dependencies.entry(root.reference()).or_default();
    let source = all.iter().find(|node| node.name == SOURCE);
    let mut components: Vec<Component> = components.into_values().collect();
    for component in vocabularies(module, source)?.into_iter().chain([standard_library(checkout)?]) {
        own.insert(component.reference.clone());
        components.push(component);
    }

    let mut subject = root.component("required", &checksums);
    subject.kind = "application";
    subject.name = module.name.to_owned();
    subject.hashes = vec![Hash::sha256(hexadecimal(module.bytes))];
    subject.purl = None;
    let bill = Bill {
        schema: "http://cyclonedx.org/schema/bom-1.6.schema.json",
        bom_format: "CycloneDX",
        spec_version: "1.6",
        version: 1,
        metadata: Metadata { component: subject },
        components,
        dependencies: dependencies
            .into_iter()
            .map(|(reference, depends_on)| Dependency { reference, depends_on })
            .collect(),
    };
    serde_json::to_string_pretty(&bill).map(|text| text + "\n").map_err(|error| error.to_string())
}

/// A crate in cargo's tree, at its depth.
#[derive(Clone, Debug)]
struct Node {
    depth: usize,
    name: String,
    version: String,
    licence: String,
}

impl Node {
    /// A line of `cargo tree`: `2<tab>serde v1.0.0 (proc-macro)<tab>MIT/Apache-2.0`.
    fn read(line: &str) -> Option<Self> {
        let mut fields = line.split('\t');
        let depth = fields.next()?.parse().ok()?;
        // Behind the version stands the path of a package of the workspace, or that it is a macro; neither is to be published.
        let mut words = fields.next()?.split(' ');
        let (name, version) = (words.next()?.to_owned(), words.next()?.strip_prefix('v')?.to_owned());
        // How SPDX expressions were written before cargo took them.
        let licence = fields.next()?.trim().replace('/', " OR ");
        (!licence.is_empty()).then_some(Self { depth, name, version, licence })
    }

    /// What the bill names it by.
    fn reference(&self) -> String {
        format!("{}@{}", self.name, self.version)
    }

    fn component(&self, scope: &'static str, checksums: &BTreeMap<(String, String), String>) -> Component {
        let checksum = checksums.get(&(self.name.clone(), self.version.clone()));
        Component {
            kind: "library",
            reference: self.reference(),
            name: self.name.clone(),
            version: Some(self.version.clone()),
            description: None,
            scope,
            hashes: checksum.cloned().map(Hash::sha256).into_iter().collect(),
            licenses: vec![License { expression: self.licence.clone() }],
            // Penstock's own crates are not published: under such a URL somebody else's would be found.
            purl: checksum.map(|_| format!("pkg:cargo/{}", self.reference())),
        }
    }
}

/// The package and what it depends on by these kinds of edges, for the target. Not `cargo metadata`: that resolves the features of build
/// scripts and of what they help to compile as one.
fn tree(checkout: &Path, module: &Module<'_>, edges: &str) -> Result<Vec<Node>, String> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.current_dir(checkout).args(["tree", "--locked", "--target", TARGET, "--edges", edges]);
    command.args(["--prefix", "depth", "--no-dedupe", "--charset", "ascii", "--format", FORMAT]);
    command.args(["--package", module.package]);
    if let Some(features) = module.features {
        command.args(["--no-default-features", "--features", features]);
    }
    let text = said(&mut command)?;
    // Between the kinds of edges stands a heading.
    let lines = text.lines().filter(|line| !line.is_empty() && !line.trim_start().starts_with('['));
    lines
        .map(|line| Node::read(line).ok_or_else(|| format!("not a crate with a version and a licence: `{line}`")))
        .collect()
}

/// Who depends on whom: a crate depends on those that follow one level deeper.
fn edges(nodes: &[Node]) -> BTreeMap<String, BTreeSet<String>> {
    let mut edges: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut above: Vec<String> = Vec::new();
    for node in nodes {
        above.truncate(node.depth);
        if let Some(parent) = above.last() {
            edges.entry(parent.clone()).or_default().insert(node.reference());
        }
        edges.entry(node.reference()).or_default();
        above.push(node.reference());
    }
    edges
}

/// The vocabularies that are built in.
fn vocabularies(module: &Module<'_>, source: Option<&Node>) -> Result<Vec<Component>, String> {
    let is_in = |feature: &str| module.features.is_none_or(|features| features.split(',').any(|one| one == feature));
    let built_in = VOCABULARIES.iter().filter(|(feature, _)| is_in(feature));
    let source = source.ok_or_else(|| format!("{}: the vocabularies come from {SOURCE} no more", module.package))?;
    let built_in = built_in.map(|(_, name)| Component {
        kind: "data",
        reference: format!("vocabulary/{name}"),
        name: (*name).to_owned(),
        version: Some(source.version.clone()),
        description: Some(format!("a vocabulary of byte pairs, from {SOURCE}")),
        scope: "required",
        hashes: Vec::new(),
        licenses: vec![License { expression: source.licence.clone() }],
        purl: None,
    });
    let own = module.table.map(|table| Component {
        kind: "data",
        reference: "vocabulary/custom".to_owned(),
        name: "custom".to_owned(),
        version: None,
        description: Some("a vocabulary of one's own, as penstock vocab made it".to_owned()),
        scope: "required",
        hashes: vec![Hash::sha256(hexadecimal(table))],
        licenses: Vec::new(),
        purl: None,
    });
    Ok(built_in.chain(own).collect())
}

/// What rustc links into every module.
fn standard_library(checkout: &Path) -> Result<Component, String> {
    let compiler = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let text = said(Command::new(compiler).current_dir(checkout).args(["--version", "--verbose"]))?;
    let release = text.lines().find_map(|line| line.strip_prefix("release: "));
    let version = release.ok_or_else(|| format!("rustc --version --verbose said no release: {text}"))?.to_owned();
    Ok(Component {
        kind: "library",
        reference: "rust/std".to_owned(),
        name: "std".to_owned(),
        version: Some(version),
        description: Some(format!("Rust's standard library for {TARGET}, with the wasi-libc that comes with it")),
        scope: "required",
        hashes: Vec::new(),
        licenses: vec![License {
            expression: "(MIT OR Apache-2.0) AND (Apache-2.0 WITH LLVM-exception OR MIT)".to_owned(),
        }],
        purl: None,
    })
}

/// Cargo.lock's checksums of what comes from a registry, by name and version.
fn checksums_of(lock: &str) -> BTreeMap<(String, String), String> {
    let value = |package: &str, key: &str| {
        let line = package.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(" = \""));
        line.and_then(|rest| rest.strip_suffix('"')).map(str::to_owned)
    };
    let packages = lock.split("[[package]]").skip(1);
    packages
        .filter_map(|package| {
            Some(((value(package, "name")?, value(package, "version")?), value(package, "checksum")?))
        })
        .collect()
}

fn said(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if !output.status.success() {
        return Err(format!("{command:?}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Bill {
    #[serde(rename = "$schema")]
    schema: &'static str,
    bom_format: &'static str,
    spec_version: &'static str,
    version: u8,
    metadata: Metadata,
    components: Vec<Component>,
    dependencies: Vec<Dependency>,
}

#[derive(Serialize)]
struct Metadata {
    component: Component,
}

#[derive(Serialize)]
struct Component {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(rename = "bom-ref")]
    reference: String,
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    scope: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    hashes: Vec<Hash>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    licenses: Vec<License>,
    #[serde(skip_serializing_if = "Option::is_none")]
    purl: Option<String>,
}

#[derive(Serialize)]
struct Hash {
    alg: &'static str,
    content: String,
}

impl Hash {
    fn sha256(content: String) -> Self {
        Self { alg: "SHA-256", content }
    }
}

#[derive(Serialize)]
struct License {
    expression: String,
}

#[derive(Serialize)]
struct Dependency {
    #[serde(rename = "ref")]
    reference: String,
    #[serde(rename = "dependsOn")]
    depends_on: BTreeSet<String>,
}
