//! `cargo xtask playground`: the page that shows what a configuration does.

use std::fs;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use crate::run::{Outcome, cargo_long, program};
use crate::target;
use crate::{build, lazy_tables, paths};

const HELP: &str = "\
Makes dist/playground.html: one file that works from a disk, without a server, and asks nobody for anything; and opens it where that
can be seen.

Usage: cargo xtask playground
";
const PACKAGE: &str = "penstock-playground";
/// Makes tables in the page.
const GENERATOR: &str = "table";
const PAGE: &str = "dist/playground.html";

pub fn command(root: &Path, arguments: &[String], help: bool) -> Outcome {
    if help {
        print!("{HELP}");
        return Ok(());
    }
    if let Some(other) = arguments.first() {
        return Err(format!("`playground` does not know `{other}`; see --help"));
    }
    let page = make(root)?;
    // Where there is nobody to look at it, its place is said.
    let opener = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };
    if std::io::stdout().is_terminal() && program(root, opener).args([&page]).works() {
        return Ok(());
    }
    println!("open {}", page.display());
    Ok(())
}

/// Makes the page, and says where it is.
pub fn make(root: &Path) -> Result<PathBuf, String> {
    target::ensure(root)?;
    let own = ["--package", PACKAGE, "--bin", PACKAGE, "--bin", GENERATOR];
    let run = cargo_long(root, "build").args(["--profile", build::PROFILE, "--target", target::TARGET]).args(own);
    paths::forget(root, run)?.go()?;
    let built = build::target_directory(root).join(target::TARGET).join(build::PROFILE);
    let (module, parts) = (built.join(format!("{PACKAGE}.wasm")), built.join(PACKAGE));
    let read = fs::read(&module).map_err(|error| format!("{}: {error}", module.display()))?;
    let (without, tables) = lazy_tables::taken_out(&read).map_err(|error| format!("{}: {error}", module.display()))?;
    let written = |file: &str, bytes: &[u8]| {
        fs::write(parts.join(file), bytes).map_err(|error| format!("{}: {error}", parts.join(file).display()))
    };
    fs::create_dir_all(root.join("dist")).map_err(|error| format!("dist: {error}"))?;
    fs::create_dir_all(&parts).map_err(|error| format!("{}: {error}", parts.display()))?;
    written("module.wasm", &without)?;
    let names =
        tables.iter().map(|table| written(&format!("{}.table", table.at), &table.bytes).map(|()| table.at.to_string()));
    let names = names.collect::<Result<Vec<String>, String>>()?;
    let generator = built.join(format!("{GENERATOR}.wasm"));
    let packer = ["--package", PACKAGE, "--features", "pack", "--bin", "pack", "--"];
    cargo_long(root, "run").args(packer).args([root.join(PAGE), parts, generator]).args(names).go()?;
    Ok(root.join(PAGE))
}
