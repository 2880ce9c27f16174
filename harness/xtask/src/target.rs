//! The compilation target of the filters. rustup does not install what rust-toolchain.toml names where it is told not to install by
//! itself (RUSTUP_AUTO_INSTALL=0, and toolchains that were there before), and rustc then says no more than "can't find crate for `core`".

use std::fs;
use std::path::{Path, PathBuf};

use crate::run::{Outcome, program};

/// What the filters are compiled to.
pub const TARGET: &str = "wasm32-wasip1";

/// Sees to it that the compiler has the standard library of the target.
pub fn ensure(root: &Path) -> Outcome {
    let libraries = libraries(root)?;
    if has_core(&libraries) {
        return Ok(());
    }
    let missing = format!("the compiler has no standard library for {TARGET} ({} has no libcore)", libraries.display());
    if !program(root, "rustup").args(["--version"]).works() {
        return Err(format!(
            "{missing}, and there is no rustup to install it: install rustup, or the library from where your rustc is from \
             (on Debian: apt-get install libstd-rust-dev-wasm32)"
        ));
    }
    eprintln!("xtask: {missing}: rustup installs it");
    program(root, "rustup").args(["target", "add", TARGET]).go().map_err(|error| format!("{missing}: {error}"))?;
    if has_core(&libraries) { Ok(()) } else { Err(format!("{missing}, also after `rustup target add {TARGET}`")) }
}

/// Where the compiler that cargo uses here looks for it.
fn libraries(root: &Path) -> Result<PathBuf, String> {
    let compiler = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let text = program(root, compiler).args(["--print", "target-libdir", "--target", TARGET]).output()?;
    Ok(PathBuf::from(text.trim()))
}

fn has_core(libraries: &Path) -> bool {
    let files = fs::read_dir(libraries).into_iter().flatten().flatten();
    files.into_iter().any(|file| {
        let name = file.file_name();
        let name = name.to_string_lossy();
        name.starts_with("libcore-") && name.ends_with(".rlib")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_there_when_its_core_is() {
        let directory = std::env::temp_dir().join(format!("penstock-xtask-target-{}", std::process::id()));
        assert!(!has_core(&directory));
        fs::create_dir_all(&directory).expect("a directory");
        fs::write(directory.join("libcore-1.rmeta"), "").expect("written");
        assert!(!has_core(&directory));
        fs::write(directory.join("libcore-1.rlib"), "").expect("written");
        assert!(has_core(&directory));
        fs::remove_dir_all(&directory).expect("removed");
    }
}
