//! Answers of real servers, varied in every way in which servers vary: whatever comes, the client gets what the server sent less what was asked
//! for here, pays for what it can read, and never more than was reserved or reported.

mod mutator;
mod naive;
#[path = "../sim/mod.rs"]
mod sim;

use std::fs;
use std::path::Path;

use mutator::{Change, Ending, Wire};
use naive::Asks;
use penstock_exchange::{Effect, Event, Facts, Headers, Outcome};
use penstock_tokens::{Counter, Encoding};
use proptest::prelude::*;
use serde_json::{Value, json};
use sim::Proxy;

/// More than any of the answers has.
const RESERVED: u64 = 600;
/// How many bytes of an answer are taken for words about it.
const WORDS_MAX: usize = 64;

struct Golden {
    dialect: String,
    /// What each of its choices says.
    texts: Vec<String>,
    is_stream: bool,
    body: String,
}

fn all() -> Vec<Golden> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden");
    let readings = fs::read(directory.join("readings.json")).expect("readings.json");
    let readings: serde_json::Map<String, Value> = serde_json::from_slice(&readings).expect("JSON");
    let read = |(name, reading): (String, Value)| Golden {
        dialect: reading["dialect"].as_str().expect("a dialect").to_owned(),
        texts: serde_json::from_value(reading["texts"].clone()).expect("texts"),
        is_stream: name.ends_with(".sse"),
        body: fs::read_to_string(directory.join(&name)).expect("a file"),
    };
    readings.into_iter().map(read).collect()
}

fn ask(dialect: &str, stream: bool, asks: Asks) -> (&'static str, Value) {
    let messages = json!([{"role": "user", "content": "Hello, world"}]);
    let (path, mut body) = match dialect {
        "chat" => ("/v1/chat/completions", json!({"messages": messages, "max_tokens": RESERVED})),
        "completions" => ("/v1/completions", json!({"prompt": "Hello, world", "max_tokens": RESERVED})),
        "messages" => ("/v1/messages", json!({"messages": messages, "max_tokens": RESERVED})),
        "responses" => ("/v1/responses", json!({"input": "Hello, world", "max_output_tokens": RESERVED})),
        _ => return ("/v1/embeddings", json!({"model": "chat", "input": "Hello, world"})),
    };
    body["model"] = json!("chat");
    body["stream"] = json!(stream);
    match asks {
        Asks::Nothing => {}
        Asks::Usage => body["stream_options"] = json!({"include_usage": true}),
        Asks::OtherOptions => body["stream_options"] = json!({"continuous_usage_stats": true}),
    }
    (path, body)
}

#[test]
fn without_a_report_each_text_is_charged_once() {
    for golden in all().iter().filter(|golden| golden.dialect != "embeddings") {
        let body = golden.body.replace("\"usage\"", "\"x\"");
        let (path, ask) = ask(&golden.dialect, golden.is_stream, Asks::Usage);
        let wire = Wire::plain();
        for pieces in [vec![body.as_bytes()], body.as_bytes().chunks(7).collect()] {
            let (facts, _) = exchange(path, &ask, &wire, &pieces);
            let tokens: u64 = golden.texts.iter().map(|text| count(text)).sum();
            assert_eq!(facts.used.map(|used| used.completion.0), Some(tokens), "{body}");
        }
    }
}

fn count(text: &str) -> u64 {
    let mut counter = Counter::new(Encoding::O200kBase);
    counter.push(text);
    counter.finish()
}

/// What became of an answer that came in these pieces.
fn exchange(path: &str, ask: &Value, wire: &Wire, pieces: &[&[u8]]) -> (Facts, Vec<u8>) {
    let mut proxy = Proxy::new(r#"{"models":[{"name":"chat"}]}"#);
    let mut flight = proxy.open();
    let headers: Headers = vec![(":method".into(), b"POST".to_vec()), (":path".into(), path.into())];
    proxy.tell(&mut flight, Event::RequestHead { headers: &headers, end: false });
    proxy.tell(&mut flight, Event::RequestChunk { bytes: ask.to_string().as_bytes(), end: true });
    assert!(flight.went(), "{:?}", flight.reply());
    let mut head: Headers = vec![(":status".into(), b"200".to_vec())];
    let named = [("content-type", &wire.kind), ("content-encoding", &wire.coding)];
    head.extend(named.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value.clone()?.into_bytes()))));
    let is_whole = wire.ending == Ending::Whole;
    proxy.tell(&mut flight, Event::ResponseHead { headers: &head, end: is_whole && pieces.is_empty() });
    let mut got = Vec::new();
    for (index, piece) in pieces.iter().enumerate() {
        let end = is_whole && index + 1 == pieces.len();
        let effects = proxy.tell(&mut flight, Event::ResponseChunk { bytes: piece, end });
        let forward = effects.into_iter().find_map(|effect| match effect {
            Effect::ResponseBytes(bytes) => Some(bytes),
            _ => None,
        });
        got.extend(forward.unwrap_or_else(|| piece.to_vec()));
    }
    if wire.ending == Ending::ClientLeft {
        flight.props.0.insert("response.code_details".into(), b"downstream_remote_disconnect".to_vec());
    }
    proxy.close(&mut flight);
    (flight.facts(), got)
}

fn cut<'a>(body: &'a [u8], at: &[prop::sample::Index]) -> Vec<&'a [u8]> {
    let mut ends: Vec<usize> = at.iter().map(|at| at.index(body.len() + 1)).chain([0, body.len()]).collect();
    ends.sort_unstable();
    ends.dedup();
    ends.windows(2).map(|pair| &body[pair[0]..pair[1]]).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_a_server_sends_is_conserved_and_paid_for(
        file in any::<prop::sample::Index>(),
        changes in prop::collection::vec(any::<Change>(), 0..5),
        wire in any::<Wire>(),
        is_asked_as_sent in prop::bool::weighted(0.8),
        asks in prop_oneof![Just(Asks::Nothing), Just(Asks::Usage), Just(Asks::OtherOptions)],
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
    ) {
        let all = all();
        let golden = file.get(&all);
        let body = mutator::body(&golden.body, golden.is_stream, &changes, &wire);
        let stream = golden.is_stream == is_asked_as_sent;
        let has_options = stream && matches!(golden.dialect.as_str(), "chat" | "completions");
        let asks = if has_options { asks } else { Asks::Nothing };
        let (path, ask) = ask(&golden.dialect, stream, asks);
        let pieces = cut(&body, &cuts);
        let (facts, got) = exchange(path, &ask, &wire, &pieces);
        let text = String::from_utf8_lossy(&body).into_owned();

        // How it is cut makes no difference.
        if wire.ending == Ending::Whole {
            let (whole, whole_got) = exchange(path, &ask, &wire, &cut(&body, &[]));
            prop_assert_eq!((facts.used, facts.outcome, &got), (whole.used, whole.outcome, &whole_got), "{}", text);
        }

        // Conservation.
        let is_filtered = has_options && asks != Asks::Usage && wire.is_plain() && !naive::is_json(&body);
        let mut rest = body.iter();
        prop_assert!(got.iter().all(|byte| rest.any(|known| known == byte)), "something was added: {}", text);
        if !is_filtered {
            prop_assert_eq!(&got, &body);
        } else if wire.ending == Ending::Whole {
            let shown = naive::events(&String::from_utf8_lossy(&got));
            prop_assert_eq!(shown, naive::without_usage(&text, asks), "{}", text);
        }

        // The charge.
        let (outcome, own) = (facts.outcome.expect("an outcome"), facts.prompt_tokens.0);
        let words = if wire.is_plain() { naive::words(&golden.dialect, &text) } else { 0 };
        let reported = naive::reported(&text);
        if wire.is_plain() && golden.dialect != "embeddings" {
            let completion = facts.used.map_or(0, |used| used.completion.0);
            // Wherever it stands.
            prop_assert!(completion > 0 || naive::readable(&text) <= WORDS_MAX, "it was free: {}", text);
            if naive::is_broken(&text) && reported.completion == 0 {
                prop_assert!(completion >= RESERVED, "{} for what cannot be read: {}", completion, text);
            }
        }
        let Some(used) = facts.used else {
            prop_assert_eq!(words, 0, "it was free: {}", text);
            prop_assert_eq!(outcome, Outcome::UpstreamError, "{}", text);
            prop_assert!(wire.is_plain() || body.is_empty(), "it was free: {}", text);
            return Ok(());
        };
        prop_assert!(used.prompt.0 > 0 && used.prompt.0 <= own.max(reported.prompt), "{:?}: {}", used, text);
        prop_assert!(used.completion.0 <= RESERVED.max(reported.completion), "{:?}: {}", used, text);
        prop_assert!(used.cached <= used.prompt && used.reasoning <= used.completion);
        prop_assert!(used.completion.0 * 8 >= words, "{} words, {:?}: {}", words, used, text);
        if used.counted {
            prop_assert!(used.completion.0 >= words, "{} words, {:?}: {}", words, used, text);
        }
        if !wire.is_plain() && golden.dialect != "embeddings" && !body.is_empty() {
            prop_assert_eq!(used.completion.0, RESERVED);
        }
    }
}
