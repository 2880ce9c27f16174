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

use alloc::vec::Vec;

use crate::vocabulary::{Token, Vocabulary};

/// Bytes that are searched at once. It bounds the memory, and is long enough for [`Merger::settled`] not to matter.
pub(crate) const WINDOW: usize = 1 << 15;

/// Room for the search, used again and again.
#[derive(Default)]
pub(crate) struct Merger {
    /// The tokens so far.
    found: Vec<Step>,
    /// Positions, as bits, from which nothing leads on.
    dead: Vec<u64>,
    /// Tokens that begin at the position, by length.
    here: Vec<Candidate>,
    /// For each position of a window's end, the first and the last token of its sequence.
    ends: Vec<Option<(Token, Token)>>,
}

#[derive(Clone, Copy)]
struct Step {
    token: Token,
    length: u32,
}

/// A token that is only looked up when it is needed.
#[derive(Clone, Copy)]
struct Candidate {
    place: u32,
    length: u32,
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
            last: self.found.last().map(|step| step.token),
        };
        let mut attempts = 0;
        let mut beyond = window.len().saturating_sub(2 * longest);
        while let Some(step) = self.found.pop() {
            if settled.bytes <= beyond {
                if self.all_run_through(vocabulary, window.get(settled.bytes..).unwrap_or_default(), step.token) {
                    return settled;
                }
                attempts += 1;
                beyond = settled.bytes.saturating_sub(longest);
                if attempts == ATTEMPTS {
                    break;
                }
            }
            settled.bytes -= step.length as usize;
            settled.tokens -= 1;
            settled.last = self.found.last().map(|step| step.token);
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
                    Some((first, last)) if compatible(vocabulary, last, token) => *end = Some((first, token)),
                    Some(_) => {}
                }
            }
        }
        let mut lately = None;
        self.ends.iter().rev().take(vocabulary.longest).all(|end| match end {
            Some((first, _)) if lately == Some(*first) => true,
            Some((first, _)) => {
                lately = Some(*first);
                compatible(vocabulary, before, *first)
            }
            None => false,
        })
    }

    /// Finds the tokens of `piece`, which follow the token `before`.
    fn search(&mut self, vocabulary: &Vocabulary, piece: &[u8], before: Option<Token>) {
        self.found.clear();
        self.dead.clear();
        self.dead.resize(piece.len() / 64 + 1, 0);
        let mut at = 0;
        let mut last = before;
        // When going back, only what is shorter than the token taken back.
        let mut shorter_than = usize::MAX;
        while at < piece.len() {
            self.here.clear();
            let mut unit = vocabulary.root();
            for (offset, byte) in piece.get(at..).unwrap_or_default().iter().enumerate() {
                let Some(next) = vocabulary.step(unit, *byte) else { break };
                if offset + 1 >= shorter_than {
                    break;
                }
                unit = next;
                if unit.ends_token() {
                    self.here.push(Candidate { place: unit.place, length: offset as u32 + 1 });
                }
            }
            let next = loop {
                let Some(candidate) = self.here.pop() else { break None };
                let end = at + candidate.length as usize;
                if self.dead.get(end >> 6).is_some_and(|bits| bits >> (end & 63) & 1 != 0) {
                    continue;
                }
                let token = vocabulary.token_at(candidate.place);
                if last.is_none_or(|last| compatible(vocabulary, last, token)) {
                    break Some(Step { token, length: candidate.length });
                }
            };
            if let Some(step) = next {
                self.found.push(step);
                at += step.length as usize;
                last = Some(step.token);
                shorter_than = usize::MAX;
                continue;
            }
            if let Some(bits) = self.dead.get_mut(at >> 6) {
                *bits |= 1 << (at & 63);
            }
            // There always is a sequence; only a damaged table could lead to the start with nothing left, and then a byte is a token.
            let Some(back) = self.found.pop() else {
                self.found.push(Step { token: 0, length: 1 });
                at = 1;
                last = Some(0);
                shorter_than = usize::MAX;
                continue;
            };
            at -= back.length as usize;
            last = self.found.last().map(|step| step.token).or(before);
            shorter_than = back.length as usize;
        }
    }
}

/// Whether merging leaves of the bytes of `left` and `right` just these two.
///
/// Undoes the merges of both in reverse order. At each point the two tokens that met at the border are known, and so whether they would
/// have merged with each other before what really happened next.
pub(crate) fn compatible(vocabulary: &Vocabulary, mut left: Token, mut right: Token) -> bool {
    let mut limit = Token::MAX;
    // Each round goes from a token to a part of it, so that the lengths of the two bound the rounds.
    for _ in 0..2 * penstock_token_tables::layout::TOKEN_BYTES_MAX {
        if vocabulary.merged(left, right).is_some_and(|merged| merged < limit) {
            return false;
        }
        let of_left = |token| vocabulary.split(token).1;
        let of_right = |token| vocabulary.split(token).0;
        if left > right {
            limit = left;
            left = of_left(left);
            if left == limit {
                limit = right + 1;
                right = of_right(right);
                if right + 1 == limit {
                    return true;
                }
            }
        } else {
            limit = right + 1;
            right = of_right(right);
            if right + 1 == limit {
                limit = left;
                left = of_left(left);
                if left == limit {
                    return true;
                }
            }
        }
    }
    true
}
