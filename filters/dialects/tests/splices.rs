//! Edits say what they should to every reader, and leave every other byte alone, whatever the body looks like.

use penstock_dialects::{Dialect, Ignore, Request, RequestReader, Splice, apply};
use proptest::prelude::*;
use serde_json::Value;

/// JSON white space.
fn space() -> impl Strategy<Value = String> {
    "[ \t\r\n]{0,3}"
}

/// A string as JSON writes it, some of its characters escaped though they need not be.
fn string(text: impl Strategy<Value = String>) -> impl Strategy<Value = String> {
    (text, any::<u64>()).prop_map(|(text, escapes)| {
        let mut out = String::from("\"");
        for (index, c) in text.chars().enumerate() {
            let escaped = escapes >> (index % 64) & 1 == 1;
            match c {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                '/' if escaped => out.push_str("\\/"),
                c if (c as u32) < 0x20 || escaped && c.is_ascii() => out.push_str(&format!("\\u{:04X}", c as u32)),
                c => out.push(c),
            }
        }
        out.push('"');
        out
    })
}

fn any_value() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("true".to_owned()),
        Just("-1.5e3".to_owned()),
        Just("12345678901234567890".to_owned()),
        string(any::<String>()),
    ];
    leaf.prop_recursive(6, 24, 4, |inner| {
        prop_oneof![
            (space(), prop::collection::vec(inner.clone(), 0..4))
                .prop_map(|(s, items)| format!("[{s}{}]", items.join(&s)).replace(&format!("{s}{s}"), &s))
                .prop_filter("only JSON", |text| serde_json::from_str::<Value>(text).is_ok()),
            prop::collection::vec((string("[a-z_]{1,9}"), inner), 0..4).prop_map(|members| {
                let members: Vec<String> = members.into_iter().map(|(key, value)| format!("{key}:{value}")).collect();
                format!("{{{}}}", members.join(","))
            }),
        ]
    })
}

/// A member that matters, or one that does not.
fn member() -> impl Strategy<Value = (String, String)> {
    let limits = prop_oneof![Just("null".to_owned()), (0u64..400).prop_map(|n| n.to_string()), Just("1e2".to_owned())];
    let options = prop_oneof![
        Just("null".to_owned()),
        Just("{ }".to_owned()),
        Just("{\"include_usage\":false}".to_owned()),
        Just("{\"include_usage\":true , \"x\":[{}]}".to_owned()),
        any_value().prop_map(|value| format!("{{\"y\":{value}}}")),
    ];
    prop_oneof![
        3 => (Just("model".to_owned()), string("[a-zA-Z0-9./é\"-]{1,20}")),
        2 => (prop_oneof![Just("max_tokens"), Just("max_completion_tokens"), Just("n_predict"), Just("max_output_tokens")].prop_map(str::to_owned), limits),
        2 => (Just("stream_options".to_owned()), options),
        1 => (Just("stream".to_owned()), prop_oneof![Just("true".to_owned()), Just("null".to_owned())]),
        1 => (Just("tools".to_owned()), any_value().prop_map(|value| format!("[{value}]"))),
        1 => (Just("metadata".to_owned()), any_value()),
        1 => ("[a-z]{1,3}", any_value()),
    ]
}

/// A body with a model somewhere, and no key twice.
fn body() -> impl Strategy<Value = String> {
    let members = prop::collection::vec((member(), any::<u64>(), space(), space()), 0..9);
    (members, 0usize..9, string("[a-z-]{1,12}"), space()).prop_map(|(mut members, at, model, outer)| {
        let at = at.min(members.len());
        members.insert(at, (("model".to_owned(), model), 0, " ".to_owned(), String::new()));
        let mut seen = std::collections::BTreeSet::new();
        members.retain(|((key, _), ..)| seen.insert(key.clone()));
        let members: Vec<String> = members
            .into_iter()
            .map(|((key, value), escapes, before, after)| {
                // Keys may be escaped, too.
                let key: String =
                    key.chars()
                        .enumerate()
                        .map(|(index, c)| {
                            if escapes >> (index + 8) & 7 == 7 { format!("\\u{:04x}", c as u32) } else { c.to_string() }
                        })
                        .collect();
                format!("{before}\"{key}\"{after}:{before}{value}{after}")
            })
            .collect();
        format!("{outer}{{{}}}{outer}", members.join(","))
    })
}

fn read(dialect: Dialect, body: &[u8], pieces: usize) -> Option<Request> {
    let mut reader = RequestReader::new(dialect);
    for piece in body.chunks(pieces.max(1)) {
        reader.push(piece, &mut Ignore).ok()?;
    }
    reader.finish(&mut Ignore).ok()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn edits_are_seen_by_all_and_touch_nothing_else(body in body(), at in 0usize..5, pieces in 1usize..40) {
        let dialect = Dialect::ALL[at];
        let bytes = body.as_bytes();
        let request = read(dialect, bytes, pieces);
        prop_assert_eq!(&request, &read(dialect, bytes, usize::MAX));
        let Some(request) = request else { return Ok(()) };

        let keys: Vec<&str> = match dialect {
            Dialect::Chat => vec!["max_tokens", "max_completion_tokens", "n_predict"],
            Dialect::Responses => vec!["max_output_tokens"],
            Dialect::Embeddings => vec![],
            Dialect::Completions => vec!["max_tokens", "n_predict"],
            _ => vec!["max_tokens"],
        };
        let splices: Vec<Splice> =
            [request.with_model("other \"m\""), request.with_ceiling(100, keys.first().map(|key| (*key, 100))), request.with_usage()].concat();
        let out = apply(bytes, splices.clone());
        let reading: Value = serde_json::from_slice(&out).expect("JSON");
        prop_assert_eq!(&reading["model"], "other \"m\"");
        // A null is none, if another key has one.
        let ceilings: Vec<&Value> =
            keys.iter().filter_map(|key| reading.get(*key)).filter(|value| !value.is_null()).collect();
        prop_assert_eq!(ceilings.is_empty(), keys.is_empty());
        for ceiling in ceilings {
            prop_assert!(ceiling.as_f64().is_some_and(|value| value <= 100.0), "{}", ceiling);
        }
        if dialect.usage_on_request() {
            prop_assert_eq!(&reading["stream_options"]["include_usage"], true);
        }

        // What is kept of the body and what was put in are all that there is.
        let mut sorted = splices;
        sorted.sort_by_key(|splice| splice.at.start);
        let (mut from, mut rebuilt) = (0, Vec::new());
        for splice in &sorted {
            prop_assert!(splice.at.start >= from, "edits overlap");
            rebuilt.extend_from_slice(&bytes[from..splice.at.start]);
            rebuilt.extend_from_slice(&splice.with);
            from = splice.at.end;
        }
        rebuilt.extend_from_slice(&bytes[from..]);
        prop_assert_eq!(rebuilt, out);
    }

    /// Of a key that is there twice, or that is another but for the case of its letters, no server's reading is taken.
    #[test]
    fn what_servers_read_differently_is_refused(body in body(), at in 0usize..5, upper in any::<bool>(), pieces in 1usize..40) {
        let dialect = Dialect::ALL[at];
        prop_assume!(read(dialect, body.as_bytes(), pieces).is_some());
        let more = if upper { "Model" } else { "model" };
        let end = body.rfind('}').expect("an object");
        let body = format!("{},\"{more}\":\"other\"{}", &body[..end], &body[end..]);
        serde_json::from_str::<Value>(&body).expect("JSON");
        prop_assert!(read(dialect, body.as_bytes(), pieces).is_none());
    }
}
