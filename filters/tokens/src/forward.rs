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
    let mut search = Search::new(vocabulary, last, piece, piece.len().saturating_sub(more));
    match search.go() {
        Some(()) if more == 0 => Settled { bytes: piece.len(), tokens: search.sequence.tokens as u64 },
        _ => search.settled,
    }
}

/// The search for a sequence of tokens that stay apart. A step that returns nothing gives up.
///
/// All of it is inlined into [`count`], so that its state stays in registers.
struct Search<'a> {
    vocabulary: &'a Vocabulary,
    piece: &'a [u8],
    /// Where to stop: a token that starts there may go on beyond the piece.
    until: usize,
    sequence: Sequence<'a>,
    dead: Dead,
    /// How many tokens were tried in vain.
    vain: usize,
    /// What is final, and what will be when the sequence has gone on from there for the vocabulary's reach.
    settled: Settled,
    open: Settled,
}

impl<'a> Search<'a> {
    #[inline(always)]
    fn new(vocabulary: &'a Vocabulary, last: &'a mut Last, piece: &'a [u8], until: usize) -> Self {
        let (settled, open) = (Settled::default(), Settled::default());
        Self { vocabulary, piece, until, sequence: Sequence::new(last), dead: Dead::default(), vain: 0, settled, open }
    }

    #[inline(always)]
    fn go(&mut self) -> Option<()> {
        while self.sequence.end < self.until {
            let mut next = self.longest()?;
            while !self.fits(next)? {
                next = self.instead_of(next)?;
            }
            self.accept(next);
        }
        Some(())
    }

    #[inline(always)]
    fn longest(&self) -> Option<Candidate> {
        let (token, end) = self.vocabulary.longest_at(self.piece, self.sequence.end)?;
        Some(Candidate { token, end, is_longest: true })
    }

    /// Whether a token stays apart from the one before it, and something may go on from its end.
    #[inline(always)]
    fn fits(&self, next: Candidate) -> Option<bool> {
        if self.dead.has(next.end) {
            return Some(false);
        }
        match self.sequence.last() {
            Some(last) => self.vocabulary.stay_apart(last.token(), last.is_longest(), next.token),
            None => Some(true),
        }
    }

    /// A shorter token; or if there is none, one that is shorter than the token before it, which was wrong.
    #[inline(always)]
    fn instead_of(&mut self, mut wrong: Candidate) -> Option<Candidate> {
        loop {
            self.vain += 1;
            if self.is_merged_faster(wrong) {
                return None;
            }
            if let Some(shorter) = wrong.shorter(self.vocabulary) {
                return Some(shorter);
            }
            // There is one, if only the first byte, but none that is known.
            if wrong.end - self.sequence.end > 1 {
                return None;
            }
            wrong = self.take_back()?;
        }
    }

    #[inline(always)]
    fn is_merged_faster(&self, wrong: Candidate) -> bool {
        let at = self.sequence.end;
        let is_whole = self.until == self.piece.len();
        // The length first: with it last, a mixed text costs 0.25 fuel more per byte.
        let may_be_run = wrong.end - at >= RUN_MIN && at < RUN_BEFORE && is_whole;
        self.vain > VAIN_MAX + at / 8 * 5 || may_be_run && self.piece.get(at..wrong.end).is_none_or(is_run)
    }

    /// Takes back the last token of the sequence, as nothing goes on from its end.
    #[inline(always)]
    fn take_back(&mut self) -> Option<Candidate> {
        let taken = self.sequence.pop()?;
        self.dead.add(taken.end);
        if self.sequence.end < self.open.bytes {
            self.open = self.settled;
        }
        Some(taken)
    }

    #[inline(always)]
    fn accept(&mut self, next: Candidate) {
        self.sequence.push(next);
        let Sequence { end, tokens, .. } = self.sequence;
        if end >= self.open.bytes + self.vocabulary.reach {
            self.settled = self.open;
            self.open = Settled { bytes: end, tokens: tokens as u64 };
        }
    }
}

#[inline(always)]
fn is_run(token: &[u8]) -> bool {
    matches!(token, [.., a, b, c, d] if a == b && b == c && c == d)
}

/// A token that may come next.
#[derive(Clone, Copy)]
struct Candidate {
    token: Token,
    end: usize,
    is_longest: bool,
}

impl Candidate {
    /// The longest token that it begins with, if that is known: not if it is shorter by too much.
    #[inline(always)]
    fn shorter(self, vocabulary: &Vocabulary) -> Option<Self> {
        let entry = vocabulary.entry(self.token)?;
        let less = (entry >> entry::LONGER_SHIFT) as usize;
        let token = entry::token(entry, entry::SHORTER_SHIFT);
        (less > 0).then(|| Self { token, end: self.end - less, is_longest: false })
    }
}

/// The tokens from the beginning of a piece on.
struct Sequence<'a> {
    /// How many there are, and have been at most.
    tokens: usize,
    tokens_max: usize,
    /// Where they end.
    end: usize,
    /// The last one, if there is one, and with it those before it.
    last: Found,
    ring: &'a mut Last,
}

impl<'a> Sequence<'a> {
    #[inline(always)]
    fn new(ring: &'a mut Last) -> Self {
        Self { tokens: 0, tokens_max: 0, end: 0, last: Found::default(), ring }
    }

    #[inline(always)]
    fn last(&self) -> Option<Found> {
        (self.tokens > 0).then_some(self.last)
    }

    #[inline(always)]
    fn push(&mut self, next: Candidate) {
        self.last = Found::new(next.token, next.end.wrapping_sub(self.end), next.is_longest);
        *self.ring.at(self.tokens) = self.last;
        self.tokens += 1;
        self.end = next.end;
    }

    /// Takes the last one away, unless the one before it is no longer known.
    #[inline(always)]
    fn pop(&mut self) -> Option<Candidate> {
        self.tokens_max = self.tokens_max.max(self.tokens);
        if self.tokens + BACK <= self.tokens_max + 1 {
            return None;
        }
        let popped = self.last()?;
        let end = self.end;
        self.tokens -= 1;
        self.end = end.checked_sub(popped.length())?;
        self.last = *self.ring.at(self.tokens.wrapping_sub(1));
        Some(Candidate { token: popped.token(), end, is_longest: false })
    }
}

/// The last tokens of a sequence, as a ring.
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
