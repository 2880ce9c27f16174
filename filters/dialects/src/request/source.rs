//! The source of a block in Anthropic's messages: an image, a document, or a text, sent as it is or by name.

use crate::json::lexer::Event;
use crate::json::path::Field::{self, Type};
use crate::request::base64::{Decoder, is_base64};
use crate::request::head::Head;
use crate::sink::{PromptSink, text};

/// What is known of the current source.
#[derive(Default)]
pub struct Source {
    media: Media,
    /// The data is in base64, as the source's type says.
    is_encoded: bool,
    /// Bytes of data that did not go to the counter.
    bytes: u64,
    /// How these begin.
    start: Head,
    /// The media type, or the type.
    word: Head,
    /// The data has been found to be a text.
    is_text: bool,
    decoder: Decoder,
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

/// What a source has in it besides what the counter has.
pub enum Content {
    Nothing,
    /// A text that could not be told from data, of so many bytes.
    Text(u64),
    /// An image or a document: how its base64 begins, and how many bytes it has, decoded.
    Image(String, u64),
    Document(String, u64),
}

impl Source {
    /// Its data.
    pub fn data(&mut self, event: &Event<'_>, sink: &mut impl PromptSink) {
        match event {
            Event::Text(part) => self.data_part(part, event, sink),
            Event::TextEnd if self.is_text => text(event, sink),
            _ => {}
        }
    }

    fn data_part(&mut self, part: &str, event: &Event<'_>, sink: &mut impl PromptSink) {
        self.is_text |= match self.media {
            Media::Text => true,
            Media::Unknown => !is_base64(part),
            Media::Image | Media::Document => false,
        };
        if !self.is_text {
            self.bytes = self.bytes.saturating_add(part.len() as u64);
            self.start.keep(event);
        } else if self.is_encoded {
            self.decoder.push(part, sink);
        } else {
            text(event, sink);
        }
    }

    /// Its type, or its media type.
    pub fn word(&mut self, field: Field, event: &Event<'_>) {
        self.word.keep(event);
        if *event != Event::TextEnd {
            return;
        }
        let word = self.word.as_str();
        if field == Type {
            self.is_encoded = word == "base64";
            return;
        }
        self.media = match word {
            media if media.starts_with("text/") => Media::Text,
            media if media.starts_with("image/") => Media::Image,
            _ => Media::Document,
        };
    }

    /// It is complete. What it was is only known now.
    pub fn end(&mut self) -> Content {
        let Self { media, bytes, start, .. } = core::mem::take(self);
        let (start, decoded) = (start.as_str().to_owned(), bytes.saturating_mul(3) / 4);
        match media {
            _ if bytes == 0 => Content::Nothing,
            Media::Image => Content::Image(start, decoded),
            Media::Document => Content::Document(start, decoded),
            Media::Unknown | Media::Text => Content::Text(bytes),
        }
    }
}
