//! A line for each value: what it follows from.

use super::decide::{
    MARGIN, OPEN_SHARE, PERIOD_MAX, Plan, REACTION, TOLERANCE, UNTRENDED_MAX, WINDOW_MAX, WINDOW_MIN, seconds,
};
use super::figures::Figures;
use super::replica::Replica;

/// What a value follows from.
#[derive(Clone, Debug)]
pub struct Reason {
    /// The key of the value, or what the line is about.
    pub about: &'static str,
    /// The value, if it is one.
    pub value: Option<f64>,
    /// One line.
    pub why: String,
}

/// All lines, those about all of it first.
pub fn reasons(figures: &Figures, plan: &Plan) -> Vec<Reason> {
    let mut lines = general(figures, plan);
    lines.extend(scaling(figures, plan));
    lines.extend(times(figures, plan));
    lines
}

fn general(figures: &Figures, plan: &Plan) -> Vec<Reason> {
    let replica = Replica(figures);
    let (read, write) = replica.work();
    let at = plan.offered / f64::from(plan.held);
    let (first, rest) = (replica.prefill_seconds(at) + 1.5 * replica.step(), replica.decode_seconds(at));
    let in_flight = figures.peak * (first + rest);
    vec![
        about(
            "work",
            format!(
                "a request takes {} of a replica ({} tokens to read / {}, {} to generate / {}): {} a second are the work of {:.2} replicas",
                seconds(read + write),
                figures.prompt.round(),
                figures.prefill,
                figures.output,
                figures.decode,
                figures.peak,
                plan.offered
            ),
        ),
        about(
            "in flight",
            format!(
                "Little's law, arrival rate x time in system: {} a second x ({} to the first token + {} of generating) = {:.0} requests, of \
                 which {:.0} generate; {} replicas of {} places have {:.0}",
                figures.peak,
                seconds(first),
                seconds(rest),
                in_flight,
                figures.peak * rest,
                plan.held,
                figures.batch,
                f64::from(plan.held) * figures.batch
            ),
        ),
        about(
            "queueing",
            format!(
                "a prompt is read in {}; where a replica is used to {}, prompts keep it busy for {} of the time, and waiting makes that {} on \
                 average: {:.2} times as long",
                seconds(replica.read(figures.prompt)),
                percent(at),
                percent(replica.busy(at)),
                seconds(replica.prefill_seconds(at)),
                replica.prefill_seconds(at) / replica.read(figures.prompt)
            ),
        ),
        about(
            "headroom",
            format!(
                "at the peak {} replicas are asked for, and {} are used to {}; {} may come to {} of the peak before they are used to {}",
                plan.asked,
                plan.held,
                percent(at),
                plan.max,
                percent(f64::from(plan.max) * plan.bearable / plan.offered),
                percent(plan.bearable)
            ),
        ),
    ]
}

fn scaling(figures: &Figures, plan: &Plan) -> Vec<Reason> {
    let replica = Replica(figures);
    let at = plan.utilization;
    let met = match figures.ramp {
        Some(ramp) if plan.met_by_min > 0.0 => format!(
            "{:.1} requests a second, to which traffic grows from {} within the {} until one more serves (the peak comes in {})",
            plan.met_by_min,
            figures.quiet,
            seconds(figures.cold_start + REACTION),
            seconds(ramp)
        ),
        _ => format!("{} requests a second when it is quiet", figures.quiet),
    };
    let full = figures.batch * figures.output;
    let read = figures.prefill * figures.ttft / (1.0 - figures.cached);
    vec![
        value(
            "utilization",
            plan.utilization,
            format!(
                "the objective holds up to {:.3}, also for {}: 95 of 100 first tokens within {} of {}, {:.1} of {} places needed ({:.1} streams, \
                 and twice the root of that over {}); over {TOLERANCE}, as an HPA lets that much more pass",
                plan.bearable,
                replicas(figures.min),
                seconds(replica.ttft_p95(plan.bearable)),
                seconds(figures.ttft),
                replica.places(plan.bearable, figures.min),
                figures.batch,
                replica.streams(plan.bearable),
                replicas(figures.min)
            ),
        ),
        value(
            "backlogSeconds",
            plan.backlog,
            format!(
                "what waits before a prompt may take {}, less {} for itself, beside the streams' steps; on average there is {} of it",
                seconds(figures.ttft),
                seconds(replica.read(figures.prompt) + 1.5 * replica.step()),
                seconds(replica.requests(at) * figures.prompt * replica.prefill_seconds(at) / figures.prefill)
            ),
        ),
        value(
            "perReplica",
            plan.per_replica,
            format!(
                "Little's law, at {}: {:.2} prompts of {} tokens that wait or are read, {:.1} streams with half of {} tokens to come",
                percent(at),
                replica.requests(at) * replica.prefill_seconds(at),
                figures.prompt.round(),
                replica.streams(at),
                figures.output
            ),
        ),
        value(
            "ceiling",
            plan.ceiling,
            format!(
                "{} replicas with all places taken ({full:.0} tokens to come each) and prompts for {} waiting ({read:.0}, cached ones too), over \
                 {OPEN_SHARE}, from which on low priority is refused{}",
                plan.max,
                seconds(figures.ttft),
                if figures.gateways > 1.0 {
                    format!("; shared by {} proxies", figures.gateways)
                } else {
                    String::new()
                }
            ),
        ),
        value(
            "min",
            f64::from(plan.min),
            format!(
                "{met}, and --min {}; the more stay, the better they stand in for one another: with --min {} utilization is {}",
                figures.min, plan.held, plan.pooled
            ),
        ),
        value(
            "max",
            f64::from(plan.max),
            format!(
                "{} that the peak asks for, and {} beyond it; one more at least",
                plan.asked,
                percent(figures.headroom)
            ),
        ),
    ]
}

fn times(figures: &Figures, plan: &Plan) -> Vec<Reason> {
    let replica = Replica(figures);
    let in_flight = replica.prefill_seconds(plan.utilization) + replica.decode_seconds(plan.utilization);
    vec![
        value(
            "coldStartSeconds",
            plan.ahead,
            if plan.ahead > 0.0 {
                "as measured: arrivals are predicted that far".to_owned()
            } else {
                format!("no prediction: with a cold start of {UNTRENDED_MAX} s or less it costs more than it gains")
            },
        ),
        value(
            "scaleDownWindowSeconds",
            plan.window,
            format!(
                "two cold starts, and {REACTION} s until it is seen what they do, {WINDOW_MIN} at least and {WINDOW_MAX} at most: in a shorter dip nobody goes who would be missed after it"
            ),
        ),
        value(
            "scaleDownPeriodSeconds",
            plan.period,
            format!(
                "{} that a request is in flight, and {} until it is seen what the others make of its share; 60 at least, {PERIOD_MAX} at most",
                seconds(in_flight),
                seconds(REACTION)
            ),
        ),
        value(
            "cooldownSeconds",
            plan.cooldown,
            format!(
                "longer than the walk down, {} + {} x {}, by {MARGIN}: else the last ones would go at once",
                plan.window,
                plan.max - 1,
                plan.period
            ),
        ),
    ]
}

fn about(about: &'static str, why: String) -> Reason {
    Reason { about, value: None, why }
}

fn value(about: &'static str, value: f64, why: String) -> Reason {
    Reason { about, value: Some(value), why }
}

fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

fn replicas(count: u32) -> String {
    if count == 1 { "1 replica".to_owned() } else { format!("{count} replicas") }
}
