//! Responses of every dialect, streamed and not, cut anywhere: the same is read however they are cut, and hiding usage leaves out events and
//! members and adds nothing: `cargo +nightly fuzz run response` in `filters/dialects`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use penstock_dialects::{CompletionSink, Dialect, Quality, Reading, ResponseReader, Usage, UsageFilter};

#[derive(Default, Debug, PartialEq)]
struct Texts(std::collections::BTreeMap<u32, String>, u64);

impl CompletionSink for Texts {
    fn part(&mut self, choice: u32, text: &str) {
        self.0.entry(choice).or_default().push_str(text);
    }

    fn end(&mut self) {
        self.1 += 1;
    }
}

fn read(dialect: Dialect, body: &[u8], size: usize) -> (Option<Usage>, bool, Reading, Quality, Texts) {
    let (mut reader, mut texts) = (ResponseReader::new(dialect, true), Texts::default());
    body.chunks(size).for_each(|piece| reader.push(piece, &mut texts));
    (reader.usage(), reader.failed(), reader.reading(true), reader.quality(), texts)
}

fn shown(body: &[u8], size: usize) -> Vec<u8> {
    let mut filter = UsageFilter::default();
    let mut out = Vec::new();
    for piece in body.chunks(size) {
        out.extend(filter.push(piece).unwrap_or_else(|| piece.to_vec()));
    }
    out.extend(filter.finish());
    out
}

fuzz_target!(|input: (u8, u8, &[u8])| {
    let (dialect, size, body) = input;
    let dialect = Dialect::ALL[usize::from(dialect) % Dialect::ALL.len()];
    let (whole, cut) = (body.len().max(1), usize::from(size).max(1));
    assert_eq!(read(dialect, body, whole), read(dialect, body, cut));
    // The longest event that is looked at depends on how it is cut only in what is let go unread.
    if body.len() <= UsageFilter::HELD_MAX {
        let shown_whole = shown(body, whole);
        assert_eq!(shown_whole, shown(body, cut));
        let mut rest = body.iter();
        assert!(shown_whole.iter().all(|byte| rest.any(|known| known == byte)), "something was added");
    }
});
