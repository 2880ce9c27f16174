//! What a request asks: the model, the texts that cost tokens, the output ceiling, streaming.

use core::ops::Range;

use crate::json::{Event, Fault, Lexer, Unreadable, Visitor};
use crate::path::Field::{
    Arguments, Content, Function, ImageUrl, IncludeUsage, MaxCompletionTokens, MaxTokens, Messages, Model, N, Name,
    Role, Stream, StreamOptions as StreamOptionsKey, Text, ToolCalls, Tools,
};
use crate::path::Step::{Item, Key};
use crate::path::{Field, Path};
use crate::splice::quoted;
use crate::{Dialect, Sink, Splice};

/// The longest model name that is read, in bytes.
pub const MODEL_BYTES_MAX: usize = 256;
/// How often one field may be repeated in a body. Every occurrence has to be rewritten, so they are remembered.
pub const REPEATS_MAX: usize = 16;

/// What was asked. Where a key is repeated the last one counts, as it does for Python, Go and JavaScript servers;
/// the places of all of them are kept, so that an edit leaves no two readings.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Asked {
    /// `model`, unescaped.
    pub model: Option<String>,
    /// Where its values stand, quotes included.
    pub model_spans: Vec<Range<usize>>,
    /// `stream`
    pub stream: bool,
    /// `stream_options.include_usage`
    pub include_usage: bool,
    /// The smallest of `max_tokens` and `max_completion_tokens`.
    pub max_output: Option<u64>,
    /// Where their values stand, and what they are; null is `None`.
    pub max_output_spans: Vec<(Range<usize>, Option<u64>)>,
    /// Where `stream_options` stands.
    pub stream_options: Vec<StreamOptions>,
    /// Where `include_usage` has a value.
    pub include_usage_spans: Vec<Range<usize>>,
    /// Where a member can be inserted: behind the body's opening brace.
    pub inside: usize,
    /// `n`, at least 1.
    pub choices: u64,
    /// How many messages there are.
    pub messages: u64,
    /// How many of them carry a `name`.
    pub names: u64,
    /// Where the definitions of `tools` stand, brackets included.
    pub tools: Option<Range<usize>>,
    /// The images of the messages, at most [`IMAGES_MAX`].
    pub images: Vec<Image>,
}

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

/// One occurrence of `stream_options`.
#[derive(Clone, Debug, PartialEq)]
pub enum StreamOptions {
    /// It is null, here.
    Null(Range<usize>),
    /// It is an object.
    Object {
        /// Where a member can be inserted: behind its opening brace.
        inside: usize,
        /// It has no members.
        empty: bool,
        /// It says whether to include usage.
        tells: bool,
    },
}

impl Asked {
    /// Names another model, wherever the model is named.
    pub fn with_model(&self, model: &str) -> Vec<Splice> {
        self.model_spans.iter().map(|at| Splice { at: at.clone(), with: quoted(model) }).collect()
    }

    /// Lowers the output ceiling to `max`, or sets it where there is none. Empty where it is low enough.
    pub fn with_ceiling(&self, max: u64) -> Vec<Splice> {
        let high = self.max_output_spans.iter().filter(|(_, value)| value.is_none_or(|value| value > max));
        let lowered = high.map(|(at, _)| Splice { at: at.clone(), with: max.to_string().into_bytes() });
        let absent = self.max_output_spans.is_empty().then(|| self.insert(self.inside, "max_tokens", &max.to_string()));
        lowered.chain(absent).collect()
    }

    /// Asks for usage at the end of the stream.
    pub fn with_usage(&self) -> Vec<Splice> {
        const ASK: &str = "{\"include_usage\":true}";
        let told = self.include_usage_spans.iter().map(|at| Splice { at: at.clone(), with: b"true".to_vec() });
        let untold = self.stream_options.iter().filter_map(|options| match options {
            StreamOptions::Null(at) => Some(Splice { at: at.clone(), with: ASK.as_bytes().to_vec() }),
            StreamOptions::Object { tells: true, .. } => None,
            StreamOptions::Object { inside, empty: true, .. } => {
                Some(Splice { at: *inside..*inside, with: b"\"include_usage\":true".to_vec() })
            }
            StreamOptions::Object { inside, .. } => Some(self.insert(*inside, "include_usage", "true")),
        });
        let absent = self.stream_options.is_empty().then(|| self.insert(self.inside, "stream_options", ASK));
        told.chain(untold).chain(absent).collect()
    }

    /// A member in front of others.
    fn insert(&self, at: usize, key: &str, value: &str) -> Splice {
        Splice { at: at..at, with: format!("\"{key}\":{value},").into_bytes() }
    }
}

/// Reads a request body as it arrives.
pub struct Ask {
    lexer: Lexer,
    reader: Reader,
}

impl Ask {
    /// A reader for one request in `dialect`.
    pub fn new(_dialect: Dialect) -> Self {
        Self { lexer: Lexer::default(), reader: Reader::default() }
    }

    /// Reads the next piece of the body; its texts go to `sink`.
    ///
    /// # Errors
    /// What makes the body unreadable. The reader must not be fed again after that.
    pub fn push(&mut self, bytes: &[u8], sink: &mut impl Sink) -> Result<(), Unreadable> {
        let mut visit = Visit { reader: &mut self.reader, sink };
        self.lexer.push(bytes, &mut visit)?;
        self.reader.fault.map_or(Ok(()), Err)
    }

    /// The body is complete.
    ///
    /// # Errors
    /// What makes the body unreadable.
    pub fn finish(mut self, sink: &mut impl Sink) -> Result<Asked, Unreadable> {
        let mut visit = Visit { reader: &mut self.reader, sink };
        self.lexer.finish(&mut visit)?;
        match self.reader.fault {
            Some(fault) => Err(fault),
            None => Ok(self.reader.into_asked()),
        }
    }
}

#[derive(Default)]
struct Reader {
    path: Path,
    asked: Asked,
    model: String,
    max_tokens: Option<u64>,
    max_completion_tokens: Option<u64>,
    /// The beginning of an image's URL, or its detail.
    head: String,
    fault: Option<Unreadable>,
}

struct Visit<'a, S> {
    reader: &'a mut Reader,
    sink: &'a mut S,
}

impl<S: Sink> Visitor for Visit<'_, S> {
    fn event(&mut self, event: Event<'_>, span: Range<usize>) {
        self.reader.path.follow(&event);
        self.reader.read(&event, span, self.sink);
        self.reader.path.enter(&event);
    }
}

impl Reader {
    fn read(&mut self, event: &Event<'_>, span: Range<usize>, sink: &mut impl Sink) {
        match (self.path.steps(), event) {
            ([], Event::Object) => self.asked.inside = span.end,
            ([], Event::Close) => {}
            ([], _) => self.mistyped("the body must be a JSON object", span),

            ([Key(Model)], Event::Text(part)) => {
                if self.model.len().saturating_add(part.len()) > MODEL_BYTES_MAX {
                    self.mistyped("model must be a string of at most 256 bytes", span);
                } else {
                    self.model.push_str(part);
                }
            }
            ([Key(Model)], Event::TextEnd) => {
                self.asked.model = Some(core::mem::take(&mut self.model));
                let spans = &mut self.asked.model_spans;
                if !remember(spans, span.clone()) {
                    self.mistyped("model is given too often", span);
                }
            }
            ([Key(Model)], Event::Key(_) | Event::Close) => {}
            ([Key(Model)], _) => self.mistyped("model must be a string", span),

            ([Key(Stream)], event) => match event {
                Event::Bool(value) => self.asked.stream = *value,
                Event::Null => self.asked.stream = false,
                Event::Key(_) => {}
                _ => self.mistyped("stream must be true or false", span),
            },
            ([Key(StreamOptionsKey)], event) => {
                let options = match event {
                    Event::Key(_) | Event::Close => {
                        self.asked.include_usage &= *event == Event::Close;
                        return;
                    }
                    Event::Object => StreamOptions::Object { inside: span.end, empty: true, tells: false },
                    Event::Null => StreamOptions::Null(span.clone()),
                    _ => return self.mistyped("stream_options must be an object", span),
                };
                if !remember(&mut self.asked.stream_options, options) {
                    self.mistyped("stream_options is given too often", span);
                }
            }
            ([Key(StreamOptionsKey), Key(name)], Event::Key(_)) => {
                if let Some(StreamOptions::Object { empty, tells, .. }) = self.asked.stream_options.last_mut() {
                    *empty = false;
                    *tells |= *name == IncludeUsage;
                }
            }
            ([Key(StreamOptionsKey), Key(IncludeUsage)], event) => match event {
                Event::Bool(_) | Event::Null => {
                    self.asked.include_usage = *event == Event::Bool(true);
                    if !remember(&mut self.asked.include_usage_spans, span.clone()) {
                        self.mistyped("include_usage is given too often", span);
                    }
                }
                _ => self.mistyped("include_usage must be true or false", span),
            },

            ([Key(MaxTokens)], event) => {
                if let Some(value) = self.number(event, span, "max_tokens must be a whole number") {
                    self.max_tokens = value;
                }
            }
            ([Key(MaxCompletionTokens)], event) => {
                if let Some(value) = self.number(event, span, "max_completion_tokens must be a whole number") {
                    self.max_completion_tokens = value;
                }
            }
            ([Key(N)], Event::Number(word)) => {
                self.asked.choices = whole(word).unwrap_or(1);
            }

            ([Key(Tools)], Event::Array) => self.asked.tools = Some(span),
            ([Key(Tools)], Event::Close) => {
                if let Some(tools) = &mut self.asked.tools {
                    tools.end = span.end;
                }
            }
            ([Key(Tools)], Event::Key(_)) => self.asked.tools = None,

            ([Key(Messages)], Event::Key(_)) => {
                self.asked.images.clear();
                self.asked.messages = 0;
                self.asked.names = 0;
                sink.restart();
            }
            ([Key(Messages)], Event::Array | Event::Close) => {}
            ([Key(Messages)], _) => self.mistyped("messages must be an array", span),
            ([Key(Messages), Item], Event::Object) => {
                self.asked.messages = self.asked.messages.saturating_add(1);
            }
            ([Key(Messages), Item], Event::Close) => {}
            ([Key(Messages), Item], _) => self.mistyped("messages must be objects", span),
            ([Key(Messages), Item, Key(Name)], Event::TextEnd) => {
                self.asked.names = self.asked.names.saturating_add(1);
                sink.end();
            }
            ([Key(Messages), Item, Key(Content), Item, Key(ImageUrl)], Event::Object)
                if self.asked.images.len() < IMAGES_MAX =>
            {
                self.asked.images.push(Image::default());
            }
            ([Key(Messages), Item, Key(Content), Item, Key(ImageUrl), Key(field)], event) => {
                self.image(*field, event);
            }
            (
                [Key(Messages), Item, Key(Role | Content | Name)]
                | [Key(Messages), Item, Key(Content), Item, Key(Text)]
                | [Key(Messages), Item, Key(ToolCalls), Item, Key(Function), Key(Name | Arguments)],
                event,
            ) => match event {
                Event::Text(part) => sink.part(part),
                Event::TextEnd => sink.end(),
                _ => {}
            },
            _ => {}
        }
    }

    /// A field of an image. Of its URL only the beginning is kept, and nothing of it is counted as text.
    fn image(&mut self, field: Field, event: &Event<'_>) {
        match event {
            Event::Key(_) => self.head.clear(),
            Event::Text(part) => {
                let room = HEAD_MAX.saturating_sub(self.head.len());
                self.head.extend(part.chars().take_while(char::is_ascii).take(room));
            }
            Event::TextEnd => {
                let Some(image) = self.asked.images.last_mut() else { return };
                match field {
                    Field::Detail => image.low = self.head == "low",
                    Field::Url => image.size = size(&self.head),
                    _ => {}
                }
            }
            _ => {}
        }
    }

    /// The value of a numeric field, `Some(None)` for null; `None` where the event is not a value.
    fn number(&mut self, event: &Event<'_>, span: Range<usize>, what: &'static str) -> Option<Option<u64>> {
        let value = match event {
            Event::Key(_) => return None,
            Event::Null => Some(None),
            Event::Number(word) => whole(word).map(Some),
            _ => None,
        };
        match value {
            Some(value) if remember(&mut self.asked.max_output_spans, (span.clone(), value)) => Some(value),
            _ => {
                self.mistyped(what, span);
                None
            }
        }
    }

    fn mistyped(&mut self, what: &'static str, span: Range<usize>) {
        self.fault.get_or_insert(Unreadable { at: span.start, what: Fault::Mistyped(what) });
    }

    fn into_asked(self) -> Asked {
        let mut asked = self.asked;
        asked.max_output = match (self.max_tokens, self.max_completion_tokens) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        asked.choices = asked.choices.max(1);
        asked
    }
}

/// How much of an image's URL is kept: enough for the media type and the first 24 bytes of the image.
const HEAD_MAX: usize = 96;

/// The size that the beginning of a data URL tells: in PNG at byte 16 (RFC 2083, section 11.2.1), in GIF at byte 6 (GIF89a,
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

fn remember<T>(places: &mut Vec<T>, place: T) -> bool {
    let room = places.len() < REPEATS_MAX;
    if room {
        places.push(place);
    }
    room
}

/// A whole number as JSON writes it, also as `1e3` or `16.0`. Negative ones are none.
pub(crate) fn whole(word: &str) -> Option<u64> {
    word.parse::<u64>().ok().or_else(|| {
        let value = word.parse::<f64>().ok()?;
        (value >= 0.0 && value.fract() == 0.0).then_some(value as u64)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    pub struct Texts(pub Vec<String>, String);

    impl Sink for Texts {
        fn part(&mut self, text: &str) {
            self.1.push_str(text);
        }
        fn end(&mut self) {
            self.0.push(core::mem::take(&mut self.1));
        }
        fn restart(&mut self) {
            self.0.clear();
        }
    }

    fn ask(body: &str) -> Result<(Asked, Vec<String>), Unreadable> {
        let mut texts = Texts::default();
        let mut ask = Ask::new(Dialect::OpenAiChat);
        for piece in body.as_bytes().chunks(7) {
            ask.push(piece, &mut texts)?;
        }
        Ok((ask.finish(&mut texts)?, texts.0))
    }

    #[test]
    fn reads_a_chat_request() {
        let body = r#"{"model":"gpt-4o","stream":true,"stream_options":{"include_usage":true},"max_tokens":16.0,
            "n":2,"messages":[{"role":"system","content":"Be brief."},
            {"role":"user","name":"bob","content":[{"type":"text","text":"Hi"},{"type":"image_url","image_url":{"url":"data:…"}}]},
            {"role":"assistant","content":null,"tool_calls":[{"id":"x","function":{"name":"f","arguments":"{}"}}]}]}"#;
        let (asked, texts) = ask(body).unwrap();
        assert_eq!(asked.model.as_deref(), Some("gpt-4o"));
        assert_eq!(&body[asked.model_spans[0].clone()], "\"gpt-4o\"");
        assert_eq!(&body[asked.max_output_spans[0].0.clone()], "16.0");
        assert_eq!((asked.max_output, asked.choices, asked.messages, asked.names), (Some(16), 2, 3, 1));
        assert!(asked.stream && asked.include_usage);
        assert_eq!(texts, ["system", "Be brief.", "user", "bob", "Hi", "assistant", "f", "{}"]);
    }

    #[test]
    fn images_and_tools_are_seen_and_are_no_text() {
        // The header of a PNG of 640 by 480.
        let png = "iVBORw0KGgoAAAANSUhEUgAAAoAAAAHgCAIAAAC6s0uzAAAAA3NCSVQICAjb4U/gAAAA";
        let body = format!(
            r#"{{"messages":[{{"role":"user","content":[{{"type":"image_url","image_url":{{"url":"data:image/png;base64,{png}{png}"}}}},
            {{"type":"image_url","image_url":{{"detail":"low","url":"https://x/é.png"}}}}]}}],"tools": [{{"type":"function"}}] }}"#
        );
        let (asked, texts) = ask(&body).unwrap();
        assert_eq!(texts, ["user"]);
        assert_eq!(asked.images, [Image { low: false, size: Some((640, 480)) }, Image { low: true, size: None }]);
        assert_eq!(&body[asked.tools.unwrap()], r#"[{"type":"function"}]"#);
    }

    #[test]
    fn the_last_of_equal_keys_wins_and_all_are_known() {
        let body = r#"{"model":"a","messages":[{"role":"user","content":"old"}],"model":"b","messages":[]}"#;
        let (asked, texts) = ask(body).unwrap();
        assert_eq!(asked.model.as_deref(), Some("b"));
        assert_eq!(asked.model_spans.len(), 2);
        assert_eq!((asked.messages, texts.len()), (0, 0));
    }

    /// Applies edits, and checks that they say what they should to readers that take the last or the first of equal keys.
    fn edited(body: &str, edits: impl Fn(&Asked) -> Vec<Splice>) -> String {
        let (asked, _) = ask(body).unwrap();
        let out = String::from_utf8(crate::apply(body.as_bytes(), edits(&asked))).unwrap();
        let (again, _) = ask(&out).unwrap();
        assert_eq!(
            edits(&again).iter().filter(|splice| out[splice.at.clone()].as_bytes() != splice.with).count(),
            0,
            "{out}"
        );
        serde_json::from_str::<serde_json::Value>(&out).unwrap();
        out
    }

    #[test]
    fn the_ceiling_is_lowered_or_set() {
        let ceiling = |body: &str| edited(body, |asked| asked.with_ceiling(100));
        assert_eq!(ceiling(r#"{ "max_tokens" : 5000 ,"n":1}"#), r#"{ "max_tokens" : 100 ,"n":1}"#);
        assert_eq!(ceiling(r#"{"max_tokens":50}"#), r#"{"max_tokens":50}"#);
        assert_eq!(ceiling(r#"{"n":1}"#), r#"{"max_tokens":100,"n":1}"#);
        assert_eq!(ceiling(r#"{"max_tokens":null,"n":1}"#), r#"{"max_tokens":100,"n":1}"#);
        assert_eq!(
            ceiling(r#"{"max_tokens":9,"max_completion_tokens":900,"max_tokens":800}"#),
            r#"{"max_tokens":9,"max_completion_tokens":100,"max_tokens":100}"#
        );
    }

    #[test]
    fn usage_is_asked_for_whatever_was_said() {
        let usage = |body: &str| edited(body, Asked::with_usage);
        assert_eq!(usage(r#"{"n":1}"#), r#"{"stream_options":{"include_usage":true},"n":1}"#);
        assert_eq!(usage(r#"{"stream_options":null}"#), r#"{"stream_options":{"include_usage":true}}"#);
        assert_eq!(usage(r#"{"stream_options": { } }"#), r#"{"stream_options": {"include_usage":true } }"#);
        assert_eq!(usage(r#"{"stream_options":{"a":1}}"#), r#"{"stream_options":{"include_usage":true,"a":1}}"#);
        assert_eq!(
            usage(r#"{"stream_options":{"include_usage":false,"a":1},"stream_options":{"b":[{}]}}"#),
            r#"{"stream_options":{"include_usage":true,"a":1},"stream_options":{"include_usage":true,"b":[{}]}}"#
        );
        let asked = |body: &str| ask(body).unwrap().0.include_usage;
        assert!(asked(r#"{"stream_options":{"include_usage":true}}"#));
        assert!(!asked(r#"{"stream_options":{"include_usage":true},"stream_options":{}}"#));
        assert!(!asked(r#"{"stream_options":{"include_usage":true},"stream_options":null}"#));
    }

    #[test]
    fn wrong_types_are_named() {
        for (body, what) in [
            (r#"[]"#, "object"),
            (r#"{"model":7}"#, "model"),
            (r#"{"model":["a"]}"#, "model"),
            (r#"{"messages":"hi"}"#, "messages"),
            (r#"{"messages":["hi"]}"#, "messages"),
            (r#"{"stream":"yes"}"#, "stream"),
            (r#"{"max_tokens":"many"}"#, "max_tokens"),
            (r#"{"max_tokens":-1}"#, "max_tokens"),
            (r#"{"max_tokens":1.5}"#, "max_tokens"),
            (r#"{"stream_options":7}"#, "stream_options"),
            (r#"{"stream_options":{"include_usage":"yes"}}"#, "include_usage"),
        ] {
            let error = ask(body).unwrap_err().to_string();
            assert!(error.contains(what), "{body}: {error}");
        }
        let many = format!("{{{}}}", vec![r#""model":"m""#; REPEATS_MAX + 1].join(","));
        assert!(ask(&many).unwrap_err().to_string().contains("too often"));
    }
}
