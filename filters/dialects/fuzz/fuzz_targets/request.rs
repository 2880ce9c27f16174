//! Requests of every dialect, cut anywhere: the same is read however they are cut, and an edit changes what it is about and nothing else,
//! by the judgement of serde_json: `cargo +nightly fuzz run request` in `filters/dialects`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use penstock_dialects::{Dialect, PromptSink, Request, RequestReader, Unreadable, apply};
use serde_json::Value;

#[derive(Default, Debug, PartialEq)]
struct Texts(Vec<String>, String);

impl PromptSink for Texts {
    fn part(&mut self, text: &str) {
        self.1.push_str(text);
    }

    fn end(&mut self) {
        self.0.push(std::mem::take(&mut self.1));
    }
}

fn read(dialect: Dialect, body: &[u8], size: usize) -> Result<(Request, Texts), Unreadable> {
    let (mut reader, mut texts) = (RequestReader::new(dialect), Texts::default());
    for piece in body.chunks(size) {
        reader.push(piece, &mut texts)?;
    }
    Ok((reader.finish(&mut texts)?, texts))
}

fuzz_target!(|input: (u8, u8, &[u8])| {
    let (dialect, size, body) = input;
    let dialect = Dialect::ALL[usize::from(dialect) % Dialect::ALL.len()];
    let whole = read(dialect, body, body.len().max(1));
    let cut = read(dialect, body, usize::from(size).max(1));
    // Of several things that are wrong with it, which one is reported may depend on the cuts.
    assert_eq!(whole.as_ref().ok().map(|read| &read.1), cut.as_ref().ok().map(|read| &read.1));
    let Ok((request, _)) = whole else { return };
    // What is accepted beyond RFC 8259 cannot be judged.
    let Ok(before) = serde_json::from_slice::<Value>(body) else { return };
    // Only what names a model is edited.
    if request.model.is_none() {
        return;
    }
    let mut splices = request.with_model("m\"\n");
    splices.extend(request.with_ceiling(7, dialect.ceiling_key().map(|key| (key, 7))));
    if request.stream && dialect.usage_on_request() && !request.include_usage {
        splices.extend(request.with_usage());
    }
    let after = apply(body, splices);
    let after: Value = serde_json::from_slice(&after).expect("an edited request is JSON");
    let (Value::Object(mut before), Value::Object(mut after)) = (before, after) else { panic!("not an object") };
    assert_eq!(after["model"], "m\"\n");
    if request.stream && dialect.usage_on_request() {
        assert_eq!(after["stream_options"]["include_usage"], true);
    }
    for edited in ["model", "max_tokens", "max_completion_tokens", "n_predict", "max_output_tokens", "stream_options"] {
        before.remove(edited);
        after.remove(edited);
    }
    assert_eq!(before, after);
});
