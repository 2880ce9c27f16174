//! `cargo xtask dist`: what is published of the filters.

use std::fs;
use std::path::Path;

use crate::build::{self, PLUGINS, Variant};
use crate::run::{Outcome, cargo, cargo_long};
use crate::steps::Steps;

const HELP: &str = "\
Compiles the filters as they are published, and packs each as an image that Istio and Envoy Gateway fetch:

  dist/images/NAME/           an OCI image layout, with the module as plugin.wasm in one layer
  dist/images/NAME.digest     the SHA-256 of its manifest, which `sha256` of a WasmPlugin pins
  dist/images/NAME.cdx.json   what is in the module, and under which licences (CycloneDX)

NAME is that of a plugin, with -o200k or -cl100k behind it where only that encoding is built in. The same sources and compiler make the same
digests, wherever they are.

Usage: cargo xtask dist [--vocab FILE] [--encodings LIST]

With an option, only the modules that `cargo xtask build` makes with it: NAME has the encodings behind it, and -custom with --vocab.
";

pub fn command(root: &Path, arguments: &[String], help: bool) -> Outcome {
    if help {
        print!("{HELP}");
        return Ok(());
    }
    let variants = if arguments.is_empty() {
        let only = |encoding: &str| Variant { encodings: Some(encoding.to_owned()), vocab: None, ..Variant::default() };
        vec![Variant::default(), only("o200k"), only("cl100k")]
    } else {
        vec![Variant::parse("dist", arguments)?]
    };
    let images = root.join("dist/images");
    // What is made of all is all that is there: if this ends half-way, no image of older sources stands beside the new ones.
    if arguments.is_empty() && images.exists() {
        fs::remove_dir_all(&images).map_err(|error| format!("{}: {error}", images.display()))?;
    }
    fs::create_dir_all(&images).map_err(|error| format!("{}: {error}", images.display()))?;
    let mut steps = Steps::new(1 + 2 * variants.len());
    steps
        .step("compiling the packer", "20 s", || cargo_long(root, "build").args(["--package", "penstock-dist"]).go())?;
    for variant in &variants {
        let suffix = suffix(variant);
        let modules = steps.step(&format!("compiling PLUGIN{suffix}"), "1 min", || {
            if !suffix.is_empty() {
                return build::compile(root, &PLUGINS, variant);
            }
            // What is shipped as files is the same: nobody then has an older module beside the images.
            build::build(root)?;
            Ok(PLUGINS.iter().map(|plugin| root.join(format!("dist/{plugin}.wasm"))).collect())
        })?;
        steps.step(&format!("packing PLUGIN{suffix}"), "15 s", || {
            PLUGINS.iter().zip(modules).try_for_each(|(plugin, module)| pack(root, plugin, &module, variant, &images))
        })?;
    }
    steps.end();
    Ok(())
}

/// What the names of a variant's images have behind those of the plugins.
fn suffix(variant: &Variant) -> String {
    let all = if variant.vocab.is_some() { "o200k,cl100k" } else { "" };
    let encodings = variant.encodings.as_deref().unwrap_or(all).split(',').filter(|encoding| !encoding.is_empty());
    encodings.chain(variant.vocab.as_ref().map(|_| "custom")).map(|part| format!("-{part}")).collect()
}

fn pack(root: &Path, plugin: &str, module: &Path, variant: &Variant, images: &Path) -> Outcome {
    let mut run = cargo(root).args(["run", "--quiet", "--package", "penstock-dist", "--"]);
    run = run.args(["--checkout"]).args([root]).args(["--package", plugin]);
    run = run.args([format!("--suffix={}", suffix(variant))]);
    if let Some(encodings) = &variant.encodings {
        run = run.args([format!("--features={encodings}")]);
    }
    if let Some(vocab) = &variant.vocab {
        run = run.args(["--vocab"]).args([vocab]);
    }
    run.args(["--module"]).args([module]).args(["--out"]).args([images]).go()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_what_is_built_in() {
        let suffix_of = |encodings: Option<&str>, vocab: Option<&str>| {
            suffix(&Variant {
                encodings: encodings.map(str::to_owned),
                vocab: vocab.map(Into::into),
                ..Variant::default()
            })
        };
        assert_eq!(suffix_of(None, None), "");
        assert_eq!(suffix_of(Some("o200k"), None), "-o200k");
        assert_eq!(suffix_of(None, Some("a")), "-o200k-cl100k-custom");
        assert_eq!(suffix_of(Some(""), Some("a")), "-custom");
    }
}
