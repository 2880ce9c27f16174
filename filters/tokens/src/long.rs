//! A piece that is longer than what a counter wants to hold.
//!
//! While such a piece comes in, it is not known where it will end. But it can end in two places only: after all of the run that it
//! consists of, or at the last *anchor* in it: the last line end in white space, the last character that is both upper and lower case
//! among upper case. So two counts are kept: of the whole run, and of what comes after the last anchor taken by itself, with the
//! count of the whole up to there. Of both only the end is held that [`Core::settle`] leaves open.
#![allow(clippy::arithmetic_side_effects, reason = "positions in a text, and numbers of tokens in it")]

use penstock_token_tables::layout::Pattern;

use crate::block::{self, Kind};
use crate::classes::{END, LOWER, NEWLINE, OTHER, SPACE, Set, UPPER, char_at};
use crate::core::{Core, Pause};
use crate::pieces::{ANY_LETTER, LOWER_W, PREFIX, PUNCTUATION, W, WORDLIKE, contraction};

/// What kind of piece it is, as far as it has been seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Run {
    /// `W*` of `o200k`.
    Cased,
    /// `w+` of `o200k`.
    Lower,
    /// `\p{L}+` of `cl100k`.
    Letters,
    /// `[^\s\p{L}\p{N}]+`.
    Punctuation,
    /// `[\r\n/]*` after that.
    LineEnds,
    /// `\s+`, `\s*[\r\n]+`.
    White,
}

/// Characters between looks at whether a run of ASCII can be skipped.
const SKIP_EVERY: usize = 64;

/// What ASCII of this class in a run goes on with for a while, if there is any.
fn kind(run: Run, class: Set) -> Option<Kind> {
    Some(match (run, class) {
        (Run::Cased, UPPER) => Kind::Upper,
        (Run::Cased, _) => return None,
        (Run::Lower, _) => Kind::Lower,
        (Run::Letters, _) => Kind::Letter,
        (Run::Punctuation, _) => Kind::Punctuation,
        (Run::White, SPACE) => Kind::Blank,
        (Run::LineEnds | Run::White, _) => Kind::Newline,
    })
}

/// What has been counted of a piece, and where in the held text the rest of it starts.
#[derive(Clone, Copy, Debug, Default)]
struct Part {
    tokens: u64,
    at: usize,
}

/// A long piece on its way. Positions are in the held text, which starts with what is not settled of it.
#[derive(Debug)]
pub(crate) struct Long {
    run: Run,
    whole: Part,
    /// The tokens up to the last anchor that is no longer held, and the part after it.
    split: Option<(u64, Part)>,
    /// The last anchor, if it is later.
    anchor: Option<usize>,
    /// Where the last character starts.
    last: usize,
    /// Where the next character starts.
    next: usize,
    pause: Pause,
}

/// The end of a long piece: its tokens, and where in the held text ordinary counting goes on.
pub(crate) struct Ended {
    pub(crate) tokens: u64,
    pub(crate) resume: usize,
}

impl Long {
    /// The piece that `held` is the beginning of; `None` if it is not one that can be long.
    pub(crate) fn begin(held: &[u8], pattern: Pattern) -> Option<Self> {
        let first = char_at(held, 0);
        let second = char_at(held, first.length());
        let (word, letters) =
            if pattern.has(Pattern::CASED) { (Run::Cased, WORDLIKE) } else { (Run::Letters, ANY_LETTER) };
        // The character before a word or before punctuation is part of the piece.
        let (run, next) = if first.is(letters) {
            (word, 0)
        } else if first.is(PREFIX) && second.is(letters) {
            (word, first.length())
        } else if first.is(PUNCTUATION) {
            (Run::Punctuation, 0)
        } else if held.first() == Some(&b' ') && second.is(PUNCTUATION) {
            (Run::Punctuation, first.length())
        } else if first.is(SPACE | NEWLINE) {
            (Run::White, 0)
        } else {
            return None;
        };
        Some(Self { run, whole: Part::default(), split: None, anchor: None, last: 0, next, pause: Pause::default() })
    }

    /// Goes on through `held`. Returns the end of the piece if it is there.
    pub(crate) fn advance(&mut self, core: &mut Core<'_>, held: &[u8], last: bool) -> Option<Ended> {
        loop {
            self.go_on(held);
            let class = char_at(held, self.next).class();
            if class == END && !last {
                return None;
            }
            let slash = core.vocabulary.pattern.has(Pattern::SLASH) && held.get(self.next) == Some(&b'/');
            self.run = match (self.run, class) {
                (Run::Cased, LOWER) => Run::Lower,
                (Run::Punctuation, NEWLINE) => Run::LineEnds,
                (Run::LineEnds, OTHER) if slash => {
                    (self.last, self.next) = (self.next, self.next + 1);
                    Run::LineEnds
                }
                _ => return self.end(core, held, last),
            };
            if self.run == Run::Lower {
                // Lower case has joined everything before it.
                (self.split, self.anchor) = (None, None);
            }
        }
    }

    /// Goes on while the run stays what it is.
    fn go_on(&mut self, held: &[u8]) {
        let (stays, anchors) = match self.run {
            Run::Cased => (W, W & LOWER_W),
            Run::Lower => (LOWER_W, 0),
            Run::Letters => (ANY_LETTER, 0),
            Run::Punctuation => (PUNCTUATION, 0),
            Run::LineEnds => (NEWLINE, 0),
            Run::White => (SPACE | NEWLINE, NEWLINE),
        };
        let (mut next, mut last) = (self.next, self.last);
        let mut anchor = None;
        let mut skip_at = next;
        loop {
            let c = char_at(held, next);
            if !c.is(stays) {
                break;
            }
            last = next;
            next += c.length();
            if next > skip_at
                && let Some(kind) = kind(self.run, c.class())
            {
                let more = block::run(held, next, kind);
                if more > 0 {
                    next += more;
                    last = next - 1;
                }
                skip_at = next + SKIP_EVERY;
            }
            if c.is(anchors) {
                anchor = Some(next);
            }
        }
        (self.next, self.last) = (next, last);
        if anchor.is_some() {
            (self.split, self.anchor) = (None, anchor);
        }
    }

    /// Counts what can be, and returns how much of the held text is not needed any more.
    pub(crate) fn settle(&mut self, core: &mut Core<'_>, held: &[u8]) -> usize {
        // The last character of white space may belong to what follows.
        let end = if self.run == Run::White { self.last } else { self.next };
        let before = self.whole;
        settle(core, held, &mut self.whole, end, &mut self.pause);
        // What is dropped now cannot be counted later.
        if let Some(anchor) = self.anchor.take_if(|anchor| *anchor < self.whole.at) {
            let tokens = count(core, held, before, anchor);
            self.split = Some((tokens, Part { at: anchor, ..Part::default() }));
        }
        let mut done = self.whole.at;
        if let Some((_, part)) = &mut self.split {
            if part.at == before.at {
                // Both have a border here, so that from here on they are the same.
                *part = Part { tokens: part.tokens + self.whole.tokens - before.tokens, at: self.whole.at };
            } else {
                settle(core, held, part, end, &mut self.pause);
            }
            done = done.min(part.at);
            part.at -= done;
        }
        self.whole.at -= done;
        if let Some(anchor) = &mut self.anchor {
            *anchor -= done;
        }
        self.last -= done;
        self.next -= done;
        done
    }

    /// The end of the piece, given that the run ends here.
    fn end(&self, core: &mut Core<'_>, held: &[u8], last: bool) -> Option<Ended> {
        let pattern = core.vocabulary.pattern;
        let at_end = self.next == held.len();
        let word = matches!(self.run, Run::Cased | Run::Lower);
        // A contraction belongs to the word before it.
        let run_end = if word { contraction(held, self.next, last)? } else { self.next };
        let run_end = match self.run {
            Run::White if !at_end => self.last,
            _ => run_end,
        };
        if self.run == Run::White && at_end && pattern.has(Pattern::FINAL_SPACE) {
            return Some(Ended { tokens: count(core, held, self.whole, run_end), resume: run_end });
        }
        Some(match (self.anchor, self.split) {
            (Some(anchor), _) => {
                let end = if word && anchor == self.next { run_end } else { anchor };
                Ended { tokens: count(core, held, self.whole, end), resume: end }
            }
            (None, Some((before, part))) => {
                let run_end = run_end.max(part.at);
                Ended { tokens: before + count(core, held, part, run_end), resume: run_end }
            }
            (None, None) => Ended { tokens: count(core, held, self.whole, run_end), resume: run_end },
        })
    }
}

/// The tokens of a piece that ends at `end`.
fn count(core: &mut Core<'_>, held: &[u8], part: Part, end: usize) -> u64 {
    part.tokens + core.merged(held.get(part.at..end).unwrap_or_default())
}

/// Settles what can be of a piece that goes on at least to `end`.
fn settle(core: &mut Core<'_>, held: &[u8], part: &mut Part, end: usize, pause: &mut Pause) {
    let settled = core.settle(held.get(part.at..end).unwrap_or_default(), pause);
    *part = Part { tokens: part.tokens + settled.tokens, at: part.at + settled.bytes };
}
