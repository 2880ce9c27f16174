//! Thresholds in hindsight: every signal over a grid of what it can be set to, and the cheapest that held the objective.

use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;
use serde::Serialize;

use crate::hpa::Behavior;
use crate::law::Law;
use crate::outcome::Outcome;
use crate::run::{Setup, run};
use crate::trace::Trace;

/// One signal, in all the ways in which it is tried.
#[derive(Clone, Debug)]
pub struct Grid {
    /// The signal.
    pub name: &'static str,
    /// The ways.
    pub setups: Vec<Setup>,
}

/// One way, and what came of it.
#[derive(Clone, Debug, Serialize)]
pub struct Trial {
    /// The way.
    pub setup: Setup,
    /// What came of it.
    pub outcome: Outcome,
}

/// Plays a trace in several ways at the same time; the trials are in the order of the setups. `progress` hears how many are done.
///
/// # Errors
/// What cannot be simulated.
pub fn trials(trace: &Trace, setups: &[Setup], progress: &(dyn Fn(usize) + Sync)) -> Result<Vec<Trial>, String> {
    let done = AtomicUsize::new(0);
    let trial = |setup: &Setup| {
        let outcome = run(trace, setup)?;
        progress(done.fetch_add(1, Ordering::Relaxed) + 1);
        Ok(Trial { setup: setup.clone(), outcome })
    };
    setups.par_iter().map(trial).collect()
}

/// The cheapest that held the objectives for this share of the requests.
#[must_use]
pub fn best(trials: &[Trial], attainment: f64) -> Option<&Trial> {
    let held = trials.iter().filter(|trial| trial.outcome.attainment >= attainment);
    held.min_by(|a, b| a.outcome.replica_seconds.total_cmp(&b.outcome.replica_seconds))
}

/// Every rival over its grid, for this trace: each threshold with each of the windows for scaling down.
#[must_use]
pub fn grids(trace: &Trace, base: &Setup, down_windows: &[u32]) -> Vec<Grid> {
    let (prompt, output) = trace.means();
    let (prefill, decode) = (base.figures.prefill_rate(), base.figures.decode_rate(prompt, output));
    // What a replica could do if nobody had to wait: the thresholds of rates are shares of it.
    let requests = 1.0 / (prompt / prefill + output / decode);
    let shares = || (6..=20).map(|twentieth| f64::from(twentieth) / 20.0);
    let windows = || [30.0, 60.0, 120.0];
    let laws: Vec<Vec<Law>> = vec![
        [2e3, 4e3, 6e3, 8e3, 12e3, 16e3, 24e3, 32e3, 48e3, 64e3, 96e3]
            .map(|per_replica| Law::PendingTokens { per_replica })
            .to_vec(),
        pairs(&[0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.5], &[0.1, 0.2, 0.3, 0.4, 0.6, 0.8], |seconds, kv| {
            Law::LlmdTokens { seconds, kv, prefill }
        }),
        pairs(&[0.5, 1.0, 2.0, 4.0], &[8.0, 12.0, 16.0, 24.0, 32.0, 40.0, 48.0, 64.0, 96.0], |waiting, running| {
            Law::LlmdQueue { waiting, running }
        }),
        pairs(&[0.15, 0.2, 0.25, 0.3, 0.4, 0.55, 0.7], &[0.5, 0.73, 0.9], |up, share| {
            let (ttft, tpot) = (base.objectives.ttft, base.objectives.tpot.min(0.1));
            Law::LlmdLatency { up, down: up * share, ttft, tpot, foresight: true }
        }),
        shares()
            .flat_map(|share| windows().map(|window| Law::Requests { per_replica: requests * share, window }))
            .collect(),
        shares()
            .flat_map(|share| {
                [1.0, 4.0].map(|waiting| Law::RequestsOrWaiting { per_replica: requests * share, waiting })
            })
            .collect(),
        [4.0, 8.0, 12.0, 16.0, 20.0, 24.0, 32.0, 40.0, 48.0, 64.0, 96.0]
            .map(|per_replica| Law::InFlight { per_replica })
            .to_vec(),
        [0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0].map(|per_replica| Law::Waiting { per_replica }).to_vec(),
        [0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.7].map(|share| Law::KvUse { share }).to_vec(),
        (6..=19).map(|twentieth| Law::Gpu { share: f64::from(twentieth) / 20.0 }).collect(),
        [0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5, 0.6]
            .iter()
            .flat_map(|share| [30.0, 60.0].map(|window| Law::Decode { per_replica: decode * share, window }))
            .collect(),
    ];
    laws.into_iter().map(|laws| grid(base, laws, down_windows)).collect()
}

fn pairs(first: &[f64], second: &[f64], law: impl Fn(f64, f64) -> Law) -> Vec<Law> {
    first.iter().flat_map(|first| second.iter().map(|second| law(*first, *second)).collect::<Vec<_>>()).collect()
}

fn grid(base: &Setup, laws: Vec<Law>, down_windows: &[u32]) -> Grid {
    let name = laws.first().map_or("", Law::name);
    let setups = laws.into_iter().flat_map(|law| {
        down_windows.iter().map(move |window| {
            let mut down = base.behavior.down.clone();
            down.window = *window;
            Setup { law, behavior: Behavior { up: base.behavior.up.clone(), down }, ..base.clone() }
        })
    });
    Grid { name, setups: setups.collect() }
}
