//! How many tokens merging leaves of a piece that is no token itself.
//!
//! Byte-pair encoding by its definition: of all neighbours that merge, those of the lowest rank do, the leftmost first. Each pair of
//! neighbours has its *order*, the rank with the position below it, so that the pair that is next is the one with the least. The orders
//! lie in rows of 16 with the least of each row above them, these again in rows of 16, so that a merge costs the same few steps
//! wherever it happens; what a byte costs is bounded, whatever the bytes are. Pairs of the same rank in one row are merged one after the
//! other before anything above is looked at, and when half of the parts are gone the others move together: both for runs of one character.
//!
//! Of a long piece a window is merged at a time, as if nothing followed. What does follow can change the merging, but not far before
//! the window's end: the first merge that differs takes in the last part; the next one its left neighbour, and only later, with a higher
//! rank; and so on. So a vocabulary has a *reach*, the length of the longest chain of tokens in which such merges can follow each other
//! (719 bytes in `o200k`, 566 in `cl100k`), and what a window says before that is final. And as no merge crosses a border that is left
//! when all are done, the rest of the piece can be merged by itself.
#![allow(clippy::arithmetic_side_effects, reason = "positions in a window, and numbers of tokens in it")]

use alloc::boxed::Box;

use penstock_token_tables::layout::NO_TOKEN;

use crate::vocabulary::{Token, Vocabulary, WideStarts};

/// Parts of a window.
const WINDOW: usize = 8192;
/// Orders of a row.
const ROW: usize = 16;
/// Rows of rows of a window.
const TOPS: usize = WINDOW / ROW / ROW;
/// Fewer parts are not worth moving together.
const COMPACT_MIN: usize = 128;

/// Bits of a position in an order, below the 18 of the rank.
const POSITION_BITS: u32 = 13;
const POSITION_MASK: u32 = (1 << POSITION_BITS) - 1;
const _: () = assert!(WINDOW <= 1 << POSITION_BITS, "every position of a window fits into an order");
/// The orders of two that do not merge are at least this.
const NEVER: u32 = NO_TOKEN << POSITION_BITS;

/// The number of tokens of a piece.
pub(crate) fn count(vocabulary: &Vocabulary, piece: &[u8]) -> u64 {
    // The smaller the room the less there is to clear.
    match piece.len() {
        0..=16 => return Parts::<16, 1, 1, 0>::new().count(vocabulary, piece),
        17..=64 => return Parts::<64, 4, 1, 0>::new().count(vocabulary, piece),
        65..=256 => return Parts::<256, 16, 1, 0>::new().count(vocabulary, piece),
        257..=1024 => return Parts::<1024, 64, 4, 16>::boxed().count(vocabulary, piece),
        1025..=4096 => return Parts::<4096, 256, 16, 16>::boxed().count(vocabulary, piece),
        _ => {}
    }
    let mut window = Window::boxed();
    let mut rest = piece;
    let mut tokens = 0;
    loop {
        let filled = window.fill(vocabulary, rest);
        if filled.bytes == rest.len() {
            return tokens + window.merge(vocabulary, filled.parts) as u64;
        }
        let settled = window.settle(vocabulary, filled);
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
        let settled = window.settle(vocabulary, filled);
        all.bytes += settled.bytes;
        all.tokens += settled.tokens;
    }
    all
}

type Window = Parts<WINDOW, { WINDOW / ROW }, TOPS, TOPS>;

/// The parts of a window, by the position at which they start: at most `N`, in `R` rows, these in
/// `S` rows, for which there are `T` places.
struct Parts<const N: usize, const R: usize, const S: usize, const T: usize> {
    parts: [Part; N],
    /// The order of each part and the next.
    orders: [u32; N],
    /// The least of each row.
    rows: [[u32; ROW]; S],
    /// The least of each row of these.
    tops: [u32; T],
}

/// A part, as one word: the token, the positions of the parts before and after, and the length in bytes.
#[derive(Clone, Copy)]
struct Part(u64);

impl Part {
    const TOKEN_SHIFT: u32 = 46;
    const PREVIOUS_SHIFT: u32 = 27;
    const NEXT_SHIFT: u32 = 8;
    const POSITION: u64 = (1 << 19) - 1;
    const BYTES: u64 = 0xff;

    /// One that stands between its neighbours.
    #[inline(always)]
    fn new(token: Token, at: usize, bytes: u64) -> Self {
        let at = at as u64;
        let previous = at.wrapping_sub(1) & Self::POSITION;
        Self(
            u64::from(token) << Self::TOKEN_SHIFT
                | previous << Self::PREVIOUS_SHIFT
                | (at + 1) << Self::NEXT_SHIFT
                | bytes,
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
        (self.0 >> Self::NEXT_SHIFT & Self::POSITION) as usize
    }

    #[inline(always)]
    fn bytes(self) -> u64 {
        self.0 & Self::BYTES
    }

    /// This part and the next one as one token, which has at most 255 bytes.
    #[inline(always)]
    fn joined(self, next: Self, token: Token) -> Self {
        let previous = self.0 & Self::POSITION << Self::PREVIOUS_SHIFT;
        let after = next.0 & Self::POSITION << Self::NEXT_SHIFT;
        Self(u64::from(token) << Self::TOKEN_SHIFT | previous | after | self.0.wrapping_add(next.0) & Self::BYTES)
    }

    #[inline(always)]
    fn after(self, previous: usize) -> Self {
        Self(self.0 & !(Self::POSITION << Self::PREVIOUS_SHIFT) | (previous as u64) << Self::PREVIOUS_SHIFT)
    }
}

/// How much of a piece a window holds.
#[derive(Clone, Copy)]
struct Filled {
    parts: usize,
    bytes: usize,
}

impl<const N: usize, const R: usize, const S: usize, const T: usize> Parts<N, R, S, T> {
    /// Whether there is something above the orders, and above that.
    const HAS_ROWS: bool = R > 1;
    const HAS_TOPS: bool = S > 1;

    fn new() -> Self {
        Self { parts: [Part(0); N], orders: [NEVER; N], rows: [[NEVER; ROW]; S], tops: [NEVER; T] }
    }

    fn boxed() -> Box<Self> {
        Box::new(Self::new())
    }

    /// The tokens of a piece for which there is room.
    #[inline(never)]
    fn count(&mut self, vocabulary: &Vocabulary, piece: &[u8]) -> u64 {
        let filled = self.fill(vocabulary, piece);
        self.merge(vocabulary, filled.parts) as u64
    }

    /// Takes as much from the beginning of `piece` as there is room for. No orders are left from an earlier one: they have been merged.
    fn fill(&mut self, vocabulary: &Vocabulary, piece: &[u8]) -> Filled {
        let mut filled = Filled { parts: 0, bytes: 0 };
        let mut wide = WideStarts::default();
        let mut before = None;
        while filled.parts < N {
            let Some(byte) = piece.get(filled.bytes).copied() else { break };
            if byte.is_ascii() {
                let mut merged = before.map_or(NO_TOKEN, |token| vocabulary.merged(token, vocabulary.byte_token(byte)));
                let (mut at, mut bytes) = (filled.parts, filled.bytes);
                let mut ascii = byte;
                // The way through ASCII.
                loop {
                    let token = vocabulary.byte_token(ascii);
                    before = Some(token);
                    *self.part(at) = Part::new(token, at, 1);
                    *self.order(at.wrapping_sub(1)) = order(merged, at.wrapping_sub(1) % N);
                    at += 1;
                    bytes += 1;
                    let next = piece.get(bytes).copied().unwrap_or(u8::MAX);
                    if !next.is_ascii() || at >= N {
                        break;
                    }
                    merged = vocabulary.merged_ascii(ascii, next);
                    ascii = next;
                }
                filled = Filled { parts: at, bytes };
                continue;
            }
            let (token, length) = wide.next(vocabulary, piece, filled.bytes);
            let at = filled.parts;
            *self.part(at) = Part::new(token, at, length as u64);
            if let Some(before) = before.replace(token) {
                *self.order(at - 1) = order(vocabulary.merged(before, token), at - 1);
            }
            filled = Filled { parts: at + 1, bytes: filled.bytes + length };
        }
        // The last order, which the first part has written round the corner.
        if filled.parts > 0 {
            *self.order(filled.parts - 1) = NEVER;
            *self.order(N - 1) = NEVER;
        }
        self.lower_to(filled.parts);
        filled
    }

    /// What is final of a window that `filled` describes.
    fn settle(&mut self, vocabulary: &Vocabulary, filled: Filled) -> Settled {
        let tokens = self.merge(vocabulary, filled.parts);
        // The last character was taken as a whole without a look at what follows.
        let most = filled.bytes.saturating_sub(vocabulary.reach + 4);
        let mut settled = Settled::default();
        let (mut at, mut bytes) = (0, 0);
        for _ in 0..tokens {
            let part = *self.part(at);
            at = part.next();
            bytes += part.bytes() as usize;
            if bytes > most {
                break;
            }
            settled = Settled { bytes, tokens: settled.tokens + 1 };
        }
        // Only a damaged table has a token as long as a window.
        if settled.bytes > 0 { settled } else { Settled { bytes: filled.bytes, tokens: 1 } }
    }

    /// Merges until nothing merges any more. Returns how many parts are left.
    fn merge(&mut self, vocabulary: &Vocabulary, mut end: usize) -> usize {
        let mut left = end;
        let mut memos = [Memo::EMPTY; 2];
        loop {
            let mut least = self.least();
            if least >= NEVER {
                return left;
            }
            let rank = least >> POSITION_BITS;
            let row = (least & POSITION_MASK) as usize / ROW;
            while least >> POSITION_BITS == rank {
                self.merge_at((least & POSITION_MASK) as usize, rank, end, vocabulary, &mut memos);
                left -= 1;
                least = self.lowest_of(row);
            }
            if Self::HAS_ROWS {
                self.set_row(row, least);
                if left * 2 < end && end > COMPACT_MIN {
                    self.compact(left, end);
                    end = left;
                }
            }
        }
    }

    /// Merges the part at `at` with the next one into `token`. What is above the row of `at` is left to be updated.
    #[inline(always)]
    fn merge_at(&mut self, at: usize, token: Token, end: usize, vocabulary: &Vocabulary, memos: &mut [Memo; 2]) {
        let [with_next, with_previous] = memos;
        let part = *self.part(at);
        let next = part.next();
        let joined = part.joined(*self.part(next), token);
        *self.part(at) = joined;
        *self.order(next) = NEVER;
        let after = joined.next();
        *self.order(at) = if after < end {
            let part = self.part(after);
            *part = part.after(at);
            let right = part.token();
            order(with_next.merged(vocabulary, token, right, Self::HAS_ROWS), at)
        } else {
            NEVER
        };
        if at > 0 {
            let previous = joined.previous();
            let left = self.part(previous).token();
            *self.order(previous) = order(with_previous.merged(vocabulary, left, token, Self::HAS_ROWS), previous);
            if Self::HAS_ROWS && previous / ROW != at / ROW {
                self.lower(previous / ROW);
            }
        }
        if Self::HAS_ROWS && next / ROW != at / ROW {
            self.lower(next / ROW);
        }
    }

    /// Moves the parts that are left to the beginning.
    #[cold]
    fn compact(&mut self, left: usize, end: usize) {
        let mut at = 0;
        for to in 0..left {
            let part = *self.part(at);
            let rank = *self.order(at);
            *self.part(to) = Part::new(part.token(), to, part.bytes());
            *self.order(to) = rank & !POSITION_MASK | to as u32;
            at = part.next();
        }
        for order in self.orders.get_mut(left..end).unwrap_or_default() {
            *order = NEVER;
        }
        self.lower_to(end);
    }

    #[inline(always)]
    #[expect(clippy::indexing_slicing, reason = "an index below N, which is a power of two")]
    fn part(&mut self, at: usize) -> &mut Part {
        &mut self.parts[at % N]
    }

    #[inline(always)]
    #[expect(clippy::indexing_slicing, reason = "an index below N, which is a power of two")]
    fn order(&mut self, at: usize) -> &mut u32 {
        &mut self.orders[at % N]
    }

    /// The least order of a row.
    #[inline(always)]
    fn lowest_of(&self, row: usize) -> u32 {
        lowest(self.orders.as_chunks().0.get(row % R))
    }

    /// The least of all orders.
    #[inline(always)]
    fn least(&self) -> u32 {
        if Self::HAS_TOPS {
            let (rows, _) = self.tops.as_chunks();
            return rows.iter().fold(NEVER, |least, row| least.min(lowest(Some(row))));
        }
        if Self::HAS_ROWS { lowest(self.rows.first()) } else { self.lowest_of(0) }
    }

    /// Works out what is above the first orders; those after them are not in use.
    fn lower_to(&mut self, end: usize) {
        if !Self::HAS_ROWS {
            return;
        }
        for row in 0..end.div_ceil(ROW) {
            #[expect(clippy::indexing_slicing, reason = "indices below S and ROW")]
            {
                self.rows[row / ROW % S][row % ROW] = self.lowest_of(row);
            }
        }
        if Self::HAS_TOPS {
            for top in 0..end.div_ceil(ROW * ROW) {
                self.lower_top(top);
            }
        }
    }

    /// Some order of a row has changed.
    #[inline(always)]
    fn lower(&mut self, row: usize) {
        self.set_row(row, self.lowest_of(row));
    }

    /// The least order of a row has changed.
    #[inline(always)]
    #[expect(clippy::indexing_slicing, reason = "indices below S and ROW")]
    fn set_row(&mut self, row: usize, least: u32) {
        self.rows[row / ROW % S][row % ROW] = least;
        if Self::HAS_TOPS {
            self.lower_top(row / ROW);
        }
    }

    #[inline(always)]
    #[expect(clippy::indexing_slicing, reason = "an index below T")]
    fn lower_top(&mut self, top: usize) {
        self.tops[top % T] = lowest(self.rows.get(top));
    }
}

/// What two tokens merge into, as it was looked up last: the same two follow each other in runs.
#[derive(Clone, Copy)]
struct Memo {
    left: Token,
    right: Token,
    merged: Token,
}

impl Memo {
    const EMPTY: Self = Self { left: Token::MAX, right: Token::MAX, merged: NO_TOKEN };

    #[inline(always)]
    fn merged(&mut self, vocabulary: &Vocabulary, left: Token, right: Token, use_it: bool) -> Token {
        if !use_it {
            return vocabulary.merged(left, right);
        }
        if self.left != left || self.right != right {
            *self = Self { left, right, merged: vocabulary.merged(left, right) };
        }
        self.merged
    }
}

/// The order of a pair at a position, given what it merges into.
#[inline(always)]
fn order(merged: Token, at: usize) -> u32 {
    merged << POSITION_BITS | at as u32
}

#[inline(always)]
fn lowest(row: Option<&[u32; ROW]>) -> u32 {
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
