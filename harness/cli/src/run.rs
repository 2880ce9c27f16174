//! `penstock run`: scenario files against the filters in the sandbox.

use std::path::{Path, PathBuf};

use clap::builder::{PossibleValuesParser, TypedValueParser};
use penstock_harness::scenario::{Chain, Scenario, load, run_on_host};

/// Options of `penstock run`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  penstock run tests/scenarios/limits.yaml")]
pub struct Arguments {
    /// Where the built plugins are (`cargo xtask build`).
    #[arg(long, default_value = "dist")]
    wasm_dir: PathBuf,
    /// How the plugins are deployed; every way when not given.
    #[arg(long, value_parser = chain())]
    chain: Option<Chain>,
    /// Scenario files.
    #[arg(required = true)]
    files: Vec<PathBuf>,
}

fn chain() -> impl TypedValueParser<Value = Chain> {
    let named = |name: String| Chain::ALL.into_iter().find(|chain| chain.label() == name);
    PossibleValuesParser::new(Chain::ALL.map(Chain::label))
        .try_map(move |name| named(name).ok_or("there is no such chain"))
}

/// How many scenarios held and how many did not.
#[derive(Default)]
struct Tally {
    passed: usize,
    failed: usize,
}

/// Runs every scenario of every file, one line each.
///
/// # Errors
/// When any fails.
pub fn run(arguments: &Arguments) -> Result<(), String> {
    let chains = arguments.chain.map_or(Chain::ALL.to_vec(), |chain| vec![chain]);
    let mut tally = Tally::default();
    for file in &arguments.files {
        match load(file) {
            Ok(scenarios) => run_file(file, &scenarios, &chains, &arguments.wasm_dir, &mut tally),
            Err(error) => {
                println!("FAIL {error}");
                tally.failed += 1;
            }
        }
    }
    println!("{} passed, {} failed", tally.passed, tally.failed);
    if tally.failed == 0 { Ok(()) } else { Err(format!("{} scenarios failed", tally.failed)) }
}

fn run_file(file: &Path, scenarios: &[Scenario], chains: &[Chain], wasm_dir: &Path, tally: &mut Tally) {
    for (scenario, chain) in scenarios.iter().flat_map(|scenario| chains.iter().map(move |chain| (scenario, *chain))) {
        let label = format!("{} [{}] {}", file.display(), chain.label(), scenario.name);
        match run_on_host(scenario, chain, wasm_dir) {
            Ok(()) => {
                tally.passed += 1;
                println!("pass {label}");
            }
            Err(why) => {
                tally.failed += 1;
                println!("FAIL {label}\n{}", indent(&why));
            }
        }
    }
}

fn indent(text: &str) -> String {
    text.lines().map(|line| format!("     {line}")).collect::<Vec<_>>().join("\n")
}
