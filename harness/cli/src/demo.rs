//! `penstock demo`: Envoy with the filters, two model servers, tenants that behave and tenants that do not.

use penstock_harness::demo::{Options, observe};

/// Options of `penstock demo`.
#[derive(Debug, clap::Args)]
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
}

/// Runs the demo and prints what came of it.
///
/// # Errors
/// When the filters are missing, or something does not start; the message says what to do.
pub async fn run(arguments: Arguments) -> Result<(), String> {
    let Arguments { seconds, json, sandbox } = arguments;
    let report = observe(&Options { seconds, json, sandbox }).await?;
    println!("{}", if json { report.json().to_string() } else { report.text() });
    Ok(())
}
