//! Counting a text that arrives in pieces.
#![allow(clippy::arithmetic_side_effects, reason = "positions in a text, and numbers of tokens in it")]

use alloc::vec::Vec;
use core::ops::Range;

use crate::Encoding;
use crate::core::{Core, with_core};
use crate::long::{Ended, Long};
use crate::vocabulary::Vocabulary;

/// Text is collected to this many bytes before it is counted.
const BATCH: usize = 4096;
/// What is undecided is one piece when it has grown to this, and is treated as a long one.
const HELD_MAX: usize = 1 << 14;
/// What a text is taken to cost when nothing of it has been counted.
const BYTES_PER_TOKEN: u64 = 4;

/// The pieces of a text, within which tokens are merged, with the tokens of each: for who wants to see what a text costs and why. They are all
/// of the text, in order, and cost what it costs.
pub fn cut(vocabulary: &'static Vocabulary, text: &str) -> Vec<(Range<usize>, u64)> {
    with_core(vocabulary, |core| core.pieces(text.as_bytes()))
}

/// A number of tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// The tokens.
    pub tokens: u64,
    /// Whether a part of them was extrapolated, because the budget was used up.
    pub estimated: bool,
}

/// Counts one text that arrives in pieces, and then the next.
///
/// The count is that of the whole text, wherever it was cut. Of the text only the end is held that is not decided yet, which is less
/// than 64 KiB whatever the text is.
pub struct Counter {
    vocabulary: &'static Vocabulary,
    held: Vec<u8>,
    /// The held text is looked at when it has this many bytes: often enough to keep it short, and seldom enough that looking at what
    /// stays undecided again and again costs no more than a constant per byte.
    look_at: usize,
    long: Option<Long>,
    /// Tokens of the current text.
    tokens: u64,
    /// Bytes of the current text that are beyond the budget.
    beyond: u64,
    /// Bytes that may still be counted.
    budget: u64,
    /// Over all texts, what was counted exactly.
    counted: (u64, u64),
    batch: usize,
}

impl Counter {
    /// A counter for one text after another.
    pub fn new(encoding: Encoding) -> Self {
        Self::with_vocabulary(encoding.vocabulary())
    }

    /// A counter with a vocabulary of one's own.
    pub fn with_vocabulary(vocabulary: &'static Vocabulary) -> Self {
        Self {
            vocabulary,
            held: Vec::new(),
            look_at: BATCH,
            batch: BATCH,
            long: None,
            tokens: 0,
            beyond: 0,
            budget: u64::MAX,
            counted: (0, 0),
        }
    }

    /// Limits the work: of all texts together so many bytes are counted. The tokens of the rest are extrapolated from the tokens per byte
    /// until then (one for four bytes if there are none), and the count is marked as estimated.
    #[must_use]
    pub fn with_budget(mut self, bytes: u64) -> Self {
        self.budget = bytes;
        self
    }

    /// Collects less before it counts: for texts that come slowly, many at a time.
    #[must_use]
    pub fn with_batch(mut self, bytes: usize) -> Self {
        self.batch = bytes.clamp(64, BATCH);
        self.look_at = self.batch;
        self
    }

    /// The next piece of the current text.
    pub fn push(&mut self, piece: &str) {
        let within = usize::try_from(self.budget).unwrap_or(usize::MAX).min(piece.len());
        let (within, beyond) = piece.as_bytes().split_at(piece.floor_char_boundary(within));
        self.beyond += beyond.len() as u64;
        self.counted.1 += within.len() as u64;
        self.budget = if beyond.is_empty() { self.budget.saturating_sub(within.len() as u64) } else { 0 };
        let mut rest = within;
        if self.held.is_empty() && rest.len() >= self.batch {
            let (tokens, used) = with_core(self.vocabulary, |core| core.count(rest, false, u64::MAX));
            self.tokens += tokens;
            rest = rest.get(used..).unwrap_or_default();
        }
        while !rest.is_empty() {
            let (batch, after) = rest.split_at(boundary(rest, self.batch));
            self.held.extend_from_slice(batch);
            rest = after;
            if self.held.len() >= self.look_at {
                self.look(false);
                self.look_at = (self.held.len() * 2).clamp(self.batch, self.held.len() + HELD_MAX);
            }
        }
    }

    /// The tokens of the text that has been pushed; the counter is then ready for the next one.
    pub fn finish(&mut self) -> u64 {
        self.finish_count().tokens
    }

    /// As [`finish`](Self::finish), and tells whether the number is estimated.
    pub fn finish_count(&mut self) -> Count {
        self.look(true);
        self.counted.0 += self.tokens;
        let (tokens, bytes) = if self.counted.1 == 0 { (1, BYTES_PER_TOKEN) } else { self.counted };
        let more =
            if self.beyond == 0 { 0 } else { u128::from(self.beyond) * u128::from(tokens) / u128::from(bytes.max(1)) };
        let count = Count {
            tokens: self.tokens.saturating_add(u64::try_from(more).unwrap_or(u64::MAX)),
            estimated: self.beyond > 0,
        };
        self.look_at = self.batch;
        (self.tokens, self.beyond) = (0, 0);
        count
    }

    /// Counts what is decided of the held text.
    fn look(&mut self, last: bool) {
        // What counts nothing needs no table.
        if self.held.is_empty() && self.long.is_none() {
            return;
        }
        with_core(self.vocabulary, |core| self.look_with(core, last));
    }

    fn look_with(&mut self, core: &mut Core<'_>, last: bool) {
        let mut from = 0;
        loop {
            let held = self.held.get(from..).unwrap_or_default();
            if let Some(long) = &mut self.long {
                match long.advance(core, held, last) {
                    Some(Ended { tokens, resume }) => {
                        self.tokens += tokens;
                        from += resume;
                        self.long = None;
                        continue;
                    }
                    None if held.len() >= HELD_MAX => from += long.settle(core, held),
                    None => {}
                }
                break;
            }
            let (tokens, used) = core.count(held, last, u64::MAX);
            self.tokens += tokens;
            from += used;
            let undecided = held.get(used..).unwrap_or_default();
            if last || undecided.len() < HELD_MAX {
                break;
            }
            self.long = Long::begin(undecided, core.vocabulary.pattern);
            if self.long.is_none() {
                break;
            }
        }
        self.held.drain(..from);
    }
}

/// Where to cut after at most `most` bytes, so that no character is cut.
fn boundary(text: &[u8], most: usize) -> usize {
    if text.len() <= most {
        return text.len();
    }
    (0..=most).rev().find(|at| text.get(*at).is_some_and(|byte| byte & 0xc0 != 0x80)).unwrap_or(most)
}
