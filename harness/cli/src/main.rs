//! The `penstock` command: what a checkout can do without a cluster.
//!
//! What a person asked for goes to stdout; everything else is logged, on stderr, as `-v` and `-q` say.

mod canary;
mod check;
mod count;
mod demo;
#[cfg(test)]
mod help;
mod http;
mod logging;
mod model_server;
#[cfg(not(feature = "sandbox"))]
mod no_run;
mod plan;
mod probe;
mod progress;
#[cfg_attr(not(feature = "sandbox"), expect(dead_code, reason = "what plays reads most of it"))]
mod replay;
#[cfg(feature = "sandbox")]
mod run;
mod samples;
mod shell;
mod simulate;
mod top;
mod vocab;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

#[cfg(not(feature = "sandbox"))]
use no_run as run;

/// What scripts may rely on.
const EXIT_CODES: &str = "\
Exit codes:
  0  done, and nothing is wrong
  1  something is wrong, or could not be done; the last line on standard error says what
  2  the command line is not understood; of `probe`, that the answers could not be judged

Colours are only used on a terminal, and not where NO_COLOR is set.";

/// Tries Penstock's filters without a cluster.
#[derive(Debug, Parser)]
#[command(name = "penstock", version, after_help = EXIT_CODES)]
struct Cli {
    #[command(flatten)]
    logging: logging::Arguments,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serves a stand-in for a model server until interrupted.
    ModelServer(model_server::Arguments),
    /// Runs Envoy, two model servers and traffic, and shows what the filters do.
    Demo(demo::Arguments),
    /// Says what is wrong with manifests, values, Envoy files and configurations.
    Check(check::Arguments),
    /// Counts the tokens of a text or of a request, as the filters do.
    Count(count::Arguments),
    /// Sets two versions of a model beside one another, by what a Prometheus or an Envoy has counted.
    Canary(canary::Arguments),
    /// Shows what the filters do at the moment, by what an Envoy or a Prometheus counts.
    Top(top::Arguments),
    /// Says what autoscaling is to be set to, from what was measured of a replica and of the traffic.
    Plan(plan::Arguments),
    /// Asks each version of a model known questions, slowly, and says whether the answers are what they have to be.
    Probe(probe::Arguments),
    /// Makes the table of a vocabulary, to be built into a module.
    Vocab(vocab::Arguments),
    /// Runs scenario files against the filters in the sandbox.
    Run(run::Arguments),
    /// Plays recorded requests under a configuration, in the sandbox: who would have been limited, split and cost.
    Replay(replay::Arguments),
    /// Plays a trace against triggers for autoscaling, without a cluster.
    Simulate(Box<simulate::Arguments>),
    /// Prints the JSON Schema of the configuration, for editors.
    Schema(shell::Schema),
    /// Prints a script that completes the command's arguments in a shell.
    Completions(shell::Completions),
    /// Writes man pages.
    Man(shell::Man),
}

fn main() -> ExitCode {
    let Cli { logging, command } = Cli::parse();
    logging::start(&logging);
    let outcome = match command {
        Command::ModelServer(arguments) => block_on(model_server::run(arguments)),
        Command::Demo(arguments) => block_on(demo::run(arguments)),
        Command::Check(arguments) => check::run(&arguments),
        Command::Count(arguments) => count::run(&arguments),
        Command::Canary(arguments) => block_on(canary::run(arguments)),
        Command::Top(arguments) => block_on(top::run(arguments)),
        Command::Probe(arguments) => return probed(arguments),
        Command::Plan(arguments) => plan::run(&arguments),
        Command::Vocab(arguments) => vocab::run(&arguments),
        Command::Run(arguments) => run::run(&arguments),
        Command::Replay(arguments) => replay::run(&arguments),
        Command::Simulate(arguments) => simulate::run(&arguments),
        Command::Schema(shell::Schema {}) => {
            shell::schema();
            Ok(())
        }
        Command::Completions(arguments) => {
            shell::completions(&arguments, Cli::command());
            Ok(())
        }
        Command::Man(arguments) => shell::man(&arguments, Cli::command()),
    };
    outcome.map_or_else(|message| fail(&message), |()| ExitCode::SUCCESS)
}

/// Runs what talks to the network.
fn block_on<T>(work: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.map_err(|error| format!("cannot start the runtime: {error}"))?.block_on(work)
}

/// Its exit code says which: that something is wrong, or that nobody knows.
fn probed(arguments: probe::Arguments) -> ExitCode {
    block_on(async { Ok(probe::run(arguments).await) }).unwrap_or_else(|message| fail(&message))
}

/// The last word of a command that failed; said whatever is logged.
fn fail(message: &str) -> ExitCode {
    eprintln!("penstock: {message}");
    ExitCode::FAILURE
}
