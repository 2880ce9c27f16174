//! What a character is to the rules that cut a text.

use penstock_token_tables::layout::class::{LENGTH_SHIFT, MIXED};
/// A set of classes; each class is a bit.
pub(crate) type Set = u16;

pub(crate) use penstock_token_tables::layout::class::{LETTER, LOWER, MARK, NEWLINE, NUMBER, OTHER, SPACE, UPPER};

/// The end of the text, which is no character.
pub(crate) const END: Set = 1 << 8;

/// A character: its class, and its length in bytes.
#[derive(Clone, Copy)]
pub(crate) struct Char(u16);

impl Char {
    const CLASS: u16 = MIXED | (MIXED - 1);

    #[inline(always)]
    pub(crate) fn class(self) -> Set {
        self.0 & Self::CLASS
    }

    #[inline(always)]
    pub(crate) fn is(self, set: Set) -> bool {
        self.0 & set != 0
    }

    /// The character of this length whose class is in a block, by its last byte.
    #[inline(always)]
    fn of_block(self, block: u16, last: u8) -> Self {
        let class = BLOCKS.get(usize::from(block)).and_then(|block| block.get(usize::from(last & 0x3f)));
        Self(class.map_or(OTHER, |class| Set::from(*class)) | self.0 & !Self::CLASS)
    }

    #[inline(always)]
    pub(crate) fn length(self) -> usize {
        usize::from(self.0 >> LENGTH_SHIFT)
    }
}

/// Made by the build script, see `penstock_token_tables::class_table`.
const TABLE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/classes.bin"));
const FIRST: usize = 256;
const WIDE: usize = 64 * 64;
const ENTRIES: &[[u8; 2]] = TABLE.as_chunks().0;
const PAGES: usize = number(ENTRIES, FIRST + WIDE) as usize;
const PAGES_AT: usize = FIRST + WIDE + 1;
const BLOCKS_AT: usize = (PAGES_AT + PAGES * 64) * 2;
static FIRST_BYTES: [Char; FIRST] = chars(ENTRIES);
static FIRST_TWO: [Char; WIDE] = chars(ENTRIES.split_at(FIRST).1);
static PAGE_BLOCKS: [[[u8; 2]; 64]; PAGES] = head(ENTRIES.split_at(PAGES_AT).1.as_chunks().0);
static BLOCKS: [[u8; 64]; (TABLE.len() - BLOCKS_AT) / 64] = head(TABLE.split_at(BLOCKS_AT).1.as_chunks().0);

/// The character at `at`; [`END`], with the length 0, at the end of the text.
#[inline(always)]
#[expect(clippy::indexing_slicing, reason = "a byte is an index of 256 entries")]
pub(crate) fn char_at(text: &[u8], at: usize) -> Char {
    let Some(first) = text.get(at) else { return Char(END) };
    let known = FIRST_BYTES[usize::from(*first)];
    if !known.is(MIXED) {
        return known;
    }
    let second = text.get(at.wrapping_add(1)).copied().unwrap_or_default();
    let known = wide(*first, second);
    if !known.is(MIXED) {
        return known;
    }
    let third = text.get(at.wrapping_add(2)).copied().unwrap_or_default();
    let number = known.0 & (MIXED - 1);
    if known.length() == 3 {
        return known.of_block(number, third);
    }
    let fourth = text.get(at.wrapping_add(3)).copied().unwrap_or_default();
    let block = PAGE_BLOCKS.get(usize::from(number)).and_then(|page| page.get(usize::from(third & 0x3f)));
    known.of_block(block.map_or(0, |block| u16::from_le_bytes(*block)), fourth)
}

/// How many bytes from `at` on are characters of two bytes whose classes are in `set`.
#[inline(always)]
pub(crate) fn two_byte_run(text: &[u8], at: usize, set: Set) -> usize {
    let mut next = at;
    while let Some(both) = text.get(next..).and_then(<[u8]>::first_chunk) {
        let [first, second] = *both;
        if first & 0xe0 != 0xc0 || !wide(first, second).is(set) {
            break;
        }
        next = next.wrapping_add(2);
    }
    next.wrapping_sub(at)
}

/// What the first two bytes tell of a character that is not ASCII.
#[inline(always)]
#[expect(clippy::indexing_slicing, reason = "two times six bits are an index of 4,096 entries")]
fn wide(first: u8, second: u8) -> Char {
    FIRST_TWO[usize::from(first & 0x3f) << 6 | usize::from(second & 0x3f)]
}

/// The characters at the beginning of a table.
#[expect(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "in a constant, so a failure of the build"
)]
const fn chars<const N: usize>(entries: &[[u8; 2]]) -> [Char; N] {
    let mut chars = [Char(0); N];
    let mut index = 0;
    while index < N {
        chars[index] = Char(number(entries, index));
        index += 1;
    }
    chars
}

#[expect(clippy::indexing_slicing, reason = "in a constant, so a failure of the build")]
const fn number(entries: &[[u8; 2]], index: usize) -> u16 {
    u16::from_le_bytes(entries[index])
}

const fn head<T: Copy, const N: usize>(table: &[T]) -> [T; N] {
    match table.first_chunk() {
        Some(head) => *head,
        #[expect(clippy::panic, reason = "in a constant, so a failure of the build")]
        None => panic!("the build script made a table of classes that is too short"),
    }
}
