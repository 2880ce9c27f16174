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
    /// The image's URL, its media type or its detail; then, where the data stands apart from its media type, both as in a URL.
    head: Head,
    /// The current source has a text, and is no image.
    is_text: bool,
}

impl Images {
    /// The next image begins.
    pub fn begin(&mut self) {
        if self.all.len() < IMAGES_MAX {
            self.all.push(Image::default());
        }
    }

    /// A field of the current image.
    pub fn field(&mut self, field: Field, event: &Event<'_>) {
        match (field, event) {
            // A media type came before the data.
            (Data, Event::Key(_)) if self.head.starts_with("data:") => {}
            (MediaType, Event::TextEnd) => self.head.wrap("data:", ";base64,"),
            (Detail, Event::TextEnd) => {
                let low = self.head.as_str() == "low";
                self.change(|image| image.low = low);
            }
            (Url | Data, Event::TextEnd) => {
                let size = size(self.head.as_str());
                self.change(|image| image.size = size);
            }
            _ => self.head.keep(event),
        }
    }

    /// The data of a source begins. By the media type before it that is a text, which is counted as one, or an image.
    pub fn begin_data(&mut self) {
        self.is_text = self.head.starts_with("data:text/");
        if self.is_text {
            self.all.pop();
        }
    }

    /// Whether the data of the current source is a text.
    pub fn is_text(&self) -> bool {
        self.is_text
    }

    fn change(&mut self, change: impl FnOnce(&mut Image)) {
        self.all.last_mut().map(change);
    }
}

/// The size that the beginning of a data URL states: in PNG at byte 16 (RFC 2083, section 11.2.1), in GIF at byte 6 (GIF89a,
/// section 18).
fn size(url: &str) -> Option<(u32, u32)> {
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
