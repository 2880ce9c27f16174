//! The source of a block in Anthropic's messages: an image, a document, or a text, sent as it is or by name.

use crate::json::lexer::Event;
use crate::json::path::Field::{self, Data, FileId, MediaType, Url};
use crate::request::image::Images;
use crate::request::media::MediaReader;
use crate::sink::{PromptSink, text};

/// What is known of the current source.
#[derive(Default)]
pub struct Source {
    media: Media,
    /// Bytes of data that did not go to the counter.
    bytes: u64,
    /// The data has been found to be a text.
    is_text: bool,
    /// There is something at a URL, or in a file.
    is_named: bool,
}

/// What the media type says.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Media {
    /// It has not come, and may come behind the data.
    #[default]
    Unknown,
    Text,
    Image,
    Document,
}

impl Source {
    /// It begins.
    pub fn begin(&mut self, images: &mut Images) {
        *self = Self::default();
        images.begin();
    }

    /// One of its fields. `false` where it is none that is known.
    pub fn field(&mut self, field: Field, event: &Event<'_>, images: &mut Images, sink: &mut impl PromptSink) -> bool {
        match (field, event) {
            (Data, Event::Text(part)) => {
                self.is_text |= match self.media {
                    Media::Text => true,
                    Media::Unknown => !is_base64(part),
                    Media::Image | Media::Document => false,
                };
                if self.is_text {
                    text(event, sink);
                } else {
                    self.bytes = self.bytes.saturating_add(part.len() as u64);
                    images.field(Data, event);
                }
            }
            (Data, Event::TextEnd) if self.is_text => text(event, sink),
            (MediaType, Event::TextEnd) => {
                images.field(field, event);
                self.media = match images.media_type() {
                    media if media.starts_with("text/") => Media::Text,
                    media if media.starts_with("image/") => Media::Image,
                    _ => Media::Document,
                };
            }
            (Url | FileId, Event::Text(_)) => self.is_named = true,
            (Data | MediaType, _) => images.field(field, event),
            (Url | FileId, _) => {}
            _ => return false,
        }
        true
    }

    /// It is complete. What it was is only known now.
    pub fn end(&mut self, images: &mut Images, media: &mut MediaReader) {
        let known = core::mem::take(self);
        match known.media {
            // Servers let a file be read by its name; what it is they know.
            Media::Image => return images.end(),
            // Data beside a name is data all the same.
            Media::Document if known.bytes > 0 => media.document(known.bytes),
            _ => media.text(known.bytes),
        }
        if known.is_named {
            images.end();
        }
    }
}

/// Whether this can be data: a text has blanks sooner or later.
fn is_base64(part: &str) -> bool {
    let fits =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'-' | b'_' | b'=' | b'\r' | b'\n');
    part.bytes().all(fits)
}
