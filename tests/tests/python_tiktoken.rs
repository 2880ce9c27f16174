//! The counts are those of Python's tiktoken, which shares nothing with tiktoken-rs but the vocabularies.

#[allow(dead_code, reason = "some of it is for other tests")]
#[path = "../../filters/tokens/tests/oracle/texts.rs"]
mod texts;

use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use penstock_tests::{checkout, find_python, skip};
use penstock_tokens::Encoding;
use serde_json::{Value, json};
use tiktoken_rs::CoreBPE;

const TEXTS: usize = 20_000;

#[test]
fn counts_are_those_of_pythons_tiktoken() {
    let python = match find_python() {
        Ok(python) => python,
        Err(reason) => skip!("{reason}"),
    };
    let mut random = texts::Random(77);
    let mut all: Vec<String> = (0..TEXTS).map(|_| texts::mixture(&mut random, 16)).collect();
    all.extend(["'\u{17f}", "don'\u{17f}", "I'\u{17f} 'S", "\u{17f}'s"].map(str::to_owned));
    let input = json!({
        "ranks": {
            "cl100k_base": vocabulary(tiktoken_rs::cl100k_base_singleton()),
            "o200k_base": vocabulary(tiktoken_rs::o200k_base_singleton()),
            "o200k_harmony": "o200k_base",
        },
        "texts": all,
    });
    let counts = run(&python, &input);
    for (name, encoding) in Encoding::ALL {
        let theirs = &counts[name];
        assert_eq!(theirs.len(), all.len(), "{name}");
        for (text, theirs) in all.iter().zip(theirs) {
            assert_eq!(encoding.count(text), *theirs, "{name}: {text:?}");
        }
    }
}

/// The tokens in the order of their ranks, in base64.
fn vocabulary(bpe: &CoreBPE) -> Vec<Value> {
    (0..).map_while(|rank| bpe.decode_bytes(&[rank]).ok()).map(|token| STANDARD.encode(token).into()).collect()
}

fn run(python: &std::path::Path, input: &Value) -> BTreeMap<String, Vec<u64>> {
    let mut child = Command::new(python)
        .arg(checkout().join("tests/tests/clients/tiktoken_counts.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("Python starts");
    child.stdin.take().expect("piped").write_all(input.to_string().as_bytes()).expect("Python reads");
    let output = child.wait_with_output().expect("Python ends");
    assert!(output.status.success(), "Python failed: {}", output.status);
    serde_json::from_slice(&output.stdout).expect("counts")
}
