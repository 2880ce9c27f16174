//! What each character is to the rules that cut a text, from the Unicode tables of the `regex` crates: the same tables that the
//! encodings' regular expressions are run with, and so equal by construction.

use regex_syntax::hir::{Class, HirKind};

/// The classes, mutually exclusive.
pub mod class {
    /// None of the others: punctuation, symbols, controls, unassigned.
    pub const OTHER: u8 = 0;
    /// `\p{Lu}`, `\p{Lt}`.
    pub const UPPER: u8 = 1;
    /// `\p{Ll}`.
    pub const LOWER: u8 = 2;
    /// `\p{Lm}`, `\p{Lo}`.
    pub const LETTER: u8 = 3;
    /// `\p{M}`.
    pub const MARK: u8 = 4;
    /// `\p{N}`.
    pub const NUMBER: u8 = 5;
    /// `\s` but for line ends.
    pub const SPACE: u8 = 6;
    /// `[\r\n]`.
    pub const NEWLINE: u8 = 7;
}

/// Characters per block.
pub const BLOCK: usize = 64;

/// What stands for a class where a first byte does not tell it.
pub const MIXED: u8 = 15;

/// The class of every character, in three parts.
///
/// 256 bytes tell for a first byte the class of the characters that start with it in the low four bits, or [`MIXED`], and their
/// length in the high four. Then follow the number of a block for each 64 characters (`u16`, little-endian), and the blocks.
///
/// # Errors
/// When `regex-syntax` does not know a class by this name.
pub fn table() -> Result<Vec<u8>, String> {
    let mut classes = vec![class::OTHER; 0x11_0000];
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
            classes[range.start() as usize..=range.end() as usize].fill(class);
        }
    }
    let mut blocks: Vec<&[u8]> = Vec::new();
    let mut table: Vec<u8> = (0..=u8::MAX).map(|first| first_byte(first, &classes)).collect();
    for block in classes.chunks(BLOCK) {
        let number = blocks.iter().position(|known| *known == block).unwrap_or_else(|| {
            blocks.push(block);
            blocks.len() - 1
        });
        table.extend((number as u16).to_le_bytes());
    }
    table.extend(blocks.concat());
    Ok(table)
}

fn first_byte(first: u8, classes: &[u8]) -> u8 {
    let first = usize::from(first);
    // Encodings that are longer than necessary, and characters beyond the last one, do not occur.
    let (length, range) = match first {
        0..0x80 => (1, first..first + 1),
        0x80..0xe0 => (2, (first & 0x1f) << 6..((first & 0x1f) + 1) << 6),
        0xe0 => (3, 0x800..0x1000),
        0xe1..0xf0 => (3, (first & 0xf) << 12..((first & 0xf) + 1) << 12),
        0xf0 => (4, 0x1_0000..0x4_0000),
        _ => (4, (first & 7).min(4) << 18..(((first & 7) + 1) << 18).min(classes.len())),
    };
    let class = match classes.get(range) {
        Some([class, rest @ ..]) if rest.iter().all(|other| other == class) => *class,
        _ => MIXED,
    };
    class | length << 4
}
