//! Cutting a text into the pieces within which tokens are merged: by hand what the encodings' regular expressions say.
//!
//! The regular expression of `o200k`, with `W = [\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]` and `w = [\p{Ll}\p{Lm}\p{Lo}\p{M}]`:
//!
//! ```text
//! [^\r\n\p{L}\p{N}]? W* w+ (?i:'s|'t|'re|'ve|'m|'ll|'d)?
//! [^\r\n\p{L}\p{N}]? W+ w* (?i:'s|'t|'re|'ve|'m|'ll|'d)?
//! \p{N}{1,3}
//! \x20?[^\s\p{L}\p{N}]+[\r\n/]*
//! \s*[\r\n]+
//! \s+(?!\S)
//! \s+
//! ```
//!
//! and that of `cl100k`:
//!
//! ```text
//! '(?i:[sdmt]|ll|ve|re)
//! [^\r\n\p{L}\p{N}]?+\p{L}++
//! \p{N}{1,3}+
//! \x20?[^\s\p{L}\p{N}]++[\r\n]*+
//! \s++$
//! \s*[\r\n]
//! \s+(?!\S)
//! \s
//! ```
#![allow(clippy::arithmetic_side_effects, reason = "positions in a text, which is shorter than isize::MAX")]

use penstock_token_tables::layout::Pattern;

use crate::block::{self, Kind};
use crate::classes::{
    Char, END, LETTER, LOWER, MARK, NEWLINE, NUMBER, OTHER, SPACE, Set, UPPER, char_at, two_byte_run,
};

/// After so many characters of a kind there may be many more.
const LONG: usize = 16;
/// No rule looks further than this beyond the place where what it is about ends.
const AHEAD: usize = 8;

pub(crate) const W: Set = UPPER | LETTER | MARK;
pub(crate) const LOWER_W: Set = LOWER | LETTER | MARK;
pub(crate) const ANY_LETTER: Set = UPPER | LOWER | LETTER;
pub(crate) const WORDLIKE: Set = UPPER | LOWER | LETTER | MARK;
pub(crate) const PUNCTUATION: Set = OTHER | MARK;
pub(crate) const PREFIX: Set = OTHER | MARK | SPACE;

/// Where a piece ends, and how far the text was looked at to see it, but for what is [`AHEAD`].
#[derive(Clone, Copy)]
struct Cut {
    end: usize,
    seen: usize,
}

impl Cut {
    fn at(end: usize) -> Self {
        Self { end, seen: end }
    }
}

/// The end of the piece that starts at `at`, which must be before the end; `None` if more may follow the text, as it may if not
/// `last`, and the piece could depend on it.
#[inline(never)]
pub(crate) fn piece(text: &[u8], at: usize, pattern: Pattern, last: bool) -> Option<usize> {
    let cut = if pattern.has(Pattern::CASED) { cased(text, at, pattern) } else { uncased(text, at, pattern) };
    (last || cut.seen + AHEAD <= text.len()).then_some(cut.end)
}

/// The end of the contraction at `at`, or `at`; `None` as for a [`piece`].
pub(crate) fn contraction(text: &[u8], at: usize, last: bool) -> Option<usize> {
    (last || at + AHEAD <= text.len()).then(|| contracted(text, at))
}

#[inline(always)]
fn cased(text: &[u8], at: usize, pattern: Pattern) -> Cut {
    let first = char_at(text, at);
    if first.is(WORDLIKE) {
        return cased_word(text, at, first);
    }
    let second_at = at + first.length();
    let second = char_at(text, second_at);
    if first.is(PREFIX) && second.is(WORDLIKE) {
        return cased_word(text, second_at, second);
    }
    no_word(text, at, first, second, pattern)
}

#[inline(always)]
fn uncased(text: &[u8], at: usize, pattern: Pattern) -> Cut {
    let first = char_at(text, at);
    if first.is(ANY_LETTER) {
        return Cut::at(run(text, at, ANY_LETTER, Kind::Letter));
    }
    let contracted = contracted(text, at);
    if contracted > at {
        return Cut::at(contracted);
    }
    let second_at = at + first.length();
    let second = char_at(text, second_at);
    if first.is(PREFIX) && second.is(ANY_LETTER) {
        return Cut::at(run(text, second_at, ANY_LETTER, Kind::Letter));
    }
    no_word(text, at, first, second, pattern)
}

/// The first two alternatives of `o200k` after the optional prefix.
///
/// `W*` takes all it can. If lower case follows, `w+` takes that and goes on; if not, `W*` gives back until `w+` has something: the
/// last character that is in both, if there is any. Without one, the second alternative takes the whole of `W+`. A mark is both
/// a possible prefix and in both sets; whichever way it is taken, the piece ends at the same place.
#[inline(always)]
fn cased_word(text: &[u8], at: usize, first: Char) -> Cut {
    let mut end = at;
    let mut in_both = at;
    let mut c = first;
    let mut long_at = at + LONG;
    while c.is(W) {
        end += c.length();
        if !c.is(UPPER) {
            if c.length() == 2 {
                end += two_byte_run(text, end, LETTER | MARK);
            }
            in_both = end;
        } else if end >= long_at {
            end += block::run(text, end, Kind::Upper);
            long_at = end + 4 * LONG;
        }
        c = char_at(text, end);
    }
    let mut cut = Cut::at(end);
    if c.is(LOWER) {
        cut = Cut::at(run(text, end + c.length(), LOWER_W, Kind::Lower));
    } else if in_both > at {
        cut.end = in_both;
    }
    if byte(text, cut.end) == b'\'' {
        cut.end = contracted(text, cut.end);
    }
    cut
}

/// What is neither a word nor part of one.
#[inline(always)]
fn no_word(text: &[u8], at: usize, first: Char, second: Char, pattern: Pattern) -> Cut {
    if first.is(PUNCTUATION) {
        let second_at = at + first.length();
        let goes_on = second.is(PUNCTUATION);
        Cut::at(if goes_on {
            punctuation(text, second_at + second.length(), pattern)
        } else {
            ends(text, second_at, pattern)
        })
    } else if first.is(SPACE) && byte(text, at) == b' ' && second.is(PUNCTUATION) {
        Cut::at(punctuation(text, at + 1 + second.length(), pattern))
    } else if first.is(NUMBER) {
        Cut::at(digits(text, at, pattern))
    } else {
        white_space(text, at, pattern)
    }
}

fn digits(text: &[u8], at: usize, pattern: Pattern) -> usize {
    let most = if pattern.has(Pattern::SINGLE_DIGITS) { 1 } else { 3 };
    let mut end = at;
    for _ in 0..most {
        let c = char_at(text, end);
        if !c.is(NUMBER) {
            break;
        }
        end += c.length();
    }
    end
}

/// The end of punctuation that goes on at `at`.
#[inline(always)]
fn punctuation(text: &[u8], at: usize, pattern: Pattern) -> usize {
    ends(text, run(text, at, PUNCTUATION, Kind::Punctuation), pattern)
}

/// The end of the line ends, and of slashes with some patterns, that belong to the punctuation before them.
#[inline(always)]
fn ends(text: &[u8], mut end: usize, pattern: Pattern) -> usize {
    let slash = if pattern.has(Pattern::SLASH) { b'/' } else { b'\n' };
    while matches!(byte(text, end), b'\r' | b'\n') || byte(text, end) == slash {
        end += 1;
    }
    end
}

/// Through the last line end if there is one; otherwise all but the last character, which belongs to what follows; or a single one.
fn white_space(text: &[u8], at: usize, pattern: Pattern) -> Cut {
    let mut seen = at;
    let mut last = at;
    let mut line_end = at;
    let mut long_at = at + LONG;
    loop {
        let c = char_at(text, seen);
        let is_long = seen >= long_at;
        if is_long {
            long_at = seen + 4 * LONG;
        }
        if c.is(NEWLINE) {
            seen += 1;
            if is_long {
                seen += block::run(text, seen, Kind::Newline);
            }
            line_end = seen;
        } else if c.is(SPACE) {
            last = seen;
            seen += c.length();
            let more = if is_long { block::run(text, seen, Kind::Blank) } else { 0 };
            if more > 0 {
                seen += more;
                last = seen - 1;
            }
        } else {
            let is_end = c.is(END);
            let end = if is_end && pattern.has(Pattern::FINAL_SPACE) {
                seen
            } else if line_end > at {
                line_end
            } else if is_end || last == at {
                seen
            } else {
                last
            };
            return Cut { end, seen };
        }
    }
}

/// The end of a contraction at `at`, or `at`. Without regard to case, `s` is also U+017F, the long s.
fn contracted(text: &[u8], at: usize) -> usize {
    if byte(text, at) != b'\'' {
        return at;
    }
    let after = match byte(text, at + 1) | 0x20 {
        b's' | b't' | b'm' | b'd' => return at + 2,
        // U+017F is C5 BF; setting a bit has made it E5.
        0xe5 if byte(text, at + 1) == 0xc5 && byte(text, at + 2) == 0xbf => return at + 3,
        b'r' | b'v' => b'e',
        b'l' => b'l',
        _ => return at,
    };
    if byte(text, at + 2) | 0x20 == after { at + 3 } else { at }
}

/// The first character from `at` on that is not in `set`.
#[inline(always)]
fn run(text: &[u8], mut at: usize, set: Set, kind: Kind) -> usize {
    let mut long_at = at + LONG;
    loop {
        let c = char_at(text, at);
        if !c.is(set) {
            return at;
        }
        at += c.length();
        if c.length() == 2 {
            at += two_byte_run(text, at, set);
        } else if at >= long_at {
            at += block::run(text, at, kind);
            long_at = at + 4 * LONG;
        }
    }
}

/// A byte; 0 at the end, which no rule looks for.
#[inline(always)]
fn byte(text: &[u8], at: usize) -> u8 {
    text.get(at).copied().unwrap_or_default()
}
