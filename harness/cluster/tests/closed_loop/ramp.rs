//! The loop as a whole: what is asked makes replicas, replicas serve it, and what is asked no more takes them away.

use std::time::Duration;

use penstock_cluster::closed_loop::{Options, Ramp, Stage as Loop};
use penstock_cluster::scaling;

use crate::stage::{Stage, run};

/// A replica serves two requests per second, and there are five at the top.
const OPTIONS: Options = Options {
    cold_start: Duration::from_secs(2),
    ramp: Ramp {
        low: 0.8,
        high: 5.0,
        rise: Duration::from_secs(10),
        hold: Duration::from_secs(20),
        fall: Duration::from_secs(5),
        // While it is scaled in there are answers under way on every pod.
        tail: Duration::from_secs(50),
    },
};

/// What the top asks for, five halves of a replica's time a second, of which 0.7 may be spoken for: 3.6.
const WANTED: i32 = 4;
/// What came before there were enough.
const REFUSED_PERCENT_MAX: u64 = 3;

#[test]
fn replicas_follow_what_is_asked_and_no_request_is_lost() {
    let options = scaling::Options { gateways: 0, ..scaling::Options::default() };
    run(options, async |Stage { place, kubernetes, scaling }| {
        let stage = Loop::start(place, kubernetes, scaling, OPTIONS).await?;
        let report = stage.play(scaling, |_| {}).await?;
        let tally = &report.tally;
        assert_eq!(tally.lost, Vec::<String>::new());
        assert_eq!(tally.sent, tally.answered + tally.refused.values().sum::<u64>(), "{tally:?}");
        let refused = tally.sent - tally.answered;
        assert!(refused * 100 <= tally.sent * REFUSED_PERCENT_MAX, "{refused} of {}: {:?}", tally.sent, tally.refused);
        let steps: Vec<i32> = report.steps.iter().map(|step| step.replicas).collect();
        assert_eq!((steps.first(), steps.last()), (Some(&1), Some(&1)), "{steps:?}");
        assert!(report.most() >= WANTED, "{steps:?}");
        // Nobody is let go in twos, or called back.
        let top = steps.iter().rposition(|replicas| *replicas == report.most()).unwrap_or_default();
        let down: Vec<i32> = (1..=report.most()).rev().collect();
        assert_eq!(steps[top..], down, "{steps:?}");
        assert_eq!(report.pending_at_end, 0.0);
        Ok(())
    });
}
