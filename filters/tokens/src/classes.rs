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

/// What stands for a class where a first byte does not tell it.
const MIXED: u8 = 15;

/// A character: its class, and its length in bytes.
#[derive(Clone, Copy)]
pub(crate) struct Char(u8);

impl Char {
    #[inline(always)]
    pub(crate) fn class(self) -> u8 {
        self.0 & 15
    }

    #[inline(always)]
    pub(crate) fn length(self) -> usize {
        usize::from(self.0 >> 4)
    }
}

/// Made by the build script, see `penstock_token_tables::class_table`.
const TABLE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/classes.bin"));
const BLOCKS_AT: usize = 256 + 0x11_0000 / 64 * 2;
static FIRST_BYTES: [u8; 256] = head(TABLE);
static BLOCK_NUMBERS: [[u8; 2]; 0x11_0000 / 64] = head(TABLE.split_at(256).1.as_chunks().0);
static BLOCKS: [[u8; 64]; (TABLE.len() - BLOCKS_AT) / 64] = head(TABLE.split_at(BLOCKS_AT).1.as_chunks().0);

/// The character at `at`; [`END`], with the length 0, at the end of the text.
#[inline(always)]
pub(crate) fn char_at(text: &[u8], at: usize) -> Char {
    let Some(first) = text.get(at) else { return Char(END) };
    #[expect(clippy::indexing_slicing, reason = "a byte is an index of 256 entries")]
    let known = Char(FIRST_BYTES[usize::from(*first)]);
    if known.class() != MIXED { known } else { mixed_char_at(text, at, known) }
}

/// A character whose first byte does not tell its class.
#[inline(always)]
fn mixed_char_at(text: &[u8], at: usize, known: Char) -> Char {
    let byte = |offset: usize| text.get(at.wrapping_add(offset)).map_or(0, |byte| usize::from(*byte));
    let continuation = |offset: usize| byte(offset) & 0x3f;
    // The last byte of a character holds six bits, as many as a block has characters.
    let (block, last) = if known.length() == 2 {
        (byte(0) & 0x1f, continuation(1))
    } else if known.length() == 3 {
        ((byte(0) & 0xf) << 6 | continuation(1), continuation(2))
    } else {
        ((byte(0) & 7) << 12 | continuation(1) << 6 | continuation(2), continuation(3))
    };
    let number = BLOCK_NUMBERS.get(block).map_or(0, |number| u16::from_le_bytes(*number));
    let class = BLOCKS.get(usize::from(number)).and_then(|block| block.get(last));
    Char(class.copied().unwrap_or(OTHER) | known.0 & 0xf0)
}

const fn head<T: Copy, const N: usize>(table: &[T]) -> [T; N] {
    match table.first_chunk() {
        Some(head) => *head,
        #[expect(clippy::panic, reason = "in a constant, so a failure of the build")]
        None => panic!("the build script made a table of classes that is too short"),
    }
}
