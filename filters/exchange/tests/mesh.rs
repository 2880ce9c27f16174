//! Limits that all proxies share, with a service that is a number.

mod sim;

use penstock_exchange::{Call, CallAnswer, CallId, CallMessage, Effect, Event, Outcome};
use penstock_units::Millis;
use proptest::prelude::*;
use sim::{Flight, Proxy, SECOND};

/// A budget in a fixed window, as a rate limit service keeps it.
struct Service {
    left: u64,
    asked: u64,
    up: bool,
    /// Whether it says what is left, and when its window ends.
    tells: bool,
}

impl Service {
    fn new(budget: u64) -> Self {
        Self { left: budget, asked: 0, up: true, tells: true }
    }

    fn answer(&mut self, message: &[u8]) -> Option<Vec<u8>> {
        self.asked += 1;
        if !self.up {
            return None;
        }
        let hits = hits(message);
        let yes = hits <= self.left;
        self.left -= if yes { hits } else { 0 };
        let mut out = vec![8, if yes { 1 } else { 2 }];
        if self.tells {
            // What is left, and an hour to go.
            let status = [vec![0x18], varint(self.left), vec![0x22, 3, 8], varint(3600)].concat();
            out.extend([vec![0x12, status.len() as u8], status].concat());
        }
        Some(out)
    }

    /// A request's way through the limits: whether it went.
    fn decide(&mut self, proxy: &mut Proxy, flight: &mut Flight) -> bool {
        for _ in 0..20 {
            if !flight.exchange.is_holding() {
                return flight.went();
            }
            let (id, message) = call(flight).expect("it is held for a reason");
            let answer = self.answer(&message);
            proxy.tell(flight, Event::CallDone { id, answer: answer.as_deref().map(CallAnswer::Grpc) });
        }
        panic!("it asks for ever");
    }
}

/// The last call that was made for a request, and what it sends.
fn call(flight: &Flight) -> Option<(CallId, Vec<u8>)> {
    flight.seen.iter().rev().find_map(|effect| {
        let Effect::Call(call) = effect else { return None };
        let Call { id, hold, cluster, timeout, message: CallMessage::Grpc { message, .. } } = &**call else {
            panic!("{call:?}")
        };
        assert_eq!((cluster.as_str(), *timeout, *hold), ("rls", Millis(100), true));
        Some((*id, message.clone()))
    })
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
    out
}

fn hits(message: &[u8]) -> u64 {
    let mut at = 0;
    while message[at] != 0x18 {
        at += 2 + message[at + 1] as usize;
    }
    message[at + 1..].iter().rev().fold(0, |value, byte| value << 7 | u64::from(byte & 0x7f))
}

fn config(budget: u64, more: &str) -> String {
    format!(
        r#"{{"tenant":{{"from":[{{"header":"x-api-key","trusted":true}}],"anonymous":"allow"}},"models":[{{"name":"chat"}}],
        "mesh":{{"service":"rls","domain":"d"{more}}},
        "limits":[{{"name":"all","per":["tenant"],"tokens":{budget},"every":"1h","scope":"mesh"}},
            {{"name":"here","tokens":1000000,"every":"1h"}}]}}"#
    )
}

/// Three tokens of prompt, and so many of output.
fn body(output: u64) -> String {
    format!(r#"{{"model":"chat","messages":[],"max_tokens":{output}}}"#)
}

fn usage(completion: u64) -> String {
    format!(r#"{{"usage":{{"prompt_tokens":3,"completion_tokens":{completion}}}}}"#)
}

#[test]
fn most_requests_are_admitted_without_asking() {
    let mut service = Service::new(100_000);
    let mut proxy = Proxy::new(&config(100_000, ""));
    for n in 0..970 {
        let mut flight = proxy.chat(&[("x-api-key", "a")], &body(97));
        assert!(service.decide(&mut proxy, &mut flight), "{n}");
        proxy.answer(&mut flight, 200, &usage(97));
    }
    // A lease is a sixteenth.
    assert!(service.asked <= 20, "{}", service.asked);
    let mut flight = proxy.chat(&[("x-api-key", "a")], &body(97));
    service.decide(&mut proxy, &mut flight);
    proxy.answer(&mut flight, 200, &usage(97));
    let left: u64 = flight.response_header("x-ratelimit-remaining-tokens").unwrap().parse().unwrap();
    assert_eq!(left, 100_000 - 971 * 100);
    // To the end, and then no further.
    let more = (0..100).filter(|_| {
        let mut flight = proxy.chat(&[("x-api-key", "a")], &body(97));
        let went = service.decide(&mut proxy, &mut flight);
        if let Some((status, headers, _)) = flight.reply() {
            assert_eq!((status, headers["x-penstock-limit"].as_str()), (429, "all"));
            proxy.close(&mut flight);
        }
        went
    });
    assert_eq!(more.count(), 29);
}

#[test]
fn a_service_that_does_not_answer_is_left_alone_and_the_policy_holds() {
    for (policy, budget, admitted) in [("open", 1000, 100), ("closed", 1000, 0), ("local", 1000, 10)] {
        let mut service = Service { up: false, ..Service::new(budget) };
        let mut proxy = Proxy::new(&config(budget, &format!(r#","onError":"{policy}""#)));
        let mut went = 0;
        for _ in 0..100 {
            let mut flight = proxy.chat(&[("x-api-key", "a")], &body(97));
            if service.decide(&mut proxy, &mut flight) {
                went += 1;
            } else if policy == "closed" {
                let (status, headers, _) = flight.reply().unwrap();
                assert_eq!(
                    (status, headers["retry-after"].as_str(), flight.facts().refused),
                    (503, "1", Some(Outcome::Shed))
                );
            }
        }
        assert_eq!((went, service.asked), (admitted, 1), "{policy}");
        // After a second it is asked again, and answers; what was admitted meanwhile is not asked for afterwards.
        service.up = true;
        proxy.now += SECOND;
        let mut flight = proxy.chat(&[("x-api-key", "a")], &body(97));
        assert!(service.decide(&mut proxy, &mut flight), "{policy}");
        assert_eq!((service.asked, service.left), (2, 900), "{policy}");
    }
}

#[test]
fn answers_that_are_none_are_failures_and_clients_that_leave_while_it_is_asked_cost_nothing() {
    for nonsense in [b"".as_slice(), b"\x08\x07", b"no protobuf", &[0xff; 100]] {
        let mut proxy = Proxy::new(&config(1000, r#","onError":"closed""#));
        let mut flight = proxy.chat(&[("x-api-key", "a")], &body(97));
        let (id, _) = call(&flight).unwrap();
        proxy.tell(&mut flight, Event::CallDone { id, answer: Some(CallAnswer::Grpc(nonsense)) });
        assert_eq!(flight.reply().unwrap().0, 503);
    }
    let mut service = Service::new(1000);
    let mut proxy = Proxy::new(&config(1000, ""));
    let mut flight = proxy.chat(&[("x-api-key", "a")], &body(97));
    assert!(flight.exchange.is_holding() && !flight.went());
    proxy.close(&mut flight);
    assert_eq!(flight.facts().outcome, Some(Outcome::Abandoned));
    let mut flight = proxy.chat(&[("x-api-key", "a")], &body(97));
    assert!(service.decide(&mut proxy, &mut flight));
    // Somebody was asking when the client left, so this one asked for no more than it needs.
    assert_eq!(service.left, 900);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Three proxies, of which answers use less, more or nothing of what was reserved, and a service that is away now and then: what was
    /// used beyond the budget is only what answers took beyond their reservations, and when all is over less than a lease for each proxy and
    /// what was lost with the calls is unused.
    #[test]
    fn proxies_share_one_budget(
        asks in prop::collection::vec((0usize..3, 1u64..200, 0u64..220, 0u8..12), 50..400), tells: bool,
    ) {
        const BUDGET: u64 = 5000;
        let mut service = Service { tells, ..Service::new(BUDGET) };
        let mut proxies: Vec<Proxy> = (0..3).map(|_| Proxy::new(&config(BUDGET, r#","onError":"closed""#))).collect();
        let (mut used, mut beyond) = (0u64, 0u64);
        for (which, output, completion, luck) in asks {
            let proxy = &mut proxies[which];
            proxy.now += SECOND / 10;
            service.up = luck > 0;
            let mut flight = proxy.chat(&[("x-api-key", "a")], &body(output));
            if !service.decide(proxy, &mut flight) {
                proxy.close(&mut flight);
                continue;
            }
            if luck == 1 {
                proxy.answer(&mut flight, 500, "{}");
            } else {
                proxy.answer(&mut flight, 200, &usage(completion));
                used += 3 + completion;
                beyond += completion.saturating_sub(output);
            }
            prop_assert!(used <= BUDGET - service.left + beyond, "{} used, {} leased, {} beyond", used, BUDGET - service.left, beyond);
        }
        prop_assert!(used <= BUDGET + beyond);
    }
}

#[test]
fn what_a_limit_of_this_proxy_refuses_asks_no_service() {
    let mut proxy = Proxy::new(
        r#"{"models":[{"name":"chat"}],"mesh":{"service":"rls","domain":"d"},
        "limits":[{"name":"all","tokens":10000,"every":"1h","scope":"mesh"},{"name":"here","tokens":50,"every":"1h"}]}"#,
    );
    let flight = proxy.chat(&[], &body(90));
    assert_eq!(flight.reply().unwrap().1["x-penstock-limit"], "here");
    assert!(call(&flight).is_none());
}

/// A lease that is granted for a request which another limit refuses is kept from other proxies: so a caller without a budget of its own
/// left must not be able to ask for one.
#[test]
fn who_has_nothing_left_does_not_take_from_what_all_share() {
    let mut proxy = Proxy::new(
        r#"{"tenant":{"from":[{"header":"x-api-key","trusted":true}],"anonymous":"allow"},"models":[{"name":"chat"}],"mesh":{"service":"rls","domain":"d"},
        "limits":[{"name":"shared","tokens":100000,"every":"1h","scope":"mesh"},
            {"name":"own","per":["tenant"],"tokens":10000,"every":"1h","scope":"mesh"}]}"#,
    );
    let (mut shared, mut own) = (Service::new(100_000), Service::new(0));
    for _ in 0..50 {
        let mut flight = proxy.chat(&[("x-api-key", "a")], &body(5000));
        while flight.exchange.is_holding() {
            let (id, message) = call(&flight).unwrap();
            let is_own = message.windows(3).any(|window| window == b"own");
            let answer = if is_own { own.answer(&message) } else { shared.answer(&message) };
            proxy.tell(&mut flight, Event::CallDone { id, answer: answer.as_deref().map(CallAnswer::Grpc) });
        }
        assert_eq!(flight.reply().unwrap().1["x-penstock-limit"], "own");
        proxy.now += SECOND;
    }
    assert_eq!((shared.asked, shared.left), (0, 100_000));
}

/// The service has counted what it grants: when its answer comes too late, or to nobody, it is the next request's.
#[test]
fn a_grant_that_nobody_waits_for_is_spent_by_the_next() {
    for leaves in [false, true] {
        let mut service = Service::new(100_000);
        let mut proxy = Proxy::new(&config(100_000, r#","onError":"open""#));
        let mut flight = proxy.chat(&[("x-api-key", "a")], &body(97));
        let (id, message) = call(&flight).unwrap();
        if leaves {
            proxy.close(&mut flight);
        } else {
            proxy.tell(&mut flight, Event::CallDone { id, answer: None });
            assert!(flight.went());
        }
        let said = flight.seen.len();
        let answer = service.answer(&message).unwrap();
        let out = proxy.tell(&mut flight, Event::CallDone { id, answer: Some(CallAnswer::Grpc(&answer)) });
        assert!(out.is_empty() && flight.seen.len() == said, "{out:?}");
        // Told twice, it is booked once.
        proxy.tell(&mut flight, Event::CallDone { id, answer: Some(CallAnswer::Grpc(&answer)) });
        let granted = hits(&message);
        let mut admitted = 0;
        // By then the service is asked again.
        proxy.now += 2 * SECOND;
        loop {
            let mut next = proxy.chat(&[("x-api-key", "a")], &body(97));
            if call(&next).is_some() {
                break;
            }
            assert!(next.went());
            proxy.answer(&mut next, 200, &usage(97));
            admitted += 100;
            proxy.now += SECOND / 10;
            assert!(admitted <= granted, "{leaves}");
        }
        assert!(granted - admitted < 100, "{leaves}: {admitted} of {granted}");
    }
}
