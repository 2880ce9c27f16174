//! A vocabulary: a table that is looked up where it lies.

use core::fmt;

use penstock_token_tables::layout::{
    FIXED_WORDS, HEADER_BYTES, MAGIC, Pattern, Section, TOKEN_BYTES_MAX, TOKEN_MASK, VERSION, bucket, filter_bit, mix,
    mix_bytes, pair_key, slot, unit,
};

/// The number of a token, which is also its rank: of two merges that are possible, the one that makes the lower number happens first.
pub(crate) type Token = u32;

/// A vocabulary to count with. Making one costs nothing: it refers to parts of a table that `penstock-token-tables` has made.
#[derive(Clone, Copy)]
pub struct Vocabulary {
    pub(crate) pattern: Pattern,
    /// Bytes of the longest token.
    pub(crate) longest: usize,
    tokens: u32,
    short: Perfect<8>,
    medium: Perfect<16>,
    long: Perfect<4>,
    long_bytes: &'static [u8],
    trie_units: &'static [[u8; 4]],
    /// The base of the first unit.
    first_base: u32,
    trie_tokens: &'static [[u8; 2]],
    splits: &'static [[u8; 4]],
    split_rights: &'static [[u8; 2]],
    filter: &'static [u8],
    filter_shift: u32,
    pairs: Perfect<4>,
}

/// Why bytes are no table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// They do not begin as a table does.
    NotATable,
    /// They were made by another version of the generator.
    OtherVersion,
    /// Their length does not fit what the header says.
    WrongLength,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotATable => "not a token table; make one with `penstock vocab`",
            Self::OtherVersion => "a token table of another version; make it again with `penstock vocab`",
            Self::WrongLength => "a token table that is cut short or damaged; make it again with `penstock vocab`",
        })
    }
}

impl core::error::Error for Malformed {}

impl Vocabulary {
    /// The vocabulary whose table this is. Tables that pass but were tampered with give wrong counts, never a panic or an endless loop.
    ///
    /// # Errors
    /// When the header is not that of a table of this version and length.
    pub const fn from_bytes(table: &'static [u8]) -> Result<Self, Malformed> {
        let Some((header, mut body)) = table.split_at_checked(HEADER_BYTES) else { return Err(Malformed::NotATable) };
        let (words, _) = header.as_chunks::<4>();
        if word(words, 0) != MAGIC {
            return Err(Malformed::NotATable);
        }
        let pattern = Pattern(word(words, 2));
        if word(words, 1) != VERSION || !pattern.is_known() {
            return Err(Malformed::OtherVersion);
        }
        let tokens = word(words, 3);
        let longest = word(words, 4) as usize;
        if tokens > TOKEN_MASK || longest == 0 || longest > TOKEN_BYTES_MAX {
            return Err(Malformed::WrongLength);
        }
        let mut sections: [&[u8]; Section::COUNT] = [&[]; Section::COUNT];
        let mut rest: &mut [&[u8]] = &mut sections;
        let mut index = FIXED_WORDS;
        while let Some((section, following)) = rest.split_first_mut() {
            let Some((bytes, after)) = body.split_at_checked(word(words, index) as usize) else {
                return Err(Malformed::WrongLength);
            };
            *section = bytes;
            body = after;
            rest = following;
            index = index.saturating_add(1);
        }
        if !body.is_empty() {
            return Err(Malformed::WrongLength);
        }
        let [s_disp, s, m_disp, m, l_disp, l, long_bytes, units, trie_tokens, splits, split_rights, filter, p_disp, p] =
            sections;
        Ok(Self {
            pattern,
            longest,
            tokens,
            short: Perfect::new(s_disp, s),
            medium: Perfect::new(m_disp, m),
            long: Perfect::new(l_disp, l),
            long_bytes,
            trie_units: units.as_chunks().0,
            first_base: word(units.as_chunks().0, 0) >> unit::BASE_SHIFT,
            trie_tokens: trie_tokens.as_chunks().0,
            splits: splits.as_chunks().0,
            split_rights: split_rights.as_chunks().0,
            filter,
            filter_shift: 32_u32.saturating_sub(filter.len().trailing_zeros()) & 31,
            pairs: Perfect::new(p_disp, p),
        })
    }

    /// How many tokens it has.
    pub const fn tokens(&self) -> u32 {
        self.tokens
    }

    /// Whether a piece of 2 to 7 bytes, as [`ShortSlots`](Section::ShortSlots) has it, is a token; `mixed` is [`mix`] of the key.
    #[inline(always)]
    pub(crate) fn has_short(&self, key: u64, mixed: u64) -> bool {
        u64::from_le_bytes(self.short.probe(mixed).unwrap_or_default()) == key
    }

    /// Whether a piece of 8 to 15 bytes is a token.
    #[inline(always)]
    pub(crate) fn has_medium(&self, key: u128, mixed: u64) -> bool {
        u128::from_le_bytes(self.medium.probe(mixed).unwrap_or_default()) == key
    }

    /// Whether a longer piece is a token.
    pub(crate) fn has_long(&self, piece: &[u8]) -> bool {
        if piece.len() > self.longest {
            return false;
        }
        let at = self.long.probe(mix_bytes(piece)).map_or(u32::MAX, u32::from_le_bytes);
        let token = self.long_bytes.get(at as usize..).and_then(<[u8]>::split_first);
        token.is_some_and(|(length, bytes)| usize::from(*length) == piece.len() && bytes.starts_with(piece))
    }

    /// The unit of the trie after `byte`, coming from `from`; `None` when no token goes on so.
    #[inline(always)]
    pub(crate) fn step(&self, from: Unit, byte: u8) -> Option<Unit> {
        let place = (from.bits >> unit::BASE_SHIFT) ^ u32::from(byte);
        let bits = u32::from_le_bytes(*self.trie_units.get(place as usize)?);
        (bits & unit::LABEL_MASK == u32::from(byte) | unit::USED).then_some(Unit { bits, place })
    }

    /// The unit after the first byte of a token: there always is one, because every byte is a token.
    #[inline(always)]
    pub(crate) fn first_step(&self, byte: u8) -> Unit {
        let place = self.first_base ^ u32::from(byte);
        Unit { bits: self.trie_units.get(place as usize).map_or(0, |unit| u32::from_le_bytes(*unit)), place }
    }

    /// Where every walk through the trie starts.
    #[inline(always)]
    pub(crate) fn root(&self) -> Unit {
        Unit { bits: self.trie_units.first().map_or(0, |unit| u32::from_le_bytes(*unit)), place: 0 }
    }

    /// The token that ends at the unit with this place.
    #[inline(always)]
    pub(crate) fn token_at(&self, place: u32) -> Token {
        let bits = self.trie_units.get(place as usize).map_or(0, |unit| u32::from_le_bytes(*unit));
        let low = self.trie_tokens.get(place as usize).map_or(0, |token| u16::from_le_bytes(*token));
        ((bits >> unit::TOKEN_HIGH_SHIFT) & 3) << 16 | u32::from(low)
    }

    /// What `token` is made of.
    #[inline(always)]
    pub(crate) fn split(&self, token: Token) -> Split {
        Split(self.splits.get(token as usize).map_or(0, |split| u32::from_le_bytes(*split)))
    }

    /// The right part of `token`, whose split this is.
    #[inline(always)]
    pub(crate) fn right_of(&self, token: Token, split: Split) -> Token {
        let low = self.split_rights.get(token as usize).map_or(0, |right| u16::from_le_bytes(*right));
        u32::from(low) | (split.0 >> 2) & (3 << 16)
    }

    /// Whether `token` is `part` or came about from it by merging things to its right.
    #[inline(always)]
    pub(crate) fn starts_with(&self, mut token: Token, part: Option<Token>) -> bool {
        let Some(part) = part else { return false };
        // Parts have lower numbers than what they are parts of.
        while token > part {
            let left = self.split(token).left();
            if left >= token {
                return false;
            }
            token = left;
        }
        token == part
    }

    /// What `left` and `right` merge into.
    #[inline(always)]
    pub(crate) fn merged(&self, left: Token, right: Token) -> Option<Token> {
        let (byte, bit) = filter_bit(left, right, self.filter_shift);
        if self.filter.get(byte).is_none_or(|bits| (bits >> bit) & 1 == 0) {
            return None;
        }
        self.merged_surely(left, right)
    }

    #[inline(never)]
    fn merged_surely(&self, left: Token, right: Token) -> Option<Token> {
        let mixed = mix(pair_key(left, right));
        let token = self.pairs.probe(mixed).map_or(u32::MAX, u32::from_le_bytes);
        let split = self.split(token);
        (split.left() == left && self.right_of(token, split) == right).then_some(token)
    }
}

/// The two tokens that a token is made of, itself twice for a byte; and what it can merge with.
#[derive(Clone, Copy)]
pub(crate) struct Split(u32);

impl Split {
    #[inline(always)]
    pub(crate) fn left(self) -> Token {
        self.0 & TOKEN_MASK
    }

    /// Whether any of these [`border`](penstock_token_tables::layout::border) bits is set.
    #[inline(always)]
    pub(crate) fn has(self, bits: u32) -> bool {
        self.0 & bits != 0
    }
}

impl fmt::Debug for Vocabulary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vocabulary")
            .field("tokens", &self.tokens)
            .field("pattern", &self.pattern)
            .finish_non_exhaustive()
    }
}

/// A place in the trie.
#[derive(Clone, Copy)]
pub(crate) struct Unit {
    bits: u32,
    pub(crate) place: u32,
}

impl Unit {
    /// Whether a token ends here.
    #[inline(always)]
    pub(crate) fn ends_token(self) -> bool {
        self.bits & unit::TOKEN != 0
    }
}

/// A perfect hash with slots of `N` bytes.
#[derive(Clone, Copy)]
struct Perfect<const N: usize> {
    displacements: &'static [[u8; 2]],
    shift: u32,
    slots: &'static [[u8; N]],
}

impl<const N: usize> Perfect<N> {
    const fn new(displacements: &'static [u8], slots: &'static [u8]) -> Self {
        let displacements = displacements.as_chunks().0;
        // The generator makes a power of two of at least two buckets; anything else finds nothing.
        let bits = displacements.len().trailing_zeros();
        let shift = if bits == 0 || bits > 63 { 63 } else { 64_u32.saturating_sub(bits) };
        Self { displacements, shift, slots: slots.as_chunks().0 }
    }

    #[inline(always)]
    fn probe(&self, mixed: u64) -> Option<[u8; N]> {
        let displacement = u16::from_le_bytes(*self.displacements.get(bucket(mixed, self.shift))?);
        self.slots.get(slot(mixed, displacement, self.slots.len())).copied()
    }
}

/// A word of the header; 0 if there is none.
const fn word(words: &[[u8; 4]], index: usize) -> u32 {
    match words.split_at_checked(index) {
        Some((_, [word, ..])) => u32::from_le_bytes(*word),
        _ => 0,
    }
}

/// The key of a piece of at most 7 bytes that lies at the low end of `word`.
#[inline(always)]
pub(crate) fn short_key(word: u64, length: usize) -> u64 {
    let bits = (length as u32).wrapping_mul(8) & 63;
    (word & !(u64::MAX << bits)) | (length as u64) << 56
}

/// The two halves of the key of a piece of 8 to 15 bytes.
#[inline(always)]
pub(crate) fn medium_key(low: u64, high: u64, length: usize) -> (u64, u64) {
    (low, short_key(high, length.wrapping_sub(8)) & (u64::MAX >> 8) | (length as u64) << 56)
}

pub(crate) use penstock_token_tables::layout::{mix as mix_short, mix2 as mix_medium};
