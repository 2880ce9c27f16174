//! Putting a table together.

use crate::chars::{self, Borders};
use crate::layout::{self, HEADER_BYTES, MAGIC, PAIR_BITS, Section, VERSION};
use crate::merges::{self, Merges};
use crate::perfect::{self, Perfect};
use crate::source::Vocabulary;

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
    write_chars(&mut writer, tokens, &merges)?;
    write_ascii_pairs(&mut writer, tokens, &merges);
    write_pairs(&mut writer, &merges)?;
    let longest = tokens.iter().map(Vec::len).max().unwrap_or_default();
    Ok(writer.finish(&[MAGIC, VERSION, vocabulary.pattern.0, tokens.len() as u32, longest as u32, reach as u32]))
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

fn write_chars(writer: &mut Writer, tokens: &[Vec<u8>], merges: &Merges) -> Result<(), String> {
    let borders = chars::borders(tokens, merges);
    let mut bytes = [[0; 3]; 256];
    for (number, token) in tokens.iter().enumerate() {
        if let [byte] = token.as_slice() {
            let Borders { entries, exits } = borders.get(&(number as u32)).copied().unwrap_or(Borders::UNKNOWN);
            bytes[usize::from(*byte)] = [number as u32, entries, exits];
        }
    }
    writer.section(Section::Bytes, bytes.iter().flatten().flat_map(|word| word.to_le_bytes()));
    let mut entries: Vec<[u32; 4]> = borders
        .iter()
        .map(|(number, borders)| [padded(&tokens[*number as usize]) as u32, *number, borders.entries, borders.exits])
        .filter(|[bytes, ..]| *bytes >= 0x80)
        .collect();
    entries.sort_unstable();
    let keys: Vec<u64> = entries.iter().map(|[bytes, ..]| layout::mix(u64::from(*bytes))).collect();
    let perfect = perfect::place(&keys)?;
    writer.displacements(Section::CharDisplacements, &perfect);
    let slots = filled(&perfect, &entries, [0; 4]);
    writer.section(Section::CharSlots, slots.iter().flatten().flat_map(|word| word.to_le_bytes()));
    Ok(())
}

fn write_ascii_pairs(writer: &mut Writer, tokens: &[Vec<u8>], merges: &Merges) {
    let mut pairs = vec![layout::NO_TOKEN; 128 * 128];
    for (number, (token, split)) in tokens.iter().zip(&merges.splits).enumerate() {
        if let ([first @ ..0x80, second @ ..0x80], Some(_)) = (token.as_slice(), split) {
            pairs[usize::from(*first) * 128 + usize::from(*second)] = number as u32;
        }
    }
    writer.section(Section::AsciiPairs, pairs.iter().flat_map(|token| token.to_le_bytes()));
}

fn write_pairs(writer: &mut Writer, merges: &Merges) -> Result<(), String> {
    let made = merges.splits.iter().enumerate().filter_map(|(number, split)| {
        let (left, right) = split.filter(|(left, _)| *left as usize != number)?;
        Some((layout::pair_key(left, right), number as u64))
    });
    let (keys, entries): (Vec<u64>, Vec<u64>) =
        made.map(|(key, number)| (layout::mix(key), key | number << PAIR_BITS)).unzip();
    let perfect = perfect::place(&keys)?;
    writer.displacements(Section::PairDisplacements, &perfect);
    let slots = filled(&perfect, &entries, u64::MAX);
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
