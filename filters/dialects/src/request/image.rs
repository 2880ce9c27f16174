//! The images of a request, which cost by their size and are no text.

use crate::request::base64::bytes;

/// How many images of a request are looked at.
pub const IMAGES_MAX: usize = 256;

/// An image in a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Image {
    /// `detail` is `low`.
    pub low: bool,
    /// Width and height in pixels, where the image is in the request and says so at its beginning (PNG, GIF).
    pub size: Option<(u32, u32)>,
    /// How many bytes of it are in the request; `None` where it only names the image.
    pub bytes: Option<u64>,
}

/// The images of a request.
#[derive(Default)]
pub struct Images {
    pub all: Vec<Image>,
    /// How many there are beyond those.
    pub beyond: u64,
}

impl Images {
    /// One more. Where it stands, if it is looked at.
    pub fn add(&mut self, image: Image) -> Option<usize> {
        let at = self.all.len();
        if at < IMAGES_MAX {
            self.all.push(image);
            return Some(at);
        }
        self.beyond = self.beyond.saturating_add(1);
        None
    }
}

/// The most bytes that a pixel has: four channels of 16 bits, not compressed.
const PIXEL_MAX: u64 = 8;
/// Bytes that an image may have besides: profiles of colours, and what a camera tells of it.
const BESIDE_MAX: u64 = 256 << 10;

/// The size that the beginning of an image states, in base64: in PNG at byte 16 (RFC 2083, section 11.2.1), in GIF at byte 6 (GIF89a,
/// section 18). It is believed of what begins as such an image does, whatever its media type says, has no side of nothing, and has no more bytes
/// than such an image can have.
pub fn size(start: &str, length: u64) -> Option<(u32, u32)> {
    let bytes = bytes(start);
    let size = if bytes.starts_with(b"\x89PNG\r\n\x1a\n") && bytes.get(12..16) == Some(b"IHDR") {
        let side = |at: usize| -> Option<u32> {
            Some(u32::from_be_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
        };
        (side(16)?, side(20)?)
    } else if bytes.starts_with(b"GIF87a") || bytes.starts_with(b"GIF89a") {
        let side = |at: usize| -> Option<u32> {
            Some(u32::from(u16::from_le_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?)))
        };
        (side(6)?, side(8)?)
    } else {
        return None;
    };
    let most = u64::from(size.0).saturating_mul(size.1.into()).saturating_mul(PIXEL_MAX).saturating_add(BESIDE_MAX);
    (size.0 > 0 && size.1 > 0 && length <= most).then_some(size)
}

/// Whether these bytes begin an image: PNG, GIF, JPEG or WebP.
pub fn is_image(bytes: &[u8]) -> bool {
    let is_webp = bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"WEBP");
    is_webp || [b"\x89PNG".as_slice(), b"GIF8", b"\xff\xd8\xff"].iter().any(|start| bytes.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::size;

    #[test]
    fn a_size_is_believed_of_what_begins_as_an_image() {
        for (start, expected) in [
            ("R0lGODlhCgAUAAAA", Some((10, 20))),
            ("R0lGODlhAAAUAAAA", None),
            ("R0lGODlhCgAAAAAA", None),
            ("AAAAAAAACgAUAAAA", None),
            ("iVBORw0KGgoAAAANSUhEUgAAAoAAAAHg", Some((640, 480))),
            ("iVBORw0KGgoAAAANSUhEUgAAAAAAAAHg", None),
            ("AAAAAAAAAAAAAAANSUhEUgAAAAEAAAAB", None),
            ("R0lG", None),
            ("R0lGODFhCgAUAAAA", None),
            // Another chunk than that of the size.
            ("iVBORw0KGgoAAAANdEVYdAAAAoAAAAHg", None),
        ] {
            assert_eq!(size(start, 100_000), expected, "{start}");
        }
        assert_eq!(size("R0lGODlhCgAUAAAA", 1_500_000), None);
        assert_eq!(size("iVBORw0KGgoAAAANSUhEUgAAAoAAAAHg", 2_000_000), Some((640, 480)));
    }
}
