//! How many tokens merging leaves of a piece that is no token itself.
//!
//! Byte-pair encoding by its definition: of all neighbours that merge, those of the lowest rank do, the leftmost first. Each pair of
//! neighbours has its *order*, the rank with the position below it, so that the pair that is next is the one with the least. The orders
//! lie in rows of 16 with the least of each row above them, these again in rows of 16, so that a merge costs the same few steps
//! wherever it happens; what a byte costs is bounded, whatever the bytes are.
//!
//! Of a long piece a window is merged at a time, as if nothing followed. What does follow can change the merging, but not far before
//! the window's end: the first merge that differs takes in the last part; the next one its left neighbour, and only later, with a higher
//! rank; and so on. So a vocabulary has a *reach*, the length of the longest chain of tokens in which such merges can follow each other
//! (719 bytes in `o200k`, 566 in `cl100k`), and what a window says before that is final. And as no merge crosses a border that is left
//! when all are done, the rest of the piece can be merged by itself.
#![allow(clippy::arithmetic_side_effects, reason = "positions in a window, and numbers of tokens in it")]

use alloc::boxed::Box;

use crate::vocabulary::{Starts, Token, Vocabulary};

/// Parts of a window.
const WINDOW: usize = 4096;
/// Orders of a row.
const ROW: usize = 16;

/// Bits of a position in an order, below the 18 of the rank.
const POSITION_BITS: u32 = 12;
const POSITION_MASK: u32 = (1 << POSITION_BITS) - 1;
const _: () = assert!(WINDOW <= 1 << POSITION_BITS, "every position of a window fits into an order");
/// The order of two that do not merge.
const NEVER: u32 = u32::MAX;

/// The number of tokens of a piece.
pub(crate) fn count(vocabulary: &Vocabulary, piece: &[u8]) -> u64 {
    if piece.len() <= ROW {
        return Parts::<ROW, 1, 1>::new().count(vocabulary, piece);
    }
    if piece.len() <= ROW * ROW {
        return Parts::<256, ROW, 1>::new().count(vocabulary, piece);
    }
    let mut window = Window::boxed();
    let mut rest = piece;
    let mut tokens = 0;
    loop {
        let filled = window.fill(vocabulary, rest);
        if filled.bytes == rest.len() {
            return tokens + window.merge(vocabulary, filled.parts);
        }
        let settled = window.settle(vocabulary, rest, filled);
        tokens += settled.tokens;
        rest = rest.get(settled.bytes..).unwrap_or_default();
    }
}

/// What is final of the beginning of a piece.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Settled {
    pub(crate) bytes: usize,
    pub(crate) tokens: u64,
}

/// Merges the beginning of a piece of which more follows, all but what that can change.
pub(crate) fn settle(vocabulary: &Vocabulary, piece: &[u8]) -> Settled {
    let mut window = Window::boxed();
    let mut all = Settled::default();
    while let Some(rest) = piece.get(all.bytes..).filter(|rest| rest.len() > 2 * vocabulary.reach) {
        let filled = window.fill(vocabulary, rest);
        let settled = window.settle(vocabulary, rest, filled);
        all.bytes += settled.bytes;
        all.tokens += settled.tokens;
    }
    all
}

type Window = Parts<WINDOW, { WINDOW / ROW }, { WINDOW / ROW / ROW }>;

/// The parts of a window, by the position at which they start: at most `N`, in `R` rows, these in `S` rows.
struct Parts<const N: usize, const R: usize, const S: usize> {
    parts: [Part; N],
    /// The order of each part and the next.
    orders: [[u32; ROW]; R],
    /// The least of each row.
    rows: [[u32; ROW]; S],
    /// The least of each row of these.
    tops: [u32; ROW],
}

#[derive(Clone, Copy, Default)]
struct Part {
    token: Token,
    next: u16,
    previous: u16,
}

/// How much of a piece a window holds.
#[derive(Clone, Copy)]
struct Filled {
    parts: usize,
    bytes: usize,
}

impl<const N: usize, const R: usize, const S: usize> Parts<N, R, S> {
    fn new() -> Self {
        Self { parts: [Part::default(); N], orders: [[NEVER; ROW]; R], rows: [[NEVER; ROW]; S], tops: [NEVER; ROW] }
    }

    fn boxed() -> Box<Self> {
        Box::new(Self::new())
    }

    /// The tokens of a piece for which there is room.
    fn count(&mut self, vocabulary: &Vocabulary, piece: &[u8]) -> u64 {
        let filled = self.fill(vocabulary, piece);
        self.merge(vocabulary, filled.parts)
    }

    /// Takes as much from the beginning of `piece` as there is room for.
    fn fill(&mut self, vocabulary: &Vocabulary, piece: &[u8]) -> Filled {
        self.orders = [[NEVER; ROW]; R];
        let mut filled = Filled { parts: 0, bytes: 0 };
        let mut before = None;
        for (token, length) in Starts::new(vocabulary, piece).take(N) {
            let at = filled.parts;
            *self.part(at) = Part { token, next: (at + 1) as u16, previous: at.wrapping_sub(1) as u16 };
            if let Some(before) = before.replace(token) {
                *self.order(at - 1) = order(vocabulary.merged(before, token), at - 1);
            }
            filled.parts += 1;
            filled.bytes += length;
        }
        for row in 0..if R > 1 { R } else { 0 } {
            self.lower(row);
        }
        for top in 0..if S > 1 { S } else { 0 } {
            self.lower_top(top);
        }
        filled
    }

    /// What is final of a window that `filled` describes, at the beginning of `piece`.
    fn settle(&mut self, vocabulary: &Vocabulary, piece: &[u8], filled: Filled) -> Settled {
        self.merge(vocabulary, filled.parts);
        let most = filled.bytes.saturating_sub(vocabulary.reach);
        let mut settled = Settled::default();
        let (mut bytes, mut tokens, mut next) = (0, 0, 0);
        for (at, (_, length)) in Starts::new(vocabulary, piece).take(filled.parts).enumerate() {
            if at == next {
                if bytes > most {
                    break;
                }
                settled = Settled { bytes, tokens };
                tokens += 1;
                next = usize::from(self.part(at).next);
            }
            bytes += length;
        }
        // Only a damaged table has a token as long as a window.
        if settled.bytes > 0 { settled } else { Settled { bytes: filled.bytes, tokens: 1 } }
    }

    /// Merges until nothing merges any more. Returns how many tokens are left.
    fn merge(&mut self, vocabulary: &Vocabulary, parts: usize) -> u64 {
        let mut tokens = parts as u64;
        loop {
            let least = self.least();
            if least == NEVER {
                return tokens;
            }
            let (at, token) = ((least & POSITION_MASK) as usize, least >> POSITION_BITS);
            let Part { next, previous, .. } = *self.part(at);
            let (next, previous) = (usize::from(next), usize::from(previous));
            let after = usize::from(self.part(next).next);
            *self.part(at) = Part { token, next: after as u16, previous: previous as u16 };
            *self.order(next) = NEVER;
            *self.order(at) = if after < parts {
                self.part(after).previous = at as u16;
                order(vocabulary.merged(token, self.part(after).token), at)
            } else {
                NEVER
            };
            if at == 0 {
                self.lowered(at, next, at);
            } else {
                *self.order(previous) = order(vocabulary.merged(self.part(previous).token, token), previous);
                self.lowered(at, next, previous);
            }
            tokens -= 1;
        }
    }

    #[inline(always)]
    #[expect(clippy::indexing_slicing, reason = "an index below N, which is a power of two")]
    fn part(&mut self, at: usize) -> &mut Part {
        &mut self.parts[at % N]
    }

    #[inline(always)]
    #[expect(clippy::indexing_slicing, reason = "indices below R and ROW")]
    fn order(&mut self, at: usize) -> &mut u32 {
        &mut self.orders[at / ROW % R][at % ROW]
    }

    /// The least of all orders.
    #[inline(always)]
    fn least(&self) -> u32 {
        if S > 1 {
            return least(Some(&self.tops));
        }
        least(if R > 1 { self.rows.first() } else { self.orders.first() })
    }

    /// Orders at these positions have changed.
    #[inline(always)]
    fn lowered(&mut self, at: usize, next: usize, previous: usize) {
        if R == 1 {
            return;
        }
        let (row, next, previous) = (at / ROW, next / ROW, previous / ROW);
        self.lower(row);
        if next != row {
            self.lower(next);
        }
        if previous != row {
            self.lower(previous);
        }
        if S > 1 {
            let (top, next, previous) = (row / ROW, next / ROW, previous / ROW);
            self.lower_top(top);
            if next != top {
                self.lower_top(next);
            }
            if previous != top {
                self.lower_top(previous);
            }
        }
    }

    #[inline(always)]
    #[expect(clippy::indexing_slicing, reason = "indices below S and ROW")]
    fn lower(&mut self, row: usize) {
        self.rows[row / ROW % S][row % ROW] = least(self.orders.get(row));
    }

    #[inline(always)]
    #[expect(clippy::indexing_slicing, reason = "an index below ROW")]
    fn lower_top(&mut self, top: usize) {
        self.tops[top % ROW] = least(self.rows.get(top));
    }
}

/// The order of a pair at a position, given what it merges into.
#[inline(always)]
fn order(merged: Option<Token>, at: usize) -> u32 {
    merged.map_or(NEVER, |rank| rank << POSITION_BITS | at as u32)
}

#[inline(always)]
fn least(row: Option<&[u32; ROW]>) -> u32 {
    row.map_or(NEVER, lanes::least)
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
