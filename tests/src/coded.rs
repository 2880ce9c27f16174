//! Bodies as clients compress them, and as nobody does who means well.

use miniz_oxide::deflate::compress_to_vec;
use ruzstd::encoding::{CompressionLevel, compress_to_vec as frame};

/// One gzip member.
pub fn gzip(text: &[u8]) -> Vec<u8> {
    member(&compress_to_vec(text, 6), text)
}

/// One zstd frame.
pub fn zstd(text: &[u8]) -> Vec<u8> {
    frame(text, CompressionLevel::Fastest)
}

/// A gzip member around a deflate stream that becomes this text.
fn member(deflated: &[u8], text: &[u8]) -> Vec<u8> {
    let length = u32::try_from(text.len()).expect("a text that fits");
    let end = [crc32fast::hash(text).to_le_bytes(), length.to_le_bytes()].concat();
    [b"\x1f\x8b\x08\0\0\0\0\0\0\xff", deflated, &end].concat()
}

/// A zstd frame, with a window of 8 MiB and without a checksum, around these blocks and a last one that is empty.
fn blocks(blocks: &[u8]) -> Vec<u8> {
    [b"\x28\xb5\x2f\xfd\0\x68", blocks, b"\x01\0\0"].concat()
}

/// Less than 40 KB that become a gigabyte.
pub fn zstd_bomb() -> Vec<u8> {
    // 131,072 times a space.
    blocks(&[2, 0, 0x10, b' '].repeat(8192))
}

/// Less than 70 KB that become 64 MiB, as `gzip` makes it of zeros.
pub fn gzip_bomb() -> Vec<u8> {
    // Whether its end says the truth does not matter, as nobody comes to it.
    member(&compress_to_vec(&vec![0; 64 << 20], 9), b"")
}

/// A zstd frame of so many blocks, each with four tables as large as they may be, for 4 bytes of text.
pub fn zstd_tables(count: usize) -> Vec<u8> {
    // A literal by a tree whose codes have 1 to 11 bits, and one repetition of three bytes by tables of 512, 256 and 512 states.
    let literals = [0x12, 0x00, 0x02, 138, 0xba, 0x98, 0x76, 0x54, 0x32, 0x10, 0b11];
    let sequences = [1, 0b1010_1000, 0xf4, 0x3f, 0xf3, 0x1f, 0xf4, 0x3f, 0, 0, 0, 4];
    let content = [&literals[..], &sequences].concat();
    let head = (4u32 | (content.len() as u32) << 3).to_le_bytes();
    let block = [&head[..3], &content].concat();
    blocks(&[&[0x20, 0, 0][..], b"    ", &block.repeat(count)].concat())
}

/// A gzip member of so many blocks, each with three tables, for no text.
pub fn gzip_tables(count: usize) -> Vec<u8> {
    let mut bits = Bits::default();
    for i in 1..=count {
        bits.push(u64::from(i == count), 1);
        // A block with tables of its own, of 257 codes and of 1, whose lengths are told by 18 codes: of these, 1 and 18 have one bit.
        bits.push(2, 2);
        bits.push(14 << 10, 14);
        bits.push(1 << 6 | 1 << 51, 54);
        // Nothing 138 and 118 times, one bit for the end of the block, and one for a distance.
        bits.push(1 | 127 << 1, 8);
        bits.push(1 | 107 << 1, 8);
        bits.push(0, 2);
        // The end of the block.
        bits.push(0, 1);
    }
    member(&bits.bytes, b"")
}

/// Bits, the lowest first.
#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    used: u32,
}

impl Bits {
    fn push(&mut self, value: u64, count: u32) {
        for i in 0..count {
            if self.used.is_multiple_of(8) {
                self.bytes.push(0);
            }
            *self.bytes.last_mut().expect("a byte") |= ((value >> i & 1) as u8) << (self.used % 8);
            self.used += 1;
        }
    }
}

/// Numbers that follow no rule which an encoder could find (xorshift64).
fn draws() -> impl FnMut() -> usize {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 8) as usize
    }
}

/// About so many bytes of texts that cost much to decode: of letters that repeat seldom, often, and as words do.
pub fn hard(bytes: usize) -> [(&'static str, Vec<u8>); 3] {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut draw = draws();
    let letters = (0..bytes).map(|_| LETTERS[draw() % 64]).collect();
    let few = (0..bytes).map(|_| LETTERS[draw() % 3]).collect();
    let words = (0..bytes / 4).flat_map(|_| [LETTERS[draw() % 16], LETTERS[draw() % 16], LETTERS[draw() % 16], b' ']);
    [("letters", letters), ("few letters", few), ("words", words.collect())]
}

/// About so many bytes of small JSON values with commas behind them, which cost much to read.
pub fn values(bytes: usize) -> String {
    let mut draw = draws();
    let values = std::iter::repeat_with(|| ["\"\",", "1,", "[],", "0,"][draw() % 4]);
    let mut left = bytes;
    values
        .take_while(|value| {
            left = left.saturating_sub(value.len());
            left > 0
        })
        .collect()
}
