//! The layout of a table: what the generator writes and the counter reads. Everything is little-endian.
//!
//! A table is a header of `u32`s and then sections without gaps. The header is [`MAGIC`], [`VERSION`], the [`Pattern`],
//! the number of tokens, the length of the longest token and the reach of merging in bytes, and the length in bytes of each section in the order of [`Section`].

/// The first word of every table.
pub const MAGIC: u32 = u32::from_le_bytes(*b"PSTK");
/// Changes whenever an older reader would misread a newer table.
pub const VERSION: u32 = 2;
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
    /// What merging starts with for each byte: 256 times three `u32`, as in [`Section::CharSlots`] without the character.
    Bytes,
    /// Displacements of the characters of several bytes that are tokens.
    CharDisplacements,
    /// These characters: four `u32`, the bytes of the character from the low end, the token, the groups of merges that may take a part
    /// of it across its beginning, and of those across its end. All 0 is empty.
    CharSlots,
    /// What each two ASCII characters merge into: 128 rows of 128 `u32` for the second one; [`NO_TOKEN`] if into nothing.
    AsciiPairs,
    /// Displacements of the pairs that merge.
    PairDisplacements,
    /// Pairs that merge: `u64` with the [`pair_key`], and above it the number of the token that they become; all bits set is empty.
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

/// What pairs that do not merge merge into: more than any token, in a bit more.
pub const NO_TOKEN: u32 = (1 << (TOKEN_BITS + 1)) - 1;

/// Bits of a [`pair_key`].
pub const PAIR_BITS: u32 = 2 * TOKEN_BITS;

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
