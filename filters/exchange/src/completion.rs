//! From what is generated to tokens.

use penstock_dialects::CompletionSink;
use penstock_tokens::{Counter, Encoding};
use penstock_units::Tokens;

/// Bytes of an answer that are collected before they are counted.
const BATCH: usize = 256;
/// How many answers of one response are counted apart; further ones are counted with the last of these.
const ANSWERS_MAX: usize = 8;

/// Watches what is generated.
pub struct Completion {
    encoding: Encoding,
    counters: Vec<Counter>,
    /// Pieces of the answer that carried text: what a stream has brought so far.
    pub deltas: u64,
    any: bool,
}

impl Completion {
    /// For answers in `encoding`.
    pub fn new(encoding: Encoding) -> Self {
        Self { encoding, counters: Vec::new(), deltas: 0, any: false }
    }

    /// The tokens of everything that was generated, each answer as one text.
    pub fn tokens(&mut self) -> Tokens {
        self.counters.iter_mut().map(Counter::finish).map(Tokens).sum()
    }
}

impl CompletionSink for Completion {
    fn part(&mut self, answer: u32, text: &str) {
        self.any = true;
        let answer = usize::try_from(answer).unwrap_or(ANSWERS_MAX).min(ANSWERS_MAX.saturating_sub(1));
        while self.counters.len() <= answer {
            // Nearly all requests ask for one answer, and room for more would stand there as long as the stream does.
            self.counters.reserve_exact(1);
            self.counters.push(Counter::new(self.encoding).with_batch(BATCH));
        }
        if let Some(counter) = self.counters.get_mut(answer) {
            counter.push(text);
        }
    }

    fn end(&mut self) {
        if core::mem::take(&mut self.any) {
            self.deltas = self.deltas.saturating_add(1);
        }
    }
}
