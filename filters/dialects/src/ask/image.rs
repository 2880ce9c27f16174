//! What a request tells about its images, which cost by their size and are no text.

/// An image in a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Image {
    /// `detail` is `low`.
    pub low: bool,
    /// Width and height in pixels, where the image is in the request and says so at its beginning (PNG, GIF).
    pub size: Option<(u32, u32)>,
}

/// How much of an image's URL is kept: enough for the media type and the first 24 bytes of the image.
pub(super) const HEAD_MAX: usize = 96;

/// The size that the beginning of a data URL tells: in PNG at byte 16 (RFC 2083, section 11.2.1), in GIF at byte 6 (GIF89a,
/// section 18).
pub(super) fn size(url: &str) -> Option<(u32, u32)> {
    let (media, data) = url.strip_prefix("data:")?.split_once(";base64,")?;
    let bytes = base64(data);
    match media {
        "image/png" => {
            let side = |at: usize| -> Option<u32> {
                Some(u32::from_be_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
            };
            Some((side(16)?, side(20)?))
        }
        "image/gif" => {
            let side = |at: usize| -> Option<u32> {
                Some(u32::from(u16::from_le_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?)))
            };
            Some((side(6)?, side(8)?))
        }
        _ => None,
    }
}

/// The bytes of as much base64 as there is (RFC 4648, section 4).
fn base64(text: &str) -> Vec<u8> {
    let (mut out, mut bits, mut n) = (Vec::new(), 0u32, 0u32);
    for byte in text.bytes() {
        let value = match byte {
            b'A'..=b'Z' => byte.wrapping_sub(b'A'),
            b'a'..=b'z' => byte.wrapping_sub(b'a').wrapping_add(26),
            b'0'..=b'9' => byte.wrapping_sub(b'0').wrapping_add(52),
            b'+' => 62,
            b'/' => 63,
            _ => break,
        };
        bits = (bits << 6) | u32::from(value);
        n = n.wrapping_add(6);
        if n >= 8 {
            n = n.wrapping_sub(8);
            out.push((bits >> n) as u8);
            bits &= !(u32::MAX << n);
        }
    }
    out
}
