//! The images of a request, which cost by their size and are no text.

use crate::json::lexer::Event;
use crate::json::path::Field::{self, Data, Detail, MediaType, Url};
use crate::request::head::Head;

/// How many images of a request are looked at.
pub const IMAGES_MAX: usize = 256;

/// An image in a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Image {
    /// `detail` is `low`.
    pub low: bool,
    /// Width and height in pixels, where the image is in the request and says so at its beginning (PNG, GIF).
    pub size: Option<(u32, u32)>,
}

/// Reads the images of a request. Of what an image consists of only the beginning is kept.
#[derive(Default)]
pub struct Images {
    pub all: Vec<Image>,
    /// How many there are beyond those.
    pub beyond: u64,
    /// The current image has a URL.
    pub is_named: bool,
    current: Image,
    /// The image's URL, its media type or its detail; then, where the data stands apart from its media type, both as in a URL.
    head: Head,
}

impl Images {
    /// The next image begins.
    pub fn begin(&mut self) {
        self.is_named = false;
        self.current = Image::default();
        self.head = Head::default();
    }

    /// A field of the current image.
    pub fn field(&mut self, field: Field, event: &Event<'_>) {
        match (field, event) {
            // A media type came before the data.
            (Data, Event::Key(_)) if self.head.starts_with("data:") => {}
            (MediaType, Event::TextEnd) => self.head.wrap("data:", ";base64,"),
            (Detail, Event::TextEnd) => self.current.low = self.head.as_str() == "low",
            (Url | Data, Event::TextEnd) => self.current.size = size(self.head.as_str()),
            _ => self.head.keep(event),
        }
    }

    /// The media type that has just come.
    pub fn media_type(&self) -> &str {
        self.head.as_str().strip_prefix("data:").unwrap_or_default()
    }

    /// The current image is complete.
    pub fn end(&mut self) {
        if self.all.len() < IMAGES_MAX {
            self.all.push(self.current);
        } else {
            self.beyond = self.beyond.saturating_add(1);
        }
        self.begin();
    }
}

/// The size that the beginning of a data URL states: in PNG at byte 16 (RFC 2083, section 11.2.1), in GIF at byte 6 (GIF89a,
/// section 18). It is believed of what begins as such an image does, and has no side of nothing.
fn size(url: &str) -> Option<(u32, u32)> {
    let (media, data) = url.strip_prefix("data:")?.split_once(";base64,")?;
    let bytes = base64(data);
    let size = match media {
        "image/png" if bytes.starts_with(b"\x89PNG\r\n\x1a\n") => {
            let side = |at: usize| -> Option<u32> {
                Some(u32::from_be_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
            };
            (side(16)?, side(20)?)
        }
        "image/gif" if bytes.starts_with(b"GIF8") => {
            let side = |at: usize| -> Option<u32> {
                Some(u32::from(u16::from_le_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?)))
            };
            (side(6)?, side(8)?)
        }
        _ => return None,
    };
    (size.0 > 0 && size.1 > 0).then_some(size)
}

/// The bytes of as much base64 as there is (RFC 4648, section 4).
pub fn base64(text: &str) -> Vec<u8> {
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

#[cfg(test)]
mod tests {
    use super::size;

    #[test]
    fn a_size_is_believed_of_what_begins_as_an_image() {
        for (url, expected) in [
            ("data:image/gif;base64,R0lGODlhCgAUAAAA", Some((10, 20))),
            ("data:image/gif;base64,R0lGODlhAAAUAAAA", None),
            ("data:image/gif;base64,R0lGODlhCgAAAAAA", None),
            ("data:image/gif;base64,AAAAAAAACgAUAAAA", None),
            ("data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAoAAAAHg", Some((640, 480))),
            ("data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAAAAAHg", None),
            ("data:image/png;base64,AAAAAAAAAAAAAAANSUhEUgAAAAEAAAAB", None),
            ("data:image/png;base64,R0lGODlhCgAUAAAA", None),
            ("data:image/gif;base64,R0lG", None),
        ] {
            assert_eq!(size(url), expected, "{url}");
        }
    }
}
