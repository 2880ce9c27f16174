//! What is recorded: an access log with the facts of each request, or a trace.

use std::collections::BTreeMap;

use penstock_exchange::{Facts, Outcome, Used};
use penstock_simulate::{Micros, Trace, moment};
use serde_json::Value;

/// A field that lines do not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missing {
    /// How many lines.
    pub lines: usize,
    /// The first of them, from 1.
    pub first: usize,
}

/// One request.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// When it came, since 1970.
    pub at: Micros,
    /// Who asked; none where nobody was known.
    pub tenant: Option<String>,
    /// For which model, as the configuration calls it.
    pub model: String,
    /// Prompt tokens, and the output tokens that the client allowed.
    pub prompt: u64,
    pub max_output: Option<u64>,
    /// Tokens of the answer, and those of the prompt that were cached.
    pub output: u64,
    pub cached: u64,
    /// How long it took.
    pub micros: Option<Micros>,
    /// How it ended.
    pub outcome: Outcome,
}

/// All requests, by time.
#[derive(Debug, Default)]
pub struct Lines {
    /// How many lines there are, with those that are not played.
    pub all: usize,
    pub requests: Vec<Line>,
    /// By field: lines that cannot be played without it.
    pub skipped: BTreeMap<&'static str, Missing>,
    /// By field: lines for which something else is taken instead.
    pub assumed: BTreeMap<&'static str, Missing>,
    /// Requests that were refused, of which no answer is known.
    pub refused: usize,
}

/// Envoy writes this for what it does not know.
const NOTHING: &str = "-";
/// Where a trace begins that is read without its date.
const BEGINNING: Micros = 1_767_225_600_000_000;

/// Reads a log, or a trace for this model and caller.
///
/// # Errors
/// When there is nothing to play, or the trace is not right.
pub fn read(text: &str, model: Option<&str>, tenant: Option<&str>) -> Result<Lines, String> {
    let lines = if text.trim_start().starts_with('{') { log(text) } else { trace(text, model, tenant)? };
    if lines.requests.is_empty() {
        let why: Vec<String> =
            lines.skipped.iter().map(|(field, missing)| format!("{field} (line {})", missing.first)).collect();
        return Err(format!("none of its {} lines can be played; missing: {}", lines.all, why.join(", ")));
    }
    Ok(lines)
}

fn log(text: &str) -> Lines {
    let mut lines = Lines::default();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        lines.all += 1;
        match of_log(line) {
            Ok((request, assumed)) => {
                assumed.into_iter().for_each(|field| count(&mut lines.assumed, field, number + 1));
                lines.refused += usize::from(matches!(request.outcome, Outcome::Limited | Outcome::Shed));
                lines.requests.push(request);
            }
            Err(field) => count(&mut lines.skipped, field, number + 1),
        }
    }
    // A log is written when requests end.
    lines.requests.sort_by_key(|request| request.at);
    lines
}

fn count(fields: &mut BTreeMap<&'static str, Missing>, field: &'static str, line: usize) {
    fields.entry(field).or_insert(Missing { lines: 0, first: line }).lines += 1;
}

/// A line, and which fields it does without; or the field for want of which it cannot be played.
fn of_log(line: &str) -> Result<(Line, Vec<&'static str>), &'static str> {
    let line: Value = serde_json::from_str(line).map_err(|_| "JSON")?;
    let at = line["time"].as_str().and_then(moment).and_then(|at| u64::try_from(at).ok()).ok_or("time")?;
    // Istio and Envoy write filter state as text, others as what it is.
    let facts: Value = match &line["penstock"] {
        Value::String(text) if text != NOTHING => serde_json::from_str(text).map_err(|_| "penstock")?,
        Value::Object(facts) => Value::Object(facts.clone()),
        _ => return Err("penstock"),
    };
    for (key, field) in
        [("tenant", "penstock.tenant"), ("model", "penstock.model"), ("promptTokens", "penstock.promptTokens")]
    {
        if facts.get(key).is_none_or(|value| value.is_null() || value == "") {
            return Err(field);
        }
    }
    let facts = Facts::decode(facts.to_string().as_bytes()).ok_or("penstock")?;
    let mut assumed = Vec::new();
    let outcome = facts.outcome.or(facts.refused).unwrap_or_else(|| {
        assumed.push("penstock.outcome");
        Outcome::Ok
    });
    let is_served = facts.refused.is_none() && !matches!(outcome, Outcome::Limited | Outcome::Shed | Outcome::Denied);
    if is_served && facts.used.is_none() {
        assumed.push("penstock.used");
    }
    let used =
        facts.used.filter(|_| is_served).unwrap_or(Used { completion: facts.expected_output, ..Used::default() });
    let duration = &line["duration_ms"];
    let millis = duration.as_u64().or_else(|| duration.as_str()?.parse().ok());
    if is_served && millis.is_none() {
        assumed.push("duration_ms");
    }
    let request = Line {
        at,
        tenant: (facts.tenant != "anonymous").then_some(facts.tenant),
        model: facts.model,
        prompt: facts.prompt_tokens.0,
        max_output: facts.max_output.map(|most| most.0),
        output: used.completion.0,
        cached: used.cached.0,
        micros: millis.filter(|_| is_served).map(|millis| millis.saturating_mul(1000)),
        outcome,
    };
    Ok((request, assumed))
}

fn trace(text: &str, model: Option<&str>, tenant: Option<&str>) -> Result<Lines, String> {
    let trace = Trace::parse(text)?;
    trace.notes.iter().for_each(|note| log::warn!("{note}"));
    let model = model.ok_or("a trace names no model, nor does the configuration; give --model")?;
    let request = |one: &penstock_simulate::Request| Line {
        at: BEGINNING + one.at,
        tenant: tenant.map(str::to_owned),
        model: model.to_owned(),
        prompt: u64::from(one.prompt),
        max_output: None,
        output: u64::from(one.output),
        cached: 0,
        micros: None,
        outcome: Outcome::Ok,
    };
    let requests: Vec<Line> = trace.requests.iter().map(request).collect();
    Ok(Lines { all: requests.len(), requests, ..Lines::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"{"time":"2026-12-01T10:00:00.500Z","duration_ms":1200,"penstock":"{\"tenant\":\"acme\",\"model\":\"chat\",\"promptTokens\":30,\"outcome\":\"ok\",\"used\":{\"prompt\":30,\"completion\":10}}"}"#;

    #[test]
    fn a_line_is_what_it_says() {
        let lines = read(GOOD, None, None).unwrap();
        assert_eq!((lines.all, lines.skipped.len(), lines.assumed.len()), (1, 0, 0));
        let one = &lines.requests[0];
        assert_eq!((one.tenant.as_deref(), one.model.as_str(), one.prompt, one.output), (Some("acme"), "chat", 30, 10));
        assert_eq!((one.at, one.micros), (1_796_119_200_500_000, Some(1_200_000)));
    }

    #[test]
    fn what_is_missing_is_named_with_its_first_line() {
        let lines = [
            GOOD,
            "no JSON",
            &GOOD.replace("time", "when"),
            &GOOD.replace("promptTokens", "tokens"),
            &GOOD.replace("tokens", "x").replace("promptTokens", "tokens"),
            r#"{"time":"2026-12-01T10:00:00Z","penstock":"-"}"#,
            &GOOD.replace("duration_ms", "took"),
            &GOOD.replace("used", "other"),
        ];
        let read = read(&lines.join("\n"), None, None).unwrap();
        let of = |lines, first| Missing { lines, first };
        let skipped =
            [("JSON", of(1, 2)), ("penstock", of(1, 6)), ("penstock.promptTokens", of(2, 4)), ("time", of(1, 3))];
        assert_eq!(read.skipped, BTreeMap::from(skipped));
        assert_eq!(read.assumed, BTreeMap::from([("duration_ms", of(1, 7)), ("penstock.used", of(1, 8))]));
        assert_eq!(read.all, read.requests.len() + 5);
    }

    #[test]
    fn nothing_to_play_is_an_error() {
        let error = read(r#"{"time":"yesterday"}"#, None, None).unwrap_err();
        assert!(error.contains("time (line 1)"), "{error}");
        let error = read("TIMESTAMP,ContextTokens\n", Some("chat"), None).unwrap_err();
        assert!(error.contains("GeneratedTokens"), "{error}");
    }
}
