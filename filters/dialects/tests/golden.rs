//! What real servers reader is read as documented, however the network cuts it.

use std::fs;
use std::path::Path;

use penstock_dialects::{CompletionSink, Dialect, Finish, ResponseReader, Usage};
use proptest::prelude::*;
use serde_json::{Value, json};

#[derive(Default)]
struct Texts(Vec<String>);

impl CompletionSink for Texts {
    fn part(&mut self, choice: u32, text: &str) {
        let choice = choice as usize;
        if self.0.len() <= choice {
            self.0.resize(choice + 1, String::new());
        }
        self.0[choice].push_str(text);
    }
    fn end(&mut self) {}
}

fn dialect(name: &str) -> Dialect {
    match name {
        "chat" => Dialect::Chat,
        "completions" => Dialect::Completions,
        "responses" => Dialect::Responses,
        "embeddings" => Dialect::Embeddings,
        "messages" => Dialect::Messages,
        other => panic!("the dialect {other:?}"),
    }
}

/// The reading of a body in pieces, in the form of `readings.json`.
fn reading<'a>(as_in: &Value, pieces: impl Iterator<Item = &'a [u8]>) -> Value {
    let mut reader = ResponseReader::new(dialect(as_in["dialect"].as_str().unwrap_or_default()), false);
    let mut texts = Texts::default();
    pieces.for_each(|piece| reader.push(piece, &mut texts));
    let quality = reader.quality();
    let usage = reader.usage().map(|usage| {
        let Usage { prompt, cached, cache_creation, completion, reasoning } = usage;
        json!({"prompt": prompt, "cached": cached, "cacheCreation": cache_creation, "completion": completion, "reasoning": reasoning})
    });
    let mut reading = json!({
        "dialect": as_in["dialect"],
        "usage": usage,
        "texts": texts.0,
        "finish": quality.finish.map(Finish::label),
    });
    if quality.tool_calls > 0 {
        reading["toolCalls"] = json!(quality.tool_calls);
    }
    if quality.malformed_tool_args {
        reading["malformedToolArgs"] = json!(true);
    }
    if reader.failed() {
        reading["failed"] = json!(true);
    }
    reading
}

fn all() -> Vec<(String, Vec<u8>, Value)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden");
    let readings = fs::read(directory.join("readings.json")).expect("readings.json");
    let readings: serde_json::Map<String, Value> = serde_json::from_slice(&readings).expect("JSON");
    let files = fs::read_dir(&directory).expect("the directory").count();
    assert_eq!(readings.len() + 2, files, "every file has a reading");
    readings
        .into_iter()
        .map(|(name, expected)| {
            let bytes = fs::read(directory.join(&name)).unwrap_or_else(|error| panic!("{name}: {error}"));
            (name, bytes, expected)
        })
        .collect()
}

#[test]
fn answers_of_real_servers_are_read() {
    for (name, bytes, expected) in all() {
        for size in [1, 2, 3, 7, 64, usize::MAX] {
            assert_eq!(reading(&expected, bytes.chunks(size)), expected, "{name} in pieces of {size}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// Damaged answers, too: whatever is read in them does not depend on how they are cut.
    #[test]
    fn how_it_is_cut_makes_no_difference(
        file in any::<prop::sample::Index>(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..30),
    ) {
        let all = all();
        let (_, bytes, expected) = file.get(&all);
        let mut bytes = bytes.clone();
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let mut ends: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len())).collect();
        ends.extend([0, bytes.len()]);
        ends.sort_unstable();
        let pieces = ends.windows(2).map(|pair| &bytes[pair[0]..pair[1]]);
        prop_assert_eq!(reading(expected, pieces), reading(expected, std::iter::once(bytes.as_slice())));
    }
}
