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

impl Module {
    /// Builds and copies what is missing; the directory that has it all.
    ///
    /// # Errors
    /// Without Go, and when a module cannot be fetched or compiled.
    pub fn build(&self, root: &Path) -> Result<PathBuf, String> {
        let source = root.join("harness/cluster").join(self.directory);
        let directory = cache()?.join(format!("{}-{:016x}", self.directory, key(&source)?));
        fs::create_dir_all(&directory).map_err(|error| format!("{}: {error}", directory.display()))?;
        let _turn = turn(&directory)?;
        for wanted in self.programs {
            let (next, built) = (directory.join(format!("{}.next", wanted.name)), directory.join(wanted.name));
            if built.is_file() {
                continue;
            }
            installed(root)?;
            eprintln!("xtask: building {}, {} ({} on two cores)", wanted.name, wanted.what, wanted.usual);
            let began = Instant::now();
            // Nobody debugs them. What debuggers read would be left out at the end (-w), and takes an eighth of the time to make.
            let fixed = ["build", "-mod=readonly", "-p", "2", "-gcflags=all=-dwarf=false", "-ldflags", "-s -w", "-o"];
            go(&source).args(fixed).args([&next]).args([wanted.package]).go()?;
            fs::rename(&next, &built).map_err(|error| format!("{}: {error}", built.display()))?;
            eprintln!("xtask: {} took {}", built.display(), duration(began.elapsed().as_secs()));
        }
        self.copy(root, &source, &directory)?;
        Ok(directory)
    }

    fn copy(&self, root: &Path, source: &Path, directory: &Path) -> Outcome {
        // Written last: copies that were interrupted are made again.
        let stamp = directory.join("copied");
        let wanted: String = self.files.iter().map(|files| format!("{} {}\n", files.module, files.from)).collect();
        if fs::read_to_string(&stamp).is_ok_and(|copied| copied == wanted) {
            return Ok(());
        }
        if !self.files.is_empty() {
            installed(root)?;
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
        fs::write(&stamp, wanted).map_err(|error| format!("{}: {error}", stamp.display()))
    }
}

/// Whether there is Go to fetch and to build with.
fn installed(root: &Path) -> Outcome {
    let version = go(root).args(["version"]).output();
    version.map(drop).map_err(|error| format!("there is no Go to build with ({error}): install Go 1.26 or later"))
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
