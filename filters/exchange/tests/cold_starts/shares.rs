//! Who may wait for a server, where tenants want more places than there are; and what is kept of whoever waits.

use penstock_exchange::{Effect, Event, Headers};

use crate::gateway::{Answer, Gateway, USAGE};
use crate::sim::{Proxy, SECOND};

fn config(cold: &str, model: &str) -> String {
    format!(
        r#"{{"waitForBody":true,"tenant":{{"from":[{{"header":"x-tenant","trusted":true}}],"anonymous":"allow"}},
        "tenants":{{"acme":{{}},"globex":{{}},"initech":{{}},"urgent":{{"priority":"high"}}}},
        "models":[{{"name":"chat","coldStart":{{"cluster":"chat"{cold}}}{model}}}]}}"#
    )
}

fn chat(bytes: usize) -> String {
    format!(r#"{{"model":"chat","max_tokens":92,"messages":[{{"role":"user","content":"{}"}}]}}"#, "a".repeat(bytes))
}

/// So many requests of a tenant; how many of them wait. The others are refused.
fn send(gateway: &mut Gateway, tenant: &str, count: usize, body: &str) -> usize {
    let headers: &[(&str, &str)] = if tenant.is_empty() { &[] } else { &[("x-tenant", tenant)] };
    let numbers: Vec<u32> = (0..count).map(|_| gateway.send(headers, body)).collect();
    let waits = |number: &u32| gateway.flight(*number).exchange.is_holding();
    let (waiting, refused): (Vec<u32>, Vec<u32>) = numbers.into_iter().partition(waits);
    for number in refused {
        assert_eq!(gateway.status(number), Some(503));
        gateway.close(number);
    }
    waiting.len()
}

/// A gateway that knows that there is no server, with one request that waits for it.
fn shut(config: &str) -> Gateway {
    let mut gateway = Gateway::new(config);
    assert_eq!(send(&mut gateway, "urgent", 1, &chat(1)), 1);
    gateway.answer(Answer::Nothing);
    gateway
}

#[test]
fn a_tenant_that_tries_again_and_again_leaves_places_to_others() {
    let mut gateway = shut(&config(r#","maxHeld":100"#, ""));
    let body = chat(1);
    assert_eq!(send(&mut gateway, "acme", 200, &body), 79);
    assert_eq!(send(&mut gateway, "acme", 100, &body), 0);
    // What has no name is one, whatever it calls itself.
    let made_up: usize = (0..100).map(|i| send(&mut gateway, &format!("stranger-{i}"), 1, &body)).sum();
    let others = [made_up, send(&mut gateway, "globex", 100, &body), send(&mut gateway, "initech", 100, &body)];
    assert!(others.iter().all(|waits| (1..=15).contains(waits)), "{others:?}");
    assert!(send(&mut gateway, "urgent", 100, &body) >= 1);
    assert_eq!(gateway.proxy.worker.ledger.sums()[0].1.requests, 100, "all that may wait do");
    // Those who have gone on leave their places.
    gateway.pass(1);
    gateway.answer(Answer::Status(200));
    assert_eq!((gateway.went.len(), gateway.permits()), (100, 0));
    let numbers = gateway.went.clone();
    numbers.into_iter().for_each(|number| gateway.finish(number));
    gateway.proxy.now += 10 * SECOND;
    assert_eq!(send(&mut gateway, "acme", 1, &body), 1);
    gateway.answer(Answer::Nothing);
    assert_eq!(send(&mut gateway, "acme", 100, &body), 79);
}

#[test]
fn neither_may_one_have_all_bytes() {
    let mut gateway = shut(&config(r#","maxHeldBytes":"128Ki""#, ""));
    let large = chat(9 << 10);
    let most = send(&mut gateway, "acme", 100, &large);
    assert!((9..=10).contains(&most), "{most} of 10 KiB each, of 128 KiB");
    assert_eq!(send(&mut gateway, "globex", 1, &large), 1);
    assert!(send(&mut gateway, "initech", 100, &chat(1)) > 5);
}

#[test]
fn a_tenants_places_are_those_that_it_has_with_all_workers() {
    let config = config(r#","maxHeld":20"#, "");
    let mut first = shut(&config);
    let body = chat(1);
    assert_eq!(send(&mut first, "acme", 100, &body), 15);
    let store = std::mem::take(&mut first.proxy.store);
    let mut second = Gateway::of(Proxy::beside(&config, store, 9));
    second.proxy.now = first.proxy.now;
    assert_eq!(send(&mut second, "globex", 1, &body), 1);
    second.answer(Answer::Nothing);
    assert_eq!(send(&mut second, "acme", 100, &body), 0);
    // A worker that died leaves its places.
    second.pass(8);
    assert!(send(&mut second, "acme", 100, &body) >= 14);
}

#[test]
fn where_nobody_has_a_name_all_places_are_everybodys() {
    let config = r#"{"waitForBody":true,"models":[{"name":"chat","coldStart":{"cluster":"chat","maxHeld":20}}]}"#;
    let mut gateway = Gateway::new(config);
    assert_eq!(send(&mut gateway, "", 1, &chat(1)), 1);
    gateway.answer(Answer::Nothing);
    assert_eq!(send(&mut gateway, "", 100, &chat(1)), 19);
}

/// A server that is too busy to answer a probe in time is heard by what it answers otherwise.
#[test]
fn a_server_that_streams_is_there() {
    let mut gateway = Gateway::new(&config("", ""));
    let stream = chat(1).replace("\"max_tokens\"", "\"stream\":true,\"max_tokens\"");
    let first = gateway.send(&[], &stream);
    gateway.answer(Answer::Status(200));
    let headers: Headers =
        vec![(":status".into(), b"200".to_vec()), ("content-type".into(), b"text/event-stream".to_vec())];
    gateway.tell(first, Event::ResponseHead { headers: &headers, end: false });
    let chunk = b"data: {\"choices\":[{\"delta\":{\"content\":\" token\"}}]}\n\n";
    for _ in 0..10 {
        gateway.proxy.now += 4 * SECOND;
        gateway.tell(first, Event::ResponseChunk { bytes: chunk, end: false });
        let number = gateway.chat();
        assert!(gateway.flight(number).went() && gateway.probes.is_empty());
    }
    // While somebody waits, too.
    gateway.proxy.now += 6 * SECOND;
    let late = gateway.chat();
    assert!(!gateway.flight(late).went() && gateway.probes.len() == 1);
    gateway.tell(first, Event::ResponseChunk { bytes: chunk, end: false });
    gateway.pass(1);
    assert!(gateway.flight(late).went(), "and the probe is not waited for");
}

/// What its body says is worked into it before it waits.
#[test]
fn what_has_waited_goes_on_as_it_is_written() {
    let model = r#","output":{"max":50},"versions":[{"name":"a","weight":1,"model":"llama"}]"#;
    let mut gateway = Gateway::new(&config("", model));
    let stream = chat(1).replace("\"max_tokens\"", "\"stream\":true,\"max_tokens\"");
    let number = gateway.send(&[], &stream);
    assert!(gateway.flight(number).exchange.is_holding());
    let spliced = |gateway: &Gateway| {
        let splices = gateway.flight(number).seen.iter().find_map(|effect| match effect {
            Effect::Splice(splices) => Some(splices.clone()),
            _ => None,
        });
        let mut body = stream.clone().into_bytes();
        let mut splices = splices?;
        splices.sort_by_key(|splice| splice.at.start);
        for splice in splices.into_iter().rev() {
            body.splice(splice.at, splice.with);
        }
        serde_json::from_slice::<serde_json::Value>(&body).ok()
    };
    assert_eq!(spliced(&gateway), None, "it has not gone on");
    gateway.answer(Answer::Status(200));
    let body = spliced(&gateway).unwrap();
    assert_eq!((&body["model"], &body["max_tokens"]), (&"llama".into(), &50.into()));
    assert_eq!(body["stream_options"]["include_usage"], true);
    // The usage that nobody but the filter asked for does not get to the client.
    let headers: Headers =
        vec![(":status".into(), b"200".to_vec()), ("content-type".into(), b"text/event-stream".to_vec())];
    gateway.tell(number, Event::ResponseHead { headers: &headers, end: false });
    let usage = format!("data: {}\n\ndata: [DONE]\n\n", USAGE.replace(r#"[{"message":{"content":"Hi"}}]"#, "[]"));
    gateway.tell(number, Event::ResponseChunk { bytes: usage.as_bytes(), end: true });
    let bytes = gateway.flight(number).seen.iter().rev().find_map(|effect| match effect {
        Effect::ResponseBytes(bytes) => Some(bytes.clone()),
        _ => None,
    });
    assert_eq!(bytes.as_deref(), Some(&b"data: [DONE]\n\n"[..]));
}
