//! A request as far as it has been read, and the fields that all dialects read alike.
//!
//! Sources: OpenAI API reference ("Create chat completion"); vLLM, "OpenAI-Compatible Server", extra parameters.

use core::ops::Range;

use crate::api::{Api, MODEL_BYTES_MAX};
use crate::json::lexer::Event;
use crate::json::number::integer;
use crate::json::path::At;
use crate::json::path::Field::{
    self, BestOf, ChatTemplate, ChatTemplateKwargs, ContextManagement, Documents, Echo, Format, Functions,
    IncludeUsage, MinTokens, Model, N, Prediction, ResponseFormat, Stream, StreamOptions as Options, Text, Tools,
    TruncatePromptTokens, Truncation, Type,
};
use crate::json::path::Step::Key;
use crate::json::unreadable::{Fault, Unreadable, VALUES_MAX};
use crate::request::head::Head;
use crate::request::keys::Keys;
use crate::request::origin::{OriginKey, Place};
use crate::request::parts::Parts;
use crate::request::{Request, StreamOptions, UNBOUNDED};
use crate::sink::{PromptSink, text};

/// How many bytes of what is not read cost nothing: as much as parameters are long.
pub const UNREAD_FREE: u64 = 1024;
/// How many bytes an id or a word for a type has at most.
const LABEL_FREE: u64 = 64;
/// How many bytes of them a request has at most: those of some 700 calls of tools and their results.
const LABELS_FREE: u64 = 64 << 10;

/// What is known of a request so far.
pub struct Draft {
    pub request: Request,
    /// What it has in it that is no text.
    pub parts: Parts,
    /// How many prompts it has, each of which is answered.
    pub prompts: u64,
    /// How many more it has that are vectors.
    pub vector_prompts: u64,
    api: &'static Api,
    model: String,
    n: u64,
    best_of: u64,
    /// The type of the current block, in Anthropic's messages.
    pub block: Head,
    /// The type of the output's format.
    format: Head,
    /// How a prompt that is too long is treated.
    truncation: Head,
    keys: Keys,
    /// The key at the top that is being read, where it may say whom the request belongs to.
    place: Option<Place>,
    is_user: bool,
    /// Bytes of what is not read.
    unread: u64,
    /// Bytes of the current label.
    label: u64,
    /// Bytes of all labels.
    labels: u64,
    /// How many keys and values have come.
    values: u32,
    fault: Option<Unreadable>,
}

impl Draft {
    pub fn new(api: &'static Api) -> Self {
        Self {
            request: Request::new(api.usage_on_request),
            parts: Parts::default(),
            prompts: 0,
            vector_prompts: 0,
            api,
            model: String::new(),
            n: 1,
            best_of: 1,
            block: Head::default(),
            format: Head::default(),
            truncation: Head::default(),
            keys: Keys::default(),
            place: None,
            is_user: false,
            unread: 0,
            label: 0,
            labels: 0,
            values: 0,
            fault: None,
        }
    }

    /// The request, now that all of it has been read.
    pub fn finish(self) -> Request {
        let mut request = self.request;
        let largest = request.ceilings.iter().filter_map(|(_, value)| *value).max();
        request.max_output = largest.filter(|max| *max != UNBOUNDED);
        request.prompts = self.prompts.saturating_add(self.vector_prompts).max(1);
        request.choices = self.n.max(self.best_of).max(1).saturating_mul(request.prompts);
        if let Some(parts) = self.parts.finish() {
            request.images = parts.images.all;
            request.images_beyond = parts.images.beyond;
            request.media = parts.media;
            request.has_texts_beside |= parts.has_texts;
        }
        let unread = self.unread.saturating_sub(UNREAD_FREE);
        request.media.text_bytes = request.media.text_bytes.saturating_add(unread);
        request
    }

    /// The first thing that was found to be wrong with it.
    pub fn fault(&self) -> Result<(), Unreadable> {
        self.fault.map_or(Ok(()), Err)
    }

    /// A key or value, whatever it is.
    #[inline]
    pub fn value(&mut self, span: &Range<usize>) {
        self.values = self.values.saturating_add(1);
        if self.values > VALUES_MAX {
            self.is_wrong(Fault::TooMany, span);
        }
    }

    /// A value that the field cannot hold.
    pub fn mistyped(&mut self, what: &'static str, span: &Range<usize>) {
        self.is_wrong(Fault::Mistyped(what), span);
    }

    fn is_wrong(&mut self, what: Fault, span: &Range<usize>) {
        self.fault.get_or_insert(Unreadable { at: span.start, what });
    }

    /// A key at the top of the body. Servers have to agree on which of its values they read.
    pub fn key(&mut self, field: Field, key: &str, span: &Range<usize>) {
        self.request.has_members = true;
        if field == Field::Other {
            self.place = Place::of(key);
        }
        if let Some(what) = self.keys.see(field, key) {
            self.is_wrong(what, span);
        }
    }

    /// Something that nothing is known of: it counts by its length, once there is more of it than parameters are long.
    pub fn unread(&mut self, at: &At<'_>) {
        let bytes = match at.event {
            Event::Text(part) => part.len(),
            Event::Number(_) => at.span.len(),
            Event::Key(_) if at.steps.len() > 1 => at.span.len(),
            _ => 0,
        };
        self.unread = self.unread.saturating_add(bytes as u64);
        if let Some(place) = self.place
            && place.has(at, &mut self.is_user)
        {
            self.request.origin.get_or_insert_default().keep(place, at.event);
        }
    }

    /// Something by which a server knows what the request belongs to.
    pub fn belongs(&mut self, key: OriginKey, event: &Event<'_>) {
        self.request.origin.get_or_insert_default().keep(Place::Key(key), event);
    }

    /// A text that is known to be none: an id, or a word for what something is. What is longer than these are, or has blanks in it as they have
    /// not, counts by its length, and so does what a request has of them beyond what any has.
    pub fn label(&mut self, event: &Event<'_>) {
        match event {
            Event::Text(part) => {
                let has_blank = part.contains(char::is_whitespace);
                if has_blank && self.label < LABEL_FREE {
                    self.unread = self.unread.saturating_add(self.label);
                    self.label = LABEL_FREE;
                }
                let before = self.label.max(LABEL_FREE);
                self.label = self.label.saturating_add(part.len() as u64);
                let beyond = self.label.max(LABEL_FREE).saturating_sub(before);
                self.unread = self.unread.saturating_add(beyond);
            }
            Event::TextEnd => {
                let free = core::mem::take(&mut self.label).min(LABEL_FREE);
                let before = self.labels.max(LABELS_FREE);
                self.labels = self.labels.saturating_add(free);
                self.unread = self.unread.saturating_add(self.labels.max(LABELS_FREE).saturating_sub(before));
            }
            _ => {}
        }
    }

    /// Reads what all dialects have in common. Whether this was it.
    #[inline]
    pub fn read(&mut self, at: &At<'_>, sink: &mut impl PromptSink) -> bool {
        match at.steps {
            [] => self.top(at),
            [Key(Model), ..] => self.model(at),
            [Key(Stream)] => self.stream(at),
            [Key(Echo)] if *at.event == Event::Bool(true) => self.request.echo = true,
            [Key(Options)] if self.api.usage_on_request => self.stream_options(at),
            [Key(Options), Key(field), ..] if self.api.usage_on_request => self.stream_option(*field, at),
            [Key(field @ (MinTokens | N | BestOf))] => self.number(*field, at),
            [Key(field @ (Truncation | TruncatePromptTokens | ContextManagement)), ..] => self.cut(*field, at),
            [Key(Tools | Functions), ..] => self.tools(at),
            [Key(ResponseFormat), Key(Type)] | [Key(Text), Key(Format), Key(Type)] => self.format(at.event),
            [Key(ResponseFormat | Documents | ChatTemplate | ChatTemplateKwargs | Prediction), ..]
            | [Key(Text), Key(Format), ..] => self.beside(at, sink),
            [Key(field)] if self.api.ceilings.contains(field) => self.ceiling(*field, at),
            _ => return false,
        }
        true
    }

    fn top(&mut self, at: &At<'_>) {
        match at.event {
            Event::Object => self.request.inside = at.span.end,
            Event::Close => {}
            _ => self.mistyped("the body must be a JSON object", at.span),
        }
    }

    fn model(&mut self, at: &At<'_>) {
        match (at.steps, at.event) {
            ([_], Event::Text(part)) if self.model.len().saturating_add(part.len()) > MODEL_BYTES_MAX => {
                self.mistyped("model must be a string of at most 256 bytes", at.span);
            }
            ([_], Event::Text(part)) => self.model.push_str(part),
            ([_], Event::TextEnd) => {
                self.request.model = Some(core::mem::take(&mut self.model));
                self.request.model_span = Some(at.span.clone());
            }
            ([_], Event::Key(_) | Event::Close) => {}
            _ => self.mistyped("model must be a string", at.span),
        }
    }

    fn stream(&mut self, at: &At<'_>) {
        match at.event {
            Event::Bool(value) => self.request.stream = *value,
            Event::Null => self.request.stream = false,
            Event::Key(_) => {}
            _ => self.mistyped("stream must be true or false", at.span),
        }
    }

    fn stream_options(&mut self, at: &At<'_>) {
        self.request.stream_options = match at.event {
            Event::Key(_) | Event::Close => return,
            Event::Object => Some(StreamOptions::Object { inside: at.span.end, empty: true }),
            Event::Null => Some(StreamOptions::Null(at.span.clone())),
            _ => return self.mistyped("stream_options must be an object", at.span),
        };
    }

    /// A member of `stream_options`, or what is below it.
    fn stream_option(&mut self, field: Field, at: &At<'_>) {
        if let Some(StreamOptions::Object { empty, .. }) = &mut self.request.stream_options {
            *empty = false;
        }
        match (at.steps, at.event) {
            ([_, _], Event::Key(_)) if field == IncludeUsage && self.request.include_usage_span.is_some() => {
                self.is_wrong(Fault::Repeated(field.name()), at.span);
            }
            ([_, _], Event::Key(_)) => {}
            ([_, Key(IncludeUsage)], _) => self.include_usage(at),
            _ => {}
        }
    }

    fn include_usage(&mut self, at: &At<'_>) {
        match at.event {
            Event::Bool(_) | Event::Null => {
                self.request.include_usage = *at.event == Event::Bool(true);
                self.request.include_usage_span = Some(at.span.clone());
            }
            _ => self.mistyped("include_usage must be true or false", at.span),
        }
    }

    /// A number that multiplies what a request costs.
    fn number(&mut self, field: Field, at: &At<'_>) {
        let value = match at.event {
            Event::Key(_) => return,
            Event::Null => Some(if field == MinTokens { 0 } else { 1 }),
            event => number(event, at.span).and_then(|value| u64::try_from(value).ok()),
        };
        let Some(value) = value else { return self.is_wrong(Fault::Number(field.name()), at.span) };
        match field {
            MinTokens => self.request.min_output = value,
            N => self.n = value,
            _ => self.best_of = value,
        }
    }

    /// Whether the server is asked to cut the prompt, in OpenAI's, vLLM's and Anthropic's way.
    fn cut(&mut self, field: Field, at: &At<'_>) {
        let is_word = field == Truncation && at.steps.len() == 1;
        if is_word {
            self.truncation.keep(at.event);
        }
        self.request.is_cut_to_fit |= match at.event {
            // The word may have come in pieces: the end of `disabled` is not its beginning.
            Event::TextEnd if is_word => self.truncation.as_str() == "auto",
            Event::Number(_) => field == TruncatePromptTokens,
            Event::Object | Event::Array => field == ContextManagement,
            _ => false,
        };
        self.unread(at);
    }

    /// Where the definitions of tools stand. What they cost is found out elsewhere.
    fn tools(&mut self, at: &At<'_>) {
        match (at.steps, at.event) {
            ([_], Event::Array) => self.request.tools.push(at.span.clone()),
            ([_], Event::Close) => {
                if let Some(tools) = self.request.tools.last_mut() {
                    tools.end = at.span.end;
                }
            }
            ([_], Event::Key(_) | Event::Null) | ([_, _, ..], _) => {}
            _ => self.mistyped("tools and functions must be arrays", at.span),
        }
    }

    /// Texts that servers put into the prompt in a way of their own: the schema of a response, documents, a template and its arguments, what
    /// is predicted. Keys count as well, as those of a schema are written out.
    fn beside(&mut self, at: &At<'_>, sink: &mut impl PromptSink) {
        match at.event {
            Event::Key(_) if at.steps.len() <= 2 => return,
            // A key that is longer than is kept.
            Event::Key("") => return self.unread(at),
            Event::Key(word) | Event::Number(word) => {
                sink.part(word);
                sink.end();
            }
            event => text(event, sink),
        }
        self.request.has_texts_beside |= matches!(at.event, Event::Key(_) | Event::Number(_) | Event::Text(_));
    }

    /// The type of the output's format: `json_object` and `json_schema` are JSON.
    fn format(&mut self, event: &Event<'_>) {
        self.format.keep(event);
        self.label(event);
        if *event == Event::TextEnd {
            self.request.json_output = self.format.starts_with("json_");
        }
    }

    /// The value of a key that sets a ceiling. Null sets none.
    fn ceiling(&mut self, field: Field, at: &At<'_>) {
        let value = match at.event {
            Event::Key(_) => return,
            Event::Null => None,
            event => match number(event, at.span) {
                Some(value) => Some(u64::try_from(value).unwrap_or(UNBOUNDED)),
                None => return self.is_wrong(Fault::Number(field.name()), at.span),
            },
        };
        self.request.ceilings.push((at.span.clone(), value));
    }
}

/// The number that this is, where every server reads the same: it is there in full, whole, and of ordinary size.
fn number(event: &Event<'_>, span: &Range<usize>) -> Option<i64> {
    let Event::Number(word) = event else { return None };
    integer(word).filter(|_| word.len() == span.len())
}
