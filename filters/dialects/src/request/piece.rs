//! A string in the place of media: data, as a data URL (RFC 2397) or as it is; a name, which is a URL or an id; or a text after all.
//!
//! What it is shows at its beginning, of which as much is kept as that takes. Of data only the length is looked at further, unless it is a
//! text: that goes to the counter, decoded.

use crate::request::base64::{Decoder, bytes, is_base64};
use crate::request::image::is_image;
use crate::request::media::Kind;
use crate::sink::PromptSink;

/// How much is kept, in bytes: enough for a media type and the first 36 bytes of the data.
const START: usize = 128;
/// The fewest bytes of base64 in the place of a URL; what is shorter is a name.
const DATA_MIN: u64 = 64;

/// What may stand in a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    /// Data of this kind, which some clients also name.
    Data(Kind),
    /// A URL of something of this kind, which may be the data itself.
    Url(Kind),
}

/// What stood there.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    /// Data.
    Data {
        /// What it is.
        kind: Kind,
        /// How it begins, in base64.
        start: String,
        /// How many bytes it has, decoded.
        bytes: u64,
    },
    /// A name of so many bytes.
    Name {
        /// What it is the name of.
        kind: Kind,
        /// Its length.
        bytes: u64,
    },
    /// A text, which the counter has.
    Text,
}

/// Reads one string after the other.
#[derive(Default)]
pub struct Piece {
    start: String,
    bytes: u64,
    state: State,
}

#[derive(Default)]
enum State {
    /// Too little of it has come.
    #[default]
    Open,
    /// It is no text.
    Other,
    Text,
    Encoded(Decoder),
}

impl Piece {
    /// What comes of it.
    pub fn part(&mut self, slot: Slot, part: &str, sink: &mut impl PromptSink) {
        self.bytes = self.bytes.saturating_add(part.len() as u64);
        let mut rest = part;
        if matches!(self.state, State::Open) {
            let (head, behind) = part
                .split_at_checked(part.floor_char_boundary(START.saturating_sub(self.start.len())))
                .unwrap_or((part, ""));
            self.start.push_str(head);
            if behind.is_empty() {
                return;
            }
            self.state = self.begin(slot, sink);
            rest = behind;
        }
        match &mut self.state {
            State::Text => sink.part(rest),
            State::Encoded(decoder) => decoder.push(rest, sink),
            State::Open | State::Other => {}
        }
    }

    /// It is complete.
    pub fn end(&mut self, slot: Slot, sink: &mut impl PromptSink) -> Found {
        if matches!(self.state, State::Open) {
            self.state = self.begin(slot, sink);
        }
        let Self { start, bytes, state } = core::mem::take(self);
        match state {
            State::Text | State::Encoded(_) => {
                sink.end();
                Found::Text
            }
            State::Open | State::Other => found(slot, &start, bytes),
        }
    }

    /// Enough of it has come to know whether it is a text, which can only be in the place of a document.
    fn begin(&self, slot: Slot, sink: &mut impl PromptSink) -> State {
        let (Slot::Data(Kind::File) | Slot::Url(Kind::File)) = slot else { return State::Other };
        let form = Form::of(&self.start);
        let is_bare = form.media.is_none() && !form.is_name(slot, self.bytes);
        if form.media.is_some_and(|_| !form.is_encoded) || is_bare && !is_base64(form.data) {
            sink.part(form.data);
            return State::Text;
        }
        if (form.media.is_some() || is_bare) && is_text(&bytes(form.data)) {
            let mut decoder = Decoder::default();
            decoder.push(form.data, sink);
            return State::Encoded(decoder);
        }
        State::Other
    }
}

/// What a string that is no text is, of so many bytes.
fn found(slot: Slot, start: &str, length: u64) -> Found {
    let form = Form::of(start);
    let (Slot::Data(kind) | Slot::Url(kind)) = slot;
    if form.is_name(slot, length) {
        return Found::Name { kind, bytes: length };
    }
    let head = bytes(form.data);
    let is = |class: &str| form.media.is_some_and(|media| media.starts_with(class));
    // Servers go by the media type, or look into the data. Nothing becomes cheaper for being called something else.
    let kind = match kind {
        Kind::Image if is("audio/") => Kind::Audio,
        Kind::Image if is("video/") => Kind::Video,
        Kind::Image if is("application/") || head.starts_with(b"%PDF") => Kind::File,
        Kind::File if is_image(&head) => Kind::Image,
        kind => kind,
    };
    let data = length.saturating_sub(start.len().saturating_sub(form.data.len()) as u64);
    let bytes = if form.media.is_some() && !form.is_encoded { data } else { data.saturating_mul(3) / 4 };
    Found::Data { kind, start: form.data.to_owned(), bytes }
}

/// What the beginning of a string shows.
struct Form<'a> {
    /// The media type of a data URL.
    media: Option<&'a str>,
    /// Its data is in base64.
    is_encoded: bool,
    /// The data, or all of what is no data URL.
    data: &'a str,
}

impl<'a> Form<'a> {
    fn of(start: &'a str) -> Self {
        let none = Self { media: None, is_encoded: true, data: start };
        let Some((scheme, url)) = start.split_once(':').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("data"))
        else {
            return none;
        };
        let _ = scheme;
        match url.split_once(',') {
            Some((media, data)) => {
                let is_encoded = media.len() >= 7
                    && media
                        .get(media.len().saturating_sub(7)..)
                        .is_some_and(|end| end.eq_ignore_ascii_case(";base64"));
                Self { media: Some(media), is_encoded, data }
            }
            // Its media type is longer than is kept.
            None => Self { media: Some(url), is_encoded: true, data: "" },
        }
    }

    /// Whether it is a name: base64 has no colon, and every URL has one.
    fn is_name(&self, slot: Slot, length: u64) -> bool {
        let is_path = || self.data.starts_with('/') && !self.data.starts_with("/9j/");
        let is_bare = || length < DATA_MIN || is_path() || !is_base64(self.data);
        self.media.is_none() && (self.data.contains(':') || matches!(slot, Slot::Url(_)) && length > 0 && is_bare())
    }
}

/// Whether these bytes begin a text: UTF-8 without control characters, and no PDF.
fn is_text(bytes: &[u8]) -> bool {
    let text = match core::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) if error.error_len().is_none() => {
            bytes.get(..error.valid_up_to()).and_then(|bytes| core::str::from_utf8(bytes).ok()).unwrap_or_default()
        }
        Err(_) => return false,
    };
    let is_plain = |c: char| !c.is_control() || matches!(c, '\t' | '\n' | '\r' | '\u{c}');
    !text.is_empty() && text.chars().all(is_plain) && !text.contains("%PDF")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::media::Kind::{Audio, File, Image, Video};
    use Slot::{Data, Url};

    #[derive(Default)]
    struct Sink(String);

    impl PromptSink for Sink {
        fn part(&mut self, text: &str) {
            self.0.push_str(text);
        }
        fn end(&mut self) {
            self.0.push('|');
        }
    }

    /// What a string is, in pieces of any length, and the text that it has.
    fn read(slot: Slot, text: &str) -> (Found, String) {
        let of = |n: usize| {
            let (mut piece, mut sink) = (Piece::default(), Sink::default());
            for part in text.as_bytes().chunks(n) {
                piece.part(slot, core::str::from_utf8(part).unwrap(), &mut sink);
            }
            (piece.end(slot, &mut sink), sink.0)
        };
        let out = of(7);
        assert!([1, 130, 1 << 20].iter().all(|n| of(*n) == out), "{text}");
        out
    }

    #[test]
    fn a_string_is_what_its_beginning_shows() {
        let zeros = "A".repeat(400);
        let name = |kind, text: &str| Found::Name { kind, bytes: text.len() as u64 };
        for (slot, text, kind) in [
            (Data(File), zeros.clone(), File),
            (Url(Image), zeros.clone(), Image),
            (Data(File), format!("data:application/pdf;base64,{zeros}"), File),
            (Url(Image), format!("data:application/pdf;base64,{zeros}"), File),
            (Url(Image), format!("data:image/png;base64,{zeros}"), Image),
            (Url(Image), format!("DATA:video/mp4;BASE64,{zeros}"), Video),
            // A film is no image for being called one, and a sound no document.
            (Url(Video), format!("data:image/png;base64,{zeros}"), Video),
            (Data(Audio), format!("data:text/plain;base64,{zeros}"), Audio),
        ] {
            let (Found::Data { kind: found, bytes, .. }, _) = read(slot, &text) else { panic!("{text}") };
            assert_eq!((found, bytes), (kind, 300), "{slot:?} {text}");
        }
        let jpeg = format!("/9j/{zeros}");
        assert!(matches!(read(Data(File), &jpeg).0, Found::Data { kind: Image, .. }));
        assert!(matches!(read(Url(Image), &jpeg).0, Found::Data { kind: Image, .. }));
        for (slot, text) in [
            (Url(Video), "https://example.com/a.mp4"),
            (Data(Video), "https://example.com/a.mp4"),
            (Url(Video), "//////////////////////////////////////////////////////////////////////a/b"),
            (Url(Video), "file-1"),
        ] {
            assert_eq!(read(slot, text).0, name(Video, text), "{text}");
        }
        assert!(matches!(read(Url(Audio), "").0, Found::Data { bytes: 0, .. }));
    }

    #[test]
    fn a_document_that_is_a_text_is_read() {
        let hello = "SGVsbG8sIHdvcmxk".repeat(50);
        let plain = "Hello, world".repeat(50) + "|";
        for text in
            [hello.clone(), format!("data:text/csv;base64,{hello}"), format!("data:application/pdf;base64,{hello}")]
        {
            assert_eq!(read(Data(File), &text), (Found::Text, plain.clone()), "{text}");
        }
        assert_eq!(read(Data(File), "data:,a%20b"), (Found::Text, "a%20b|".to_owned()));
        assert_eq!(read(Data(File), "as it is, not encoded"), (Found::Text, "as it is, not encoded|".to_owned()));
        for binary in ["JVBERi0xLjcK", "UEsDBBQABgAI", "AAAA"] {
            assert!(matches!(read(Data(File), &binary.repeat(30)).0, Found::Data { kind: File, .. }), "{binary}");
        }
    }
}
