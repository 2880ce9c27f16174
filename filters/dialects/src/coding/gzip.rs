//! One gzip member (RFC 1952): a header, a deflate stream (RFC 1951), and the checksum and length of what was compressed.

use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::inflate_flags::{
    TINFL_FLAG_STOP_ON_BLOCK_BOUNDARY, TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF,
};
use miniz_oxide::inflate::core::{DecompressorOxide, decompress};

use super::undecodable::{BLOCKS_MAX, Undecodable};

/// The header's flags (RFC 1952, 2.3.1). The first only says that it may be a text.
const HEADER_CRC: u8 = 2;
const EXTRA: u8 = 4;
const NAME: u8 = 8;
const COMMENT: u8 = 16;
const RESERVED: u8 = 0xe0;
/// The shortest buffer that is decoded into.
const FIRST: usize = 4 << 10;

/// What a member was made of.
pub fn decode(bytes: &[u8], most: usize) -> Result<Vec<u8>, Undecodable> {
    let body = header(bytes)?;
    let (out, rest) = inflate(body, most)?;
    let (trailer, rest) = rest.split_first_chunk::<8>().ok_or(Undecodable::Truncated)?;
    if !rest.is_empty() {
        return Err(Undecodable::Trailing);
    }
    // Little-endian: the checksum in the lower half, the length modulo 2^32 in the upper one.
    let length = u64::try_from(out.len()).unwrap_or(u64::MAX);
    let expected = length << 32 | u64::from(crc32fast::hash(&out));
    if u64::from_le_bytes(*trailer) == expected { Ok(out) } else { Err(Undecodable::Corrupt) }
}

/// What follows the header.
fn header(bytes: &[u8]) -> Result<&[u8], Undecodable> {
    let (fixed, mut rest) = bytes.split_first_chunk::<10>().ok_or(Undecodable::Truncated)?;
    let [0x1f, 0x8b, 8, flags, ..] = *fixed else { return Err(Undecodable::Malformed) };
    if flags & RESERVED != 0 {
        return Err(Undecodable::Malformed);
    }
    if flags & EXTRA != 0 {
        let (length, after) = rest.split_first_chunk::<2>().ok_or(Undecodable::Truncated)?;
        rest = after.get(usize::from(u16::from_le_bytes(*length))..).ok_or(Undecodable::Truncated)?;
    }
    for text in [NAME, COMMENT] {
        if flags & text != 0 {
            let end = memchr::memchr(0, rest).ok_or(Undecodable::Truncated)?;
            rest = rest.get(end.saturating_add(1)..).ok_or(Undecodable::Truncated)?;
        }
    }
    if flags & HEADER_CRC != 0 {
        let (expected, after) = rest.split_first_chunk::<2>().ok_or(Undecodable::Truncated)?;
        let header = bytes.get(..bytes.len().saturating_sub(rest.len())).unwrap_or_default();
        if (crc32fast::hash(header) & 0xffff) as u16 != u16::from_le_bytes(*expected) {
            return Err(Undecodable::Corrupt);
        }
        rest = after;
    }
    Ok(rest)
}

/// What a deflate stream becomes, and what follows it.
fn inflate(bytes: &[u8], most: usize) -> Result<(Vec<u8>, &[u8]), Undecodable> {
    const FLAGS: u32 = TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF | TINFL_FLAG_STOP_ON_BLOCK_BOUNDARY;
    // The output is its own window. With room for one byte more than is allowed, one that is full is too long.
    let room = most.saturating_add(1);
    let mut out = vec![0; first(bytes).min(room)];
    let (mut state, mut rest, mut length, mut blocks) = (Box::<DecompressorOxide>::default(), bytes, 0usize, 0usize);
    loop {
        let (status, read, written) = decompress(&mut state, rest, &mut out, length, FLAGS);
        rest = rest.get(read..).unwrap_or_default();
        length = length.saturating_add(written);
        if length > most {
            return Err(Undecodable::TooLong);
        }
        match status {
            TINFLStatus::Done => {
                out.truncate(length);
                return Ok((out, rest));
            }
            TINFLStatus::BlockBoundary => {
                blocks = blocks.saturating_add(1);
                if blocks >= BLOCKS_MAX {
                    return Err(Undecodable::Blocks);
                }
            }
            // Its end does not say the truth.
            TINFLStatus::HasMoreOutput if out.len() < room => out.resize(room, 0),
            TINFLStatus::HasMoreOutput => return Err(Undecodable::TooLong),
            TINFLStatus::NeedsMoreInput | TINFLStatus::FailedCannotMakeProgress => return Err(Undecodable::Truncated),
            _ => return Err(Undecodable::Malformed),
        }
    }
}

/// How much room is made at first: for the length that the end of the body says, so that there is one buffer, where that can be true.
fn first(bytes: &[u8]) -> usize {
    // No deflate stream becomes longer than 1032 times itself.
    let possible = bytes.len().saturating_mul(1032);
    let said = bytes.last_chunk::<4>().map(|said| u32::from_le_bytes(*said));
    let said = said.and_then(|said| usize::try_from(said).ok()).filter(|said| *said <= possible);
    // One byte more, so that the end is seen in the same go.
    said.unwrap_or_default().saturating_add(1).max(FIRST)
}
