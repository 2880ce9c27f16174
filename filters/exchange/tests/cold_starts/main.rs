//! Requests that wait for a version that has no server: who waits, in which order they go, and what is refused.

#![allow(clippy::disallowed_types, reason = "what runs in tests may use the standard maps")]

mod ends_once;
mod gateway;
mod shares;
#[path = "../sim/mod.rs"]
mod sim;

use std::collections::HashMap;

use penstock_exchange::{
    Call, CallAnswer, CallId, CallMessage, Config, Effect, Event, Headers, Held, Labels, Level, Metric, Outcome, Plugin,
};

use gateway::{Answer, CHAT, Gateway, NO_HOST, USAGE, config, demand, left, waits, wants_ticks};
use sim::{Flight, Proxy, SECOND};

#[test]
fn the_first_request_waits_for_one_probe_and_a_warm_version_for_none() {
    let mut gateway = Gateway::new(&config("", ""));
    let first = gateway.chat();
    let second = gateway.chat();
    let [(.., Call { hold, cluster, message, .. }, _)] = &gateway.probes[..] else { panic!("one probe") };
    let CallMessage::Http { headers, body } = message else { panic!("by HTTP") };
    let header = |name: &str| headers.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str());
    assert_eq!((header(":method"), header(":path"), body.len(), *hold), (Some("GET"), Some("/health"), 0, false));
    assert_eq!(
        (header(":authority"), cluster.as_str()),
        (Some("chat.llm.svc.cluster.local"), "outbound|8000||chat.llm.svc.cluster.local")
    );
    assert!(gateway.went.is_empty() && gateway.flight(first).exchange.is_holding());
    gateway.answer(Answer::Status(204));
    assert_eq!(gateway.went, [first, second]);
    // What is heard of a server keeps the gate open, and silence closes it.
    for _ in 0..10 {
        let number = gateway.chat();
        assert!(gateway.probes.is_empty() && gateway.flight(number).went());
        gateway.proxy.now += 4 * SECOND;
        gateway.finish(number);
    }
    gateway.proxy.now += 5 * SECOND;
    let late = gateway.chat();
    assert!(!gateway.flight(late).went() && gateway.probes.len() == 1);
    // A client that left before the answer takes nothing with it.
    gateway.answer(Answer::Status(200));
    assert!(gateway.flight(late).went());
}

/// Whoever waits is pending: counted as admitted, in the gauges at the next tick, and its age grows.
#[test]
fn what_waits_is_pending_at_the_next_tick() {
    let mut gateway = Gateway::new(&config("", ""));
    let numbers = [gateway.chat(), gateway.chat(), gateway.chat()];
    gateway.answer(Answer::Status(503));
    let admitted: u64 = gateway
        .proxy
        .tick()
        .iter()
        .map(|effect| match effect {
            Effect::Count(id, by) => match gateway.proxy.worker.series.series(*id) {
                Some((Metric::Admitted, labels)) if labels[2] == "prompt" => *by,
                _ => 0,
            },
            _ => 0,
        })
        .sum();
    assert_eq!(admitted, 24);
    gateway.pass(6);
    assert_eq!(gateway.gauge(Metric::PendingTokens, "chat default prefill"), 24);
    assert_eq!(gateway.gauge(Metric::PendingTokens, "chat default decode"), 276);
    assert_eq!(gateway.gauge(Metric::PendingRequests, "chat default"), 3);
    assert_eq!(gateway.gauge(Metric::OldestWait, "chat default"), 3000);
    gateway.answer(Answer::Status(200));
    assert_eq!(gateway.went, numbers);
    for number in numbers {
        gateway.finish(number);
        let flight = gateway.flight(number);
        assert_eq!(flight.facts().outcome, Some(Outcome::Ok));
        assert_eq!(flight.facts().held.map(|held| (held.waits, held.ms.0)), Some((false, 3000)));
    }
    assert_eq!((gateway.gauge(Metric::PendingRequests, "chat default"), gateway.permits()), (0, 0));
    assert_eq!(left(&mut gateway), 100_000 - 400, "they were charged what they used, once");
}

#[test]
fn who_waits_for_too_long_is_refused_is_charged_nothing_and_is_counted_once() {
    let mut gateway = Gateway::new(&config(r#","hold":"5s""#, ""));
    let number = gateway.chat();
    gateway.answer(Answer::Nothing);
    gateway.pass(9);
    assert_eq!(gateway.status(number), None);
    gateway.pass(1);
    let (status, headers, body) = gateway.flight(number).reply().unwrap();
    assert_eq!((status, headers["retry-after"].as_str()), (503, "10"));
    let message = body["error"]["message"].as_str().unwrap();
    assert_eq!(message, r#""chat" has no server at the moment, and none came within 5 s; try again later"#);
    // The proxy tells the answer to the filters as any other.
    gateway.answer_with(number, 503, "penstock", "{}");
    let flight = gateway.flight(number);
    assert_eq!(demand(flight), [("chat no_backend".to_owned(), 100)]);
    assert_eq!(flight.facts().refused, Some(Outcome::Shed));
    assert_eq!(flight.facts().used, None);
    let reasons: Vec<Labels> = flight.counted(Metric::Refused).into_iter().map(|(labels, _)| labels).collect();
    assert_eq!(reasons[0][2], "no_backend");
    assert_eq!((gateway.gauge(Metric::PendingRequests, "chat default"), gateway.permits()), (0, 0));
    assert_eq!(left(&mut gateway), 100_000 - 100, "only the one that asks");
}

#[test]
fn a_client_that_leaves_is_dropped_and_refunded() {
    let mut gateway = Gateway::new(&config("", r#",{"name":"streams","concurrent":2}"#));
    let (first, second) = (gateway.chat(), gateway.chat());
    gateway.answer(Answer::Status(503));
    // The one that sent the probe leaves, with another probe under way.
    gateway.pass(1);
    assert_eq!(gateway.probes.len(), 1);
    let asked = gateway.probes[0].0;
    let stays = if asked == first { second } else { first };
    gateway.close(asked);
    let left_one = gateway.flight(asked);
    assert_eq!(left_one.facts().outcome, Some(Outcome::Abandoned));
    assert_eq!((left_one.facts().used, demand(left_one)), (None, vec![]));
    assert_eq!(gateway.gauge(Metric::PendingRequests, "chat default"), 1);
    let third = gateway.chat();
    assert_eq!(gateway.status(third), None, "its permit is free");
    // The answer to a probe is everybody's.
    gateway.answer(Answer::Status(200));
    assert_eq!(gateway.went, [stays, third]);
    for number in [stays, third] {
        gateway.finish(number);
    }
    assert_eq!((gateway.permits(), left(&mut gateway)), (0, 100_000 - 300));
}

#[test]
fn a_probe_that_never_answers_is_given_up_and_sent_again() {
    let mut gateway = Gateway::new(&config(r#","hold":"30s""#, ""));
    let number = gateway.chat();
    assert_eq!(gateway.probes.len(), 1);
    // Nothing is said of it, not even that its time is over.
    gateway.probes.clear();
    gateway.pass(3);
    assert!(gateway.probes.is_empty(), "it is still waited for");
    gateway.pass(1);
    assert_eq!(gateway.probes.len(), 1);
    // Told to have failed, and then answered when nobody waits for it any more.
    let (_, id, ..) = gateway.probes[0].clone();
    gateway.answer(Answer::Nothing);
    let headers: Headers = vec![(":status".into(), b"200".to_vec())];
    gateway.tell(number, Event::CallDone { id, answer: Some(CallAnswer::Http { headers: &headers, body: b"" }) });
    assert!(!gateway.flight(number).went());
    for _ in 0..52 {
        gateway.pass(1);
        gateway.answer(Answer::Nothing);
        assert_eq!(gateway.status(number), None);
    }
    gateway.pass(5);
    assert_eq!(gateway.status(number), Some(503));
}

#[test]
fn how_many_wait_is_bounded_over_all_workers_and_memory_too() {
    let mut gateway = Gateway::new(&config(r#","maxHeld":3,"maxHeldBytes":"64Ki""#, ""));
    let first = gateway.chat();
    // Nobody knows that there is no server: who has no room passes as if there was no gate.
    let more: Vec<u32> = (0..3).map(|_| gateway.chat()).collect();
    assert_eq!(gateway.went, [more[2]]);
    gateway.has_no_host(more[2]);
    gateway.answer(Answer::Status(503));
    let over = gateway.chat();
    let (status, headers, body) = gateway.flight(over).reply().unwrap();
    assert_eq!((status, headers["retry-after"].as_str()), (503, "10"));
    assert!(body["error"]["message"].as_str().unwrap().contains("no more requests may wait"));
    assert_eq!(demand(gateway.flight(over)), [("chat no_backend".to_owned(), 100)]);
    gateway.close(over);
    // Another worker of the process counts the same.
    let store = std::mem::take(&mut gateway.proxy.store);
    let mut other = Gateway::of(Proxy::beside(&config(r#","maxHeld":3,"maxHeldBytes":"64Ki""#, ""), store, 8));
    other.proxy.now = gateway.proxy.now;
    let passes = other.chat();
    assert!(other.flight(passes).went(), "it does not know either");
    other.has_no_host(passes);
    let refused = other.chat();
    assert_eq!(other.status(refused), Some(503));
    other.close(refused);
    gateway.proxy.store = std::mem::take(&mut other.proxy.store);
    // By bytes: 63 KiB and one more do not fit beside two small ones.
    gateway.close(first);
    let large = gateway.send(&[], &CHAT.replace("Hello", &"x".repeat(63 << 10)));
    assert_eq!(gateway.status(large), Some(503));
    gateway.close(large);
    let fits = gateway.send(&[], &CHAT.replace("Hello", &"x".repeat(60 << 10)));
    assert_eq!(gateway.status(fits), None);
    // What a worker held that dies is free after a while.
    let store = std::mem::take(&mut gateway.proxy.store);
    let mut heir = Gateway::of(Proxy::beside(&config(r#","maxHeld":3,"maxHeldBytes":"64Ki""#, ""), store, 9));
    heir.proxy.now = gateway.proxy.now + 4 * SECOND;
    for _ in 0..3 {
        let number = heir.chat();
        assert!(!heir.flight(number).went() && heir.status(number).is_none());
    }
}

#[test]
fn a_body_that_comes_after_its_headers_is_counted_too() {
    // The gauge's plugin decides at the headers, as an earlier one has read the request.
    let text = config(r#","maxHeldBytes":"64Ki""#, "");
    let facts = r#"{"tenant":"anonymous","model":"chat","promptTokens":8,"expectedOutput":92}"#;
    let head: Headers = vec![(":method".into(), b"POST".to_vec()), (":path".into(), b"/v1/chat/completions".to_vec())];
    let mut gateway = Gateway::of(Proxy::with(&text, Plugin::PendingGauge));
    for number in 1..=2 {
        gateway.next = number;
        let mut flight = gateway.proxy.open();
        flight.props.0.insert("filter_state.wasm.penstock.exchange".into(), facts.into());
        let out = gateway.proxy.tell(&mut flight, Event::RequestHead { headers: &head, end: false });
        assert!(out.contains(&Effect::Pause) && waits(&flight), "earlier plugins are told that it has not gone on");
        gateway.flights.insert(number, flight);
        gateway.follow(number, &out);
    }
    gateway.answer(Answer::Status(503));
    gateway.tell(1, Event::RequestChunk { bytes: &[b'x'; 40 << 10], end: true });
    assert_eq!(gateway.status(1), None);
    assert!(wants_ticks(gateway.flight(1)), "a body that begins ends no waiting");
    gateway.tell(2, Event::RequestChunk { bytes: &[b'x'; 40 << 10], end: true });
    assert_eq!(gateway.status(2), Some(503));
    gateway.close(2);
    gateway.pass(1);
    gateway.answer(Answer::Status(200));
    assert_eq!(gateway.went, [1]);
    assert!(!waits(gateway.flight(1)));
    gateway.finish(1);
    assert_eq!(gateway.permits(), 0);
}

/// In a row of plugins those in front of the one that holds believe it, and charge nothing.
#[test]
fn an_earlier_plugin_charges_nothing_for_what_was_held_and_left() {
    for (held, charged) in [(true, 0), (false, 8)] {
        let mut proxy = Proxy::with(&config("", ""), Plugin::TenantBucket);
        let mut flight = proxy.chat(&[], CHAT);
        assert!(flight.went());
        let mut facts = flight.facts();
        facts.held = held.then(|| Box::new(Held { waits: true, ..Held::default() }));
        flight.props.0.insert("filter_state.wasm.penstock.exchange".into(), facts.encode());
        flight.props.0.insert("response.code_details".into(), "downstream_remote_disconnect".into());
        proxy.close(&mut flight);
        assert_eq!(flight.facts().outcome, Some(Outcome::Abandoned));
        let mut next = proxy.chat(&[], CHAT);
        proxy.answer(&mut next, 200, USAGE);
        let left: u64 = next.response_header("x-ratelimit-remaining-tokens").unwrap().parse().unwrap();
        assert_eq!(left, 100_000 - 100 - charged, "{held}");
    }
}

#[test]
fn an_answer_to_an_earlier_request_lets_those_go_that_wait() {
    let mut gateway = Gateway::new(&config("", ""));
    let long = gateway.chat();
    gateway.answer(Answer::Status(200));
    gateway.proxy.now += 30 * SECOND;
    let (first, second) = (gateway.chat(), gateway.chat());
    gateway.answer(Answer::Nothing);
    let headers: Headers = vec![(":status".into(), b"200".to_vec())];
    gateway.tell(long, Event::ResponseHead { headers: &headers, end: false });
    // Nobody passes those that wait.
    let third = gateway.chat();
    assert!(!gateway.flight(third).went());
    gateway.pass(1);
    assert_eq!(gateway.went, [long, first, second, third]);
}

#[test]
fn a_request_that_finds_no_host_shuts_the_gate() {
    let mut gateway = Gateway::new(&config("", ""));
    let number = gateway.chat();
    gateway.answer(Answer::Status(200));
    gateway.has_no_host(number);
    let flight = gateway.flight(number);
    assert_eq!(flight.response_header("retry-after").as_deref(), Some("10"));
    assert_eq!(demand(flight), [("chat no_backend".to_owned(), 100)]);
    let next = gateway.chat();
    assert!(!gateway.flight(next).went() && gateway.probes.len() == 1);
    // A server's own 503 neither opens the gate nor shuts it.
    gateway.answer(Answer::Status(200));
    gateway.answer_with(next, 503, "via_upstream", "{}");
    assert_eq!(gateway.flight(next).response_header("retry-after"), None);
    let other = gateway.chat();
    assert!(gateway.flight(other).went());
}

fn warnings(flight: &Flight) -> Vec<String> {
    let warning = |effect: &Effect| match effect {
        Effect::Log(Level::Warn, text) => Some(text.clone()),
        _ => None,
    };
    flight.seen.iter().filter_map(warning).collect()
}

#[test]
fn what_cannot_be_probed_is_not_held_and_the_log_says_so_once() {
    for (answer, said) in [(Answer::NoCluster, "has no cluster"), (Answer::Status(404), "is answered 404")] {
        let mut gateway = Gateway::new(&config(r#","probe":"/helth""#, ""));
        let number = gateway.chat();
        gateway.answer(answer);
        assert!(gateway.flight(number).went());
        let warned = warnings(gateway.flight(number));
        assert!(warned.len() == 1 && warned[0].contains(said), "{warned:?}");
        gateway.proxy.now += 10 * SECOND;
        let next = gateway.chat();
        gateway.answer(answer);
        assert!(gateway.flight(next).went() && warnings(gateway.flight(next)).is_empty());
    }
}

#[test]
fn where_headers_do_not_wait_nothing_is_held_and_the_client_is_told_when_to_come_back() {
    let text = config("", "").replace("\"waitForBody\":true", "\"waitForBody\":false");
    let notices = Config::parse(text.as_bytes()).unwrap().notices.join("\n");
    assert!(notices.contains("coldStart needs headers that wait for the body"), "{notices}");
    let mut gateway = Gateway::new(&text);
    let number = gateway.chat();
    assert!(gateway.flight(number).went() && gateway.probes.is_empty());
    assert!(warnings(gateway.flight(number))[0].contains("coldStart holds no request"));
    gateway.has_no_host(number);
    let flight = gateway.flight(number);
    assert_eq!(flight.response_header("retry-after").as_deref(), Some("10"));
    // A proxy may answer before the body is here.
    let mut early = gateway.proxy.open();
    let head: Headers = vec![(":method".into(), b"POST".to_vec()), (":path".into(), b"/v1/chat/completions".to_vec())];
    gateway.proxy.tell(&mut early, Event::RequestHead { headers: &head, end: false });
    early.props.0.insert("response.code_details".into(), NO_HOST.into());
    gateway.proxy.answer(&mut early, 503, "no healthy upstream");
    assert_eq!(early.response_header("retry-after").as_deref(), Some("10"));
}

#[test]
fn each_version_has_a_gate_of_its_own() {
    let text = r#"{"waitForBody":true,"models":[
        {"name":"chat","coldStart":{"probe":"/up","hold":"9s"},"sticky":[{"header":"x-session"}],"versions":[
            {"name":"stable","weight":1,"coldStart":{"cluster":"a"}},
            {"name":"canary","weight":1,"coldStart":{"cluster":"b","hold":"2s"}}]},
        {"name":"free"}]}"#;
    let mut gateway = Gateway::new(text);
    let mut drawn: HashMap<String, Vec<u32>> = HashMap::new();
    let mut probes: HashMap<String, (u32, CallId)> = HashMap::new();
    for session in 0..20 {
        let number = gateway.send(&[("x-session", &session.to_string())], CHAT);
        for (of, id, call, _) in std::mem::take(&mut gateway.probes) {
            let CallMessage::Http { headers, .. } = &call.message else { panic!() };
            assert!(headers.contains(&(":path", "/up".to_owned())));
            probes.insert(call.cluster, (of, id));
        }
        drawn.entry(gateway.flight(number).facts().version.unwrap()).or_default().push(number);
    }
    assert_eq!((probes.len(), drawn.len()), (2, 2));
    let free = gateway.send(&[], &CHAT.replace("chat", "free"));
    assert!(gateway.flight(free).went(), "a model without a cold start never waits");
    let (of, id) = probes["a"];
    let headers: Headers = vec![(":status".into(), b"200".to_vec())];
    gateway.tell(of, Event::CallDone { id, answer: Some(CallAnswer::Http { headers: &headers, body: b"" }) });
    let (of, id) = probes["b"];
    gateway.tell(of, Event::CallDone { id, answer: None });
    assert_eq!(gateway.went[1..], drawn["stable"]);
    gateway.pass(4);
    for number in &drawn["canary"] {
        assert_eq!(gateway.status(*number), Some(503), "after its own time");
    }
}

/// Streams of an earlier configuration keep it, and their worker.
#[test]
fn a_configuration_that_is_replaced_ends_no_waiting() {
    let mut old = Gateway::new(&config(r#","hold":"20s""#, ""));
    let number = old.chat();
    old.answer(Answer::Nothing);
    let store = std::mem::take(&mut old.proxy.store);
    let mut new = Gateway::of(Proxy::beside(
        r#"{"models":[{"name":"chat"}],"limits":[{"name":"tpm","tokens":100000,"every":"4000h"}]}"#,
        store,
        8,
    ));
    new.proxy.now = old.proxy.now;
    let passes = new.chat();
    assert!(new.flight(passes).went());
    old.proxy.store = std::mem::take(&mut new.proxy.store);
    old.pass(3);
    assert_eq!(old.gauge(Metric::PendingRequests, "chat default"), 1);
    old.answer(Answer::Status(200));
    assert_eq!(old.went, [number]);
    old.finish(number);
    assert_eq!(old.permits(), 0);
}

#[test]
fn what_is_only_observed_is_said_once_and_waits_like_the_rest() {
    let more = r#",{"name":"tiny","tokens":10,"every":"4000h","mode":"observe"}"#;
    let mut gateway = Gateway::new(&config("", more));
    let number = gateway.chat();
    gateway.answer(Answer::Status(503));
    gateway.pass(4);
    gateway.answer(Answer::Status(200));
    assert_eq!(gateway.went, [number]);
    gateway.finish(number);
    let flight = gateway.flight(number);
    assert_eq!(flight.response_header("x-penstock-would").as_deref(), Some("too_large; limit=tiny"));
    assert_eq!(flight.counted(Metric::Observed).len(), 1);
}

/// What waits holds its room, and a server that comes late is not taken for a slow one.
#[test]
fn what_waits_counts_for_the_ceiling() {
    let text = config("", "").replace("\"name\":\"chat\",", "\"name\":\"chat\",\"pending\":{\"ceiling\":250},");
    let mut gateway = Gateway::new(&text);
    let (first, second, third) = (gateway.chat(), gateway.chat(), gateway.chat());
    assert_eq!([first, second, third].map(|number| gateway.status(number)), [None, None, Some(503)]);
    assert_eq!(demand(gateway.flight(third)), [("chat shed".to_owned(), 100)]);
}

#[test]
fn mistakes_are_told_with_path_value_and_fix() {
    let model = |cold: &str| format!(r#"{{"models":[{{"name":"chat","coldStart":{cold}}}]}}"#);
    for (cold, said) in [
        (r#"{}"#, "models[0].coldStart.cluster: missing; write the name of the cluster"),
        (
            r#"{"cluster":"http://chat:8000"}"#,
            r#"models[0].coldStart.cluster: "http://chat:8000" is not the name of a cluster"#,
        ),
        (r#"{"cluster":""}"#, r#"models[0].coldStart.cluster: "" is not the name"#),
        (r#"{"cluster":"outbound|8000|chat"}"#, "write outbound|8000||chat.llm.svc.cluster.local"),
        (r#"{"cluster":"outbound|http||chat"}"#, "is not how Istio calls a cluster"),
        (
            r#"{"cluster":"a","probe":"health"}"#,
            r#"models[0].coldStart.probe: "health" is not a path; write one that begins with a slash"#,
        ),
        (r#"{"cluster":"a","probe":"/a b"}"#, r#""/a b" is not a path"#),
        (r#"{"cluster":"a","hold":"0s"}"#, r#"models[0].coldStart.hold: "0s" is not a duration"#),
        (r#"{"cluster":"a","hold":"500ms"}"#, r#"models[0].coldStart.hold: "500ms" is out of range; write 1s to 1h"#),
        (r#"{"cluster":"a","hold":"2h"}"#, "is out of range"),
        (r#"{"cluster":"a","maxHeld":0}"#, "models[0].coldStart.maxHeld: 0 is out of range; write 1 to 10000"),
        (
            r#"{"cluster":"a","maxHeldBytes":"64MB"}"#,
            r#"models[0].coldStart.maxHeldBytes: "64MB" is not a size from 64Ki to 4Gi"#,
        ),
        (r#"{"cluster":"a","maxHeldBytes":1}"#, r#""1" is not a size"#),
        (r#"{"cluster":"a","maxHeldBytes":-1}"#, "a number of bytes, or text such as 64Mi"),
        (r#"{"cluster":"a","max":1}"#, "unknown field `max`"),
    ] {
        let errors = Config::parse(model(cold).as_bytes()).unwrap_err().to_string();
        assert!(errors.contains(said), "{cold}: {errors}");
    }
    for cold in [
        r#"{"cluster":"outbound|8000|v2|chat.llm.svc.cluster.local"}"#,
        r#"{"cluster":"httproute/llm/chat/rule/0","maxHeldBytes":67108864}"#,
    ] {
        assert!(Config::parse(model(cold).as_bytes()).is_ok(), "{cold}");
    }
    let versions = |cold: &str, stable: &str| {
        let text = format!(
            r#"{{"models":[{{"name":"chat","coldStart":{cold},"versions":[{{"name":"stable","weight":1{stable}}},{{"name":"canary","weight":1}}]}}]}}"#
        );
        Config::parse(text.as_bytes()).map(|config| config.notices.join("\n")).map_err(|errors| errors.to_string())
    };
    let errors = versions(r#"{"hold":"9s"}"#, r#","coldStart":{"cluster":"a"}"#).unwrap_err();
    assert!(errors.starts_with("models[0].versions[1].coldStart.cluster: missing"), "{errors}");
    let shared = r#"models[0].coldStart.cluster: "a" is probed for 2 versions"#;
    assert!(versions(r#"{"cluster":"a"}"#, "").unwrap().contains(shared));
    assert!(!versions(r#"{"cluster":"a"}"#, r#","coldStart":{"cluster":"b"}"#).unwrap().contains("is probed"));
}
