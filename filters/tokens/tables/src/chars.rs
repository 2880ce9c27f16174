//! Characters of several bytes that merging can start with as a whole.
//!
//! Merging starts with bytes. The bytes of a character that is a token merge into it early, and nearly always among themselves
//! whatever stands next to them: then to start with the whole character leads to the same end. It does not where a token with a part
//! of the character may come about across its border first. A character's bytes merge in a fixed order as long as that does not
//! happen; so it is enough to look at the tokens that its beginning and its end are on the way, and at the lowest rank at which each of
//! these merges with something beyond the border.

use std::collections::HashMap;

use crate::merges::{self, Merges};

/// A character that is a token, and where merging may start with it as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Whole {
    /// Its bytes from the low end.
    pub bytes: u32,
    /// The token.
    pub token: u32,
    /// After an ASCII character.
    pub after_ascii: bool,
    /// At the beginning of a piece and after any other character.
    pub after_other: bool,
}

/// All such characters of a vocabulary.
pub fn wholes(tokens: &[Vec<u8>], merges: &Merges) -> Vec<Whole> {
    let crossing = Crossing::of(tokens, merges);
    let ranks = merges::ranks(tokens);
    let made =
        tokens.iter().zip(&merges.splits).enumerate().filter(|(_, (token, split))| split.is_some() && is_wide(token));
    let wholes = made.filter_map(|(number, (token, _))| {
        let (mut after_ascii, mut after_other) = (true, true);
        merges::merge(token, &ranks, |rank, ends, at| {
            let crosses = |lowest: &HashMap<Vec<u8>, u32>, part: &[u8]| lowest.get(part).is_some_and(|at| *at < rank);
            // Until this merge takes it, the part at either end could have merged across the border.
            if at == 0 {
                after_ascii &= !crosses(&crossing.after_ascii, &token[..ends[1]]);
                after_other &= !crosses(&crossing.after_other, &token[..ends[1]]);
            }
            if at + 3 == ends.len() && crosses(&crossing.before, &token[ends[at + 1]..]) {
                (after_ascii, after_other) = (false, false);
            }
        });
        let bytes = token.iter().rev().fold(0, |word, byte| word << 8 | u32::from(*byte));
        (after_ascii || after_other).then_some(Whole { bytes, token: number as u32, after_ascii, after_other })
    });
    wholes.collect()
}

/// For parts of characters, the lowest rank at which each merges across the border of its character.
#[derive(Default)]
struct Crossing {
    /// Beginnings of a character, with what ends in an ASCII character.
    after_ascii: HashMap<Vec<u8>, u32>,
    /// Beginnings of a character, with anything else before it.
    after_other: HashMap<Vec<u8>, u32>,
    /// Ends of a character, with what follows it.
    before: HashMap<Vec<u8>, u32>,
}

impl Crossing {
    fn of(tokens: &[Vec<u8>], merges: &Merges) -> Self {
        let mut all = Self::default();
        // Ranks rise, so that the first is the lowest.
        for (rank, split) in merges.splits.iter().enumerate() {
            let Some((left, right)) = split.filter(|(left, _)| *left as usize != rank) else { continue };
            let (left, right) = (&tokens[left as usize], &tokens[right as usize]);
            if is_continuation(right[0]) {
                continue;
            }
            let beginnings =
                if left.last().is_some_and(u8::is_ascii) { &mut all.after_ascii } else { &mut all.after_other };
            beginnings.entry(right.clone()).or_insert(rank as u32);
            if left.iter().copied().all(is_continuation) {
                all.before.entry(left.clone()).or_insert(rank as u32);
            }
        }
        all
    }
}

/// Whether these bytes are one character that is not ASCII.
fn is_wide(token: &[u8]) -> bool {
    token.len() <= 4 && !token[0].is_ascii() && str::from_utf8(token).is_ok_and(|text| text.chars().count() == 1)
}

fn is_continuation(byte: u8) -> bool {
    byte & 0xc0 == 0x80
}
