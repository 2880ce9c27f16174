//! Requests that are held: for their body, and for a service; and the output that is reserved and written alike.

mod sim;

use penstock_exchange::{CallAnswer, CallId, Effect, Event, Headers, Plugin};
use sim::{Flight, Proxy, SECOND};

const CHAT: &str = r#"{"model":"chat","messages":[{"role":"user","content":"Hello, world"}]}"#;
/// 3 for the message, "user" 1, "Hello, world" 3, 3 for the reply.
const PROMPT: u64 = 10;
/// The service says yes.
const YES: CallAnswer<'static> = CallAnswer::Grpc(b"\x08\x01");

fn calls(effects: &[Effect]) -> Vec<CallId> {
    let id = |effect: &Effect| match effect {
        Effect::Call(call) => Some(call.id),
        _ => None,
    };
    effects.iter().filter_map(id).collect()
}

fn begin(proxy: &mut Proxy) -> (Flight, Vec<Effect>) {
    let head: Headers = vec![(":method".into(), b"POST".to_vec()), (":path".into(), b"/v1/chat/completions".to_vec())];
    let mut flight = proxy.open();
    let out = proxy.tell(&mut flight, Event::RequestHead { headers: &head, end: false });
    (flight, out)
}

/// The room that was there when the request came is taken while a service is asked.
#[test]
fn a_model_that_fills_up_during_a_call_falls_back() {
    let config = |when_full: &str| {
        format!(
            r#"{{"models":[{{"name":"chat","output":{{"expect":90}},"pending":{{"ceiling":150,"whenFull":"{when_full}"}},
                "fallback":"small"}},{{"name":"small","versions":[{{"name":"r1","weight":1,"model":"small-r1"}}]}}],
            "mesh":{{"service":"rls"}},
            "limits":[{{"name":"all","tokens":100000,"every":"1h","scope":"mesh","match":{{"model":"chat"}}}}]}}"#
        )
    };
    for when_full in ["fallback", "shed"] {
        let mut proxy = Proxy::new(&config(when_full));
        let mut waits = proxy.chat(&[], CHAT);
        let [id] = calls(&waits.seen)[..] else { panic!("{:?}", waits.seen) };
        // Another one asks as well, is answered first, and takes the room.
        let mut other = proxy.chat(&[], CHAT);
        let [other_id] = calls(&other.seen)[..] else { panic!("{:?}", other.seen) };
        proxy.tell(&mut other, Event::CallDone { id: other_id, answer: Some(YES) });
        assert!(other.went());
        proxy.tell(&mut waits, Event::CallDone { id, answer: Some(YES) });
        if when_full == "shed" {
            assert_eq!(waits.reply().unwrap().0, 503);
            continue;
        }
        assert!(waits.went(), "{:?}", waits.seen);
        assert_eq!(waits.facts().model, "small");
        let sent = waits.seen.iter().find_map(|effect| match effect {
            Effect::Splice(splices) => Some(penstock_dialects::apply(CHAT.as_bytes(), splices.clone())),
            _ => None,
        });
        assert_eq!(String::from_utf8(sent.unwrap()).unwrap(), CHAT.replace("\"chat\"", "\"small-r1\""));
        proxy.answer(&mut waits, 200, r#"{"usage":{"prompt_tokens":10,"completion_tokens":1}}"#);
        assert_eq!(waits.response_header("x-penstock-fallback").as_deref(), Some("small"));
    }
}

#[test]
fn only_the_call_that_is_waited_for_lets_a_request_go() {
    let config = r#"{"models":[{"name":"chat"}],"mesh":{"service":"rls"},
        "limits":[{"name":"one","tokens":1000,"every":"1h","scope":"mesh"},
            {"name":"two","tokens":1000,"every":"1h","scope":"mesh"}]}"#;
    let mut proxy = Proxy::new(config);
    let mut flight = proxy.chat(&[], CHAT);
    let [first] = calls(&flight.seen)[..] else { panic!() };
    proxy.tell(&mut flight, Event::CallDone { id: CallId(first.0 + 7), answer: Some(YES) });
    assert!(flight.exchange.is_holding() && !flight.went());
    let out = proxy.tell(&mut flight, Event::CallDone { id: first, answer: Some(YES) });
    // Every call has a number of its own, and the answer to an earlier one comes too late.
    let [second] = calls(&out)[..] else { panic!("{out:?}") };
    assert_ne!(first, second);
    proxy.tell(&mut flight, Event::CallDone { id: first, answer: Some(YES) });
    assert!(flight.exchange.is_holding());
    // An answer of another kind is none; then onError holds, which here is to limit locally.
    let headers: Headers = vec![(":status".into(), b"200".to_vec())];
    let answer = Some(CallAnswer::Http { headers: &headers, body: b"\x08\x01" });
    proxy.tell(&mut flight, Event::CallDone { id: second, answer });
    assert!(flight.went());
    proxy.tell(&mut flight, Event::CallDone { id: second, answer: Some(YES) });
    assert_eq!(flight.seen.iter().filter(|effect| **effect == Effect::Resume).count(), 1);
}

/// As long as it is not known whether headers may wait, they are held for a tick; where they may, for ten seconds.
#[test]
fn headers_that_wait_for_a_body_are_let_go_by_ticks() {
    let mut proxy = Proxy::new(r#"{"models":[{"name":"chat"}]}"#);
    let (mut flight, out) = begin(&mut proxy);
    assert!(out.contains(&Effect::Ticks(true)) && out.contains(&Effect::Pause));
    assert_eq!(proxy.tell(&mut flight, Event::Tick), []);
    let out = proxy.tell(&mut flight, Event::Tick);
    let dropped = Effect::DropRequestHeader("content-length".into());
    assert_eq!(out, [dropped, Effect::Ticks(false), Effect::Resume]);
    // The body comes late, and is read all the same.
    proxy.now += SECOND;
    assert!(flight.exchange.is_holding());
    proxy.tell(&mut flight, Event::RequestChunk { bytes: CHAT.as_bytes(), end: true });
    assert_eq!(flight.facts().prompt_tokens.0, PROMPT);
    // One whose body begins in time wants no more ticks, and proves that headers may wait.
    let (mut flight, _) = begin(&mut proxy);
    let (head, tail) = CHAT.split_at(9);
    let out = proxy.tell(&mut flight, Event::RequestChunk { bytes: head.as_bytes(), end: false });
    assert_eq!(out, [Effect::Ticks(false)]);
    for _ in 0..100 {
        assert_eq!(proxy.tell(&mut flight, Event::Tick), []);
    }
    proxy.tell(&mut flight, Event::RequestChunk { bytes: tail.as_bytes(), end: true });
    assert!(flight.went());
    let (mut flight, _) = begin(&mut proxy);
    let waited = (0..).find(|_| !proxy.tell(&mut flight, Event::Tick).is_empty()).unwrap();
    assert_eq!(waited, 20);
}

#[test]
fn headers_wait_for_ever_where_that_is_configured() {
    let mut proxy = Proxy::with(r#"{"models":[{"name":"chat"}],"waitForBody":true}"#, Plugin::Penstock);
    let (mut flight, out) = begin(&mut proxy);
    assert!(!out.contains(&Effect::Ticks(true)));
    for _ in 0..1000 {
        assert_eq!(proxy.tell(&mut flight, Event::Tick), []);
    }
    let out = proxy.tell(&mut flight, Event::RequestChunk { bytes: CHAT.as_bytes(), end: true });
    assert!(out.contains(&Effect::Resume) && !out.contains(&Effect::Ticks(false)));
}

/// Whatever the client asks for and whatever is configured: what is reserved is what the server may generate.
#[test]
fn what_is_reserved_is_what_is_written() {
    let of = |output: &str, more: &str| {
        let mut proxy = Proxy::new(&format!(r#"{{"models":[{{"name":"chat","output":{output}}}]}}"#));
        let body = CHAT.replace("]}", &format!("]{more}}}"));
        let mut flight = proxy.chat(&[], &body);
        let sent = flight.seen.iter().find_map(|effect| match effect {
            Effect::Splice(splices) => Some(penstock_dialects::apply(body.as_bytes(), splices.clone())),
            _ => None,
        });
        let sent: serde_json::Value = serde_json::from_slice(&sent.unwrap_or(body.into_bytes())).unwrap();
        let facts = flight.facts();
        proxy.answer(&mut flight, 200, "{}");
        let told = flight.response_header("x-penstock-max-tokens").map(|told| told.parse::<u64>().unwrap());
        (sent["max_tokens"].as_u64(), facts.max_output.map(|max| max.0), facts.expected_output.0, told)
    };
    const ROOM: u64 = 40 - PROMPT;
    // A client's own ceiling: the smallest of its own, the model's and what the context leaves.
    assert_eq!(of(r#"{"context":40}"#, r#","max_tokens":4096"#), (Some(ROOM), Some(ROOM), ROOM, Some(ROOM)));
    assert_eq!(of(r#"{"context":40,"max":100}"#, r#","max_tokens":4096"#), (Some(ROOM), Some(ROOM), ROOM, Some(ROOM)));
    assert_eq!(of(r#"{"context":4000,"max":100}"#, r#","max_tokens":4096"#), (Some(100), Some(100), 100, Some(100)));
    assert_eq!(of(r#"{"context":40,"max":100}"#, r#","max_tokens":7"#), (Some(7), Some(7), 7, None));
    assert_eq!(
        of(r#"{"context":40,"max":100}"#, r#","max_tokens":50,"n":2"#),
        (Some(ROOM), Some(2 * ROOM), 2 * ROOM, Some(ROOM))
    );
    // None of its own: it gets the model's, and no more is expected than that. What the context ends at its server knows itself.
    assert_eq!(of(r#"{"context":40,"max":100}"#, ""), (Some(ROOM), None, ROOM, Some(ROOM)));
    assert_eq!(of(r#"{"context":40}"#, ""), (None, None, ROOM, None));
    // A prompt that fills the context leaves room for one token.
    assert_eq!(of(r#"{"context":10,"max":100}"#, r#","max_tokens":50"#), (Some(1), Some(1), 1, Some(1)));
}

/// Who waits for a word of the server before the body is told at once that none comes; where headers do not wait, the server says it.
#[test]
fn who_expects_a_word_before_the_body_does_not_wait_for_it() {
    for (wait, status) in [("true", Some(417)), ("\"auto\"", Some(417)), ("false", None)] {
        let mut proxy = Proxy::new(&format!(r#"{{"waitForBody":{wait},"models":[{{"name":"chat"}}]}}"#));
        let asked = proxy.chat(&[("expect", "100-Continue")], r#"{"model":"chat","messages":[]}"#);
        assert_eq!(asked.reply().map(|(status, ..)| status), status, "{wait}");
        assert_eq!(asked.went(), status.is_none(), "{wait}");
    }
}

#[test]
fn a_ceiling_is_set_as_the_server_takes_it() {
    let sent = |config: &str, path: &str, body: &str| {
        let mut proxy = Proxy::new(config);
        let mut flight = proxy.open();
        let length = body.len().to_string().into_bytes();
        let head = |name: &str, value: &[u8]| (name.to_owned(), value.to_vec());
        let headers = vec![head(":method", b"POST"), head(":path", path.as_bytes()), head("content-length", &length)];
        proxy.tell(&mut flight, Event::RequestHead { headers: &headers, end: false });
        proxy.tell(&mut flight, Event::RequestChunk { bytes: body.as_bytes(), end: true });
        let splices = flight.seen.iter().find_map(|effect| match effect {
            Effect::Splice(splices) => Some(splices.clone()),
            _ => None,
        });
        let sent = penstock_dialects::apply(body.as_bytes(), splices.clone().unwrap_or_default());
        let told = flight.seen.iter().find_map(|effect| match effect {
            Effect::RequestHeader("content-length", value) => Some(String::from_utf8(value.clone()).unwrap()),
            _ => None,
        });
        assert_eq!(told, splices.map(|_| sent.len().to_string()));
        String::from_utf8(sent).unwrap()
    };
    let plain = r#"{"models":[{"name":"chat","output":{"max":100}}]}"#;
    let newer = r#"{"models":[{"name":"chat","output":{"max":100,"key":"max_completion_tokens","context":40}}]}"#;
    assert!(sent(plain, "/v1/chat/completions", CHAT).starts_with(r#"{"max_tokens":100,"model""#));
    // 40 of context less 10 of prompt.
    assert!(sent(newer, "/v1/chat/completions", CHAT).starts_with(r#"{"max_completion_tokens":30,"model""#));
    // Servers have a default of their own there.
    let completion = r#"{"model":"chat","prompt":"x"}"#;
    assert_eq!(sent(plain, "/v1/completions", completion), completion);
    assert_eq!(
        sent(plain, "/v1/completions", r#"{"model":"chat","max_tokens":900}"#),
        r#"{"model":"chat","max_tokens":100}"#
    );
}

/// A ceiling that does not reach the server bounds nothing there, and so it does not bound what is reserved.
#[test]
fn a_ceiling_that_is_not_written_reserves_no_less() {
    let body = CHAT.replace("]}", r#"],"max_tokens":4096}"#);
    let config = r#"{"models":[{"name":"chat","output":{"max":100,"context":40}}]}"#;
    let mut alone = Proxy::with(config, Plugin::TenantBucket);
    let flight = alone.chat(&[], &body);
    assert_eq!(flight.facts().max_output.unwrap().0, 4096);
    assert!(!flight.seen.iter().any(|effect| matches!(effect, Effect::Splice(_))));
}

/// How much room a prompt leaves is a guess where its tokens are.
#[test]
fn an_estimate_does_not_cut_short_what_a_client_asks_for() {
    let body = CHAT.replace("]}", r#"],"max_tokens":4096}"#);
    let config = r#"{"models":[{"name":"chat","tokenizer":{"like":"o200k_base"},"output":{"context":40}}]}"#;
    let flight = Proxy::new(config).chat(&[], &body);
    assert_eq!(flight.facts().max_output.unwrap().0, 4096);
    assert!(!flight.seen.iter().any(|effect| matches!(effect, Effect::Splice(_))));
}

/// A request whose body begins, in one piece, right after its headers were let go.
fn late_body(proxy: &mut Proxy, connection: u64) -> bool {
    let mut flight = proxy.open();
    flight.props.0.insert("connection.id".into(), connection.to_le_bytes().to_vec());
    let head: Headers = vec![(":method".into(), b"POST".to_vec()), (":path".into(), b"/v1/chat/completions".to_vec())];
    let held = proxy.tell(&mut flight, Event::RequestHead { headers: &head, end: false }).contains(&Effect::Pause);
    if held {
        while !proxy.tell(&mut flight, Event::Tick).contains(&Effect::Resume) {}
    }
    proxy.tell(&mut flight, Event::RequestChunk { bytes: CHAT.as_bytes(), end: true });
    held
}

#[test]
fn one_client_does_not_switch_waiting_off() {
    let mut proxy = Proxy::new(r#"{"models":[{"name":"chat"}]}"#);
    // However often it does so.
    for _ in 0..20 {
        assert!(late_body(&mut proxy, 7));
    }
    // What several connections show is believed, and tried again after a minute.
    assert!(late_body(&mut proxy, 8) && late_body(&mut proxy, 9));
    assert!(!late_body(&mut proxy, 10) && !late_body(&mut proxy, 11));
    proxy.now += 61 * SECOND;
    assert!(late_body(&mut proxy, 12) && !late_body(&mut proxy, 13));
    // A body that comes while its headers are held proves the opposite, for good.
    proxy.now += 61 * SECOND;
    let (mut flight, out) = begin(&mut proxy);
    assert!(out.contains(&Effect::Pause));
    proxy.tell(&mut flight, Event::RequestChunk { bytes: CHAT.as_bytes(), end: true });
    for connection in 20..40 {
        assert!(late_body(&mut proxy, connection));
    }
}

/// Counting is the dear part, and who is refused pays nothing for it: so after a refusal a large request is looked at first.
#[test]
fn who_was_refused_is_read_before_it_is_counted() {
    let config = r#"{"models":[{"name":"chat"},{"name":"gone","suspended":true}],"unknownModel":"refuse",
        "limits":[{"name":"tpm","per":["model"],"tokens":10000,"every":"1m"}]}"#;
    let large = |model: &str| {
        // Two of them do not fit, and the model is named last.
        let text = "The water turns the wheel. ".repeat(1000);
        format!(r#"{{"messages":[{{"role":"user","content":"{text}"}}],"max_tokens":1,"model":"{model}"}}"#)
    };
    let mut proxy = Proxy::new(config);
    let first = proxy.chat(&[], &large("chat"));
    let counted = first.facts();
    assert!(first.went() && counted.prompt_tokens.0 > 5000, "{counted:?}");
    // Nobody was refused yet.
    let second = proxy.chat(&[], &large("chat"));
    assert_eq!((second.reply().unwrap().0, second.facts().prompt_tokens), (429, counted.prompt_tokens));
    for (model, status) in [("gone", 503), ("made-up", 404)] {
        let flight = proxy.chat(&[], &large(model));
        assert_eq!((flight.reply().unwrap().0, flight.facts().prompt_tokens.0), (status, 0), "{model}");
        assert_eq!(flight.facts().prompt_hash, "");
    }
    // What may fit is counted, and to the same.
    let third = proxy.chat(&[], &large("chat"));
    assert_eq!((third.reply().unwrap().0, third.facts().prompt_tokens), (429, counted.prompt_tokens));
    proxy.now += 60 * SECOND;
    let fourth = proxy.chat(&[], &large("chat"));
    assert!(fourth.went());
    assert_eq!(fourth.facts(), counted);
}

/// A bucket in debt refuses whatever a request costs, and with the same words and headers as ever.
#[test]
fn who_is_in_debt_is_refused_without_being_counted() {
    let config = r#"{"models":[{"name":"chat"}],"limits":[{"name":"tpm","tokens":1000,"every":"1m"}]}"#;
    let mut proxy = Proxy::new(config);
    let mut debtor = proxy.chat(&[], CHAT);
    proxy.answer(&mut debtor, 200, r#"{"usage":{"prompt_tokens":10,"completion_tokens":5000}}"#);
    let large = CHAT.replace("Hello", &"x ".repeat(20_000));
    assert_eq!(proxy.chat(&[], CHAT).reply().unwrap().0, 429);
    let refused = proxy.chat(&[], &large);
    let (status, headers, body) = refused.reply().unwrap();
    assert_eq!((status, headers["x-penstock-limit"].as_str()), (429, "tpm"));
    assert!(headers.contains_key("retry-after") && body["error"]["message"].as_str().unwrap().contains("0 left"));
    assert_eq!(refused.facts().prompt_tokens.0, 0);
}
