//! Varies an answer: its framing, order, types, spelling, where it ends, what is missing and what is more.

use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::{Value, json};

/// How an answer is sent.
#[derive(Clone, Debug)]
pub struct Wire {
    pub kind: Option<String>,
    pub coding: Option<String>,
    pub ending: Ending,
    line_end: &'static str,
    has_mark: bool,
    /// With spaces around what JSON has between its texts, keys escaped, members in the other order.
    spaces: bool,
    escapes: bool,
    reversed: bool,
    /// No space behind `data:`.
    tight: bool,
    /// No empty line behind the last event.
    open: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Ending {
    Whole,
    ClientLeft,
    Reset,
}

impl Wire {
    /// As it was recorded.
    pub fn plain() -> Self {
        Self {
            kind: None,
            coding: None,
            ending: Ending::Whole,
            line_end: "\n",
            has_mark: false,
            spaces: false,
            escapes: false,
            reversed: false,
            tight: false,
            open: false,
        }
    }

    pub fn is_plain(&self) -> bool {
        self.coding.as_deref().is_none_or(|coding| coding.eq_ignore_ascii_case("identity"))
    }
}

impl Arbitrary for Wire {
    type Parameters = ();
    type Strategy = BoxedStrategy<Self>;

    fn arbitrary_with((): ()) -> Self::Strategy {
        const KINDS: [&str; 5] =
            ["text/event-stream", "application/json", "text/plain", "Text/Event-Stream;x=y", "nonsense"];
        let kind = prop::option::of(prop::sample::select(KINDS.to_vec()).prop_map(str::to_owned));
        let coding = prop_oneof![
            9 => Just(None),
            1 => prop::sample::select(&["identity", "Identity", "gzip", "br"][..]).prop_map(|coding| Some(coding.to_owned())),
        ];
        let ending = prop_oneof![6 => Just(Ending::Whole), 1 => Just(Ending::ClientLeft), 1 => Just(Ending::Reset)];
        let line_end = prop::sample::select(&["\n", "\r\n", "\r"][..]);
        (kind, coding, ending, line_end, any::<[bool; 6]>())
            .prop_map(|(kind, coding, ending, line_end, [has_mark, spaces, escapes, reversed, tight, open])| Self {
                kind,
                coding,
                ending,
                line_end,
                has_mark,
                spaces,
                escapes,
                reversed,
                tight,
                open,
            })
            .boxed()
    }
}

/// One change, and where.
#[derive(Clone, Debug)]
pub struct Change {
    what: What,
    event: Index,
    member: Index,
}

#[derive(Clone, Debug)]
enum What {
    /// Another event takes its place.
    Swap(Index),
    Drop,
    Repeat,
    /// A comment, an id, a name or a pause in front of the data, or by itself.
    Line(&'static str),
    Comment,
    /// The data in two lines.
    Split,
    /// Data that is no JSON.
    Garbage(&'static str),
    /// A member has another value, another name, or is not there.
    Set(Value),
    Rename,
    /// So have all of the same name.
    RenameAll,
    Remove,
    /// One member more.
    Add(&'static str, Value),
    /// A report of its own.
    Usage(Value),
    /// All ends here.
    Cut(Index),
    /// A byte that no text has in UTF-8.
    Byte(Index),
}

impl Arbitrary for Change {
    type Parameters = ();
    type Strategy = BoxedStrategy<Self>;

    fn arbitrary_with((): ()) -> Self::Strategy {
        let number = || {
            let numbers =
                [json!(0), json!(-5), json!("NaN!"), json!(1e300), json!(77), json!("7"), json!(null), json!(1 << 24)];
            prop::sample::select(numbers.to_vec())
        };
        let usage = (number(), number(), any::<[bool; 4]>()).prop_map(|(read, written, [a, b, c, d])| {
            let mut usage = json!({});
            let names = if c { ["prompt_tokens", "completion_tokens"] } else { ["input_tokens", "output_tokens"] };
            if a {
                usage[names[0]] = read;
            }
            if b {
                usage[names[1]] = written;
            }
            if d { usage } else { json!(null) }
        });
        let values = [json!(null), json!(""), json!("seven more words"), json!([]), json!({}), json!(7), json!(true)];
        let added = prop::sample::select(
            [
                ("error", json!({"message": "no", "code": 500})),
                ("error", json!(null)),
                ("error", json!("no")),
                ("x_server", json!({"usage": null, "took": [1, 2]})),
                ("obfuscation", json!("abc")),
                ("status", json!("failed")),
                ("reasoning", json!("some more thoughts")),
                ("index", json!(1)),
            ]
            .to_vec(),
        );
        let what = prop_oneof![
            any::<Index>().prop_map(What::Swap),
            Just(What::Drop),
            Just(What::Repeat),
            prop::sample::select(&[": wait", "id: 7", "retry: 10", "event: x", "event: message", "x: y"][..])
                .prop_map(What::Line),
            Just(What::Comment),
            Just(What::Split),
            prop::sample::select(&["not json", "", "{", "[DONE]", "[1]", "{}"][..]).prop_map(What::Garbage),
            prop_oneof![prop::sample::select(values.to_vec()), number()].prop_map(What::Set),
            Just(What::Rename),
            Just(What::RenameAll),
            Just(What::Remove),
            added.prop_map(|(name, value)| What::Add(name, value)),
            usage.prop_map(What::Usage),
            any::<Index>().prop_map(What::Cut),
            any::<Index>().prop_map(What::Byte),
        ];
        (what, any::<Index>(), any::<Index>()).prop_map(|(what, event, member)| Self { what, event, member }).boxed()
    }
}

/// One event: the lines in front of its data, and its data.
#[derive(Clone, Default)]
struct Sent {
    lines: Vec<String>,
    data: Vec<Data>,
}

#[derive(Clone)]
enum Data {
    Json(Value),
    Raw(String),
}

/// The bytes of the answer with these changes.
pub fn body(golden: &str, is_stream: bool, changes: &[Change], wire: &Wire) -> Vec<u8> {
    let mut events: Vec<Sent> = if is_stream {
        golden.replace('\r', "").split("\n\n").filter(|event| !event.trim().is_empty()).map(sent).collect()
    } else {
        vec![Sent { lines: Vec::new(), data: vec![data(golden)] }]
    };
    let mut splits = Vec::new();
    let (mut end, mut byte) = (None, None);
    for Change { what, event, member } in changes {
        if events.is_empty() {
            break;
        }
        let at = event.index(events.len());
        match what {
            What::Swap(other) => {
                let other = other.index(events.len());
                events.swap(at, other);
            }
            What::Drop => drop(events.remove(at)),
            What::Repeat if is_stream => events.insert(at, events[at].clone()),
            What::Line(line) if is_stream => events[at].lines.push((*line).to_owned()),
            What::Comment if is_stream => {
                events.insert(at, Sent { lines: vec![": wait".to_owned()], data: Vec::new() })
            }
            What::Split if is_stream => splits.push(at),
            What::Garbage(text) if is_stream => {
                events.insert(at, Sent { lines: Vec::new(), data: vec![Data::Raw((*text).to_owned())] });
            }
            What::Cut(at) => end = Some(*at),
            What::Byte(at) => byte = Some(*at),
            What::RenameAll => {
                let name = match events[at].data.first() {
                    Some(Data::Json(value)) => name(value, member),
                    _ => None,
                };
                for data in events.iter_mut().flat_map(|event| &mut event.data) {
                    if let (Data::Json(value), Some(name)) = (data, &name) {
                        rename(value, name);
                    }
                }
            }
            What::Usage(usage) if is_stream => {
                let mut chunk = json!({"id": "x", "choices": [], "usage": usage});
                match member.index(4) {
                    0 => chunk["choices"] = json!(null),
                    1 => drop(chunk.as_object_mut().and_then(|chunk| chunk.remove("choices"))),
                    _ => {}
                }
                events.insert(at, Sent { lines: Vec::new(), data: vec![Data::Json(chunk)] });
            }
            what => {
                if let Some(Data::Json(value)) = events[at].data.first_mut() {
                    change(value, what, member);
                }
            }
        }
    }
    let mut out = String::from(if wire.has_mark { "\u{feff}" } else { "" });
    if is_stream {
        for (index, event) in events.iter().enumerate() {
            for line in &event.lines {
                out += line;
                out += wire.line_end;
            }
            for data in &event.data {
                let (text, field) = (written(data, wire), if wire.tight { "data:" } else { "data: " });
                // JSON may have a line end wherever it may have a space.
                let middle = text.find(",\"").filter(|_| splits.contains(&index)).map_or(0, |at| at + 1);
                let (one, two) = text.split_at(middle);
                for part in [one, two].into_iter().filter(|part| !part.is_empty() || text.is_empty()).take(2) {
                    out += &[field, part, wire.line_end].concat();
                }
            }
            if !wire.open || index + 1 < events.len() {
                out += wire.line_end;
            }
        }
    } else if let Some(data) = events.first().and_then(|event| event.data.first()) {
        out += &written(data, wire);
    }
    let mut out = out.into_bytes();
    if let Some(end) = end {
        out.truncate(end.index(out.len() + 1));
    }
    if let Some(byte) = byte.filter(|_| !out.is_empty()) {
        let at = byte.index(out.len());
        out[at] = 0xff;
    }
    out
}

fn sent(event: &str) -> Sent {
    let mut sent = Sent::default();
    for line in event.lines() {
        match line.strip_prefix("data:") {
            Some(text) => sent.data.push(data(text.strip_prefix(' ').unwrap_or(text))),
            None => sent.lines.push(line.to_owned()),
        }
    }
    sent
}

fn data(text: &str) -> Data {
    serde_json::from_str(text).map_or_else(|_| Data::Raw(text.to_owned()), Data::Json)
}

/// Changes one of the members of all objects in the value.
fn change(value: &mut Value, what: &What, member: &Index) {
    let count = members(value);
    if count > 0 {
        nth(value, &mut member.index(count), what);
    }
}

/// The name of one of all members.
fn name(value: &Value, member: &Index) -> Option<String> {
    fn gather(value: &Value, names: &mut Vec<String>) {
        match value {
            Value::Object(object) => {
                names.extend(object.keys().cloned());
                object.values().for_each(|value| gather(value, names));
            }
            Value::Array(array) => array.iter().for_each(|value| gather(value, names)),
            _ => {}
        }
    }
    let mut names = Vec::new();
    gather(value, &mut names);
    (!names.is_empty()).then(|| names.swap_remove(member.index(names.len())))
}

fn rename(value: &mut Value, name: &str) {
    match value {
        Value::Object(object) => {
            if let Some(value) = object.remove(name) {
                object.insert(format!("{name}s"), value);
            }
            object.values_mut().for_each(|value| rename(value, name));
        }
        Value::Array(array) => array.iter_mut().for_each(|value| rename(value, name)),
        _ => {}
    }
}

fn members(value: &Value) -> usize {
    match value {
        Value::Object(object) => object.len() + object.values().map(members).sum::<usize>(),
        Value::Array(array) => array.iter().map(members).sum(),
        _ => 0,
    }
}

fn nth(value: &mut Value, left: &mut usize, what: &What) -> bool {
    match value {
        Value::Array(array) => array.iter_mut().any(|value| nth(value, left, what)),
        Value::Object(object) => {
            if let Some(key) = object.keys().nth(*left).cloned() {
                apply(object, &key, what);
                return true;
            }
            *left -= object.len();
            object.values_mut().any(|value| nth(value, left, what))
        }
        _ => false,
    }
}

fn apply(object: &mut serde_json::Map<String, Value>, key: &str, what: &What) {
    match what {
        What::Set(value) => drop(object.insert(key.to_owned(), value.clone())),
        What::Rename => {
            let value = object.remove(key).unwrap_or_default();
            object.insert(format!("{key}s"), value);
        }
        What::Remove => drop(object.remove(key)),
        What::Add(name, value) => drop(object.insert((*name).to_owned(), value.clone())),
        What::Usage(usage) => drop(object.insert("usage".to_owned(), usage.clone())),
        _ => {}
    }
}

fn written(data: &Data, wire: &Wire) -> String {
    match data {
        Data::Raw(text) => text.clone(),
        Data::Json(value) => {
            let mut out = String::new();
            write(value, wire, &mut out);
            out
        }
    }
}

fn write(value: &Value, wire: &Wire, out: &mut String) {
    let space = if wire.spaces { " " } else { "" };
    match value {
        Value::String(text) if text == "NaN!" => *out += "NaN",
        Value::Array(array) => {
            *out += "[";
            for (index, value) in array.iter().enumerate() {
                *out += if index > 0 { "," } else { "" };
                write(value, wire, out);
            }
            *out += space;
            *out += "]";
        }
        Value::Object(object) => {
            let mut members: Vec<_> = object.iter().collect();
            if wire.reversed {
                members.reverse();
            }
            *out += "{";
            for (index, (key, value)) in members.into_iter().enumerate() {
                *out += if index > 0 { "," } else { "" };
                let key = Value::from(key.as_str()).to_string();
                match key.as_bytes().get(1) {
                    Some(byte) if wire.escapes && byte.is_ascii_alphabetic() => {
                        *out += &format!("\"\\u{byte:04x}{}", &key[2..]);
                    }
                    _ => *out += &key,
                }
                *out += space;
                *out += ":";
                *out += space;
                write(value, wire, out);
            }
            *out += space;
            *out += "}";
        }
        value => *out += &value.to_string(),
    }
}
