//! What shells, editors and readers of manuals want of the command: completions, the schema of the configuration, man pages.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Command;
use clap_complete::Shell;

/// Options of `penstock completions`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  penstock completions bash
  penstock completions zsh")]
pub struct Completions {
    /// For which shell.
    shell: Shell,
}

/// Options of `penstock man`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  penstock man target/man")]
pub struct Man {
    /// Where to write them; made if it is not there.
    directory: PathBuf,
}

/// Options of `penstock schema`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  penstock schema")]
pub struct Schema {}

/// Prints a script that completes the command's arguments.
pub fn completions(of: &Completions, mut command: Command) {
    clap_complete::generate(of.shell, &mut command, "penstock", &mut std::io::stdout());
}

/// Writes a man page for the command and each of its sub-commands.
///
/// # Errors
/// What cannot be written.
pub fn man(of: &Man, command: Command) -> Result<(), String> {
    let said = |path: &Path, error: std::io::Error| format!("{}: {error}", path.display());
    fs::create_dir_all(&of.directory).map_err(|error| said(&of.directory, error))?;
    clap_mangen::generate_to(command, &of.directory).map_err(|error| said(&of.directory, error))
}

/// Prints the JSON Schema of the configuration.
pub fn schema() {
    println!("{:#}", penstock_exchange::config::schema());
}
