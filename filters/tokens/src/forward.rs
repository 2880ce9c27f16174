//! The tokens of a piece from its beginning on.
//!
//! Where all neighbours of a sequence of tokens [stay apart](Vocabulary::stay_apart), merging its bytes leads to it, and to no other
//! (Antwerpen and Neubeck, "So many tokens, so little time", GitHub, 2024): so it is enough to find such a sequence, in whatever order
//! one looks. Here the longest token comes first at each place, then the shorter ones; if none stays apart from what is before it, that
//! was wrong, and is shortened in turn. Nearly always few steps are needed. Where it takes too many, as in runs of one character, the
//! rest is left to [`merge`](crate::merge).
//!
//! As each sequence on the way is what merging makes of the bytes until there, all of it that is further back than the vocabulary's reach
//! is final.
#![allow(clippy::arithmetic_side_effects, reason = "positions in a piece, and numbers of tokens in it")]

use penstock_token_tables::layout::{TOKEN_BITS, TOKEN_MASK, entry};

use crate::merge::Settled;
use crate::vocabulary::{Token, Vocabulary};

/// So many of the last tokens can be taken back.
const BACK: usize = 32;
/// So many tokens may be tried in vain, and five more for every eight bytes.
const VAIN_MAX: usize = 64;
/// Runs of one character as long as this, near the beginning of a piece, are merged faster.
const RUN_MIN: usize = 8;
const RUN_BEFORE: usize = 256;

/// The tokens of a piece that goes on for at least `more` bytes, as far as they are final and found in reasonable time. That is all of
/// the piece if no more follow.
#[inline(never)]
pub(crate) fn count(vocabulary: &Vocabulary, last: &mut Last, piece: &[u8], more: usize) -> Settled {
    let mut settled = Settled::default();
    let most = piece.len().saturating_sub(more);
    match search(vocabulary, last, piece, most, &mut settled) {
        Some(tokens) if more == 0 => Settled { bytes: piece.len(), tokens },
        _ => settled,
    }
}

#[inline(always)]
fn search(vocabulary: &Vocabulary, last: &mut Last, piece: &[u8], most: usize, settled: &mut Settled) -> Option<u64> {
    let is_all = most == piece.len();
    let (mut tokens, mut tokens_max, mut vain) = (0_usize, 0, 0);
    let mut before = Found::default();
    let mut dead = Dead::default();
    let mut open = Settled::default();
    let mut at = 0;
    while at < most {
        let (mut token, mut end) = vocabulary.longest_at(piece, at)?;
        let mut is_longest = true;
        while dead.has(end) || tokens > 0 && !vocabulary.stay_apart(before.token(), before.is_longest(), token)? {
            is_longest = false;
            // A shorter one; or if there is none, one that is shorter than the token before it.
            loop {
                vain += 1;
                let is_long = end - at >= RUN_MIN && at < RUN_BEFORE && is_all;
                if vain > VAIN_MAX + at / 8 * 5 || is_long && is_run(piece.get(at..end)?) {
                    return None;
                }
                let entry = vocabulary.entry(token)?;
                let less = (entry >> entry::LONGER_SHIFT) as usize;
                if less > 0 {
                    token = entry::token(entry, entry::SHORTER_SHIFT);
                    end -= less;
                    break;
                }
                tokens_max = tokens_max.max(tokens);
                if end - at > 1 || tokens == 0 || tokens + BACK <= tokens_max + 1 {
                    return None;
                }
                dead.add(at);
                tokens -= 1;
                let found = *last.at(tokens);
                (token, end) = (found.token(), at);
                at = at.checked_sub(found.length())?;
                before = *last.at(tokens.wrapping_sub(1));
                if at < open.bytes {
                    open = *settled;
                }
            }
        }
        before = Found::new(token, end.wrapping_sub(at), is_longest);
        *last.at(tokens) = before;
        at = end;
        tokens += 1;
        if at >= open.bytes + vocabulary.reach {
            *settled = open;
            open = Settled { bytes: at, tokens: tokens as u64 };
        }
    }
    Some(tokens as u64)
}

#[inline(always)]
fn is_run(token: &[u8]) -> bool {
    matches!(token, [.., a, b, c, d] if a == b && b == c && c == d)
}

/// The last tokens.
pub(crate) struct Last([Found; BACK]);

impl Last {
    pub(crate) const EMPTY: Self = Self([Found(0); BACK]);

    #[inline(always)]
    #[expect(clippy::indexing_slicing, reason = "an index below BACK")]
    fn at(&mut self, index: usize) -> &mut Found {
        &mut self.0[index % BACK]
    }
}

/// A token with its length, and whether it is the longest at its place.
#[derive(Clone, Copy, Default)]
struct Found(u32);

impl Found {
    const LONGEST: u32 = 1 << 31;

    #[inline(always)]
    fn new(token: Token, length: usize, is_longest: bool) -> Self {
        Self(token | (length as u32) << TOKEN_BITS | if is_longest { Self::LONGEST } else { 0 })
    }

    #[inline(always)]
    fn token(self) -> Token {
        self.0 & TOKEN_MASK
    }

    #[inline(always)]
    fn length(self) -> usize {
        (self.0 >> TOKEN_BITS & 0xff) as usize
    }

    #[inline(always)]
    fn is_longest(self) -> bool {
        self.0 & Self::LONGEST != 0
    }
}

/// Places from which no sequence goes on, among 63 that follow each other. To forget one costs time only.
#[derive(Default)]
struct Dead {
    bits: u64,
    from: usize,
}

impl Dead {
    #[inline(always)]
    fn has(&self, at: usize) -> bool {
        self.bits != 0 && at.wrapping_sub(self.from) < 64 && self.bits >> at.wrapping_sub(self.from) & 1 != 0
    }

    fn add(&mut self, at: usize) {
        if self.bits == 0 {
            self.from = at.saturating_sub(32);
        }
        let beyond = at.saturating_sub(self.from + 62);
        self.bits = self.bits.checked_shr(beyond as u32).unwrap_or_default();
        self.from += beyond;
        if at >= self.from {
            self.bits |= 1 << (at - self.from);
        }
    }
}
