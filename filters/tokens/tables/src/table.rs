//! Putting a table together.

use crate::layout::{self, CELL_LEAF, CELL_NONE, CELL_PAYLOAD_SHIFT, HEADER_BYTES, MAGIC, Section, TERMINAL, VERSION};
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
    let reach = merges.reach(tokens);
    if reach > layout::REACH_MAX {
        return Err(format!(
            "what follows can change merges {reach} bytes before it; {} are possible",
            layout::REACH_MAX
        ));
    }
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
    write_tokens(&mut writer, tokens, &merges);
    write_pairs(&mut writer, &merges)?;
    let longest = tokens.iter().map(Vec::len).max().unwrap_or_default();
    Ok(writer.finish(&[MAGIC, VERSION, vocabulary.pattern.0, tokens.len() as u32, longest as u32, reach as u32]))
}

fn write_short(writer: &mut Writer, whole: &[&[u8]]) -> Result<(), String> {
    let keys: Vec<u64> = whole
        .iter()
        .filter(|token| (2..=7).contains(&token.len()))
        .map(|token| layout::short_key(padded(token) as u64, token.len()))
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
        .map(|token| {
            layout::medium_key(padded(&token[..8]) as u64, padded(&token[token.len() - 8..]) as u64, token.len())
        })
        .map(|(first, last)| u128::from(first) | u128::from(last) << 64)
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
    let cells = trie::build(made.map(|(number, (token, _))| (token.clone(), number as u32)))?;
    let mut bytes = [layout::NO_TOKEN; 256];
    for (number, token) in tokens.iter().enumerate() {
        if let [byte] = token.as_slice() {
            bytes[usize::from(*byte)] = number as u32;
        }
    }
    writer.section(Section::Bytes, bytes.iter().flat_map(|token| token.to_le_bytes()));
    let beginnings = (0..=u16::MAX).map(|both| {
        let [first, second] = both.to_le_bytes();
        let cell = cells[usize::from(first)];
        let child = (cell >> CELL_PAYLOAD_SHIFT) as usize ^ usize::from(second);
        let is_node = cell & CELL_LEAF == 0 && second != TERMINAL;
        cells.get(child).copied().filter(|cell| is_node && *cell as u8 == second).map_or(CELL_NONE, |cell| cell & !0xff)
    });
    writer.section(Section::Beginnings, beginnings.flat_map(|cell| cell.to_le_bytes()));
    writer.section(Section::Trie, cells.iter().flat_map(|cell| cell.to_le_bytes()));
    Ok(())
}

fn write_tokens(writer: &mut Writer, tokens: &[Vec<u8>], merges: &Merges) {
    writer.section(Section::Tokens, merges.entries(tokens).iter().flat_map(|entry| entry.to_le_bytes()));
}

fn write_pairs(writer: &mut Writer, merges: &Merges) -> Result<(), String> {
    let made = merges.made().map(|(number, left, right)| (layout::mix(layout::pair_key(left, right)), number));
    let (keys, slots): (Vec<u64>, Vec<u32>) =
        made.map(|(key, number)| (key, number | layout::pair_fingerprint(key))).unzip();
    let perfect = perfect::place_pairs(&keys)?;
    writer.displacements(Section::PairDisplacements, &perfect);
    let slots = filled(&perfect, &slots, u32::MAX);
    writer.section(Section::PairSlots, slots.iter().flat_map(|slot| slot.to_le_bytes()));
    Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::Pattern;

    /// Tokens of two letters, of which many differ in the last one only.
    #[test]
    fn vocabularies_of_all_sizes_have_a_table() {
        let bytes: Vec<Vec<u8>> = (0..=u8::MAX).map(|byte| vec![byte]).collect();
        let pairs: Vec<Vec<u8>> =
            (b'a'..=b'z').flat_map(|first| (b'a'..=b'z').map(move |last| vec![first, last])).collect();
        let long: Vec<Vec<u8>> = pairs.iter().map(|pair| [b"abcdefgh".as_slice(), pair].concat()).collect();
        for count in [0, 1, 2, 3, 4, 5, 26, 100, 108, 300, 676] {
            let tokens = [&bytes, &pairs[..count], &long[..count]].concat();
            let vocabulary = Vocabulary { tokens, pattern: Pattern::O200K, whole_pieces: true };
            if let Err(error) = generate(&vocabulary) {
                panic!("{count} tokens: {error}");
            }
        }
    }
}
