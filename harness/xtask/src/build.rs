//! `cargo xtask build`: the filters as they are shipped.

use std::fs;
use std::path::{Path, PathBuf};

use crate::lazy_tables;
use crate::paths;
use crate::run::{Outcome, cargo_long};
use crate::target::{self, TARGET};

/// The modules in `dist/`, named as their packages are.
pub const PLUGINS: [&str; 5] = ["token-counter", "tenant-bucket", "canary-router", "pending-gauge", "penstock"];
/// The profile that they are compiled with.
pub const PROFILE: &str = "wasm";
const ENCODINGS: [&str; 2] = ["o200k", "cl100k"];

const HELP: &str = "\
Compiles the filters to WebAssembly and writes dist/{token-counter,tenant-bucket,canary-router,pending-gauge,penstock}.wasm.

Usage: cargo xtask build [--vocab FILE] [--encodings LIST]
       cargo xtask build --for-tests

  --vocab FILE       builds in the table that `penstock vocab` made, as `tokenizer: custom`
  --encodings LIST   of o200k,cl100k: the encodings to build in (default: both); `none` with --vocab
  --for-tests        instead: penstock.wasm with faults that requests can ask for, into target/for-tests/
";

/// What is built into the modules.
#[derive(Clone, Default)]
pub struct Variant {
    /// Features of the plugins, with commas between them; all of them where this is missing.
    pub encodings: Option<String>,
    /// A table that `penstock vocab` made.
    pub vocab: Option<PathBuf>,
    /// The names of functions stay in the module.
    pub has_names: bool,
}

impl Variant {
    /// Reads `--vocab FILE` and `--encodings LIST`.
    pub fn parse(command: &str, arguments: &[String]) -> Result<Self, String> {
        let mut variant = Self::default();
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            let value = rest.next().ok_or_else(|| format!("`{argument}` takes a value; see --help"))?;
            match argument.as_str() {
                "--vocab" => {
                    let file = fs::canonicalize(value).map_err(|error| format!("--vocab {value}: {error}"))?;
                    variant.vocab = Some(file);
                }
                "--encodings" => variant.encodings = Some(encodings(value)?),
                other => return Err(format!("`{command}` does not know `{other}`; see --help")),
            }
        }
        Ok(variant)
    }
}

/// The features of a list of encodings. Other features of the plugins are for tests.
fn encodings(list: &str) -> Result<String, String> {
    if list == "none" {
        return Ok(String::new());
    }
    match list.split(',').find(|name| !ENCODINGS.contains(name)) {
        Some(other) => {
            Err(format!("--encodings {list}: there is no `{other}`; write `none` or some of {}", ENCODINGS.join(",")))
        }
        None => Ok(list.to_owned()),
    }
}

pub fn command(root: &Path, arguments: &[String], help: bool) -> Outcome {
    if help {
        print!("{HELP}");
        return Ok(());
    }
    if arguments == ["--for-tests"] {
        return build_for_tests(root);
    }
    build_with(root, &PLUGINS, &Variant::parse("build", arguments)?)
}

/// Compiles all plugins and prints how large they became.
pub fn build(root: &Path) -> Outcome {
    build_with(root, &PLUGINS, &Variant::default())
}

/// Compiles the one module that has all stages.
pub fn build_all_in_one(root: &Path) -> Outcome {
    build_with(root, &["penstock"], &Variant::default())
}

/// Compiles the module that tests ask to fail. It is not where the shipped ones are, so that nothing takes it for one.
pub fn build_for_tests(root: &Path) -> Outcome {
    let features = [&ENCODINGS[..], &["faults"]].concat().join(",");
    let faulty = Variant { encodings: Some(features), ..Variant::default() };
    build_into(root, "target/for-tests", &["penstock"], &faulty)
}

/// Compiles the module that has all stages with the names of its functions in it, for benchmarks to tell them by. Its code is the shipped one's.
pub fn build_named(root: &Path) -> Outcome {
    build_into(root, "target/named", &["penstock"], &Variant { has_names: true, ..Variant::default() })
}

/// Compiles the module that has all stages with one encoding alone, for a benchmark to say what that saves.
pub fn build_o200k(root: &Path) -> Outcome {
    let only = Variant { encodings: Some("o200k".to_owned()), ..Variant::default() };
    build_into(root, "target/o200k", &["penstock"], &only)
}

/// Compiles a module once more, where nothing of the first time is: it has to be the same to the byte, as the image of it then is.
pub fn build_again(root: &Path) -> Outcome {
    const PLUGIN: &str = "pending-gauge";
    let elsewhere = target_directory(root).join("again");
    let said = |error: std::io::Error| format!("{}: {error}", elsewhere.display());
    let clear = || if elsewhere.exists() { fs::remove_dir_all(&elsewhere) } else { Ok(()) };
    clear().map_err(said)?;
    let built = compile_in(root, &elsewhere, &[PLUGIN], &Variant::default())?;
    let shipped = root.join(format!("dist/{PLUGIN}.wasm"));
    let read = |path: &Path| fs::read(path).map_err(|error| format!("{}: {error}", path.display()));
    let is_same = built.iter().all(|again| again.is_file()) && read(&built[0])? == read(&shipped)?;
    if !is_same {
        return Err(format!("{} is not {}: two builds make two digests", built[0].display(), shipped.display()));
    }
    clear().map_err(said)
}

fn build_with(root: &Path, plugins: &[&str], variant: &Variant) -> Outcome {
    build_into(root, "dist", plugins, variant)
}

fn build_into(root: &Path, directory: &str, plugins: &[&str], variant: &Variant) -> Outcome {
    let modules = compile(root, plugins, variant)?;
    let into = root.join(directory);
    fs::create_dir_all(&into).map_err(|error| format!("{directory}: {error}"))?;
    for (plugin, built) in plugins.iter().zip(modules) {
        let name = format!("{plugin}.wasm");
        // Moved into place, so that an Envoy that is just reading the module does not see half of it.
        let (next, shipped) = (into.join(format!("{name}.next")), into.join(&name));
        let size = fs::copy(&built, &next).map_err(|error| format!("{}: {error}", built.display()))?;
        fs::rename(&next, &shipped).map_err(|error| format!("{}: {error}", shipped.display()))?;
        eprintln!("{directory}/{name:<20} {:>9.2} MiB", size as f64 / f64::from(1 << 20));
    }
    Ok(())
}

/// Compiles plugins; where their modules are, in the same order. The next variant takes the same places.
pub fn compile(root: &Path, plugins: &[&str], variant: &Variant) -> Result<Vec<PathBuf>, String> {
    compile_in(root, &target_directory(root), plugins, variant)
}

fn compile_in(root: &Path, target: &Path, plugins: &[&str], variant: &Variant) -> Result<Vec<PathBuf>, String> {
    target::ensure(root)?;
    let packages = plugins.iter().flat_map(|plugin| ["--package", plugin]);
    let mut run = cargo_long(root, "build").args(["--profile", PROFILE, "--target", TARGET]).args(packages);
    if let Some(encodings) = &variant.encodings {
        run = run.args(["--no-default-features", "--features", encodings]);
    }
    if variant.has_names {
        run = run.env("CARGO_PROFILE_WASM_STRIP", "debuginfo");
    }
    if let Some(vocab) = &variant.vocab {
        run = run.env("PENSTOCK_VOCAB", vocab);
    }
    paths::forget(root, run)?.env("CARGO_TARGET_DIR", target).go()?;
    let built = target.join(TARGET).join(PROFILE);
    let packed = built.join("packed");
    fs::create_dir_all(&packed).map_err(|error| format!("{}: {error}", packed.display()))?;
    let pack = |plugin: &&str| {
        // Cargo writes the file of a library `a-b` as `a_b`.
        let name = format!("{}.wasm", plugin.replace('-', "_"));
        let (from, to) = (built.join(&name), packed.join(&name));
        let module = fs::read(&from).map_err(|error| format!("{}: {error}", from.display()))?;
        let module = lazy_tables::pack(&module).map_err(|error| format!("{}: {error}", from.display()))?;
        fs::write(&to, module).map_err(|error| format!("{}: {error}", to.display()))?;
        Ok(to)
    };
    plugins.iter().map(pack).collect()
}

/// Where cargo puts what it builds.
pub fn target_directory(root: &Path) -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |directory| root.join(directory))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_encodings_are_built_into_what_is_shipped() {
        assert_eq!(encodings("none"), Ok(String::new()));
        assert_eq!(encodings("o200k,cl100k"), Ok("o200k,cl100k".to_owned()));
        let refused = encodings("o200k,faults").unwrap_err();
        assert!(refused.contains("there is no `faults`"), "{refused}");
    }
}
