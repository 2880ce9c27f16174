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

use penstock_token_tables::layout::{TOKEN_BYTES_MAX, border};

use crate::vocabulary::{Token, Vocabulary};

/// Bytes that are searched at once. It bounds the memory, and is long enough for [`Merger::settled`] not to matter.
pub(crate) const WINDOW: usize = 1 << 15;

/// How many hints are kept, as a power of two.
const HINT_BITS: u32 = 6;
/// How many lists of candidates are kept, and how long one can be.
const LISTS: usize = 2;
const LIST: usize = TOKEN_BYTES_MAX + 1;
/// Lists of this length are worth keeping: making one takes as many steps as its longest token has bytes.
const LONG_LIST: usize = 8;

/// Room for the search, used again and again.
#[derive(Default)]
pub(crate) struct Merger {
    /// The tokens so far.
    found: Vec<Step>,
    /// Positions after the first 64, as bits, from which nothing leads on.
    dead: Vec<u64>,
    /// Tokens that begin at a position, the shortest first, with their places in the trie.
    lists: Vec<Step>,
    /// Which position each list is of, and how long it is.
    listed: [(usize, usize); LISTS],
    /// What worked where the longest token did not.
    hints: Vec<Hint>,
    /// For each position of a window's end, the first and the last token of its sequence.
    ends: Vec<Option<(Token, Left)>>,
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

/// After the token `left`, where the longest token was `longest` (as in [`Merger::lists`]), the one in the place `index` led on.
///
/// In runs of one character the longest token may lead nowhere again and again, which is only found out far ahead.
#[derive(Clone, Copy, Default)]
struct Hint {
    left: Token,
    longest: u32,
    index: u32,
}

/// The token before a border, and its last byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Left {
    token: Token,
    byte: u8,
}

/// The token after a border, and its first byte.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Right {
    token: Token,
    byte: u8,
}

/// The part of a piece that is final whatever follows, and the last token of it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Settled {
    pub(crate) bytes: usize,
    pub(crate) tokens: u64,
    pub(crate) last: Option<Left>,
}

impl Merger {
    /// The number of tokens of a piece.
    pub(crate) fn count(&mut self, vocabulary: &Vocabulary, piece: &[u8]) -> u64 {
        self.count_after(vocabulary, piece, None)
    }

    /// The number of tokens of the rest of a piece whose settled part ends with the token `before`.
    pub(crate) fn count_after(&mut self, vocabulary: &Vocabulary, mut piece: &[u8], mut before: Option<Left>) -> u64 {
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
        tokens + self.search(vocabulary, piece, before) as u64
    }

    /// How much of the beginning of a piece is final, given a window of it that more follows.
    ///
    /// No token is longer than `longest`. So wherever the piece ends, one of the last `longest` positions of the window is a border
    /// between tokens, and up to there the sequence is the one of that position. All of these sequences are looked at: if they all run
    /// through one border, so does the sequence of the piece. To see it, they are worked out from that border on alone, and are the
    /// right ones if each first token is compatible with the token before the border. If no border among some near the end serves,
    /// nothing is settled, and the caller tries a longer window; with the vocabularies shipped this has not been seen.
    pub(crate) fn settled(&mut self, vocabulary: &Vocabulary, window: &[u8], before: Option<Left>) -> Settled {
        const ATTEMPTS: usize = 8;
        let longest = vocabulary.longest;
        let mut tokens = self.search(vocabulary, window, before);
        let mut border = window.len();
        let mut beyond = window.len().saturating_sub(2 * longest);
        let mut attempts = 0;
        while let Some(step) = tokens.checked_sub(1).and_then(|last| self.found.get(last)).copied() {
            let (settled, tail) = window.split_at_checked(border).unwrap_or_default();
            if border <= beyond {
                let last = Left { token: step.token(), byte: last_byte(settled) };
                if self.all_run_through(vocabulary, tail, last) {
                    return Settled { bytes: border, tokens: tokens as u64, last: Some(last) };
                }
                attempts += 1;
                if attempts == ATTEMPTS {
                    break;
                }
                beyond = border.saturating_sub(longest);
            }
            border -= step.length();
            tokens -= 1;
        }
        Settled::default()
    }

    /// Whether the sequences of the last positions of `tail` can all follow the token `before`.
    fn all_run_through(&mut self, vocabulary: &Vocabulary, tail: &[u8], before: Left) -> bool {
        self.ends.clear();
        self.ends.resize(tail.len() + 1, None);
        for from in 0..tail.len() {
            // Every position has a sequence by the time it is its turn: what leads to it began earlier.
            let start = self.ends.get(from).copied().flatten();
            if from > 0 && start.is_none() {
                return false;
            }
            let rest = tail.get(from..).unwrap_or_default();
            let first_byte = first_byte(rest);
            let mut unit = vocabulary.root();
            for (offset, byte) in rest.iter().enumerate() {
                let Some(next) = vocabulary.step(unit, *byte) else { break };
                unit = next;
                let end = from + offset + 1;
                if !unit.ends_token() || self.ends.get(end).is_none_or(Option::is_some) {
                    continue;
                }
                let right = Right { token: vocabulary.token_at(unit.place), byte: first_byte };
                let fits = start.is_none_or(|(_, left)| compatible(vocabulary, left, right));
                if let Some(end) = self.ends.get_mut(end).filter(|_| fits) {
                    let first = start.map_or(right.token, |(first, _)| first);
                    *end = Some((first, Left { token: right.token, byte: *byte }));
                }
            }
        }
        let mut lately = None;
        self.ends.iter().rev().take(vocabulary.longest).all(|end| {
            let Some((first, _)) = end else { return false };
            let first = Right { token: *first, byte: first_byte(tail) };
            lately.replace(first) == Some(first) || compatible(vocabulary, before, first)
        })
    }

    /// Finds the tokens of `piece`, which follow `before`. Returns how many there are; they are at the beginning of `found`.
    fn search(&mut self, vocabulary: &Vocabulary, piece: &[u8], before: Option<Left>) -> usize {
        // A token cannot be shorter than a byte.
        if self.found.len() < piece.len() {
            self.found.resize(piece.len(), Step(0));
        }
        if self.lists.is_empty() {
            self.lists.resize(LISTS * LIST, Step(0));
        }
        if piece.len() >= 64 {
            self.dead.clear();
            self.dead.resize(piece.len() / 64, 0);
        }
        let mut dead = 0;
        let (mut tokens, mut at, mut last) = (0, 0, before);
        // The list to use next.
        let mut slot = 0;
        // Whether a token had to be taken back, ever and just now.
        let (mut troubled, mut back) = (false, false);
        while let Some(rest) = piece.get(at..).filter(|rest| !rest.is_empty()) {
            let kept = if back { self.listed.iter().position(|(of, count)| *of == at && *count > 0) } else { None };
            let (list, count) = match kept {
                Some(list) => (list, self.listed.get(list).map_or(0, |(_, count)| *count)),
                None => (slot, self.list(vocabulary, rest, slot)),
            };
            let longest = self.candidate(list, count.wrapping_sub(1));
            let mut hint = if troubled && !back { self.hint(last, longest) } else { 0 };
            let mut next = if hint > 0 { hint } else { count };
            let mut chosen = None;
            let mut culprit = None;
            while next > 0 {
                next -= 1;
                let candidate = self.candidate(list, next);
                if !self.is_dead(dead, at + candidate.length()) {
                    let token = vocabulary.token_at(candidate.token());
                    let Some(last) = last else {
                        chosen = Some(Step::new(token, candidate.length()));
                        break;
                    };
                    if !vocabulary.starts_with(token, culprit) {
                        match meet(vocabulary, last, Right { token, byte: first_byte(rest) }) {
                            Met::Stay => {
                                chosen = Some(Step::new(token, candidate.length()));
                                break;
                            }
                            Met::Merge { after } => culprit = after,
                        }
                    }
                }
                if next + 1 == hint {
                    // The hint was wrong here, so everything is tried.
                    (next, hint) = (count, 0);
                }
            }
            let Some(step) = chosen else {
                if at < 64 {
                    dead |= 1 << at;
                } else if let Some(bits) = self.dead.get_mut((at >> 6) - 1) {
                    *bits |= 1 << (at & 63);
                }
                if !troubled {
                    self.trouble();
                }
                (troubled, back) = (true, true);
                // There always is a sequence. Only a damaged table leads back to the start; then a byte counts as a token.
                let Some(before_last) = usize::checked_sub(tokens, 1) else {
                    (tokens, at, last) = (1, 1, None);
                    continue;
                };
                tokens = before_last;
                at -= self.found.get(tokens).map_or(at, |step| step.length());
                let byte = last_byte(piece.get(..at).unwrap_or_default());
                let step = tokens.checked_sub(1).and_then(|last| self.found.get(last));
                last = step.map(|step| Left { token: step.token(), byte }).or(before);
                continue;
            };
            if back {
                self.take_hint(last, longest, next);
                back = false;
            }
            if kept.is_none() && count >= LONG_LIST {
                if let Some(listed) = self.listed.get_mut(slot) {
                    *listed = (at, count);
                }
                slot = (slot + 1) % LISTS;
                // What the next list is written over is not kept any more.
                if let Some(listed) = self.listed.get_mut(slot) {
                    *listed = (0, 0);
                }
            }
            if let Some(found) = self.found.get_mut(tokens) {
                *found = step;
            }
            tokens += 1;
            at += step.length();
            last = Some(Left { token: step.token(), byte: last_byte(rest.get(..step.length()).unwrap_or_default()) });
        }
        self.listed = [(0, 0); LISTS];
        tokens
    }

    /// Lists the tokens that `rest` starts with. Returns how many there are.
    #[inline(always)]
    fn list(&mut self, vocabulary: &Vocabulary, rest: &[u8], list: usize) -> usize {
        let Some((first, rest)) = rest.split_first() else { return 0 };
        let Some(candidates) = self.lists.get_mut(list * LIST..).and_then(<[Step]>::first_chunk_mut::<LIST>) else {
            return 0;
        };
        let mut unit = vocabulary.first_step(*first);
        candidates[0] = Step::new(unit.place, 1);
        let mut count = 1;
        let mut length = 1;
        for byte in rest {
            let Some(next) = vocabulary.step(unit, *byte) else { break };
            unit = next;
            length += 1;
            if unit.ends_token() {
                #[expect(clippy::indexing_slicing, reason = "an index below 256 of 256 entries")]
                {
                    candidates[count & TOKEN_BYTES_MAX] = Step::new(unit.place, length);
                }
                count += 1;
            }
        }
        count
    }

    #[inline(always)]
    fn candidate(&self, list: usize, index: usize) -> Step {
        self.lists.get(list * LIST + (index & TOKEN_BYTES_MAX)).copied().unwrap_or(Step(1 << Step::LENGTH_SHIFT))
    }

    #[inline(always)]
    fn is_dead(&self, first: u64, position: usize) -> bool {
        let bits = if position < 64 { first } else { self.dead.get((position >> 6) - 1).copied().unwrap_or_default() };
        (bits >> (position & 63)) & 1 != 0
    }

    #[cold]
    fn trouble(&mut self) {
        if self.hints.is_empty() {
            self.hints.resize(1 << HINT_BITS, Hint::default());
        }
    }

    /// One more than the index of the candidate to try first; 0 if there is no hint.
    fn hint(&self, last: Option<Left>, longest: Step) -> usize {
        let left = last.map_or(Token::MAX, |last| last.token);
        let hint =
            self.hints.get(hint_index(left, longest.0)).filter(|hint| hint.left == left && hint.longest == longest.0);
        hint.map_or(0, |hint| hint.index as usize + 1)
    }

    fn take_hint(&mut self, last: Option<Left>, longest: Step, index: usize) {
        let left = last.map_or(Token::MAX, |last| last.token);
        if let Some(hint) = self.hints.get_mut(hint_index(left, longest.0)) {
            *hint = Hint { left, longest: longest.0, index: index as u32 };
        }
    }
}

fn hint_index(left: Token, longest: u32) -> usize {
    (left.wrapping_mul(31) ^ longest.wrapping_mul(0x9e37_79b1) >> (32 - HINT_BITS)) as usize & ((1 << HINT_BITS) - 1)
}

/// What becomes of two tokens that meet at a border.
enum Met {
    /// Merging leaves of their bytes just these two.
    Stay,
    /// Parts of them would have merged across the border: when of the right one, `after` had just been taken apart. If it was none, the
    /// right one itself would.
    ///
    /// What happens below `after` is the same for every token that starts with it by merging: none of these can follow the same token.
    Merge { after: Option<Token> },
}

/// Whether merging leaves of the bytes of two tokens just these two.
fn compatible(vocabulary: &Vocabulary, left: Left, right: Right) -> bool {
    matches!(meet(vocabulary, left, right), Met::Stay)
}

/// Undoes the merges of both in reverse order. At each point the two tokens that meet at the border are known, and so whether they would
/// have merged with each other before what really happened next.
fn meet(vocabulary: &Vocabulary, left: Left, right: Right) -> Met {
    let (first, last) = (border::first(right.byte), border::last(left.byte));
    let (mut left, mut right) = (left.token, right.token);
    let (mut of_left, mut of_right) = (vocabulary.split(left), vocabulary.split(right));
    let mut limit = Token::MAX;
    let mut after = None;
    // Each round goes from a token to a part of it, so that the lengths of the two bound the rounds.
    for _ in 0..2 * TOKEN_BYTES_MAX {
        if !of_left.has(first) || !of_right.has(last) {
            return Met::Stay;
        }
        if vocabulary.merged(left, right).is_some_and(|merged| merged < limit) {
            return Met::Merge { after };
        }
        // The token that was made last is taken apart first; if that is a byte already, the other one.
        let (end, beginning) = (vocabulary.right_of(left, of_left), of_right.left());
        if (left > right && end != left) || beginning == right {
            if end == left {
                return Met::Stay;
            }
            limit = left;
            left = end;
            of_left = vocabulary.split(left);
        } else {
            limit = right + 1;
            after = Some(right);
            right = beginning;
            of_right = vocabulary.split(right);
        }
    }
    Met::Stay
}

#[inline(always)]
fn first_byte(bytes: &[u8]) -> u8 {
    bytes.first().copied().unwrap_or_default()
}

#[inline(always)]
fn last_byte(bytes: &[u8]) -> u8 {
    bytes.last().copied().unwrap_or_default()
}
