//! What each character is to the rules that cut a text, from the Unicode tables of the `regex` crates: the same tables that the
//! encodings' regular expressions are run with, and so equal by construction.

use regex_syntax::hir::{Class, HirKind};

use crate::layout::class::{self, LENGTH_SHIFT, MIXED};

/// Characters per block: as many as the last byte of a character tells apart.
pub const BLOCK: usize = 64;
/// The class of every character.
///
/// `u16` entries, little-endian: 256 for the first byte of a character, and 4,096 for the first two that are not ASCII, by the low
/// six bits of each. They hold the class and the length, or [`MIXED`] and the length and, for the first two bytes, the number of the block
/// that tells the class by the third byte, or of the page that tells the block by the third if there are four. Then the number of
/// pages, the pages of 64 numbers of blocks each, all `u16`, and the blocks of 64 classes each, in bytes.
///
/// # Errors
/// When `regex-syntax` does not know a class by this name.
pub fn table() -> Result<Vec<u8>, String> {
    let mut classes = vec![class::OTHER as u8; 0x11_0000];
    for (pattern, class) in [
        (r"[\p{Lu}\p{Lt}]", class::UPPER),
        (r"\p{Ll}", class::LOWER),
        (r"[\p{Lm}\p{Lo}]", class::LETTER),
        (r"\p{M}", class::MARK),
        (r"\p{N}", class::NUMBER),
        (r"\s", class::SPACE),
        (r"[\r\n]", class::NEWLINE),
    ] {
        let hir = regex_syntax::parse(pattern).map_err(|error| format!("{pattern}: {error}"))?;
        let HirKind::Class(Class::Unicode(ranges)) = hir.kind() else {
            return Err(format!("{pattern} is not a class of characters"));
        };
        for range in ranges.ranges() {
            classes[range.start() as usize..=range.end() as usize].fill(class as u8);
        }
    }
    let blocks = Distinct::of(classes.chunks(BLOCK));
    let pages = Distinct::of(blocks.numbers.chunks(64));
    if blocks.all.len().max(pages.all.len()) > usize::from(MIXED) {
        return Err(format!("{} blocks and {} pages of classes are too many", blocks.all.len(), pages.all.len()));
    }
    let wide: Vec<u16> = (0..64 * 64).map(|both| two_bytes(both / 64, both % 64, &classes, &blocks, &pages)).collect();
    let ascii = classes[..0x80].iter().map(|class| u16::from(*class) | 1 << LENGTH_SHIFT);
    // No character starts with a byte that another one goes on with.
    let mut entries: Vec<u16> = ascii.chain([class::OTHER | 1 << LENGTH_SHIFT; 0x40]).collect();
    let length = |entry: u16| entry >> LENGTH_SHIFT << LENGTH_SHIFT;
    let alike = |row: &[u16]| row[0] & MIXED == 0 && row.iter().all(|other| *other == row[0]);
    entries.extend(wide.chunks(64).map(|row| if alike(row) { row[0] } else { MIXED | length(row[0]) }));
    entries.extend(wide);
    entries.push(pages.all.len() as u16);
    entries.extend(pages.all.concat());
    Ok(entries.iter().flat_map(|entry| entry.to_le_bytes()).chain(blocks.all.concat()).collect())
}

/// Parts of a table without repetition.
struct Distinct<'a, T> {
    all: Vec<&'a [T]>,
    /// Which of them each part is.
    numbers: Vec<u16>,
}

impl<'a, T: PartialEq> Distinct<'a, T> {
    fn of(parts: impl Iterator<Item = &'a [T]>) -> Self {
        let mut all: Vec<&[T]> = Vec::new();
        let mut number = |part: &'a [T]| {
            all.iter().position(|known| *known == part).unwrap_or_else(|| {
                all.push(part);
                all.len() - 1
            }) as u16
        };
        let numbers = parts.map(&mut number).collect();
        Self { all, numbers }
    }
}

/// The entry of the characters that start with these two bytes, of which only the low six bits are given.
fn two_bytes(first: usize, second: usize, classes: &[u8], blocks: &Distinct<'_, u8>, pages: &Distinct<'_, u16>) -> u16 {
    // Encodings that are longer than necessary, and characters beyond the last one, do not occur.
    let (length, start, count) = match first {
        0..0x20 => (2, first << 6 | second, 1),
        0x20..0x30 => (3, (first & 0xf) << 12 | second << 6, BLOCK),
        _ => (4, (first & 7) << 18 | second << 12, BLOCK * 64),
    };
    let entry = match classes.get(start..start + count) {
        Some([class, rest @ ..]) if rest.iter().all(|other| other == class) => u16::from(*class),
        Some(_) if count == BLOCK => MIXED | blocks.numbers[start / BLOCK],
        Some(_) => MIXED | pages.numbers[start / BLOCK / 64],
        None => class::OTHER,
    };
    entry | length << LENGTH_SHIFT
}
