//! Makes the tables of the encodings that are switched on, and the table of character classes. A table that `penstock vocab`
//! made is taken in where `PENSTOCK_VOCAB` names its file.

use std::env;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use penstock_token_tables::layout::Pattern;
use penstock_token_tables::{Vocabulary, class_table, generate};
use tiktoken_rs::CoreBPE;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("classes.bin"), class_table()?)?;
    if env::var_os("CARGO_FEATURE_O200K").is_some() {
        write(&out, "o200k", &tiktoken_rs::o200k_base()?, Pattern::O200K)?;
    }
    if env::var_os("CARGO_FEATURE_CL100K").is_some() {
        write(&out, "cl100k", &tiktoken_rs::cl100k_base()?, Pattern::CL100K)?;
    }
    println!("cargo::rustc-check-cfg=cfg(penstock_vocab)");
    println!("cargo::rerun-if-env-changed=PENSTOCK_VOCAB");
    if let Some(file) = env::var_os("PENSTOCK_VOCAB") {
        println!("cargo::rerun-if-changed={}", Path::new(&file).display());
        println!("cargo::rustc-cfg=penstock_vocab");
        let table =
            fs::read(&file).map_err(|error| format!("PENSTOCK_VOCAB: {}: {error}", Path::new(&file).display()))?;
        fs::write(out.join("custom.bin"), table)?;
    }
    Ok(())
}

/// The ordinary tokens of OpenAI's encodings have the ranks from 0 without a gap; special tokens follow after one.
fn write(out: &Path, name: &str, bpe: &CoreBPE, pattern: Pattern) -> Result<(), Box<dyn Error>> {
    let tokens = (0..).map_while(|rank| bpe.decode_bytes(&[rank]).ok()).collect();
    let table =
        generate(&Vocabulary { tokens, pattern, whole_pieces: true }).map_err(|error| format!("{name}: {error}"))?;
    Ok(fs::write(out.join(name).with_extension("bin"), table)?)
}
