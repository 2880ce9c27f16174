//! `penstock simulate` as people call it: a table or JSON, a picture, and errors that say what to do.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

fn penstock(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_penstock"));
    command.arg("simulate").args(arguments).output().expect("it starts")
}

fn scratch(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

/// What it says when it fails.
fn complaint(arguments: &[&str]) -> String {
    let output = penstock(arguments);
    assert!(!output.status.success() && output.stdout.is_empty(), "{output:?}");
    String::from_utf8(output.stderr).expect("UTF-8")
}

#[test]
fn a_ramp_is_played_and_drawn() {
    let picture = scratch("ramp.svg");
    let ramp = ["--ramp", "1-4-1", "--stage", "2m", "--svg", picture.to_str().unwrap()];
    let table = stdout(&penstock(&ramp));
    assert!(
        table.contains("720 requests in 360 s") && table.lines().any(|line| line.starts_with("penstock ")),
        "{table}"
    );
    let svg = fs::read_to_string(&picture).unwrap();
    assert!(svg.starts_with("<svg ") && svg.trim_end().ends_with("</svg>"));
}

#[test]
fn json_is_one_object_with_every_figure() {
    let output = stdout(&penstock(&["--ramp", "2-5", "--stage", "2m", "--json", "--curve", "--tpot", "100ms"]));
    let value: Value = serde_json::from_str(&output).unwrap();
    assert_eq!(value["penstock"]["outcome"]["requests"], 840);
    assert_eq!(value["penstock"]["setup"]["law"]["law"], "penstock");
    assert_eq!(value["curve"].as_array().unwrap().len(), 11);
    assert!(value["penstock"]["outcome"]["points"].as_array().unwrap().len() > 10);
}

#[test]
fn what_is_wrong_is_said() {
    let file = scratch("trace.csv");
    fs::write(&file, "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46,10,10\n2023-11-16 18:15:45,10,10\n")
        .unwrap();
    let trace = file.to_str().unwrap();
    assert!(complaint(&[trace]).contains("trace.csv: line 3: time goes back"));
    assert!(complaint(&["no/such/file.csv"]).contains("no/such/file.csv"));
    assert!(complaint(&[]).contains("TRACE"));
    assert!(complaint(&["--ramp", "1-x"]).contains("\"x\" is not a rate"));
    assert!(complaint(&["--ramp", "1", "--ttft", "2"]).contains("is not a duration"));
    assert!(complaint(&["--ramp", "1", "--replica", "abacus"]).contains("qwen3-32b-2xh100"));
    assert!(complaint(&["--ramp", "1", "--utilization", "0"]).contains("utilization"));
    let slow = complaint(&["--ramp", "1", "--prefill", "1000", "--ttft", "2s"]);
    assert!(
        slow.contains("can never hold the objectives") && slow.contains("of the prompts take more than 2 s"),
        "{slow}"
    );
}
