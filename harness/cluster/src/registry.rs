//! A registry for images, and a module in it.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::place::{DIRECTORY, Place};
use crate::process::{Process, page};

/// Where it listens, without TLS.
pub const ADDRESS: &str = "127.0.0.1:5000";
const START_SECONDS_MAX: u64 = 30;

/// A running registry.
#[derive(Debug)]
pub struct Registry {
    crane: PathBuf,
    _process: Process,
}

impl Registry {
    /// Starts it, empty.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn start(place: &Place) -> Result<Self, String> {
        let crane = place.file("crane")?;
        let mut command = Command::new(&crane);
        // In memory: without a directory.
        let mut process = Process::start("registry", command.args(["registry", "serve", "--address", ADDRESS]))?;
        process.until("answers", START_SECONDS_MAX, || page("http://127.0.0.1:5000/v2/")).await?;
        Ok(Self { crane, _process: process })
    }

    /// Makes an image of one layer with the module as `plugin.wasm`, as Istio's agent wants it, and pushes it; the digest of its manifest,
    /// without `sha256:`.
    ///
    /// # Errors
    /// When the module is not there, or crane fails.
    pub fn push(&self, module: &Path, image: &str) -> Result<String, String> {
        let directory = Path::new(DIRECTORY).join("image");
        let said = |error: std::io::Error| format!("{}: {error}", module.display());
        std::fs::create_dir_all(&directory).map_err(said)?;
        std::fs::copy(module, directory.join("plugin.wasm")).map_err(said)?;
        let layer = Path::new(DIRECTORY).join("layer.tar");
        // One module has one digest, whenever it is pushed.
        let same = ["--mtime=@0", "--owner=0", "--group=0", "--numeric-owner"];
        run(Command::new("tar").args(same).arg("-cf").arg(&layer).arg("-C").arg(&directory).arg("plugin.wasm"))?;
        let name = format!("{ADDRESS}/{image}");
        run(Command::new(&self.crane)
            .args(["append", "--insecure", "--new_layer"])
            .arg(&layer)
            .args(["--new_tag", &name]))?;
        let digest = run(Command::new(&self.crane).args(["digest", "--insecure", &name]))?;
        Ok(digest.trim().trim_start_matches("sha256:").to_owned())
    }
}

fn run(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if !output.status.success() {
        return Err(format!("{command:?}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
