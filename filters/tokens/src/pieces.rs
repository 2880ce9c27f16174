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

use crate::classes::{END, LETTER, LOWER, MARK, NEWLINE, NUMBER, OTHER, SPACE, Set, UPPER, class_at};

/// One bit per byte of a word of eight.
const HIGH: u64 = 0x8080_8080_8080_8080;
const ONES: u64 = 0x0101_0101_0101_0101;

/// Eight bytes of `text` from `at`, with zeros for what is beyond the end.
#[inline(always)]
pub(crate) fn word_at(text: &[u8], at: usize) -> u64 {
    match text.get(at..).and_then(<[u8]>::first_chunk) {
        Some(chunk) => u64::from_le_bytes(*chunk),
        None => word_at_end(text, at),
    }
}

#[cold]
fn word_at_end(text: &[u8], at: usize) -> u64 {
    let rest = text.get(at..).unwrap_or_default();
    rest.iter().take(8).rev().fold(0, |word, byte| word << 8 | u64::from(*byte))
}

/// The end of the piece that starts at `at`, for the words that most texts consist of: at most one ASCII character that is no letter,
/// then ASCII letters, then another ASCII character. `None` says nothing.
#[inline(always)]
pub(crate) fn quick_word<const CASED: bool>(text: &[u8], at: usize) -> Option<(u64, usize)> {
    let word = u64::from_le_bytes(*text.get(at..)?.first_chunk()?);
    let (upper, lower) = letters(word);
    let prefix = if (upper | lower) & 0x80 == 0 {
        let first = word as u8;
        if first >= 0x80 || matches!(first, b'\r' | b'\n' | b'0'..=b'9') || (!CASED && first == b'\'') {
            return None;
        }
        8
    } else {
        0
    };
    let (upper, lower) = (upper >> prefix, lower >> prefix);
    let ends = if CASED {
        // Upper case, then lower case: the first byte that is not lower case, from the first on that is not upper case.
        let not_upper = !upper & HIGH;
        let first = not_upper & not_upper.wrapping_neg();
        !lower & HIGH & !first.wrapping_sub(1)
    } else {
        !(upper | lower) & HIGH
    };
    let bits = ends.trailing_zeros() & 0x78;
    if bits == 0 && ends != 0 {
        return None;
    }
    // With a prefix, the last of the eight bytes has been shifted out of sight and counts as an end.
    let end = if ends == 0 { 64 } else { bits + prefix };
    if end < 64 {
        let next = (word >> end) as u8;
        return (next < 0x80 && !(CASED && next == b'\'')).then_some((word, at + (end as usize >> 3)));
    }
    if CASED && lower == 0 {
        return None;
    }
    let mut from = at + 8;
    loop {
        let word = u64::from_le_bytes(*text.get(from..)?.first_chunk()?);
        let (upper, lower) = letters(word);
        let ends = !(if CASED { lower } else { upper | lower }) & HIGH;
        if ends != 0 {
            let bits = ends.trailing_zeros() & 0x78;
            let next = (word >> bits) as u8;
            return (next < 0x80 && !(CASED && next == b'\'')).then_some((0, from + (bits as usize >> 3)));
        }
        from += 8;
    }
}

/// Which of eight bytes are ASCII letters, upper and lower case, as the high bit of each.
#[inline(always)]
fn letters(word: u64) -> (u64, u64) {
    let low = word & !HIGH;
    let ascii = !word & HIGH;
    let between = |first: u8, last: u8| {
        let from = low.wrapping_add(ONES.wrapping_mul(u64::from(0x80 - first)));
        let above = low.wrapping_add(ONES.wrapping_mul(u64::from(0x7f - last)));
        from & !above & ascii
    };
    (between(b'A', b'Z'), between(b'a', b'z'))
}

/// A text that is cut; with `last`, it ends where it ends, otherwise more may follow.
#[derive(Clone, Copy)]
pub(crate) struct Scan<'a> {
    pub(crate) text: &'a [u8],
    pub(crate) last: bool,
}

const W: Set = Set::of(&[UPPER, LETTER, MARK]);
const LOWER_W: Set = Set::of(&[LOWER, LETTER, MARK]);
const ANY_LETTER: Set = Set::of(&[UPPER, LOWER, LETTER]);
const WORDLIKE: Set = Set::of(&[UPPER, LOWER, LETTER, MARK]);
const PUNCTUATION: Set = Set::of(&[OTHER, MARK]);
const PREFIX: Set = Set::of(&[OTHER, MARK, SPACE]);

impl Scan<'_> {
    /// The end of the piece that starts at `at`, which must be before the end; `None` if that depends on what follows the text.
    pub(crate) fn piece(self, at: usize, pattern: Pattern) -> Option<usize> {
        if pattern.has(Pattern::CASED) { self.cased(at, pattern) } else { self.uncased(at, pattern) }
    }

    fn cased(self, at: usize, pattern: Pattern) -> Option<usize> {
        let (class, length) = self.class(at)?;
        if WORDLIKE.has(class) {
            return self.cased_word(at);
        }
        if PREFIX.has(class) && WORDLIKE.has(self.class(at + length)?.0) {
            return self.cased_word(at + length);
        }
        self.no_word(at, class, length, pattern)
    }

    fn uncased(self, at: usize, pattern: Pattern) -> Option<usize> {
        let (class, length) = self.class(at)?;
        let contracted = self.contraction(at)?;
        if contracted > at {
            return Some(contracted);
        }
        if ANY_LETTER.has(class) {
            return self.run(at, ANY_LETTER);
        }
        if PREFIX.has(class) && ANY_LETTER.has(self.class(at + length)?.0) {
            return self.run(at + length, ANY_LETTER);
        }
        self.no_word(at, class, length, pattern)
    }

    /// The first two alternatives of `o200k` after the optional prefix.
    ///
    /// `W*` takes all it can. If lower case follows, `w+` takes that and goes on; if not, `W*` gives back until `w+` has something: the
    /// last character that is in both, if there is any. Without one, the second alternative takes the whole of `W+`. A mark is both
    /// a possible prefix and in both sets; whichever way it is taken, the piece ends at the same place.
    fn cased_word(self, at: usize) -> Option<usize> {
        let mut end = at;
        let mut in_both = None;
        loop {
            let (class, length) = self.class(end)?;
            if class == LOWER {
                end = self.run(end, LOWER_W)?;
                break;
            }
            if !W.has(class) {
                end = in_both.unwrap_or(end);
                break;
            }
            end += length;
            if class != UPPER {
                in_both = Some(end);
            }
        }
        self.contraction(end)
    }

    /// What is neither a word nor part of one.
    fn no_word(self, at: usize, class: u8, length: usize, pattern: Pattern) -> Option<usize> {
        match class {
            NUMBER => self.digits(at, pattern),
            OTHER | MARK => self.punctuation(at, pattern),
            SPACE if self.byte(at) == b' ' && PUNCTUATION.has(self.class(at + length)?.0) => {
                self.punctuation(at + length, pattern)
            }
            _ => self.white_space(at, pattern),
        }
    }

    fn digits(self, at: usize, pattern: Pattern) -> Option<usize> {
        let most = if pattern.has(Pattern::SINGLE_DIGITS) { 1 } else { 3 };
        let mut end = at;
        for _ in 0..most {
            match self.class(end)? {
                (NUMBER, length) => end += length,
                _ => break,
            }
        }
        Some(end)
    }

    fn punctuation(self, at: usize, pattern: Pattern) -> Option<usize> {
        let slash = pattern.has(Pattern::SLASH);
        let mut end = self.run(at, PUNCTUATION)?;
        while self.class(end)?.0 == NEWLINE || (slash && self.byte(end) == b'/') {
            end += 1;
        }
        Some(end)
    }

    /// Through the last line end if there is one; otherwise all but the last character, which belongs to what follows; or a single one.
    fn white_space(self, at: usize, pattern: Pattern) -> Option<usize> {
        let mut end = at;
        let mut last = at;
        let mut line_end = None;
        loop {
            match self.class(end)? {
                (NEWLINE, length) => {
                    end += length;
                    line_end = Some(end);
                }
                (SPACE, length) => {
                    last = end;
                    end += length;
                }
                (END, _) => {
                    let whole = pattern.has(Pattern::FINAL_SPACE);
                    return Some(if whole { end } else { line_end.unwrap_or(end) });
                }
                _ => return Some(line_end.unwrap_or(if last > at { last } else { end })),
            }
        }
    }

    /// The end of a contraction at `at`, or `at`. Without regard to case, `s` is also U+017F, the long s.
    pub(crate) fn contraction(self, at: usize) -> Option<usize> {
        if self.class(at)?.0 == END || self.byte(at) != b'\'' {
            return Some(at);
        }
        self.class(at + 1)?;
        let after = match self.byte(at + 1) | 0x20 {
            b's' | b't' | b'm' | b'd' => return Some(at + 2),
            // U+017F is C5 BF; setting a bit has made it E5.
            0xe5 if self.byte(at + 1) == 0xc5 && self.byte(at + 2) == 0xbf => return Some(at + 3),
            b'r' | b'v' => b'e',
            b'l' => b'l',
            _ => return Some(at),
        };
        self.class(at + 2)?;
        Some(if self.byte(at + 2) | 0x20 == after { at + 3 } else { at })
    }

    /// The first character from `at` on that is not in `set`.
    fn run(self, mut at: usize, set: Set) -> Option<usize> {
        loop {
            let (class, length) = self.class(at)?;
            if !set.has(class) {
                return Some(at);
            }
            at += length;
        }
    }

    /// The class of a character, unless only what follows the text can tell.
    #[inline(always)]
    fn class(self, at: usize) -> Option<(u8, usize)> {
        let found = class_at(self.text, at);
        (found.0 != END || self.last).then_some(found)
    }

    /// A byte; 0 at the end, which no rule looks for.
    #[inline(always)]
    fn byte(self, at: usize) -> u8 {
        self.text.get(at).copied().unwrap_or_default()
    }
}
