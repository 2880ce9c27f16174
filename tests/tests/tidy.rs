//! House rules that matter are tests: who may know whom, what filters may not do, and what does not belong into a file.
//!
//! The rules are those of ARCHITECTURE.md. Nothing is compiled for this: manifests, sources and the list of tracked files are read.

#[path = "tidy/files.rs"]
mod files;
#[path = "tidy/planted.rs"]
mod planted;
#[path = "tidy/source.rs"]
mod source;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use penstock_tests::checkout;
use serde_json::Value;

use files::{Files, circles, describe};
use source::Module;

/// What a crate in this directory is to the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Role {
    Units,
    /// Where memory comes from.
    Blocks,
    Tables,
    Leaf,
    Exchange,
    Guest,
    Plugin,
    Harness,
    /// What people run: it may say what the filters would say.
    Command,
    /// Documents whose values know their lines.
    Document,
    /// A request under a configuration, as question and answer.
    Playground,
    /// The real control plane. Its tests are its own, and no other test has to compile it.
    Cluster,
    /// What is published of a module.
    Dist,
    /// Model servers and autoscalers as arithmetic.
    Simulate,
    Xtask,
    Tests,
    Benches,
}

use Role::{
    Benches, Blocks, Cluster, Command as CommandRole, Dist, Document, Exchange, Guest, Harness, Leaf, Playground,
    Plugin, Simulate, Tables, Tests, Units, Xtask,
};

/// The crates by directory; `*` is any one name.
const ROLES: [(&str, Role); 22] = [
    ("filters/units", Units),
    ("filters/blocks", Blocks),
    ("filters/tokens/tables", Tables),
    ("filters/tokens", Leaf),
    ("filters/dialects", Leaf),
    ("filters/bucket", Leaf),
    ("filters/canary", Leaf),
    ("filters/pending", Leaf),
    ("filters/exchange", Exchange),
    ("filters/guest", Guest),
    ("filters/plugins/*", Plugin),
    ("harness", Harness),
    ("harness/cli", CommandRole),
    ("harness/document", Document),
    ("harness/playground", Playground),
    ("harness/cluster", Cluster),
    ("harness/dist", Dist),
    ("harness/simulate", Simulate),
    ("harness/xtask", Xtask),
    ("tests", Tests),
    ("benches", Benches),
    ("benches/*", Benches),
];

/// Who may depend on whom. Only `filters/tokens` may have the tables too, of the leaves.
const ARROWS: [(Role, &[Role]); 17] = [
    (Units, &[]),
    (Blocks, &[]),
    (Tables, &[]),
    (Leaf, &[Units]),
    (Exchange, &[Units, Leaf]),
    (Guest, &[Units, Blocks, Exchange]),
    (Plugin, &[Guest]),
    (Harness, &[Document]),
    (Document, &[]),
    (Playground, &[Units, Tables, Leaf, Exchange, Document, Simulate]),
    (CommandRole, &[Units, Tables, Leaf, Exchange, Harness, Simulate, Document, Playground]),
    (Cluster, &[Harness, Dist, Simulate]),
    (Dist, &[]),
    (Simulate, &[]),
    (Xtask, &[]),
    (Tests, &[Units, Tables, Leaf, Exchange, Harness, Benches]),
    (Benches, &[Units, Tables, Leaf, Exchange, Harness, Benches]),
];

/// What no filter does, as each of its crates says in its lib.rs.
const DENIED: [&str; 5] = ["unwrap_used", "expect_used", "panic", "indexing_slicing", "arithmetic_side_effects"];

/// More than anybody reads from the top to the bottom.
const LINES_MAX: usize = 600;

#[test]
fn arrows_between_crates_point_one_way() {
    let packages = packages();
    let by_name: BTreeMap<&str, &Package> = packages.iter().map(|package| (package.name.as_str(), package)).collect();
    let mut problems = Vec::new();
    for package in &packages {
        let (_, allowed) = ARROWS.iter().find(|(role, _)| *role == package.role).expect("every role has its arrows");
        for dependency in &package.dependencies {
            if dependency == "proxy-wasm" && !matches!(package.role, Guest | Benches) {
                problems.push(format!("{}: only filters/guest may know proxy-wasm", package.directory));
            }
            let Some(other) = by_name.get(dependency.as_str()) else { continue };
            let own_tables = package.directory == "filters/tokens" && other.role == Tables;
            if !allowed.contains(&other.role) && !own_tables {
                let (from, to) = (&package.directory, &other.directory);
                problems.push(format!("{from} depends on {to}: {:?} may depend on {allowed:?} only", package.role));
            }
        }
    }
    none(&problems, "arrows that point the wrong way");
}

#[test]
fn filters_deny_what_could_trap() {
    let mut problems = Vec::new();
    for package in packages().iter().filter(|package| package.is_filter() && package.role != Tables) {
        let file = format!("{}/src/lib.rs", package.directory);
        let root = source::parse(&read(&file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        let attributes: String = root.attributes.iter().flat_map(|text| text.split_whitespace()).collect();
        let denied = attributes.split_once("deny(").map(|(_, denied)| denied).unwrap_or_default();
        let lints: BTreeSet<&str> = denied.split([',', '(', ')']).collect();
        let missing: Vec<&&str> =
            DENIED.iter().filter(|lint| !lints.contains(format!("clippy::{lint}").as_str())).collect();
        if !missing.is_empty() {
            problems.push(format!("{file}: `#![deny]` lacks {missing:?}"));
        }
    }
    none(&problems, "crates that may trap");
}

#[test]
fn what_is_pure_knows_no_clock_and_no_host() {
    let mut problems = Vec::new();
    for package in packages().iter().filter(|package| package.is_filter() && package.role != Guest) {
        for file in sources(&package.directory) {
            for module in source::parse(&read(&file)).unwrap_or_else(|error| panic!("{file}: {error}")).all() {
                problems.extend(impurities(module).into_iter().map(|what| format!("{file}: {what}")));
            }
        }
    }
    none(&problems, "impure code");
}

fn impurities(module: &Module) -> Vec<String> {
    let paths = module.imports.iter().map(|import| &import.path).chain(module.paths.iter().map(|named| &named.path));
    let mut found: Vec<String> = paths
        .filter(|path| match path.as_slice() {
            [std, time, rest @ ..] if std == "std" && time == "time" => {
                rest.first().is_none_or(|name| name == "Instant" || name == "SystemTime")
            }
            [first, ..] => first == "proxy_wasm",
            [] => false,
        })
        .map(|path| path.join("::"))
        .collect();
    found.extend(module.words.contains("proxy_wasm").then(|| "proxy_wasm".to_owned()));
    found
}

#[test]
fn no_circle_between_files() {
    let read = |path: &Path| fs::read_to_string(checkout().join(path)).ok();
    let mut problems = Vec::new();
    for package in packages().iter().filter(|package| package.is_filter() || package.directory.starts_with("harness")) {
        for root in roots(&package.directory) {
            let files = Files::load(Path::new(&root), &read).unwrap_or_else(|error| panic!("{error}"));
            let edges = files.edges();
            problems.extend(circles(&edges).iter().map(|circle| describe(circle, &edges)));
        }
    }
    none(&problems, "circles");
}

#[test]
fn the_keys_of_shared_data_are_the_table() {
    const KEYS: &str = "filters/exchange/src/keys.rs";
    let mut in_code = BTreeSet::new();
    let mut problems = Vec::new();
    for file in ["filters/exchange", "filters/guest"].into_iter().flat_map(sources) {
        for module in source::parse(&read(&file)).unwrap_or_else(|error| panic!("{file}: {error}")).all() {
            let keys = module.strings.iter().filter(|text| text.starts_with("penstock/"));
            if file == KEYS {
                in_code.extend(keys.map(|key| stem(key)));
            } else {
                problems.extend(keys.map(|key| format!("{file} names the key {key:?} itself, which is for {KEYS}")));
            }
        }
    }
    let architecture = read("ARCHITECTURE.md");
    let section = architecture.split("\n## ").find(|section| section.starts_with("Shared data"));
    let rows = section.unwrap_or_default().lines().filter_map(|line| line.strip_prefix("| `"));
    let in_table: BTreeSet<String> = rows.filter_map(|row| row.split('`').next()).map(stem).collect();
    let only =
        |these: &BTreeSet<String>, those: &BTreeSet<String>| these.difference(those).cloned().collect::<Vec<_>>();
    problems.extend(only(&in_code, &in_table).iter().map(|key| format!("ARCHITECTURE.md's table lacks {key}")));
    problems.extend(only(&in_table, &in_code).iter().map(|key| format!("{KEYS} lacks {key}, which the table has")));
    none(&problems, "differences");
}

/// A key up to what differs: `penstock/output/<model>` and `penstock/output/{model}` are one.
fn stem(key: &str) -> String {
    key.split(['<', '{']).next().unwrap_or(key).to_owned()
}

/// What is only true on one machine, and where that machine has its packages from.
#[test]
fn nothing_private_is_tracked() {
    // In pieces, as this file is tracked too.
    let paths = ["/wo|rk/", "/tmp/|wt", "/ro|ot/", "/ho|me/"];
    let hosts = [
        "crates|.io",
        "py|pi.org",
        "python|hosted.org",
        "npm|js.org",
        "npm|js.com",
        "golang|.org",
        "maven|.org",
        "debian|.org",
        "rust-lang|.org/dist",
    ];
    let whole = |patterns: &[&str]| patterns.iter().map(|pattern| pattern.replace('|', "")).collect::<Vec<_>>();
    let (paths, hosts) = (whole(&paths), whole(&hosts));
    let mut problems = Vec::new();
    // Lock files name registries by design, and so do Go modules, whose names are addresses.
    let may = |file: &String| [".lock", "go.sum", "go.mod"].iter().any(|end| file.ends_with(end));
    for file in tracked().iter().filter(|file| !may(file)) {
        let Ok(text) = fs::read_to_string(checkout().join(file)) else { continue };
        for (number, line) in text.lines().enumerate() {
            // Modules of Go are named after hosts.
            let hosts = hosts.iter().filter(|_| !file.ends_with("go.mod"));
            let found = paths.iter().chain(hosts).find(|pattern| line.contains(pattern.as_str()));
            problems.extend(found.map(|pattern| format!("{file}:{}: {pattern}", number + 1)));
        }
    }
    none(&problems, "private paths or names of registries");
}

#[test]
fn files_are_short_because_concepts_are_small() {
    let rust = tracked().into_iter().filter(|file| file.ends_with(".rs"));
    let lengths = rust.filter_map(|file| {
        let lines = fs::read_to_string(checkout().join(&file)).ok()?.lines().count();
        (lines > LINES_MAX).then(|| format!("{file}: {lines} lines, at most {LINES_MAX}"))
    });
    none(&lengths.collect::<Vec<_>>(), "long files");
}

#[track_caller]
fn none(problems: &[String], what: &str) {
    assert!(problems.is_empty(), "{} {what}:\n  {}\n", problems.len(), problems.join("\n  "));
}

/// A package of the workspace.
struct Package {
    name: String,
    /// Relative to the checkout.
    directory: String,
    role: Role,
    /// Names, of all kinds.
    dependencies: BTreeSet<String>,
}

impl Package {
    /// Whether it is below filters/ and not just a line that names the guest.
    fn is_filter(&self) -> bool {
        self.directory.starts_with("filters/") && self.role != Plugin
    }
}

fn packages() -> Vec<Package> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let arguments = ["metadata", "--format-version", "1", "--no-deps", "--offline"];
    let output = Command::new(cargo).current_dir(checkout()).args(arguments).output().expect("cargo runs");
    assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let root = metadata["workspace_root"].as_str().expect("a path");
    let text = |value: &Value| value.as_str().expect("a string").to_owned();
    let package = |package: &Value| {
        let manifest = text(&package["manifest_path"]);
        let directory = Path::new(&manifest).parent().and_then(|path| path.strip_prefix(root).ok()).expect("inside");
        let directory = directory.to_str().expect("UTF-8").to_owned();
        let dependencies = package["dependencies"].as_array().into_iter().flatten();
        let dependencies = dependencies.map(|dependency| text(&dependency["name"])).collect();
        Package { name: text(&package["name"]), role: role(&directory), directory, dependencies }
    };
    metadata["packages"].as_array().expect("packages").iter().map(package).collect()
}

fn role(directory: &str) -> Role {
    let matches = |pattern: &str| match pattern.strip_suffix('*') {
        Some(above) => directory.strip_prefix(above).is_some_and(|name| !name.contains('/')),
        None => directory == pattern,
    };
    let known = ROLES.iter().find(|(pattern, _)| matches(pattern));
    known.unwrap_or_else(|| panic!("{directory}: say in tests/tests/tidy.rs what this crate is to the others")).1
}

/// The files that the sources of a crate begin with.
fn roots(directory: &str) -> Vec<String> {
    let roots = ["lib.rs", "main.rs"].map(|name| format!("{directory}/src/{name}"));
    roots.into_iter().filter(|file| checkout().join(file).is_file()).collect()
}

/// All sources of a crate but those that are tests as a whole.
fn sources(directory: &str) -> Vec<String> {
    let mut open = vec![PathBuf::from(directory).join("src")];
    let mut files = Vec::new();
    while let Some(folder) = open.pop() {
        let entries = fs::read_dir(checkout().join(&folder)).unwrap_or_else(|error| panic!("{folder:?}: {error}"));
        for name in entries.flatten().map(|entry| folder.join(entry.file_name())) {
            if checkout().join(&name).is_dir() {
                open.push(name);
            } else if name.extension().is_some_and(|extension| extension == "rs") && !name.ends_with("tests.rs") {
                files.push(name.to_str().expect("UTF-8").to_owned());
            }
        }
    }
    files.sort();
    assert!(!files.is_empty(), "{directory} has no sources");
    files
}

/// What git has; in a copy without git, nothing could be said.
fn tracked() -> Vec<String> {
    let output = Command::new("git").current_dir(checkout()).args(["ls-files", "-z"]).output().expect("git runs");
    assert!(output.status.success(), "git ls-files: {}", String::from_utf8_lossy(&output.stderr));
    let names = String::from_utf8(output.stdout).expect("UTF-8");
    names.split_terminator('\0').map(str::to_owned).collect()
}

fn read(file: &str) -> String {
    fs::read_to_string(checkout().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}
