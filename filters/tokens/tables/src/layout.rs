//! The layout of a table: what the generator writes and the counter reads. Everything is little-endian.
//!
//! A table is a header of `u32`s and then sections without gaps. The header is [`MAGIC`], [`VERSION`], the [`Pattern`],
//! the number of tokens, the length of the longest token and the reach of merging in bytes, and the length in bytes of each section in the
//! order of [`Section`].

/// The first word of every table.
pub const MAGIC: u32 = u32::from_le_bytes(*b"PSTK");
/// Changes whenever an older reader would misread a newer table.
pub const VERSION: u32 = 3;
/// Words before the section lengths.
pub const FIXED_WORDS: usize = 6;
/// Bytes of the whole header.
pub const HEADER_BYTES: usize = (FIXED_WORDS + Section::COUNT) * 4;

/// The longest token that a table can hold, in bytes.
pub const TOKEN_BYTES_MAX: usize = 255;
/// How far what follows can change how bytes merge, in bytes, for a vocabulary to be accepted.
pub const REACH_MAX: usize = 1024;
/// Bits of a token's number.
pub const TOKEN_BITS: u32 = 18;
/// All bits of a token's number set; also how many tokens a table can hold.
pub const TOKEN_MASK: u32 = (1 << TOKEN_BITS) - 1;

/// What the bytes after the header are, in this order.
///
/// The perfect hashes consist of displacements (`u16` per bucket) and slots; see [`bucket`] and [`slot`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    /// Displacements of the tokens of 2 to 7 bytes.
    ShortDisplacements,
    /// Tokens of 2 to 7 bytes: the [`short_key`] of each; 0 is empty.
    ShortSlots,
    /// Displacements of the tokens of 8 to 15 bytes.
    MediumDisplacements,
    /// Tokens of 8 to 15 bytes: the two words of the [`medium_key`] of each; 0 is empty.
    MediumSlots,
    /// Displacements of the longer tokens.
    LongDisplacements,
    /// Longer tokens: `u32` offset into [`Section::LongBytes`]; [`u32::MAX`] is empty.
    LongSlots,
    /// Longer tokens: a byte with the length, then the token's bytes.
    LongBytes,
    /// The token that each byte is by itself: 256 `u32`.
    Bytes,
    /// For each first two bytes of a text, as a little-endian number: the cell after both, with [`CELL_NONE`] if no token begins with
    /// them. 65,536 `u32`.
    Beginnings,
    /// A trie of the tokens, in cells of `u32`: the label in the low byte, [`CELL_TOKEN`], [`CELL_LEAF`], and from [`CELL_PAYLOAD_SHIFT`] on
    /// the base of the children, or the token if it is a leaf. A child is in the cell whose number is the base with its byte exclusively
    /// or'ed; the base of the root is 0, and the token of a node that is no leaf is in its child [`TERMINAL`].
    Trie,
    /// What is known of each token, as a `u64` each; see [`entry`].
    Tokens,
    /// Displacements of the pairs that merge.
    PairDisplacements,
    /// Pairs that merge: `u32` with the token that they become, whose [`entry`] says of which, and above it the [`pair_fingerprint`];
    /// all bits set is empty.
    PairSlots,
}

impl Section {
    /// How many there are.
    pub const COUNT: usize = 13;
}

/// How a text is cut into pieces before the merging, as the bits of a word in the header.
///
/// The families differ in few points; each is a bit, so that a reader needs no regular expressions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pattern(pub u32);

impl Pattern {
    /// Words end where lower case turns to upper case, marks belong to words, and a contraction ends the word it follows
    /// (`o200k`). Otherwise words are runs of letters, and a contraction is a piece of its own (`cl100k`).
    pub const CASED: u32 = 1;
    /// Slashes after punctuation continue it after line ends.
    pub const SLASH: u32 = 2;
    /// White space that ends the text is one piece, line ends included.
    pub const FINAL_SPACE: u32 = 4;
    /// Every digit is a piece of its own; otherwise up to three are.
    pub const SINGLE_DIGITS: u32 = 8;

    /// `o200k_base`, `o200k_harmony`.
    pub const O200K: Self = Self(Self::CASED | Self::SLASH);
    /// `cl100k_base`.
    pub const CL100K: Self = Self(Self::FINAL_SPACE);
    /// Llama 3 and those after it: as `cl100k`, but without its rule for final white space.
    pub const LLAMA3: Self = Self(0);
    /// Qwen 2: as Llama 3 with single digits.
    pub const QWEN2: Self = Self(Self::SINGLE_DIGITS);

    /// Whether all of `bits` are set.
    #[inline]
    pub const fn has(self, bits: u32) -> bool {
        self.0 & bits == bits
    }

    /// Whether every bit is known to this version.
    pub const fn is_known(self) -> bool {
        self.0 < 16
    }
}

/// Mixes a key of at most 8 bytes: what counts are the bits from 24 on.
#[inline(always)]
pub const fn mix(key: u64) -> u64 {
    key.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// Mixes a key of two words.
#[inline]
pub const fn mix2(low: u64, high: u64) -> u64 {
    mix(low.wrapping_mul(0xff51_afd7_ed55_8ccd).rotate_left(29) ^ high)
}

/// The key of a piece of up to 7 bytes that starts at the low end of `word`: the bytes at the high end, and the length in the low byte.
#[inline(always)]
pub const fn short_key(word: u64, length: usize) -> u64 {
    word.wrapping_shl(0_u32.wrapping_sub(length as u32 * 8)) | length as u64
}

/// The key of a piece of 8 to 15 bytes, of which `first` and `last` are the first and the last eight: as they are, but for one that both
/// have, in whose place the length is.
#[inline(always)]
pub const fn medium_key(first: u64, last: u64, length: usize) -> (u64, u64) {
    (first, last & !0xff | length as u64)
}

/// Mixes at least 8 bytes.
#[inline(always)]
pub fn mix_bytes(bytes: &[u8]) -> u64 {
    let (words, _) = bytes.as_chunks::<8>();
    let last = bytes.last_chunk().map_or(0, |word| u64::from_le_bytes(*word));
    words.iter().fold(mix2(bytes.len() as u64, last), |h, word| mix2(h, u64::from_le_bytes(*word)))
}

/// The key of a pair of tokens.
#[inline]
pub const fn pair_key(left: u32, right: u32) -> u64 {
    ((left as u64) << TOKEN_BITS) | right as u64
}

/// What pairs that do not merge merge into: more than any token, in a bit more.
pub const NO_TOKEN: u32 = (1 << (TOKEN_BITS + 1)) - 1;

/// Bits of a [`pair_key`].
pub const PAIR_BITS: u32 = 2 * TOKEN_BITS;

/// Buckets of the hash of pairs, a power of two of them, so that an index needs no check.
pub const PAIR_BUCKETS: usize = 1 << 16;
/// Slots of the hash of pairs, likewise.
pub const PAIR_SLOTS: usize = 1 << TOKEN_BITS;

/// Some bits of the mixed key of a pair, above those of a token.
#[inline]
pub const fn pair_fingerprint(h: u64) -> u32 {
    (h >> 8) as u32 & !TOKEN_MASK
}

/// The label of cells that no byte of a text leads to: UTF-8 does not have it.
pub const TERMINAL: u8 = 0xff;
/// In a cell: a token ends here, and longer ones go on.
pub const CELL_TOKEN: u32 = 1 << 8;
/// In a cell: a token ends here, and none goes on.
pub const CELL_LEAF: u32 = 1 << 9;
/// Instead of a label, where there is no child.
pub const CELL_NONE: u32 = TERMINAL as u32;
/// Bits of a cell below its payload.
pub const CELL_PAYLOAD_SHIFT: u32 = 10;

/// What is known of a token: from the low end the [`pair_key`] of what it is made of (itself twice for a byte), the longest shorter
/// token that it begins with, flags, and by how many bytes that is shorter.
pub mod entry {
    use super::{PAIR_BITS, TOKEN_BITS, TOKEN_MASK};

    /// The right one of the two.
    pub const RIGHT_SHIFT: u32 = 0;
    /// The left one.
    pub const LEFT_SHIFT: u32 = TOKEN_BITS;
    /// The shorter token.
    pub const SHORTER_SHIFT: u32 = PAIR_BITS;
    /// It merges with some token that follows it.
    pub const JOINS_NEXT: u64 = 1 << 54;
    /// It merges with some token before it.
    pub const JOINS_PREVIOUS: u64 = JOINS_NEXT << LEFT;
    /// Its right part merges with some token that follows, before it is taken into this one.
    pub const RIGHT_JOINS: u64 = JOINS_NEXT << OUTER;
    /// Its left part merges with some token before it, before it is taken into this one.
    pub const LEFT_JOINS: u64 = JOINS_PREVIOUS << OUTER;
    /// From what the right side of a border joins to what its left side does.
    pub const LEFT: u32 = 1;
    /// From what a token does to what its parts do.
    pub const OUTER: u32 = 2;
    /// Its right part does, or the right part of that, and so on.
    pub const RIGHT_MORE: u64 = 1 << 58;
    /// Its left part does, or the left part of that, and so on.
    pub const LEFT_MORE: u64 = 1 << 59;
    /// By how many bytes it is longer than the shorter token; 0 if there is none, or more than fit.
    pub const LONGER_SHIFT: u32 = 60;

    /// The token that an entry has at a shift.
    #[inline(always)]
    pub const fn token(entry: u64, shift: u32) -> u32 {
        (entry >> shift) as u32 & TOKEN_MASK
    }
}

/// Which bucket a mixed key belongs to, among `2^n` with `shift = 64 - n`.
#[inline(always)]
pub const fn bucket(h: u64, shift: u32) -> usize {
    (h >> shift) as usize
}

/// The one slot where a mixed key can be, given its bucket's displacement, which is a factor.
#[inline(always)]
pub const fn slot(h: u64, displacement: u16, slots: usize) -> usize {
    let moved = ((h >> 24) as u32).wrapping_mul(displacement as u32);
    ((moved as u64).wrapping_mul(slots as u64) >> 32) as usize
}

/// What a character is to the rules that cut a text: one bit of each, in the table of classes that is made beside those of the
/// vocabularies.
pub mod class {
    /// None of the others: punctuation, symbols, controls, unassigned.
    pub const OTHER: u16 = 1;
    /// `\p{Lu}`, `\p{Lt}`.
    pub const UPPER: u16 = 1 << 1;
    /// `\p{Ll}`.
    pub const LOWER: u16 = 1 << 2;
    /// `\p{Lm}`, `\p{Lo}`.
    pub const LETTER: u16 = 1 << 3;
    /// `\p{M}`.
    pub const MARK: u16 = 1 << 4;
    /// `\p{N}`.
    pub const NUMBER: u16 = 1 << 5;
    /// `\s` but for line ends.
    pub const SPACE: u16 = 1 << 6;
    /// `[\r\n]`.
    pub const NEWLINE: u16 = 1 << 7;
    /// What stands beside a number instead of a class where a first byte, or the first two, do not tell it.
    pub const MIXED: u16 = 1 << 9;
    /// Where the length in bytes is, above class or number.
    pub const LENGTH_SHIFT: u32 = 12;
}
