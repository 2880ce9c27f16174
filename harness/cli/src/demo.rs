//! `penstock demo`: Envoy with the filters, two model servers, tenants that behave and tenants that do not, a canary that fails.

use std::fs;
use std::path::PathBuf;

use penstock_harness::demo::{Options, observe};

/// Options of `penstock demo`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  penstock demo --seconds 20
  penstock demo --json")]
pub struct Arguments {
    /// Seconds of traffic.
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// Print nothing but one JSON object at the end.
    #[arg(long)]
    json: bool,
    /// Run the filters in the sandbox even where there is an Envoy.
    #[arg(long)]
    sandbox: bool,
    /// Where a picture (SVG) of the canary that fails and is rolled back goes.
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
}

/// Runs the demo and prints what came of it.
///
/// # Errors
/// When the filters are missing, or something does not start; the message says what to do.
pub async fn run(arguments: Arguments) -> Result<(), String> {
    let Arguments { seconds, json, sandbox, plot } = arguments;
    let report = observe(&Options { seconds, json, sandbox }).await?;
    if let Some(path) = plot {
        fs::write(&path, report.svg()).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    println!("{}", if json { report.json().to_string() } else { report.text() });
    Ok(())
}
