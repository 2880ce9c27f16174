//! What is answered here instead of by a server: how much a prompt costs, and which models there are.

mod sim;

use penstock_exchange::{Effect, Event, Headers, Metric, Plugin};
use serde_json::{Value, json};
use sim::{Flight, Proxy};

const ASK: &str = r#"{"model":"chat","messages":[{"role":"user","content":"Hello, world"}]}"#;

fn send(proxy: &mut Proxy, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Flight {
    let mut flight = proxy.open();
    let pseudo = [(":method", method), (":path", path)];
    let all = pseudo.iter().chain(headers).map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec()));
    let all: Headers = all.collect();
    proxy.tell(&mut flight, Event::RequestHead { headers: &all, end: body.is_empty() });
    if flight.exchange.is_holding() {
        flight.props.1 = body.as_bytes().to_vec();
        proxy.tell(&mut flight, Event::RequestChunk { bytes: body.as_bytes(), end: true });
    }
    flight
}

fn count(proxy: &mut Proxy, body: &str) -> Flight {
    send(proxy, "POST", "/v1/messages/count_tokens?beta=true", &[], body)
}

/// Where the request went: the status of an answer that is given here, or 0.
fn status(flight: &Flight) -> u32 {
    flight.reply().map_or(0, |(status, ..)| status)
}

#[test]
fn a_count_is_what_a_reservation_would_have() {
    let mut proxy = Proxy::new(r#"{"models":[{"name":"chat"}],"limits":[{"name":"all","tokens":1000,"every":"1h"}]}"#);
    let reserved = send(&mut proxy, "POST", "/v1/messages", &[], ASK).facts();
    for _ in 0..300 {
        let mut flight = count(&mut proxy, ASK);
        let (status, headers, body) = flight.reply().unwrap();
        assert_eq!((status, &body), (200, &json!({"input_tokens": reserved.prompt_tokens.0})));
        assert_eq!((headers["x-penstock-estimated"].as_str(), reserved.estimated), ("true", true));
        assert!(!flight.went() && flight.exchange.is_refused());
        proxy.close(&mut flight);
        assert_eq!(flight.counted(Metric::Requests).len() + flight.counted(Metric::Tokens).len(), 0);
    }
    let body = r#"{"model":"chat","input":"Hello, world"}"#;
    let flight = send(&mut proxy, "POST", "/v1/responses/input_tokens", &[], body);
    let reserved = send(&mut proxy, "POST", "/v1/responses", &[], body).facts();
    let answer = json!({"object": "response.input_tokens", "input_tokens": reserved.prompt_tokens.0});
    assert_eq!(flight.reply().unwrap().2, answer);
    // Nothing was charged for any of these, and the first in a row of plugins answers as well.
    let config = r#"{"models":[{"name":"chat"}],"limits":[{"name":"all","concurrent":0}]}"#.replace(":0", ":1");
    let mut first = Proxy::with(&config, Plugin::TokenCounter);
    assert_eq!(status(&count(&mut first, ASK)), 200);
}

#[test]
fn what_a_reservation_refuses_is_not_counted() {
    let body = r#"{"model":"chat","messages":[{"role":"user","content":[
        {"type":"document","source":{"type":"url","url":"https://example.com/a.pdf"}}]}]}"#;
    for (model, expected) in [(r#"{"name":"chat"}"#, 400), (r#"{"name":"chat","media":{"file":5000}}"#, 200)] {
        let config = format!(r#"{{"models":[{model}],"limits":[{{"name":"all","tokens":100000,"every":"1h"}}]}}"#);
        let mut proxy = Proxy::new(&config);
        let reserved = send(&mut proxy, "POST", "/v1/messages", &[], body);
        assert_eq!((status(&count(&mut proxy, body)), reserved.went()), (expected, expected == 200));
    }
}

#[test]
fn counting_is_no_free_work() {
    let config = r#"{"tenant":{"from":[{"header":"x-api-key"}],"anonymous":"allow"},"models":[{"name":"chat"},{"name":"off","suspended":true}],
        "limits":[{"name":"tpm","tokens":100,"every":"100h"},{"name":"streams","concurrent":1}]}"#;
    let mut proxy = Proxy::new(config);
    assert_eq!(status(&count(&mut proxy, &ASK.replace("chat", "who"))), 404);
    assert_eq!(status(&count(&mut proxy, &ASK.replace("chat", "off"))), 503);
    assert_eq!(status(&count(&mut proxy, "nope")), 400);
    let mut held = send(&mut proxy, "POST", "/v1/messages", &[], &ASK.replace("]}", r#"],"max_tokens":50}"#));
    assert_eq!(status(&count(&mut proxy, ASK)), 429);
    proxy.answer(&mut held, 200, r#"{"usage":{"input_tokens":10,"output_tokens":60}}"#);
    assert_eq!(status(&count(&mut proxy, ASK)), 200);
    // A bucket that cannot give one token.
    let mut held = send(&mut proxy, "POST", "/v1/messages", &[], &ASK.replace("]}", r#"],"max_tokens":10}"#));
    proxy.answer(&mut held, 200, r#"{"usage":{"input_tokens":10,"output_tokens":60}}"#);
    assert_eq!(status(&count(&mut proxy, ASK)), 429);
}

#[test]
fn what_is_not_counted_here_the_server_counts() {
    let like = r#"{"models":[{"name":"chat","tokenizer":{"like":"o200k_base"},"versions":[{"name":"v1","weight":1,"model":"real"}]}],
        "limits":[{"name":"all","tokens":1000,"every":"1h"}]}"#;
    let mut proxy = Proxy::new(like);
    let mut flight = count(&mut proxy, ASK);
    assert!(flight.went());
    // Under the name that the server knows.
    let edited = flight.seen.iter().find_map(|effect| match effect {
        Effect::Splice(splices) => Some(penstock_dialects::apply(ASK.as_bytes(), splices.clone())),
        _ => None,
    });
    assert_eq!(serde_json::from_slice::<Value>(&edited.unwrap()).unwrap()["model"], "real");
    proxy.answer(&mut flight, 200, r#"{"input_tokens":99}"#);
    assert_eq!((flight.counted(Metric::Requests).len(), flight.counted(Metric::Tokens).len()), (0, 0));
    for (config, expected) in [("forward", 0), ("refuse", 404), ("answer", 200)] {
        let mut proxy = Proxy::new(&format!(r#"{{"models":[{{"name":"chat"}}],"countEndpoints":"{config}"}}"#));
        let flight = count(&mut proxy, ASK);
        assert_eq!((status(&flight), flight.exchange.is_foreign()), (expected, expected != 404), "{config}");
    }
    // Without models nothing is known here.
    assert!(count(&mut Proxy::new("{}"), ASK).went());
}

/// Whoever counts, it is the same model under the same limits, and nothing of tokens is charged.
#[test]
fn a_count_that_a_server_answers_is_no_free_work_either() {
    let config = |models: &str, rest: &str| {
        format!(
            r#"{{"tenant":{{"from":[{{"header":"x-client","trusted":true}}],"anonymous":"allow"}},
            "tenants":{{"acme":{{"models":["small"]}},"late":{{"suspended":true}}}},"models":[{models},{{"name":"small"}},{{"name":"off","suspended":true}}],
            "limits":[{{"name":"tpm","tokens":100,"every":"100h"}},{{"name":"streams","concurrent":1}}]{rest}}}"#
        )
    };
    for config in [
        config(r#"{"name":"chat"}"#, r#","countEndpoints":"forward""#),
        config(r#"{"name":"chat","tokenizer":{"like":"o200k_base"}}"#, ""),
    ] {
        let mut proxy = Proxy::new(&config);
        let client = |proxy: &mut Proxy, name, body: &str| {
            send(proxy, "POST", "/v1/messages/count_tokens", &[("x-client", name)], body)
        };
        for (name, body, expected) in [
            ("late", ASK.to_owned(), 403),
            ("acme", ASK.to_owned(), 404),
            ("who", ASK.replace("chat", "else"), 404),
            ("who", ASK.replace("chat", "off"), 503),
            ("who", "nope".to_owned(), 400),
            ("who", "{}".to_owned(), 400),
        ] {
            assert_eq!(status(&client(&mut proxy, name, &body)), expected, "{name} {body}");
        }
        // One at a time: the permit is held until it is over, however it ends.
        for ends_well in [true, false, true] {
            let mut held = count(&mut proxy, ASK);
            assert!(held.went() && status(&held) == 0, "{config}");
            assert_eq!(
                (status(&count(&mut proxy, ASK)), status(&send(&mut proxy, "POST", "/v1/messages", &[], ASK))),
                (429, 429)
            );
            if ends_well {
                proxy.answer(&mut held, 200, r#"{"input_tokens":99}"#);
            } else {
                proxy.close(&mut held);
            }
            assert_eq!((held.counted(Metric::Requests).len(), held.counted(Metric::Tokens).len()), (0, 0));
        }
        // All 100 tokens are still there; who is in debt has none to be counted.
        let body = ASK.replace("]}", r#"],"max_tokens":80}"#);
        let mut held = send(&mut proxy, "POST", "/v1/messages", &[], &body);
        assert!(held.went(), "{:?}", held.reply());
        proxy.answer(&mut held, 200, r#"{"usage":{"input_tokens":10,"output_tokens":200}}"#);
        assert_eq!(status(&count(&mut proxy, ASK)), 429);
    }
    // In a row the plugin of the limits holds the permit.
    let config = config(r#"{"name":"chat"}"#, r#","countEndpoints":"forward""#);
    let (mut first, mut second) =
        (Proxy::with(&config, Plugin::TokenCounter), Proxy::with(&config, Plugin::TenantBucket));
    let head = [(":method", "POST"), (":path", "/v1/messages/count_tokens")];
    let head = head.map(|(name, value)| (name.to_owned(), value.as_bytes().to_vec())).to_vec();
    let mut next = |second: &mut Proxy| {
        let flight = count(&mut first, ASK);
        assert!(flight.went());
        let mut next = second.open();
        next.props = flight.props;
        second.tell(&mut next, Event::RequestHead { headers: &head, end: false });
        next
    };
    let mut held = next(&mut second);
    assert_eq!(status(&held), 0);
    assert_eq!(status(&next(&mut second)), 429);
    second.close(&mut held);
    assert_eq!(status(&next(&mut second)), 0);
}

/// A count is no call of a session: it begins none, and leaves no trace of itself.
#[test]
fn a_count_begins_no_session() {
    let config = r#"{"models":[{"name":"chat"}],"limits":[{"name":"agent","per":[{"header":"x-session-id"}],
        "session":{"calls":1,"wallClock":"10s"}}]}"#;
    let mut proxy = Proxy::new(config);
    let session = &[("x-session-id", "a")][..];
    assert_eq!(status(&send(&mut proxy, "POST", "/v1/messages/count_tokens", session, ASK)), 200);
    assert!(!proxy.store.values.keys().any(|key| key.starts_with("penstock/credit")), "nothing is remembered of it");
    proxy.now += 11 * sim::SECOND;
    let mut call = send(&mut proxy, "POST", "/v1/messages", session, ASK);
    assert!(call.went() && status(&call) == 0);
    proxy.answer(&mut call, 200, r#"{"usage":{"input_tokens":10,"output_tokens":1}}"#);
    assert_eq!(status(&send(&mut proxy, "POST", "/v1/messages/count_tokens", session, ASK)), 429);
}

#[test]
fn models_are_those_that_the_tenant_may_use() {
    let config = r#"{"tenant":{"from":[{"header":"x-client","trusted":true}],"anonymous":"allow"},"tenants":{"acme":{"models":["small"]}},
        "models":[{"name":"chat","aliases":["gpt-4","claude-*"],"versions":[{"name":"v1","weight":1,"model":"real"}]},{"name":"small"}]}"#;
    let mut proxy = Proxy::new(config);
    let ids = |flight: &Flight| -> Vec<String> {
        let data = flight.reply().unwrap().2["data"].as_array().unwrap().clone();
        data.iter().map(|model| model["id"].as_str().unwrap().to_owned()).collect()
    };
    let acme = &[("x-client", "acme")][..];
    assert_eq!(ids(&send(&mut proxy, "GET", "/v1/models", &[], "")), ["chat", "gpt-4", "small"]);
    assert_eq!(ids(&send(&mut proxy, "GET", "/v1/models?limit=1000", acme, "")), ["small"]);
    let anthropic = send(&mut proxy, "GET", "/v1/models", &[("anthropic-version", "2023-06-01")], "");
    assert_eq!(anthropic.reply().unwrap().2["has_more"], false);
    for (name, headers, expected) in [
        ("chat", &[][..], 200),
        ("gpt-4", &[], 200),
        ("claude-haiku", &[], 200),
        ("small", acme, 200),
        ("chat", acme, 404),
        ("real", &[], 404),
        ("else", &[], 404),
        ("%00", &[], 0),
    ] {
        let flight = send(&mut proxy, "GET", &format!("/v1/models/{name}"), headers, "");
        assert_eq!(status(&flight), expected, "{name}");
        if expected == 200 {
            assert_eq!(flight.reply().unwrap().2["id"], name);
        }
    }
    for config in [
        r#"{"models":[{"name":"chat"},{"name":"*"}]}"#,
        r#"{"models":[{"name":"chat"}],"modelsEndpoint":"forward"}"#,
        "{}",
    ] {
        assert_eq!(status(&send(&mut Proxy::new(config), "GET", "/v1/models", &[], "")), 0, "{config}");
    }
    // The list is as closed as anything else.
    let mut proxy = Proxy::new(r#"{"tenant":{"from":[{"header":"x-api-key"}]},"models":[{"name":"chat"}]}"#);
    assert_eq!(status(&send(&mut proxy, "GET", "/v1/models", &[], "")), 401);
}
