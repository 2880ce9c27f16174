//! The scenarios to which the compiled filters are held, in the sandbox and on an Envoy (`tests/tests/equivalence.rs`), hold here too: what
//! they expect of a first request is what the page says of it.

use std::fs;
use std::path::Path;

use penstock_playground::answer;
use serde_json::{Value, json};

/// What a request of a scenario may say here: what else there is needs a proxy.
const KEYS: [&str; 6] = ["body", "path", "headers", "expect", "times", "upstream"];
/// So many are compared at least, so that a new spelling does not leave them all out.
const COMPARED_MIN: usize = 50;

#[test]
fn first_requests_end_as_scenarios_expect() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/scenarios");
    let (mut compared, mut wrong) = (0, Vec::new());
    for file in fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()) {
        let document: serde_yaml_ng::Value = serde_yaml_ng::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
        let scenarios = serde_json::to_value(&document).unwrap();
        for scenario in scenarios.as_array().unwrap() {
            let Some(differences) = compare(scenario) else { continue };
            compared += 1;
            let name = format!("{}: {}", file.file_name().unwrap().display(), scenario["name"]);
            wrong.extend(differences.into_iter().map(|difference| format!("{name}: {difference}")));
        }
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
    assert!(compared >= COMPARED_MIN, "only {compared} were compared");
}

/// How the first request of a scenario ends otherwise than is expected; `None` where it is not one that can be sent here.
fn compare(scenario: &Value) -> Option<Vec<String>> {
    let request = scenario["steps"][0]["request"].as_object()?;
    let config = scenario["config"].as_object()?;
    let keys: Vec<&str> = scenario.as_object()?.keys().map(String::as_str).collect();
    let is_plain = request.keys().all(|key| KEYS.contains(&key.as_str()))
        && keys.iter().all(|key| ["name", "config", "steps", "why"].contains(key));
    let body = match &request.get("body")? {
        Value::Object(body) => Value::from(body.clone()).to_string(),
        Value::String(body) => body.clone(),
        _ => return None,
    };
    let upstream = request.get("upstream").cloned().unwrap_or_default();
    let is_answered = upstream.get("status").is_none_or(|status| status == 200);
    let status = request.get("expect")?.get("status")?.as_u64()?;
    if !is_plain || !is_answered || (status != 200 && !(400..500).contains(&status)) {
        return None;
    }
    let headers = request.get("headers").and_then(Value::as_object).cloned().unwrap_or_default();
    let lines: Vec<String> =
        headers.iter().map(|(name, value)| Some(format!("{name}: {}", value.as_str()?))).collect::<Option<_>>()?;
    let path = request.get("path").and_then(Value::as_str).unwrap_or("/v1/chat/completions");
    let times = request.get("times").and_then(Value::as_u64).unwrap_or(1);
    let question = json!({
        "ask": "request", "config": Value::from(config.clone()).to_string(), "times": times, "every": 0, "answer": 10,
        "request": {"path": path, "headers": lines.join("\n"), "body": body},
    });
    let played: Value = serde_json::from_slice(&answer(question.to_string().as_bytes())).unwrap();
    let first = &played["sent"][0];
    let mut differences = Vec::new();
    if first["status"] != status {
        differences.push(format!("{status} is expected, and it is {first} {}", played["mistakes"]));
    }
    for (name, wanted) in request["expect"].get("headers").and_then(Value::as_object).into_iter().flatten() {
        // What the server answers is not there.
        let ours = name.starts_with("x-penstock-") || name.starts_with("x-ratelimit-limit") || name == "retry-after";
        if ours && wanted.is_string() && first["headers"].get(name) != Some(wanted) {
            differences.push(format!("{name}: {wanted} is expected, and it is {}", first["headers"][name]));
        }
    }
    let message = &request["expect"]["body"]["error"]["message"];
    if message.is_string() && &first["message"] != message {
        differences.push(format!("{message} is expected, and it is {}", first["message"]));
    }
    Some(differences)
}
