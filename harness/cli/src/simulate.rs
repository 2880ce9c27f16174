//! `penstock simulate`: what a trigger does to a trace of requests, and what its rivals would have done.

mod plot;

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use penstock_simulate::{
    Account, Behavior, Figures, Grid, Law, Objectives, Outcome, Ramp, Setup, Trace, Trial, best, grids, never_meets,
    run as play, trials,
};
use serde_json::{Value, json};

use crate::progress::Progress;

/// Windows for scaling down that rivals are tried with, in seconds.
const DOWN_WINDOWS: [u32; 3] = [60, 120, 300];

/// Options of `penstock simulate`. Times are written as 60s, 5m or 1h.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  penstock simulate trace.csv --json
  penstock simulate trace.csv --scale 3 --max 64 --against")]
pub struct Arguments {
    /// A trace: CSV with the columns TIMESTAMP, ContextTokens, GeneratedTokens.
    #[arg(required_unless_present = "ramp", conflicts_with = "ramp")]
    trace: Option<PathBuf>,
    /// Instead of a trace, stages of so many requests a second, such as 2-4-6-8-10-4-1.
    #[arg(long)]
    ramp: Option<String>,
    /// How long a stage of the ramp is.
    #[arg(long, default_value = "360s", value_parser = seconds)]
    stage: f64,
    /// Prompt and output tokens of a request of the ramp, on average.
    #[arg(long, default_value = "4000/1000", value_parser = sizes)]
    tokens: (f64, f64),
    /// The ramp's requests come as they like, at these rates on average (Poisson), and not evenly.
    #[arg(long, requires = "ramp")]
    poisson: bool,
    /// So many clients, each of which sends its next request when it has its answer; the trace only tells their sizes and how long it takes.
    #[arg(long)]
    clients: Option<u32>,
    /// How often each request comes.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    scale: u32,
    /// From the middle on, prompts are 2.5 times as long and a fifth of the requests does not come; thresholds stay as they were.
    #[arg(long)]
    shift: bool,
    /// What a replica is.
    #[arg(long, default_value = Figures::QWEN3_32B.name, value_parser = figures())]
    replica: Figures,
    /// Another prefill throughput than the replica's, in prompt tokens a second.
    #[arg(long)]
    prefill: Option<f64>,
    /// How many times what a replica does the trigger takes it to do, as where it was measured with other prompts.
    #[arg(long, default_value_t = 1.0)]
    overrated: f64,
    /// Until a new replica is ready.
    #[arg(long, default_value = "60s", value_parser = seconds)]
    cold_start: f64,
    /// The objective of the time to first token.
    #[arg(long, default_value = "2s", value_parser = seconds)]
    ttft: f64,
    /// The objective of the time per output token.
    #[arg(long, value_parser = seconds)]
    tpot: Option<f64>,
    /// The share of requests for which they have to hold.
    #[arg(long, default_value_t = 0.95)]
    attainment: f64,
    /// The share of a replica's capacity that arriving work may use.
    #[arg(long, default_value_t = 0.7)]
    utilization: f64,
    /// Prefill that may wait for one replica.
    #[arg(long, default_value = "2s", value_parser = seconds)]
    backlog: f64,
    /// How many times the work that arrives the backlog may ask for, until it has stood for a cold start (a minute at least); 0 for no bound.
    #[arg(long, default_value_t = 2.0)]
    surge: f64,
    /// Over how long arriving work is counted.
    #[arg(long, default_value = "60s", value_parser = seconds)]
    rate_window: f64,
    /// From how long a trend is taken; 0s for none. When not given, 5m or twice the cold start, whichever is longer, as the chart has it.
    #[arg(long, value_parser = seconds)]
    trend_window: Option<f64>,
    /// `minReplicaCount`.
    #[arg(long, default_value_t = 1)]
    min: u32,
    /// `maxReplicaCount`.
    #[arg(long, default_value_t = 32)]
    max: u32,
    /// Replicas at the beginning; what the first two minutes need when not given.
    #[arg(long)]
    initial: Option<u32>,
    /// Prometheus' scrape interval.
    #[arg(long, default_value = "5s", value_parser = seconds)]
    scrape: f64,
    /// `stabilizationWindowSeconds` for scaling down.
    #[arg(long, default_value_t = 600)]
    down_window: u32,
    /// In how many seconds one replica may be taken away.
    #[arg(long, default_value_t = 120)]
    down_period: u32,
    /// Let the gateway hold what is more than so much prefill for each replica.
    #[arg(long, value_parser = seconds)]
    hold: Option<f64>,
    /// Count replicas until there are `min` again, not only until the trace ends.
    #[arg(long)]
    until_floor: bool,
    /// Every rival, each with the thresholds that turn out best for this trace.
    #[arg(long)]
    against: bool,
    /// Penstock's trigger with a utilization from 0.5 to 1.
    #[arg(long)]
    curve: bool,
    /// Print nothing but one JSON object.
    #[arg(long)]
    json: bool,
    /// Where to draw the run of Penstock's trigger.
    #[arg(long)]
    svg: Option<PathBuf>,
}

fn figures() -> impl TypedValueParser<Value = Figures> {
    let named = |name: String| Figures::ALL.into_iter().find(|figures| figures.name == name);
    PossibleValuesParser::new(Figures::ALL.map(|figures| figures.name))
        .try_map(move |name| named(name).ok_or("there is no such replica"))
}

fn seconds(text: &str) -> Result<f64, String> {
    let number = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let factor = match &text[number.len()..] {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(format!("{text:?} is not a duration; write 30s, 500ms, 5m, 1h")),
    };
    let number = number.parse::<f64>().ok().filter(|number| number.is_finite() && *number >= 0.0);
    number.map(|number| number * factor).ok_or_else(|| format!("{text:?} is not a duration; write 30s, 500ms, 5m, 1h"))
}

fn sizes(text: &str) -> Result<(f64, f64), String> {
    let (prompt, output) =
        text.split_once('/').ok_or_else(|| format!("{text:?}: write PROMPT/OUTPUT, such as 4000/1000"))?;
    let tokens = |text: &str| {
        let tokens = text.parse::<f64>().ok().filter(|tokens| (1.0..=1e6).contains(tokens));
        tokens.ok_or_else(|| format!("{text:?} is not a number of tokens (1 to 1000000)"))
    };
    Ok((tokens(prompt)?, tokens(output)?))
}

/// Plays the trace and says what came of it.
///
/// # Errors
/// What is wrong with the trace or the options, or why no number of replicas can hold the objectives.
pub fn run(arguments: &Arguments) -> Result<(), String> {
    let before = arguments.trace()?;
    let trace = if arguments.shift { before.shifted() } else { before.clone() };
    for note in &trace.notes {
        log::warn!("{note}");
    }
    // Thresholds and figures are those of the trace before its users changed.
    let setup = arguments.setup(&before);
    setup.check()?;
    let reasons = never_meets(&setup.figures, &trace, &setup.objectives, setup.max);
    if !reasons.is_empty() {
        return Err(format!("these replicas can never hold the objectives:\n  {}", reasons.join("\n  ")));
    }
    let outcome = play(&trace, &setup)?;
    if let Some(file) = &arguments.svg {
        let title = format!("{}: {}", setup.law.name(), setup.law.thresholds());
        fs::write(file, plot::svg(&title, &outcome, setup.objectives.ttft))
            .map_err(|error| format!("{}: {error}", file.display()))?;
    }
    let curve = if arguments.curve { curve(&trace, &setup)? } else { Vec::new() };
    let rivals = if arguments.against { rivals(&trace, &before, &setup)? } else { Vec::new() };
    let ours = Trial { setup, outcome };
    if arguments.json {
        println!("{}", in_json(&trace, &ours, &curve, &rivals));
    } else {
        print!("{}", in_words(&trace, &ours, &curve, &rivals));
    }
    Ok(())
}

impl Arguments {
    fn trace(&self) -> Result<Trace, String> {
        let trace = match (&self.trace, &self.ramp) {
            (Some(file), _) => {
                let text = fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
                Trace::parse(&text).map_err(|error| format!("{}: {error}", file.display()))?
            }
            (None, Some(rates)) => {
                let ramp = Ramp::parse(rates, self.stage, self.tokens.0, self.tokens.1)?;
                Ramp { poisson: self.poisson, ..ramp }.trace()
            }
            (None, None) => return Err("give a trace or --ramp".into()),
        };
        if trace.requests.is_empty() {
            return Err("there is no request in it".into());
        }
        Ok(if self.scale > 1 { trace.scaled(self.scale) } else { trace })
    }

    fn setup(&self, trace: &Trace) -> Setup {
        let figures = Figures { prefill: self.prefill.unwrap_or(self.replica.prefill), ..self.replica };
        let law = Law::penstock(&figures, trace, self.utilization, self.backlog).with_windows(
            self.rate_window,
            self.trend_window.unwrap_or((2.0 * self.cold_start).max(300.0)),
            self.cold_start,
        );
        let law = law.bounded(self.surge).overrated(self.overrated);
        let objectives =
            Objectives { ttft: self.ttft, tpot: self.tpot.unwrap_or(f64::INFINITY), attainment: self.attainment };
        Setup {
            figures,
            cold_start: self.cold_start,
            law,
            behavior: Behavior::one_step(self.max, self.down_window, self.down_period),
            min: self.min,
            max: self.max,
            initial: self.initial.unwrap_or_else(|| figures.initial(trace)),
            scrape: self.scrape,
            polling: 5.0,
            cooldown: 600.0,
            hold: self.hold,
            clients: self.clients.map(|clients| (clients, 0.0)),
            objectives,
            account: if self.until_floor { Account::Floor } else { Account::Span },
        }
    }
}

/// A rival with its thresholds: the best ones for this trace, and those that were best before its users changed.
struct Rival {
    name: &'static str,
    trials: Vec<Trial>,
    /// What was best for the trace before the shift, played on this one.
    before: Option<Trial>,
}

fn curve(trace: &Trace, setup: &Setup) -> Result<Vec<Trial>, String> {
    let setups: Vec<Setup> =
        (10..=20).map(|twentieth| Setup { law: setup.law.at(f64::from(twentieth) / 20.0), ..setup.clone() }).collect();
    trials(trace, &setups, &|_| {})
}

fn rivals(trace: &Trace, before: &Trace, setup: &Setup) -> Result<Vec<Rival>, String> {
    let shifted = trace != before;
    let grids = grids(before, setup, &DOWN_WINDOWS);
    let each: usize = grids.iter().map(|grid| grid.setups.len()).sum();
    let progress = Progress::new(if shifted { each * 2 } else { each });
    let mut rivals = Vec::new();
    for Grid { name, setups } in grids {
        let tried = trials(trace, &setups, &|_| progress.step())?;
        let old = if shifted { trials(before, &setups, &|_| progress.step())? } else { Vec::new() };
        let old = best(&old, setup.objectives.attainment).map(|old| old.setup.clone());
        let before = old.map(|setup| play(trace, &setup).map(|outcome| Trial { setup, outcome })).transpose()?;
        rivals.push(Rival { name, trials: tried, before });
    }
    progress.end();
    Ok(rivals)
}

fn in_json(trace: &Trace, ours: &Trial, curve: &[Trial], rivals: &[Rival]) -> Value {
    // The course of a run is for the one that was asked for.
    let brief = |trial: &Trial| {
        let mut brief = json!(trial);
        if let Some(outcome) = brief["outcome"].as_object_mut() {
            outcome.remove("points");
        }
        brief
    };
    let rivals = rivals.iter().map(|rival| {
        json!({
            "law": rival.name,
            "tried": rival.trials.len(),
            "best95": best(&rival.trials, 0.95).map(brief),
            "best99": best(&rival.trials, 0.99).map(brief),
            "asBefore": rival.before.as_ref().map(brief),
        })
    });
    json!({
        "trace": trace.describe(),
        "notes": trace.notes,
        "penstock": ours,
        "curve": curve.iter().map(brief).collect::<Vec<_>>(),
        "rivals": rivals.collect::<Vec<_>>(),
    })
}

fn in_words(trace: &Trace, ours: &Trial, curve: &[Trial], rivals: &[Rival]) -> String {
    let mut text = String::new();
    let figures = &ours.setup.figures;
    let _ = writeln!(text, "{}", trace.describe());
    let _ = writeln!(
        text,
        "replica {}: {:.0} prompt tokens/s, {:.0} output tokens/s, ready after {} s",
        figures.name,
        figures.prompts_rate(),
        ours.setup.law.decode().unwrap_or(0.0),
        ours.setup.cold_start
    );
    let _ = writeln!(text, "\n{HEAD}");
    row(&mut text, "penstock", Some(ours));
    for trial in curve {
        row(&mut text, "  curve", Some(trial));
    }
    for rival in rivals {
        row(&mut text, &format!("{}, 95 %", rival.name), best(&rival.trials, 0.95));
        row(&mut text, &format!("{}, 99 %", rival.name), best(&rival.trials, 0.99));
        if let Some(before) = &rival.before {
            row(&mut text, &format!("{}, as before", rival.name), Some(before));
        }
    }
    let _ = write!(text, "{}", details(&ours.outcome));
    text
}

const HEAD: &str =
    "trigger                        in SLO  replica-s   mean  peak  up/down  flaps  TTFT p50    p95    p99  thresholds";

fn row(text: &mut String, name: &str, trial: Option<&Trial>) {
    let Some(Trial { setup, outcome }) = trial else {
        let _ = writeln!(text, "{name:<30} no thresholds of the grid hold it");
        return;
    };
    let _ = writeln!(
        text,
        "{name:<30} {:>6.1}  {:>9.0}  {:>5.2}  {:>4}  {:>3}/{:<3}  {:>5}  {:>8.2}  {:>5.2}  {:>5.2}  {} (down window {} s)",
        outcome.attainment * 100.0,
        outcome.replica_seconds,
        outcome.replicas_mean,
        outcome.replicas_peak,
        outcome.scaled_up,
        outcome.scaled_down,
        outcome.flaps,
        outcome.ttft.p50,
        outcome.ttft.p95,
        outcome.ttft.p99,
        setup.law.thresholds(),
        setup.behavior.down.window,
    );
}

fn details(outcome: &Outcome) -> String {
    let mut text = String::new();
    let ms = |seconds: f64| seconds * 1000.0;
    let (tpot, gaps) = (&outcome.tpot, &outcome.inter_token);
    let _ = writeln!(
        text,
        "\npenstock: per output token p50 {:.0} ms, p95 {:.0} ms, p99 {:.0} ms; between two tokens p50 {:.0} ms, p95 {:.0} ms, p99 {:.0} ms",
        ms(tpot.p50),
        ms(tpot.p95),
        ms(tpot.p99),
        ms(gaps.p50),
        ms(gaps.p95),
        ms(gaps.p99)
    );
    let _ = writeln!(
        text,
        "          {} of {} refused as too long, {} never answered, {} times scaled down while work rose",
        outcome.refused, outcome.requests, outcome.unserved, outcome.down_while_rising
    );
    text
}
