//! Demand that costs nothing: whoever tries again is counted as far as its limits would have admitted it.

#![allow(clippy::disallowed_types, reason = "what runs in tests may use the standard maps")]

mod sim;

use penstock_exchange::{Effect, Event, Headers, Metric};
use proptest::prelude::*;
use sim::{Flight, Proxy, SECOND};

const TENANTS: &str =
    r#""tenant":{"from":[{"header":"x-tenant","trusted":true}]},"tenants":{"acme":{},"free":{},"holder":{}}"#;

/// A request for so many tokens of answer; its prompt has 8.
fn asks(model: &str, output: u64) -> String {
    format!(
        r#"{{"model":"{model}","max_tokens":{output},"min_tokens":{output},"messages":[{{"role":"user","content":"Hello"}}]}}"#
    )
}

/// How a request comes to nothing.
#[derive(Clone, Copy, Debug)]
enum Fails {
    /// The model is full.
    Shed,
    /// The proxy has no host.
    NoHost,
    /// Its server fails, or has no room.
    Upstream(u16),
    /// Nothing comes, and the proxy closes.
    Reset,
}

const WAYS: [Fails; 6] =
    [Fails::Shed, Fails::NoHost, Fails::Upstream(500), Fails::Upstream(503), Fails::Upstream(429), Fails::Reset];

/// A proxy with a model that is full, and another one.
fn proxy(more: &str) -> (Proxy, Flight) {
    let config = format!(
        r#"{{{TENANTS},"models":[{{"name":"full","pending":{{"ceiling":50000}}{more}}},{{"name":"chat"{more}}}],"limits":[
            {{"name":"all","tokens":100000000,"every":"1m","match":{{"tenant":"acme"}}}},
            {{"name":"tpm","per":["tenant"],"match":{{"tenant":"acme"}},"tokens":6000,"every":"1m","burst":3000}},
            {{"name":"seen","per":["tenant"],"match":{{"tenant":"free"}},"tokens":1,"every":"1h","mode":"observe"}}]}}"#
    );
    let mut proxy = Proxy::new(&config);
    let holder = proxy.chat(&[("x-tenant", "holder")], &asks("full", 49_990));
    assert!(holder.went());
    told(&mut proxy);
    (proxy, holder)
}

/// The tokens that a tick says were admitted.
fn told(proxy: &mut Proxy) -> u64 {
    let effects = proxy.tick();
    let counts = effects.iter().filter_map(|effect| match effect {
        Effect::Count(id, by) => Some((proxy.worker.series.series(*id)?.0, *by)),
        _ => None,
    });
    counts.filter(|(metric, _)| *metric == Metric::Admitted).map(|(_, by)| by).sum()
}

/// Sends a request that comes to nothing; answers how many tokens of demand it made.
fn fail(proxy: &mut Proxy, tenant: &str, how: Fails, output: u64) -> u64 {
    let model = if matches!(how, Fails::Shed) { "full" } else { "chat" };
    // What fills the model says that it does.
    assert_eq!(told(proxy), 0);
    let mut flight = proxy.chat(&[("x-tenant", tenant)], &asks(model, output));
    let details = |flight: &mut Flight, text: &str| {
        flight.props.0.insert("response.code_details".into(), text.as_bytes().to_vec());
    };
    match how {
        Fails::Shed => assert_eq!(flight.reply().map(|(status, ..)| status), Some(503), "{tenant} {output}"),
        Fails::NoHost => {
            details(&mut flight, "no_healthy_upstream");
            proxy.answer(&mut flight, 503, "");
        }
        Fails::Upstream(status) => {
            details(&mut flight, "via_upstream");
            proxy.answer(&mut flight, status, "{}");
        }
        Fails::Reset => proxy.close(&mut flight),
    }
    let refused: u64 = flight.counted(Metric::RefusedDemand).iter().map(|(_, tokens)| tokens).sum();
    assert!(!matches!(how, Fails::Shed) || refused == 0 || refused == 8 + output);
    // What the proxy had no host for is admitted as well: it is one demand, told twice.
    if matches!(how, Fails::Shed) { refused + told(proxy) } else { told(proxy) }
}

proptest! {
    /// However it is refused, and however often it tries: no more than the burst and what came since.
    #[test]
    fn a_tenant_wants_no_more_than_its_limit_admits(
        tries in prop::collection::vec((0..4 * SECOND, 0..WAYS.len(), 1u64..1500), 1..120),
    ) {
        let (mut proxy, _full) = proxy("");
        let (start, mut wanted) = (proxy.now, 0u64);
        for (i, (pause, how, output)) in tries.into_iter().enumerate() {
            proxy.now += pause;
            let tokens = fail(&mut proxy, "acme", WAYS[how], output);
            prop_assert!(i > 0 || tokens == 8 + output, "the first counts: {tokens}");
            wanted += tokens;
            let admits = 3000 + (proxy.now - start) / (SECOND / 100);
            prop_assert!(wanted <= admits, "{wanted} of {admits}");
        }
    }

    /// The same without a limit: as much as one replica does, or one request.
    #[test]
    fn whoever_has_no_limit_wants_no_more_than_a_replica_does(
        tries in prop::collection::vec((0..4 * SECOND, 0..WAYS.len(), 1u64..30_000), 1..120), is_known: bool,
    ) {
        let figures = r#","replica":{"prefillTokensPerSecond":1000,"decodeTokensPerSecond":100}"#;
        let (mut proxy, _full) = proxy(if is_known { figures } else { "" });
        let rate = if is_known { 1000 } else { 10_000 };
        let (start, mut wanted, mut largest) = (proxy.now, [0u64; 2], 0);
        for (i, (pause, how, output)) in tries.into_iter().enumerate() {
            proxy.now += pause;
            // For each model by itself.
            let model = usize::from(matches!(WAYS[how], Fails::Shed));
            let tokens = fail(&mut proxy, "free", WAYS[how], output);
            prop_assert!(i > 0 || tokens == 8 + output, "the first counts: {tokens}");
            wanted[model] += tokens;
            largest = largest.max(8 + output);
            let most = (rate * 10).max(largest) + largest + rate * (proxy.now - start) / SECOND;
            prop_assert!(wanted[model] <= most, "{wanted:?} of {most}");
        }
    }
}

#[test]
fn who_tries_again_takes_nothing_from_others_and_nothing_of_its_budget() {
    let (mut proxy, _full) = proxy("");
    let all: u64 = (0..1000).map(|i| fail(&mut proxy, "acme", WAYS[i % WAYS.len()], 492)).sum();
    assert_eq!(all, 3000, "six of a thousand");
    assert_eq!(fail(&mut proxy, "free", Fails::NoHost, 492), 500);
    let served = proxy.chat(&[("x-tenant", "acme")], &asks("chat", 2992));
    assert!(served.went(), "{:?}", served.reply());
}

/// Whoever is not named asks together with all others who are not.
#[test]
fn another_name_is_no_further_demand() {
    let config = r#"{"tenant":{"from":[{"header":"x-key"}]},"models":[{"name":"chat"}]}"#;
    let mut proxy = Proxy::new(config);
    let mut all = 0;
    for i in 0..500 {
        let mut flight = proxy.chat(&[("x-key", &format!("key-{i}"))], &asks("chat", 992));
        flight.props.0.insert("response.code_details".into(), b"no_healthy_upstream".to_vec());
        proxy.answer(&mut flight, 503, "");
        all += flight.counted(Metric::RefusedDemand).iter().map(|(_, tokens)| tokens).sum::<u64>();
    }
    assert_eq!(all, 100_000);
}

/// Requests that wait for a server and are left, or are refused for want of one.
#[test]
fn who_waits_and_leaves_wants_no_more_either() {
    let config = format!(
        r#"{{{TENANTS},"waitForBody":true,"models":[{{"name":"chat","coldStart":{{"cluster":"chat","hold":"1s"}}}}],
            "limits":[{{"name":"tpm","per":["tenant"],"tokens":1000,"every":"1h"}}]}}"#
    );
    for waits in [false, true] {
        let mut proxy = Proxy::new(&config);
        told(&mut proxy);
        let mut all = 0;
        for _ in 0..50 {
            let mut flight = proxy.chat(&[("x-tenant", "acme")], &asks("chat", 492));
            assert!(flight.exchange.is_holding());
            let call = flight.seen.iter().find_map(|effect| match effect {
                Effect::Call(call) => Some(call.id),
                _ => None,
            });
            if let Some(id) = call {
                proxy.tell(&mut flight, Event::CallDone { id, answer: None });
            }
            if waits {
                proxy.now += SECOND;
                proxy.tell(&mut flight, Event::Tick);
                assert_eq!(flight.reply().map(|(status, ..)| status), Some(503));
                let headers: Headers = vec![(":status".into(), b"503".to_vec())];
                proxy.tell(&mut flight, Event::ResponseHead { headers: &headers, end: true });
            }
            proxy.close(&mut flight);
            all += told(&mut proxy);
        }
        assert_eq!(all, 1000, "{waits}");
    }
}
