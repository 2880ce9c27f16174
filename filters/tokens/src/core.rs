//! Counting the pieces of a text.
#![allow(clippy::arithmetic_side_effects, reason = "positions in a text, and numbers of tokens in it")]

use alloc::vec::Vec;
use core::cell::RefCell;
use core::ops::Range;
use core::ptr;

use penstock_token_tables::layout::{Pattern, medium_key, mix, mix2, short_key};

use crate::block::Starts;
use crate::forward::{self, Last};
use crate::lazy::loaded;
use crate::merge::{Parts, Settled};
use crate::pieces::piece;
use crate::vocabulary::Vocabulary;

/// How many pieces that are no tokens are remembered of each vocabulary, as a power of two.
const CACHE_BITS: u32 = 10;
/// Of how many vocabularies.
const CACHES: usize = 3;
/// Where the number of tokens is in an entry.
const COUNT_SHIFT: u32 = 68;
const COUNT: u128 = 15 << COUNT_SHIFT;
/// The bits of bytes that are not ASCII.
const HIGH: u64 = 0x8080_8080_8080_8080;

thread_local! {
    static ROOM: RefCell<Room> = const {
        RefCell::new(Room { caches: [Cache::EMPTY; CACHES], taken_last: 0, merging: Merging::EMPTY })
    };
}

/// What counting works in: one for all texts that a thread counts, one after the other.
struct Room {
    caches: [Cache; CACHES],
    /// The cache that was taken last for a vocabulary that had none.
    taken_last: usize,
    merging: Merging,
}

/// Pieces of up to 15 bytes that are no token.
struct Cache {
    /// The address of the vocabulary; 0 if none.
    of: usize,
    /// The key of each, and in bits that no key has, [`COUNT`], its tokens.
    entries: [u128; 1 << CACHE_BITS],
}

impl Cache {
    const EMPTY: Self = Self { of: 0, entries: [0; 1 << CACHE_BITS] };
}

impl Room {
    fn core(&mut self, vocabulary: &'static Vocabulary) -> Core<'_> {
        let Self { caches, taken_last, merging } = self;
        let of = ptr::from_ref(vocabulary).addr();
        let at = caches.iter().position(|cache| cache.of == of).unwrap_or_else(|| {
            *taken_last = taken_last.wrapping_add(1) % CACHES;
            *taken_last
        });
        #[expect(clippy::indexing_slicing, reason = "an index below CACHES")]
        let cache = &mut caches[at];
        if cache.of != of {
            if cache.of != 0 {
                cache.entries.fill(0);
            }
            cache.of = of;
        }
        Core { vocabulary, cache, merging }
    }
}

/// Counts with a vocabulary.
pub(crate) fn with_core<T>(vocabulary: &'static Vocabulary, count: impl FnOnce(&mut Core<'_>) -> T) -> T {
    ROOM.with_borrow_mut(|room| count(&mut room.core(loaded(vocabulary))))
}

/// Counts pieces with a vocabulary, and remembers what it has learnt on the way.
pub(crate) struct Core<'a> {
    pub(crate) vocabulary: &'static Vocabulary,
    cache: &'a mut Cache,
    merging: &'a mut Merging,
}

impl Core<'_> {
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
        'blocks: while at < text.len() && tokens <= most {
            // A block is worth its while if it begins with some ASCII.
            if word_at(text, at) & HIGH == 0 {
                let block = at;
                let mut starts = Starts::at::<CASED>(text, block, pattern);
                loop {
                    while let Some(end) = starts.end() {
                        tokens += self.piece(&vocabulary, text, at, block + end);
                        at = block + end;
                    }
                    if at > block && starts.is_used_up() {
                        continue 'blocks;
                    }
                    let Some(end) = piece(text, at, pattern, last) else { break 'blocks };
                    tokens += self.piece(&vocabulary, text, at, end);
                    at = end;
                    // Between a letter and a space it does not matter how the letter's piece was found.
                    let after_word =
                        matches!(text.get(at - 1..=at), Some([letter, b' ']) if letter.is_ascii_alphabetic());
                    if !after_word || !starts.resume(at - block) {
                        continue 'blocks;
                    }
                }
            }
            let Some(end) = piece(text, at, pattern, last) else { break };
            tokens += self.piece(&vocabulary, text, at, end);
            at = end;
        }
        (tokens, at)
    }

    /// All pieces of a whole text, with the tokens of each.
    pub(crate) fn pieces(&mut self, text: &[u8]) -> Vec<(Range<usize>, u64)> {
        let vocabulary = *self.vocabulary;
        let (mut pieces, mut at) = (Vec::new(), 0);
        while at < text.len()
            && let Some(end) = piece(text, at, vocabulary.pattern, true)
        {
            pieces.push((at..end, self.piece(&vocabulary, text, at, end)));
            at = end;
        }
        pieces
    }

    /// The tokens of the piece of `text` from `at` to `end`.
    #[inline(always)]
    fn piece(&mut self, vocabulary: &Vocabulary, text: &[u8], at: usize, end: usize) -> u64 {
        let length = end - at;
        match length {
            0 | 1 => length as u64,
            2..=7 => {
                let key = short_key(word_at(text, at), length);
                let mixed = mix(key);
                if vocabulary.has_short(key, mixed) {
                    return 1;
                }
                self.remembered(text, at, end, u128::from(key) << 64, mixed)
            }
            8..=15 => {
                let (first, last) = medium_key(word_at(text, at), word_at(text, end - 8), length);
                let mixed = mix2(first, last);
                let key = u128::from(first) | u128::from(last) << 64;
                if vocabulary.has_medium(key, mixed) {
                    return 1;
                }
                self.remembered(text, at, end, key, mixed)
            }
            _ => self.long_piece(text.get(at..end).unwrap_or_default()),
        }
    }

    /// A piece of up to 15 bytes that is no token.
    fn remembered(&mut self, text: &[u8], at: usize, end: usize, key: u128, mixed: u64) -> u64 {
        let index = (mixed >> (u64::BITS - CACHE_BITS)) as usize;
        #[expect(clippy::indexing_slicing, reason = "CACHE_BITS bits")]
        let known = &mut self.cache.entries[index];
        if *known & !COUNT == key {
            return ((*known & COUNT) >> COUNT_SHIFT) as u64;
        }
        let tokens = self.merging.count(self.vocabulary, text.get(at..end).unwrap_or_default());
        *known = key | u128::from(tokens) << COUNT_SHIFT;
        tokens
    }

    fn long_piece(&mut self, piece: &[u8]) -> u64 {
        if self.vocabulary.has_long(piece) { 1 } else { self.merged(piece) }
    }

    /// The tokens that merging leaves of a piece.
    pub(crate) fn merged(&mut self, piece: &[u8]) -> u64 {
        self.merging.count(self.vocabulary, piece)
    }

    /// Merges the beginning of a piece of which more follows, all but what that can change.
    pub(crate) fn settle(&mut self, piece: &[u8], pause: &mut Pause) -> Settled {
        self.merging.settle(self.vocabulary, piece, pause, false)
    }
}

/// Where going forward was given up, it is tried again after one window, then after two, and so on.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pause {
    windows: u32,
    tried: u32,
}

/// Finds what merging leaves: going forward, and where that takes too long, by merging.
struct Merging {
    last: Last,
    parts: Parts,
}

impl Merging {
    const EMPTY: Self = Self { last: Last::EMPTY, parts: Parts::EMPTY };

    /// The tokens of a piece.
    #[inline(always)]
    fn count(&mut self, vocabulary: &Vocabulary, piece: &[u8]) -> u64 {
        let found = forward::count(vocabulary, &mut self.last, piece, 0);
        match piece.get(found.bytes..) {
            Some(rest @ [_, ..]) => {
                let mut given_up = Pause { windows: 1, tried: 1 };
                found.tokens + self.settle(vocabulary, rest, &mut given_up, true).tokens
            }
            _ => found.tokens,
        }
    }

    /// The tokens of a piece, of all of it if it is the `whole`, and else what is final of any that begins so.
    #[cold]
    #[inline(never)]
    fn settle(&mut self, vocabulary: &Vocabulary, piece: &[u8], pause: &mut Pause, whole: bool) -> Settled {
        let (more, left_max) =
            if whole { (0, 0) } else { (vocabulary.longest, 2 * (vocabulary.reach + vocabulary.longest)) };
        let mut all = Settled::default();
        while let Some(rest) = piece.get(all.bytes..).filter(|rest| rest.len() > left_max) {
            let settled = if pause.windows > 0 {
                pause.windows -= 1;
                self.parts.settle(vocabulary, rest, whole)
            } else {
                let settled = forward::count(vocabulary, &mut self.last, rest, more);
                if rest.len() - settled.bytes > left_max {
                    pause.windows = 1 << pause.tried.min(16);
                    pause.tried += 1;
                }
                settled
            };
            all = Settled { bytes: all.bytes + settled.bytes, tokens: all.tokens + settled.tokens };
        }
        all
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

#[cfg(all(test, feature = "o200k", feature = "cl100k"))]
#[expect(clippy::indexing_slicing, reason = "in a test")]
mod tests {
    use super::*;
    use crate::Encoding;

    /// Pieces of few or many letters and of runs, of all lengths up to some windows, from a seed.
    fn pieces() -> impl Iterator<Item = Vec<u8>> {
        let mut state = 7_u64;
        let mut below = move |bound: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % bound
        };
        let alphabets: [Vec<char>; 9] = [
            vec!['a', 'b'],
            vec![' ', '\n'],
            vec!['-', '=', '!'],
            ('a'..='z').collect(),
            ('!'..='~').collect(),
            ('а'..='я').collect(),
            ('ا'..='ي').collect(),
            ('一'..='龥').collect(),
            ('\u{1f300}'..='\u{1f64f}').collect(),
        ];
        (0..1_500).map(move |index| {
            let alphabet = &alphabets[index % alphabets.len()];
            let length = 1 + below([12, 60, 400, 6_000][index % 4]);
            let mut piece = String::new();
            while piece.len() < length {
                let repeat = if below(8) == 0 { 1 + below(90) } else { 1 };
                piece.extend(std::iter::repeat_n(alphabet[below(alphabet.len())], repeat));
            }
            piece.into_bytes()
        })
    }

    #[test]
    fn going_forward_is_merging() {
        for vocabulary in [Encoding::O200kBase.vocabulary(), Encoding::Cl100kBase.vocabulary()] {
            with_core(vocabulary, |core| {
                let (mut found, mut all) = (0, 0);
                for piece in pieces() {
                    let (mut tokens, mut at) = (0, 0);
                    while at < piece.len() {
                        let settled = core.merging.parts.settle(vocabulary, &piece[at..], true);
                        (tokens, at) = (tokens + settled.tokens, at + settled.bytes);
                    }
                    let forward = forward::count(vocabulary, &mut core.merging.last, &piece, 0);
                    let whole = forward.bytes == piece.len();
                    assert!(!whole || forward.tokens == tokens, "{:?}", str::from_utf8(&piece));
                    assert_eq!(core.merged(&piece), tokens, "{:?}", str::from_utf8(&piece));
                    (found, all) = (found + u32::from(whole), all + 1);
                }
                assert!(found * 2 > all, "{found} of {all} pieces were found going forward");
            });
        }
    }

    #[test]
    fn pieces_are_the_text_and_cost_what_it_costs() {
        let text =
            "Don't say 12345 words:\r\n\r\n  お誕生日おめでとう, \u{1f600}\u{fe0f} HTTPServer2024 \t  end   ".repeat(7);
        let all: Vec<Vec<u8>> = pieces().collect();
        let long = String::from_utf8(all.concat()).unwrap();
        for (_, encoding) in Encoding::ALL {
            for text in ["", " ", "a", &text, &long] {
                let pieces = with_core(encoding.vocabulary(), |core| core.pieces(text.as_bytes()));
                let joined: String = pieces.iter().map(|(at, _)| &text[at.clone()]).collect();
                assert_eq!(joined, text);
                assert_eq!(pieces.iter().map(|(_, tokens)| tokens).sum::<u64>(), encoding.count(text));
            }
        }
    }

    #[test]
    fn what_is_settled_stays() {
        for vocabulary in [Encoding::O200kBase.vocabulary(), Encoding::Cl100kBase.vocabulary()] {
            with_core(vocabulary, |core| {
                let mut bytes = 0;
                for piece in pieces().filter(|piece| piece.len() > 2_000) {
                    let begins = &piece[..piece.len() / 2];
                    for settled in [
                        core.settle(begins, &mut Pause::default()),
                        forward::count(vocabulary, &mut core.merging.last, begins, vocabulary.longest),
                        core.merging.parts.settle(vocabulary, begins, false),
                    ] {
                        let rest = core.merged(&piece[settled.bytes..]);
                        assert_eq!(
                            settled.tokens + rest,
                            core.merged(&piece),
                            "{settled:?} of {:?}",
                            str::from_utf8(begins)
                        );
                        bytes += settled.bytes;
                    }
                }
                assert!(bytes > 100_000, "only {bytes} bytes were settled");
            });
        }
    }
}
