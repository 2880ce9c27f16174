//! What a character is to the rules that cut a text.

/// None of the others: punctuation, symbols, controls, unassigned.
pub(crate) const OTHER: u8 = 0;
/// `\p{Lu}`, `\p{Lt}`.
pub(crate) const UPPER: u8 = 1;
/// `\p{Ll}`.
pub(crate) const LOWER: u8 = 2;
/// `\p{Lm}`, `\p{Lo}`.
pub(crate) const LETTER: u8 = 3;
/// `\p{M}`.
pub(crate) const MARK: u8 = 4;
/// `\p{N}`.
pub(crate) const NUMBER: u8 = 5;
/// `\s` but for line ends.
pub(crate) const SPACE: u8 = 6;
/// `[\r\n]`.
pub(crate) const NEWLINE: u8 = 7;
/// The end of the text, which is no character.
pub(crate) const END: u8 = 8;

/// A set of classes.
#[derive(Clone, Copy)]
pub(crate) struct Set(u16);

impl Set {
    /// The set of these.
    pub(crate) const fn of(classes: &[u8]) -> Self {
        let mut bits = 0;
        let mut rest = classes;
        while let [class, following @ ..] = rest {
            bits |= 1 << *class;
            rest = following;
        }
        Self(bits)
    }

    /// Whether `class` is one of them.
    #[inline(always)]
    pub(crate) fn has(self, class: u8) -> bool {
        (self.0 >> (class & 15)) & 1 != 0
    }
}

/// Made by the build script: a block number for each 64 characters, then the blocks.
static TABLE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/classes.bin"));
const BLOCKS: usize = 0x11_0000 / 64;

/// The class of the character at `at`, and its length in bytes; [`END`] and 0 at the end.
#[inline(always)]
pub(crate) fn class_at(text: &[u8], at: usize) -> (u8, usize) {
    let Some(first) = text.get(at) else { return (END, 0) };
    if *first < 0x80 {
        return (ASCII.get(usize::from(*first)).copied().unwrap_or(OTHER), 1);
    }
    wide_class_at(text, at, *first)
}

#[inline]
fn wide_class_at(text: &[u8], at: usize, first: u8) -> (u8, usize) {
    let continuation = |offset: usize| text.get(at.wrapping_add(offset)).map_or(0, |byte| usize::from(*byte & 0x3f));
    let first = usize::from(first);
    // The last byte of a character holds six bits, as many as a block has characters.
    let (block, last, length) = match first {
        0..0xe0 => (first & 0x1f, continuation(1), 2),
        0xe0..0xf0 => ((first & 0xf) << 6 | continuation(1), continuation(2), 3),
        _ => ((first & 7) << 12 | continuation(1) << 6 | continuation(2), continuation(3), 4),
    };
    let (numbers, blocks) = TABLE.split_at_checked(BLOCKS.wrapping_mul(2)).unwrap_or((&[], &[]));
    let number = numbers.as_chunks::<2>().0.get(block).map_or(0, |number| u16::from_le_bytes(*number));
    let class = blocks.get(usize::from(number) << 6 | last).copied().unwrap_or(OTHER);
    (class, length)
}

static ASCII: [u8; 128] = {
    let mut table = [OTHER; 128];
    let mut byte = 0u8;
    let mut rest: &mut [u8] = &mut table;
    while let Some((class, following)) = rest.split_first_mut() {
        *class = match byte {
            b'\r' | b'\n' => NEWLINE,
            b'\t' | 0x0b | 0x0c | b' ' => SPACE,
            b'0'..=b'9' => NUMBER,
            b'A'..=b'Z' => UPPER,
            b'a'..=b'z' => LOWER,
            _ => OTHER,
        };
        rest = following;
        byte = byte.wrapping_add(1);
    }
    table
};
