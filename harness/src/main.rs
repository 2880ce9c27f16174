//! The `penstock` command: what a checkout can do without a cluster.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use penstock_harness::{demo, model_server};

/// Tries Penstock's filters without a cluster.
#[derive(Debug, Parser)]
#[command(name = "penstock", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serves a stand-in for a model server until interrupted.
    ModelServer(model_server::Options),
    /// Runs Envoy, two model servers and traffic, and shows what the filters do.
    Demo(demo::Options),
}

fn main() -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("cannot start the runtime: {error}")),
    };
    let result = match Cli::parse().command {
        Command::ModelServer(options) => {
            runtime.block_on(model_server::run(options)).map_err(|error| error.to_string())
        }
        Command::Demo(options) => runtime.block_on(demo::run(options)),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => fail(&message),
    }
}

fn fail(message: &str) -> ExitCode {
    eprintln!("penstock: {message}");
    ExitCode::FAILURE
}
