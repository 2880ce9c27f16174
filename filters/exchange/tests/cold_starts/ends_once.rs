//! Whatever happens to requests that wait, each of them ends once.

use penstock_exchange::{Effect, Metric};
use proptest::prelude::*;

use crate::gateway::{Answer, Gateway, config, demand};

#[derive(Clone, Debug)]
enum Happens {
    Comes,
    Leaves(usize),
    Passes(u64),
    Probed(Answer),
    Answered(usize),
}

fn happens() -> impl Strategy<Value = Happens> {
    let answer = prop_oneof![
        2 => Just(Answer::Status(200)),
        4 => Just(Answer::Status(503)),
        4 => Just(Answer::Nothing),
        1 => Just(Answer::NoCluster),
    ];
    prop_oneof![
        8 => Just(Happens::Comes),
        2 => (0usize..50).prop_map(Happens::Leaves),
        4 => (1u64..6).prop_map(Happens::Passes),
        5 => answer.prop_map(Happens::Probed),
        3 => (0usize..50).prop_map(Happens::Answered),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    /// Whatever happens: who waited went on once, in the order in which they came, or was refused once, or left; nothing is charged for what
    /// was refused or left; and when all is over nothing is pending, held or charged but what was used.
    #[test]
    fn whoever_waits_ends_once(events in prop::collection::vec(happens(), 1..120)) {
        // A credit gives back to the token, and a bucket only what it remembers.
        let credit = r#",{"name":"credit","per":["model"],"session":{"tokens":1000000}}"#;
        let mut gateway = Gateway::new(&config(r#","hold":"4s","maxHeld":5"#, credit));
        let (mut served, mut waited): (u64, Vec<u32>) = (0, Vec::new());
        let mut charged_nothing = Vec::new();
        for event in events {
            match event {
                Happens::Comes => {
                    let number = gateway.chat();
                    let flight = gateway.flight(number);
                    if flight.seen.contains(&Effect::Ticks(true)) {
                        waited.push(number);
                    } else {
                        prop_assert!(flight.went() != flight.reply().is_some());
                    }
                }
                Happens::Leaves(which) => {
                    let open: Vec<u32> = gateway.flights.keys().copied().collect();
                    if let Some(number) = open.get(which).copied().filter(|number| !gateway.went.contains(number)) {
                        gateway.close(number);
                        charged_nothing.push(number);
                    }
                }
                Happens::Passes(halves) => gateway.pass(halves),
                Happens::Probed(answer) => gateway.answer(answer),
                Happens::Answered(which) => {
                    let gone: Vec<u32> = gateway.flights.keys().copied().filter(|number| gateway.went.contains(number)).collect();
                    if let Some(number) = gone.get(which) {
                        gateway.finish(*number);
                        served += 1;
                    }
                }
            }
            let held = gateway.flights.values().filter(|flight| flight.exchange.is_holding()).count();
            prop_assert!(held <= 5);
        }
        gateway.pass(20);
        let open: Vec<u32> = gateway.flights.keys().copied().collect();
        for number in open {
            prop_assert!(!gateway.flight(number).exchange.is_holding(), "somebody waits for ever");
            if gateway.went.contains(&number) {
                prop_assert_eq!(gateway.status(number), None);
                gateway.finish(number);
                served += 1;
            } else {
                prop_assert_eq!(gateway.status(number), Some(503));
                gateway.close(number);
                prop_assert_eq!(demand(gateway.flight(number)).len(), 1);
                charged_nothing.push(number);
            }
        }
        for number in charged_nothing {
            prop_assert_eq!(gateway.flight(number).facts().used, None);
        }
        let order: Vec<u32> = gateway.went.iter().copied().filter(|number| waited.contains(number)).collect();
        prop_assert!(order.is_sorted(), "{:?}", order);
        let mut once = gateway.went.clone();
        once.dedup();
        prop_assert_eq!(once.len(), gateway.went.len());
        prop_assert_eq!((gateway.permits(), gateway.gauge(Metric::PendingRequests, "chat default")), (0, 0));
        let last = gateway.chat();
        gateway.answer(Answer::Status(200));
        gateway.finish(last);
        let left: u64 = gateway.flight(last).response_header("x-penstock-session-remaining-tokens").unwrap().parse().unwrap();
        prop_assert_eq!(1_000_000 - left, 100 * (served + 1));
    }
}
