//! What a request asks: the model, the texts that cost tokens, the output ceiling, streaming.

use core::ops::Range;

use crate::json::{Event, Fault, Lexer, Unreadable, Visitor};
use crate::path::Field::{
    Arguments, Content, Function, IncludeUsage, MaxCompletionTokens, MaxTokens, Messages, Model, N, Name, Role, Stream,
    StreamOptions, Text, ToolCalls,
};
use crate::path::Path;
use crate::path::Step::{Item, Key};
use crate::{Dialect, Sink};

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
    /// Where their values stand.
    pub max_output_spans: Vec<Range<usize>>,
    /// `n`, at least 1.
    pub choices: u64,
    /// How many messages there are.
    pub messages: u64,
    /// How many of them carry a `name`.
    pub names: u64,
}

/// Reads a request body as it arrives.
pub struct Ask {
    lexer: Lexer,
    reader: Reader,
}

impl Ask {
    /// A reader for one request in `dialect`.
    pub fn new(dialect: Dialect) -> Self {
        match dialect {
            Dialect::OpenAiChat => Self { lexer: Lexer::default(), reader: Reader::default() },
        }
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
            ([], Event::Object | Event::Close) => {}
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
            ([Key(StreamOptions), Key(IncludeUsage)], Event::Bool(value)) => {
                self.asked.include_usage = *value;
            }

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

            ([Key(Messages)], Event::Key(_)) => {
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

    /// The value of a numeric field, `Some(None)` for null; `None` where the event is not a value.
    fn number(&mut self, event: &Event<'_>, span: Range<usize>, what: &'static str) -> Option<Option<u64>> {
        match event {
            Event::Key(_) => None,
            Event::Null => Some(None),
            Event::Number(word) => match whole(word) {
                Some(value) if remember(&mut self.asked.max_output_spans, span.clone()) => Some(Some(value)),
                _ => {
                    self.mistyped(what, span);
                    None
                }
            },
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

fn remember(spans: &mut Vec<Range<usize>>, span: Range<usize>) -> bool {
    let room = spans.len() < REPEATS_MAX;
    if room {
        spans.push(span);
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
        assert_eq!(&body[asked.max_output_spans[0].clone()], "16.0");
        assert_eq!((asked.max_output, asked.choices, asked.messages, asked.names), (Some(16), 2, 3, 1));
        assert!(asked.stream && asked.include_usage);
        assert_eq!(texts, ["system", "Be brief.", "user", "bob", "Hi", "assistant", "f", "{}"]);
    }

    #[test]
    fn the_last_of_equal_keys_wins_and_all_are_known() {
        let body = r#"{"model":"a","messages":[{"role":"user","content":"old"}],"model":"b","messages":[]}"#;
        let (asked, texts) = ask(body).unwrap();
        assert_eq!(asked.model.as_deref(), Some("b"));
        assert_eq!(asked.model_spans.len(), 2);
        assert_eq!((asked.messages, texts.len()), (0, 0));
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
        ] {
            let error = ask(body).unwrap_err().to_string();
            assert!(error.contains(what), "{body}: {error}");
        }
        let many = format!("{{{}}}", vec![r#""model":"m""#; REPEATS_MAX + 1].join(","));
        assert!(ask(&many).unwrap_err().to_string().contains("too often"));
    }
}
