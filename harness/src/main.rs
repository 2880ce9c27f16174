//! The `penstock` command: what a checkout can do without a cluster.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use penstock_harness::{demo, model_server, scenario, vocab};

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
    /// Makes the table of a vocabulary, to be built into a module.
    Vocab(vocab::Options),
    /// Runs scenario files against the filters in the sandbox.
    Run(scenario::RunArgs),
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::ModelServer(options) => {
            finish(async { model_server::run(options).await.map_err(|error| error.to_string()) })
        }
        Command::Demo(options) => finish(demo::run(options)),
        Command::Vocab(options) => vocab::run(&options).map_or_else(|message| fail(&message), |()| ExitCode::SUCCESS),
        Command::Run(arguments) => scenario::run(arguments),
    }
}

/// Runs what talks to the network.
fn finish(work: impl Future<Output = Result<(), String>>) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("cannot start the runtime: {error}")),
    };
    runtime.block_on(work).map_or_else(|message| fail(&message), |()| ExitCode::SUCCESS)
}

fn fail(message: &str) -> ExitCode {
    eprintln!("penstock: {message}");
    ExitCode::FAILURE
}
