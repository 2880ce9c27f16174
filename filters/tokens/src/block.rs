//! Where the pieces of ASCII text start, found for 64 bytes at a time.
//!
//! A block of text is turned into one word per class of characters, with a bit per byte. What the rules of
//! [`pieces`](crate::pieces) say about ASCII then needs a look at the one or two characters before and the one after, and so is a
//! matter of shifting words. Where more would be needed, there is a doubt, and the piece is left to the rules themselves.
#![allow(clippy::arithmetic_side_effects, reason = "positions in a text and in a block")]

use penstock_token_tables::layout::Pattern;

/// Bytes of a block.
const BLOCK: usize = 64;

/// The starts of pieces in a block of 64 bytes that itself begins with a piece.
#[derive(Clone, Copy)]
pub(crate) struct Starts {
    /// The positions after the current piece's where a piece starts.
    next: u64,
    /// The positions in doubt; nothing is said about a piece that reaches one.
    doubts: u64,
    /// The first of them.
    doubt: u32,
}

impl Starts {
    /// Those of the block of `text` from `at`.
    #[inline(always)]
    pub(crate) fn at<const CASED: bool>(text: &[u8], at: usize, pattern: Pattern) -> Self {
        match text.get(at..).and_then(<[u8]>::first_chunk) {
            Some(bytes) => Classes::of(bytes).starts::<CASED>(pattern),
            None => Self::at_end::<CASED>(text, at, pattern),
        }
    }

    /// The block in which a text ends. What follows is in doubt as what is not ASCII.
    #[cold]
    #[inline(never)]
    fn at_end<const CASED: bool>(text: &[u8], at: usize, pattern: Pattern) -> Self {
        let mut bytes = [0xff; BLOCK];
        for (to, from) in bytes.iter_mut().zip(text.get(at..).unwrap_or_default()) {
            *to = *from;
        }
        Classes::of(&bytes).starts::<CASED>(pattern)
    }

    /// The end of the current piece, as a position in the block, if it is beyond doubt. If not, nothing more comes until it is
    /// [resumed](Self::resume).
    #[inline(always)]
    pub(crate) fn end(&mut self) -> Option<usize> {
        let end = self.next.trailing_zeros();
        self.next &= self.next.wrapping_sub(1);
        (end < self.doubt).then_some(end as usize)
    }

    /// Goes on at a position where a piece starts, after one that was left to the rules. Returns whether something of the block is left.
    ///
    /// That is right between a letter and a space: no rule looks further back.
    #[inline(always)]
    pub(crate) fn resume(&mut self, at: usize) -> bool {
        let from = u32::try_from(at).ok().and_then(|at| u64::MAX.checked_shl(at)).unwrap_or_default();
        self.next &= from << 1;
        self.doubts &= from;
        self.doubt = self.doubts.trailing_zeros();
        self.doubts != 0
    }

    /// Whether nothing but the end of the block was in the way.
    #[inline(always)]
    pub(crate) fn is_used_up(self) -> bool {
        self.doubt == Classes::LAST
    }
}

/// ASCII characters that can make up long pieces.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    Upper,
    Lower,
    Letter,
    Punctuation,
    /// White space but for line ends.
    Blank,
    Newline,
}

/// How many bytes from `at` on are of one kind, looking at whole blocks only.
#[cold]
#[inline(never)]
pub(crate) fn run(text: &[u8], at: usize, kind: Kind) -> usize {
    let mut length = 0;
    while let Some(bytes) = text.get(at + length..).and_then(<[u8]>::first_chunk) {
        let Classes { upper, lower, digit, white, newline, wide, .. } = Classes::of(bytes);
        let mask = match kind {
            Kind::Upper => upper,
            Kind::Lower => lower,
            Kind::Letter => upper | lower,
            Kind::Punctuation => !(upper | lower | digit | white | wide),
            Kind::Blank => white & !newline,
            Kind::Newline => newline,
        };
        length += mask.trailing_ones() as usize;
        if mask != u64::MAX {
            break;
        }
    }
    length
}

/// The classes of 64 bytes.
#[derive(Clone, Copy, Default)]
struct Classes {
    upper: u64,
    lower: u64,
    digit: u64,
    /// The space itself.
    space: u64,
    /// White space of all kinds, line ends included.
    white: u64,
    newline: u64,
    /// The apostrophe and the slash, which are punctuation too.
    quote: u64,
    slash: u64,
    /// Not ASCII, or beyond the end of the text.
    wide: u64,
}

impl Classes {
    /// What follows the last byte of a block is not known.
    const LAST: u32 = 63;

    #[inline(always)]
    fn of(bytes: &[u8; BLOCK]) -> Self {
        let (chunks, _) = bytes.as_chunks::<16>();
        let mut all = Self::default();
        let mut shift = 0;
        for chunk in chunks {
            let [upper, lower, digit, space, white, newline, quote, slash, wide] = lanes::classes(chunk);
            all.upper |= u64::from(upper) << shift;
            all.lower |= u64::from(lower) << shift;
            all.digit |= u64::from(digit) << shift;
            all.space |= u64::from(space) << shift;
            all.white |= u64::from(white) << shift;
            all.newline |= u64::from(newline) << shift;
            all.quote |= u64::from(quote) << shift;
            all.slash |= u64::from(slash) << shift;
            all.wide |= u64::from(wide) << shift;
            shift += 16;
        }
        all
    }

    #[inline(always)]
    fn starts<const CASED: bool>(self, pattern: Pattern) -> Starts {
        let Self { upper, lower, digit, space, white, newline, quote, slash, wide } = self;
        let letter = upper | lower;
        let other = !(letter | digit | white | wide);
        let blank = white & !newline;

        // A letter goes on with the word, or with the one character before it that may be a part of the word: white space, or
        // punctuation unless that belongs to punctuation before it or to a space.
        let taken = other & ((other | space) << 1);
        let hump = if CASED { upper & (lower << 1) } else { 0 };
        let words = letter & ((digit | newline | taken) << 1) | hump;
        // A space before punctuation belongs to it.
        let marks = other & !((other | space) << 1);
        let numbers = digit_starts(digit, pattern);
        // White space goes through its last line end, and what follows that up to the last character but one; but line ends after
        // punctuation belong to the punctuation.
        let indent = blank & (newline << 1);
        let spaces = white & !(white << 1) & !(newline & (other << 1)) | indent | blank & !(white >> 1);

        // Another line end after such an indent makes the whole of it one piece; beyond ASCII there is white space, too.
        // Adding goes to the end of each, and beyond the block if one does not end in it.
        let (ends, is_beyond) = indent.overflowing_add(blank);
        let relined = if is_beyond || ends & (newline | wide) != 0 { indent } else { 0 };
        let unknown = wide | blank & (wide >> 1);
        let wordlike = letter | wide;
        let contracted = quote & (wordlike >> 1) & if CASED { letter << 1 } else { marks };
        // A slash after punctuation and line ends belongs to the punctuation.
        let slashed = if pattern.has(Pattern::SLASH) { slash & (newline << 1) } else { 0 };
        let doubts = unknown | relined | contracted | slashed | 1 << Self::LAST;
        Starts { next: (words | marks | numbers | spaces | doubts) & !1, doubts, doubt: doubts.trailing_zeros() }
    }
}

/// Every digit or every third of a run.
#[inline(always)]
fn digit_starts(digit: u64, pattern: Pattern) -> u64 {
    if pattern.has(Pattern::SINGLE_DIGITS) {
        return digit;
    }
    let mut starts = digit & !(digit << 1);
    let fourth = digit & (digit << 1) & (digit << 2) & (digit << 3);
    if fourth != 0 {
        for _ in 0..BLOCK / 3 {
            starts |= (starts << 3) & fourth;
        }
    }
    starts
}

/// The classes of 16 bytes, in the order of the fields of [`Classes`], with vectors of 16.
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
mod lanes {
    use core::arch::wasm32::{
        u8x16_bitmask as bits, u8x16_eq as eq, u8x16_lt as lt, u8x16_splat as all, u8x16_sub as sub, u64x2,
        v128_or as or,
    };

    #[inline(always)]
    pub(super) fn classes(bytes: &[u8; 16]) -> [u16; 9] {
        let (words, _) = bytes.as_chunks::<8>();
        let v = match words {
            [low, high] => u64x2(u64::from_le_bytes(*low), u64::from_le_bytes(*high)),
            _ => all(0),
        };
        let space = eq(v, all(b' '));
        let controls = lt(sub(v, all(b'\t')), all(5));
        let newline = or(eq(v, all(b'\n')), eq(v, all(b'\r')));
        [
            bits(lt(sub(v, all(b'A')), all(26))),
            bits(lt(sub(v, all(b'a')), all(26))),
            bits(lt(sub(v, all(b'0')), all(10))),
            bits(space),
            bits(or(space, controls)),
            bits(newline),
            bits(eq(v, all(b'\''))),
            bits(eq(v, all(b'/'))),
            bits(v),
        ]
    }
}

/// The same with words of eight bytes, for other machines: the vector instructions of most can only be called with `unsafe`.
#[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
mod lanes {
    const HIGH: u64 = 0x8080_8080_8080_8080;
    const ONES: u64 = 0x0101_0101_0101_0101;

    #[inline(always)]
    pub(super) fn classes(bytes: &[u8; 16]) -> [u16; 9] {
        let (words, _) = bytes.as_chunks::<8>();
        let mut found = [0; 9];
        let mut shift = 0;
        for word in words {
            for (all, eight) in found.iter_mut().zip(classes_of_eight(u64::from_le_bytes(*word))) {
                *all |= u16::from(eight) << shift;
            }
            shift += 8;
        }
        found
    }

    #[inline(always)]
    fn classes_of_eight(word: u64) -> [u8; 9] {
        let low = word & !HIGH;
        let ascii = !word & HIGH;
        // Adding carries into the high bit of each byte that is large enough; the low seven bits cannot carry further.
        let from = |first: u8| low.wrapping_add(ONES.wrapping_mul(u64::from(0x80 - first)));
        let between = |first: u8, last: u8| from(first) & !from(last + 1) & ascii;
        let is = |byte: u8| between(byte, byte);
        let newline = is(b'\n') | is(b'\r');
        let space = is(b' ');
        let white = space | between(b'\t', b'\r');
        let (upper, lower) = (between(b'A', b'Z'), between(b'a', b'z'));
        [upper, lower, between(b'0', b'9'), space, white, newline, is(b'\''), is(b'/'), word & HIGH].map(gathered)
    }

    /// The high bits of eight bytes, next to each other.
    #[inline(always)]
    fn gathered(high: u64) -> u8 {
        ((high >> 7).wrapping_mul(0x0102_0408_1020_4080) >> 56) as u8
    }
}

#[cfg(test)]
mod tests {
    use super::lanes::classes;

    #[test]
    fn classes_are_those_of_each_byte() {
        for first in 0..=u8::MAX {
            let bytes: [u8; 16] = core::array::from_fn(|index| first.wrapping_add(index as u8 * 17));
            for (index, byte) in bytes.iter().enumerate() {
                let found = classes(&bytes).map(|bits| bits >> index & 1 != 0);
                let expected = [
                    byte.is_ascii_uppercase(),
                    byte.is_ascii_lowercase(),
                    byte.is_ascii_digit(),
                    *byte == b' ',
                    matches!(byte, b'\t'..=b'\r' | b' '),
                    matches!(byte, b'\r' | b'\n'),
                    *byte == b'\'',
                    *byte == b'/',
                    !byte.is_ascii(),
                ];
                assert_eq!(found, expected, "{byte:#04x}");
            }
        }
    }
}
