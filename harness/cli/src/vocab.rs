//! `penstock vocab`: makes the table that `cargo xtask build --vocab` puts into a module.

use std::fs;
use std::path::{Path, PathBuf};

use penstock_token_tables::layout::Pattern;
use penstock_token_tables::{Vocabulary, generate};

/// How texts are cut into pieces before they are merged.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub enum Cut {
    /// As `o200k_base` does.
    O200k,
    /// As `cl100k_base` and Llama 3 do.
    Cl100k,
}

/// Options of `penstock vocab`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  penstock vocab tokenizer.json --output vocabulary.bin")]
pub struct Arguments {
    /// A `.tiktoken` file, or a `tokenizer.json` with a byte-level BPE model.
    file: PathBuf,
    /// Where to write the table.
    #[arg(long, short, default_value = "vocabulary.bin")]
    output: PathBuf,
    /// How a `.tiktoken` vocabulary cuts texts; a `tokenizer.json` says it itself.
    #[arg(long, value_enum, default_value = "o200k")]
    pattern: Cut,
}

/// Makes the table.
///
/// # Errors
/// Which file cannot be read or written, or what is wrong in it and where.
pub fn run(arguments: &Arguments) -> Result<(), String> {
    let (tokens, table) = table(&arguments.file, arguments.pattern)?;
    fs::write(&arguments.output, &table).map_err(|error| format!("{}: {error}", arguments.output.display()))?;
    println!("{}: {tokens} tokens, {} bytes", arguments.output.display(), table.len());
    println!("cargo xtask build --vocab {} builds it in as `tokenizer: custom`", arguments.output.display());
    Ok(())
}

fn table(file: &Path, cut: Cut) -> Result<(usize, Vec<u8>), String> {
    let said = |error: &dyn std::fmt::Display| format!("{}: {error}", file.display());
    let bytes = fs::read(file).map_err(|error| said(&error))?;
    let pattern = match cut {
        Cut::O200k => Pattern::O200K,
        Cut::Cl100k => Pattern::CL100K,
    };
    let vocabulary = Vocabulary::read(&bytes, pattern).map_err(|error| said(&error))?;
    let table = generate(&vocabulary).map_err(|error| said(&error))?;
    Ok((vocabulary.tokens.len(), table))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str, text: &[u8]) -> Result<(usize, Vec<u8>), String> {
        let file = std::env::temp_dir().join(format!("penstock-vocab-{}-{name}", std::process::id()));
        fs::write(&file, text).unwrap();
        let made = table(&file, Cut::O200k);
        fs::remove_file(&file).unwrap();
        made
    }

    #[test]
    fn bad_files_are_refused_with_the_reason() {
        for (name, text, says) in [
            ("empty", "", ""),
            ("words", "hello world\n", ""),
            ("model.json", r#"{"model":{"type":"Unigram","vocab":[]}}"#, "SentencePiece"),
            ("words.json", r#"{"model":{"type":"WordPiece","vocab":{}}}"#, "WordPiece"),
            ("open.json", r#"{"model":"#, ""),
        ] {
            let error = of(name, text.as_bytes()).unwrap_err();
            assert!(error.contains(name) && error.contains(says), "{error}");
        }
        assert!(table(Path::new("no/such/file"), Cut::Cl100k).unwrap_err().contains("no/such/file"));
    }
}
