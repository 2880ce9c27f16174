//! What a real Envoy of one worker gets through, in front of a server that keeps its connections: without a filter, with one that does nothing,
//! with one that makes the calls which a filter like Penstock cannot do without (`benches/floor`), and with Penstock under one limit and with a
//! split of two.
//!
//! All four Envoys run at the same time, and take turns: on a machine that others use too, only what was measured within a second of each other
//! can be compared. So ratios are taken within a round, and what is told of them is their median and quartiles over the rounds.

mod client;
mod gateways;
mod plan;
mod report;
mod upstream;
mod wrk;

use std::path::Path;
use std::thread;
use std::time::Duration;

use crate::process::{cpu_nanos, resident_bytes};

use client::{STREAMS, events, paced};
use gateways::Gateways;
use report::{Load, Memory, Paced};
use upstream::Upstream;

pub use gateways::Filter;
pub use plan::{Answer, Plan, Row};
pub use report::Report;

/// Events of the answers that come one by one.
const EVENTS: u32 = 500;

/// Measures it, and says on the way what is being measured.
///
/// # Errors
/// When there is no Envoy, nginx or wrk, when the modules have not been built, or when a request is not answered with 200.
pub fn measure(plan: &Plan, say: impl Fn(&str)) -> Result<Report, String> {
    let wrk = wrk::find()?;
    let runtime = tokio::runtime::Runtime::new().map_err(|error| error.to_string())?;
    let upstream = runtime.block_on(Upstream::start())?;
    let gateways = Gateways::find()?;
    say("starting four Envoys");
    let envoys = runtime.block_on(gateways.start_all(&upstream))?;
    for (filter, envoy) in &envoys {
        // Until all is compiled and all connections are there. What it is asked first is what it answers to, too.
        wrk.run(envoy, &Plan::full().rows[0], 1, 0).map_err(|error| format!("{filter:?}: {error}"))?;
    }
    let mut report = Report::new(plan.rounds);
    report.rows = plan.rows.iter().map(|row| (*row, Default::default())).collect();
    report.paced = plan.rates.iter().map(|rate| (*rate, Default::default())).collect();
    for round in 0..plan.rounds {
        say(&format!("round {} of {}", round + 1, plan.rounds));
        // Who is first is another one each time.
        let turn = || (0..envoys.len()).map(|i| &envoys[(i + round) % envoys.len()]);
        for (row, figures) in &mut report.rows {
            for (filter, envoy) in turn() {
                let before = cpu_nanos(envoy.pid())?;
                let seed = round as u32 + 1;
                let run = wrk.run(envoy, row, plan.seconds, seed).map_err(|error| format!("{filter:?}: {error}"))?;
                let cpu_us = (cpu_nanos(envoy.pid())? - before) as f64 / 1000.0 / run.requests;
                let per_second = run.requests / run.seconds;
                figures[*filter as usize].push(Load { per_second, cpu_us, p50_ms: run.p50_ms, p99_ms: run.p99_ms });
            }
        }
        for (rate, figures) in &mut report.paced {
            for (filter, envoy) in turn() {
                let took = Duration::from_secs(plan.paced_seconds.into());
                let mut latencies = paced(envoy, *rate, took).map_err(|error| format!("{filter:?}: {error}"))?;
                latencies.sort_by(f64::total_cmp);
                let at = |part: f64| latencies.get((latencies.len() as f64 * part) as usize).copied();
                let (p50_ms, p99_ms) = (at(0.5).unwrap_or_default(), at(0.99).unwrap_or_default());
                figures[*filter as usize].push(Paced { p50_ms, p99_ms });
            }
        }
        for (filter, envoy) in turn() {
            let before = cpu_nanos(envoy.pid())?;
            events(envoy, EVENTS).map_err(|error| format!("{filter:?}: {error}"))?;
            let spent = (cpu_nanos(envoy.pid())? - before) as f64 / 1000.0;
            report.events[*filter as usize].push(spent / f64::from(EVENTS) / STREAMS as f64);
        }
    }
    drop(envoys);
    say("memory");
    for workers in &plan.workers {
        let resident = |module: Filter, path: Option<&Path>| -> Result<f64, String> {
            let envoy = runtime.block_on(gateways.start(module, path, &upstream, *workers))?;
            // What a VM only touches with requests is to be there, too.
            wrk.run(&envoy, &Plan::full().rows[1], 1, *workers)?;
            settled(envoy.pid(), plan.settle_seconds)
        };
        let (noop, penstock) = (resident(Filter::Noop, None)?, resident(Filter::Penstock, None)?);
        let o200k = gateways.o200k().map(|module| resident(Filter::Penstock, Some(module))).transpose()?;
        report.memory.push(Memory { workers: *workers, noop, penstock, o200k });
    }
    Ok(report.ended())
}

/// Resident bytes of a process that gives back what it has freed, when that is over or so many seconds have gone by.
fn settled(pid: u32, seconds: u64) -> Result<f64, String> {
    const STEP: u64 = 2;
    let mut bytes = resident_bytes(pid)?;
    for _ in 0..seconds / STEP {
        thread::sleep(Duration::from_secs(STEP));
        let before = std::mem::replace(&mut bytes, resident_bytes(pid)?);
        if before.saturating_sub(bytes) < 1 << 20 {
            break;
        }
    }
    Ok(bytes as f64)
}
