//! An image of one module, as an [OCI image layout](https://github.com/opencontainers/image-spec/blob/main/image-layout.md): the folder that
//! `crane push` and `skopeo copy oci:…` take.
//!
//! Istio's agent and Envoy Gateway take images in the *compat* variant of the
//! [Wasm Image Specification](https://github.com/solo-io/wasm/blob/master/spec/spec-compat.md): the last layer is a tar archive, compressed
//! by gzip, with the module as `plugin.wasm`. Agents of all versions read it, and every registry keeps it.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use serde::Serialize;
use sha2::{Digest as _, Sha256};

/// What the agent looks for in the layer.
const FILE: &str = "plugin.wasm";

/// For people who look at a registry.
const DESCRIPTION: &str = "Penstock: WebAssembly filters for Envoy and Istio in front of LLM servers";

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// The names that Go, and so the specification, has for what the modules are compiled to.
const ARCHITECTURE: &str = "wasm";
const OS: &str = "wasip1";

/// A module to publish.
#[derive(Clone, Copy, Debug)]
pub struct Image<'a> {
    /// The plugin, and what is special about it: `penstock-o200k`.
    pub name: &'a str,
    /// Penstock's version.
    pub version: &'a str,
    /// The module.
    pub module: &'a [u8],
}

impl Image<'_> {
    /// Writes the layout into a folder, in place of what is there; the hexadecimal SHA-256 of the manifest. That is the digest which
    /// registries know the image by, and which `sha256` of a WasmPlugin pins.
    ///
    /// # Errors
    /// When the module is none, or the folder cannot be written.
    pub fn write(&self, folder: &Path) -> io::Result<String> {
        if !self.module.starts_with(b"\0asm") {
            return Err(io::Error::other(format!("{}: this is no WebAssembly module", self.name)));
        }
        if folder.exists() {
            fs::remove_dir_all(folder)?;
        }
        let blobs = Blobs::new(folder)?;
        let archive = archive(self.module)?;
        let config = Config {
            architecture: ARCHITECTURE,
            os: OS,
            rootfs: RootFs { kind: "layers", diff_ids: [digest(&archive)] },
        };
        let manifest = Manifest {
            schema_version: 2,
            media_type: MANIFEST,
            config: blobs.json(CONFIG, &config)?,
            layers: [blobs.write(LAYER, &compressed(&archive)?)?],
            annotations: BTreeMap::from([
                ("org.opencontainers.image.description", DESCRIPTION),
                ("org.opencontainers.image.title", self.name),
                ("org.opencontainers.image.version", self.version),
            ]),
        };
        let mut manifest = blobs.json(MANIFEST, &manifest)?;
        let hexadecimal = manifest.digest.trim_start_matches("sha256:").to_owned();
        manifest.annotations.insert("org.opencontainers.image.ref.name", self.version.to_owned());
        fs::write(folder.join("oci-layout"), json(&Layout { image_layout_version: "1.0.0" })?)?;
        // Last: a folder without it is no layout, so one that was not finished is never pushed.
        let index = Index { schema_version: 2, media_type: INDEX, manifests: [manifest] };
        fs::write(folder.join("index.json"), json(&index)?)?;
        Ok(hexadecimal)
    }
}

/// The archive of the module alone, as nobody's, of no time.
fn archive(module: &[u8]) -> io::Result<Vec<u8>> {
    let mut header = tar::Header::new_ustar();
    header.set_path(FILE)?;
    header.set_size(module.len() as u64);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_cksum();
    let mut archive = tar::Builder::new(Vec::new());
    archive.append(&header, module)?;
    archive.into_inner()
}

/// By a compressor that is the same on every machine: one of Rust alone, whose version Cargo.lock has.
fn compressed(archive: &[u8]) -> io::Result<Vec<u8>> {
    // The header has neither a time nor a system.
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(archive)?;
    encoder.finish()
}

/// The folder of what is named by its digest.
struct Blobs {
    folder: PathBuf,
}

impl Blobs {
    fn new(layout: &Path) -> io::Result<Self> {
        let folder = layout.join("blobs/sha256");
        fs::create_dir_all(&folder)?;
        Ok(Self { folder })
    }

    fn json(&self, media_type: &'static str, value: &impl Serialize) -> io::Result<Descriptor> {
        self.write(media_type, &json(value)?)
    }

    fn write(&self, media_type: &'static str, bytes: &[u8]) -> io::Result<Descriptor> {
        let digest = digest(bytes);
        fs::write(self.folder.join(digest.trim_start_matches("sha256:")), bytes)?;
        Ok(Descriptor { media_type, digest, size: bytes.len(), annotations: BTreeMap::new() })
    }
}

/// Of types with fields in an order of their own: in what order a map has its keys is a feature of serde_json's that any crate may switch.
fn json(value: &impl Serialize) -> io::Result<Vec<u8>> {
    Ok(serde_json::to_vec(value)?)
}

/// `sha256:` and hexadecimal digits.
fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hexadecimal(bytes))
}

/// The SHA-256 in hexadecimal digits.
pub fn hexadecimal(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Layout {
    image_layout_version: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Index {
    schema_version: u8,
    media_type: &'static str,
    manifests: [Descriptor; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Manifest<'a> {
    schema_version: u8,
    media_type: &'static str,
    config: Descriptor,
    layers: [Descriptor; 1],
    annotations: BTreeMap<&'static str, &'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    media_type: &'static str,
    digest: String,
    size: usize,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<&'static str, String>,
}

#[derive(Serialize)]
struct Config {
    architecture: &'static str,
    os: &'static str,
    rootfs: RootFs,
}

#[derive(Serialize)]
struct RootFs {
    #[serde(rename = "type")]
    kind: &'static str,
    diff_ids: [String; 1],
}
