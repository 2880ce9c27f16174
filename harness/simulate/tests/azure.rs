//! The conversation trace of Azure's, where `PENSTOCK_DATA` says which folder has it; skipped, loudly, elsewhere.

mod common;

use std::io::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use common::{setup, tokens};
use penstock_simulate::{Setup, Trace, run};

/// Three times as many requests as were recorded.
fn conversations() -> Option<Trace> {
    let folder = std::env::var_os("PENSTOCK_DATA").map(PathBuf::from);
    let file = folder.map(|folder| folder.join("azure-llm-2023-conv.csv")).filter(|file| file.is_file());
    let Some(file) = file else {
        // To the stream itself: the test runner captures only what goes through the printing macros.
        let _ = writeln!(
            std::io::stderr(),
            "SKIPPED azure: no azure-llm-2023-conv.csv in PENSTOCK_DATA; docs/simulate.md says where it is"
        );
        return None;
    };
    Some(Trace::parse(&std::fs::read_to_string(file).unwrap()).unwrap().scaled(3))
}

#[test]
fn an_hour_is_played_in_less_than_five_seconds_and_nothing_is_lost() {
    let Some(trace) = conversations() else { return };
    assert_eq!(trace.requests.len(), 3 * 19_366);
    let begin = Instant::now();
    let outcome = run(&trace, &setup(&trace)).unwrap();
    let took = begin.elapsed();
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert_eq!((outcome.unserved, outcome.refused, outcome.output_tokens), (0, 0, tokens(&trace).1));
}

#[test]
fn what_arrives_serves_the_trace_and_the_one_with_longer_prompts_at_one_threshold() {
    let Some(trace) = conversations() else { return };
    let base = setup(&trace);
    let outcome = run(&trace, &base).unwrap();
    assert!(outcome.attainment >= 0.95, "{}", outcome.attainment);
    let shifted = run(&trace.shifted(), &base).unwrap();
    assert!(shifted.attainment >= 0.92, "{}", shifted.attainment);
    // An unlimited Deployment would hold it too, and cost more.
    let most = run(&trace, &Setup { law: base.law.at(0.3), ..base }).unwrap();
    assert!(most.replica_seconds > outcome.replica_seconds * 1.5);
}
