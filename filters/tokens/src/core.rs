//! Counting the pieces of a text.
#![allow(clippy::arithmetic_side_effects, reason = "positions in a text, and numbers of tokens in it")]

use alloc::boxed::Box;

use penstock_token_tables::layout::Pattern;

use crate::block::Starts;
use crate::merge;
use crate::pieces::piece;
use crate::vocabulary::{Vocabulary, medium_key, mix_medium, mix_short, short_key};

/// How many pieces that are no tokens are remembered, as a power of two.
const CACHE_BITS: u32 = 7;

/// Counts pieces with a vocabulary, and remembers what it has learnt on the way.
pub(crate) struct Core {
    pub(crate) vocabulary: &'static Vocabulary,
    /// Pieces of up to 15 bytes that are no token: the bytes, in the top byte the length below the number of tokens.
    cache: Option<Box<[u128; 1 << CACHE_BITS]>>,
    /// Whether that is worth its 2 KiB.
    pub(crate) remembers: bool,
}

impl Core {
    pub(crate) fn new(vocabulary: &'static Vocabulary) -> Self {
        Self { vocabulary, cache: None, remembers: true }
    }

    /// Counts the pieces of `text` until it ends or there are more than `most` tokens. Returns the tokens and the bytes that were
    /// counted; without `last` these are the pieces that are complete whatever follows.
    pub(crate) fn count(&mut self, text: &[u8], last: bool, most: u64) -> (u64, usize) {
        if self.vocabulary.pattern.has(Pattern::CASED) {
            self.count_pieces::<true>(text, last, most)
        } else {
            self.count_pieces::<false>(text, last, most)
        }
    }

    fn count_pieces<const CASED: bool>(&mut self, text: &[u8], last: bool, most: u64) -> (u64, usize) {
        let vocabulary = *self.vocabulary;
        let pattern = vocabulary.pattern;
        let (mut tokens, mut at) = (0, 0);
        while at < text.len() && tokens <= most {
            let block = at;
            // What is not ASCII, if need be after a space, is known to be in doubt.
            if !(is_wide(text, at) || is_wide(text, at + 1)) {
                let mut starts = Starts::at::<CASED>(text, block, pattern);
                while let Some(end) = starts.end() {
                    let end = block + end;
                    tokens += self.piece(&vocabulary, text, at, end);
                    at = end;
                    if tokens > most {
                        return (tokens, at);
                    }
                }
                if at > block && starts.is_used_up() {
                    continue;
                }
            }
            let Some(end) = piece(text, at, pattern, last) else { break };
            tokens += self.piece(&vocabulary, text, at, end);
            at = end;
        }
        (tokens, at)
    }

    /// The tokens of the piece of `text` from `at` to `end`.
    #[inline(always)]
    fn piece(&mut self, vocabulary: &Vocabulary, text: &[u8], at: usize, end: usize) -> u64 {
        let length = end - at;
        match length {
            0 | 1 => length as u64,
            2..=7 => {
                let key = short_key(word_at(text, at), length);
                let mixed = mix_short(key);
                if vocabulary.has_short(key, mixed) {
                    return 1;
                }
                let bytes = key & (u64::MAX >> 8);
                self.remembered(text, at, end, u128::from(bytes), mixed)
            }
            8..=15 => {
                let (low, high) = medium_key(word_at(text, at), word_at(text, at + 8), length);
                let mixed = mix_medium(low, high);
                if vocabulary.has_medium(u128::from(low) | u128::from(high) << 64, mixed) {
                    return 1;
                }
                let bytes = u128::from(low) | u128::from(high & (u64::MAX >> 8)) << 64;
                self.remembered(text, at, end, bytes, mixed)
            }
            _ => self.long_piece(text.get(at..end).unwrap_or_default()),
        }
    }

    /// A piece of up to 15 bytes that is no token.
    fn remembered(&mut self, text: &[u8], at: usize, end: usize, bytes: u128, mixed: u64) -> u64 {
        const COUNT_SHIFT: u32 = 124;
        if !self.remembers {
            return merge::count(self.vocabulary, text.get(at..end).unwrap_or_default());
        }
        let key = bytes | ((end - at) as u128) << 120;
        let cache = self.cache.get_or_insert_with(|| Box::new([0; 1 << CACHE_BITS]));
        let index = (mixed >> 8) as usize & ((1 << CACHE_BITS) - 1);
        let known = cache.get(index).copied().unwrap_or_default();
        if known & ((1 << COUNT_SHIFT) - 1) == key {
            return (known >> COUNT_SHIFT) as u64;
        }
        let tokens = merge::count(self.vocabulary, text.get(at..end).unwrap_or_default());
        if let Some(entry) = cache.get_mut(index) {
            *entry = key | u128::from(tokens) << COUNT_SHIFT;
        }
        tokens
    }

    fn long_piece(&mut self, piece: &[u8]) -> u64 {
        if self.vocabulary.has_long(piece) { 1 } else { merge::count(self.vocabulary, piece) }
    }
}

/// Eight bytes of `text` from `at`, with zeros for what is beyond the end.
#[inline(always)]
fn word_at(text: &[u8], at: usize) -> u64 {
    match text.get(at..).and_then(<[u8]>::first_chunk) {
        Some(chunk) => u64::from_le_bytes(*chunk),
        None => word_at_end(text, at),
    }
}

#[cold]
#[inline(never)]
fn word_at_end(text: &[u8], at: usize) -> u64 {
    let rest = text.get(at..).unwrap_or_default();
    rest.iter().take(8).rev().fold(0, |word, byte| word << 8 | u64::from(*byte))
}

#[inline(always)]
fn is_wide(text: &[u8], at: usize) -> bool {
    text.get(at).is_some_and(|byte| *byte >= 0x80)
}
