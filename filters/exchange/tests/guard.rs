//! Canaries and their guard: workers of one process, whose requests are answered well or badly.

#![allow(clippy::disallowed_types, reason = "what runs in tests may use the standard maps")]

mod sim;

use penstock_exchange::{Effect, Event, Headers, Labels, Metric, Plugin};
use serde_json::{Value, json};
use sim::{Flight, Map, Process, Proxy, SECOND};

const CHAT: &str = r#"{"model":"chat","messages":[{"role":"user","content":"Hello"}]}"#;
const STREAM: &str = r#"{"model":"chat","stream":true,"messages":[{"role":"user","content":"Hello"}]}"#;
const GOOD: &str = r#"{"choices":[{"message":{"content":"Hi"},"finish_reason":"stop"}],"usage":{"prompt_tokens":8,"completion_tokens":2}}"#;
const PIECE: &[u8] = b"data: {\"choices\":[{\"delta\":{\"content\":\"Hi\"}}]}\n\n";
const LAST: &[u8] = b"data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";
const TICK: u64 = SECOND / 2;

fn config(weight: u32, guard: Value) -> String {
    config_of(weight, "llama-r2", guard)
}

fn config_of(weight: u32, canary: &str, guard: Value) -> String {
    let versions = json!([
        {"name": "stable", "weight": 100 - weight, "model": "llama"}, {"name": "canary", "weight": weight, "model": canary},
    ]);
    let model = json!({"name": "chat", "versions": versions, "guard": guard, "price": {"input": 1.0, "output": 2.0}});
    json!({"tenant": {"from": [{"header": "x-api-key", "trusted": true}], "anonymous": "allow"}, "tenants": {"acme": {}}, "models": [model]}).to_string()
}

impl Process {
    /// A tick passes on all workers; what they said.
    fn tick(&mut self) -> Vec<String> {
        self.now += TICK;
        let mut said = Vec::new();
        for worker in 0..self.workers.len() {
            said.extend(self.on(worker, Proxy::tick).into_iter().filter_map(|effect| match effect {
                Effect::Log(_, text) if text.contains("worse") => Some(text),
                _ => None,
            }));
        }
        said
    }

    fn gauge(&mut self, worker: usize, metric: Metric, labels: &str) -> Option<u64> {
        let labels: Labels = labels.split(' ').map(str::to_owned).collect();
        self.on(worker, |proxy| proxy.gauges().get(&(metric, labels)).copied())
    }

    fn state(&mut self) -> Option<u64> {
        self.gauge(0, Metric::CanaryState, "chat canary")
    }

    /// Sends requests to the workers in turn, and answers each by the version that serves it, a tick passing after each thirty-two. What
    /// was said in the end, and how many of the last 32 the canary had.
    fn serve(
        &mut self,
        requests: usize,
        mut answer: impl FnMut(&mut Proxy, &mut Flight, bool, usize),
    ) -> (Vec<String>, usize) {
        let (mut said, mut last) = (Vec::new(), 0);
        for n in 0..requests {
            let worker = n % self.workers.len();
            let is_canary = self.on(worker, |proxy| {
                let mut flight = proxy.chat(&[], CHAT);
                let is_canary = flight.facts().version.as_deref() == Some("canary");
                answer(proxy, &mut flight, is_canary, n);
                is_canary
            });
            last += usize::from(is_canary);
            if n % 32 == 31 {
                said.extend(self.tick());
                last = if n + 1 == requests { last } else { 0 };
            }
        }
        (said, last)
    }
}

fn well(proxy: &mut Proxy, flight: &mut Flight, _: bool, _: usize) {
    proxy.answer(flight, 200, GOOD);
}

/// Of the canary's requests six in ten fail, and of the others one in a hundred.
fn canary_fails(proxy: &mut Proxy, flight: &mut Flight, is_canary: bool, n: usize) {
    let fails = if is_canary { n % 10 < 6 } else { n.is_multiple_of(100) };
    if fails { proxy.answer(flight, 500, "{}") } else { proxy.answer(flight, 200, GOOD) }
}

fn stream(proxy: &mut Proxy, flight: &mut Flight) {
    let head: Headers =
        vec![(":status".into(), b"200".to_vec()), ("content-type".into(), b"text/event-stream".to_vec())];
    proxy.tell(flight, Event::ResponseHead { headers: &head, end: false });
}

fn piece(proxy: &mut Proxy, flight: &mut Flight, bytes: &[u8], end: bool) {
    proxy.tell(flight, Event::ResponseChunk { bytes, end });
}

#[test]
fn a_canary_that_fails_is_rolled_back_on_all_workers_while_its_streams_finish() {
    let mut process = Process::new(&config(25, json!({})), 4);
    assert_eq!((process.state(), process.gauge(3, Metric::CanaryState, "chat canary")), (Some(0), Some(0)));
    // A stream that is under way, served by the canary.
    let mut under_way = loop {
        let mut flight = process.on(0, |proxy| proxy.chat(&[], STREAM));
        if flight.facts().version.as_deref() == Some("canary") {
            break flight;
        }
        process.on(0, |proxy| proxy.answer(&mut flight, 200, GOOD));
    };
    process.on(0, |proxy| {
        stream(proxy, &mut under_way);
        piece(proxy, &mut under_way, PIECE, false);
    });
    let (said, last) = process.serve(2048, canary_fails);
    let [line] = said.as_slice() else { panic!("{said:?}") };
    assert!(
        line.starts_with("chat canary is rolled back: worse than the stable version by its errors, after "),
        "{line}"
    );
    let after: u64 = line.split("after ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
    assert!((5..100).contains(&after), "{line}");
    assert_eq!(last, 0, "nobody is drawn for it");
    for worker in 0..4 {
        assert_eq!(process.gauge(worker, Metric::CanaryState, "chat canary"), Some(2));
        assert!(
            process.gauge(worker, Metric::CanaryEvidence, "chat canary errors").is_some_and(|percent| percent >= 100)
        );
    }
    // Who would have had it is told so, and who would not is not.
    let told: Vec<Option<String>> = (0..64)
        .map(|_| {
            process.on(1, |proxy| {
                let mut flight = proxy.chat(&[], CHAT);
                proxy.answer(&mut flight, 200, GOOD);
                assert_eq!(flight.response_header("x-penstock-version").as_deref(), Some("stable"));
                flight.response_header("x-penstock-rolled-back")
            })
        })
        .collect();
    let moved = told.iter().flatten().count();
    assert!((4..32).contains(&moved) && told.iter().flatten().all(|version| version == "canary"), "{told:?}");
    process.on(0, |proxy| {
        piece(proxy, &mut under_way, LAST, true);
        proxy.close(&mut under_way);
    });
    let facts = under_way.facts();
    assert_eq!((facts.outcome.map(|outcome| outcome.label()), facts.version.as_deref()), (Some("ok"), Some("canary")));
}

/// What one worker finds out is in force on the others when each of them has had its next tick.
#[test]
fn a_roll_back_is_in_force_within_two_ticks() {
    let mut process = Process::new(&config(50, json!({})), 2);
    process.tick();
    // Only the second worker has requests, and all of them have ended by its next tick.
    for n in 0..400 {
        process.on(1, |proxy| {
            let mut flight = proxy.chat(&[], CHAT);
            let is_canary = flight.facts().version.as_deref() == Some("canary");
            canary_fails(proxy, &mut flight, is_canary, n);
        });
    }
    let drawn = |process: &mut Process, worker: usize| {
        let versions = (0..32).map(|_| {
            process.on(worker, |proxy| {
                let mut flight = proxy.chat(&[], CHAT);
                proxy.close(&mut flight);
                flight.facts().version
            })
        });
        versions.flatten().filter(|version| version == "canary").count()
    };
    assert!(drawn(&mut process, 0) > 0 && drawn(&mut process, 1) > 0);
    // The first one ticks before the second.
    process.tick();
    assert!(drawn(&mut process, 0) > 0 && drawn(&mut process, 1) == 0);
    process.tick();
    assert_eq!([0, 1].map(|worker| drawn(&mut process, worker)), [0, 0]);
}

#[test]
fn one_that_is_as_good_runs_and_is_ready_when_it_has_baked() {
    let guard = json!({"minRequests": 100, "bakeFor": "1h"});
    let mut process = Process::new(&config(25, guard), 2);
    let both_fail = |proxy: &mut Proxy, flight: &mut Flight, _: bool, n: usize| {
        proxy.answer(flight, if n.is_multiple_of(20) { 503 } else { 200 }, GOOD);
    };
    let (said, last) = process.serve(2048, both_fail);
    assert!(said.is_empty() && last > 0, "{said:?}");
    assert_eq!(process.state(), Some(1));
    process.now += 3600 * SECOND;
    process.tick();
    assert_eq!(process.state(), Some(3));
    // Ready is no promise.
    let (said, _) = process.serve(1024, canary_fails);
    assert_eq!((said.len(), process.state()), (1, Some(2)));
}

/// Late is what is overdue, before anything has ended.
#[test]
fn streams_that_do_not_begin_are_found_while_they_hang() {
    let mut process = Process::new(&config(50, json!({"ttft": {"slowerThanMs": 2000}})), 2);
    let mut hanging = Vec::new();
    let mut said = Vec::new();
    for n in 0..256 {
        let flight = process.on(n % 2, |proxy| {
            let mut flight = proxy.chat(&[], STREAM);
            if flight.facts().version.as_deref() == Some("canary") {
                return Some(flight);
            }
            stream(proxy, &mut flight);
            piece(proxy, &mut flight, PIECE, false);
            piece(proxy, &mut flight, LAST, true);
            proxy.close(&mut flight);
            None
        });
        hanging.extend(flight);
        if n % 32 == 31 {
            said.extend(process.tick());
        }
    }
    for _ in 0..5 {
        said.extend(process.tick());
    }
    assert!(said.len() == 1 && said[0].contains("by its ttft"), "{said:?}");
    assert_eq!(process.state(), Some(2));
}

#[test]
fn a_version_that_begins_late_is_found_and_long_prompts_say_nothing() {
    let guard = json!({"ttft": {"slowerThanMs": 2000, "promptTokensMax": 20}});
    let long = STREAM.replace("Hello", &"Hello ".repeat(50));
    for (body, is_found) in [(STREAM, true), (long.as_str(), false)] {
        let mut process = Process::new(&config(50, guard.clone()), 1);
        let mut said = Vec::new();
        for n in 0..128 {
            let mut flight = process.on(0, |proxy| proxy.chat(&[], body));
            process.now +=
                if flight.facts().version.as_deref() == Some("canary") { 2_100 } else { 1_900 } * SECOND / 1000;
            process.on(0, |proxy| {
                stream(proxy, &mut flight);
                piece(proxy, &mut flight, PIECE, false);
                piece(proxy, &mut flight, LAST, true);
                proxy.close(&mut flight);
            });
            // Ticks come in between, and before the answer.
            if n % 2 == 0 {
                said.extend(process.tick());
            }
        }
        assert_eq!(said.iter().any(|line| line.contains("by its ttft")), is_found, "{said:?}");
    }
}

/// None of this is the version's doing, or can be told from what a caller does.
#[test]
fn what_a_caller_can_bring_about_alone_is_no_evidence() {
    type Ends = fn(&mut Proxy, &mut Flight);
    let leaves: Ends = |proxy, flight| {
        stream(proxy, flight);
        piece(proxy, flight, PIECE, false);
        flight.props.0.insert("response.code_details".into(), b"downstream_remote_disconnect".to_vec());
        proxy.close(flight);
    };
    let breaks: Ends = |proxy, flight| {
        stream(proxy, flight);
        piece(proxy, flight, PIECE, false);
        proxy.close(flight);
    };
    let trips: Ends = |proxy, flight| {
        let details = b"upstream_reset_before_response_started{overflow}".to_vec();
        flight.props.0.insert("response.code_details".into(), details);
        proxy.answer(flight, 503, "");
    };
    let lacks: Ends = |proxy, flight| {
        flight.props.0.insert("response.code_details".into(), b"no_healthy_upstream".to_vec());
        proxy.answer(flight, 503, "");
    };
    let overruns: Ends = |proxy, flight| {
        flight.props.0.insert("response.code_details".into(), b"response_timeout".to_vec());
        proxy.answer(flight, 504, "");
    };
    let fails: Ends = |proxy, flight| proxy.answer(flight, 500, "{}");
    let long = CHAT.replace("Hello", &"Hello ".repeat(200));
    let large = CHAT.replace(r#""messages""#, r#""max_tokens":100000,"messages""#);
    let acme = [("x-api-key", "acme")];
    for (what, headers, body, ends, is_evidence) in [
        ("the client left", [].as_slice(), STREAM, leaves, false),
        ("the server broke off", &[], STREAM, breaks, true),
        ("the proxy's own bounds", &[], CHAT, trips, false),
        ("no server", &[], CHAT, lacks, true),
        ("a timeout", &[], CHAT, overruns, true),
        ("a timeout of what was asked to be long", &[], &large, overruns, false),
        ("a refusal of what was asked", &[], CHAT, |proxy, flight| proxy.answer(flight, 400, "{}"), false),
        ("a refusal of how much was asked", &[], CHAT, |proxy, flight| proxy.answer(flight, 429, "{}"), false),
        ("a prompt that is absurdly long", &[], &long, fails, false),
        ("a failure", &[], CHAT, fails, true),
        ("one of nobody who is known", &[("x-api-key", "mallory")], CHAT, fails, false),
    ] {
        let guard = json!({"promptTokensMax": 150, "tenants": if headers.is_empty() { "all" } else { "named" }});
        let mut process = Process::new(&config(50, guard), 1);
        for n in 0..256 {
            process.on(0, |proxy| {
                let mut flight = proxy.chat(headers, body);
                match flight.facts().version.as_deref() {
                    Some("canary") => ends(proxy, &mut flight),
                    _ => proxy.answer(&mut flight, 200, GOOD),
                }
                let mut other = proxy.chat(&acme, CHAT);
                proxy.answer(&mut other, 200, GOOD);
            });
            if n % 32 == 31 {
                process.tick();
            }
        }
        assert_eq!(process.state(), Some(if is_evidence { 2 } else { 1 }), "{what}");
    }
}

#[test]
fn it_stays_rolled_back_until_the_canary_changes() {
    let before = config(25, json!({}));
    let mut process = Process::new(&before, 2);
    process.serve(1024, canary_fails);
    assert_eq!(process.state(), Some(2));
    for (what, after, state) in [
        ("the same", before.clone(), 2),
        ("more of it", config(75, json!({})), 2),
        ("only observed", config(25, json!({"mode": "observe"})), 1),
        ("enforced again", before.clone(), 2),
        ("another model", config_of(25, "llama-r3", json!({})), 0),
    ] {
        let old = process.load(&after, 2);
        if state == 2 {
            // Also before the first tick.
            assert_eq!(process.serve(31, well).1, 0, "{what}");
        }
        process.tick();
        assert_eq!(process.state(), Some(state), "{what}");
        drop(old);
    }
    let (_, last) = process.serve(1024, well);
    assert!(last > 0);
    // What is set to 0 and tried again is a new trial.
    process.serve(1024, canary_fails);
    assert_eq!(process.state(), Some(2));
    for (weight, state) in [(0, 0), (25, 0)] {
        process.load(&config_of(weight, "llama-r3", json!({})), 2);
        process.tick();
        assert_eq!(process.state(), Some(state), "{weight}");
    }
    assert!(process.serve(64, well).1 > 0);
}

/// Streams live on under the configuration that they began with; what its worker tells no longer counts, and says nothing any more.
#[test]
fn workers_of_an_earlier_configuration_change_nothing() {
    let mut process = Process::new(&config_of(50, "llama-r1", json!({})), 2);
    process.serve(64, well);
    let old = process.load(&config(50, json!({})), 2);
    process.serve(64, well);
    let count = process.workers.len();
    process.workers.extend(old);
    for n in 0..256 {
        process.on(count + n % 2, |proxy| {
            let mut flight = proxy.chat(&[], CHAT);
            let is_canary = flight.facts().version.as_deref() == Some("canary");
            canary_fails(proxy, &mut flight, is_canary, n);
        });
        if n % 32 == 31 {
            assert_eq!(process.tick(), Vec::<String>::new());
        }
    }
    assert_eq!(process.state(), Some(1));
    assert_eq!(process.gauge(count, Metric::CanaryState, "chat canary"), None);
    // Where there is no guard any more, the gauge is zero.
    process.workers.truncate(count);
    process.load(&config(50, Value::Null), 1);
    assert_eq!(process.state(), Some(0));
}

#[test]
fn what_is_only_observed_goes_on() {
    let mut process = Process::new(&config(25, json!({"mode": "observe"})), 2);
    let (said, last) = process.serve(2048, canary_fails);
    assert!(said.len() == 1 && said[0].ends_with("It goes on, as guard.mode is observe"), "{said:?}");
    assert!(last > 0);
    assert_eq!(process.state(), Some(1));
    assert!(process.gauge(0, Metric::CanaryEvidence, "chat canary errors").is_some_and(|percent| percent >= 100));
}

/// A canary that fails in one category only, which is one request in eight, is found there.
#[test]
fn categories_are_compared_by_themselves() {
    let guard = json!({"category": {"header": "X-Use", "values": ["code", "chat"]}});
    let mut process = Process::new(&config(50, guard), 2);
    let mut said = Vec::new();
    for n in 0..2048 {
        process.on(n % 2, |proxy| {
            let is_code = n % 8 == 3;
            let mut flight = proxy.open();
            let value = if is_code { "code" } else { "chat" };
            flight.props.0.insert("request.headers.x-use".into(), value.into());
            proxy.send(&mut flight, CHAT);
            let is_canary = flight.facts().version.as_deref() == Some("canary");
            // As many of the stable version's other requests fail, so that over all there is no difference.
            let fails = if is_canary { is_code } else { n % 8 == 4 };
            if fails { proxy.answer(&mut flight, 500, "{}") } else { proxy.answer(&mut flight, 200, GOOD) }
        });
        if n % 32 == 31 {
            said.extend(process.tick());
        }
    }
    assert!(said.len() == 1 && said[0].contains("in one category (penstock/guard-of/chat/canary/code)"), "{said:?}");
    assert_eq!(process.state(), Some(2));
}

#[test]
fn a_clock_that_jumps_rolls_nothing_back() {
    let mut process = Process::new(&config(50, json!({"ttft": {"slowerThanMs": 2000}})), 1);
    process.serve(256, well);
    for jump in [3600 * SECOND as i64, -2 * 3600 * SECOND as i64, 40 * 86400 * SECOND as i64] {
        let hanging: Vec<Flight> = (0..64).map(|_| process.on(0, |proxy| proxy.chat(&[], STREAM))).collect();
        process.now = process.now.checked_add_signed(jump).unwrap();
        assert_eq!(process.tick(), Vec::<String>::new(), "{jump}");
        for mut flight in hanging {
            process.on(0, |proxy| {
                stream(proxy, &mut flight);
                piece(proxy, &mut flight, PIECE, false);
                piece(proxy, &mut flight, LAST, true);
                proxy.close(&mut flight);
            });
        }
        assert!(process.serve(256, well).1 > 0);
        assert!(process.state() != Some(2), "{jump}");
    }
    // And it still finds what is worse.
    process.serve(1024, canary_fails);
    assert_eq!(process.state(), Some(2));
}

#[test]
fn what_cannot_be_told_now_is_told_later() {
    let mut process = Process::new(&config(50, json!({})), 1);
    process.tick();
    process.store.busy = true;
    for n in 0..256 {
        process.on(0, |proxy| {
            let mut flight = proxy.chat(&[], CHAT);
            let is_canary = flight.facts().version.as_deref() == Some("canary");
            canary_fails(proxy, &mut flight, is_canary, n);
        });
    }
    assert_eq!(process.tick(), Vec::<String>::new());
    process.store.busy = false;
    assert_eq!(process.tick().len(), 1);
    // One that could not even begin does so later.
    let mut process = Process { store: Map { busy: true, ..Map::default() }, workers: Vec::new(), now: process.now };
    process.load(&config(50, json!({})), 1);
    process.tick();
    process.store.busy = false;
    process.tick();
    process.serve(256, canary_fails);
    assert_eq!(process.state(), Some(2));
}

/// A request costs no call of shared data, guarded or not.
#[test]
fn a_request_asks_the_store_for_nothing() {
    let calls = [Value::Null, json!({"ttft": {"slowerThanMs": 2000}})].map(|guard| {
        let mut process = Process::new(&config(50, guard), 1);
        process.tick();
        let before = process.store.calls;
        for _ in 0..64 {
            process.on(0, |proxy| {
                let mut flight = proxy.chat(&[], CHAT);
                proxy.answer(&mut flight, 200, GOOD);
            });
        }
        process.store.calls - before
    });
    assert_eq!(calls[0], calls[1]);
    let process = Process::new(&config(50, Value::Null), 1);
    assert!(process.store.values.keys().all(|key| !key.starts_with("penstock/guard")));
}

#[test]
fn a_canary_that_has_all_the_weight_goes_on_when_it_fails() {
    let mut process = Process::new(&config(100, json!({})), 1);
    let (said, last) = process.serve(512, |proxy, flight, _, _| proxy.answer(flight, 500, "{}"));
    assert!(said.len() == 1 && said[0].contains("than its ceiling allows by its errors"), "{said:?}");
    assert_eq!((last, process.state()), (32, Some(2)));
}

#[test]
fn other_signals_are_read_from_the_answer() {
    let finish = |reason: &str, text: &str| {
        json!({"choices": [{"message": {"content": text}, "finish_reason": reason}], "usage": {"prompt_tokens": 8, "completion_tokens": 2}})
            .to_string()
    };
    let length = |tokens: u64| GOOD.replace(r#""completion_tokens":2"#, &format!(r#""completion_tokens":{tokens}"#));
    let json_mode = CHAT.replace(r#""messages""#, r#""response_format":{"type":"json_object"},"messages""#);
    let ceiling = CHAT.replace(r#""messages""#, r#""max_tokens":2,"messages""#);
    for (signal, guard, body, answer) in [
        (Some("truncated"), json!({"truncated": {}}), CHAT, finish("length", "Hi")),
        (None, json!({"truncated": {}}), &ceiling, finish("length", "Hi")),
        (Some("filtered"), json!({"filtered": {}}), CHAT, finish("content_filter", "Hi")),
        (Some("malformed"), json!({"malformed": {}}), &json_mode, finish("stop", "{\\\"a")),
        (None, json!({"malformed": {}}), CHAT, finish("stop", "{\\\"a")),
        (Some("cost"), json!({"cost": {"cap": 0.001}}), CHAT, length(300)),
        (Some("longer"), json!({"length": {"cap": 1000}}), CHAT, length(300)),
        (None, json!({"length": {"cap": 1000, "worse": "shorter"}}), CHAT, length(300)),
    ] {
        let mut process = Process::new(&config(50, guard), 1);
        // Amounts are looked at when the versions have been drawn for a while.
        process.tick();
        process.now += 400 * SECOND;
        let mut said = Vec::new();
        for n in 0..1024 {
            process.on(0, |proxy| {
                let mut flight = proxy.chat(&[], body);
                let is_canary = flight.facts().version.as_deref() == Some("canary");
                let good = finish("stop", "{}");
                proxy.answer(&mut flight, 200, if is_canary { &answer } else { &good });
            });
            if n % 32 == 31 {
                said.extend(process.tick());
            }
        }
        let found = said.iter().any(|line| signal.is_some_and(|signal| line.contains(&format!("by its {signal}"))));
        assert_eq!((found, said.len()), (signal.is_some(), usize::from(signal.is_some())), "{signal:?} {said:?}");
    }
}

#[test]
fn the_change_of_weights_is_dated() {
    let mut process = Process::new(&config(25, Value::Null), 2);
    process.tick();
    assert_eq!(process.gauge(1, Metric::WeightsChanged, "chat"), Some(0));
    process.load(&config(50, Value::Null), 2);
    process.tick();
    let at = process.now / SECOND;
    process.now += 60 * SECOND;
    assert_eq!([0, 1].map(|worker| process.gauge(worker, Metric::WeightsChanged, "chat")), [Some(at), Some(at)]);
    process.load(&config(50, Value::Null), 2);
    process.now += 60 * SECOND;
    process.tick();
    assert_eq!(process.gauge(1, Metric::WeightsChanged, "chat"), Some(at));
}

/// The plugin that draws is the one that guards.
#[test]
fn other_plugins_take_no_part() {
    let config = config(50, json!({}));
    for (plugin, has) in [(Plugin::CanaryRouter, true), (Plugin::TokenCounter, false), (Plugin::PendingGauge, false)] {
        let mut proxy = Proxy::with(&config, plugin);
        let has_gauge = proxy.gauges().keys().any(|(metric, _)| *metric == Metric::CanaryState);
        assert_eq!(has_gauge, has, "{plugin:?}");
    }
}
