//! A comparison for people: 80 columns at most.

use std::fmt::Write as _;

use super::compare::{Comparison, Row, Unit};
use super::statistics::Estimate;

const NAME: usize = 18;
const COLUMN: usize = 18;
const CHANGE: usize = 23;

/// One line a figure; what differs beyond chance is marked.
pub fn text(comparison: &Comparison) -> String {
    let mut out = String::new();
    line(&mut out, &comparison.model, [&comparison.stable, &comparison.canary, "change"]);
    for row in &comparison.rows {
        if row.stable.is_none() && row.canary.is_none() {
            continue;
        }
        let cell = |one: Option<Estimate>| one.map_or_else(|| "-".to_owned(), |one| figure(one, row.unit));
        line(&mut out, &row.name, [&cell(row.stable), &cell(row.canary), &change(row)]);
    }
    if comparison.states.iter().any(Option::is_some) {
        let [stable, canary] = comparison.states.map(|state| state.unwrap_or("-"));
        line(&mut out, "guard", [stable, canary, ""]);
    }
    out
}

fn line(out: &mut String, name: &str, cells: [&str; 3]) {
    let [stable, canary, change] =
        [(cells[0], COLUMN), (cells[1], COLUMN), (cells[2], CHANGE)].map(|(cell, width)| cut(cell, width));
    let text = format!("{:<NAME$} {stable:>COLUMN$} {canary:>COLUMN$} {change:>CHANGE$}", cut(name, NAME));
    // Nothing can go wrong with a string.
    let _ = writeln!(out, "{}", text.trim_end());
}

fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width - 1).chain(['~']).collect()
}

fn figure(one: Estimate, unit: Unit) -> String {
    let scale = if unit == Unit::Share { 100.0 } else { 1.0 };
    let end = match unit {
        Unit::Share => "%",
        Unit::Milliseconds => "ms",
        Unit::Requests | Unit::Tokens => "",
        Unit::Microdollars => "u$",
    };
    if unit == Unit::Requests {
        return format!("{:.0}", one.value);
    }
    let value = short(one.value * scale);
    match one.interval {
        Some((low, high)) => format!("{value}{end} ({}-{})", short(low * scale), short(high * scale)),
        None => format!("{value}{end}"),
    }
}

fn change(row: &Row) -> String {
    let Some(change) = row.change else { return String::new() };
    let mark = if row.differs() { " *" } else { "" };
    let is_share = row.unit == Unit::Share;
    let write = |value: f64| if is_share { format!("{:+.1}", value * 100.0) } else { short(value) };
    let front = if is_share { "" } else { "x" };
    match change.interval {
        Some((low, high)) => format!("{front}{} ({}..{}){mark}", write(change.value), write(low), write(high)),
        None => format!("{front}{}", write(change.value)),
    }
}

/// Three digits.
fn short(value: f64) -> String {
    match value.abs() {
        small if small < 9.995 => format!("{value:.2}"),
        middle if middle < 99.95 => format!("{value:.1}"),
        large if large < 99_999.5 => format!("{value:.0}"),
        large if large < 1e7 => format!("{:.0}k", value / 1e3),
        _ => format!("{:.0}M", value / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_wider_than_a_terminal() {
        let wide = Estimate { value: 123_456.7, interval: Some((98_765.4, 199_999.9)) };
        let row = |name: &str, unit| Row {
            name: name.to_owned(),
            key: String::new(),
            unit,
            stable: Some(wide),
            canary: None,
            change: Some(Estimate { value: -0.423, interval: Some((-0.534, -0.312)) }),
        };
        let units = [Unit::Share, Unit::Milliseconds, Unit::Microdollars, Unit::Requests, Unit::Tokens];
        let comparison = Comparison {
            model: "a-model-with-a-name-that-is-too-long".to_owned(),
            stable: "stable".to_owned(),
            canary: "canary-with-a-name-that-is-too-long".to_owned(),
            rows: units.into_iter().map(|unit| row("finish content_filter", unit)).collect(),
            states: [None, Some("rolled back")],
        };
        let text = text(&comparison);
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        assert_eq!(text.lines().count(), 7);
        assert!(text.lines().nth(1).is_some_and(|share| share.ends_with("-42.3 (-53.4..-31.2) *")), "{text}");
    }
}
