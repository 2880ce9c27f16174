//! `penstock plan`: from what was measured of a replica and of the traffic to what autoscaling is to be set to.
//!
//! The [figures] are checked, a [plan] is made of them or a reason why there is none, and what comes out is [values](mod@values) of the
//! Helm chart with a [line](explain) for each that says what it follows from.

mod decide;
mod explain;
mod figures;
mod replica;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
mod tree;
mod values;

use std::fs;
use std::path::PathBuf;

use penstock_document::At;
use penstock_exchange::Config;
use serde_json::{Map, Value, json};

use crate::check;
use decide::{Never, Plan, plan};
use explain::{Reason, reasons};
use figures::{Figures, Measured, Problem};
use tree::Tree;
use values::{Target, values};

/// Options of `penstock plan`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  penstock plan --model chat --version stable \\
    --prefill-tokens-per-second 12000 \\
    --decode-tokens-per-second 1800 --batch 64 --cold-start-seconds 120 \\
    --ttft-seconds 2 --requests-per-second 40 --prompt-tokens 1500 \\
    --output-tokens 256")]
#[command(allow_negative_numbers = true)]
pub struct Arguments {
    /// The model, as `config.models` has it.
    #[arg(long)]
    model: String,
    /// Its version.
    #[arg(long, id = "of_version", value_name = "VERSION")]
    version: Option<String>,
    #[command(flatten)]
    measured: Measured,
    /// Values that the plan is to be laid over, as they are given to Helm: then it has all of their models. Repeat for several files.
    #[arg(long, value_name = "FILE")]
    values: Vec<PathBuf>,
    /// Writes the values to this file, and what they follow from to stdout.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Writes figures, plan, reasons and values as one JSON document to stdout.
    #[arg(long)]
    json: bool,
}

/// Plans, and writes it.
///
/// # Errors
/// What is wrong with the figures, why no plan holds, or which file cannot be read or written.
pub fn run(arguments: &Arguments) -> Result<(), String> {
    let figures = match arguments.measured.check() {
        Ok(figures) => figures,
        Err(problems) => return refuse(arguments, problems.iter().map(problem).collect()),
    };
    let target = target(arguments)?;
    let plan = match plan(&figures) {
        Ok(plan) => plan,
        Err(Never { why, fix }) => return refuse(arguments, vec![json!({"why": why, "fix": fix})]),
    };
    let reasons = reasons(&figures, &plan);
    let values = values(&target, &figures, &plan, &reasons);
    allowed(&values)?;
    let text = head(&target, &reasons) + &values.yaml();
    if let Some(file) = &arguments.out {
        fs::write(file, &text).map_err(|error| format!("{}: {error}", file.display()))?;
    }
    if arguments.json {
        println!("{:#}", report(&target, &figures, &plan, &reasons, &values));
    } else if arguments.out.is_some() {
        reasons.iter().for_each(|reason| println!("{}", line(reason)));
    } else {
        print!("{text}");
    }
    Ok(())
}

fn target(arguments: &Arguments) -> Result<Target, String> {
    let (model, version) = (&arguments.model, arguments.version.as_deref());
    let trees: Result<Vec<_>, String> = arguments.values.iter().map(|file| check::values(file)).collect();
    let has_models = |at: &At| at.get("config").get("models").exists();
    // Of several lists the last one counts, as with Helm.
    let mut trees = trees?;
    let at = trees.iter().rposition(has_models).or(trees.len().checked_sub(1));
    let Some(values) = at.map(|at| trees.swap_remove(at)) else { return Ok(Target::fresh(model, version)) };
    Target::find(model, version, &Tree::of(&values)).map_err(|why| format!("{}: {why}", values.file))
}

/// Nothing is written that the filters would refuse.
fn allowed(values: &Tree) -> Result<(), String> {
    let config = values.get("config").map(Tree::json).unwrap_or_default();
    Config::parse(config.to_string().as_bytes())
        .map(drop)
        .map_err(|errors| format!("config would be refused: {errors}"))
}

fn head(target: &Target, reasons: &[Reason]) -> String {
    let title = format!(
        "# `penstock plan` for {} {}: values of the chart, to be laid over your own.\n",
        target.model, target.version
    );
    let general = reasons.iter().filter(|reason| reason.value.is_none());
    title + &general.map(|reason| format!("# {}\n", line(reason))).collect::<String>()
}

fn line(Reason { about, value, why }: &Reason) -> String {
    value.map_or(format!("{about}: {why}"), |value| format!("{about} {value}: {why}"))
}

fn problem(Problem { option, what }: &Problem) -> Value {
    json!({"why": format!("--{option}: {what}"), "option": format!("--{option}")})
}

/// Says why there is no plan, as the last word or as JSON too.
fn refuse(arguments: &Arguments, refused: Vec<Value>) -> Result<(), String> {
    let text = |value: &Value| {
        let word = |key: &str| value[key].as_str().unwrap_or_default().to_owned();
        if value["fix"].is_null() { word("why") } else { format!("{}; {}", word("why"), word("fix")) }
    };
    let said: Vec<_> = refused.iter().map(text).collect();
    if arguments.json {
        println!("{:#}", json!({"refused": refused}));
    }
    Err(format!("no plan for {}: {}", arguments.model, said.join("\n  ")))
}

fn report(target: &Target, figures: &Figures, plan: &Plan, reasons: &[Reason], values: &Tree) -> Value {
    let why: Map<_, _> =
        reasons.iter().map(|reason| (reason.about.to_owned(), Value::from(reason.why.as_str()))).collect();
    json!({
        "model": target.model,
        "version": target.version,
        "offeredReplicas": plan.offered,
        "utilizationMax": plan.bearable,
        "replicasAtPeak": {"held": plan.held, "asked": plan.asked},
        "requestsPerSecondMetByMin": plan.met_by_min,
        "replica": {"prefillTokensPerSecond": figures.prefill, "decodeTokensPerSecond": figures.decode, "batch": figures.batch},
        "reasons": why,
        "values": values.json(),
    })
}
