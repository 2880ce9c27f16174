//! A vocabulary: a table that is looked up where it lies.

use core::fmt;

use penstock_token_tables::layout::{
    FIXED_WORDS, HEADER_BYTES, MAGIC, NO_TOKEN, PAIR_BITS, Pattern, REACH_MAX, Section, TOKEN_BYTES_MAX, TOKEN_MASK,
    VERSION, bucket, mix, mix_bytes, pair_key, slot,
};

/// The number of a token, which is also its rank: of two merges that are possible, the one that makes the lower number happens first.
pub(crate) type Token = u32;

/// A vocabulary to count with. Making one costs nothing: it refers to parts of a table that `penstock-token-tables` has made.
#[derive(Clone, Copy)]
pub struct Vocabulary {
    pub(crate) pattern: Pattern,
    /// Bytes of the longest token.
    longest: usize,
    /// How far what follows can change merging, in bytes.
    pub(crate) reach: usize,
    tokens: u32,
    short: Perfect<8>,
    medium: Perfect<16>,
    long: Perfect<4>,
    long_bytes: &'static [u8],
    bytes: &'static [[u8; 12]; 256],
    chars: Perfect<16>,
    ascii_pairs: &'static [[u8; 4]; 128 * 128],
    pairs: Perfect<8>,
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
        let reach = word(words, 5) as usize;
        if tokens > TOKEN_MASK || longest == 0 || longest > TOKEN_BYTES_MAX || reach > REACH_MAX {
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
        let [s_disp, s, m_disp, m, l_disp, l, long_bytes, bytes, c_disp, c, ascii, p_disp, p] = sections;
        let (Some(bytes), Some(ascii_pairs)) = (bytes.as_chunks().0.first_chunk(), ascii.as_chunks().0.first_chunk())
        else {
            return Err(Malformed::WrongLength);
        };
        Ok(Self {
            pattern,
            longest,
            reach,
            tokens,
            short: Perfect::new(s_disp, s),
            medium: Perfect::new(m_disp, m),
            long: Perfect::new(l_disp, l),
            long_bytes,
            bytes,
            chars: Perfect::new(c_disp, c),
            ascii_pairs,
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

    /// What `left` and `right` merge into, or [`NO_TOKEN`].
    #[inline(always)]
    pub(crate) fn merged(&self, left: Token, right: Token) -> Token {
        let key = pair_key(left, right);
        match self.pairs.probe(mix(key)).map(u64::from_le_bytes) {
            Some(entry) if entry & !(u64::MAX << PAIR_BITS) == key => (entry >> PAIR_BITS) as Token,
            _ => NO_TOKEN,
        }
    }
}

/// What merging starts with: a byte or a character.
#[derive(Clone, Copy)]
struct Start {
    token: Token,
    /// In bytes.
    length: usize,
    /// The groups of merges that may take a part of it across its beginning, and across its end.
    entries: u32,
    exits: u32,
}

/// What merging of a piece starts with where it is not ASCII.
///
/// A character of several bytes is taken as a whole if nothing that is next to it may merge with a part of it.
#[derive(Default)]
pub(crate) struct WideStarts {
    /// Up to here it is single bytes.
    bytes_to: usize,
    /// The next character and where it is, if it was looked at already, and the groups of merges across the end of the one before it.
    next: Option<(usize, Start)>,
    exits: u32,
}

impl WideStarts {
    /// The token at `at`, and its length in bytes.
    pub(crate) fn next(&mut self, vocabulary: &Vocabulary, piece: &[u8], at: usize) -> (Token, usize) {
        let byte = piece.get(at).copied().unwrap_or_default();
        if at < self.bytes_to {
            return (vocabulary.byte_token(byte), 1);
        }
        let (start, exits) = match self.next.filter(|(next, _)| *next == at) {
            Some((_, start)) => (Some(start), self.exits),
            None => {
                let before = at.checked_sub(1).and_then(|before| piece.get(before));
                (vocabulary.start_at(piece, at), before.map_or(0, |byte| vocabulary.byte_start(*byte).exits))
            }
        };
        let Some(start) = start else { return (0, 1) };
        let end = at.wrapping_add(start.length);
        let next = vocabulary.start_at(piece, end);
        let entries = next.map_or(0, |next| next.entries);
        self.next = next.map(|next| (end, next));
        self.exits = start.exits;
        if start.token == NO_TOKEN || exits & start.entries | start.exits & entries != 0 {
            self.bytes_to = end;
            return (vocabulary.byte_token(byte), 1);
        }
        (start.token, start.length)
    }
}

impl Vocabulary {
    /// The character at `at`; if it is no token, with [`NO_TOKEN`].
    #[inline(always)]
    fn start_at(&self, piece: &[u8], at: usize) -> Option<Start> {
        let first = *piece.get(at)?;
        if first.is_ascii() { Some(self.byte_start(first)) } else { self.char_at(piece, at) }
    }

    #[inline(always)]
    pub(crate) fn byte_token(&self, byte: u8) -> Token {
        self.byte_start(byte).token
    }

    #[inline(always)]
    fn byte_start(&self, byte: u8) -> Start {
        #[expect(clippy::indexing_slicing, reason = "a byte is an index of 256 entries")]
        let entry = u128::from_le_bytes(widened(self.bytes[usize::from(byte)]));
        let [token, entries, exits] = [0, 32, 64].map(|shift| (entry >> shift) as u32);
        Start { token, length: 1, entries, exits }
    }

    /// A character of several bytes.
    #[inline(always)]
    fn char_at(&self, piece: &[u8], at: usize) -> Option<Start> {
        let rest = piece.get(at..)?;
        let length = rest.first()?.leading_ones();
        let word = match rest.first_chunk() {
            Some(chunk) => u32::from_le_bytes(*chunk),
            None => rest.iter().rev().fold(0, |word, byte| word << 8 | u32::from(*byte)),
        };
        let word = word & (u32::MAX >> (32_u32.wrapping_sub(length.wrapping_mul(8)) & 31));
        let slot = u128::from_le_bytes(self.chars.probe(mix(u64::from(word))).unwrap_or_default());
        let [bytes, token, entries, exits] = [0, 32, 64, 96].map(|shift| (slot >> shift) as u32);
        let length = (length as usize).clamp(1, rest.len());
        if bytes != word {
            return Some(Start { token: NO_TOKEN, length, entries: u32::MAX, exits: u32::MAX });
        }
        Some(Start { token, length, entries, exits })
    }

    /// What two ASCII characters merge into, or [`NO_TOKEN`].
    #[inline(always)]
    pub(crate) fn merged_ascii(&self, first: u8, second: u8) -> Token {
        let index = usize::from(first & 0x7f).wrapping_mul(128) | usize::from(second & 0x7f);
        #[expect(clippy::indexing_slicing, reason = "an index of two times seven bits")]
        u32::from_le_bytes(self.ascii_pairs[index])
    }
}

/// Twelve bytes with zeros after them.
#[inline(always)]
fn widened(bytes: [u8; 12]) -> [u8; 16] {
    let [a, b, c, d, e, f, g, h, i, j, k, l] = bytes;
    [a, b, c, d, e, f, g, h, i, j, k, l, 0, 0, 0, 0]
}

impl fmt::Debug for Vocabulary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vocabulary")
            .field("tokens", &self.tokens)
            .field("pattern", &self.pattern)
            .finish_non_exhaustive()
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
