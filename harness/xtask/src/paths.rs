//! Modules that do not say where they were built. The messages of panics name source files; for crates of a registry that is a path inside
//! of cargo's home, so that each machine's modules, and their digests, would be its own. Cargo's `trim-paths` does this once it is stable.

use std::env;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::run::{Run, cargo};
use crate::target::TARGET;

/// Where all crates of registries seem to be.
const CRATES: &str = "crates";
/// They would take the place of the flags in .cargo/config.toml, and of those that are set here.
const FLAGS: [&str; 3] = ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_RUSTFLAGS"];

/// Adds to a build for [`TARGET`] what makes it forget the places of this machine.
///
/// # Errors
/// When cargo's home cannot be read.
pub fn forget(root: &Path, run: Run) -> Result<Run, String> {
    // The directories that are looked for below come with the sources. Where these cannot be had, what compiles says so, if it needs them.
    let _ = cargo(root).args(["fetch", "--target", TARGET]).go();
    let directories = registries(&root.join(cargo_home()?))?;
    let flags = directories.iter().map(|from| quoted(&format!("--remap-path-prefix={}={CRATES}", from.display())));
    let flags: Vec<String> = flags.collect();
    // Cargo adds this list to that of .cargo/config.toml.
    let config = ["--config".to_owned(), format!("target.{TARGET}.rustflags=[{}]", flags.join(","))];
    Ok(FLAGS.iter().fold(run, |run, name| run.without_env(name)).args_unsaid(config))
}

/// The directories of sources that cargo has unpacked, one for each registry or mirror of one.
fn registries(cargo_home: &Path) -> Result<Vec<PathBuf>, String> {
    let sources = cargo_home.join("registry/src");
    let mut directories: Vec<PathBuf> = match fs::read_dir(&sources) {
        Ok(entries) => entries.flatten().map(|entry| entry.path()).collect(),
        // All sources may lie elsewhere, as those that `cargo vendor` copied do.
        Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(format!("{}: {error}", sources.display())),
    };
    directories.sort();
    Ok(directories)
}

/// Where cargo keeps what it fetches.
///
/// # Errors
/// Where nothing says where that is.
pub fn cargo_home() -> Result<PathBuf, String> {
    let home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| env::home_dir().map(|home| home.join(".cargo")));
    home.ok_or_else(|| "neither CARGO_HOME nor HOME is set: where does cargo keep its sources?".to_owned())
}

/// A string of TOML.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_registry_has_its_directory() {
        let home = env::temp_dir().join(format!("penstock-xtask-paths-{}", std::process::id()));
        assert_eq!(registries(&home), Ok(Vec::new()));
        let directories = ["registry/src/a-1", "registry/src/b-2"].map(|name| home.join(name));
        directories.iter().for_each(|directory| fs::create_dir_all(directory).expect("a directory"));
        assert_eq!(registries(&home), Ok(directories.to_vec()));
        fs::remove_dir_all(&home).expect("removed");
    }

    #[test]
    fn paths_are_quoted() {
        assert_eq!(quoted(r#"a\b"c"#), r#""a\\b\"c""#);
    }
}
