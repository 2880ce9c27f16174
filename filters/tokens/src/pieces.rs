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
use crate::classes::{Char, END, LETTER, LOWER, MARK, NEWLINE, NUMBER, OTHER, SPACE, Set, UPPER, char_at};

/// A text that is being cut.
struct Scan<'a> {
    text: &'a [u8],
    /// Whether the end of the text has been seen: if more may follow it, what was found out says nothing.
    saw_end: bool,
}

/// After so many characters of a kind there may be many more.
const LONG: usize = 16;

const W: Set = Set::of(&[UPPER, LETTER, MARK]);
const LOWER_W: Set = Set::of(&[LOWER, LETTER, MARK]);
const ANY_LETTER: Set = Set::of(&[UPPER, LOWER, LETTER]);
const WORDLIKE: Set = Set::of(&[UPPER, LOWER, LETTER, MARK]);
const PUNCTUATION: Set = Set::of(&[OTHER, MARK]);
const PREFIX: Set = Set::of(&[OTHER, MARK, SPACE]);

/// The end of the piece that starts at `at`, which must be before the end; `None` if more may follow the text, as it may if not
/// `last`, and the piece depends on it.
#[inline(never)]
pub(crate) fn piece(text: &[u8], at: usize, pattern: Pattern, last: bool) -> Option<usize> {
    let mut scan = Scan { text, saw_end: false };
    let end = if pattern.has(Pattern::CASED) { scan.cased(at, pattern) } else { scan.uncased(at, pattern) };
    (last || !scan.saw_end).then_some(end)
}

/// The end of the contraction at `at`, or `at`; `None` as for a [`piece`].
pub(crate) fn contraction(text: &[u8], at: usize, last: bool) -> Option<usize> {
    let mut scan = Scan { text, saw_end: false };
    let end = scan.contraction(at);
    (last || !scan.saw_end).then_some(end)
}

impl Scan<'_> {
    fn cased(&mut self, at: usize, pattern: Pattern) -> usize {
        let first = self.char(at);
        if WORDLIKE.has(first.class()) {
            return self.cased_word(at, first);
        }
        if PREFIX.has(first.class()) {
            let second = self.char(at + first.length());
            if WORDLIKE.has(second.class()) {
                return self.cased_word(at + first.length(), second);
            }
        }
        self.no_word(at, first, pattern)
    }

    fn uncased(&mut self, at: usize, pattern: Pattern) -> usize {
        let first = self.char(at);
        if ANY_LETTER.has(first.class()) {
            return self.run(at, ANY_LETTER, Kind::Letter);
        }
        let contracted = self.contraction(at);
        if contracted > at {
            return contracted;
        }
        if PREFIX.has(first.class()) && ANY_LETTER.has(self.char(at + first.length()).class()) {
            return self.run(at + first.length(), ANY_LETTER, Kind::Letter);
        }
        self.no_word(at, first, pattern)
    }

    /// The first two alternatives of `o200k` after the optional prefix.
    ///
    /// `W*` takes all it can. If lower case follows, `w+` takes that and goes on; if not, `W*` gives back until `w+` has something: the
    /// last character that is in both, if there is any. Without one, the second alternative takes the whole of `W+`. A mark is both
    /// a possible prefix and in both sets; whichever way it is taken, the piece ends at the same place.
    fn cased_word(&mut self, at: usize, first: Char) -> usize {
        let mut end = at;
        let mut in_both = at;
        let mut c = first;
        let mut long_at = at + LONG;
        while W.has(c.class()) {
            end += c.length();
            if c.class() != UPPER {
                in_both = end;
            } else if end >= long_at {
                end += block::run(self.text, end, Kind::Upper);
                long_at = end + 4 * LONG;
            }
            c = char_at(self.text, end);
        }
        if c.class() == LOWER {
            end = self.run(end + c.length(), LOWER_W, Kind::Lower);
        } else {
            self.saw_end |= c.class() == END;
            if in_both > at {
                end = in_both;
            }
        }
        if self.byte(end) == b'\'' { self.contraction(end) } else { end }
    }

    /// What is neither a word nor part of one.
    fn no_word(&mut self, at: usize, first: Char, pattern: Pattern) -> usize {
        match first.class() {
            NUMBER => self.digits(at, pattern),
            OTHER | MARK => self.punctuation(at, pattern),
            SPACE if self.byte(at) == b' ' && PUNCTUATION.has(self.char(at + 1).class()) => {
                self.punctuation(at + 1, pattern)
            }
            _ => self.white_space(at, pattern),
        }
    }

    fn digits(&mut self, at: usize, pattern: Pattern) -> usize {
        let most = if pattern.has(Pattern::SINGLE_DIGITS) { 1 } else { 3 };
        let mut end = at;
        for _ in 0..most {
            let c = self.char(end);
            if c.class() != NUMBER {
                break;
            }
            end += c.length();
        }
        end
    }

    fn punctuation(&mut self, at: usize, pattern: Pattern) -> usize {
        let slash = pattern.has(Pattern::SLASH);
        let mut end = self.run(at, PUNCTUATION, Kind::Punctuation);
        while self.char(end).class() == NEWLINE || (slash && self.byte(end) == b'/') {
            end += 1;
        }
        end
    }

    /// Through the last line end if there is one; otherwise all but the last character, which belongs to what follows; or a single one.
    fn white_space(&mut self, at: usize, pattern: Pattern) -> usize {
        let mut end = at;
        let mut last = at;
        let mut line_end = at;
        let mut long_at = at + LONG;
        loop {
            let c = self.char(end);
            let is_long = end >= long_at;
            if is_long {
                long_at = end + 4 * LONG;
            }
            match c.class() {
                NEWLINE => {
                    end += 1;
                    if is_long {
                        end += block::run(self.text, end, Kind::Newline);
                    }
                    line_end = end;
                }
                SPACE => {
                    last = end;
                    end += c.length();
                    let more = if is_long { block::run(self.text, end, Kind::Blank) } else { 0 };
                    if more > 0 {
                        end += more;
                        last = end - 1;
                    }
                }
                END if pattern.has(Pattern::FINAL_SPACE) => return end,
                _ if line_end > at => return line_end,
                END => return end,
                _ => return if last > at { last } else { end },
            }
        }
    }

    /// The end of a contraction at `at`, or `at`. Without regard to case, `s` is also U+017F, the long s.
    fn contraction(&mut self, at: usize) -> usize {
        if self.char(at).class() != OTHER || self.byte(at) != b'\'' || self.char(at + 1).class() == END {
            return at;
        }
        let after = match self.byte(at + 1) | 0x20 {
            b's' | b't' | b'm' | b'd' => return at + 2,
            // U+017F is C5 BF; setting a bit has made it E5.
            0xe5 if self.byte(at + 1) == 0xc5 && self.byte(at + 2) == 0xbf => return at + 3,
            b'r' | b'v' => b'e',
            b'l' => b'l',
            _ => return at,
        };
        if self.char(at + 2).class() != END && self.byte(at + 2) | 0x20 == after { at + 3 } else { at }
    }

    /// The first character from `at` on that is not in `set`.
    fn run(&mut self, mut at: usize, set: Set, kind: Kind) -> usize {
        let mut long_at = at + LONG;
        loop {
            let c = char_at(self.text, at);
            if !set.has(c.class()) {
                self.saw_end |= c.class() == END;
                return at;
            }
            at += c.length();
            if at >= long_at {
                at += block::run(self.text, at, kind);
                long_at = at + 4 * LONG;
            }
        }
    }

    #[inline(always)]
    fn char(&mut self, at: usize) -> Char {
        let c = char_at(self.text, at);
        self.saw_end |= c.class() == END;
        c
    }

    /// A byte; 0 at the end, which no rule looks for.
    #[inline(always)]
    fn byte(&self, at: usize) -> u8 {
        self.text.get(at).copied().unwrap_or_default()
    }
}
