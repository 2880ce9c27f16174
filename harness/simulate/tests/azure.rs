//! The conversation trace of Azure's, where `PENSTOCK_DATA` says which folder has it; skipped, loudly, elsewhere.

mod common;

use std::io::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use common::{setup, tokens};
use penstock_simulate::{Behavior, Law, Setup, Trace, run};

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

/// What `penstock plan` makes of this trace, as docs/simulate.md has it; the cheapest rival that is tuned anew costs 12,514.
#[test]
fn what_plan_makes_serves_longer_prompts_for_less_than_a_rival_that_is_tuned_anew() {
    let Some(trace) = conversations() else { return };
    let base = setup(&trace);
    let law = Law::penstock(&base.figures, &trace, 0.869, 1.71);
    let behavior = Behavior::one_step(64, 150, 60);
    let planned = Setup { law, behavior, max: 64, scrape: 5.0, ..base };
    let [known, longer] = [&trace, &trace.shifted()].map(|trace| run(trace, &planned).unwrap());
    assert!(known.attainment >= 0.99 && known.replica_seconds <= 8_700.0, "{}", known.replica_seconds);
    assert!(longer.attainment >= 0.95 && longer.replica_seconds <= 12_514.0, "{}", longer.replica_seconds);
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
