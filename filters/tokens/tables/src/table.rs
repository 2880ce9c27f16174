//! Putting a table together.

use crate::layout::{self, HEADER_BYTES, MAGIC, Section, TOKEN_BITS, VERSION, border};
use crate::merges::{self, Merges};
use crate::perfect::{self, Perfect};
use crate::source::Vocabulary;
use crate::trie;

/// The table of a vocabulary, as [`layout`] describes it.
///
/// # Errors
/// When the vocabulary is not one that byte-level merging can have produced; the message says which token shows it.
pub fn generate(vocabulary: &Vocabulary) -> Result<Vec<u8>, String> {
    let tokens = &vocabulary.tokens;
    let merges = merges::analyse(tokens)?;
    let whole: Vec<&[u8]> = tokens
        .iter()
        .zip(&merges.splits)
        .filter(|(_, split)| vocabulary.whole_pieces || split.is_some())
        .map(|(token, _)| token.as_slice())
        .collect();

    let mut writer = Writer::default();
    write_short(&mut writer, &whole)?;
    write_medium(&mut writer, &whole)?;
    write_long(&mut writer, &whole)?;
    write_trie(&mut writer, tokens, &merges)?;
    write_merges(&mut writer, tokens, &merges)?;
    let longest = tokens.iter().map(Vec::len).max().unwrap_or_default();
    Ok(writer.finish(&[MAGIC, VERSION, vocabulary.pattern.0, tokens.len() as u32, longest as u32]))
}

fn write_short(writer: &mut Writer, whole: &[&[u8]]) -> Result<(), String> {
    let keys: Vec<u64> = whole
        .iter()
        .filter(|token| (2..=7).contains(&token.len()))
        .map(|token| padded(token) as u64 | (token.len() as u64) << 56)
        .collect();
    let perfect = perfect::place(&keys.iter().map(|key| layout::mix(*key)).collect::<Vec<_>>())?;
    writer.displacements(Section::ShortDisplacements, &perfect);
    let slots = filled(&perfect, &keys, 0);
    writer.section(Section::ShortSlots, slots.iter().flat_map(|slot| slot.to_le_bytes()));
    Ok(())
}

fn write_medium(writer: &mut Writer, whole: &[&[u8]]) -> Result<(), String> {
    let keys: Vec<u128> = whole
        .iter()
        .filter(|token| (8..=15).contains(&token.len()))
        .map(|token| padded(token) | (token.len() as u128) << 120)
        .collect();
    let perfect =
        perfect::place(&keys.iter().map(|key| layout::mix2(*key as u64, (*key >> 64) as u64)).collect::<Vec<_>>())?;
    writer.displacements(Section::MediumDisplacements, &perfect);
    let slots = filled(&perfect, &keys, 0);
    writer.section(Section::MediumSlots, slots.iter().flat_map(|slot| slot.to_le_bytes()));
    Ok(())
}

fn write_long(writer: &mut Writer, whole: &[&[u8]]) -> Result<(), String> {
    let keys: Vec<&[u8]> = whole.iter().copied().filter(|token| token.len() > 15).collect();
    let perfect = perfect::place(&keys.iter().map(|key| layout::mix_bytes(key)).collect::<Vec<_>>())?;
    writer.displacements(Section::LongDisplacements, &perfect);
    let mut bytes = Vec::new();
    let mut offsets = Vec::new();
    for key in &keys {
        offsets.push(bytes.len() as u32);
        bytes.push(key.len() as u8);
        bytes.extend(*key);
    }
    let slots = filled(&perfect, &offsets, u32::MAX);
    writer.section(Section::LongSlots, slots.iter().flat_map(|slot| slot.to_le_bytes()));
    writer.section(Section::LongBytes, bytes);
    Ok(())
}

fn write_trie(writer: &mut Writer, tokens: &[Vec<u8>], merges: &Merges) -> Result<(), String> {
    let made = tokens.iter().zip(&merges.splits).enumerate().filter(|(_, (_, split))| split.is_some());
    let trie = trie::build(made.map(|(number, (token, _))| (token.as_slice(), number as u32)))?;
    writer.section(Section::TrieUnits, trie.units.iter().flat_map(|unit| unit.to_le_bytes()));
    writer.section(Section::TrieTokens, trie.tokens.iter().flat_map(|token| token.to_le_bytes()));
    Ok(())
}

fn write_merges(writer: &mut Writer, tokens: &[Vec<u8>], merges: &Merges) -> Result<(), String> {
    let borders = borders(tokens, merges);
    let splits: Vec<(u32, u32)> = merges.splits.iter().map(|split| split.unwrap_or_default()).collect();
    let entries = splits.iter().zip(borders).map(|((left, right), bits)| left | (right >> 16) << TOKEN_BITS | bits);
    writer.section(Section::Splits, entries.flat_map(u32::to_le_bytes));
    writer.section(Section::SplitRights, splits.iter().flat_map(|(_, right)| (*right as u16).to_le_bytes()));
    let pairs: Vec<(u32, u32, u32)> = made(merges).collect();
    // At 8 to 16 bits a pair, about nine of ten pairs that do not merge are told at once.
    let bytes = pairs.len().max(2).next_power_of_two();
    let mut filter = vec![0u8; bytes];
    for (_, left, right) in &pairs {
        let (byte, bit) = layout::filter_bit(*left, *right, 32 - bytes.trailing_zeros());
        filter[byte] |= 1 << bit;
    }
    writer.section(Section::PairFilter, filter);
    let numbers: Vec<u32> = pairs.iter().map(|(number, ..)| *number).collect();
    let keys: Vec<u64> = pairs.iter().map(|(_, left, right)| layout::mix(layout::pair_key(*left, *right))).collect();
    let perfect = perfect::place(&keys)?;
    writer.displacements(Section::PairDisplacements, &perfect);
    let slots = filled(&perfect, &numbers, u32::MAX);
    writer.section(Section::PairSlots, slots.iter().flat_map(|slot| slot.to_le_bytes()));
    Ok(())
}

/// The tokens that merging makes, each with its two parts.
fn made(merges: &Merges) -> impl Iterator<Item = (u32, u32, u32)> {
    merges.splits.iter().enumerate().filter_map(|(number, split)| {
        let number = number as u32;
        split.filter(|(left, _)| *left != number).map(|(left, right)| (number, left, right))
    })
}

/// The [`border`] bits of each token.
fn borders(tokens: &[Vec<u8>], merges: &Merges) -> Vec<u32> {
    let ends: u32 = ((1 << border::BITS) - 1) << border::END_SHIFT;
    let beginnings = ends << border::BITS;
    let mut bits = vec![0; tokens.len()];
    for (_, left, right) in made(merges) {
        bits[left as usize] |= tokens[right as usize].first().map_or(0, |byte| border::first(*byte));
        bits[right as usize] |= tokens[left as usize].last().map_or(0, |byte| border::last(*byte));
    }
    // Parts come before what is made of them.
    for (number, left, right) in made(merges) {
        bits[number as usize] |= bits[right as usize] & ends | bits[left as usize] & beginnings;
    }
    bits
}

/// A token's bytes from the low end.
fn padded(token: &[u8]) -> u128 {
    token.iter().rev().fold(0, |word, byte| word << 8 | u128::from(*byte))
}

fn filled<T: Copy>(perfect: &Perfect, entries: &[T], empty: T) -> Vec<T> {
    let mut slots = vec![empty; perfect.slots];
    for (entry, slot) in entries.iter().zip(&perfect.slot_of) {
        slots[*slot] = *entry;
    }
    slots
}

#[derive(Default)]
struct Writer {
    lengths: Vec<u32>,
    body: Vec<u8>,
}

impl Writer {
    /// Sections come in the order of [`Section`].
    fn section(&mut self, section: Section, bytes: impl IntoIterator<Item = u8>) {
        assert_eq!(self.lengths.len(), section as usize, "{section:?} is out of order");
        let before = self.body.len();
        self.body.extend(bytes);
        self.lengths.push((self.body.len() - before) as u32);
    }

    fn displacements(&mut self, section: Section, perfect: &Perfect) {
        self.section(section, perfect.displacements.iter().flat_map(|displacement| displacement.to_le_bytes()));
    }

    fn finish(self, fixed: &[u32]) -> Vec<u8> {
        let mut table = Vec::with_capacity(HEADER_BYTES + self.body.len());
        table.extend(fixed.iter().chain(&self.lengths).flat_map(|word| word.to_le_bytes()));
        table.extend(self.body);
        table
    }
}
