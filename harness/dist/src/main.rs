//! What `cargo xtask dist` runs for each module that it has compiled.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use penstock_dist::image::Image;
use penstock_dist::{places, sbom};

/// Packs a module as an image, with its digest and a list of what is in it.
#[derive(Parser)]
struct Arguments {
    /// The checkout that it was compiled in.
    #[arg(long)]
    checkout: PathBuf,
    /// The package that was compiled.
    #[arg(long)]
    package: String,
    /// What the name of the image has behind that of the package.
    #[arg(long, default_value = "")]
    suffix: String,
    /// The features it was compiled with, with commas between them; the default ones where this is missing.
    #[arg(long)]
    features: Option<String>,
    /// The table of a vocabulary of one's own that is built in.
    #[arg(long)]
    vocab: Option<PathBuf>,
    /// The module.
    #[arg(long)]
    module: PathBuf,
    /// The folder to write NAME/, NAME.digest and NAME.cdx.json into.
    #[arg(long)]
    out: PathBuf,
}

fn main() -> ExitCode {
    match pack(&Arguments::parse()) {
        Ok(line) => {
            println!("{line}");
            ExitCode::SUCCESS
        }
        Err(message) => {
            eprintln!("penstock-dist: {message}");
            ExitCode::FAILURE
        }
    }
}

fn pack(arguments: &Arguments) -> Result<String, String> {
    let name = format!("{}{}", arguments.package, arguments.suffix);
    let file = arguments.module.display();
    let bytes = fs::read(&arguments.module).map_err(|error| format!("{file}: {error}"))?;
    if let Some(path) = places::named(&bytes, &places::known(&arguments.checkout)) {
        return Err(format!(
            "{file} names {path}, so its digest would be that of this machine alone; are there flags for the compiler in a \
             configuration of cargo's beside the checkout's own?"
        ));
    }
    let read_table = |file: &PathBuf| fs::read(file).map_err(|error| format!("{}: {error}", file.display()));
    let table = arguments.vocab.as_ref().map(read_table).transpose()?;
    let (features, table) = (arguments.features.as_deref(), table.as_deref());
    let module = sbom::Module { name: &name, package: &arguments.package, features, table, bytes: &bytes };
    let bill = sbom::describe(&arguments.checkout, &module)?;
    let image = Image { name: &name, version: env!("CARGO_PKG_VERSION"), module: &bytes };
    let folder = arguments.out.join(&name);
    let digest = image.write(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    for (ending, text) in [("digest", format!("{digest}\n")), ("cdx.json", bill)] {
        let path = arguments.out.join(format!("{name}.{ending}"));
        fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(format!("{digest}  {name}"))
}
