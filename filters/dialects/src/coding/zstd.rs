//! One zstd frame (RFC 8878, 3.1.1).

use ruzstd::decoding::errors::{FrameDecoderError, FrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

use super::undecodable::{BLOCKS_MAX, Undecodable, WINDOW_MAX};

const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// The descriptor's flags: a checksum follows the blocks; nothing that is defined; the whole content is the window, and its size is told.
const CHECKSUM: u8 = 1 << 2;
const RESERVED: u8 = 1 << 3;
const SINGLE_SEGMENT: u8 = 1 << 5;
/// How its size is told otherwise; 0 for not at all.
const SIZE: u8 = 3 << 6;

/// What a frame was made of.
pub fn decode(bytes: &[u8], most: usize) -> Result<Vec<u8>, Undecodable> {
    let after_magic = bytes.strip_prefix(&MAGIC);
    let is_cut = MAGIC.starts_with(bytes);
    let descriptor = after_magic.ok_or(if is_cut { Undecodable::Truncated } else { Undecodable::Malformed })?;
    let descriptor = *descriptor.first().ok_or(Undecodable::Truncated)?;
    if descriptor & RESERVED != 0 {
        return Err(Undecodable::Malformed);
    }
    let mut decoder = FrameDecoder::new();
    decoder.set_max_window_size(WINDOW_MAX);
    let mut rest = bytes;
    decoder.init(&mut rest).map_err(|error| refused(&error, descriptor))?;
    let said = (descriptor & (SINGLE_SEGMENT | SIZE) != 0).then(|| decoder.content_size());
    let is_too_long = |length: u64| usize::try_from(length).is_ok_and(|length| length <= most);
    if !said.is_none_or(is_too_long) {
        return Err(Undecodable::TooLong);
    }
    let end = walk(rest, descriptor & CHECKSUM != 0)?;
    let (mut rest, wrong) = match end {
        End::Here => (rest, Undecodable::Malformed),
        // What is made of too many is mostly too long by then.
        End::Blocks(some) => (some, Undecodable::Blocks),
    };
    let up_to = BlockDecodingStrategy::UptoBytes(most.saturating_add(1));
    let is_over = decoder.decode_blocks(&mut rest, up_to).map_err(|_| wrong)?;
    // What is longer stopped at the end of a block, or is longer by less than one.
    if !is_over || decoder.can_collect() > most {
        return Err(Undecodable::TooLong);
    }
    let out = decoder.collect().unwrap_or_default();
    let sum = decoder.get_checksum_from_data();
    let fits = said.is_none_or(|said| u64::try_from(out.len()) == Ok(said))
        && (sum.is_none() || sum == decoder.get_calculated_checksum());
    if fits { Ok(out) } else { Err(Undecodable::Corrupt) }
}

/// Why a frame is not begun.
fn refused(error: &FrameDecoderError, descriptor: u8) -> Undecodable {
    use FrameDecoderError as Error;
    match error {
        Error::DictNotProvided { .. } => Undecodable::Dictionary,
        // Its window is its content.
        Error::WindowSizeTooBig { .. } if descriptor & SINGLE_SEGMENT != 0 => Undecodable::TooLong,
        Error::WindowSizeTooBig { .. } | Error::FrameHeaderError(FrameHeaderError::WindowTooBig { .. }) => {
            Undecodable::Window
        }
        Error::ReadFrameHeaderError(_) => Undecodable::Truncated,
        _ => Undecodable::Malformed,
    }
}

/// Where the blocks end.
enum End<'a> {
    /// With what is here.
    Here,
    /// Not before these, which are as many as are decoded.
    Blocks(&'a [u8]),
}

/// Goes from block to block without a look at what is in them: whether they all are here, with nothing behind them, and how many they are.
fn walk(all: &[u8], has_checksum: bool) -> Result<End<'_>, Undecodable> {
    let mut rest = all;
    for _ in 0..BLOCKS_MAX {
        let (head, after) = rest.split_first_chunk::<3>().ok_or(Undecodable::Truncated)?;
        let [low, middle, high] = *head;
        let head = u32::from_le_bytes([low, middle, high, 0]);
        // A block that repeats one byte has only that, whatever it becomes.
        let size = if (head >> 1) & 3 == 1 { 1 } else { head >> 3 };
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        rest = after.get(size..).ok_or(Undecodable::Truncated)?;
        if head & 1 == 1 {
            let sum = if has_checksum { 4 } else { 0 };
            let after = rest.get(sum..).ok_or(Undecodable::Truncated)?;
            return if after.is_empty() { Ok(End::Here) } else { Err(Undecodable::Trailing) };
        }
    }
    Ok(End::Blocks(all.get(..all.len().saturating_sub(rest.len())).unwrap_or_default()))
}
