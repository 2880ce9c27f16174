//! What is said of each version: to people in 80 columns, to programs as JSON.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::file::Plan;
use super::judge::{Seen, Trial, Verdict};
use crate::canary::statistics::Estimate;

const WIDTH: usize = 80;

/// A line or two for each version, and one for each reason why answers are not well.
pub fn text(plan: &Plan, trial: &Trial<'_>) -> String {
    let mut out = String::new();
    let mut say = |line: String| {
        // Nothing can go wrong with a string.
        let _ = writeln!(out, "{}", cut(&line));
    };
    for ((version, seen), verdict) in plan.versions.iter().zip(&trial.seen).zip(trial.verdicts()) {
        let word = if verdict.is_well { "well" } else { "NOT WELL" };
        say(format!("{} {version}: {word}", plan.model));
        match verdict.failed {
            Some(failed) => say(format!("  failed   {} of {}: {}", seen.failed, seen.answers, percent(failed))),
            None => say("  failed   nobody knows: it gave no answer".to_owned()),
        }
        if let Some(differs) = verdict.differs {
            let beyond = if verdict.is_beyond { ", more than the first version from itself" } else { "" };
            say(format!("  differs  {} of {}: {}{beyond}", seen.differed, seen.compared, percent(differs)));
        }
        if let Some(median) = median(seen) {
            say(format!("  took     {median} ms, in the middle"));
        }
        for ((probe, reason), count) in &seen.reasons {
            say(format!("  {count:>4} x   {probe}: {reason}"));
        }
        for (why, count) in &seen.refused {
            say(format!("  {count:>4} x   refused by the gateway: {why}"));
        }
        for (other, count) in &seen.elsewhere {
            say(format!("  {count:>4} x   served by {other}"));
        }
    }
    out
}

/// The same for programs. Intervals are at 95 %.
pub fn in_json(plan: &Plan, trial: &Trial<'_>) -> Value {
    let one = |((version, seen), verdict): ((&String, &Seen), Verdict)| {
        let reasons = seen.reasons.iter();
        let reasons: Vec<_> =
            reasons.map(|((probe, reason), count)| json!({"probe": probe, "reason": reason, "times": count})).collect();
        json!({
            "version": version, "well": verdict.is_well, "answers": seen.answers, "failed": estimate(verdict.failed),
            "compared": seen.compared, "differs": estimate(verdict.differs), "differs_beyond_noise": verdict.is_beyond,
            "median_milliseconds": median(seen), "reasons": reasons, "refused": seen.refused, "served_by_others": seen.elsewhere,
        })
    };
    let versions: Vec<_> = plan.versions.iter().zip(&trial.seen).zip(trial.verdicts()).map(one).collect();
    json!({"model": plan.model, "versions": versions})
}

fn estimate(one: Option<Estimate>) -> Value {
    one.map_or(Value::Null, |one| {
        let (low, high) = one.interval.unzip();
        json!({"value": one.value, "low": low, "high": high})
    })
}

fn percent(one: Estimate) -> String {
    let (low, high) = one.interval.unwrap_or((one.value, one.value));
    format!("{:.1} % ({:.1} to {:.1})", one.value * 100.0, low * 100.0, high * 100.0)
}

fn median(seen: &Seen) -> Option<u64> {
    let mut sorted = seen.milliseconds.clone();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied()
}

fn cut(line: &str) -> String {
    if line.chars().count() <= WIDTH {
        return line.to_owned();
    }
    line.chars().take(WIDTH - 1).chain(['~']).collect()
}
