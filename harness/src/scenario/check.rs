//! Expectations against what happened. Every function answers with the differences, in words.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::exchange::{Exchange, Sent};
use super::format::{Bound, Edit, Expect, ExpectUpstream, Match};
use crate::message::Seen;

/// How much of a body is printed with a difference.
const SHOWN_BYTES_MAX: usize = 400;

pub(super) fn exchange(expect: &Expect, sent: &Sent, exchange: &Exchange) -> Vec<String> {
    let mut differences = Vec::new();
    let client = &exchange.client;
    if let Some(status) = expect.status.filter(|status| *status != client.status()) {
        differences.push(format!("status: expected {status}, got {}", client.status()));
    }
    headers("response", &expect.headers, client, &mut differences);
    body("response", expect.body.as_ref(), expect.text.as_deref(), client, &mut differences);
    if let Some(reset) = expect.reset.filter(|reset| *reset != client.reset) {
        differences.push(format!("reset: expected {reset}, got {}", client.reset));
    }
    upstream(&expect.upstream, sent, &exchange.upstream, &mut differences);
    differences.extend(framing("request", &exchange.upstream));
    differences.extend(framing("response", client));
    if !differences.is_empty() {
        differences.push(format!("the client got {}", show(client)));
    }
    differences
}

fn upstream(expect: &ExpectUpstream, sent: &Sent, seen: &Seen, differences: &mut Vec<String>) {
    let called = seen.headers.is_some();
    let needs_call =
        !expect.headers.is_empty() || expect.body.is_some() || expect.text.is_some() || expect.edits.is_some();
    if let Some(expected) = expect.called.or(needs_call.then_some(true)).filter(|expected| *expected != called) {
        differences.push(format!("upstream.called: expected {expected}, got {called}"));
        return;
    }
    headers("upstream", &expect.headers, seen, differences);
    body("upstream", expect.body.as_ref(), expect.text.as_deref(), seen, differences);
    if let Some(edits) = &expect.edits {
        match edited(sent.body.as_deref().unwrap_or_default(), edits) {
            Err(error) => differences.push(error),
            Ok(expected) if expected != seen.body => {
                let at = expected.iter().zip(&seen.body).take_while(|(a, b)| a == b).count();
                differences.push(format!(
                    "upstream.edits: the bodies differ from byte {at} on: expected {:?}, got {:?}",
                    excerpt(&expected[at..]),
                    excerpt(&seen.body[at..])
                ));
            }
            Ok(_) => {}
        }
    }
}

fn edited(body: &[u8], edits: &[Edit]) -> Result<Vec<u8>, String> {
    edits.iter().try_fold(body.to_vec(), |body, edit| {
        let at = body.windows(edit.from.len()).position(|window| window == edit.from.as_bytes());
        let at = at.ok_or_else(|| format!("upstream.edits: {:?} is not in the body that was sent", edit.from))?;
        Ok([&body[..at], edit.to.as_bytes(), &body[at + edit.from.len()..]].concat())
    })
}

fn headers(side: &str, expected: &BTreeMap<String, Match>, seen: &Seen, differences: &mut Vec<String>) {
    for (name, expected) in expected {
        let got = seen.header(name);
        let holds = match expected {
            Match::Is(text) => got.as_deref() == Some(text),
            Match::Present => got.is_some(),
            Match::Absent => got.is_none(),
            Match::Prefix(prefix) => got.as_ref().is_some_and(|value| value.starts_with(prefix)),
            Match::Within(bound) => {
                got.as_ref().and_then(|value| value.parse().ok()).is_some_and(|number| bound.holds(number))
            }
        };
        if !holds {
            differences.push(format!("{side} header {name}: expected {expected:?}, got {got:?}"));
        }
    }
}

fn body(side: &str, json: Option<&Value>, text: Option<&str>, seen: &Seen, differences: &mut Vec<String>) {
    if let Some(text) = text.filter(|text| text.as_bytes() != seen.body) {
        differences.push(format!("{side} body: expected {text:?}, got {:?}", excerpt(&seen.body)));
    }
    if let Some(expected) = json {
        match serde_json::from_slice(&seen.body) {
            Ok(actual) => differences.extend(part(&format!("{side} body"), expected, &actual)),
            Err(error) => differences.push(format!("{side} body: not JSON ({error})")),
        }
    }
}

/// The first place where `expected` is not a part of `actual`: objects may have more keys, everything else is equal.
pub(super) fn part(path: &str, expected: &Value, actual: &Value) -> Option<String> {
    match (expected, actual) {
        (Value::Object(expected), Value::Object(actual)) => {
            expected.iter().find_map(|(key, value)| match actual.get(key) {
                Some(found) => part(&format!("{path}.{key}"), value, found),
                None => Some(format!("{path}.{key}: expected {value}, got nothing")),
            })
        }
        (Value::Array(expected), Value::Array(actual)) if expected.len() == actual.len() => {
            let mut pairs = expected.iter().zip(actual).enumerate();
            pairs.find_map(|(index, (expected, actual))| part(&format!("{path}[{index}]"), expected, actual))
        }
        _ => (expected != actual).then(|| format!("{path}: expected {expected}, got {actual}")),
    }
}

/// `content-length` must be the length of what arrived, once all has arrived.
fn framing(side: &str, seen: &Seen) -> Option<String> {
    let declared = seen.header("content-length").filter(|_| seen.end && !seen.reset)?;
    let actual = seen.body.len();
    (declared != actual.to_string())
        .then(|| format!("{side}: content-length says {declared}, the body has {actual} bytes"))
}

/// What must hold over all repetitions of a request.
pub(super) fn repetitions(expect: &Expect, exchanges: &[Exchange]) -> Vec<String> {
    let count = |name: &str| {
        let mut counts = BTreeMap::<String, u64>::new();
        exchanges
            .iter()
            .for_each(|exchange| *counts.entry(exchange.client.header(name).unwrap_or_default()).or_default() += 1);
        counts
    };
    let mut differences = Vec::new();
    for name in &expect.same {
        let counts = count(name);
        if counts.len() != 1 || counts.contains_key("") {
            differences.push(format!("same: {name} had the values {counts:?}"));
        }
    }
    for (name, values) in &expect.spread {
        let counts = count(name);
        for (value, bound) in values {
            let got = counts.get(value).copied().unwrap_or(0);
            if !bound.holds(got) {
                differences.push(format!("spread: {name}: {value} expected {bound} times, got {counts:?}"));
            }
        }
    }
    differences
}

/// Statistics that are not as expected. A series that is absent reads 0, but only where its name is known: a typo must not pass.
pub(super) fn metrics(expected: &BTreeMap<String, Bound>, actual: &BTreeMap<String, u64>) -> Vec<String> {
    let names: BTreeSet<&str> = actual.keys().map(|series| name_of(series)).collect();
    let differs = |(series, bound): (&String, &Bound)| {
        let name = name_of(series);
        match actual.get(&sorted(series)) {
            Some(value) if bound.holds(*value) => None,
            None if names.contains(name) && bound.holds(0) => None,
            Some(value) => Some(format!("{series}: expected {bound}, got {value}")),
            None => {
                let near: Vec<_> = actual
                    .iter()
                    .filter(|(other, _)| name_of(other) == name)
                    .map(|(s, v)| format!("{s} {v}"))
                    .collect();
                Some(format!("{series}: expected {bound}, and there is no such series; of that name: {near:?}"))
            }
        }
    };
    expected.iter().filter_map(differs).collect()
}

fn name_of(series: &str) -> &str {
    series.split('{').next().unwrap_or(series)
}

fn sorted(series: &str) -> String {
    let Some((name, labels)) = series.strip_suffix('}').and_then(|series| series.split_once('{')) else {
        return series.to_owned();
    };
    let mut labels: Vec<&str> = labels.split(',').map(str::trim).collect();
    labels.sort_unstable();
    format!("{name}{{{}}}", labels.join(","))
}

fn show(seen: &Seen) -> String {
    let headers = seen
        .headers
        .iter()
        .flat_map(|headers| headers.iter())
        .map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value)));
    let state = if seen.reset { ", broken off" } else { "" };
    format!("{{{}}} {:?}{state}", headers.collect::<Vec<_>>().join(", "), excerpt(&seen.body))
}

fn excerpt(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(SHOWN_BYTES_MAX)]).into_owned();
    if bytes.len() > SHOWN_BYTES_MAX { format!("{text}… ({} bytes)", bytes.len()) } else { text }
}
