//! `penstock replay`: recorded requests under a configuration, by the compiled filter on a simulated clock.

mod lines;
#[cfg(feature = "sandbox")]
mod play;
mod report;
mod setting;

use std::fs;
use std::path::PathBuf;

use report::Run;
use setting::Setting;

/// Options of `penstock replay`.
#[derive(Debug, clap::Args)]
#[command(
    long_about = "\
Plays recorded requests under a configuration, in the sandbox: who would have
been limited, how they are split, what they cost.

The clock is simulated, so a day takes as long as the filter needs. Prompts are
not recorded: each request is a chat completion with one message of as many
words as make the recorded tokens. The answer comes after the recorded time and
says the recorded usage. A request that was refused has neither: if it is let
through here, it gets the output that was expected of it. Who asked is who the
log says it was. What a log does not hold (headers, keys of sessions) is not
there, nor is a service that a limit asks.",
    after_help = "\
Examples:
  penstock replay access.log --config penstock.yaml
  penstock replay access.log --config now.yaml --against next.yaml --json
  penstock replay trace.csv --config penstock.yaml --model chat --tenant acme"
)]
pub struct Arguments {
    /// An access log in JSON, a line for each request, with the facts as `penstock` and with `time`, as envoy/gateway.yaml writes it; or a
    /// trace, as of `penstock simulate`: CSV with the columns TIMESTAMP, ContextTokens, GeneratedTokens.
    recorded: PathBuf,
    /// The configuration, as the filters get it or as the chart's values have it.
    #[arg(long)]
    config: PathBuf,
    /// Another one, to set beside it.
    #[arg(long)]
    against: Option<PathBuf>,
    /// The model that requests of a trace are for; the configuration's first when not given.
    #[arg(long)]
    model: Option<String>,
    /// Who sends the requests of a trace; nobody known when not given.
    #[arg(long)]
    tenant: Option<String>,
    /// Output tokens a second of answers whose time is not recorded.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    pace: u32,
    /// What versions are drawn from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where the built plugins are (`cargo xtask build`).
    #[arg(long, default_value = "dist")]
    wasm_dir: PathBuf,
    /// Print nothing but one JSON object.
    #[arg(long)]
    json: bool,
}

/// Plays, and says what came of it.
///
/// # Errors
/// What cannot be read, and where it is wrong.
pub fn run(arguments: &Arguments) -> Result<(), String> {
    let settings = std::iter::once(&arguments.config).chain(&arguments.against);
    let settings = settings.map(|file| Setting::read(file)).collect::<Result<Vec<_>, _>>()?;
    let file = arguments.recorded.display();
    let text = fs::read_to_string(&arguments.recorded).map_err(|error| format!("{file}: {error}"))?;
    let model = arguments.model.clone().or_else(|| settings.first()?.first_model.clone());
    let lines = lines::read(&text, model.as_deref(), arguments.tenant.as_deref());
    let lines = lines.map_err(|error| format!("{file}: {error}"))?;
    let runs = settings.iter().map(|setting| play(setting, &lines, arguments)).collect::<Result<Vec<_>, _>>()?;
    if arguments.json {
        println!("{:#}", report::in_json(&lines, &runs));
    } else {
        print!("{}", report::in_words(&lines, &runs));
    }
    Ok(())
}

#[cfg(feature = "sandbox")]
fn play(setting: &Setting, lines: &lines::Lines, arguments: &Arguments) -> Result<Run, String> {
    let Arguments { wasm_dir, seed, pace, .. } = arguments;
    play::play(setting, lines, wasm_dir, *seed, *pace).map_err(|error| format!("{}: {error}", setting.file))
}

#[cfg(not(feature = "sandbox"))]
fn play(_: &Setting, _: &lines::Lines, _: &Arguments) -> Result<Run, String> {
    Err(crate::run::NO_SANDBOX.to_owned())
}
