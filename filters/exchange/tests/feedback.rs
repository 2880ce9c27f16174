//! What callers say of answers.

#![allow(clippy::disallowed_types, reason = "what runs in tests may use the standard maps")]

mod sim;

use std::mem::swap;

use penstock_exchange::{Effect, Event, Headers, Metric};
use serde_json::{Value, json};
use sim::{Flight, Proxy, SECOND};

const CHAT: &str = r#"{"model":"chat","messages":[{"role":"user","content":"Hello"}]}"#;
const GOOD: &str = r#"{"choices":[{"message":{"content":"Hi"},"finish_reason":"stop"}]}"#;

fn config(feedback: &Value) -> String {
    json!({
        "tenant": {"from": [{"header": "x-tenant", "trusted": true}], "anonymous": "deny"}, "tenants": {"acme": {}},
        "paths": {"other": "refuse"}, "feedback": feedback,
        "models": [{
            "name": "chat", "guard": {"feedback": {}}, "versions": [{"name": "stable", "weight": 50}, {"name": "canary", "weight": 50}],
        }],
    })
    .to_string()
}

/// The version that served a request, and its name.
fn ask(proxy: &mut Proxy, tenant: &str) -> (String, String) {
    let mut flight = proxy.chat(&[("x-tenant", tenant)], CHAT);
    proxy.answer(&mut flight, 200, GOOD);
    (flight.facts().version.unwrap(), flight.response_header("x-penstock-request-id").unwrap())
}

fn post(proxy: &mut Proxy, tenant: &str, path: &str, body: &str) -> Flight {
    let mut flight = proxy.open();
    let mut head: Headers = vec![(":method".into(), b"POST".to_vec()), (":path".into(), path.as_bytes().to_vec())];
    head.extend((!tenant.is_empty()).then(|| ("x-tenant".to_owned(), tenant.as_bytes().to_vec())));
    proxy.tell(&mut flight, Event::RequestHead { headers: &head, end: false });
    if flight.exchange.is_holding() {
        let (first, rest) = body.as_bytes().split_at(body.len() / 2);
        proxy.tell(&mut flight, Event::RequestChunk { bytes: first, end: false });
        proxy.tell(&mut flight, Event::RequestChunk { bytes: rest, end: true });
    }
    proxy.close(&mut flight);
    flight
}

/// The status, and what the answer says.
fn say(proxy: &mut Proxy, tenant: &str, id: &str, score: f64) -> (u32, String) {
    let body = json!({"request_id": id, "score": score, "comment": "not read"}).to_string();
    let (status, _, body) = post(proxy, tenant, "/penstock/feedback", &body).reply().expect("an answer");
    (status, body.to_string())
}

#[test]
fn each_answer_is_spoken_of_once_and_by_who_got_it() {
    let mut proxy = Proxy::new(&config(&json!({})));
    let (_, id) = ask(&mut proxy, "acme");
    assert_eq!(say(&mut proxy, "acme", &id, 1.0), (200, r#"{"accepted":true}"#.to_owned()));
    for (tenant, id, status, says) in [
        ("acme", id.as_str(), 400, "was said of this request before"),
        ("mallory", &ask(&mut proxy, "acme").1, 403, "somebody else's"),
        ("acme", "f00", 404, "no request has this id"),
        ("acme", &id.replace('a', "b"), 404, "no request has this id"),
        ("", &ask(&mut proxy, "acme").1, 401, "no identity"),
    ] {
        let (got, body) = say(&mut proxy, tenant, id, 1.0);
        assert!(got == status && body.contains(says), "{got} {body}");
    }
    let (_, id) = ask(&mut proxy, "acme");
    for score in [f64::from(2), -1.5] {
        assert_eq!(say(&mut proxy, "acme", &id, score).0, 400);
    }
    for (body, status) in [("", 400), ("{}", 400), ("[1", 400), (&" ".repeat(5000), 413)] {
        assert_eq!(post(&mut proxy, "acme", "/penstock/feedback", body).reply().unwrap().0, status, "{body:.9}");
    }
    proxy.now += 25 * 3600 * SECOND;
    assert!(say(&mut proxy, "acme", &id, 1.0).1.contains("too long ago"));
}

/// What was not answered costs nothing, and says nothing of a version.
#[test]
fn requests_that_were_not_answered_have_no_name() {
    let mut proxy = Proxy::new(&config(&json!({})));
    for status in [400, 404, 429, 500, 503] {
        let mut flight = proxy.chat(&[("x-tenant", "acme")], CHAT);
        proxy.answer(&mut flight, status, "{}");
        assert_eq!(flight.response_header("x-penstock-request-id"), None, "{status}");
    }
    // Nor do names tell which version served: two of them are alike in what is the caller's alone.
    let names: Vec<_> = (0..40).map(|_| ask(&mut proxy, "acme").1).collect();
    let parts = |from: usize| names.iter().map(|name| &name[from..from + 16]).collect::<std::collections::HashSet<_>>();
    assert_eq!((parts(18).len(), parts(34).len()), (40, 1));
}

#[test]
fn it_is_off_unless_it_is_configured_and_then_where_it_is() {
    let mut off = Proxy::new(&config(&Value::Null));
    let mut flight = off.chat(&[("x-tenant", "acme")], CHAT);
    off.answer(&mut flight, 200, GOOD);
    assert_eq!(flight.response_header("x-penstock-request-id"), None);
    assert_eq!(post(&mut off, "acme", "/penstock/feedback", "{}").reply().unwrap().0, 404);
    let mut on = Proxy::new(&config(&json!({"path": "/v1/feedback"})));
    let (_, id) = ask(&mut on, "acme");
    let body = json!({"request_id": id, "score": 0}).to_string();
    assert_eq!(post(&mut on, "acme", "/penstock/feedback", &body).reply().unwrap().0, 404);
    let flight = post(&mut on, "acme", "/v1/feedback", &body);
    assert_eq!(flight.reply().unwrap().0, 200);
    assert_eq!(flight.counted(Metric::Feedback)[0].0[2], "bad");
}

/// Another proxy takes what is said where both have the key.
#[test]
fn proxies_with_one_key_take_each_others_names() {
    for (feedback, status) in [(json!({"key": "0123456789abcdef"}), 200), (json!({}), 404)] {
        let mut one = Proxy::new(&config(&feedback));
        let mut other = Proxy::new(&config(&feedback));
        other.store.values.insert("penstock/secret".to_owned(), vec![9; 16]);
        let store = std::mem::take(&mut other.store);
        other = Proxy::beside(&config(&feedback), store, 7);
        let (_, id) = ask(&mut one, "acme");
        assert_eq!(say(&mut other, "acme", &id, 1.0).0, status, "{feedback}");
    }
}

#[test]
fn a_version_that_is_disliked_is_rolled_back() {
    let mut proxy = Proxy::new(&config(&json!({})));
    let mut other = Proxy::beside(&config(&json!({})), std::mem::take(&mut proxy.store), 2);
    swap(&mut other.store, &mut proxy.store);
    proxy.tick();
    proxy.now += 2 * SECOND;
    let mut said = Vec::new();
    for n in 0..256 {
        let (version, id) = ask(&mut proxy, "acme");
        let score = if version == "canary" && n % 2 == 0 { -1.0 } else { 1.0 };
        let body = json!({"request_id": id, "score": score}).to_string();
        let flight = post(&mut proxy, "acme", "/penstock/feedback", &body);
        said.extend(flight.seen.into_iter().filter_map(|effect| match effect {
            Effect::Log(_, text) => Some(text),
            _ => None,
        }));
        if n % 32 == 0 {
            proxy.tick();
        }
    }
    assert!(said.len() == 1 && said[0].contains("by its feedback"), "{said:?}");
    proxy.tick();
    assert!((0..32).all(|_| ask(&mut proxy, "acme").0 == "stable"));
}

/// Who chooses a version says more of itself than of what it chose, unless it probes: then it asks all versions the same.
#[test]
fn a_prober_is_evidence_although_it_chooses() {
    for (tenant, is_evidence) in [("acme", false), ("prober", true)] {
        let mut config: Value = serde_json::from_str(&config(&json!({}))).unwrap();
        config["tenants"] = json!({"acme": {}, "prober": {"probe": true}});
        config["models"][0]["override"] = json!({"header": "x-version", "tenants": ["*"]});
        let mut proxy = Proxy::new(&config.to_string());
        proxy.tick();
        proxy.now += 2 * SECOND;
        let mut said = Vec::new();
        for n in 1..=64 {
            for (version, score) in [("stable", 1.0), ("canary", -1.0)] {
                let mut flight = proxy.chat(&[("x-tenant", tenant), ("x-version", version)], CHAT);
                proxy.answer(&mut flight, 200, GOOD);
                let id = flight.response_header("x-penstock-request-id").unwrap();
                let body = json!({"request_id": id, "score": score}).to_string();
                said.extend(post(&mut proxy, tenant, "/penstock/feedback", &body).said());
            }
            if n % 16 == 0 {
                proxy.tick();
            }
        }
        let is_told = said.iter().any(|text| text.contains("canary") && text.contains("by its feedback"));
        assert_eq!(is_told, is_evidence, "{tenant}");
    }
}

#[test]
fn where_headers_do_not_wait_that_is_told() {
    for (waits, is_told) in [(false, true), (true, false)] {
        let mut config: Value = serde_json::from_str(&config(&json!({}))).unwrap();
        config["waitForBody"] = json!(waits);
        let told = Proxy::new(&config.to_string()).worker.config.notices.concat();
        assert_eq!(told.contains("feedback needs headers that wait for the body"), is_told, "{told}");
    }
}

#[test]
fn mistakes_are_told_with_path_value_and_fix() {
    for (feedback, says) in [
        (json!({"path": "/v1/chat/completions"}), "feedback.path"),
        (json!({"path": "feedback"}), "\"feedback\" is not a path of its own"),
        (json!({"key": "short"}), "feedback.key: 5 characters are not enough; write 16 or more"),
        (json!({"maxAge": "1x"}), "feedback.maxAge"),
        (json!({"negativeBelow": 7}), "feedback.negativeBelow: 7 is out of range"),
    ] {
        let error = penstock_exchange::Config::parse(config(&feedback).as_bytes()).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
}
