//! The source of a block in Anthropic's messages: an image, a document, or a text, sent as it is or by name.

use crate::json::lexer::Event;
use crate::json::path::Field::{self, Type};
use crate::request::base64::bytes;
use crate::request::classify::{self, Claim};
use crate::request::head::Head;
use crate::request::media::Kind;
use crate::request::piece::{Found, Piece, Slot};
use crate::sink::{PromptSink, text};

/// What is known of the current source.
#[derive(Default)]
pub struct Source {
    /// What the media type says, which may come behind the data.
    claim: Claim,
    form: Form,
    /// Bytes of data that did not go to the counter, as they were sent and decoded.
    bytes: u64,
    decoded: u64,
    /// How these begin.
    start: String,
    /// Bytes of base64 that went there as what they are, in case they are to be taken as they were sent.
    doubtful: u64,
    /// There were several of them, of which servers read the first or the last.
    is_repeated: bool,
    /// Bytes of the current data.
    current: u64,
    /// The media type, or the type.
    word: Head,
    piece: Piece,
}

/// What the source's type says of its data.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Form {
    #[default]
    Unknown,
    Base64,
    /// It is a text, whatever its media type is.
    Text,
}

/// What a source has in it besides what the counter has.
pub enum Content {
    Nothing,
    /// A text that could not be told from data, of so many bytes.
    Text(u64),
    /// Data of this kind: how its base64 begins, and how many bytes it has, decoded.
    Data(Kind, String, u64),
}

impl Source {
    /// Its data.
    pub fn data(&mut self, event: &Event<'_>, sink: &mut impl PromptSink) {
        if self.is_raw() {
            return if matches!(event, Event::Text(_) | Event::TextEnd) {
                text(event, sink)
            };
        }
        match event {
            Event::Text(part) => {
                self.current = self.current.saturating_add(part.len() as u64);
                self.piece.part(self.slot(), part, sink);
            }
            Event::TextEnd => {
                let length = core::mem::take(&mut self.current);
                match self.piece.end(self.slot(), sink) {
                    Found::Data { start, bytes, .. } => {
                        self.is_repeated |= self.bytes > 0;
                        self.bytes = self.bytes.saturating_add(length);
                        self.decoded = self.decoded.saturating_add(bytes);
                        self.start = start;
                    }
                    Found::Decoded => self.doubtful = self.doubtful.saturating_add(length),
                    Found::Text | Found::Name { .. } => {}
                }
            }
            _ => {}
        }
    }

    /// It is a text as it is.
    fn is_raw(&self) -> bool {
        self.form == Form::Text || self.form == Form::Unknown && self.claim == Claim::Text
    }

    fn slot(&self) -> Slot {
        Slot::Source(self.claim)
    }

    /// Its type, or its media type.
    pub fn word(&mut self, field: Field, event: &Event<'_>) {
        self.word.keep(event);
        if *event != Event::TextEnd {
            return;
        }
        let word = self.word.as_str().trim().to_ascii_lowercase();
        if field != Type {
            self.claim = Claim::of(&word);
            return;
        }
        self.form = match word.as_str() {
            "base64" => Form::Base64,
            "text" => Form::Text,
            _ => Form::Unknown,
        };
    }

    /// It is complete. What it was is only known now.
    pub fn end(&mut self) -> Content {
        let source = core::mem::take(self);
        let (claim, head) = (source.claim, bytes(&source.start));
        let length = source.bytes.saturating_add(if source.is_raw() { source.doubtful } else { 0 });
        if length == 0 {
            return Content::Nothing;
        }
        if source.is_raw() || source.is_repeated || claim == Claim::None || classify::is_text(claim, &head) {
            return Content::Text(length);
        }
        let kind = classify::kind(source.slot().kind(), claim, &head, source.decoded);
        Content::Data(kind, source.start, source.decoded)
    }
}
