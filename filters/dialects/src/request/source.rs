//! The source of a block in Anthropic's messages: an image, a document, or a text, sent as it is or by name.

use crate::json::lexer::Event;
use crate::json::path::Field::{self, Data, FileId, MediaType, Url};
use crate::request::draft::Draft;
use crate::request::prompt::text;
use crate::sink::PromptSink;

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

/// It begins.
pub fn begin(draft: &mut Draft) {
    draft.source = Source::default();
    draft.images.begin();
}

/// One of its fields. `false` where it is none that is known.
pub fn field(field: Field, event: &Event<'_>, draft: &mut Draft, sink: &mut impl PromptSink) -> bool {
    let source = &mut draft.source;
    match (field, event) {
        (Data, Event::Text(part)) => {
            source.is_text |= match source.media {
                Media::Text => true,
                Media::Unknown => !is_base64(part),
                Media::Image | Media::Document => false,
            };
            if source.is_text {
                text(event, sink);
            } else {
                source.bytes = source.bytes.saturating_add(part.len() as u64);
                draft.images.field(Data, event);
            }
        }
        (Data, Event::TextEnd) if source.is_text => text(event, sink),
        (MediaType, Event::TextEnd) => {
            draft.images.field(field, event);
            source.media = match draft.images.media_type() {
                media if media.starts_with("text/") => Media::Text,
                media if media.starts_with("image/") => Media::Image,
                _ => Media::Document,
            };
        }
        (Url | FileId, Event::Text(_)) => source.is_named = true,
        (Data | MediaType, _) => draft.images.field(field, event),
        (Url | FileId, _) => {}
        _ => return false,
    }
    true
}

/// It is complete. What it was is only known now.
pub fn end(draft: &mut Draft) {
    let Source { media, bytes, is_named, .. } = core::mem::take(&mut draft.source);
    match media {
        // Servers let a file be read by its name; what it is they know.
        Media::Image => draft.images.end(),
        _ if is_named => draft.images.end(),
        Media::Document if bytes > 0 => draft.media.document(bytes),
        _ => draft.media.text(bytes),
    }
}

/// Whether this can be data: a text has blanks sooner or later.
fn is_base64(part: &str) -> bool {
    let fits =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'-' | b'_' | b'=' | b'\r' | b'\n');
    part.bytes().all(fits)
}
