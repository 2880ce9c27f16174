//! The demo's own numbers: what the filters counted is what the servers reported, nothing stays pending, and a canary that fails is
//! rolled back.

use penstock_harness::demo::{Options, observe};
use penstock_tests::{find_envoy, module, skip};
use serde_json::Value;

/// What becomes of requests in the demo.
const OUTCOMES: [&str; 3] = ["ok", "limited", "abandoned"];

#[tokio::test(flavor = "multi_thread")]
async fn on_envoy() {
    if let Err(reason) = find_envoy() {
        skip!("{reason}");
    }
    check("envoy").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_the_sandbox() {
    check("sandbox").await;
}

async fn check(runs_on: &str) {
    module("penstock");
    // As long as it takes until every kind of tenant has had its turn; on a machine that is not busy, the first time.
    let mut report = Value::Null;
    for seconds in [5, 20, 60] {
        let options = Options { seconds, json: true, sandbox: runs_on == "sandbox" };
        let observed = observe(&options).await.expect("the demo runs");
        assert!(observed.svg().contains("rolled back after"), "{}", observed.text());
        report = observed.json().clone();
        if OUTCOMES.iter().all(|outcome| report["requests"]["by_outcome"].get(outcome).is_some()) {
            break;
        }
    }
    assert_eq!(report["runs_on"], runs_on);

    let tokens = &report["prompt_tokens"];
    assert!(number(&tokens["reported_by_servers"]) > 0.0, "{report}");
    assert_eq!(tokens["counted_by_filters"], tokens["reported_by_servers"], "{report}");

    let outcomes = report["requests"]["by_outcome"].as_object().expect("an object");
    let ended: f64 = outcomes.values().map(number).sum();
    assert_eq!(ended, number(&report["requests"]["sent"]), "a request has one outcome: {report}");
    assert_eq!(report["requests"]["failed_unexpectedly"], 0, "{report}");
    for outcome in OUTCOMES {
        assert!(outcomes.contains_key(outcome), "no {outcome}: {report}");
    }

    for gauge in ["pending_tokens", "pending_requests"] {
        assert!(number(&report[gauge]["peak"]) > 0.0, "{report}");
        assert_eq!(number(&report[gauge]["final"]), 0.0, "{report}");
    }
    assert!(number(&report["share_by_version"]["stable"]) > number(&report["share_by_version"]["canary"]), "{report}");
    let roll_back = &report["roll_back"];
    assert_eq!(roll_back["rolled_back"], true, "{report}");
    let [after, failed] = ["after_requests_of_the_canary", "of_these_failed"].map(|key| number(&roll_back[key]));
    // It takes some failures to tell, and not many.
    assert!((3.0..=150.0).contains(&failed) && failed < after && after <= 300.0, "{report}");
    assert_eq!(roll_back["requests_of_the_canary_afterwards"], 0, "{report}");
    assert!(number(&roll_back["streams_of_the_canary"]["under_way"]) > 0.0, "{report}");
    assert_eq!(roll_back["streams_of_the_canary"]["finished"], 6, "{report}");
    assert!(number(&report["latency"]["pairs"]) > 0.0 && number(&report["latency"]["without_filters_ms"]["p50"]) > 0.0);
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or(f64::NAN)
}
