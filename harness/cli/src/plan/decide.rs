//! From figures to thresholds. Nothing here reads or writes.

use super::figures::{Figures, REPLICAS_MAX};
use super::replica::Replica;

/// An HPA leaves the replicas as they are while what is wanted of them is within a tenth of what they are for.
pub const TOLERANCE: f64 = 1.1;
/// Seconds until a change is seen: a scrape and the HPA's period, 15 s each.
pub const REACTION: f64 = 30.0;
/// What a rate over a minute shows of a dip is over by then, in seconds.
pub const WINDOW_MIN: f64 = 150.0;
/// Up to which cold start, in seconds, a trend costs more than it gains (docs/simulate.md).
pub const UNTRENDED_MAX: f64 = 60.0;
/// An HPA looks back no further than that, in seconds.
pub const WINDOW_MAX: f64 = 3600.0;
/// Nor waits longer between two steps.
pub const PERIOD_MAX: f64 = 1800.0;
/// Requests of low priority are refused from this share of a ceiling on.
pub const OPEN_SHARE: f64 = 0.7;
/// What the cooldown has beyond the walk down, in seconds.
pub const MARGIN: f64 = 60.0;

/// What to set, and what it follows from.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// What arrives at the peak, in replicas that do nothing else.
    pub offered: f64,
    /// The utilization up to which the objective holds.
    pub bearable: f64,
    /// What replicas are scaled to: that, less the HPA's tolerance.
    pub utilization: f64,
    /// The same, if as many stayed as the peak needs.
    pub pooled: f64,
    /// The fewest that autoscaling leaves there at the peak.
    pub held: u32,
    /// What it asks for at the peak.
    pub asked: u32,
    /// Replicas that stay.
    pub min: u32,
    /// Requests a second that these have to serve by themselves.
    pub met_by_min: f64,
    /// The most replicas.
    pub max: u32,
    /// How much a replica may have waiting to be read, in seconds.
    pub backlog: f64,
    /// Tokens that a replica has in hand at its utilization.
    pub per_replica: f64,
    /// The ceiling of each proxy, in tokens.
    pub ceiling: f64,
    /// How far ahead arrivals are predicted, in seconds; 0 where they are not.
    pub ahead: f64,
    /// How long the HPA looks back before it takes a replica away, in seconds.
    pub window: f64,
    /// How long it waits between two of these, in seconds.
    pub period: f64,
    /// How long it has to be idle before the last one goes, in seconds.
    pub cooldown: f64,
}

/// Why no number of replicas does.
#[derive(Clone, Debug, PartialEq)]
pub struct Never {
    /// What cannot be, in figures.
    pub why: String,
    /// What could be changed.
    pub fix: String,
}

/// Plans.
///
/// # Errors
/// Why no plan holds.
pub fn plan(figures: &Figures) -> Result<Plan, Never> {
    let replica = Replica(figures);
    possible(figures)?;
    let (read, write) = replica.work();
    let offered = figures.peak * (read + write);

    let bearable = replica.utilization_max(figures.min);
    let utilization = three_digits(bearable / TOLERANCE);
    // Not by the rounded utilization, or a slower replica might need fewer.
    let each = replica.requests(bearable);
    let counts = (count(figures.peak / each), count(TOLERANCE * figures.peak / each));
    let (Some(held), Some(asked)) = counts else { return Err(too_many(TOLERANCE * figures.peak / each)) };

    let met_by_min = met_by_min(figures, held)?;
    let min = figures.min.max(count(met_by_min / each).unwrap_or(held));
    let beyond = f64::from(asked) * (1.0 + figures.headroom);
    let Some(max) = count(beyond) else { return Err(too_many(beyond)) };
    let max = max.max(asked + 1).max(min);

    let reading = replica.prefill_seconds(utilization);
    let prefilling = replica.requests(utilization) * figures.prompt * reading;
    // What is waiting may take the objective less what a request takes by itself, and is not what is there anyhow.
    let spare = figures.ttft - replica.read(figures.prompt) - 1.5 * replica.step();
    let backlog = spare / replica.read(figures.prefill);
    let backlog = floor(backlog, 2).max(ceil(2.0 * prefilling / figures.prefill, 2));
    let decoding = replica.streams(utilization) * figures.output / 2.0;
    let full = figures.batch * figures.output + figures.prefill * figures.ttft / (1.0 - figures.cached);

    let in_flight = reading + replica.decode_seconds(utilization);
    let window = (2.0 * figures.cold_start + REACTION).ceil().clamp(WINDOW_MIN, WINDOW_MAX);
    let period = (in_flight + REACTION).ceil().clamp(60.0, PERIOD_MAX);
    Ok(Plan {
        offered,
        bearable,
        utilization,
        pooled: three_digits(replica.utilization_max(held) / TOLERANCE),
        held,
        asked,
        min,
        met_by_min,
        max,
        backlog,
        per_replica: (prefilling + decoding).ceil(),
        ceiling: (f64::from(max) * full / OPEN_SHARE / figures.gateways / 1000.0).ceil() * 1000.0,
        ahead: if figures.cold_start > UNTRENDED_MAX { figures.cold_start.ceil() } else { 0.0 },
        window,
        period,
        cooldown: window + f64::from(max - 1) * period + MARGIN,
    })
}

/// What no number of replicas changes.
fn possible(figures: &Figures) -> Result<(), Never> {
    let replica = Replica(figures);
    let step = replica.step();
    if let Some(objective) = figures.inter_token.filter(|objective| step > *objective) {
        return Err(Never {
            why: format!(
                "with its batch of {} full, a replica that generates {} tokens/s has one for each stream every {}: the objective between \
                 tokens is {}",
                figures.batch,
                figures.decode,
                seconds(step),
                seconds(objective)
            ),
            fix: format!(
                "measure the decode rate with a batch of {} or less, and serve with that",
                (objective * figures.decode).floor().max(1.0)
            ),
        });
    }
    let alone = replica.ttft_p95(0.0);
    if alone >= figures.ttft {
        return Err(Never {
            why: format!(
                "a prompt of {} uncached tokens, which 95 of 100 are shorter than, takes a replica {} to read with nobody waiting, {} of it for \
                 steps of its streams: the objective of the first token is {}",
                figures.long_prompt.round(),
                seconds(alone),
                seconds(alone - figures.long_prompt / figures.prefill),
                seconds(figures.ttft)
            ),
            fix: "more replicas do not help: take a faster replica, shorter prompts, more of them cached, or a longer objective".to_owned(),
        });
    }
    Ok(())
}

/// Requests a second that come before the first replica that they make be asked for can serve.
fn met_by_min(figures: &Figures, held: u32) -> Result<f64, Never> {
    let Some(ramp) = figures.ramp else { return Ok(figures.quiet) };
    let late = figures.cold_start + REACTION;
    if late < ramp {
        return Ok(figures.quiet + (figures.peak - figures.quiet) * late / ramp);
    }
    if figures.min >= held {
        return Ok(figures.peak);
    }
    Err(Never {
        why: format!(
            "traffic grows to the peak in {}, and a replica serves {} after it was wanted: {} until that is seen, and the cold start of {}",
            seconds(ramp),
            seconds(late),
            seconds(REACTION),
            seconds(figures.cold_start)
        ),
        fix: format!("keep what the peak needs (--min {held}), or make the cold start shorter"),
    })
}

fn too_many(replicas: f64) -> Never {
    Never {
        why: format!("this takes {replicas:.0} replicas, and {REPLICAS_MAX} is the most that is planned"),
        fix: "look at the units (rates are for a second, and those of a replica for one replica), and whether the objective leaves prompts \
              any time to wait"
            .to_owned(),
    }
}

/// A whole number of replicas, one at least; `None` beyond what is planned.
fn count(replicas: f64) -> Option<u32> {
    // What is a whole number but for the last bits is that number.
    let replicas = (replicas - 1e-9).ceil().max(1.0);
    (replicas <= f64::from(REPLICAS_MAX)).then_some(replicas as u32)
}

/// So many digits behind the point, up.
fn ceil(value: f64, digits: i32) -> f64 {
    (value * 10_f64.powi(digits)).ceil() / 10_f64.powi(digits)
}

/// So many digits behind the point, down.
fn floor(value: f64, digits: i32) -> f64 {
    (value * 10_f64.powi(digits)).floor() / 10_f64.powi(digits)
}

/// The first three digits of a share, down.
fn three_digits(share: f64) -> f64 {
    // Of 0.0123, the first is the second behind the point.
    floor(share, 2 - share.log10().floor() as i32)
}

/// A time, in seconds or milliseconds.
pub fn seconds(time: f64) -> String {
    match time {
        time if time < 1.0 => format!("{} ms", (time * 1000.0).round()),
        time if time < 10.0 => format!("{} s", (time * 100.0).round() / 100.0),
        time => format!("{} s", time.round()),
    }
}
