//! `penstock probe`: known prompts, sent through the gateway to each version, slowly and steadily; so that a version that nobody asks is known
//! to be well, too.

mod ask;
mod file;
mod judge;
mod report;

use std::fs;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use reqwest::Url;
use tokio::time::{Instant, MissedTickBehavior};

use ask::Asker;
use file::Plan;
use judge::{Answer, Trial};

/// A version is not well.
const NOT_WELL: u8 = 1;
/// Nothing can be said: the file is wrong, the gateway does not answer, or does not let anybody choose.
const UNKNOWN: u8 = 2;

/// Options of `penstock probe`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  penstock probe probes.yaml --gateway http://127.0.0.1:8080")]
pub struct Arguments {
    /// What is asked of whom, and what the answers have to be.
    file: PathBuf,
    /// Where the gateway is, in place of the file's `gateway`: http://HOST:PORT; this command speaks http alone.
    #[arg(long)]
    gateway: Option<Url>,
    /// How many rounds, in place of the file's `rounds`; each asks every probe of every version.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: Option<u32>,
    /// Print nothing but one JSON object.
    #[arg(long)]
    json: bool,
}

/// Probes, and says what it found: 0 where all versions are well, 1 where one is not, 2 where that cannot be told.
pub async fn run(arguments: Arguments) -> ExitCode {
    match probe(&arguments).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(NOT_WELL),
        Err(message) => {
            eprintln!("penstock: {message}");
            ExitCode::from(UNKNOWN)
        }
    }
}

/// Whether all versions are well.
async fn probe(arguments: &Arguments) -> Result<bool, String> {
    let path = &arguments.file;
    let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let mut plan = Plan::read(path, &text, arguments.gateway.as_ref())?;
    plan.rounds = arguments.rounds.unwrap_or(plan.rounds);
    let asker = Asker::new(&plan)?;
    let mut trial = Trial::new(&plan);
    let all = plan.rounds as usize * plan.probes.len() * plan.versions.len();
    let is_shown = std::io::stderr().is_terminal() && !arguments.json;
    log::info!("{all} questions, one every {:?}", plan.every);
    let mut pace = tokio::time::interval_at(Instant::now(), plan.every.max(Duration::from_millis(1)));
    // An answer that takes longer makes the rest later, and not faster.
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut asked = 0;
    for _ in 0..plan.rounds {
        for (number, probe) in plan.probes.iter().enumerate() {
            for (which, version) in plan.versions.iter().enumerate() {
                pace.tick().await;
                let answer = asker.ask(version, &probe.body).await?;
                let verdict = trial.take(which, number, &answer);
                tell(&asker, &plan, &answer, verdict).await;
                asked += 1;
                if is_shown {
                    eprint!("\rasked {asked} of {all}{}", if asked == all { "\n" } else { "" });
                }
            }
        }
    }
    if arguments.json {
        println!("{:#}", report::in_json(&plan, &trial));
    } else {
        print!("{}", report::text(&plan, &trial));
    }
    reached(&plan, &trial)?;
    Ok(trial.verdicts().iter().all(|verdict| verdict.is_well))
}

/// Tells the guard. A probe that it does not hear of is still one that is reported.
async fn tell(asker: &Asker<'_>, plan: &Plan, answer: &Answer, verdict: Option<bool>) {
    let (Some(to), Some(is_well)) = (&plan.feedback, verdict) else { return };
    let told = match &answer.id {
        Some(id) => asker.tell(to, id, is_well).await,
        // What failed has none: the gateway sees that for itself.
        None if !(200..300).contains(&answer.status) => Ok(()),
        None => Err("the answer has no x-penstock-request-id".to_owned()),
    };
    if let Err(message) = told {
        log::warn!("feedback: {message}");
    }
}

/// Whether every version answered at all, and if not, why.
fn reached(plan: &Plan, trial: &Trial<'_>) -> Result<(), String> {
    let silent = plan.versions.iter().zip(&trial.seen).find(|(_, seen)| seen.answers == 0);
    let Some((version, seen)) = silent else { return Ok(()) };
    let others: Vec<&str> = seen.elsewhere.keys().map(String::as_str).collect();
    let refused: Vec<&str> = seen.refused.keys().map(String::as_str).collect();
    Err(match (others.as_slice(), refused.as_slice()) {
        ([], refused) => format!("{version} was never asked: the gateway refused ({})", refused.join(", ")),
        (others, _) => format!(
            "{version} was never asked: {} served. Is `{}` the header of models[].override, and the tenant one of its tenants?",
            others.join(", "),
            plan.chooses.as_deref().unwrap_or("override"),
        ),
    })
}
