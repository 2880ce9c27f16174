//! Requests of every dialect, changed as clients and attackers change them: whatever is in them, they are refused or counted, and what goes on
//! is what came but for what is written into it.

mod sim;

use penstock_exchange::{Effect, Event, Headers, apply};
use serde_json::{Map, Value, json};
use sim::{Flight, Proxy};

/// How many tokens of text each request has.
const WORDS: usize = 400;
/// How many there are at most, each of which was changed into one more.
const TEXTS_MAX: usize = 4;
/// What is around them.
const AROUND_MAX: usize = 200;
/// What a document and the dearest of what is only named cost.
const DOCUMENT: usize = 5_000;
const NAMED_MAX: u64 = 16_000;
const CONFIG: &str = r#"{"models":[{"name":"chat","output":{"max":5},"versions":[{"name":"v","weight":1,"model":"real"}],
        "media":{"image":1600,"audio":2000,"video":16000,"file":5000}}],
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

/// Sends a request in pieces of this size.
fn send(path: &str, bytes: &[u8], size: usize) -> Flight {
    let mut proxy = Proxy::new(CONFIG);
    let mut flight = proxy.open();
    let head: Headers = vec![(":method".into(), b"POST".to_vec()), (":path".into(), path.into())];
    proxy.tell(&mut flight, Event::RequestHead { headers: &head, end: false });
    flight.props.1 = bytes.to_vec();
    for (i, piece) in bytes.chunks(size).enumerate() {
        let end = (i + 1) * size >= bytes.len();
        if flight.exchange.is_holding() {
            proxy.tell(&mut flight, Event::RequestChunk { bytes: piece, end });
        }
    }
    flight
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
        let size = 1 + draw.below(bytes.len());
        let flight = send(path, &bytes, size);
        let what = || format!("{round}: {path} {}", String::from_utf8_lossy(&bytes).replace(&"hello ".repeat(20), "…"));
        if let Some((status, ..)) = flight.reply() {
            assert!((400..500).contains(&status), "{status} {}", what());
            refused += 1;
            continue;
        }
        assert!(flight.went(), "{}", what());
        went += 1;
        let facts = flight.facts();
        let tokens = facts.prompt_tokens.0 as usize;
        assert!(tokens * 10 >= WORDS * 8, "{tokens} tokens: {}", what());
        // As many texts as there may be, by their length and not by their words, and what is called a document.
        let documents = String::from_utf8_lossy(&bytes).matches("document").count();
        let most = TEXTS_MAX * WORDS * 3 / 2 + AROUND_MAX + documents * DOCUMENT;
        assert!(tokens <= most, "{tokens} tokens: {}", what());
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

/// A part of a prompt, where data stands as `DATA`, and what that is.
struct Part {
    path: &'static str,
    json: &'static str,
    bytes: Vec<u8>,
}

/// A part of each kind, as honest clients send it.
fn parts() -> Vec<Part> {
    const LENGTH: usize = 30_000;
    let begins = |head: &[u8]| {
        let rest = (0..LENGTH as u32).map(|n| (n.wrapping_mul(0x9e37_79b9) >> 24) as u8);
        head.iter().copied().chain(rest).collect::<Vec<u8>>()
    };
    let (jpeg, pdf, mp4) = (begins(b"\xff\xd8\xff\xe0"), begins(b"%PDF-1.4\n"), begins(b"\0\0\0\x20ftypisom"));
    let (mp3, text) = (begins(b"ID3\x04"), "9 8 7 6 5 4 3 2 1 0 ".repeat(LENGTH / 20).into_bytes());
    let (chat, responses, messages) = ("/v1/chat/completions", "/v1/responses", "/v1/messages");
    [
        (chat, r#"{"type":"image_url","image_url":{"url":"data:image/jpeg;base64,DATA"}}"#, &jpeg),
        (chat, r#"{"type":"input_audio","input_audio":{"data":"DATA","format":"mp3"}}"#, &mp3),
        (chat, r#"{"type":"video_url","video_url":{"url":"data:video/mp4;base64,DATA"}}"#, &mp4),
        (chat, r#"{"type":"file","file":{"filename":"a.pdf","file_data":"data:application/pdf;base64,DATA"}}"#, &pdf),
        (chat, r#"{"type":"file","file":{"filename":"a.txt","file_data":"DATA"}}"#, &text),
        (chat, r#"{"type":"image_embeds","image_embeds":"DATA"}"#, &jpeg),
        (chat, r#"{"type":"file","file":{"file_id":"file-1"}}"#, &jpeg),
        (chat, r#"{"type":"video_url","video_url":{"url":"https://example.com/film.mp4"}}"#, &jpeg),
        (chat, r#"{"type":"audio_url","audio_url":null,"uuid":"known"}"#, &jpeg),
        (responses, r#"{"type":"input_image","image_url":"data:image/jpeg;base64,DATA"}"#, &jpeg),
        (responses, r#"{"type":"input_file","filename":"a.pdf","file_data":"DATA"}"#, &pdf),
        (responses, r#"{"type":"input_file","file_url":"https://example.com/a.pdf"}"#, &pdf),
        (messages, r#"{"type":"image","source":{"type":"base64","media_type":"image/jpeg","data":"DATA"}}"#, &jpeg),
        (
            messages,
            r#"{"type":"document","source":{"type":"base64","media_type":"application/pdf","data":"DATA"}}"#,
            &pdf,
        ),
        (messages, r#"{"type":"document","source":{"type":"base64","media_type":"text/plain","data":"DATA"}}"#, &text),
        (messages, r#"{"type":"document","source":{"type":"file","file_id":"file_1"}}"#, &pdf),
    ]
    .map(|(path, json, bytes)| Part { path, json, bytes: bytes.clone() })
    .into()
}

/// Base64 (RFC 4648, section 4).
fn encoded(bytes: &[u8]) -> String {
    const TABLE: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let letters = bytes.chunks(3).flat_map(|chunk| {
        let n = chunk.iter().fold(0, |n, byte| n << 8 | usize::from(*byte)) << (8 * (3 - chunk.len()));
        (0..4).map(move |i| if i <= chunk.len() { char::from(TABLE[n >> (18 - 6 * i) & 63]) } else { '=' })
    });
    letters.collect()
}

/// The same, with the keys of each object in either order.
fn ordered(value: &Value, is_reversed: bool) -> String {
    match value {
        Value::Array(all) => {
            let all: Vec<String> = all.iter().map(|value| ordered(value, is_reversed)).collect();
            format!("[{}]", all.join(","))
        }
        Value::Object(all) => {
            let mut all: Vec<String> =
                all.iter().map(|(key, value)| format!("{}:{}", json!(key), ordered(value, is_reversed))).collect();
            if is_reversed {
                all.reverse();
            }
            format!("{{{}}}", all.join(","))
        }
        value => value.to_string(),
    }
}

/// Changes a part so that a server that takes it all the same has no less to do for it.
fn respell(part: &mut Value, data: &mut String, bytes: &[u8], draw: &mut Draw) {
    let mut places = Vec::new();
    objects(part, "", &mut places);
    match draw.below(6) {
        // What decoders skip.
        0 => {
            let skipped = draw.of(&["\n", "=", "\r\n\r\n\r\n", "====================="]).repeat(1 + draw.below(300));
            data.insert_str(draw.below(30), &skipped);
        }
        1 => {
            let lines: Vec<&str> = data.as_bytes().chunks(76).filter_map(|line| str::from_utf8(line).ok()).collect();
            *data = lines.join("\r\n");
        }
        // What readers of texts skip.
        2 if bytes.is_ascii() => {
            let front = draw.of(&["\u{1b}", "\0", "\u{feff}", "\u{7f}\u{1}"]).repeat(draw.below(100));
            *data = encoded(&[front.as_bytes(), bytes].concat());
        }
        // Something more, and nothing of anything else.
        3 => {
            let more = [
                ("extra", json!({"a": [1, {"b": null}]})),
                ("uuid", json!("known")),
                ("image_url", json!(null)),
                ("video", json!({})),
                ("text", json!("x")),
                ("file_data", json!(null)),
            ];
            let (key, value) = draw.of(&more);
            object(part, draw.of::<String>(&places)).entry(*key).or_insert_with(|| value.clone());
        }
        // Another type, or none.
        4 => {
            let types = ["text", "input_text", "file", "video_url", "media", "pdf"];
            match draw.below(3) {
                0 => drop(object(part, "").remove("type")),
                _ => drop(object(part, "").insert("type".to_owned(), json!(draw.of::<&str>(&types)))),
            }
        }
        // Another media type.
        _ => {
            let types = ["image/png", "Image/PNG", "application/octet-stream", "application/json", "video/mp4", "x"];
            let media = *draw.of::<&str>(&types);
            let text = ["image/jpeg", "application/pdf", "video/mp4"].iter().fold(part.to_string(), |text, known| {
                text.replace(&format!("data:{known};"), &format!("data:{media};"))
            });
            *part = serde_json::from_str(&text).expect("JSON");
        }
    }
}

#[test]
fn no_part_is_cheaper_in_another_spelling() {
    let mut draw = Draw(2);
    let price = |path: &str, part: &Value, data: &str, is_reversed: bool, size: usize| {
        let key = if path == "/v1/responses" { "input" } else { "messages" };
        let body = json!({"model": "chat", "max_tokens": 5, (key): [{"role": "user", "content": [part]}]});
        let data = json!(data).to_string();
        let bytes = ordered(&body, is_reversed).replace("DATA", data.trim_matches('"')).into_bytes();
        let flight = send(path, &bytes, size);
        (flight.went().then(|| flight.facts().prompt_tokens.0), bytes.len() as u64)
    };
    let parts = parts();
    let mut went = 0;
    for round in 0..1500 {
        let Part { path, json, bytes } = draw.of(&parts);
        let (mut part, mut data): (Value, String) = (serde_json::from_str(json).expect("JSON"), encoded(bytes));
        let honest = price(path, &part, &data, false, 1 << 20).0.expect("a price");
        for _ in 0..=draw.below(3) {
            respell(&mut part, &mut data, bytes, &mut draw);
        }
        let size = *draw.of(&[500, 4_000, 50_000, 1 << 20]);
        let (tokens, length) = price(path, &part, &data, draw.below(2) == 0, size);
        let Some(tokens) = tokens else { continue };
        went += 1;
        let head: String = data.chars().take(30).collect();
        // The length of what is skipped is not told from that of the rest.
        assert!(tokens + 20 >= honest, "{round}: {honest} became {tokens}: {path} {part} {head:?}");
        assert!(tokens <= length + 3 * NAMED_MAX, "{round}: {honest} became {tokens}: {path} {part} {head:?}");
    }
    assert!(went > 1000, "{went} went");
}
