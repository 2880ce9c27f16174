//! The layout of a table: what the generator writes and the counter reads. Everything is little-endian.
//!
//! A table is a header of `u32`s and then sections without gaps. The header is [`MAGIC`], [`VERSION`], the [`Pattern`],
//! the number of tokens, the length of the longest token in bytes, and the length in bytes of each section in the order of [`Section`].

/// The first word of every table.
pub const MAGIC: u32 = u32::from_le_bytes(*b"PSTK");
/// Changes whenever an older reader would misread a newer table.
pub const VERSION: u32 = 1;
/// Words before the section lengths.
pub const FIXED_WORDS: usize = 5;
/// Bytes of the whole header.
pub const HEADER_BYTES: usize = (FIXED_WORDS + Section::COUNT) * 4;

/// The longest token that a table can hold, in bytes.
pub const TOKEN_BYTES_MAX: usize = 255;
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
    /// Tokens of 2 to 7 bytes: `u64` with the bytes from the low end and the length in the top byte; 0 is empty.
    ShortSlots,
    /// Displacements of the tokens of 8 to 15 bytes.
    MediumDisplacements,
    /// Tokens of 8 to 15 bytes: `u128` likewise.
    MediumSlots,
    /// Displacements of the longer tokens.
    LongDisplacements,
    /// Longer tokens: `u32` offset into [`Section::LongBytes`]; [`u32::MAX`] is empty.
    LongSlots,
    /// Longer tokens: a byte with the length, then the token's bytes.
    LongBytes,
    /// The double-array trie over the tokens that merging can produce: `u32` per unit, see [`unit`].
    TrieUnits,
    /// The low 16 bits of the number of the token that ends at a unit.
    TrieTokens,
    /// How each token comes about: `u32` with the left part in the low 18 bits, the two high bits of the right part in the next
    /// 2, and the token's [`border`] bits: in the next 6 those of its end, in the highest 6 those of its beginning. A token of one byte
    /// consists of itself.
    Splits,
    /// The low 16 bits of the right part.
    SplitRights,
    /// A bit for each pair that merges, at [`filter_bit`]: most pairs do not, and most of these are seen not to here.
    PairFilter,
    /// Displacements of the pairs that merge.
    PairDisplacements,
    /// Pairs that merge: `u32` number of the token they become; [`u32::MAX`] is empty. The pair itself is that token's split.
    PairSlots,
}

impl Section {
    /// How many there are.
    pub const COUNT: usize = 14;
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

/// The bits of a unit of the double-array trie.
///
/// The child of a unit along byte `b` is the unit at `base ^ b`, if that is in use and bears the label `b`. No two units have the
/// same base, so that the label alone proves whose child it is. A unit without children has base 0, which nothing else has.
pub mod unit {
    /// In use; together with the label what a step along a byte expects.
    pub const USED: u32 = 1 << 8;
    /// The label and [`USED`].
    pub const LABEL_MASK: u32 = 0x1ff;
    /// A token ends here.
    pub const TOKEN: u32 = 1 << 9;
    /// Where the two high bits of the token's number start.
    pub const TOKEN_HIGH_SHIFT: u32 = 10;
    /// Where the base starts; it has the 20 bits from here.
    pub const BASE_SHIFT: u32 = 12;
    /// Bases (and units) are below this.
    pub const BASES: u32 = 1 << 20;
}

/// What can merge across a border between tokens, by the byte on the other side.
///
/// Undoing the merges to the left of a border leads from a token to what it ends with; the *end bits* of a token say with which
/// first bytes tokens start that it, or anything that it ends with, merges with. If the text goes on with another byte, nothing merges
/// across the border any more. The *beginning bits* are the same for the other side. Bytes are told apart as one of six kinds.
pub mod border {
    /// How many kinds there are.
    pub const BITS: u32 = 6;

    /// Where the end's bits start in a split.
    pub const END_SHIFT: u32 = 20;
    /// Where the beginning's bits start.
    pub const BEGINNING_SHIFT: u32 = END_SHIFT + BITS;

    /// The kind, as an end's bit, of the first byte after a border.
    #[inline(always)]
    pub fn first(byte: u8) -> u32 {
        u32::from(FIRST[usize::from(byte)]) << END_SHIFT
    }

    /// The kind, as a beginning's bit, of the last byte before a border.
    #[inline(always)]
    pub fn last(byte: u8) -> u32 {
        u32::from(LAST[usize::from(byte)]) << BEGINNING_SHIFT
    }

    static FIRST: [u8; 256] = kinds(false);
    static LAST: [u8; 256] = kinds(true);

    const fn kinds(last: bool) -> [u8; 256] {
        let mut kinds = [0; 256];
        let mut byte = 0;
        while byte < 256 {
            kinds[byte] = match byte as u8 {
                b'a'..=b'z' | b'A'..=b'Z' => 1,
                b' ' if !last => 2,
                0..0x80 => 4,
                0x80..0x90 if last => 2,
                0x80..0xa0 if last => 8,
                0xa0..0xb0 if last => 16,
                _ if last => 32,
                0x80..0xc0 => 8,
                0xc0..0xe0 => 16,
                _ => 32,
            };
            byte += 1;
        }
        kinds
    }
}

/// Where a pair's bit is in a filter of `2^(32 - shift)` bytes: the byte, and the bit in it.
#[inline]
pub const fn filter_bit(left: u32, right: u32, shift: u32) -> (usize, u32) {
    let h = left.wrapping_mul(0x9e37_79b1) ^ right.wrapping_mul(0x85eb_ca6b);
    ((h >> shift) as usize, h & 7)
}

/// Mixes a key of at most 8 bytes.
#[inline]
pub const fn mix(key: u64) -> u64 {
    let h = key.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    h ^ (h >> 32)
}

/// Mixes a key of two words.
#[inline]
pub const fn mix2(low: u64, high: u64) -> u64 {
    mix(low.wrapping_mul(0xff51_afd7_ed55_8ccd).rotate_left(29) ^ high)
}

/// Mixes any bytes.
pub fn mix_bytes(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let mut last = [0u8; 8];
    for (to, from) in last.iter_mut().zip(rest) {
        *to = *from;
    }
    let start = mix(bytes.len() as u64);
    let h = words.iter().fold(start, |h, word| mix2(h, u64::from_le_bytes(*word)));
    mix2(h, u64::from_le_bytes(last))
}

/// The key of a pair of tokens.
#[inline]
pub const fn pair_key(left: u32, right: u32) -> u64 {
    ((left as u64) << TOKEN_BITS) | right as u64
}

/// Which bucket a mixed key belongs to, among `2^n` with `shift = 64 - n`.
#[inline]
pub const fn bucket(h: u64, shift: u32) -> usize {
    (h >> shift) as usize
}

/// The one slot where a mixed key can be, given its bucket's displacement.
#[inline]
pub const fn slot(h: u64, displacement: u16, slots: usize) -> usize {
    // Displacements act on the high half, so that a step of one is far enough to leave a crowded place.
    let moved = (h as u32) ^ ((displacement as u32) << 16);
    ((moved as u64).wrapping_mul(slots as u64) >> 32) as usize
}
