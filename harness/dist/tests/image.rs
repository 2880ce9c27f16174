//! What stands in an image, read as the specifications say it, and that it depends on the module alone.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

use flate2::read::GzDecoder;
use penstock_dist::image::{Image, hexadecimal};
use penstock_dist::places;
use serde_json::Value;

const MODULE: &[u8] = b"\0asm\x01\0\0\0";
const PLUGINS: [&str; 5] = ["token-counter", "tenant-bucket", "canary-router", "pending-gauge", "penstock"];

/// Text that compresses somewhat, so that another way to compress it shows.
fn long_module() -> Vec<u8> {
    let mut state = 1_u32;
    let text = (0..100_000).map(|_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        b"etaoin shrdlu"[(state >> 24) as usize % 13]
    });
    MODULE.iter().copied().chain(text).collect()
}

fn image(module: &[u8]) -> Image<'_> {
    Image { name: "penstock", version: "1.2.3", module }
}

fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("image").join(name);
    let _ = fs::remove_dir_all(&folder);
    folder
}

fn checkout() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("the root").to_owned()
}

/// A module that `cargo xtask build` made.
fn built(plugin: &str) -> Vec<u8> {
    let path = checkout().join(format!("dist/{plugin}.wasm"));
    fs::read(path).unwrap_or_else(|error| panic!("dist/{plugin}.wasm: {error}; run `cargo xtask build`"))
}

fn json(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).expect("JSON")
}

/// The blob of a descriptor, which must be what the descriptor says of it.
fn blob(layout: &Path, descriptor: &Value, media_type: &str) -> Vec<u8> {
    assert_eq!(descriptor["mediaType"], media_type);
    let digest = descriptor["digest"].as_str().and_then(|digest| digest.strip_prefix("sha256:")).expect("a digest");
    let bytes = fs::read(layout.join("blobs/sha256").join(digest)).expect("a blob of that name");
    assert_eq!((hexadecimal(&bytes).as_str(), Some(bytes.len() as u64)), (digest, descriptor["size"].as_u64()));
    bytes
}

/// All files below a folder, by their relative names.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut open = vec![folder.to_owned()];
    let mut files = BTreeMap::new();
    while let Some(directory) = open.pop() {
        for path in fs::read_dir(&directory).expect("a folder").map(|entry| entry.expect("an entry").path()) {
            if path.is_dir() {
                open.push(path);
            } else {
                let name = path.strip_prefix(folder).expect("below").to_owned();
                files.insert(name, fs::read(&path).expect("a file"));
            }
        }
    }
    files
}

#[test]
fn a_layout_is_what_the_specification_says() {
    assert_eq!(hexadecimal(b"abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    let layout = folder("layout");
    let digest = image(MODULE).write(&layout).expect("written");
    assert_eq!(json(&fs::read(layout.join("oci-layout")).expect("a file"))["imageLayoutVersion"], "1.0.0");
    let index = json(&fs::read(layout.join("index.json")).expect("a file"));
    assert_eq!((&index["schemaVersion"], index["manifests"].as_array().map(Vec::len)), (&Value::from(2), Some(1)));
    // A platform there makes clients pass the image by that ask for the machine's.
    assert_eq!(index["manifests"][0].get("platform"), None);
    assert_eq!(index["manifests"][0]["digest"], format!("sha256:{digest}"));

    let manifest = blob(&layout, &index["manifests"][0], "application/vnd.oci.image.manifest.v1+json");
    let manifest = json(&manifest);
    assert_eq!((&manifest["schemaVersion"], manifest["layers"].as_array().map(Vec::len)), (&Value::from(2), Some(1)));
    let config = json(&blob(&layout, &manifest["config"], "application/vnd.oci.image.config.v1+json"));
    let layer = blob(&layout, &manifest["layers"][0], "application/vnd.oci.image.layer.v1.tar+gzip");
    let mut archive = Vec::new();
    GzDecoder::new(layer.as_slice()).read_to_end(&mut archive).expect("gzip");
    assert_eq!(config["rootfs"]["type"], "layers");
    assert_eq!(config["rootfs"]["diff_ids"], serde_json::json!([format!("sha256:{}", hexadecimal(&archive))]));
    assert_eq!((&config["architecture"], &config["os"]), (&Value::from("wasm"), &Value::from("wasip1")));

    let blobs = 3;
    assert_eq!(files(&layout).len(), 2 + blobs, "files that nothing names");
}

#[test]
fn a_module_has_one_digest_everywhere() {
    let (one, other) = (folder("one"), folder("another/of another name"));
    let module = long_module();
    let digest = image(&module).write(&one).expect("written");
    assert_eq!(image(&module).write(&other).expect("written"), digest);
    assert_eq!(files(&one), files(&other));
    // In place of what was there, of which nothing stays.
    image(MODULE).write(&other).expect("written");
    assert_ne!(files(&one), files(&other));
    assert_eq!(image(&module).write(&other).expect("written"), digest);
    assert_eq!(files(&one), files(&other));
    // With another compressor, or another field, every image that was published would have another digest: say so in the changelog.
    assert_eq!(digest, "9f5a739658ee6eff182eb96761d6bd83406ffa680eb51bb491c88f4c229c5eb6");
}

#[test]
fn the_layer_unpacks_to_the_module_that_is_shipped() {
    let module = built("penstock");
    let layout = folder("shipped");
    let digest = image(&module).write(&layout).expect("written");
    let manifest = json(&fs::read(layout.join("blobs/sha256").join(digest)).expect("the manifest"));
    let layer = manifest["layers"][0]["digest"].as_str().expect("a digest").replace("sha256:", "blobs/sha256/");
    let unpacked = layout.join("unpacked");
    fs::create_dir_all(&unpacked).expect("a folder");
    // By the tar of this machine, not by what packed it.
    let tar = Command::new("tar").arg("-xzf").arg(layout.join(layer)).arg("-C").arg(&unpacked).status().expect("tar");
    assert!(tar.success());
    let unpacked = files(&unpacked);
    assert_eq!(unpacked.keys().collect::<BTreeSet<_>>(), BTreeSet::from([&PathBuf::from("plugin.wasm")]));
    assert!(unpacked[Path::new("plugin.wasm")] == module, "plugin.wasm is not dist/penstock.wasm");
}

#[test]
fn what_is_no_module_is_no_image() {
    let layout = folder("none");
    let error = image(b"#!/bin/sh").write(&layout).expect_err("no module");
    assert!(error.to_string().contains("penstock: this is no WebAssembly module"), "{error}");
    assert!(!layout.exists());
}

#[test]
fn modules_name_no_place_of_this_machine() {
    let places = places::known(&checkout());
    assert!(places.contains(&checkout()));
    for plugin in PLUGINS {
        let module = built(plugin);
        assert_eq!(places::named(&module, &places), None, "{plugin}");
        // Where cargo keeps sources, whatever its home is called: what is below it has the name of a registry.
        assert!(!module.windows(14).any(|window| window == b"/registry/src/"), "{plugin}: a path of a registry");
    }
}

#[test]
fn places_are_found() {
    let places = ["/users/somebody", "/builds/7"].map(PathBuf::from);
    let find = |text: &str| places::named(text.as_bytes(), &places);
    assert_eq!(find("src/lib.rs\0/builds/7/src/lib.rs\0rest").as_deref(), Some("/builds/7/src/lib.rs"));
    assert_eq!(find("/builds/70/src/lib.rs, crates/serde/src/lib.rs"), None);
    assert_eq!(places::named(b"/rustc/1/core.rs", &[]), None);
}
