//! Versions that fail are left alone, by all workers, until they answer again.

#![allow(clippy::disallowed_types, reason = "what runs in tests may use the standard maps")]

mod sim;

use penstock_exchange::{Config, Effect, Event, Headers, Metric};
use serde_json::{Value, json};
use sim::{Flight, Process, Proxy, SECOND};

const CHAT: &str = r#"{"model":"chat","messages":[{"role":"user","content":"Hello"}]}"#;
const GOOD: &str = r#"{"choices":[{"message":{"content":"Hi"},"finish_reason":"stop"}],"usage":{"prompt_tokens":8,"completion_tokens":2}}"#;

fn config(more: &Value, besides: &Value) -> String {
    let mut model =
        json!({"name": "chat", "breaker": {}, "versions": [{"name": "a", "weight": 50}, {"name": "b", "weight": 50}]});
    model.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let mut config = json!({"models": [model, {"name": "small", "output": {"context": 100}}]});
    config.as_object_mut().unwrap().extend(besides.as_object().unwrap().clone());
    config.to_string()
}

/// Two workers of one process.
struct Pair(Process);

impl Pair {
    fn new(more: &Value) -> Self {
        Self::with(more, &json!({}))
    }

    /// With what the configuration has besides the model.
    fn with(more: &Value, besides: &Value) -> Self {
        Self(Process::new(&config(more, besides), 2))
    }

    /// So much time passes, in ticks; what was said.
    fn pass(&mut self, ticks: u64) -> Vec<String> {
        let mut said = Vec::new();
        for worker in (0..ticks).flat_map(|_| [0, 1]) {
            self.0.now += SECOND / 4;
            said.extend(self.0.on(worker, Proxy::tick).into_iter().filter_map(|effect| match effect {
                Effect::Log(_, text) => Some(text),
                _ => None,
            }));
        }
        said
    }

    /// Requests of which each is answered by the status of what serves it; how many each version had, and the model that falls back.
    fn serve(&mut self, worker: usize, requests: usize, status: impl Fn(&str) -> (u16, &'static str)) -> [usize; 3] {
        let mut served = [0; 3];
        for _ in 0..requests {
            self.0.on(worker, |proxy| {
                let mut flight = proxy.chat(&[], CHAT);
                let facts = flight.facts();
                let version = facts.version.unwrap_or(facts.model);
                let (status, asks) = status(&version);
                answer(proxy, &mut flight, status, asks);
                served[["a", "b", "small"].iter().position(|known| *known == version).unwrap()] += 1;
                let fallback = flight.response_header("x-penstock-fallback");
                assert_eq!(fallback.as_deref(), (version == "small").then_some("small"));
            });
        }
        served
    }

    fn is_open(&mut self, version: &str) -> Option<u64> {
        let labels = vec!["chat".to_owned(), version.to_owned()];
        self.0.on(1, |proxy| proxy.gauges().get(&(Metric::BreakerOpen, labels)).copied())
    }
}

fn answer(proxy: &mut Proxy, flight: &mut Flight, status: u16, asks: &str) {
    let mut head: Headers = vec![
        (":status".into(), status.to_string().into_bytes()),
        ("content-type".into(), b"application/json".to_vec()),
    ];
    head.extend((!asks.is_empty()).then(|| ("retry-after".to_owned(), asks.as_bytes().to_vec())));
    proxy.tell(flight, Event::ResponseHead { headers: &head, end: false });
    proxy.tell(flight, Event::ResponseChunk { bytes: if status == 200 { GOOD.as_bytes() } else { b"{}" }, end: true });
    proxy.close(flight);
}

fn b_fails(version: &str) -> (u16, &'static str) {
    if version == "b" { (503, "") } else { (200, "") }
}

fn all_well(_: &str) -> (u16, &'static str) {
    (200, "")
}

#[test]
fn a_version_that_fails_is_left_alone_by_all_workers_and_tried_again() {
    let mut pair = Pair::new(&json!({}));
    assert_eq!((pair.pass(1), pair.is_open("b")), (Vec::new(), Some(0)));
    let [_, b, _] = pair.serve(0, 40, b_fails);
    assert!(b >= 5, "{b}");
    let said = pair.pass(2);
    assert!(said.len() == 1 && said[0].starts_with("chat b fails, and is left alone"), "{said:?}");
    assert_eq!((pair.is_open("b"), pair.is_open("a")), (Some(1), Some(0)));
    // Nobody gets it for the rest of a second; then one, from either worker.
    assert_eq!(pair.serve(1, 40, b_fails), [40, 0, 0]);
    pair.pass(4);
    let tried: usize = [0, 1].map(|worker| pair.serve(worker, 40, b_fails)[1]).iter().sum();
    assert_eq!(tried, 1);
    // That failed, so that it takes twice as long; then it answers.
    pair.pass(1);
    assert_eq!(pair.serve(0, 40, all_well), [40, 0, 0]);
    pair.pass(6);
    assert_eq!(pair.serve(1, 40, all_well)[1], 1);
    assert_eq!(pair.pass(2), ["chat b answers again"]);
    assert!(pair.serve(0, 40, all_well)[1] > 5);
    assert_eq!(pair.is_open("b"), Some(0));
}

#[test]
fn a_server_is_left_alone_for_as_long_as_it_asks() {
    let mut pair = Pair::new(&json!({}));
    pair.serve(0, 40, |version| if version == "b" { (429, "20") } else { (200, "") });
    pair.pass(38);
    assert_eq!(pair.serve(0, 40, all_well), [40, 0, 0]);
    pair.pass(3);
    assert_eq!(pair.serve(0, 40, all_well)[1], 1);
}

#[test]
fn what_the_client_got_wrong_and_some_failures_open_nothing() {
    let mut pair = Pair::new(&json!({}));
    pair.serve(0, 200, |version| if version == "b" { (400, "60") } else { (200, "") });
    pair.pass(2);
    for round in 0..20 {
        pair.serve(round % 2, 4, b_fails);
        pair.serve(round % 2, 12, all_well);
        pair.pass(1);
    }
    assert_eq!(pair.is_open("b"), Some(0));
    let mut observed = Pair::new(&json!({"breaker": {"mode": "observe"}}));
    observed.serve(0, 40, b_fails);
    let said = observed.pass(2);
    assert!(said.len() == 1 && said[0].ends_with("breaker.mode is observe"), "{said:?}");
    assert!(observed.is_open("b") == Some(1) && observed.serve(0, 40, b_fails)[1] > 5);
}

#[test]
fn where_all_versions_fail_none_is_avoided_or_the_fallback_serves() {
    let mut pair = Pair::new(&json!({}));
    pair.serve(0, 80, |_| (500, ""));
    pair.pass(2);
    let [a, b, _] = pair.serve(0, 80, |_| (500, ""));
    assert!(a > 20 && b > 20);
    let mut pair = Pair::new(&json!({"fallback": "small"}));
    pair.serve(0, 80, |_| (500, ""));
    pair.pass(2);
    assert_eq!(pair.serve(1, 40, all_well), [0, 0, 40]);
    // It does not take every prompt.
    let long = CHAT.replace("Hello", &"Hello ".repeat(120));
    let facts = pair.0.on(0, |proxy| proxy.chat(&[], &long).facts());
    assert_eq!((facts.model.as_str(), facts.version.is_some(), facts.prompt_tokens.0 > 100), ("chat", true, true));
    // One request at a time tries, for each version, and then all come back.
    pair.pass(4);
    let [a, b, small] = pair.serve(0, 40, all_well);
    assert_eq!((a + b, small), (2, 38));
    pair.pass(2);
    assert_eq!(pair.serve(1, 40, all_well)[2], 0);
}

#[test]
fn a_model_without_versions_has_a_fallback_too() {
    let config = r#"{"models":[{"name":"chat","breaker":{},"fallback":"small"},{"name":"small"}]}"#;
    let mut proxy = Proxy::new(config);
    let serve = |proxy: &mut Proxy, status: u16| {
        let mut flight = proxy.chat(&[], CHAT);
        answer(proxy, &mut flight, status, "");
        flight.facts().model
    };
    (0..5).for_each(|_| assert_eq!(serve(&mut proxy, 502), "chat"));
    proxy.now += SECOND / 2;
    proxy.tick();
    assert_eq!(serve(&mut proxy, 200), "small");
    proxy.now += SECOND;
    proxy.tick();
    assert_eq!([serve(&mut proxy, 200), serve(&mut proxy, 200)], ["chat", "small"]);
}

/// Requests of a tenant, all of them answered so.
fn send(pair: &mut Pair, tenant: &str, requests: usize, status: u16) {
    for _ in 0..requests {
        pair.0.on(0, |proxy| {
            let mut flight = proxy.chat(&[("x-tenant", tenant)], CHAT);
            answer(proxy, &mut flight, status, "");
        });
    }
}

/// A failure costs nothing, so there is no end to what one caller may bring about; each counts once.
#[test]
fn one_caller_s_failures_are_not_those_of_others() {
    let tenants = ["mallory", "acme", "globex"];
    let mut pair = Pair::with(
        &json!({"fallback": "small"}),
        &json!({
            "tenant": {"from": [{"header": "x-tenant", "trusted": true}]},
            "tenants": tenants.map(|tenant| (tenant.to_owned(), json!({}))).into_iter().collect::<serde_json::Map<_, _>>(),
        }),
    );
    send(&mut pair, "mallory", 300, 503);
    for tenant in ["acme", "globex"] {
        send(&mut pair, tenant, 8, 200);
    }
    pair.pass(2);
    assert_eq!((pair.is_open("a"), pair.is_open("b")), (Some(0), Some(0)));
    // Others as well.
    for tenant in ["acme", "globex"] {
        send(&mut pair, tenant, 16, 503);
    }
    pair.pass(2);
    assert_eq!((pair.is_open("a"), pair.is_open("b")), (Some(1), Some(1)));
}

/// Whoever its limits refuse takes nobody's turn to try.
#[test]
fn refused_requests_try_nothing() {
    let limits = json!({
        "tenant": {"from": [{"header": "x-tenant", "trusted": true}]}, "tenants": {"mallory": {}, "acme": {}},
        "limits": [{"name": "none", "per": ["tenant"], "match": {"tenant": "mallory"}, "tokens": 1, "every": "1h"}],
    });
    let mut pair = Pair::with(&json!({"fallback": "small"}), &limits);
    send(&mut pair, "acme", 80, 500);
    pair.pass(5);
    let ask = |pair: &mut Pair, tenant: &str| {
        pair.0.on(0, |proxy| {
            let mut flight = proxy.chat(&[("x-tenant", tenant)], CHAT);
            let refused = flight.reply().map(|(status, ..)| status);
            if refused.is_none() {
                answer(proxy, &mut flight, 200, "");
            }
            (refused, flight.facts().model)
        })
    };
    for _ in 0..20 {
        assert_eq!(ask(&mut pair, "mallory").0, Some(413));
    }
    assert_eq!(ask(&mut pair, "acme"), (None, "chat".to_owned()));
}

/// What a rule gives its callers is all that they get: they fail there, or the fallback serves, and nothing else does.
#[test]
fn who_has_a_rule_stays_within_it() {
    let rule = json!({"rules": [{"name": "all", "versions": ["b"]}]});
    let mut pair = Pair::new(&rule);
    pair.serve(0, 40, b_fails);
    pair.pass(2);
    assert_eq!((pair.is_open("b"), pair.serve(1, 40, b_fails)), (Some(1), [0, 40, 0]));
    let mut rule = rule;
    rule["fallback"] = json!("small");
    let mut pair = Pair::new(&rule);
    pair.serve(0, 40, b_fails);
    pair.pass(2);
    assert_eq!(pair.serve(1, 40, b_fails), [0, 0, 40]);
}

/// What the guard took back is neither tried nor counted upon.
#[test]
fn a_version_that_is_taken_back_stands_in_for_nobody() {
    let mut pair = Pair::new(&json!({"fallback": "small", "guard": {"errors": {}}}));
    let mut said = pair.pass(8);
    for _ in 0..400 {
        pair.serve(0, 4, b_fails);
        said.extend(pair.pass(4));
        if said.iter().any(|text| text.contains("rolled back")) {
            break;
        }
    }
    assert!(said.iter().any(|text| text.contains("rolled back")), "{said:?}");
    pair.pass(300);
    assert_eq!((pair.is_open("b"), pair.serve(0, 40, all_well)), (Some(0), [40, 0, 0]));
    pair.serve(0, 40, |_| (500, ""));
    pair.pass(2);
    assert_eq!(pair.serve(1, 40, all_well), [0, 0, 40]);
    pair.pass(4);
    let [a, b, small] = pair.serve(0, 40, all_well);
    assert_eq!((a, b, small), (1, 0, 39));
}

/// While nothing fails a request asks for nothing more.
#[test]
fn a_request_pays_nothing_while_all_is_well() {
    let mut calls = [json!({}), json!({"fallback": "small"}), json!({"breaker": {"mode": "observe"}})].map(|more| {
        let mut pair = Pair::new(&more);
        pair.pass(2);
        let before = pair.0.store.calls;
        pair.serve(0, 40, all_well);
        pair.0.store.calls - before
    });
    calls.sort_unstable();
    assert_eq!(calls[0], calls[2]);
}

#[test]
fn why_answers_ended_is_counted_from_zero_on() {
    let mut proxy = Proxy::new(&config(&json!({}), &json!({})));
    let counted = |proxy: &mut Proxy| {
        let effects = proxy.tick();
        let counts = effects.into_iter().filter_map(|effect| match effect {
            Effect::Count(id, by) => {
                proxy.worker.series.series(id).map(|(metric, labels)| (metric, labels.join(" "), by))
            }
            _ => None,
        });
        let finish = counts.filter(|(metric, ..)| *metric == Metric::Finish);
        finish.map(|(_, labels, by)| (labels, by)).collect::<Vec<(String, u64)>>()
    };
    let zeros = counted(&mut proxy);
    assert!(zeros.len() == 3 * 8 && zeros.iter().all(|(_, by)| *by == 0), "{zeros:?}");
    for (reason, text) in [("stop", "Hi"), ("length", "Hi"), ("content_filter", "Hi"), ("stop", "Hi"), ("what", "Hi")] {
        let mut flight = proxy.chat(&[], &CHAT.replace("chat", "small"));
        let answer =
            GOOD.replace(r#""finish_reason":"stop""#, &format!(r#""finish_reason":"{reason}""#)).replace("Hi", text);
        proxy.answer(&mut flight, 200, &answer);
    }
    let told = counted(&mut proxy);
    let expected = [("stop", 2), ("length", 1), ("filter", 1), ("other", 1)];
    assert_eq!(told, expected.map(|(reason, by)| (format!("small default {reason}"), by)));
    assert_eq!(counted(&mut proxy), []);
}

#[test]
fn a_breaker_with_nothing_to_steer_to_says_so() {
    let pin = json!({"owns": "pin", "versions": [{"name": "a"}, {"name": "b"}], "sticky": ["tenant"]});
    let one = json!({"versions": []});
    let with = |more: &Value, besides: &Value| {
        let mut more = more.clone();
        more.as_object_mut().unwrap().extend(besides.as_object().unwrap().clone());
        Config::parse(config(&more, &json!({})).as_bytes()).unwrap().notices.concat()
    };
    for (more, says) in [(&pin, "is the route's"), (&one, "has no second version")] {
        let told = with(more, &json!({}));
        assert!(told.contains("models[0].breaker steers nothing") && told.contains(says), "{told}");
        for (key, value) in [("fallback", json!("small")), ("breaker", json!({"mode": "observe"}))] {
            assert!(!with(more, &json!({key: value})).contains("breaker"), "{key}");
        }
    }
    assert!(!with(&json!({}), &json!({})).contains("breaker"));
}
