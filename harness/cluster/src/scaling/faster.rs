//! The same objects in less time: each duration in a ScaledObject, a rule or a query divided by the same number, so that a test of what takes
//! an hour takes minutes. What is compared with seconds by arithmetic (`time() - x > 300`) is not seen.

use serde_json::{Value, json};

/// How often the HPA looks in a cluster as it comes, in seconds.
pub const SYNC_SECONDS: f64 = 15.0;

/// Divides what a ScaledObject says of time: its own fields, the HPA's behaviour and the queries. Whole seconds are rounded up, as nothing
/// else is possible.
///
/// # Errors
/// When a query cannot be read; with the object's name.
pub fn scaled_object(object: &mut Value, times: u32) -> Result<(), String> {
    let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let spec = &mut object["spec"];
    let polling = spec["pollingInterval"].as_f64().unwrap_or(30.0);
    for field in ["pollingInterval", "cooldownPeriod", "initialCooldownPeriod"] {
        divide(spec.get_mut(field), times);
    }
    if let Some(threshold) = spec.pointer_mut("/fallback/failureThreshold") {
        *threshold = json!(failures(threshold.as_f64().unwrap_or_default(), polling, times));
    }
    for direction in ["scaleUp", "scaleDown"] {
        let behaviour = format!("/advanced/horizontalPodAutoscalerConfig/behavior/{direction}");
        let Some(behaviour) = spec.pointer_mut(&behaviour) else { continue };
        divide(behaviour.get_mut("stabilizationWindowSeconds"), times);
        for policy in behaviour["policies"].as_array_mut().into_iter().flatten() {
            divide(policy.get_mut("periodSeconds"), times);
        }
    }
    for trigger in spec["triggers"].as_array_mut().into_iter().flatten() {
        if let Some(text) = trigger.pointer_mut("/metadata/query") {
            *text = json!(
                query(text.as_str().unwrap_or_default(), times)
                    .map_err(|error| format!("ScaledObject {name}: {error}"))?
            );
        }
    }
    Ok(())
}

/// Divides what the `spec` of a PrometheusRule, which is a rule file, says of time.
///
/// # Errors
/// When an expression or a duration cannot be read; with the rule's name.
pub fn rules(spec: &mut Value, times: u32) -> Result<(), String> {
    for group in spec["groups"].as_array_mut().into_iter().flatten() {
        shorten(group.get_mut("interval"), times)?;
        for rule in group["rules"].as_array_mut().into_iter().flatten() {
            let name =
                rule.get("alert").or_else(|| rule.get("record")).and_then(Value::as_str).unwrap_or_default().to_owned();
            let said = |error| format!("rule {name}: {error}");
            for field in ["for", "keep_firing_for"] {
                shorten(rule.get_mut(field), times).map_err(said)?;
            }
            rule["expr"] = json!(query(rule["expr"].as_str().unwrap_or_default(), times).map_err(said)?);
        }
    }
    Ok(())
}

/// Divides the durations of a query: ranges, steps of subqueries, offsets, and how far ahead `predict_linear` looks.
///
/// # Errors
/// Where a duration is none, or `predict_linear` is told how far by anything but a number.
pub fn query(text: &str, times: u32) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut last_word = "";
    // What is open, as where in `out` the last argument of a predict_linear begins.
    let mut open: Vec<Option<usize>> = Vec::new();
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '"' | '\'' | '`' => string(rest, first)?,
            '#' => rest.find('\n').unwrap_or(rest.len()),
            '[' => rest.find(']').ok_or_else(|| format!("`[` is not closed in `{text}`"))?,
            _ if is_word(first) => rest.find(|next| !is_word(next)).unwrap_or(rest.len()),
            _ => first.len_utf8(),
        };
        let (piece, tail) = rest.split_at(length);
        rest = tail;
        match first {
            '[' => {
                let parts = piece[1..].split(':').map(|part| part.trim());
                let parts: Result<Vec<String>, String> =
                    parts.map(|part| if part.is_empty() { Ok(String::new()) } else { divided(part, times) }).collect();
                out.push('[');
                out.push_str(&parts?.join(":"));
            }
            _ if last_word == "offset" && first.is_ascii_digit() => out.push_str(&divided(piece, times)?),
            '(' | '{' => {
                out.push(first);
                open.push((last_word == "predict_linear").then_some(out.len()));
            }
            ',' => {
                out.push(first);
                if let Some(Some(begin)) = open.last_mut() {
                    *begin = out.len();
                }
            }
            ')' | '}' => {
                if let Some(begin) = open.pop().flatten() {
                    let ahead = out.split_off(begin);
                    let seconds: f64 = ahead.trim().parse().map_err(|_| {
                        format!("predict_linear looks `{}` ahead, which is no number of seconds", ahead.trim())
                    })?;
                    out.push_str(&format!(" {}", seconds / f64::from(times)));
                }
                out.push(first);
            }
            _ => out.push_str(piece),
        }
        if !first.is_whitespace() && first != '-' {
            last_word = piece;
        }
    }
    Ok(out)
}

/// How many failures are as long as these were. KEDA counts those of its own polls and of the HPA's, and both come closer together, but not
/// by the same factor: a poll takes a second at least. It falls back at one more than the threshold.
fn failures(threshold: f64, polling: f64, times: u32) -> u32 {
    let times = f64::from(times);
    let seconds = (threshold + 1.0) / (1.0 / polling + 1.0 / SYNC_SECONDS) / times;
    let polling = (polling / times).ceil().max(1.0);
    // Not one more because of a digit that floating point made up.
    (seconds * (1.0 / polling + times / SYNC_SECONDS) - 1.0 - 1e-6).ceil() as u32
}

/// Whole seconds; 0 stays 0.
fn divide(seconds: Option<&mut Value>, times: u32) {
    if let Some(seconds) = seconds
        && let Some(number) = seconds.as_u64()
    {
        *seconds = json!(number.div_ceil(u64::from(times)));
    }
}

fn shorten(duration: Option<&mut Value>, times: u32) -> Result<(), String> {
    if let Some(duration) = duration {
        *duration = json!(divided(duration.as_str().unwrap_or_default(), times)?);
    }
    Ok(())
}

/// A duration as Prometheus has them (`1h30m`), divided, in milliseconds.
fn divided(duration: &str, times: u32) -> Result<String, String> {
    const UNITS: [(&str, u64); 7] = [
        ("ms", 1),
        ("s", 1000),
        ("m", 60_000),
        ("h", 3_600_000),
        ("d", 86_400_000),
        ("w", 604_800_000),
        ("y", 31_536_000_000),
    ];
    let none = || format!("`{duration}` is not a duration");
    let mut rest = duration;
    let mut total = 0;
    while !rest.is_empty() {
        let digits = rest.find(|next: char| !next.is_ascii_digit()).ok_or_else(none)?;
        let number: u64 = rest[..digits].parse().map_err(|_| none())?;
        rest = &rest[digits..];
        let unit = rest.find(|next: char| next.is_ascii_digit()).unwrap_or(rest.len());
        let (_, milliseconds) = UNITS.iter().find(|(name, _)| *name == &rest[..unit]).ok_or_else(none)?;
        total += number * milliseconds;
        rest = &rest[unit..];
    }
    Ok(format!("{}ms", total.div_ceil(u64::from(times))))
}

/// The length of a string literal with its quotes.
fn string(text: &str, quote: char) -> Result<usize, String> {
    let mut escaped = false;
    for (index, next) in text.char_indices().skip(1) {
        match next {
            _ if escaped => escaped = false,
            '\\' if quote != '`' => escaped = true,
            _ if next == quote => return Ok(index + 1),
            _ => {}
        }
    }
    Err(format!("a string is not closed: {text}"))
}

/// What names, numbers and durations are made of.
fn is_word(next: char) -> bool {
    next.is_alphanumeric() || matches!(next, '_' | '.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_of_queries() {
        let cases = [
            ("rate(x[5m])", "rate(x[15000ms])"),
            ("max_over_time((a or b)[15m:5s])", "max_over_time((a or b)[45000ms:250ms])"),
            ("max_over_time(a[1h30m:])", "max_over_time(a[270000ms:])"),
            ("x offset 1m + x offset -20s", "x offset 3000ms + x offset -1000ms"),
            ("predict_linear(x{a=\"b\",c=\"d\"}[5m], 60)", "predict_linear(x{a=\"b\",c=\"d\"}[15000ms], 3)"),
            (
                "max(a, predict_linear(sum by (a, b) (x)[1m:], 90) * 60)",
                "max(a, predict_linear(sum by (a, b) (x)[3000ms:], 4.5) * 60)",
            ),
            ("x{a=~\"[5m] offset 1m\"} # [5m]\n> 20", "x{a=~\"[5m] offset 1m\"} # [5m]\n> 20"),
            ("sum(x) > bool 60", "sum(x) > bool 60"),
            ("a:rate5m * 2", "a:rate5m * 2"),
        ];
        for (from, to) in cases {
            assert_eq!(query(from, 20).as_deref(), Ok(to), "{from}");
        }
        assert_eq!(query("x[$__rate_interval]", 20), Err("`$__rate_interval` is not a duration".to_owned()));
        let error = query("predict_linear(x[5m], scalar(y))", 20).expect_err("no number");
        assert!(error.contains("`scalar(y)`"), "{error}");
        assert!(query("x{a=\"b}", 20).is_err());
    }

    #[test]
    fn times_of_a_scaled_object() {
        let mut object = json!({"metadata": {"name": "chat"}, "spec": {
            "pollingInterval": 5, "cooldownPeriod": 2460, "fallback": {"failureThreshold": 12, "replicas": 4},
            "advanced": {"horizontalPodAutoscalerConfig": {"behavior": {
                "scaleUp": {"stabilizationWindowSeconds": 0, "policies": [{"type": "Pods", "value": 16, "periodSeconds": 15}]},
                "scaleDown": {"stabilizationWindowSeconds": 600, "policies": [{"type": "Pods", "value": 1, "periodSeconds": 120}]},
            }}},
            "triggers": [{"type": "prometheus", "metadata": {"query": "rate(x[1m])", "threshold": "24000"}}],
        }});
        scaled_object(&mut object, 20).expect("it is read");
        let expected = json!({"metadata": {"name": "chat"}, "spec": {
            "pollingInterval": 1, "cooldownPeriod": 123, "fallback": {"failureThreshold": 5, "replicas": 4},
            "advanced": {"horizontalPodAutoscalerConfig": {"behavior": {
                "scaleUp": {"stabilizationWindowSeconds": 0, "policies": [{"type": "Pods", "value": 16, "periodSeconds": 1}]},
                "scaleDown": {"stabilizationWindowSeconds": 30, "policies": [{"type": "Pods", "value": 1, "periodSeconds": 6}]},
            }}},
            "triggers": [{"type": "prometheus", "metadata": {"query": "rate(x[3000ms])", "threshold": "24000"}}],
        }});
        assert_eq!(object, expected);
    }

    #[test]
    fn nothing_is_changed_where_time_is_as_it_was() {
        for threshold in [3, 12, 24] {
            assert_eq!(failures(f64::from(threshold), 5.0, 1), threshold);
        }
    }

    #[test]
    fn times_of_rules() {
        let mut spec = json!({"groups": [{"name": "g", "interval": "1m", "rules": [
            {"alert": "A", "expr": "x[5m] > 0", "for": "10m"}, {"record": "b", "expr": "x"},
        ]}]});
        rules(&mut spec, 20).expect("they are read");
        let expected = json!({"groups": [{"name": "g", "interval": "3000ms", "rules": [
            {"alert": "A", "expr": "x[15000ms] > 0", "for": "30000ms"}, {"record": "b", "expr": "x"},
        ]}]});
        assert_eq!(spec, expected);
    }
}
