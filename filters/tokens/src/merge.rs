//! What merging leaves of a piece, by its definition: of all neighbours that merge, those of the lowest rank do, the leftmost first.
//!
//! Each pair of neighbours has its *order*, the rank with the position below it, so that the pair that is next is the one with the
//! least. The orders lie in rows of 16 with the least of each row above them, these again in rows of 16, so that a merge costs the same few
//! steps wherever it happens; what a byte costs is bounded, whatever the bytes are. What two tokens become has a higher rank than either,
//! so that pairs of one rank that follow each other are merged in one go: in runs of one character nearly all do.
//!
//! Of a long piece a window is merged at a time, as if nothing followed. What does follow can change the merging, but not far before
//! the window's end: the first merge that differs takes in the last part; the next one its left neighbour, and only later, with a higher
//! rank; and so on. So a vocabulary has a *reach*, the length of the longest chain of tokens in which such merges can follow each other
//! (719 bytes in `o200k`, 566 in `cl100k`), and what a window says before that is final. And as no merge crosses a border that is left
//! when all are done, the rest of the piece can be merged by itself.
#![allow(clippy::arithmetic_side_effects, reason = "positions in a window, and numbers of tokens in it")]

use core::ops::RangeInclusive;

use penstock_token_tables::layout::NO_TOKEN;

use crate::vocabulary::{Token, Vocabulary};

/// Bytes of a window.
const WINDOW: usize = 4096;
/// Orders of a row, and rows of a row of rows.
const ROW: usize = 16;

/// So many rows are looked at faster than the least of each is kept.
const FEW_ROWS: usize = 4;

/// Bits of a position in an order, below those of the rank.
const POSITION_BITS: u32 = 12;
const POSITION_MASK: u32 = (1 << POSITION_BITS) - 1;
const _: () =
    assert!(WINDOW <= 1 << POSITION_BITS && WINDOW <= ROW * ROW * ROW, "every position has an order, and a row");
/// The orders of two that do not merge are at least this.
const NEVER: u32 = NO_TOKEN << POSITION_BITS;

/// What is final of the beginning of a piece.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Settled {
    pub(crate) bytes: usize,
    pub(crate) tokens: u64,
}

/// The parts of a window, by the position at which they start.
pub(crate) struct Parts {
    parts: [Part; WINDOW],
    /// The order of each part and the next. Between one window and another there is none.
    orders: [u32; WINDOW],
    /// The least of each row.
    rows: [u32; WINDOW / ROW],
    /// The least of each row of these.
    tops: [u32; ROW],
}

/// A part, as one word: the token, and the positions of the parts before and after.
#[derive(Clone, Copy)]
struct Part(u64);

impl Part {
    const TOKEN_SHIFT: u32 = 32;
    const PREVIOUS_SHIFT: u32 = 16;
    const POSITION: u64 = (1 << 16) - 1;

    #[inline(always)]
    fn new(token: Token, previous: usize, next: usize) -> Self {
        Self(
            u64::from(token) << Self::TOKEN_SHIFT
                | (previous as u64 & Self::POSITION) << Self::PREVIOUS_SHIFT
                | next as u64,
        )
    }

    #[inline(always)]
    fn token(self) -> Token {
        (self.0 >> Self::TOKEN_SHIFT) as Token
    }

    #[inline(always)]
    fn previous(self) -> usize {
        (self.0 >> Self::PREVIOUS_SHIFT & Self::POSITION) as usize
    }

    #[inline(always)]
    fn next(self) -> usize {
        (self.0 & Self::POSITION) as usize
    }
}

impl Parts {
    pub(crate) const EMPTY: Self =
        Self { parts: [Part(0); WINDOW], orders: [NEVER; WINDOW], rows: [NEVER; WINDOW / ROW], tops: [NEVER; ROW] };

    /// Merges the beginning of a piece, as much as there is room for, and says what is final of it: all, if that is the `whole` piece.
    #[inline(never)]
    pub(crate) fn settle(&mut self, vocabulary: &Vocabulary, piece: &[u8], whole: bool) -> Settled {
        let window = piece.get(..WINDOW).unwrap_or(piece);
        let tokens = self.merge(vocabulary, window);
        if whole && window.len() == piece.len() {
            return Settled { bytes: window.len(), tokens };
        }
        let most = window.len().saturating_sub(vocabulary.reach);
        let mut settled = Settled::default();
        loop {
            let bytes = self.part(settled.bytes).next();
            // Only a damaged table has parts that do not end.
            if bytes > most || bytes <= settled.bytes {
                break;
            }
            settled = Settled { bytes, tokens: settled.tokens + 1 };
        }
        // And only such a table has a token as long as a window.
        if settled.bytes > 0 { settled } else { Settled { bytes: window.len(), tokens: 1 } }
    }

    /// Merges until nothing merges any more. Returns how many parts are left.
    fn merge(&mut self, vocabulary: &Vocabulary, window: &[u8]) -> u64 {
        self.fill(vocabulary, window);
        let mut left = window.len() as u64;
        let is_short = window.len() <= FEW_ROWS * ROW;
        if !is_short {
            self.lower(0..=window.len().saturating_sub(1));
        }
        loop {
            let least = if is_short { self.least_of_few() } else { lowest(&self.tops) };
            if least >= NEVER {
                return left;
            }
            let (merges, changed) =
                self.merge_run((least & POSITION_MASK) as usize, least >> POSITION_BITS, window.len(), vocabulary);
            left -= merges;
            if !is_short {
                self.lower(changed);
            }
        }
    }

    /// The least order if there are no more than a few rows.
    #[inline(always)]
    fn least_of_few(&self) -> u32 {
        self.orders.as_chunks().0.iter().take(FEW_ROWS).fold(NEVER, |least, row| least.min(lowest(row)))
    }

    fn fill(&mut self, vocabulary: &Vocabulary, window: &[u8]) {
        let mut before = None;
        for (at, byte) in window.iter().enumerate() {
            *self.part(at) = Part::new(vocabulary.byte_token(*byte), at.wrapping_sub(1), at + 1);
            if let Some(before) = before.replace(*byte) {
                *self.order(at - 1) = order(vocabulary.merged_bytes(before, *byte).unwrap_or(NO_TOKEN), at - 1);
            }
        }
    }

    /// Merges the part at `first` with the next one into `token`, and the two after them if they become the same, and so on. Returns how
    /// many merges that were, and where orders have changed.
    #[inline(always)]
    fn merge_run(
        &mut self,
        first: usize,
        token: Token,
        end: usize,
        vocabulary: &Vocabulary,
    ) -> (u64, RangeInclusive<usize>) {
        let previous = self.part(first).previous();
        let (mut at, mut before, mut merges) = (first, previous, 1);
        let mut doubled = None;
        let last = loop {
            let next = self.part(at).next();
            let after = self.part(next).next();
            *self.order(next) = NEVER;
            *self.part(at) = Part::new(token, before, after);
            if after >= end {
                *self.order(at) = NEVER;
                break next;
            }
            if *self.order(after) >> POSITION_BITS != token {
                let part = *self.part(after);
                *self.part(after) = Part::new(part.token(), at, part.next());
                *self.order(at) = order(merged(vocabulary, token, part.token()), at);
                break next;
            }
            *self.order(at) = order(*doubled.get_or_insert_with(|| merged(vocabulary, token, token)), at);
            (before, at) = (at, after);
            merges += 1;
        };
        if first > 0 {
            let left = self.part(previous).token();
            *self.order(previous) = order(merged(vocabulary, left, token), previous);
        }
        (merges, if first > 0 { previous } else { 0 }..=last)
    }

    /// Orders have changed in this range.
    #[inline(always)]
    #[expect(clippy::indexing_slicing, reason = "indices below the lengths")]
    fn lower(&mut self, changed: RangeInclusive<usize>) {
        let (first, last) = (changed.start() % WINDOW / ROW, changed.end() % WINDOW / ROW);
        for row in first..=last {
            self.rows[row] = self.orders.as_chunks().0.get(row).map_or(NEVER, lowest);
        }
        for top in first / ROW..=last / ROW {
            self.tops[top] = self.rows.as_chunks().0.get(top).map_or(NEVER, lowest);
        }
    }

    #[inline(always)]
    #[expect(clippy::indexing_slicing, reason = "an index below the length")]
    fn part(&mut self, at: usize) -> &mut Part {
        &mut self.parts[at % WINDOW]
    }

    #[inline(always)]
    #[expect(clippy::indexing_slicing, reason = "an index below the length")]
    fn order(&mut self, at: usize) -> &mut u32 {
        &mut self.orders[at % WINDOW]
    }
}

/// What two tokens merge into, or [`NO_TOKEN`].
fn merged(vocabulary: &Vocabulary, left: Token, right: Token) -> Token {
    vocabulary.merged(left, right).unwrap_or(NO_TOKEN)
}

/// The order of a pair at a position, given what it merges into.
#[inline(always)]
fn order(merged: Token, at: usize) -> u32 {
    merged << POSITION_BITS | at as u32 & POSITION_MASK
}

#[inline(always)]
fn lowest(row: &[u32; ROW]) -> u32 {
    lanes::least(row)
}

/// With vectors of four.
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
mod lanes {
    use core::arch::wasm32::{i32x4_shuffle, u32x4, u32x4_extract_lane, u32x4_min};

    #[inline(always)]
    pub(super) fn least(row: &[u32; super::ROW]) -> u32 {
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = *row;
        let least =
            u32x4_min(u32x4_min(u32x4(a, b, c, d), u32x4(e, f, g, h)), u32x4_min(u32x4(i, j, k, l), u32x4(m, n, o, p)));
        let least = u32x4_min(least, i32x4_shuffle::<2, 3, 0, 1>(least, least));
        let least = u32x4_min(least, i32x4_shuffle::<1, 0, 3, 2>(least, least));
        u32x4_extract_lane::<0>(least)
    }
}

#[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
mod lanes {
    #[inline(always)]
    pub(super) fn least(row: &[u32; super::ROW]) -> u32 {
        row.iter().fold(super::NEVER, |least, order| least.min(*order))
    }
}
