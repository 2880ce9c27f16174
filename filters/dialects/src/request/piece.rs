//! A string in the place of media: data, as a data URL (RFC 2397) or as it is; a name, which is a URL or an id; or a text after all.
//!
//! What it is shows at its beginning, of which as much is kept as that takes. Of data only the length is looked at further, unless it is a
//! text: that goes to the counter, decoded.

use crate::request::base64::{Decoder, bytes, is_base64};
use crate::request::classify::{self, Claim, is_text};
use crate::request::media::Kind;
use crate::sink::PromptSink;

/// How much of the data is kept, in bytes of base64: 72 bytes of it.
const START: usize = 96;
/// How much is kept of what stands before it: no media type with its parameters is longer.
const BEFORE_MAX: usize = 4096;
/// The fewest bytes of base64 in the place of a URL; what is shorter is a name.
const DATA_MIN: u64 = 64;

/// What may stand in a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    /// Data of this kind, which some clients also name.
    Data(Kind),
    /// A URL of something of this kind, which may be the data itself.
    Url(Kind),
    /// The result of a call, which may be a word, or a document.
    Result,
    /// Data of which a media type says this, as far as it has come.
    Source {
        /// What it says.
        claim: Claim,
        /// It is known to be in base64.
        is_encoded: bool,
    },
}

impl Slot {
    /// What the place says.
    pub fn kind(self) -> Kind {
        match self {
            Self::Data(kind) | Self::Url(kind) => kind,
            Self::Source { claim: Claim::A(Kind::Image), .. } => Kind::Image,
            Self::Result | Self::Source { .. } => Kind::File,
        }
    }

    /// What the media type says, where there is one beside.
    fn claim(self) -> Claim {
        if let Self::Source { claim, .. } = self { claim } else { Claim::None }
    }
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
        while matches!(self.state, State::Open) {
            let (head, behind) = rest.split_at_checked(rest.floor_char_boundary(START)).unwrap_or((rest, ""));
            self.start.push_str(head);
            rest = behind;
            if is_enough(&self.start) {
                self.state = self.begin(slot, sink);
            } else if rest.is_empty() {
                return;
            }
        }
        match &mut self.state {
            _ if rest.is_empty() => {}
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

    /// Enough of it has come to know whether it is a text.
    fn begin(&self, slot: Slot, sink: &mut impl PromptSink) -> State {
        let form = Form::of(&self.start);
        if form.data.is_empty() || slot.kind() == Kind::Vectors || form.is_name(slot, self.bytes) {
            return State::Other;
        }
        let is_word = slot == Slot::Result && self.bytes < DATA_MIN;
        if !form.is_encoded || form.media.is_none() && (is_word || !is_base64(form.head())) {
            sink.part(form.data);
            return State::Text;
        }
        let may_be_raw = matches!(slot, Slot::Source { is_encoded: false, .. });
        if !may_be_raw && is_text(form.claim(slot), &bytes(form.head())) {
            let mut decoder = Decoder::default();
            decoder.push(form.data, sink);
            return State::Encoded(decoder);
        }
        State::Other
    }
}

/// Whether this much of a string shows what it is.
fn is_enough(start: &str) -> bool {
    let form = Form::of(start);
    form.data.len() >= START || start.len() >= BEFORE_MAX
}

fn is_data(text: &str) -> bool {
    text.get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case("data:"))
}

/// What a string that is no text is, of so many bytes.
fn found(slot: Slot, start: &str, length: u64) -> Found {
    let form = Form::of(start);
    if form.is_name(slot, length) {
        return Found::Name { kind: slot.kind(), bytes: length };
    }
    let data = length.saturating_sub(start.len().saturating_sub(form.data.len()) as u64);
    let decoded = if form.is_encoded { data.saturating_mul(3) / 4 } else { data };
    let kind = classify::kind(slot.kind(), form.claim(slot), &bytes(form.head()), decoded);
    Found::Data { kind, start: form.head().to_owned(), bytes: decoded }
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
        let data = start.trim_start();
        let none = Self { media: None, is_encoded: true, data };
        let Some(url) = data.get(5..).filter(|_| is_data(data)) else { return none };
        let Some((media, data)) = url.split_once(',') else {
            // What has no data in it is taken for a text where it is too long for a media type.
            return if start.len() < BEFORE_MAX { Self { media: Some(url), data: "", ..none } } else { none };
        };
        let is_encoded = media.rsplit_once(';').is_some_and(|(_, end)| end.trim().eq_ignore_ascii_case("base64"));
        Self { media: Some(media), is_encoded, data }
    }

    /// The beginning of the data, however much of it is there.
    fn head(&self) -> &'a str {
        self.data.get(..self.data.floor_char_boundary(START)).unwrap_or(self.data)
    }

    fn claim(&self, slot: Slot) -> Claim {
        self.media.map_or(slot.claim(), Claim::of)
    }

    /// Whether it is a name: base64 has no colon, and every URL has one.
    fn is_name(&self, slot: Slot, length: u64) -> bool {
        let head = self.head();
        let is_path = || head.starts_with('/') && !head.starts_with("/9j/");
        let is_bare = || length < DATA_MIN || is_path() || !is_base64(head);
        self.media.is_none()
            && !is_data(head)
            && match slot {
                Slot::Data(_) => head.contains(':'),
                Slot::Url(_) => head.contains(':') || length > 0 && is_bare(),
                Slot::Result | Slot::Source { .. } => false,
            }
    }
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
            (Url(Audio), format!("DATA:video/mp4;BASE64,{zeros}"), Video),
            (Url(Audio), format!(" Data:Video/mp4; Base64,{zeros}"), Video),
            // So little of a film costs less than an image.
            (Url(Video), format!("data:image/png;base64,{zeros}"), Image),
            (Data(Audio), format!("data:x/y;name={};base64,{zeros}", "x".repeat(3_000)), File),
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
        for text in [
            format!("data:text/plain;base64,{hello}"),
            format!("data:Text/plain;x={};base64,{hello}", "x".repeat(130)),
            format!("{}data:image/png;base64,{hello}", " ".repeat(130)),
        ] {
            for slot in [Url(Image), Url(Video), Data(Audio), Url(File)] {
                assert_eq!(read(slot, &text), (Found::Text, plain.clone()), "{slot:?} {text}");
            }
        }
        let raw = "as it is, ".repeat(50);
        let long = format!("data:text/plain;x={},{raw}", "x".repeat(130));
        assert_eq!(read(Data(File), &long), (Found::Text, format!("{raw}|")));
        let endless = format!("data:{}", raw.repeat(20).replace(',', ""));
        assert_eq!(read(Url(Image), &endless), (Found::Text, format!("{endless}|")));
        assert!(matches!(read(Url(Image), "data:image/png").0, Found::Data { kind: Image, .. }));
        assert_eq!(read(Data(File), "data:,a%20b"), (Found::Text, "a%20b|".to_owned()));
        assert_eq!(read(Data(File), "as it is, not encoded"), (Found::Text, "as it is, not encoded|".to_owned()));
        for word in ["ok", "error: none", "see https://x/a", "0123abcd"] {
            assert_eq!(read(Slot::Result, word), (Found::Text, format!("{word}|")));
        }
        assert!(matches!(read(Slot::Result, &"A".repeat(400)).0, Found::Data { kind: File, .. }));
        for binary in ["JVBERi0xLjcK", "UEsDBBQABgAI", "AAAA"] {
            assert!(matches!(read(Data(File), &binary.repeat(30)).0, Found::Data { kind: File, .. }), "{binary}");
        }
    }
}
