//! A registry for images, and a module in it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use penstock_dist::image::Image;
use ring::digest::{SHA256, digest};
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
    /// Where modules are packed, and the digests of their manifests, by their own: packing takes seconds.
    packed: Mutex<HashMap<Vec<u8>, (PathBuf, String)>>,
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
        Ok(Self { crane, packed: Mutex::default(), _process: process })
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
        let (layout, digest) = self.pack(module).map_err(|error| format!("{}: {error}", module.display()))?;
        let name = format!("{ADDRESS}/{image}");
        let pushed = run(Command::new(&self.crane).args(["push", "--insecure"]).arg(&layout).arg(&name))?;
        if !pushed.trim().ends_with(&format!("@sha256:{digest}")) {
            return Err(format!("{name}: pushed sha256:{digest}, and crane says `{}`", pushed.trim()));
        }
        Ok(digest)
    }

    fn pack(&self, module: &Path) -> std::io::Result<(PathBuf, String)> {
        let bytes = std::fs::read(module)?;
        let mut packed = self.packed.lock().unwrap_or_else(PoisonError::into_inner);
        let layout = Path::new(DIRECTORY).join(format!("image-{}", packed.len()));
        let own = digest(&SHA256, &bytes).as_ref().to_vec();
        if let Some(known) = packed.get(&own) {
            return Ok(known.clone());
        }
        let image = Image { name: "penstock", version: env!("CARGO_PKG_VERSION"), module: &bytes };
        let made = (layout.clone(), image.write(&layout)?);
        packed.insert(own, made.clone());
        Ok(made)
    }
}

fn run(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if !output.status.success() {
        return Err(format!("{command:?}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
