//! How many tokens merging leaves of a piece that is no token itself.
//!
//! Merging is never done. What is used instead (van Antwerpen and Neubeck, "So many tokens, so little time", GitHub, 2024):
//!
//! * A sequence of tokens is what merging leaves of their bytes exactly if each two neighbours are what it leaves of theirs
//!   ([`Merger::compatible`]). For a merge across a border depends only on the tokens that meet there.
//! * So a beginning of the sequence is the sequence of that beginning of the bytes. Each position has one: if a token was found not to
//!   lead on from a position reached, that position need never be tried again.
//!
//! The search therefore takes the longest token that is compatible with the one before, goes back where there is none, and visits no
//! position twice. Pieces of any length are searched in windows: [`Merger::settled`].
#![allow(clippy::arithmetic_side_effects, reason = "positions in a piece, and numbers of tokens in it")]

use alloc::boxed::Box;
use alloc::vec::Vec;

use penstock_token_tables::layout::{TOKEN_BYTES_MAX, follower, mix, pair_key};

use crate::vocabulary::{Token, Vocabulary};

/// Bytes that are searched at once. It bounds the memory, and is long enough for [`Merger::settled`] not to matter.
pub(crate) const WINDOW: usize = 1 << 15;

/// How many answers of [`compatible`] are remembered, as a power of two.
const MEMO_BITS: u32 = 9;

/// Room for the search, used again and again.
#[derive(Default)]
pub(crate) struct Merger {
    /// The tokens so far.
    found: Vec<Step>,
    dead: Dead,
    /// Tokens that begin at the position, by length.
    here: Vec<Step>,
    /// For each position of a window's end, the first and the last token of its sequence.
    ends: Vec<Option<(Token, Token)>>,
    /// What is compatible: one more than the pair's key, above a bit that is the answer. Runs of one character ask the same again and
    /// again, and are what a search has most trouble with.
    memo: Option<Box<[u64; 1 << MEMO_BITS]>>,
}

/// A token in the low bits and its length above; for a token that is only looked up when it is needed, its place in the trie.
#[derive(Clone, Copy)]
struct Step(u32);

impl Step {
    const LENGTH_SHIFT: u32 = 24;

    #[inline(always)]
    fn new(token: Token, length: usize) -> Self {
        Self(token | (length as u32) << Self::LENGTH_SHIFT)
    }

    #[inline(always)]
    fn token(self) -> Token {
        self.0 & ((1 << Self::LENGTH_SHIFT) - 1)
    }

    #[inline(always)]
    fn length(self) -> usize {
        (self.0 >> Self::LENGTH_SHIFT) as usize
    }
}

/// Positions, as bits, from which nothing leads on. Most pieces are short and most searches never go back.
#[derive(Default)]
struct Dead {
    first: u64,
    rest: Vec<u64>,
}

impl Dead {
    fn clear(&mut self, positions: usize) {
        self.first = 0;
        if positions > 64 {
            self.rest.clear();
            self.rest.resize(positions / 64, 0);
        }
    }

    #[inline(always)]
    fn has(&self, position: usize) -> bool {
        let bits =
            if position < 64 { self.first } else { self.rest.get((position >> 6) - 1).copied().unwrap_or_default() };
        (bits >> (position & 63)) & 1 != 0
    }

    fn insert(&mut self, position: usize) {
        let bits = if position < 64 { Some(&mut self.first) } else { self.rest.get_mut((position >> 6) - 1) };
        if let Some(bits) = bits {
            *bits |= 1 << (position & 63);
        }
    }
}

/// The part of a piece that is final whatever follows.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Settled {
    pub(crate) bytes: usize,
    pub(crate) tokens: u64,
    pub(crate) last: Option<Token>,
}

impl Merger {
    /// The number of tokens of a piece.
    pub(crate) fn count(&mut self, vocabulary: &Vocabulary, piece: &[u8]) -> u64 {
        self.count_after(vocabulary, piece, None)
    }

    /// The number of tokens of the rest of a piece whose settled part ends with the token `before`.
    pub(crate) fn count_after(&mut self, vocabulary: &Vocabulary, mut piece: &[u8], mut before: Option<Token>) -> u64 {
        let mut tokens = 0;
        let mut window = WINDOW;
        while piece.len() > window {
            let settled = self.settled(vocabulary, piece.get(..window).unwrap_or_default(), before);
            if settled.bytes == 0 {
                window *= 2;
                continue;
            }
            tokens += settled.tokens;
            before = settled.last;
            piece = piece.get(settled.bytes..).unwrap_or_default();
            window = WINDOW;
        }
        self.search(vocabulary, piece, before);
        tokens + self.found.len() as u64
    }

    /// How much of the beginning of a piece is final, given a window of it that more follows.
    ///
    /// No token is longer than `longest`. So wherever the piece ends, one of the last `longest` positions of the window is a border
    /// between tokens, and up to there the sequence is the one of that position. All of these sequences are looked at: if they all run
    /// through one border, so does the sequence of the piece. To see it, they are worked out from that border on alone, and are the
    /// right ones if each first token is compatible with the token before the border. If no border among some near the end serves,
    /// nothing is settled, and the caller tries a longer window; with the vocabularies shipped this has not been seen.
    pub(crate) fn settled(&mut self, vocabulary: &Vocabulary, window: &[u8], before: Option<Token>) -> Settled {
        const ATTEMPTS: usize = 8;
        let longest = vocabulary.longest;
        self.search(vocabulary, window, before);
        let mut settled = Settled {
            bytes: window.len(),
            tokens: self.found.len() as u64,
            last: self.found.last().map(|step| step.token()),
        };
        let mut attempts = 0;
        let mut beyond = window.len().saturating_sub(2 * longest);
        while let Some(step) = self.found.pop() {
            if settled.bytes <= beyond {
                if self.all_run_through(vocabulary, window.get(settled.bytes..).unwrap_or_default(), step.token()) {
                    return settled;
                }
                attempts += 1;
                beyond = settled.bytes.saturating_sub(longest);
                if attempts == ATTEMPTS {
                    break;
                }
            }
            settled.bytes -= step.length();
            settled.tokens -= 1;
            settled.last = self.found.last().map(|step| step.token());
        }
        Settled::default()
    }

    /// Whether the sequences of the last positions of `tail` can all follow the token `before`.
    fn all_run_through(&mut self, vocabulary: &Vocabulary, tail: &[u8], before: Token) -> bool {
        self.ends.clear();
        self.ends.resize(tail.len() + 1, None);
        for from in 0..tail.len() {
            // Every position has a sequence by the time it is its turn: what leads to it began earlier.
            let start = self.ends.get(from).copied().flatten();
            if from > 0 && start.is_none() {
                return false;
            }
            let first_byte = tail.get(from).copied().unwrap_or_default();
            let mut unit = vocabulary.root();
            for (offset, byte) in tail.iter().enumerate().skip(from) {
                let Some(next) = vocabulary.step(unit, *byte) else { break };
                unit = next;
                let Some(end) = self.ends.get_mut(offset + 1) else { break };
                if !unit.ends_token() || end.is_some() {
                    continue;
                }
                let token = vocabulary.token_at(unit.place);
                match start {
                    None => *end = Some((token, token)),
                    Some((first, last)) if remembered(&mut self.memo, vocabulary, last, token, first_byte) => {
                        *end = Some((first, token))
                    }
                    Some(_) => {}
                }
            }
        }
        let mut lately = None;
        let first_byte = tail.first().copied().unwrap_or_default();
        self.ends.iter().rev().take(vocabulary.longest).all(|end| match end {
            Some((first, _)) if lately == Some(*first) => true,
            Some((first, _)) => {
                lately = Some(*first);
                compatible(vocabulary, before, *first, first_byte)
            }
            None => false,
        })
    }

    /// Finds the tokens of `piece`, which follow the token `before`.
    fn search(&mut self, vocabulary: &Vocabulary, piece: &[u8], before: Option<Token>) {
        self.found.clear();
        self.dead.clear(piece.len() + 1);
        let mut at = 0;
        let mut last = before;
        // When going back, only what is shorter than the token taken back.
        let mut shorter_than = usize::MAX;
        while let Some(rest) = piece.get(at..).filter(|rest| !rest.is_empty()) {
            match self.lead_on(vocabulary, rest, at, last, shorter_than) {
                Some(step) => {
                    self.found.push(step);
                    at += step.length();
                    last = Some(step.token());
                    shorter_than = usize::MAX;
                }
                None => {
                    self.dead.insert(at);
                    // There always is a sequence. Only a damaged table leads back to the start; then a byte counts as a token.
                    let Some(back) = self.found.pop() else {
                        self.found.push(Step::new(0, 1));
                        (at, last, shorter_than) = (1, Some(0), usize::MAX);
                        continue;
                    };
                    at -= back.length();
                    last = self.found.last().map(|step| step.token()).or(before);
                    shorter_than = back.length();
                }
            }
        }
    }

    /// The longest token at the beginning of `rest` that can follow the token `last` and leads to a position that is not dead.
    #[inline(always)]
    fn lead_on(
        &mut self,
        vocabulary: &Vocabulary,
        rest: &[u8],
        at: usize,
        last: Option<Token>,
        shorter_than: usize,
    ) -> Option<Step> {
        self.here.clear();
        let mut unit = vocabulary.root();
        let mut longest = None;
        for (offset, byte) in rest.iter().enumerate().take(shorter_than - 1) {
            let Some(next) = vocabulary.step(unit, *byte) else { break };
            unit = next;
            if unit.ends_token()
                && let Some(shorter) = longest.replace(Step::new(unit.place, offset + 1))
            {
                self.here.push(shorter);
            }
        }
        let first_byte = rest.first().copied().unwrap_or_default();
        while let Some(candidate) = longest {
            if !self.dead.has(at + candidate.length()) {
                let token = vocabulary.token_at(candidate.token());
                if last.is_none_or(|last| remembered(&mut self.memo, vocabulary, last, token, first_byte)) {
                    return Some(Step::new(token, candidate.length()));
                }
            }
            longest = self.here.pop();
        }
        None
    }
}

/// As [`compatible`], asked before or not.
#[inline(always)]
fn remembered(
    memo: &mut Option<Box<[u64; 1 << MEMO_BITS]>>,
    vocabulary: &Vocabulary,
    left: Token,
    right: Token,
    first_byte: u8,
) -> bool {
    let key = pair_key(left, right);
    let memo = memo.get_or_insert_with(|| Box::new([0; 1 << MEMO_BITS]));
    let Some(entry) = memo.get_mut((mix(key) >> 8) as usize & ((1 << MEMO_BITS) - 1)) else { return false };
    if *entry >> 1 == key + 1 {
        return *entry & 1 != 0;
    }
    let answer = compatible(vocabulary, left, right, first_byte);
    *entry = (key + 1) << 1 | u64::from(answer);
    answer
}

/// Whether merging leaves of the bytes of `left` and `right` just these two. `first_byte` is the first byte of `right`.
///
/// Undoes the merges of both in reverse order. At each point the two tokens that met at the border are known, and so whether they would
/// have merged with each other before what really happened next.
fn compatible(vocabulary: &Vocabulary, mut left: Token, mut right: Token, first_byte: u8) -> bool {
    let kind = follower::kind(first_byte);
    let mut limit = Token::MAX;
    // Each round goes from a token to a part of it, so that the lengths of the two bound the rounds.
    for _ in 0..2 * TOKEN_BYTES_MAX {
        if vocabulary.merged(left, right).is_some_and(|merged| merged < limit) {
            return false;
        }
        // The token that was made last is taken apart first; when that is a byte already, the other one.
        let whole = (left, right);
        if left > right {
            limit = left;
            let split = vocabulary.split(left);
            left = split.right();
            if left == whole.0 {
                limit = right + 1;
                right = vocabulary.split(right).left();
            } else if !split.right_merges_with(kind) {
                return true;
            }
        } else {
            limit = right + 1;
            right = vocabulary.split(right).left();
            if right == whole.1 {
                limit = left;
                let split = vocabulary.split(left);
                left = split.right();
                if left != whole.0 && !split.right_merges_with(kind) {
                    return true;
                }
            }
        }
        if whole == (left, right) {
            return true;
        }
    }
    true
}
