//! Requests of every dialect, changed as clients and attackers change them: whatever is in them, they are refused or counted, and what goes on
//! is what came but for what is written into it.

mod sim;

use penstock_exchange::{Effect, Event, Headers, apply};
use serde_json::{Map, Value, json};
use sim::Proxy;

/// How many tokens of text each request has.
const WORDS: usize = 400;
const CONFIG: &str = r#"{"models":[{"name":"chat","output":{"max":5},"versions":[{"name":"v","weight":1,"model":"real"}]}],
    "limits":[{"name":"all","tokens":1000000,"every":"100000h"}]}"#;

/// Splitmix64.
struct Draw(u64);

impl Draw {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % n as u64) as usize
    }

    fn of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }
}

/// A request for each API, whose only long text it is.
fn golden() -> Vec<(&'static str, Value)> {
    let text = "hello ".repeat(WORDS);
    vec![
        (
            "/v1/chat/completions",
            json!({"model": "chat", "temperature": 0.5, "messages": [{"role": "system", "content": "be brief"}, {"role": "user", "content": text}]}),
        ),
        (
            "/v1/chat/completions",
            json!({"model": "chat", "stream": true, "messages": [{"role": "user", "content": [{"type": "text", "text": text}]}]}),
        ),
        (
            "/v1/chat/completions",
            json!({"model": "chat", "messages": [{"role": "assistant", "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": text}}]}]}),
        ),
        (
            "/v1/chat/completions",
            json!({"model": "chat", "messages": [{"role": "user", "content": "hi"}], "tools": [{"type": "function", "function": {"name": "f", "description": text}}]}),
        ),
        ("/v1/completions", json!({"model": "chat", "prompt": [text, "a"], "max_tokens": 3})),
        ("/v1/responses", json!({"model": "chat", "instructions": text, "input": "hi"})),
        (
            "/v1/responses",
            json!({"model": "chat", "input": [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}, {"type": "function_call_output", "call_id": "1", "output": "x"}]}),
        ),
        ("/v1/embeddings", json!({"model": "chat", "input": [text]})),
        (
            "/v1/messages",
            json!({"model": "chat", "max_tokens": 9, "system": text, "messages": [{"role": "user", "content": "hi"}]}),
        ),
        (
            "/v1/messages",
            json!({"model": "chat", "max_tokens": 9, "messages": [{"role": "user", "content": [{"type": "tool_result", "tool_use_id": "1", "content": [{"type": "text", "text": text}]}]}]}),
        ),
        (
            "/v1/messages",
            json!({"model": "chat", "max_tokens": 9, "messages": [{"role": "user", "content": [{"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": text}}]}]}),
        ),
    ]
}

/// The long text's place.
fn find(value: &Value, path: &str) -> Option<String> {
    match value {
        Value::String(text) if text.len() > 1000 => Some(path.to_owned()),
        Value::Array(all) => all.iter().enumerate().find_map(|(i, value)| find(value, &format!("{path}/{i}"))),
        Value::Object(all) => all.iter().find_map(|(key, value)| find(value, &format!("{path}/{key}"))),
        _ => None,
    }
}

/// Every object's place.
fn objects(value: &Value, path: &str, out: &mut Vec<String>) {
    match value {
        Value::Array(all) => all.iter().enumerate().for_each(|(i, value)| objects(value, &format!("{path}/{i}"), out)),
        Value::Object(all) => {
            out.push(path.to_owned());
            all.iter().for_each(|(key, value)| objects(value, &format!("{path}/{key}"), out));
        }
        _ => {}
    }
}

fn object<'a>(body: &'a mut Value, place: &str) -> &'a mut Map<String, Value> {
    body.pointer_mut(place).and_then(Value::as_object_mut).expect("an object")
}

/// Changes something about how the request is written.
fn change(body: &mut Value, draw: &mut Draw) {
    let mut places = Vec::new();
    objects(body, "", &mut places);
    let at = find(body, "").expect("the text is there");
    let text = body.pointer(&at).cloned().expect("the text");
    match draw.below(7) {
        // The text in another form.
        0 => {
            let forms = [
                json!([text]),
                json!({"type": "text", "text": text}),
                json!([{"type": "text", "text": text}]),
                json!({"content": text}),
                json!([{"type": "input_text", "text": text}]),
            ];
            *body.pointer_mut(&at).expect("the text") = draw.of(&forms).clone();
        }
        // Under another name, or with its part under another type.
        1 | 2 => {
            let (parent, key) = at.rsplit_once('/').expect("a key");
            if let Some(parent) = body.pointer_mut(parent).and_then(Value::as_object_mut) {
                let text = parent.remove(key).expect("the text");
                let names: [&str; 9] =
                    ["text", "contents", "value", "refusal", "thinking", "Text", "data", "arguments", "x"];
                parent.insert((*draw.of::<&str>(&names)).to_owned(), text);
            }
        }
        3 => {
            let types = ["text", "input_text", "output_text", "thinking", "refusal", "custom", "document", "reasoning"];
            object(body, draw.of::<String>(&places)).insert("type".to_owned(), json!(draw.of::<&str>(&types)));
        }
        // Something more, and something less.
        4 => {
            let more = [json!(null), json!({"a": [1, 2, {"b": "c"}]}), json!("x"), json!(1e3), json!(true)];
            object(body, draw.of::<String>(&places)).insert("extra".to_owned(), draw.of(&more).clone());
        }
        5 => {
            let place = object(body, draw.of::<String>(&places));
            let keys: Vec<String> =
                place.iter().filter(|(_, value)| find(value, "").is_none()).map(|(key, _)| key.clone()).collect();
            if !keys.is_empty() {
                place.remove(draw.of::<String>(&keys));
            }
        }
        // Twice.
        _ => {
            let place = object(body, draw.of::<String>(&places));
            place.insert("copy".to_owned(), text);
        }
    }
}

/// As bytes: compact or not, with escapes or without, the model before or behind the rest.
fn write(body: &Value, draw: &mut Draw) -> Vec<u8> {
    let text = if draw.below(2) == 0 { body.to_string() } else { serde_json::to_string_pretty(body).expect("JSON") };
    let text = if draw.below(3) == 0 { text.replace("hello hello", "h\\u0065llo hel\\u006co") } else { text };
    text.into_bytes()
}

#[test]
fn no_text_is_free_and_what_goes_on_is_what_came() {
    let mut draw = Draw(1);
    let (mut went, mut refused) = (0, 0);
    for round in 0..6000 {
        let (path, mut body) = draw.of(&golden()).clone();
        for _ in 0..draw.below(4) {
            change(&mut body, &mut draw);
        }
        let bytes = write(&body, &mut draw);
        let mut proxy = Proxy::new(CONFIG);
        let mut flight = proxy.open();
        let head: Headers = vec![(":method".into(), b"POST".to_vec()), (":path".into(), path.into())];
        proxy.tell(&mut flight, Event::RequestHead { headers: &head, end: false });
        flight.props.1.clone_from(&bytes);
        let size = 1 + draw.below(bytes.len());
        for (i, piece) in bytes.chunks(size).enumerate() {
            let end = (i + 1) * size >= bytes.len();
            if flight.exchange.is_holding() {
                proxy.tell(&mut flight, Event::RequestChunk { bytes: piece, end });
            }
        }
        let what = || format!("{round}: {path} {}", String::from_utf8_lossy(&bytes).replace(&"hello ".repeat(20), "…"));
        if let Some((status, ..)) = flight.reply() {
            assert!((400..500).contains(&status), "{status} {}", what());
            refused += 1;
            continue;
        }
        assert!(flight.went(), "{}", what());
        went += 1;
        let facts = flight.facts();
        assert!(facts.prompt_tokens.0 as usize * 10 >= WORDS * 8, "{} tokens: {}", facts.prompt_tokens, what());
        let splices = flight.seen.iter().filter_map(|effect| match effect {
            Effect::Splice(splices) => Some(splices.clone()),
            _ => None,
        });
        let sent = splices.fold(bytes.clone(), |body, splices| apply(&body, splices));
        let (mut sent, mut came): (Value, Value) = (serde_json::from_slice(&sent).expect("JSON"), body.clone());
        assert_eq!(sent["model"], "real", "{}", what());
        for written in ["model", "max_tokens", "max_completion_tokens", "max_output_tokens", "stream_options"] {
            for side in [&mut sent, &mut came] {
                side.as_object_mut().expect("an object").remove(written);
            }
        }
        assert_eq!(sent, came, "{}", what());
    }
    assert!(went > 3000 && refused > 200, "{went} went, {refused} were refused");
}
