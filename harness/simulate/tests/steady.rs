//! What a trigger must not do: flap on a steady load, or run to the maximum because clients wait for answers, or because replicas start.

mod common;

use common::setup;
use penstock_simulate::{Behavior, Law, Ramp, Setup, run};

#[test]
fn a_steady_load_is_scaled_at_most_twelve_times_an_hour() {
    for rate in ["3", "6", "12"] {
        let trace = Ramp { poisson: true, ..Ramp::parse(rate, 3600.0, 2000.0, 300.0).unwrap() }.trace();
        let base = setup(&trace);
        // The shorter window is what `penstock plan` gives to a cold start of a minute.
        for (trend, window) in [(0.0, 300), (300.0, 300), (0.0, 150)] {
            let (law, behavior) = (base.law.with_windows(60.0, trend, 60.0), Behavior::one_step(32, window, 60));
            let outcome = run(&trace, &Setup { law, behavior, ..base.clone() }).unwrap();
            let events = outcome.scaled_up + outcome.scaled_down;
            assert!(events <= 12, "{rate} requests a second, trend {trend} s, window {window} s: {events}");
            assert!(outcome.attainment >= 0.95, "{rate} requests a second: {}", outcome.attainment);
        }
    }
}

/// Clients that wait keep as many tokens pending as there are clients, however many replicas answer: a trigger on what is pending runs to the
/// maximum, and one on what arrives does not.
#[test]
fn clients_that_wait_for_answers_do_not_pin_it_at_the_maximum() {
    let trace = Ramp::parse("40", 1800.0, 2000.0, 300.0).unwrap().trace();
    let base = Setup { clients: Some((120, 0.0)), initial: 1, max: 16, ..setup(&trace) };
    let peak = |law: Law| run(&trace, &Setup { law, ..base.clone() }).unwrap().replicas_peak;
    assert_eq!(peak(Law::InFlight { per_replica: 4.0 }), 16);
    let ours = peak(base.law);
    assert!(ours < 16, "{ours} replicas");
}

/// What waits grows until the replicas that it asked for serve; asked for again at each look, they would be several times too many.
#[test]
fn what_waits_while_replicas_start_does_not_ask_for_ever_more() {
    let trace = Ramp::parse("1-20-1", 360.0, 1155.0, 211.0).unwrap().trace();
    let base = Setup { scrape: 5.0, max: 64, ..setup(&trace) };
    let of = |law: Law| run(&trace, &Setup { law, ..base.clone() }).unwrap();
    let law = Law::penstock(&base.figures, &trace, 0.75, 2.0);
    let (bounded, unbounded) = (of(law), of(law.bounded(0.0)));
    let peaks = (bounded.replicas_peak, unbounded.replicas_peak);
    assert!(3 * peaks.0 <= 2 * peaks.1, "{peaks:?}");
    assert!(bounded.attainment >= unbounded.attainment - 0.1, "{}", bounded.attainment);
}

/// By figures that are wrong, twice the work that arrives may be too little for ever; what has stood for a cold start asks for what it takes.
#[test]
fn what_stands_asks_without_a_bound() {
    let trace = Ramp::parse("20", 1800.0, 1155.0, 211.0).unwrap().trace();
    let base = Setup { scrape: 5.0, initial: 1, ..setup(&trace) };
    let of = |law: Law| run(&trace, &Setup { law, ..base.clone() }).unwrap();
    let (right, wrong) = (of(base.law), of(base.law.overrated(4.0)));
    let late = wrong.points.iter().filter(|point| point.at > 900.0).map(|point| point.ready).max();
    assert!(late >= right.points.last().map(|point| point.ready), "{late:?}");
}

/// Under what `penstock plan` makes: 0.869 of a replica whose cold start is a minute, and after a queue somebody more came than is needed.
#[test]
fn nobody_goes_while_load_rises() {
    let rates: Vec<String> = (0..=30).map(|stage| format!("{:.1}", 1.0 + 0.3 * f64::from(stage))).collect();
    for poisson in [false, true] {
        let trace = Ramp { poisson, ..Ramp::parse(&rates.join("-"), 60.0, 4000.0, 1000.0).unwrap() }.trace();
        let base = setup(&trace);
        let law = Law::penstock(&base.figures, &trace, 0.869, 1.71);
        let of = |window| {
            run(&trace, &Setup { law, scrape: 5.0, behavior: Behavior::one_step(32, window, 60), ..base.clone() })
        };
        let outcome = of(150).unwrap();
        assert!(outcome.scaled_up > 4, "{}", outcome.scaled_up);
        assert_eq!((outcome.scaled_down, outcome.down_while_rising), (0, 0), "poisson {poisson}");
        assert!(of(60).unwrap().down_while_rising > 0, "a shorter window would do");
    }
}
