//! `penstock replay` as people call it, on the compiled filter. What has to come out is worked out by hand.

#![cfg(feature = "sandbox")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};

fn penstock(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_penstock"));
    let dist = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../dist");
    assert!(dist.join("penstock.wasm").is_file(), "dist/penstock.wasm is not there; run `cargo xtask build`");
    command.arg("replay").args(arguments).arg("--wasm-dir").arg(dist).output().expect("it starts")
}

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

fn json_of(arguments: &[&str]) -> Value {
    serde_json::from_str(&stdout(&penstock(&[arguments, &["--json"]].concat()))).expect("JSON")
}

fn scratch(name: &str, content: &str) -> String {
    let path: PathBuf = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("replay-{name}"));
    fs::write(&path, content).unwrap();
    path.to_str().unwrap().to_owned()
}

/// So many tokens a minute, and a dollar for a million prompt tokens, two for a million of the answer.
fn config(name: &str, tokens: u64) -> String {
    let config = json!({
        "tenant": {"from": [{"apiKey": {"header": "authorization"}}]},
        "tenants": {"acme": {"apiKeys": ["sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"]}},
        "models": [{"name": "chat", "output": {"expect": 10}, "price": {"input": 1, "output": 2}}],
        "limits": [{"name": "tpm", "per": ["tenant"], "tokens": tokens, "every": "60s", "burst": tokens}],
    });
    scratch(name, &config.to_string())
}

/// One at this second, of 30 prompt tokens and 10 of an answer that is there after half a second.
fn line(second: u64) -> String {
    let facts = json!({"tenant": "acme", "model": "chat", "promptTokens": 30, "maxOutput": 10, "expectedOutput": 10,
        "outcome": "ok", "used": {"prompt": 30, "completion": 10}});
    json!({"time": format!("2026-12-01T10:00:{second:02}.000Z"), "duration_ms": 500, "penstock": facts.to_string()})
        .to_string()
}

fn five() -> String {
    (0..5).map(|second| line(second) + "\n").collect()
}

#[test]
fn a_bucket_of_a_hundred_holds_two_of_forty() {
    let log = scratch("five.log", &five());
    let run = &json_of(&[&log, "--config", &config("100.json", 100)])["runs"][0];
    assert_eq!((&run["admitted"], &run["limited"]), (&json!(2), &json!(3)), "{run:#}");
    // 100, less 40 at once and 40 after a second: after two there are 23.3, 16.7 too few, at 1.67 a second ten seconds. A second later nine,
    // and eight.
    let limited = json!({"requests": 3, "retryAfterMin": 8, "retryAfterMax": 10, "never": 0});
    assert_eq!(run["tenants"]["acme"], json!({"admitted": 2, "limited": {"tpm": limited}, "refused": {}, "would": 0}));
    assert_eq!(run["countedDifferently"], json!({"requests": 0, "tokens": 0}));
    let version = json!({"requests": 2, "promptTokens": 60, "outputTokens": 20, "microdollars": 100});
    assert_eq!(run["versions"]["chat/default"], version, "{run:#}");
    assert_eq!(run["microdollars"], 100);
}

#[test]
fn another_configuration_stands_beside_it() {
    let log = scratch("what-if.log", &five());
    let arguments = [&log, "--config", &config("if-100.json", 100), "--against", &config("if-200.json", 200)];
    let runs = &json_of(&arguments)["runs"];
    // Two hundred hold five of forty.
    assert_eq!((&runs[0]["admitted"], &runs[1]["admitted"]), (&json!(2), &json!(5)), "{runs:#}");
    let table = stdout(&penstock(&arguments));
    let row = table.lines().find(|line| line.starts_with("admitted")).unwrap();
    assert_eq!(row.split_whitespace().collect::<Vec<_>>(), ["admitted", "2", "5"]);
    assert!(table.contains("8 s to 10 s") && !table.contains('\u{1b}'), "{table}");
    assert!(table.lines().all(|line| line.chars().count() <= 80), "{table}");
}

#[test]
fn no_line_is_lost() {
    let never = line(9).replace(r#"\"promptTokens\":30"#, r#"\"promptTokens\":3000"#);
    let (unknown, stranger) = (line(8).replace("chat", "other"), line(7).replace("acme", "h:1234"));
    let lines = [&five(), &never, &unknown, &stranger, "{}", "junk", &line(6).replace("duration_ms", "took")];
    let all = json_of(&[&scratch("mixed.log", &lines.join("\n")), "--config", &config("mixed.json", 100)]);
    let run = &all["runs"][0];
    let number = |value: &Value| value.as_u64().unwrap();
    let skipped: u64 = all["skipped"].as_array().unwrap().iter().map(|one| number(&one["lines"])).sum();
    let outcomes: u64 = ["admitted", "limited", "refused", "failed"].iter().map(|name| number(&run[name])).sum();
    assert_eq!((outcomes + skipped, number(&all["lines"])), (11, 11), "{all:#}");
    assert_eq!((&run["refused"], &run["failed"]), (&json!(1), &json!(0)), "a model that is not configured: {run:#}");
    assert_eq!(run["tenants"]["h:1234"]["admitted"], 1, "a bucket of its own");
    assert_eq!(run["tenants"]["acme"]["limited"]["tpm"]["never"], 1, "{run:#}");
    assert_eq!(all["assumed"], json!([{"field": "duration_ms", "lines": 1, "firstLine": 12}]), "{all:#}");
}

#[test]
fn a_trace_is_played_with_the_tokens_that_it_names() {
    let rows: String =
        (10..40).map(|second| format!("2023-11-16 18:15:{second}.0,{},7\n", 5 + second * second)).collect();
    let trace = scratch("trace.csv", &format!("TIMESTAMP,ContextTokens,GeneratedTokens\n{rows}"));
    let run = &json_of(&[&trace, "--config", &config("trace.json", 1_000_000), "--tenant", "acme"])["runs"][0];
    let prompts: u64 = (10..40).map(|second| 5 + second * second).sum();
    let version = json!({"requests": 30, "promptTokens": prompts, "outputTokens": 210, "microdollars": prompts + 420});
    assert_eq!(run["versions"]["chat/default"], version, "{run:#}");
    assert_eq!(run["countedDifferently"]["requests"], 0);
    assert_eq!(run["tenants"]["acme"]["admitted"], 30);
}

#[test]
fn what_is_wrong_is_said_where_it_is() {
    let config = scratch("wrong.yaml", "models:\n- name: chat\nlimits:\n- name: tpm\n  tokens: many\n");
    let output = penstock(&[&scratch("fine.log", &five()), "--config", &config]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && said.contains("wrong.yaml:5:") && said.contains("limits[0].tokens"), "{said}");
    let output = penstock(&[&scratch("empty.log", "{}\n"), "--config", &self::config("empty.json", 1)]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && said.contains("time (line 1)"), "{said}");
}
