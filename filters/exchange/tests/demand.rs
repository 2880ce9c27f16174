//! What is asked of a model, and what it can do: tokens at admission, refused demand, the oldest wait, and replicas' figures.

#![allow(clippy::disallowed_types, reason = "what runs in tests may use the standard maps")]

mod sim;

use std::collections::{HashMap, HashSet};

use penstock_exchange::{Config, Effect, Event, Headers, Labels, Metric, Plugin};
use sim::{Flight, Proxy, SECOND};

/// 8 prompt tokens, and 92 that are expected.
const CHAT: &str = r#"{"model":"chat","max_tokens":92,"messages":[{"role":"user","content":"Hello"}]}"#;
const STREAM: &str = r#"{"model":"chat","stream":true,"max_tokens":92,"messages":[{"role":"user","content":"Hello"}]}"#;
const VERSIONS: &str =
    r#"{"models":[{"name":"chat","versions":[{"name":"a","weight":1},{"name":"b","weight":0}]},{"name":"code"}]}"#;

/// What a tick counts, by metric and labels.
fn counts(proxy: &mut Proxy) -> HashMap<(Metric, String), u64> {
    let mut counts = HashMap::new();
    for effect in proxy.tick() {
        if let Effect::Count(id, by) = effect {
            let (metric, labels) = proxy.worker.series.series(id).unwrap();
            *counts.entry((metric, labels.join(" "))).or_default() += by;
        }
    }
    counts
}

fn gauge(proxy: &mut Proxy, metric: Metric, labels: &str) -> Option<u64> {
    let labels: Labels = labels.split(' ').map(str::to_owned).collect();
    proxy.gauges().get(&(metric, labels)).copied()
}

fn usage(prompt: u64, cached: u64) -> String {
    format!(
        r#"{{"choices":[{{"message":{{"content":"Hi"}}}}],"usage":{{"prompt_tokens":{prompt},"completion_tokens":92,"prompt_tokens_details":{{"cached_tokens":{cached}}}}}}}"#
    )
}

/// Teaches that so many of eight tokens are cached.
fn teach(proxy: &mut Proxy, body: &str, cached: u64) {
    for _ in 0..20_000 {
        let mut flight = proxy.chat(&[], body);
        proxy.answer(&mut flight, 200, &usage(8, cached));
    }
    proxy.tick();
}

/// What was counted as refused demand, by labels.
fn refused(flight: &Flight) -> Vec<(String, u64)> {
    let counted = flight.counted(Metric::RefusedDemand).into_iter();
    counted.map(|(labels, tokens)| (labels.join(" "), tokens)).collect()
}

fn one(what: &str, tokens: u64) -> Vec<(String, u64)> {
    vec![(what.to_owned(), tokens)]
}

#[test]
fn every_series_stands_at_zero_from_load_on() {
    let mut proxy = Proxy::new(VERSIONS);
    let counts = counts(&mut proxy);
    for series in ["chat a", "chat b", "code default"] {
        for kind in ["prompt", "cached", "expected"] {
            assert_eq!(counts.get(&(Metric::Admitted, format!("{series} {kind}"))), Some(&0), "{series} {kind}");
        }
        for metric in [Metric::PendingCached, Metric::OldestWait, Metric::ReplicaPrefill, Metric::ReplicaDecode] {
            assert_eq!(gauge(&mut proxy, metric, series), Some(0), "{metric:?} {series}");
        }
    }
    for labels in ["chat shed", "chat no_backend", "code shed", "code no_backend"] {
        assert_eq!(counts.get(&(Metric::RefusedDemand, labels.to_owned())), Some(&0), "{labels}");
    }
    assert!(self::counts(&mut proxy).is_empty(), "once");
    let mut other = Proxy::with(VERSIONS, Plugin::TokenCounter);
    assert!(self::counts(&mut other).keys().all(|(metric, _)| matches!(metric, Metric::Streams | Metric::Finish)));
}

#[test]
fn what_arrives_is_told_with_the_heartbeat_before_it_is_answered() {
    let mut proxy = Proxy::new(VERSIONS);
    counts(&mut proxy);
    let mut flights: Vec<Flight> = (0..3).map(|_| proxy.chat(&[], CHAT)).collect();
    assert!(flights[0].counted(Metric::Admitted).is_empty());
    let told = counts(&mut proxy);
    let of = |kind: &str| told.get(&(Metric::Admitted, format!("chat a {kind}"))).copied();
    assert_eq!((of("prompt"), of("cached"), of("expected"), told.len()), (Some(24), None, Some(276), 2));
    flights.iter_mut().for_each(|flight| proxy.close(flight));
    assert!(counts(&mut proxy).is_empty());
}

/// What a tick says was admitted, of prompts and answers.
fn admitted(proxy: &mut Proxy, series: &str) -> [u64; 2] {
    let told = counts(proxy);
    ["prompt", "expected"].map(|kind| told.get(&(Metric::Admitted, format!("{series} {kind}"))).copied().unwrap_or(0))
}

#[test]
fn an_answer_is_told_as_long_as_it_was() {
    let mut proxy = Proxy::new(r#"{"models":[{"name":"chat"}]}"#);
    let open = CHAT.replace(r#""max_tokens":92,"#, "");
    let answer = r#"{"choices":[{"message":{"content":"Hi"}}],"usage":{"prompt_tokens":8,"completion_tokens":30}}"#;
    // Over before the tick; and after one that told 256, of which 226 are taken off the next two.
    let mut flight = proxy.chat(&[], &open);
    proxy.answer(&mut flight, 200, answer);
    assert_eq!(admitted(&mut proxy, "chat default"), [8, 30]);
    let mut flight = proxy.chat(&[], &open);
    assert_eq!(admitted(&mut proxy, "chat default"), [8, 256]);
    proxy.answer(&mut flight, 200, answer);
    let _next = proxy.chat(&[], CHAT);
    assert_eq!(admitted(&mut proxy, "chat default"), [8, 0]);
    let _after = [proxy.chat(&[], CHAT), proxy.chat(&[], CHAT)];
    assert_eq!(admitted(&mut proxy, "chat default"), [16, 50]);
}

#[test]
fn what_its_server_refused_was_no_demand_and_what_failed_was() {
    for (status, details, stays) in [
        (400, "via_upstream", false),
        (422, "via_upstream", false),
        (429, "via_upstream", true),
        (500, "via_upstream", true),
        (503, "via_upstream", true),
        (503, "no_healthy_upstream", true),
    ] {
        for is_told in [false, true] {
            let mut proxy = Proxy::new(VERSIONS);
            let mut flight = proxy.chat(&[], CHAT);
            let told = if is_told { admitted(&mut proxy, "chat a") } else { [0, 0] };
            flight.props.0.insert("response.code_details".into(), details.as_bytes().to_vec());
            proxy.answer(&mut flight, status, r#"{"error":{"message":"no"}}"#);
            let _next = proxy.chat(&[], CHAT);
            let after = admitted(&mut proxy, "chat a");
            let all = [told[0] + after[0], told[1] + after[1]];
            assert_eq!(all, if stays { [16, 184] } else { [8, 92] }, "{status} {details} {is_told}");
        }
    }
}

/// Who has a budget, and asks for much that is never generated, is charged next to nothing for it, and asks for nobody either.
#[test]
fn demand_that_is_never_used_moves_nothing_for_long() {
    let config = r#"{"tenant":{"from":[{"header":"x-tenant","trusted":true}]},"tenants":{"acme":{}},"models":[{"name":"chat"}],
        "limits":[{"name":"tpm","per":["tenant"],"tokens":60000,"every":"1m"}]}"#;
    let mut proxy = Proxy::new(config);
    // More than an answer may be, by each way to ask for it.
    let bodies = [r#""max_tokens":59000"#, r#""max_tokens":50000,"min_tokens":50000"#, r#""max_tokens":200,"n":200"#]
        .map(|ask| CHAT.replace(r#""max_tokens":92"#, ask));
    let (mut told, mut most) = (0, 0);
    for i in 0..3000 {
        let mut flight = proxy.chat(&[("x-tenant", "acme")], &bodies[i % 3]);
        assert!(flight.went(), "{i}: {:?}", flight.reply());
        if i % 10 == 0 {
            // It takes its time to say no.
            let [_, expected] = admitted(&mut proxy, "chat default");
            (told, most) = (told + expected, most.max(expected));
        }
        proxy.answer(&mut flight, 400, r#"{"error":{"message":"no"}}"#);
    }
    assert!(told <= 60_000 && most <= 60_000, "{told} {most}");
    // And honest demand is seen again when the sums are even.
    let honest = 2 * 60_000 / 92;
    for _ in 0..honest {
        let mut flight = proxy.chat(&[("x-tenant", "acme")], CHAT);
        assert!(flight.went());
        told += admitted(&mut proxy, "chat default")[1];
        proxy.answer(&mut flight, 200, &usage(8, 0));
        proxy.now += SECOND;
    }
    assert_eq!(told, honest * 92);
}

#[test]
fn cached_prefixes_are_taken_off_what_waits_and_not_off_what_a_ceiling_counts() {
    let config = r#"{"models":[{"name":"chat","pending":{"ceiling":38}}]}"#;
    let mut proxy = Proxy::new(config);
    let short = CHAT.replace("92", "2");
    teach(&mut proxy, &short, 8);
    let flights: Vec<Flight> = (0..3).map(|_| proxy.chat(&[], &short)).collect();
    assert!(flights.iter().all(Flight::went));
    let pending =
        |proxy: &mut Proxy, phase: &str| gauge(proxy, Metric::PendingTokens, &format!("chat default {phase}"));
    // Eight times 160,000 of 176,384 is 7.
    assert_eq!(pending(&mut proxy, "prefill"), Some(3));
    assert_eq!(gauge(&mut proxy, Metric::PendingCached, "chat default"), Some(21));
    assert_eq!(pending(&mut proxy, "decode"), Some(6));
    // 30 are pending with all of their prompts: no room for one more, and there would be for eight if what is cached did not count.
    let full = proxy.chat(&[], &short);
    assert_eq!(full.reply().unwrap().0, 503);
    assert_eq!(refused(&full), one("chat shed", 3));
}

#[test]
fn servers_that_were_not_believed_teach_nothing() {
    let mut proxy = Proxy::new(VERSIONS);
    for _ in 0..1000 {
        let mut flight = proxy.chat(&[], CHAT);
        // No prompt is of no token: what was counted here stands.
        proxy.answer(&mut flight, 200, &usage(0, 1 << 24));
    }
    proxy.tick();
    let _open = proxy.chat(&[], CHAT);
    assert_eq!(gauge(&mut proxy, Metric::PendingCached, "chat a"), Some(0));
}

#[test]
fn a_full_model_is_demand_and_what_a_limit_refuses_is_not() {
    let config = |model: &str, limits: &str| {
        format!(
            r#"{{"tenant":{{"from":[{{"header":"x-tenant","trusted":true}}],"anonymous":"allow"}},"tenants":{{"gone":{{"suspended":true}}}},
            "models":[{{"name":"chat","pending":{{"ceiling":150{model}}}}},{{"name":"small"}},{{"name":"off","suspended":true}}],"limits":[{limits}]}}"#
        )
    };
    let full = |config: &str| {
        let mut proxy = Proxy::new(config);
        assert!(proxy.chat(&[], CHAT).went());
        proxy
    };
    let mut proxy = full(&config("", ""));
    assert_eq!(refused(&proxy.chat(&[], CHAT)), one("chat shed", 100));
    let too_long = CHAT.replace("Hello", &"Hello ".repeat(200));
    for (headers, body) in [
        (&[][..], too_long.as_str()),
        (&[], &CHAT.replace("chat", "off")),
        (&[], &CHAT.replace("chat", "nobody-has-this")),
        (&[("x-tenant", "gone")], CHAT),
        (&[], "{"),
    ] {
        let flight = proxy.chat(headers, body);
        assert!(flight.reply().is_some_and(|(status, ..)| status >= 400), "{body}");
        assert_eq!(refused(&flight), [], "{body}");
    }
    let fallback = config(r#","whenFull":"fallback""#, "").replacen(
        r#""name":"chat","#,
        r#""name":"chat","fallback":"small","#,
        1,
    );
    let served = full(&fallback).chat(&[], CHAT);
    assert!(served.went());
    assert_eq!(refused(&served), one("chat shed", 100), "also where another model serves it");
    let limit = r#"{"name":"tpm","tokens":100,"every":"1h"}"#;
    let limited = full(&config("", limit)).chat(&[], CHAT);
    assert_eq!((limited.reply().unwrap().0, refused(&limited)), (429, vec![]), "full, and over its limit");
    let observed = full(&config(r#","mode":"observe""#, "")).chat(&[], CHAT);
    assert!(observed.went());
    assert_eq!(refused(&observed), []);
}

#[test]
fn what_has_no_host_is_demand() {
    let mut proxy = Proxy::new(VERSIONS);
    let mut fail = |status: u16, details: &str| {
        let mut flight = proxy.chat(&[], CHAT);
        flight.props.0.insert("response.code_details".into(), details.as_bytes().to_vec());
        proxy.answer(&mut flight, status, "no healthy upstream");
        refused(&flight)
    };
    assert_eq!(fail(503, "no_healthy_upstream"), one("chat no_backend", 100));
    assert_eq!(fail(503, "cluster_not_found"), one("chat no_backend", 100));
    assert_eq!(fail(503, "upstream_reset_before_response_started{overflow}"), one("chat shed", 100));
    for (status, details) in
        [(503, "via_upstream"), (404, "route_not_found"), (504, "response_timeout"), (200, "no_healthy_upstream")]
    {
        assert_eq!(fail(status, details), [], "{details}");
    }
}

#[test]
fn of_a_row_the_plugin_that_keeps_what_is_pending_tells() {
    for (plugin, tells) in [(Plugin::PendingGauge, true), (Plugin::TokenCounter, false), (Plugin::CanaryRouter, false)]
    {
        let mut proxy = Proxy::with(VERSIONS, plugin);
        let mut flight = proxy.chat(&[], CHAT);
        flight.props.0.insert("response.code_details".into(), b"no_healthy_upstream".to_vec());
        proxy.answer(&mut flight, 503, "");
        assert_eq!(!refused(&flight).is_empty(), tells, "{plugin:?}");
        let admitted = counts(&mut proxy).into_iter().any(|((metric, _), by)| metric == Metric::Admitted && by > 0);
        assert_eq!(admitted, tells, "{plugin:?}");
    }
}

fn head(proxy: &mut Proxy, flight: &mut Flight) {
    let headers: Headers =
        vec![(":status".into(), b"200".to_vec()), ("content-type".into(), b"text/event-stream".to_vec())];
    proxy.tell(flight, Event::ResponseHead { headers: &headers, end: false });
}

fn token(proxy: &mut Proxy, flight: &mut Flight) {
    let event = b"data: {\"choices\":[{\"delta\":{\"content\":\" token\"}}]}\n\n";
    proxy.tell(flight, Event::ResponseChunk { bytes: event, end: false });
}

#[test]
fn the_oldest_wait_ends_with_the_first_token() {
    let mut proxy = Proxy::new(VERSIONS);
    let wait = |proxy: &mut Proxy| gauge(proxy, Metric::OldestWait, "chat a");
    assert_eq!(wait(&mut proxy), Some(0));
    let mut first = proxy.chat(&[], STREAM);
    proxy.now += 3 * SECOND;
    let mut second = proxy.chat(&[], STREAM);
    proxy.now += SECOND;
    assert_eq!(wait(&mut proxy), Some(4000));
    assert_eq!(gauge(&mut proxy, Metric::OldestWait, "chat b"), Some(0));
    head(&mut proxy, &mut first);
    assert_eq!(wait(&mut proxy), Some(4000), "headers are no token");
    token(&mut proxy, &mut first);
    assert_eq!(wait(&mut proxy), Some(1000));
    proxy.close(&mut second);
    assert_eq!(wait(&mut proxy), Some(0));
}

#[test]
fn what_is_given_of_a_replica_wins_and_a_versions_wins_over_its_models() {
    let given = r#"{"models":[{"name":"chat","replica":{"prefillTokensPerSecond":8000.4,"decodeTokensPerSecond":900},
        "versions":[{"name":"a","weight":1},{"name":"b","weight":0,"replica":{"decodeTokensPerSecond":1234}}]},{"name":"code"}]}"#;
    let mut proxy = Proxy::new(given);
    teach_rates(&mut proxy);
    let figures = |proxy: &mut Proxy, series: &str| {
        [Metric::ReplicaPrefill, Metric::ReplicaDecode].map(|metric| gauge(proxy, metric, series).unwrap())
    };
    assert_eq!(figures(&mut proxy, "chat a"), [8000, 900]);
    assert_eq!(figures(&mut proxy, "chat b"), [8000, 1234]);
    assert_eq!(figures(&mut proxy, "code default"), [0, 0]);
    let mut learnt = Proxy::new(VERSIONS);
    teach_rates(&mut learnt);
    let [prefill, decode] = figures(&mut learnt, "chat a");
    // 1,000 tokens in 100 ms, and of four streams together 40 in a second.
    assert!(prefill.abs_diff(10_000) < 500, "{prefill}");
    assert!(decode.abs_diff(40) < 5, "{decode}");
    assert_eq!(figures(&mut learnt, "chat b"), [0, 0]);
    // A configuration without the version has nothing to say of it.
    let mut store = std::mem::take(&mut learnt.store);
    let mut next = Proxy::new(r#"{"models":[{"name":"other-one"}]}"#);
    std::mem::swap(&mut next.store, &mut store);
    next.worker = penstock_exchange::Worker::new(
        Config::parse(br#"{"models":[{"name":"other-one"}]}"#).unwrap(),
        Plugin::Penstock,
        [1, 2, 3],
        &mut next.store,
    );
    assert_eq!(figures(&mut next, "chat a"), [0, 0], "set, and not left as it was");
}

/// Four streams at a time, of one server: each waits for a tenth of a second, and then brings ten tokens a second.
fn teach_rates(proxy: &mut Proxy) {
    for _ in 0..6 {
        let mut flights: Vec<Flight> = (0..4).map(|_| proxy.chat(&[], STREAM)).collect();
        proxy.now += SECOND / 10;
        for flight in &mut flights {
            flight.props.0.insert("upstream.address".into(), b"10.0.0.1:8000".to_vec());
            head(proxy, flight);
        }
        for i in 0..100 {
            flights.iter_mut().for_each(|flight| token(proxy, flight));
            proxy.now += SECOND / 10;
            if i % 5 == 0 {
                proxy.tick();
            }
        }
        for flight in &mut flights {
            let usage = b"data: {\"choices\":[],\"usage\":{\"prompt_tokens\":1000,\"completion_tokens\":100}}\n\ndata: [DONE]\n\n";
            proxy.tell(flight, Event::ResponseChunk { bytes: usage, end: true });
            proxy.close(flight);
        }
        proxy.tick();
    }
}

#[test]
fn rates_that_are_none_are_refused_with_their_place() {
    for (key, value) in [
        ("prefillTokensPerSecond", "0"),
        ("prefillTokensPerSecond", "-1"),
        ("decodeTokensPerSecond", "0.2"),
        ("decodeTokensPerSecond", "1e300"),
    ] {
        let config = format!(
            r#"{{"models":[{{"name":"chat","replica":{{"{key}":{value}}},"versions":[{{"name":"a","weight":1,"replica":{{"{key}":{value}}}}}]}}]}}"#
        );
        let problems = Config::parse(config.as_bytes()).unwrap_err().0;
        let paths: Vec<&str> = problems.iter().map(|problem| problem.path.as_str()).collect();
        assert_eq!(paths, [format!("models[0].replica.{key}"), format!("models[0].versions[0].replica.{key}")]);
        assert!(
            problems.iter().all(|problem| problem.what.contains("is no rate; write tokens per second")),
            "{problems:?}"
        );
    }
    for value in ["1e999", "Infinity", "NaN", "\"fast\""] {
        let config = format!(r#"{{"models":[{{"name":"chat","replica":{{"prefillTokensPerSecond":{value}}}}}]}}"#);
        assert!(Config::parse(config.as_bytes()).is_err(), "{value}");
    }
}

/// Whatever callers make up, as a model or as who they are, makes no series.
#[test]
fn hostile_names_make_no_series() {
    let config = r#"{"tenant":{"from":[{"header":"x-tenant"}],"anonymous":"allow"},"unknownModel":"observe",
        "models":[{"name":"chat","pending":{"ceiling":1000}}]}"#;
    let mut proxy = Proxy::new(config);
    let mut series: HashSet<String> = HashSet::new();
    let mut note = |proxy: &Proxy, effects: Vec<Effect>| {
        for effect in effects {
            if let Effect::Count(id, _) | Effect::Gauge(id, _) | Effect::Observe(id, _) = effect {
                series.insert(format!("{:?}", proxy.worker.series.series(id).unwrap()));
            }
        }
    };
    for i in 0..100_000 {
        let body = CHAT.replace("chat", &format!("model-{i}"));
        let mut flight = proxy.chat(&[("x-tenant", &format!("tenant-{i}"))], &body);
        flight.props.0.insert("response.code_details".into(), b"no_healthy_upstream".to_vec());
        proxy.answer(&mut flight, 503, "");
        let seen = std::mem::take(&mut flight.seen);
        note(&proxy, seen);
        if i % 1000 == 0 {
            let told = proxy.tick();
            note(&proxy, told);
        }
    }
    assert!(series.len() < 60, "{} {series:?}", series.len());
    assert!(proxy.store.values.len() < 40, "{:?}", proxy.store.values.keys());
}
