//! Programs that are built from pinned Go modules: each directory of harness/cluster/ with a go.mod is one, and nothing of it is changed.
//!
//! What is built is kept for all checkouts of a machine, under a name that has the hash of go.mod and go.sum in it: a change of either builds
//! again, and nothing else does.

use std::env;
use std::fs::{self, File, TryLockError};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::run::{Outcome, Run, program};
use crate::steps::duration;

/// A directory with a go.mod, and what is wanted of it.
pub struct Module {
    /// Below harness/cluster/.
    pub directory: &'static str,
    /// What is built.
    pub programs: &'static [Program],
    /// What is copied.
    pub files: &'static [Files],
}

/// Written last: copies that were interrupted are made again.
const STAMP: &str = "copied";

/// One program.
pub struct Program {
    /// How the built file is called.
    pub name: &'static str,
    /// Its Go package.
    pub package: &'static str,
    /// What it is for.
    pub what: &'static str,
    /// How long it takes to build on two cores with nothing else to do, after those before it and with no caches.
    pub usual: &'static str,
}

/// Files of a module that are no Go code: schemas, templates.
pub struct Files {
    /// The module.
    pub module: &'static str,
    /// A file in it, or a directory whose YAML files are meant.
    pub from: &'static str,
    /// The directory that they are copied to, `.` for none.
    pub to: &'static str,
}

/// Builds and copies what is missing of these; the directory of each.
///
/// # Errors
/// Without a Go that is as new as all of them ask for, before the first is built; and when one cannot be fetched or compiled.
pub fn build(root: &Path, modules: &[&Module]) -> Result<Vec<PathBuf>, String> {
    let mut needed = (Version::default(), "");
    for module in modules {
        if !module.is_there(root)? {
            needed = needed.max((asked_for(&module.source(root))?, module.directory));
        }
    }
    if needed != (Version::default(), "") {
        enough(root, needed)?;
    }
    modules.iter().map(|module| module.build(root)).collect()
}

impl Module {
    fn source(&self, root: &Path) -> PathBuf {
        root.join("harness/cluster").join(self.directory)
    }

    /// Where it is kept.
    fn place(&self, root: &Path) -> Result<PathBuf, String> {
        Ok(cache()?.join(format!("{}-{:016x}", self.directory, key(&self.source(root))?)))
    }

    /// Whether nothing is left to do.
    fn is_there(&self, root: &Path) -> Result<bool, String> {
        let directory = self.place(root)?;
        Ok(self.is_copied(&directory) && self.programs.iter().all(|program| directory.join(program.name).is_file()))
    }

    fn build(&self, root: &Path) -> Result<PathBuf, String> {
        let (source, directory) = (self.source(root), self.place(root)?);
        fs::create_dir_all(&directory).map_err(|error| format!("{}: {error}", directory.display()))?;
        let _turn = turn(&directory)?;
        for wanted in self.programs {
            let (next, built) = (directory.join(format!("{}.next", wanted.name)), directory.join(wanted.name));
            if built.is_file() {
                continue;
            }
            eprintln!("xtask: building {}, {} ({} on two cores)", wanted.name, wanted.what, wanted.usual);
            let began = Instant::now();
            // Nobody debugs them. What debuggers read would be left out at the end (-w), and takes an eighth of the time to make.
            let fixed = ["build", "-mod=readonly", "-p", "2", "-gcflags=all=-dwarf=false", "-ldflags", "-s -w", "-o"];
            go(&source).args(fixed).args([&next]).args([wanted.package]).go()?;
            fs::rename(&next, &built).map_err(|error| format!("{}: {error}", built.display()))?;
            eprintln!("xtask: {} took {}", built.display(), duration(began.elapsed().as_secs()));
        }
        self.copy(&source, &directory)?;
        Ok(directory)
    }

    /// What the stamp says once all files are copied.
    fn copies(&self) -> String {
        self.files.iter().map(|files| format!("{} {}\n", files.module, files.from)).collect()
    }

    fn is_copied(&self, directory: &Path) -> bool {
        fs::read_to_string(directory.join(STAMP)).is_ok_and(|copied| copied == self.copies())
    }

    fn copy(&self, source: &Path, directory: &Path) -> Outcome {
        if self.is_copied(directory) {
            return Ok(());
        }
        for files in self.files {
            go(source).args(["mod", "download", files.module]).go()?;
            let fetched = go(source).args(["list", "-mod=readonly", "-m", "-f", "{{.Dir}}", files.module]).output()?;
            let from = Path::new(fetched.trim()).join(files.from);
            let to = directory.join(files.to);
            let io = |error: std::io::Error| format!("{}: {error}", from.display());
            fs::create_dir_all(&to).map_err(io)?;
            let whole = if from.is_dir() { yaml_files(&from).map_err(io)? } else { vec![from.clone()] };
            for file in whole {
                // The bytes, and not the file: what the module cache has is read-only, and so would the copy be.
                let name = file.file_name().unwrap_or_default();
                fs::write(to.join(name), fs::read(&file).map_err(io)?).map_err(io)?;
            }
        }
        let stamp = directory.join(STAMP);
        fs::write(&stamp, self.copies()).map_err(|error| format!("{}: {error}", stamp.display()))
    }
}

/// Major, minor and patch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Version([u32; 3]);

impl Version {
    /// Reads `1.26`, `1.26.7` or `1.27rc1`, which is before 1.27.0 but has what that has.
    fn parse(text: &str) -> Option<Self> {
        let mut version = [0; 3];
        for (part, place) in text.split('.').zip(&mut version) {
            let digits = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
            *place = part[..digits].parse().ok()?;
        }
        Some(Self(version))
    }
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [major, minor, patch] = self.0;
        write!(f, "{major}.{minor}.{patch}")
    }
}

/// What a go.mod asks for, which is no less than what the modules ask for that it names.
fn asked_for(source: &Path) -> Result<Version, String> {
    let path = source.join("go.mod");
    let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let asked = text.lines().find_map(|line| line.strip_prefix("go ")).and_then(Version::parse);
    asked.ok_or_else(|| format!("{}: no line `go VERSION`", path.display()))
}

/// Whether there is Go to fetch and to build with, and new enough: no other is fetched.
fn enough(root: &Path, (needed, directory): (Version, &str)) -> Outcome {
    let install = format!("install Go {needed} or later");
    let said = go(root).args(["env", "GOVERSION"]).output();
    let said = said.map_err(|error| format!("there is no Go to build with ({error}): {install}"))?;
    // One of somebody's own makes has no number.
    let version = said.trim().strip_prefix("go").and_then(Version::parse);
    if version.is_some_and(|version| version < needed) {
        return Err(format!("{} is too old for harness/cluster/{directory}/go.mod: {install}", said.trim()));
    }
    Ok(())
}

/// `go`, as everything is built with it: what is built does not depend on C libraries, nor on a compiler that is fetched.
fn go(directory: &Path) -> Run {
    program(directory, "go").env("CGO_ENABLED", "0").env("GOFLAGS", "-buildvcs=false").env("GOTOOLCHAIN", "local")
}

/// Waits for other processes that build the same, as long as this is kept.
fn turn(directory: &Path) -> Result<File, String> {
    let path = directory.join("lock");
    let said = |error: std::io::Error| format!("{}: {error}", path.display());
    let file = File::create(&path).map_err(said)?;
    if let Err(TryLockError::WouldBlock) = file.try_lock() {
        eprintln!("xtask: waiting for another process that builds in {}", directory.display());
        file.lock().map_err(said)?;
    }
    Ok(file)
}

fn yaml_files(directory: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let is_yaml = path.extension().is_some_and(|extension| extension == "yaml");
        // Kustomize's own file names the others.
        files.extend((is_yaml && !path.ends_with("kustomization.yaml")).then_some(path));
    }
    Ok(files)
}

/// Where a machine keeps what can be made again.
fn cache() -> Result<PathBuf, String> {
    let own = env::var_os("XDG_CACHE_HOME").filter(|path| Path::new(path).is_absolute()).map(PathBuf::from);
    let cache = own.or_else(|| env::home_dir().map(|home| home.join(".cache")));
    Ok(cache.ok_or("neither XDG_CACHE_HOME nor HOME is set")?.join("penstock/cluster"))
}

fn key(source: &Path) -> Result<u64, String> {
    let mut hasher = DefaultHasher::new();
    for name in ["go.mod", "go.sum"] {
        let path = source.join(name);
        fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?.hash(&mut hasher);
    }
    Ok(hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_in_order() {
        let versions = ["1.26", "1.26.1", "1.26.10", "1.27rc1"].map(|text| Version::parse(text).expect("a version"));
        assert!(versions.is_sorted() && versions[1] < versions[2], "{versions:?}");
        assert_eq!(Version::parse("devel"), None);
        assert_eq!(versions[0].to_string(), "1.26.0");
    }

    /// Whoever reads what to install installs what is enough for all.
    #[test]
    fn what_is_said_to_be_needed_is_enough() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("the root");
        let directories = fs::read_dir(root.join("harness/cluster")).expect("a directory").flatten();
        let modules = directories.map(|entry| entry.path()).filter(|path| path.join("go.mod").is_file());
        let needed = modules.map(|path| asked_for(&path).expect("a version")).max().expect("a module");
        for page in ["CONTRIBUTING.md", "harness/xtask/src/cluster.rs"] {
            let text = fs::read_to_string(root.join(page)).expect("a page");
            for (at, _) in text.match_indices("eeds Go ") {
                assert!(text[at..].starts_with(&format!("eeds Go {needed}")), "{page}: {needed} is needed");
            }
            assert!(text.contains("eeds Go "), "{page}");
        }
    }
}
