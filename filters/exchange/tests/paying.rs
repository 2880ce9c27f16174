//! What was tried to read for nothing, or to have charged twice: each answer costs what can be read in it.

mod sim;

use penstock_exchange::{Effect, Event, Facts, Headers};
use serde_json::{Value, json};
use sim::Proxy;

#[derive(Clone, Copy, PartialEq)]
enum End {
    Whole,
    Left,
    Reset,
}

const CONFIG: &str = r#"{"models":[{"name":"chat"}]}"#;
const CHAT: &str = "/v1/chat/completions";
const COMPLETIONS: &str = "/v1/completions";
/// What the client allows.
const MOST: u64 = 500;

fn exchange(proxy: &mut Proxy, path: &str, ask: &str, coding: &str, body: &str, end: End) -> (Facts, String) {
    let mut flight = proxy.open();
    let headers: Headers = vec![(":method".into(), b"POST".to_vec()), (":path".into(), path.into())];
    proxy.tell(&mut flight, Event::RequestHead { headers: &headers, end: false });
    proxy.tell(&mut flight, Event::RequestChunk { bytes: ask.as_bytes(), end: true });
    assert!(flight.went(), "{:?}", flight.reply());
    let head: Headers = vec![(":status".into(), b"200".to_vec()), ("content-encoding".into(), coding.into())];
    proxy.tell(&mut flight, Event::ResponseHead { headers: &head, end: false });
    let effects = proxy.tell(&mut flight, Event::ResponseChunk { bytes: body.as_bytes(), end: end == End::Whole });
    let got = effects.into_iter().find_map(|effect| match effect {
        Effect::ResponseBytes(bytes) => Some(bytes),
        _ => None,
    });
    if end == End::Left {
        flight.props.0.insert("response.code_details".into(), b"downstream_remote_disconnect".to_vec());
    }
    proxy.close(&mut flight);
    (flight.facts(), String::from_utf8(got.unwrap_or_else(|| body.into())).unwrap())
}

/// How many generated tokens such an answer costs.
fn cost(path: &str, ask: &str, body: &str, end: End) -> u64 {
    let (facts, _) = exchange(&mut Proxy::new(CONFIG), path, ask, "identity", body, end);
    facts.used.map_or(0, |used| used.completion.0)
}

fn chat(stream: bool) -> String {
    let messages = json!([{"role": "user", "content": "hello there"}]);
    json!({"model": "chat", "max_tokens": MOST, "stream": stream, "messages": messages}).to_string()
}

fn sse(events: &[Value]) -> String {
    events.iter().map(|event| format!("data: {event}\n\n")).collect()
}

/// So many tokens, and one at the most for the space behind.
fn hello(times: usize) -> String {
    "hello ".repeat(times)
}

#[test]
fn who_leaves_in_the_midst_of_a_text_pays_what_came_of_it() {
    let text = hello(400);
    let known = format!(r#"{{"choices":[{{"index":0,"message":{{"content":"{text}"#);
    assert!(cost(CHAT, &chat(false), &known, End::Left) >= 400);
    // Nor does it matter that the text's choice is not known by then.
    let (document, delta) =
        (known.replace(r#""index":0,"#, ""), format!("data: {{\"choices\":[{{\"delta\":{{\"content\":\"{text}"));
    assert!(cost(CHAT, &chat(false), &document, End::Reset) >= 400);
    for end in [End::Whole, End::Left, End::Reset] {
        assert!(cost(CHAT, &chat(true), &delta, end) >= 400);
        // Nor that it is short enough to be held until it is.
        assert!(cost(CHAT, &chat(true), &delta.replace(&text, &hello(100)), end) >= 100);
    }
}

#[test]
fn an_error_is_no_longer_than_errors_are() {
    let long = hello(3000);
    for (error, charged) in [
        (json!({"error": {"code": "tool_use_failed", "failed_generation": long}}), MOST),
        (json!({"error": long}), MOST),
        (json!({"error": {"message": "no"}, "message": long}), MOST),
        (json!({"error": {"message": hello(300)}}), 0),
    ] {
        for body in [error.to_string(), sse(&[error])] {
            assert_eq!(cost(CHAT, &chat(true), &body, End::Whole), charged, "{}", body.len());
        }
    }
}

#[test]
fn a_prompt_that_is_repeated_is_not_generated() {
    let text = hello(1000);
    let answer = |shown: &str| json!({"choices": [{"index": 0, "text": shown}], "usage": {"prompt_tokens": 1001, "completion_tokens": 1}});
    let mut expected = Vec::new();
    for echo in [false, true] {
        let mut proxy = Proxy::new(CONFIG);
        let ask = json!({"model": "chat", "prompt": text, "max_tokens": 1, "echo": echo}).to_string();
        let body = answer(&if echo { format!("{text}!") } else { "!".to_owned() }).to_string();
        let unreported = body.replace("usage", "x");
        for body in [&body, &unreported].into_iter().cycle().take(60) {
            let (facts, _) = exchange(&mut proxy, COMPLETIONS, &ask, "identity", body, End::Whole);
            assert_eq!(facts.used.unwrap().completion.0 > 1, echo && body == &unreported);
        }
        let plain = json!({"model": "chat", "messages": [{"role": "user", "content": "hi"}]}).to_string();
        let hi = r#"{"choices":[{"message":{"content":"hi"}}]}"#;
        expected.push(exchange(&mut proxy, CHAT, &plain, "identity", hi, End::Whole).0.expected_output);
    }
    assert_eq!(expected[0], expected[1], "it teaches nothing");
    // Who did not ask for it has it generated.
    let ask = json!({"model": "chat", "prompt": text, "max_tokens": 1000}).to_string();
    assert!(cost(COMPLETIONS, &ask, &answer(&format!("{text}!")).to_string(), End::Whole) > 1000);
}

#[test]
fn a_report_is_of_what_came_before_it() {
    let start =
        json!({"choices": [{"delta": {"content": "hello"}}], "usage": {"prompt_tokens": 9, "completion_tokens": 50}});
    let more = json!({"choices": [{"delta": {"content": " hello"}}]});
    let stop = json!({"choices": [{"delta": {}, "finish_reason": "stop"}]});
    let all: Vec<Value> = [vec![start.clone()], vec![more; 399], vec![stop]].concat();
    assert!(cost(CHAT, &chat(true), &(sse(&all) + "data: [DONE]\n\n"), End::Whole) >= 400);
    // Behind the report nothing can be read.
    let python = "data: {'choices': [{'delta': {'content': 'hello hello'}}]}\n\n".repeat(300);
    assert_eq!(cost(CHAT, &chat(true), &(sse(&[start]) + &python), End::Whole), MOST);
    // Nothing known comes behind it, and what does is longer than what it reports.
    let unknown = |reported: u64, answer: &str| json!({"usage": {"prompt_tokens": 9, "completion_tokens": reported}, "answer": answer});
    assert_eq!(cost(CHAT, &chat(false), &unknown(1, &hello(400)).to_string(), End::Whole), MOST);
    assert_eq!(cost(CHAT, &chat(false), &unknown(80, &hello(400)).to_string(), End::Whole), 80);
}

#[test]
fn a_citation_makes_no_text_new() {
    let ask = json!({"model": "chat", "max_output_tokens": MOST, "stream": true, "input": "hello there"}).to_string();
    let text = hello(40);
    let mut events = vec![
        json!({"type": "response.output_item.added", "item": {"type": "message"}}),
        json!({"type": "response.content_part.added", "part": {"type": "output_text", "text": ""}}),
        json!({"type": "response.output_text.delta", "delta": text}),
        json!({"type": "response.output_text.done", "text": text}),
        json!({"type": "response.content_part.done", "part": {"type": "output_text", "text": text}}),
    ];
    let without = cost("/v1/responses", &ask, &sse(&events), End::Left);
    events.insert(3, json!({"type": "response.output_text.annotation.added", "annotation": {"url": "https://x/"}}));
    assert_eq!(cost("/v1/responses", &ask, &sse(&events), End::Left), without);
}

#[test]
fn a_prompt_is_more_than_an_eighth_of_what_was_counted() {
    let ask = json!({"model": "chat", "messages": [{"role": "user", "content": hello(10_000)}]}).to_string();
    for (reported, is_believed) in [(1, false), (1000, false), (2000, true), (20_000, true)] {
        let body = json!({"choices": [{"message": {"content": "hi"}}], "usage": {"prompt_tokens": reported, "completion_tokens": 1}});
        let (facts, _) = exchange(&mut Proxy::new(CONFIG), CHAT, &ask, "identity", &body.to_string(), End::Whole);
        let used = facts.used.unwrap();
        assert_eq!(used.prompt.0, if is_believed { reported } else { facts.prompt_tokens.0 });
        assert_eq!(used.counted, !is_believed);
    }
}

#[test]
fn the_mark_of_the_end_is_that_and_nothing_else() {
    for (mark, charged) in [
        ("[DONE]", 0),
        ("[DONE] \ndata:\t", 0),
        ("[DONE] hello", MOST),
        ("[DONE]\ndata: hello", MOST),
        ("[DONE", MOST),
        ("DONE: hello", MOST),
        ("[DONES]", MOST),
    ] {
        let body = format!("data: {mark}\n\n");
        assert_eq!(cost(CHAT, &chat(true), &body, End::Whole), charged, "{mark}");
    }
}

#[test]
fn a_name_that_is_no_coding_hides_nothing() {
    let usage = r#""usage":{"prompt_tokens":9,"completion_tokens":1}"#;
    let json = format!(r#"{{"choices":[{{"message":{{"content":"hello"}}}}],{usage}}}"#);
    let chunk = format!("data: {{\"choices\":[],{usage}}}\n\n");
    for (coding, is_read) in
        [("utf-8", true), ("none", true), ("", true), ("identity, Identity", true), ("GZip", false), ("x, br", false)]
    {
        let mut proxy = Proxy::new(CONFIG);
        let (facts, _) = exchange(&mut proxy, CHAT, &chat(false), coding, &json, End::Whole);
        assert_eq!(facts.used.unwrap().completion.0, if is_read { 1 } else { MOST }, "{coding}");
        let (_, shown) = exchange(&mut proxy, CHAT, &chat(true), coding, &chunk, End::Whole);
        assert_eq!(shown.is_empty(), is_read, "{coding}");
    }
}
