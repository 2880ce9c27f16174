//! A vocabulary: a table that is looked up where it lies.

use core::fmt;

use penstock_token_tables::layout::{
    CELL_LEAF, CELL_PAYLOAD_SHIFT, CELL_TOKEN, FIXED_WORDS, HEADER_BYTES, MAGIC, NO_TOKEN, PAIR_BITS, PAIR_BUCKETS,
    PAIR_SLOTS, Pattern, REACH_MAX, Section, TERMINAL, TOKEN_BYTES_MAX, TOKEN_MASK, VERSION, bucket, entry, mix,
    mix_bytes, pair_fingerprint, pair_key, slot,
};

/// The number of a token, which is also its rank: of two merges that are possible, the one that makes the lower number happens first.
pub(crate) type Token = u32;

/// What is not the payload of a cell.
const FLAGS: u32 = (1 << CELL_PAYLOAD_SHIFT) - 1;

/// A vocabulary to count with. Making one costs nothing: it refers to parts of a table that `penstock-token-tables` has made.
#[derive(Clone, Copy)]
pub struct Vocabulary {
    /// All of it.
    pub(crate) table: &'static [u8],
    pub(crate) pattern: Pattern,
    /// Bytes of the longest token.
    pub(crate) longest: usize,
    /// How far what follows can change merging, in bytes.
    pub(crate) reach: usize,
    tokens: u32,
    short: Perfect<8>,
    medium: Perfect<16>,
    long: Perfect<4>,
    long_bytes: &'static [u8],
    bytes: &'static [[u8; 4]; 256],
    beginnings: &'static [[u8; 4]; 1 << 16],
    trie: &'static [[u8; 4]],
    entries: &'static [[u8; 8]],
    pair_displacements: &'static [[u8; 2]; PAIR_BUCKETS],
    pair_slots: &'static [[u8; 4]; PAIR_SLOTS],
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
        let [s_disp, s, m_disp, m, l_disp, l, long_bytes, bytes, beginnings, trie, entries, p_disp, p] = sections;
        let (Some(bytes), Some(beginnings)) =
            (bytes.as_chunks().0.first_chunk(), beginnings.as_chunks().0.first_chunk())
        else {
            return Err(Malformed::WrongLength);
        };
        let (Some(pair_displacements), Some(pair_slots)) =
            (p_disp.as_chunks().0.first_chunk(), p.as_chunks().0.first_chunk())
        else {
            return Err(Malformed::WrongLength);
        };
        Ok(Self {
            table,
            pattern,
            longest,
            reach,
            tokens,
            short: Perfect::new(s_disp, s),
            medium: Perfect::new(m_disp, m),
            long: Perfect::new(l_disp, l),
            long_bytes,
            bytes,
            beginnings,
            trie: trie.as_chunks().0,
            entries: entries.as_chunks().0,
            pair_displacements,
            pair_slots,
        })
    }

    /// How many tokens it has.
    pub const fn tokens(&self) -> u32 {
        self.tokens
    }

    /// Whether a piece of 2 to 7 bytes is a token, given its [`short_key`](penstock_token_tables::layout::short_key) and what
    /// [`mix`] makes of it.
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

    /// What `left` and `right` merge into.
    #[inline(always)]
    pub(crate) fn merged(&self, left: Token, right: Token) -> Option<Token> {
        let key = pair_key(left, right);
        let h = mix(key);
        const SHIFT: u32 = u64::BITS - PAIR_BUCKETS.trailing_zeros();
        #[expect(clippy::indexing_slicing, reason = "as many bits as the arrays are long")]
        let slot = {
            let displacement = self.pair_displacements[bucket(h, SHIFT)];
            u32::from_le_bytes(self.pair_slots[slot(h, u16::from_le_bytes(displacement), PAIR_SLOTS)])
        };
        let token = slot ^ pair_fingerprint(h);
        if token > TOKEN_MASK {
            return None;
        }
        (self.entry(token)? & !(u64::MAX << PAIR_BITS) == key).then_some(token)
    }

    /// What is known of a token; see [`entry`].
    #[inline(always)]
    pub(crate) fn entry(&self, token: Token) -> Option<u64> {
        self.entries.get(token as usize).map(|entry| u64::from_le_bytes(*entry))
    }

    /// The longest token in `text` from `at` on, and its end.
    #[inline(always)]
    pub(crate) fn longest_at(&self, text: &[u8], at: usize) -> Option<(Token, usize)> {
        let next = at.wrapping_add(2);
        let Some(both) = text.get(at..next).and_then(<[u8]>::first_chunk) else {
            return Some((self.byte_token(*text.get(at)?), at.wrapping_add(1)));
        };
        let both = u16::from_le_bytes(*both);
        let mut bytes = text.get(next..)?.iter();
        #[expect(clippy::indexing_slicing, reason = "two bytes are an index of 65,536 entries")]
        let mut cell = u32::from_le_bytes(self.beginnings[usize::from(both)]);
        let mut flags = cell & FLAGS;
        // The last cell at which a token ends, and how many bytes are left after that.
        let (mut known, mut left) = (0, 0);
        'walk: loop {
            if flags != 0 {
                if flags != CELL_TOKEN {
                    break;
                }
                (known, left) = (cell, bytes.len());
            }
            loop {
                let Some(byte) = bytes.next() else { break 'walk };
                let byte = u32::from(*byte);
                cell = self.cell(cell >> CELL_PAYLOAD_SHIFT ^ byte)?;
                flags = cell & FLAGS ^ byte;
                if flags != 0 {
                    break;
                }
            }
        }
        if flags == CELL_LEAF {
            return Some((cell >> CELL_PAYLOAD_SHIFT, text.len().wrapping_sub(bytes.len())));
        }
        if known == 0 {
            return Some((self.byte_token(both as u8), at.wrapping_add(1)));
        }
        Some((self.token_at(known)?, text.len().wrapping_sub(left)))
    }

    /// The token that a byte is by itself.
    #[inline(always)]
    #[expect(clippy::indexing_slicing, reason = "a byte is an index of 256 entries")]
    pub(crate) fn byte_token(&self, byte: u8) -> Token {
        u32::from_le_bytes(self.bytes[usize::from(byte)])
    }

    /// What two bytes merge into: the token that they are together.
    #[inline(always)]
    #[expect(clippy::indexing_slicing, reason = "two bytes are an index of 65,536 entries")]
    pub(crate) fn merged_bytes(&self, left: u8, right: u8) -> Option<Token> {
        let cell = u32::from_le_bytes(self.beginnings[usize::from(u16::from_le_bytes([left, right]))]);
        match cell & FLAGS {
            CELL_LEAF => Some(cell >> CELL_PAYLOAD_SHIFT),
            CELL_TOKEN => self.token_at(cell),
            _ => None,
        }
    }

    /// The token that ends at a cell with [`CELL_TOKEN`].
    #[inline(always)]
    fn token_at(&self, cell: u32) -> Option<Token> {
        Some(self.cell(cell >> CELL_PAYLOAD_SHIFT ^ u32::from(TERMINAL))? >> CELL_PAYLOAD_SHIFT)
    }

    #[inline(always)]
    fn cell(&self, index: u32) -> Option<u32> {
        self.trie.get(index as usize).map(|cell| u32::from_le_bytes(*cell))
    }

    /// Whether merging leaves a border between two tokens that follow each other.
    ///
    /// It does unless two parts merge across it: one at the end of the left token and one at the beginning of the right one, that are
    /// there at the same time, before either is taken into the token around it. A part comes about by the merge of its own rank, and is
    /// taken by that of what it is part of; so the parts are gone through from the latest on.
    ///
    /// If the left token `is_longest` of all at its place, nothing merges with the whole of it.
    #[inline(always)]
    pub(crate) fn stay_apart(&self, mut left: Token, is_longest: bool, mut right: Token) -> Option<bool> {
        let mut left_entry = self.entry(left)?;
        // When they are taken, and what says whether they join before that.
        let (mut left_until, mut right_until) = (NO_TOKEN, NO_TOKEN);
        let mut left_joins = left_entry << entry::OUTER;
        if is_longest {
            if left_entry & entry::RIGHT_MORE == 0 {
                return Some(true);
            }
            left_until = left;
            left_joins = left_entry;
            left = entry::token(left_entry, entry::RIGHT_SHIFT);
            left_entry = self.entry(left)?;
        }
        let mut right_entry = self.entry(right)?;
        let mut right_joins = right_entry << entry::OUTER >> entry::LEFT;
        loop {
            if left_joins & right_joins & entry::RIGHT_JOINS != 0
                && left_until > right
                && right_until > left
                && let Some(merged) = self.merged(left, right)
                && merged < left_until
                && merged <= right_until
            {
                return Some(false);
            }
            if left > right {
                // The latter is only so in a damaged table, in which this might not end.
                if left_entry & entry::RIGHT_MORE == 0 || left >= left_until {
                    return Some(true);
                }
                left_until = left;
                left_joins = left_entry;
                left = entry::token(left_entry, entry::RIGHT_SHIFT);
                left_entry = self.entry(left)?;
            } else {
                if right_entry & entry::LEFT_MORE == 0 || right >= right_until {
                    return Some(true);
                }
                right_until = right;
                right_joins = right_entry >> entry::LEFT;
                right = entry::token(right_entry, entry::LEFT_SHIFT);
                right_entry = self.entry(right)?;
            }
        }
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
