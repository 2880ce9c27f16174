//! A request as far as it has been read, and the fields that all dialects read alike.
//!
//! Sources: OpenAI API reference ("Create chat completion"); vLLM, "OpenAI-Compatible Server", extra parameters.

use core::ops::Range;

use crate::api::{Api, Ceiling, MODEL_BYTES_MAX};
use crate::json::lexer::Event;
use crate::json::number::whole;
use crate::json::path::At;
use crate::json::path::Field::{
    self, BestOf, Format, IncludeUsage, MinTokens, Model, N, ResponseFormat, Stream, StreamOptions as Options, Text,
    Tools, Type,
};
use crate::json::path::Step::Key;
use crate::json::unreadable::{Fault, Unreadable};
use crate::request::head::Head;
use crate::request::image::Images;
use crate::request::{REPEATS_MAX, Request, StreamOptions, UNBOUNDED};

/// What is known of a request so far.
pub struct Draft {
    pub request: Request,
    pub images: Images,
    /// How many prompts it has, each of which is answered.
    pub prompts: u64,
    api: &'static Api,
    model: String,
    n: u64,
    best_of: u64,
    /// The type of the output's format.
    format: Head,
    fault: Option<Unreadable>,
}

impl Draft {
    pub fn new(api: &'static Api) -> Self {
        Self {
            request: Request::new(api.usage_on_request),
            images: Images::default(),
            prompts: 1,
            api,
            model: String::new(),
            n: 1,
            best_of: 1,
            format: Head::default(),
            fault: None,
        }
    }

    /// The request, now that all of it has been read.
    pub fn finish(self) -> Request {
        let mut request = self.request;
        let spans = &request.max_output_spans;
        let last = |index: usize| spans.iter().rev().find(|(_, _, key)| *key == index).and_then(|(_, value, _)| *value);
        request.max_output = (0..self.api.ceilings.len()).filter_map(last).max().filter(|max| *max != UNBOUNDED);
        request.choices = self.n.max(self.best_of).max(1).saturating_mul(self.prompts.max(1));
        request.images = self.images.all;
        request
    }

    /// The key of the messages is given once more.
    pub fn forget_messages(&mut self) {
        self.images.all.clear();
        self.request.messages = 0;
        self.request.names = 0;
    }

    /// The first thing that was found to be wrong with it.
    pub fn fault(&self) -> Result<(), Unreadable> {
        self.fault.map_or(Ok(()), Err)
    }

    /// A value that the field cannot hold.
    pub fn mistyped(&mut self, what: &'static str, span: &Range<usize>) {
        self.fault.get_or_insert(Unreadable { at: span.start, what: Fault::Mistyped(what) });
    }

    /// Reads what all dialects have in common. Whether this was it.
    #[inline]
    pub fn read(&mut self, at: &At<'_>) -> bool {
        match at.steps {
            [] => self.top(at),
            [Key(Model), ..] => self.model(at),
            [Key(Stream)] => self.stream(at),
            [Key(Options)] if self.api.usage_on_request => self.stream_options(at),
            [Key(Options), Key(field), ..] if self.api.usage_on_request => self.stream_option(*field, at),
            [Key(field @ (MinTokens | N | BestOf))] => self.number(*field, at),
            [Key(Tools), ..] => self.tools(at),
            [Key(ResponseFormat), Key(Type)] | [Key(Text), Key(Format), Key(Type)] => self.format(at.event),
            [Key(field)] if let Some((index, ceiling)) = self.api.ceiling(*field) => self.ceiling(index, ceiling, at),
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
                if !remember(&mut self.request.model_spans, at.span.clone()) {
                    self.mistyped("model is given too often", at.span);
                }
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
        let options = match at.event {
            Event::Key(_) => return self.request.include_usage = false,
            Event::Close => return,
            Event::Object => StreamOptions::Object { inside: at.span.end, empty: true, has_include_usage: false },
            Event::Null => StreamOptions::Null(at.span.clone()),
            _ => return self.mistyped("stream_options must be an object", at.span),
        };
        if !remember(&mut self.request.stream_options, options) {
            self.mistyped("stream_options is given too often", at.span);
        }
    }

    /// A member of `stream_options`, or what is below it.
    fn stream_option(&mut self, field: Field, at: &At<'_>) {
        match (at.steps, at.event) {
            ([_, _], Event::Key(_)) => {
                let options = self.request.stream_options.last_mut();
                if let Some(StreamOptions::Object { empty, has_include_usage, .. }) = options {
                    *empty = false;
                    *has_include_usage |= field == IncludeUsage;
                }
            }
            ([_, Key(IncludeUsage)], _) => self.include_usage(at),
            _ => {}
        }
    }

    fn include_usage(&mut self, at: &At<'_>) {
        match at.event {
            Event::Bool(_) | Event::Null => {
                self.request.include_usage = *at.event == Event::Bool(true);
                if !remember(&mut self.request.include_usage_spans, at.span.clone()) {
                    self.mistyped("include_usage is given too often", at.span);
                }
            }
            _ => self.mistyped("include_usage must be true or false", at.span),
        }
    }

    /// A number that multiplies what a request costs.
    fn number(&mut self, field: Field, at: &At<'_>) {
        let (slot, absent, mistyped) = match field {
            MinTokens => (&mut self.request.min_output, 0, "min_tokens must be a whole number"),
            N => (&mut self.n, 1, "n must be a whole number"),
            _ => (&mut self.best_of, 1, "best_of must be a whole number"),
        };
        let value = match at.event {
            Event::Key(_) => return,
            Event::Null => Some(absent),
            Event::Number(word) => whole(word),
            _ => None,
        };
        match value {
            Some(value) => *slot = value,
            None => self.mistyped(mistyped, at.span),
        }
    }

    /// Where the definitions of tools stand. What they cost is found out elsewhere.
    fn tools(&mut self, at: &At<'_>) {
        match (at.steps, at.event) {
            ([_], Event::Key(_)) => self.request.tools = None,
            ([_], Event::Array) => self.request.tools = Some(at.span.clone()),
            ([_], Event::Close) => {
                if let Some(tools) = &mut self.request.tools {
                    tools.end = at.span.end;
                }
            }
            _ => {}
        }
    }

    /// The type of the output's format: `json_object` and `json_schema` are JSON.
    fn format(&mut self, event: &Event<'_>) {
        self.format.keep(event);
        if *event == Event::TextEnd {
            self.request.json_output = self.format.starts_with("json_");
        }
    }

    /// The value of a key that sets a ceiling. Null sets none.
    fn ceiling(&mut self, index: usize, ceiling: &Ceiling, at: &At<'_>) {
        let value = match at.event {
            Event::Key(_) => return,
            Event::Null => Some(None),
            Event::Number(word) if word.starts_with('-') => Some(Some(UNBOUNDED)),
            Event::Number(word) => whole(word).map(Some),
            _ => None,
        };
        let spans = &mut self.request.max_output_spans;
        if !value.is_some_and(|value| remember(spans, (at.span.clone(), value, index))) {
            self.mistyped(ceiling.mistyped, at.span);
        }
    }
}

/// Keeps one of the places of a field. Not more than are bearable.
fn remember<T>(places: &mut Vec<T>, place: T) -> bool {
    let room = places.len() < REPEATS_MAX;
    if room {
        places.push(place);
    }
    room
}
