//! Traces: what is read, what is refused, and what is made of them.

mod common;

use std::fmt::Write as _;

use common::{setup, tokens};
use penstock_simulate::{Figures, Objectives, Ramp, SECOND, Setup, Trace, never_meets, run};

const HEADER: &str = "TIMESTAMP,ContextTokens,GeneratedTokens\n";

fn error(rows: &str) -> String {
    Trace::parse(&format!("{HEADER}{rows}")).unwrap_err()
}

#[test]
fn the_public_form_is_read() {
    let rows = "2023-11-16 18:15:46.6805900,374,44\n2023-11-16 18:15:50.9951690,396,109\n";
    let trace = Trace::parse(&format!("{HEADER}{rows}")).unwrap();
    let requests: Vec<_> = trace.requests.iter().map(|request| (request.at, request.prompt, request.output)).collect();
    assert_eq!(requests, [(0, 374, 44), (4_314_579, 396, 109)]);
    // As the traces of 2024 write it, and with the columns in another order.
    let other = "GeneratedTokens,TIMESTAMP,ContextTokens\r\n44,2024-02-28 23:59:59.5+00:00,374\r\n1,2024-02-29T01:00:00.5+01:00,2\r\n";
    assert_eq!(Trace::parse(other).unwrap().requests[1].at, SECOND);
}

#[test]
fn what_is_wrong_is_said_with_its_line() {
    assert!(Trace::parse("").unwrap_err().contains("empty"));
    assert!(Trace::parse(HEADER).unwrap_err().contains("no request"));
    assert!(Trace::parse("time,prompt,output\n").unwrap_err().contains("TIMESTAMP"));
    assert!(Trace::parse("TIMESTAMP,ContextTokens\n").unwrap_err().contains("GeneratedTokens"));
    let good = "2023-11-16 18:15:46,1,1\n";
    for (row, says) in [
        ("2023-11-16 18:15:45,1,1", "time goes back"),
        ("2023-11-16 18:15:46,1", "2 columns only"),
        ("yesterday,1,1", "is not a time"),
        ("2023-13-16 18:15:46,1,1", "is not a time"),
        ("2023-11-16 25:15:46,1,1", "is not a time"),
        ("2023-11-16 18:15:46,-1,1", "is not a number of tokens"),
        ("2023-11-16 18:15:46,1.5,1", "is not a number of tokens"),
        ("2023-11-16 18:15:46,1,99999999999", "is not a number of tokens"),
        ("2023-11-16 18:15:46,,1", "is not a number of tokens"),
    ] {
        let error = error(&format!("{good}\n{row}\n"));
        assert!(error.contains("line 4") && error.contains(says), "{row}: {error}");
    }
}

#[test]
fn what_is_odd_is_noted() {
    let rows = "2023-11-16 18:15:46,1,0\n2023-11-16 18:45:46,1,1\n";
    let trace = Trace::parse(&format!("{HEADER}{rows}")).unwrap();
    assert_eq!(trace.notes.len(), 2, "{:?}", trace.notes);
    assert!(trace.notes[0].contains("30 minutes") && trace.notes[1].contains("no token"));
    // After silence, and over it, nobody is lost.
    let outcome = run(&trace, &setup(&trace)).unwrap();
    assert_eq!((outcome.unserved, outcome.output_tokens), (0, 2));
}

#[test]
fn a_million_rows_are_read_and_played() {
    let mut text = HEADER.to_owned();
    for row in 0..1_000_000 {
        let (hour, minute, second) = (row / 360_000, row / 6_000 % 60, row / 100 % 60);
        writeln!(text, "2023-11-16 {hour:02}:{minute:02}:{second:02}.{:02},100,2", row % 100).unwrap();
    }
    let trace = Trace::parse(&text).unwrap();
    let outcome = run(&trace, &setup(&trace)).unwrap();
    assert_eq!((outcome.requests, outcome.unserved, outcome.output_tokens), (1_000_000, 0, 2_000_000));
}

#[test]
fn scaled_there_are_so_many_and_shifted_they_are_longer_and_fewer() {
    let trace = Ramp::parse("5", 1000.0, 1000.0, 100.0).unwrap().trace();
    let thrice = trace.scaled(3);
    assert_eq!((thrice.requests.len(), thrice.span), (trace.requests.len() * 3, trace.span));
    assert!(thrice.requests.is_sorted_by_key(|request| request.at));
    let shifted = thrice.shifted();
    let half = |trace: &Trace, late: bool| {
        let requests = trace.requests.iter().filter(|request| (request.at >= trace.span / 2) == late);
        Trace { requests: requests.copied().collect(), span: trace.span, notes: Vec::new() }
    };
    assert_eq!(half(&shifted, false), half(&thrice, false));
    let (before, after) = (half(&thrice, true), half(&shifted, true));
    let fewer = after.requests.len() as f64 / before.requests.len() as f64;
    assert!((fewer - 0.8).abs() < 0.001, "{fewer}");
    let longer = tokens(&after).0 as f64 / tokens(&before).0 as f64;
    assert!((longer - 2.0).abs() < 0.01, "{longer}");
}

#[test]
fn a_ramp_has_its_rates() {
    let ramp = Ramp::parse("2-4-0-1.5", 100.0, 4000.0, 1000.0).unwrap();
    for ramp in [ramp.clone(), Ramp { poisson: true, ..ramp }] {
        let trace = ramp.trace();
        let count = |from: u64, to: u64| {
            trace.requests.iter().filter(|request| (from * SECOND..to * SECOND).contains(&request.at)).count() as f64
        };
        let slack = if ramp.poisson { 60.0 } else { 1.0 };
        for (from, expected) in [(0, 200.0), (100, 400.0), (200, 0.0), (300, 150.0)] {
            let count = count(from, from + 100);
            assert!((count - expected).abs() <= slack, "{count} from {from} s on");
        }
        let (prompt, output) = trace.means();
        assert!((prompt - 4000.0).abs() < 60.0 && (output - 1000.0).abs() < 15.0, "{prompt}/{output}");
    }
    assert!(Ramp::parse("2-x", 1.0, 1.0, 1.0).unwrap_err().contains("\"x\""));
    assert!(Ramp::parse("2--3", 1.0, 1.0, 1.0).is_err());
    assert!(Ramp::parse("inf", 1.0, 1.0, 1.0).is_err());
}

#[test]
fn what_can_never_meet_the_objectives_is_said_with_the_reason() {
    let trace = Ramp::parse("5", 600.0, 8000.0, 500.0).unwrap().trace();
    let figures = Figures::QWEN3_32B;
    let objectives = Objectives { ttft: 2.0, tpot: 0.1, attainment: 0.95 };
    assert_eq!(never_meets(&figures, &trace, &objectives, 32), Vec::<String>::new());
    let says =
        |figures: Figures, objectives: Objectives, max: u32| never_meets(&figures, &trace, &objectives, max).join("\n");
    let slow = says(Figures { prefill: 2_000.0, ..figures }, objectives, 32);
    assert!(slow.contains("100.0 % of the prompts take more than 2 s"), "{slow}");
    let steps = says(Figures { step: 0.2, ..figures }, objectives, 32);
    assert!(steps.contains("a step takes 200.0 ms"), "{steps}");
    let small = says(Figures { kv_tokens: 4_000, ..figures }, objectives, 32);
    assert!(small.contains("do not fit into the 4000 tokens"), "{small}");
    let few = says(figures, objectives, 2);
    assert!(few.contains("at most 2 are allowed"), "{few}");
}

#[test]
fn figures_that_are_none_are_refused() {
    let trace = Ramp::parse("1", 60.0, 100.0, 10.0).unwrap().trace();
    let base = setup(&trace);
    let refused = |setup: Setup| run(&trace, &setup).unwrap_err();
    for prefill in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let figures = Figures { prefill, ..base.figures };
        assert!(refused(Setup { figures, ..base.clone() }).contains("prefill tokens a second"));
    }
    assert!(refused(Setup { min: 3, max: 2, ..base.clone() }).contains("3 to 2 replicas"));
    assert!(refused(Setup { max: 0, min: 0, ..base.clone() }).contains("replicas"));
    assert!(refused(Setup { scrape: 0.0, ..base.clone() }).contains("scrape interval"));
    assert!(refused(Setup { cold_start: f64::NAN, ..base }).contains("cold start"));
}
