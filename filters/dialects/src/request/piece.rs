//! A string in the place of media: data, as a data URL (RFC 2397) or as it is; a name, which is a URL or an id; or a text after all.
//!
//! What it is shows at its beginning, of which as much is kept as that takes. Of data only the length is looked at further, unless it is a
//! text: that goes to the counter, decoded.

use crate::request::base64::{Decoder, bytes, is_base64, length_of};
use crate::request::classify::{self, Claim, is_strange, is_text};
use crate::request::media::Kind;
use crate::request::stretches::Stretches;
use crate::sink::PromptSink;

/// How much of the data is kept, in characters of base64: 72 bytes of it.
const START: usize = 96;
/// How much is kept of the data where there is something else between these: no line is as short as that. What has fewer is taken for a text.
const START_MAX: usize = 4 * START;
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
    Source(Claim),
}

impl Slot {
    /// What the place says.
    pub fn kind(self) -> Kind {
        match self {
            Self::Data(kind) | Self::Url(kind) => kind,
            Self::Source(Claim::A(Kind::Image)) => Kind::Image,
            Self::Result | Self::Source(_) => Kind::File,
        }
    }

    /// What the media type says, where there is one beside.
    fn claim(self) -> Claim {
        if let Self::Source(claim) = self { claim } else { Claim::None }
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
    /// A text that was in base64, which the counter has as what it is.
    Decoded,
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
    /// It is none at its beginning, and what comes is looked at.
    Strange(Stretches),
    /// These are in base64, and what follows behind that is a text.
    Vectors {
        is_text: bool,
    },
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
            State::Strange(stretches) => stretches.push(rest, sink),
            State::Vectors { is_text } => vectors(is_text, rest, sink),
            State::Open | State::Other => {}
        }
    }

    /// Nothing of it has come, or there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// It is complete.
    pub fn end(&mut self, slot: Slot, sink: &mut impl PromptSink) -> Found {
        if matches!(self.state, State::Open) {
            self.state = self.begin(slot, sink);
        }
        let Self { start, bytes, state } = core::mem::take(self);
        match state {
            State::Text => {
                sink.end();
                Found::Text
            }
            State::Encoded(_) => {
                sink.end();
                Found::Decoded
            }
            State::Strange(stretches) => {
                let texts = stretches.end(sink);
                match found(slot, &start, bytes) {
                    Found::Data { kind, start, bytes } => {
                        Found::Data { kind, start, bytes: bytes.saturating_sub(texts) }
                    }
                    found => found,
                }
            }
            State::Vectors { is_text } => {
                if is_text {
                    sink.end();
                }
                found(slot, &start, bytes)
            }
            State::Open | State::Other => found(slot, &start, bytes),
        }
    }

    /// Enough of it has come to know whether it is a text.
    fn begin(&self, slot: Slot, sink: &mut impl PromptSink) -> State {
        let form = Form::of(&self.start);
        if form.data.is_empty() || form.is_name(slot, self.bytes) {
            return State::Other;
        }
        if slot.kind() == Kind::Vectors {
            let mut is_text = false;
            vectors(&mut is_text, form.data, sink);
            return State::Vectors { is_text };
        }
        let is_word = slot == Slot::Result && self.bytes < DATA_MIN;
        if !form.is_encoded || form.media.is_none() && (is_word || !is_base64(form.head())) {
            sink.part(form.data);
            return State::Text;
        }
        let (claim, head) = (form.claim(slot), bytes(form.head()));
        let is_thin = form.data.len() >= START_MAX && form.length().is_none();
        if is_thin || is_text(claim, &head) {
            let mut decoder = Decoder::default();
            decoder.push(form.data, sink);
            return State::Encoded(decoder);
        }
        if is_strange(slot.kind(), claim, &head) {
            let mut stretches = Stretches::default();
            stretches.push(form.data, sink);
            return State::Strange(stretches);
        }
        State::Other
    }
}

/// Whether this much of a string shows what it is.
fn is_enough(start: &str) -> bool {
    let form = Form::of(start);
    form.data.len() >= START_MAX || form.length().is_some() || start.len() >= BEFORE_MAX
}

/// Vectors, as long as these are in base64.
fn vectors(is_text: &mut bool, part: &str, sink: &mut impl PromptSink) {
    let at = if *is_text { Some(0) } else { part.find(|c: char| !is_base64(c.encode_utf8(&mut [0; 4]))) };
    if let Some(text) = at.and_then(|at| part.get(at..)) {
        *is_text = true;
        sink.part(text);
    }
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
        let length = self.length().unwrap_or_else(|| self.data.floor_char_boundary(START_MAX));
        self.data.get(..length).unwrap_or(self.data)
    }

    /// How long the beginning is, where there is enough of it.
    fn length(&self) -> Option<usize> {
        length_of(START, self.data.get(..self.data.floor_char_boundary(START_MAX)).unwrap_or(self.data))
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
                Slot::Result | Slot::Source(_) => false,
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
            assert_eq!(read(Data(File), &text), (Found::Decoded, plain.clone()), "{text}");
        }
        for text in [
            format!("data:text/plain;base64,{hello}"),
            format!("data:Text/plain;x={};base64,{hello}", "x".repeat(130)),
            format!("{}data:image/png;base64,{hello}", " ".repeat(130)),
        ] {
            for slot in [Url(Image), Url(Video), Data(Audio), Url(File)] {
                assert_eq!(read(slot, &text), (Found::Decoded, plain.clone()), "{slot:?} {text}");
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

    #[test]
    fn what_stands_in_front_of_a_text_hides_nothing() {
        let text = "9 8 7 6 5 4 3 2 1 0 ".repeat(500);
        let odd = text.replace("5 4", "\u{1b}\u{1b}");
        for (front, text) in [("\u{1b}".repeat(7), &text), ("\0".repeat(300), &text), ("\u{1b}".repeat(9), &odd)] {
            let data = encoded(format!("{front}{text}").as_bytes());
            let (Found::Data { kind: File, bytes, .. }, read) = read(Data(File), &data) else { panic!("{front:?}") };
            assert!(read.len() + 72 >= text.len() && bytes < 500, "{front:?}: {} of text, {bytes} of none", read.len());
        }
        // What is none has none, and what is known is taken for what it is.
        let noise: Vec<u8> = (0..30_000u32).map(|n| (n.wrapping_mul(0x9e37_79b9) >> 24) as u8).collect();
        let known = [b"PK\x03\x04".as_slice(), &[0; 80], text.as_bytes()].concat();
        for bytes in [noise, known] {
            let (found, read) = read(Data(File), &encoded(&bytes));
            assert!(
                read.is_empty()
                    && matches!(found, Found::Data { kind: File, bytes: n, .. } if n as usize == bytes.len())
            );
        }
    }

    fn encoded(bytes: &[u8]) -> String {
        const TABLE: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let sextets = bytes.chunks(3).flat_map(|chunk| {
            let n = chunk.iter().fold(0, |n, byte| n << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
            (0..=chunk.len()).map(move |i| n >> (18 - 6 * i) & 63)
        });
        sextets.map(|bits| char::from(TABLE[bits as usize])).collect()
    }
}
