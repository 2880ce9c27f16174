//! The slow and simple reading of an answer that the fast one is compared with: all of it at once, as values.

use serde_json::Value;

/// What the client asks for in a stream.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Asks {
    /// For nothing beside the stream.
    Nothing,
    /// For usage.
    Usage,
    /// Something else, which some servers answer with usage once usage is asked for.
    OtherOptions,
}

/// Whether a body is JSON rather than a stream of events.
pub fn is_json(body: &[u8]) -> bool {
    let is_blank = |byte: &&u8| byte.is_ascii_whitespace() || [0xef, 0xbb, 0xbf].contains(*byte);
    body.iter().find(|byte| !is_blank(byte)).is_some_and(|byte| [b'{', b'['].contains(byte))
}

/// An event: its lines without data, and its data as a value where it is JSON.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    others: Vec<String>,
    data: Result<Value, String>,
}

fn value(text: &str) -> Result<Value, String> {
    // What is no UTF-8 is no JSON.
    if text.contains('\u{fffd}') {
        return Err(text.to_owned());
    }
    // Servers in Python write it, and no library reads it. No text of the answers has it.
    serde_json::from_str(&text.replace("NaN", "-1")).map_err(|_| text.to_owned())
}

/// The events of a stream.
pub fn events(stream: &str) -> Vec<Event> {
    let stream = stream.strip_prefix('\u{feff}').unwrap_or(stream).replace("\r\n", "\n").replace('\r', "\n");
    let mut events = Vec::new();
    for event in stream.split("\n\n").map(|event| event.trim_matches('\n')).filter(|event| !event.is_empty()) {
        let (data, others): (Vec<&str>, Vec<&str>) = event.split('\n').partition(|line| line.starts_with("data:"));
        let data: Vec<&str> = data.iter().map(|line| line[5..].strip_prefix(' ').unwrap_or(&line[5..])).collect();
        let others = others.into_iter().map(str::to_owned).collect();
        events.push(Event { others, data: value(&data.join("\n")) });
    }
    events
}

/// What a client is to get of a stream that did not ask for usage.
pub fn without_usage(stream: &str, asks: Asks) -> Vec<Event> {
    const ENVELOPE: [&str; 8] =
        ["id", "object", "created", "model", "system_fingerprint", "service_tier", "obfuscation", "choices"];
    let has_mark = stream.starts_with('\u{feff}');
    let mut shown = Vec::new();
    for (index, mut event) in events(stream).into_iter().enumerate() {
        if let Ok(Value::Object(object)) = &mut event.data {
            let is_chunk = [None, Some(&Value::Null), Some(&Value::Array(Vec::new()))].contains(&object.get("choices"));
            let usage = object.get("usage").cloned();
            let was_asked_for = is_chunk && usage.as_ref().is_some_and(Value::is_object);
            if was_asked_for
                || usage == Some(Value::Null)
                || (asks == Asks::OtherOptions && usage.is_some_and(|usage| usage.is_object()))
            {
                object.remove("usage");
            }
            let is_plain = |(name, value): (&String, &Value)| {
                value.is_null()
                    || (ENVELOPE.contains(&name.as_str())
                        && (name == "choices" || !(value.is_object() || value.is_array())))
            };
            let has_others =
                event.others.iter().any(|line| !["event: message", "event:message"].contains(&line.as_str()));
            if was_asked_for && !has_others && object.iter().all(is_plain) && !(has_mark && index == 0) {
                continue;
            }
        }
        shown.push(event);
    }
    shown
}

/// The most that is reported anywhere.
pub struct Reported {
    pub prompt: u64,
    pub completion: u64,
}

pub fn reported(text: &str) -> Reported {
    let largest = |ends: &[&str]| -> u64 {
        let mut largest = 0;
        for end in ends {
            for (at, found) in text.match_indices(end) {
                let rest = text[at + found.len()..].trim_start_matches([' ', ':', '"']);
                let digits = rest.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
                largest = largest.max(digits.parse().ok().filter(|count| *count <= 1 << 24).unwrap_or(0));
            }
        }
        largest
    };
    // The first letter of a key may be escaped.
    let parts = [
        largest(&["rompt_tokens\"", "nput_tokens\""]),
        largest(&["ache_read_input_tokens\""]),
        largest(&["ache_creation_input_tokens\""]),
    ];
    Reported { prompt: parts.iter().sum(), completion: largest(&["ompletion_tokens\"", "utput_tokens\""]) }
}

fn documents(text: &str) -> Vec<Value> {
    if is_json(text.as_bytes()) {
        value(text.trim_start_matches(['\u{feff}', ' ', '\r', '\n'])).into_iter().collect()
    } else {
        events(text).into_iter().filter_map(|event| event.data.ok()).collect()
    }
}

/// Whether some event of a stream cannot be read, where others follow.
pub fn is_broken(text: &str) -> bool {
    let mut events = if is_json(text.as_bytes()) { Vec::new() } else { events(text) };
    events.pop();
    events.iter().any(|event| matches!(&event.data, Err(data) if !["", "[DONE]"].contains(&data.trim())))
}

/// How many bytes a client can read anywhere, but for words about an answer.
pub fn readable(text: &str) -> usize {
    documents(text).iter().map(strings).sum()
}

fn strings(value: &Value) -> usize {
    const ABOUT: [&str; 33] = [
        "id",
        "object",
        "model",
        "role",
        "type",
        "status",
        "finish_reason",
        "stop_reason",
        "signature",
        "encrypted_content",
        "format",
        "media_type",
        "data",
        "url",
        "image_url",
        "error",
        "usage",
        "message",
        "instructions",
        "tools",
        "prompt",
        "conversation",
        "truncation",
        "metadata",
        "obfuscation",
        "prompt_cache_key",
        "provider",
        "safety_identifier",
        "service_tier",
        "stop_sequence",
        "system_fingerprint",
        "tool_choice",
        "user",
    ];
    // Of these only a text can be an answer, and only an object one of these.
    let is_about = |name: &str, value: &Value| match name {
        "message" => value.is_string(),
        "text" | "reasoning" => value.is_object(),
        name => ABOUT.contains(&name) || name.ends_with("_id") || name.ends_with("_at"),
    };
    match value {
        Value::String(text) => text.len(),
        Value::Array(array) => array.iter().map(strings).sum(),
        Value::Object(object) => {
            object.iter().filter(|(name, value)| !is_about(name, value)).map(|(_, value)| strings(value)).sum()
        }
        _ => 0,
    }
}

/// How many words a client can read in an answer. No token has more than one of them in it, but where one text ends and the next begins.
pub fn words(dialect: &str, text: &str) -> u64 {
    let documents = documents(text);
    let mut texts: Vec<&str> = Vec::new();
    for document in &documents {
        gather(dialect, document, &mut texts);
    }
    let words =
        texts.iter().map(|text| text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).count());
    (words.sum::<usize>() as u64).saturating_sub(texts.len() as u64)
}

fn gather<'a>(dialect: &str, document: &'a Value, texts: &mut Vec<&'a str>) {
    let mut push = |value: &'a Value| texts.extend(value.as_str().filter(|text| !text.is_empty()));
    let list = |value: &'a Value| value.as_array().map_or(&[][..], Vec::as_slice);
    match dialect {
        "chat" | "completions" => {
            for choice in list(&document["choices"]) {
                let is_two = choice["text"].is_string();
                push(&choice["text"]);
                for message in [&choice["message"], &choice["delta"]].into_iter().filter(|_| !is_two) {
                    push(&message["content"]);
                    for call in list(&message["tool_calls"]) {
                        push(&call["function"]["name"]);
                        push(&call["function"]["arguments"]);
                    }
                }
            }
        }
        "messages" => {
            for block in list(&document["content"]).iter().chain([&document["delta"], &document["content_block"]]) {
                for name in ["text", "thinking", "partial_json"] {
                    push(&block[name]);
                }
            }
        }
        "responses" => {
            push(&document["delta"]);
            for item in list(&document["output"]) {
                for part in list(&item["content"]) {
                    push(&part["text"]);
                }
            }
        }
        _ => {}
    }
}
