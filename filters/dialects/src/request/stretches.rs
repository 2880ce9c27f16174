//! Data in no known format: some of it may be text, whatever stands in front of that. So every stretch of it is judged by itself.

use crate::request::base64::{Joined, bits};
use crate::request::classify::is_stretch_of_text;
use crate::sink::PromptSink;

/// How long a stretch is, in bytes: as much as is looked at where data begins.
const LENGTH: usize = 72;

/// Reads data as it comes.
#[derive(Default)]
pub struct Stretches {
    joined: Joined,
    /// The current stretch.
    bytes: Vec<u8>,
    /// How many bytes of text there were.
    texts: u64,
}

impl Stretches {
    /// The next piece, in base64.
    pub fn push(&mut self, text: &str, sink: &mut impl PromptSink) {
        for bits in text.bytes().filter_map(bits) {
            self.bytes.extend(self.joined.add(bits));
            if self.bytes.len() >= LENGTH {
                self.judge(sink);
            }
        }
    }

    /// It is complete. How many bytes of it were text, which the counter has.
    pub fn end(mut self, sink: &mut impl PromptSink) -> u64 {
        self.judge(sink);
        if self.texts > 0 {
            sink.end();
        }
        self.texts
    }

    fn judge(&mut self, sink: &mut impl PromptSink) {
        if is_stretch_of_text(&self.bytes) {
            sink.part(&String::from_utf8_lossy(&self.bytes));
            self.texts = self.texts.saturating_add(self.bytes.len() as u64);
        }
        self.bytes.clear();
    }
}
