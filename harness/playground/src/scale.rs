//! How many replicas each signal asks for over a trace of requests, by [`penstock_simulate`].

use penstock_simulate::{Account, Behavior, Figures, Law, Objectives, Ramp, Setup, Trace, never_meets, run};
use serde::{Deserialize, Serialize};

/// The most points of a line.
const POINTS_MAX: usize = 400;
/// What the chart has for what one may have waiting: prefill that is read in so many seconds.
const BACKLOG_SECONDS: f64 = 2.0;

/// A trace, and what scales for it. Without a trace, requests as an example.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Scale {
    /// CSV: `TIMESTAMP,ContextTokens,GeneratedTokens`.
    pub trace: String,
    /// How often each request comes.
    pub times: u32,
    /// Seconds until a new replica serves.
    pub cold_start: f64,
    /// Seconds within which the first token is promised.
    pub ttft: f64,
    /// The share of a replica that may be spoken for.
    pub utilization: f64,
}

/// What came of it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Scaled {
    /// How many requests it is.
    pub requests: usize,
    /// How many seconds they take to come.
    pub seconds: f64,
    /// What is to be known of the trace.
    pub notes: Vec<String>,
    /// Each signal, the first of which is Penstock's.
    pub signals: Vec<Signal>,
}

/// A signal, and what it did.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Signal {
    /// What it is.
    pub name: &'static str,
    /// Its thresholds.
    pub thresholds: String,
    /// The share of requests within the objective.
    pub attainment: f64,
    /// What it cost.
    pub replica_seconds: f64,
    /// Replicas, by second.
    pub points: Vec<(f64, u32)>,
}

/// Plays the trace under each signal. All are set to the same share of a replica, as who has measured it would: none is tuned.
///
/// # Errors
/// What is wrong with the trace, or why no number of replicas can keep the objective.
pub fn scale(asked: &Scale) -> Result<Scaled, String> {
    let trace = if asked.trace.trim().is_empty() {
        Ramp { poisson: true, ..Ramp::parse("2-6-12-20-12-4", 300.0, 1155.0, 211.0)? }.trace()
    } else {
        Trace::parse(&asked.trace)?
    };
    let trace = if asked.times > 1 { trace.scaled(asked.times.min(100)) } else { trace };
    let (Some(first), Some(last)) = (trace.requests.first(), trace.requests.last()) else {
        return Err("there is no request in it".to_owned());
    };
    let seconds = (last.at - first.at) as f64 / penstock_simulate::SECOND as f64;
    let figures = Figures::QWEN3_32B;
    let objectives = Objectives { ttft: asked.ttft, tpot: f64::INFINITY, attainment: 0.95 };
    let max = 32;
    let reasons = never_meets(&figures, &trace, &objectives, max);
    if !reasons.is_empty() {
        return Err(format!("these replicas can never keep that: {}", reasons.join("; ")));
    }
    let ours = Law::penstock(&figures, &trace, asked.utilization, BACKLOG_SECONDS);
    let trend = if asked.cold_start > 60.0 { (2.0 * asked.cold_start).max(300.0) } else { 0.0 };
    let (prompt, output) = trace.means();
    let work = prompt / figures.prompts_rate() + output / figures.decode_rate(prompt, output);
    let laws = [
        ours.with_windows(60.0, trend, asked.cold_start),
        Law::Requests { per_replica: asked.utilization / work, window: 60.0 },
        Law::PendingTokens { per_replica: BACKLOG_SECONDS * figures.prompts_rate() },
        Law::Gpu { share: asked.utilization },
    ];
    let signals = laws.into_iter().map(|law| {
        let setup = Setup {
            figures,
            cold_start: asked.cold_start,
            law,
            behavior: Behavior::one_step(max, (2.0 * asked.cold_start + 30.0).clamp(150.0, 3600.0) as u32, 60),
            min: 1,
            max,
            initial: figures.initial(&trace),
            scrape: 5.0,
            polling: 5.0,
            cooldown: 600.0,
            hold: None,
            clients: None,
            objectives,
            account: Account::Span,
        };
        setup.check()?;
        let outcome = run(&trace, &setup)?;
        let every = outcome.points.len().div_ceil(POINTS_MAX).max(1);
        Ok(Signal {
            name: law.name(),
            thresholds: law.thresholds(),
            attainment: outcome.attainment,
            replica_seconds: outcome.replica_seconds,
            points: outcome.points.iter().step_by(every).map(|point| (point.at, point.replicas)).collect(),
        })
    });
    let signals = signals.collect::<Result<Vec<_>, String>>()?;
    Ok(Scaled { requests: trace.requests.len(), seconds, notes: trace.notes, signals })
}
