//! Characters of several bytes that merging can start with as a whole.
//!
//! Merging starts with bytes. The bytes of a character that is a token merge into it, and nearly always do so among themselves whatever
//! stands next to them: then starting with the whole character leads to the same end. It does not where first a token comes about across
//! the character's border that holds a part of it. A character's bytes merge in a fixed order as long as that does not happen; so the parts
//! that stand at its borders on the way are known, and until which rank, and the vocabulary shows what merges with them before.
//!
//! Each merge that takes a part of a character across its border is in one of 32 groups. A character's *exits* are the groups of
//! merges that could happen across its end, as far as it is concerned; its *entries* those across its beginning. Where two neighbours have
//! a group in common, both start as bytes.

use std::collections::HashMap;

use crate::merges::{self, Merges, Ranks};

/// What is known of the borders of a character.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Borders {
    /// The groups of merges across its beginning.
    pub entries: u32,
    /// The groups of merges across its end.
    pub exits: u32,
}

impl Borders {
    /// Of a byte that is not a character, and of a character that is no token: anything may happen.
    pub const UNKNOWN: Self = Self { entries: u32::MAX, exits: u32::MAX };
}

/// The borders of the characters that are tokens, by their tokens' numbers.
pub fn borders(tokens: &[Vec<u8>], merges: &Merges) -> HashMap<u32, Borders> {
    let ranks = merges::ranks(tokens);
    let made = tokens.iter().zip(&merges.splits).enumerate().filter(|(_, (_, split))| split.is_some());
    let chars =
        made.filter(|(_, (token, _))| is_char(token)).map(|(number, (token, _))| Char::new(number, token, &ranks));
    let chars: Vec<Char<'_>> = chars.collect();
    let mut borders: HashMap<u32, Borders> = chars.iter().map(|char| (char.number, Borders::default())).collect();
    let mut groups = Groups::default();
    for (rank, split) in merges.splits.iter().enumerate() {
        let Some((left, right)) = split.filter(|(left, _)| *left as usize != rank) else { continue };
        let (left, right) = (tokens[left as usize].as_slice(), tokens[right as usize].as_slice());
        // Inside a character.
        if is_continuation(right[0]) {
            continue;
        }
        let last = left.iter().rposition(|byte| !is_continuation(*byte)).map_or(left, |at| &left[at..]);
        let first = &right[..char_length(right[0]).min(right.len())];
        let takes =
            |parts: &[(&[u8], u32)], part: &[u8]| parts.iter().any(|(of, until)| *of == part && (rank as u32) < *until);
        if first.len() < char_length(right[0]) {
            let group = groups.of(right, true);
            for char in &chars {
                let borders = borders.entry(char.number).or_default();
                borders.entries |= if takes(&char.beginnings, right) { group } else { 0 };
                borders.exits |= if char.bytes.ends_with(last) { group } else { 0 };
            }
        }
        if left.iter().all(|byte| is_continuation(*byte)) {
            let group = groups.of(left, false);
            for char in &chars {
                let borders = borders.entry(char.number).or_default();
                borders.exits |= if takes(&char.ends, left) { group } else { 0 };
                borders.entries |= if char.bytes.starts_with(first) { group } else { 0 };
            }
        }
    }
    borders
}

/// A character that is a token, and the parts at its borders until it is complete, each with the rank of the merge that takes it.
struct Char<'a> {
    number: u32,
    bytes: &'a [u8],
    beginnings: Vec<(&'a [u8], u32)>,
    ends: Vec<(&'a [u8], u32)>,
}

impl<'a> Char<'a> {
    fn new(number: usize, bytes: &'a [u8], ranks: &Ranks<'_>) -> Self {
        let mut char = Self { number: number as u32, bytes, beginnings: Vec::new(), ends: Vec::new() };
        merges::merge(bytes, ranks, |rank, ends, at| {
            if at == 0 {
                char.beginnings.push((&bytes[..ends[1]], rank));
            }
            if at + 3 == ends.len() {
                char.ends.push((&bytes[ends[at + 1]..], rank));
            }
        });
        char
    }
}

/// Groups by the part of a character, as long as there are bits; then several parts share one.
#[derive(Default)]
struct Groups(HashMap<(Vec<u8>, bool), u32>);

impl Groups {
    fn of(&mut self, part: &[u8], is_beginning: bool) -> u32 {
        let known = self.0.len() as u32;
        1 << (*self.0.entry((part.to_vec(), is_beginning)).or_insert(known) % 32)
    }
}

/// Whether these bytes are one character.
fn is_char(token: &[u8]) -> bool {
    str::from_utf8(token).is_ok_and(|text| text.chars().count() == 1)
}

/// The bytes of a character that starts with this one.
fn char_length(first: u8) -> usize {
    (first.leading_ones() as usize).max(1)
}

fn is_continuation(byte: u8) -> bool {
    byte & 0xc0 == 0x80
}
