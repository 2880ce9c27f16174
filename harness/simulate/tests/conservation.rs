//! Nothing is lost and nothing is doubled, whatever is scaled under it; and the same goes in and comes out every time.

mod common;

use common::{setup, tokens};
use penstock_simulate::{Account, Figures, Law, Ramp, Setup, Trace, run, trials};

/// Ups and downs, on replicas that come and go.
fn waves() -> Trace {
    let ramp = Ramp::parse("1-6-2-8-1-0-5", 180.0, 3000.0, 300.0).unwrap();
    Ramp { poisson: true, ..ramp }.trace()
}

#[test]
fn every_request_is_answered_once_and_every_token_comes() {
    let trace = waves();
    let (prompts, outputs) = tokens(&trace);
    let base = setup(&trace);
    for hold in [None, Some(0.25)] {
        for law in [base.law, Law::InFlight { per_replica: 4.0 }, Law::Waiting { per_replica: 1.0 }, Law::Fixed] {
            let outcome = run(&trace, &Setup { law, hold, min: 1, ..base.clone() }).unwrap();
            assert_eq!((outcome.requests, outcome.refused, outcome.unserved), (trace.requests.len(), 0, 0), "{law:?}");
            assert_eq!((outcome.prompt_tokens, outcome.output_tokens), (prompts, outputs), "{law:?}");
        }
    }
}

#[test]
fn a_cache_that_is_too_small_for_all_computes_anew_and_loses_nothing() {
    let trace = waves();
    let base = setup(&trace);
    let figures = Figures { kv_tokens: 9_000, ..base.figures };
    let outcome = run(&trace, &Setup { figures, ..base }).unwrap();
    let (prompts, outputs) = tokens(&trace);
    assert_eq!((outcome.unserved, outcome.prompt_tokens, outcome.output_tokens), (0, prompts, outputs));
}

#[test]
fn what_fits_into_no_cache_is_refused_and_missed() {
    let mut trace = waves();
    trace.requests[7].prompt = 400_000;
    let outcome = run(&trace, &setup(&trace)).unwrap();
    assert_eq!((outcome.refused, outcome.unserved), (1, 0));
    assert!(outcome.attainment < 1.0);
}

#[test]
fn from_zero_and_back_nobody_is_lost() {
    let trace = waves();
    let base = Setup { min: 0, initial: 0, cooldown: 60.0, ..setup(&trace) };
    let outcome = run(&trace, &Setup { account: Account::Floor, ..base }).unwrap();
    assert_eq!((outcome.unserved, outcome.output_tokens), (0, tokens(&trace).1));
    assert!(outcome.points.iter().any(|point| point.replicas == 0), "it never slept");
}

#[test]
fn the_same_comes_out_every_time_and_on_every_thread() {
    let trace = waves();
    let base = setup(&trace);
    let setups: Vec<Setup> = [0.5, 0.7, 0.9].map(|share| Setup { law: base.law.at(share), ..base.clone() }).to_vec();
    let alone: Vec<_> = setups.iter().map(|setup| run(&trace, setup).unwrap()).collect();
    let together = trials(&trace, &setups, &|_| {}).unwrap();
    assert_eq!(alone, together.into_iter().map(|trial| trial.outcome).collect::<Vec<_>>());
}

#[test]
fn nobody_is_faster_than_an_idle_replica() {
    let trace = waves();
    let base = Setup { initial: 8, law: Law::Fixed, ..setup(&trace) };
    let outcome = run(&trace, &base).unwrap();
    let least = trace.requests.iter().map(|request| base.figures.idle_ttft(request.prompt)).fold(f64::MAX, f64::min);
    assert!(outcome.ttft.p50 >= least && outcome.inter_token.p50 >= base.figures.step * 0.98);
    assert!((outcome.replica_seconds - 8.0 * 1260.0).abs() < 1.0, "{}", outcome.replica_seconds);
}
