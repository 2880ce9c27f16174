//! A registry for images, and a module in it.

use std::path::{Path, PathBuf};
use std::process::Command;

use penstock_dist::image::Image;
use serde_json::Value;

use crate::objects;
use crate::place::{DIRECTORY, Place};
use crate::process::{Process, page};

/// Where it listens, without TLS.
pub const ADDRESS: &str = "127.0.0.1:5000";
/// How the shipped files call the image.
const IMAGE: &str = "penstock/penstock:0.1.0";
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

    /// Pushes the built module, and lets objects that name it fetch it here.
    ///
    /// # Errors
    /// As [`Registry::push`].
    pub fn serve(&self, place: &Place, objects: &mut [Value]) -> Result<(), String> {
        self.push(&place.checkout.join("dist/penstock.wasm"), IMAGE)?;
        objects.iter_mut().for_each(|object| objects::replace(object, "registry.example.com", ADDRESS));
        Ok(())
    }

    /// Packs the module as `cargo xtask dist` does, and pushes it; the digest of its manifest, without `sha256:`.
    ///
    /// # Errors
    /// When the module is not there, or crane fails.
    pub fn push(&self, module: &Path, image: &str) -> Result<String, String> {
        let said = |error: std::io::Error| format!("{}: {error}", module.display());
        let bytes = std::fs::read(module).map_err(said)?;
        let layout = Path::new(DIRECTORY).join("image");
        let packed = Image { name: "penstock", version: env!("CARGO_PKG_VERSION"), module: &bytes };
        let digest = packed.write(&layout).map_err(said)?;
        let name = format!("{ADDRESS}/{image}");
        let pushed = run(Command::new(&self.crane).args(["push", "--insecure"]).arg(&layout).arg(&name))?;
        if !pushed.trim().ends_with(&format!("@sha256:{digest}")) {
            return Err(format!("{name}: pushed sha256:{digest}, and crane says `{}`", pushed.trim()));
        }
        Ok(digest)
    }
}

fn run(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if !output.status.success() {
        return Err(format!("{command:?}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
