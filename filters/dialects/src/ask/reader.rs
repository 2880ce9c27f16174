//! What a reader of requests does with each event of the body, by dialect.
//!
//! Sources: OpenAI API reference ("Create chat completion", "Create completion", "Create a model response", "Create embeddings");
//! Anthropic API reference ("Create a Message"); vLLM, "OpenAI-Compatible Server", extra parameters.

use core::ops::Range;

use super::image::{HEAD_MAX, Image, size};
use super::{IMAGES_MAX, MODEL_BYTES_MAX, REPEATS_MAX, Request, StreamOptions};
use crate::json::{Event, Fault, Unreadable, Visitor};
use crate::path::Field::{
    Arguments, BestOf, Content, Conversation, Data, Detail, Format, Function, ImageUrl, IncludeUsage, Input,
    Instructions, MaxCompletionTokens, MaxOutputTokens, MaxTokens, MediaType, Messages, MinTokens, Model, N, Name,
    Output, PreviousResponseId, Prompt, Reasoning, ReasoningContent, ResponseFormat, Role, Source, Stream,
    StreamOptions as StreamOptionsKey, Suffix, Summary, System, Text, Thinking, ToolCalls, Tools, Type, Url,
};
use crate::path::Step::{Item, Key};
use crate::path::{Field, Path, Step};
use crate::{Dialect, PromptSink};

pub(super) struct Reader {
    dialect: Dialect,
    path: Path,
    asked: Request,
    model: String,
    /// The value of each key that sets a ceiling.
    ceilings: [Option<u64>; 2],
    answers: u64,
    best_of: u64,
    prompts: u64,
    /// The beginning of a short text: an image's URL, media type or detail, the type of a format.
    /// The current source has a text.
    text_source: bool,
    head: String,
    pub(super) fault: Option<Unreadable>,
}

pub(super) struct Visit<'a, S> {
    pub(super) reader: &'a mut Reader,
    pub(super) sink: &'a mut S,
}

impl<S: PromptSink> Visitor for Visit<'_, S> {
    fn event(&mut self, event: Event<'_>, span: Range<usize>) {
        self.reader.path.follow(&event);
        let path = self.reader.path;
        self.reader.read(path.steps(), &event, span, self.sink);
        self.reader.path.enter(&event);
    }
}

impl Reader {
    pub(super) fn new(dialect: Dialect) -> Self {
        let (ceiling_key, usage_on_request) = match dialect {
            Dialect::Chat | Dialect::Completions => (Some("max_tokens"), true),
            Dialect::Responses => (Some("max_output_tokens"), false),
            Dialect::Messages => (Some("max_tokens"), false),
            Dialect::Embeddings => (None, false),
        };
        Self {
            dialect,
            path: Path::default(),
            asked: Request { ceiling_key, usage_on_request, ..Request::default() },
            model: String::new(),
            ceilings: [None; 2],
            answers: 1,
            best_of: 1,
            prompts: 1,
            head: String::new(),
            text_source: false,
            fault: None,
        }
    }

    pub(super) fn into_asked(self) -> Request {
        let mut asked = self.asked;
        asked.max_output = self.ceilings.into_iter().flatten().min();
        asked.choices = self.answers.max(self.best_of).max(1).saturating_mul(self.prompts.max(1));
        asked
    }

    /// What all dialects have in common, and then what each has of its own.
    fn read(&mut self, steps: &[Step], event: &Event<'_>, span: Range<usize>, sink: &mut impl PromptSink) {
        match (steps, event) {
            ([], Event::Object) => self.asked.inside = span.end,
            ([], Event::Close) => {}
            ([], _) => self.mistyped("the body must be a JSON object", span),

            ([Key(Model), ..], _) => self.model(steps, event, span),
            ([Key(Stream)], event) => match event {
                Event::Bool(value) => self.asked.stream = *value,
                Event::Null => self.asked.stream = false,
                Event::Key(_) => {}
                _ => self.mistyped("stream must be true or false", span),
            },
            ([Key(StreamOptionsKey), ..], _) if self.asked.usage_on_request => self.stream_options(steps, event, span),

            ([Key(MaxTokens)], event) if self.dialect != Dialect::Responses => {
                self.ceiling(0, event, span, "max_tokens must be a whole number");
            }
            ([Key(MaxCompletionTokens)], event) if self.dialect == Dialect::Chat => {
                self.ceiling(1, event, span, "max_completion_tokens must be a whole number");
            }
            ([Key(MaxOutputTokens)], event) if self.dialect == Dialect::Responses => {
                self.ceiling(0, event, span, "max_output_tokens must be a whole number");
            }
            ([Key(field @ (MinTokens | N | BestOf))], event) => self.number(*field, event, span),

            ([Key(Tools)], Event::Array) => self.asked.tools = Some(span),
            ([Key(Tools)], Event::Close) => {
                if let Some(tools) = &mut self.asked.tools {
                    tools.end = span.end;
                }
            }
            ([Key(Tools)], Event::Key(_)) => self.asked.tools = None,
            ([Key(Tools), ..], _) => {}

            ([Key(ResponseFormat), Key(Type)] | [Key(Text), Key(Format), Key(Type)], event) => {
                self.keep(event);
                if *event == Event::TextEnd {
                    self.asked.json_output = self.head.starts_with("json_");
                }
            }
            _ => match self.dialect {
                Dialect::Chat => self.chat(steps, event, span, sink),
                Dialect::Completions => self.completions(steps, event, span, sink),
                Dialect::Responses => self.responses(steps, event, span, sink),
                Dialect::Embeddings => self.embeddings(steps, event, span, sink),
                Dialect::Messages => self.messages(steps, event, span, sink),
            },
        }
    }

    fn model(&mut self, steps: &[Step], event: &Event<'_>, span: Range<usize>) {
        match (steps, event) {
            ([_], Event::Text(part)) => {
                if self.model.len().saturating_add(part.len()) > MODEL_BYTES_MAX {
                    self.mistyped("model must be a string of at most 256 bytes", span);
                } else {
                    self.model.push_str(part);
                }
            }
            ([_], Event::TextEnd) => {
                self.asked.model = Some(core::mem::take(&mut self.model));
                let spans = &mut self.asked.model_spans;
                if !remember(spans, span.clone()) {
                    self.mistyped("model is given too often", span);
                }
            }
            ([_], Event::Key(_) | Event::Close) => {}
            _ => self.mistyped("model must be a string", span),
        }
    }

    fn stream_options(&mut self, steps: &[Step], event: &Event<'_>, span: Range<usize>) {
        match (steps, event) {
            ([_], event) => {
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
            ([_, Key(name)], Event::Key(_)) => {
                if let Some(StreamOptions::Object { empty, tells, .. }) = self.asked.stream_options.last_mut() {
                    *empty = false;
                    *tells |= *name == IncludeUsage;
                }
            }
            ([_, Key(IncludeUsage)], event) => match event {
                Event::Bool(_) | Event::Null => {
                    self.asked.include_usage = *event == Event::Bool(true);
                    if !remember(&mut self.asked.include_usage_spans, span.clone()) {
                        self.mistyped("include_usage is given too often", span);
                    }
                }
                _ => self.mistyped("include_usage must be true or false", span),
            },
            _ => {}
        }
    }

    /// Chat completions: the texts of the messages.
    fn chat(&mut self, steps: &[Step], event: &Event<'_>, span: Range<usize>, sink: &mut impl PromptSink) {
        match (steps, event) {
            ([Key(Messages)], Event::Key(_)) => {
                self.asked.images.clear();
                self.asked.messages = 0;
                self.asked.names = 0;
                sink.restart();
            }
            ([Key(Messages)] | [Key(Messages), Item], _) => self.list_of_messages(steps, event, span),
            ([Key(Messages), Item, Key(Name)], Event::TextEnd) => {
                self.asked.names = self.asked.names.saturating_add(1);
                sink.end();
            }
            ([Key(Messages), Item, Key(Content), Item, Key(ImageUrl)], Event::Object) => self.image(),
            ([Key(Messages), Item, Key(Content), Item, Key(ImageUrl), Key(field)], event) => {
                self.image_field(*field, event);
            }
            (
                [Key(Messages), Item, Key(Role | Content | Name | Reasoning | ReasoningContent)]
                | [Key(Messages), Item, Key(Content), Item, Key(Text)]
                | [Key(Messages), Item, Key(ToolCalls), Item, Key(Function), Key(Name | Arguments)],
                event,
            ) => text(event, sink),
            _ => {}
        }
    }

    /// Completions: one prompt or several, as texts or as tokens. Prompts of repeated keys are all counted.
    fn completions(&mut self, steps: &[Step], event: &Event<'_>, span: Range<usize>, sink: &mut impl PromptSink) {
        match (steps, event) {
            ([Key(Prompt)], Event::Array) => self.prompts = 0,
            ([Key(Prompt), ..], _) => self.texts_or_tokens(steps, event, span, "prompt must be text or tokens", sink),
            ([Key(Suffix)], event) => text(event, sink),
            _ => {}
        }
    }

    /// Embeddings: one input or several.
    fn embeddings(&mut self, steps: &[Step], event: &Event<'_>, span: Range<usize>, sink: &mut impl PromptSink) {
        match (steps, event) {
            ([Key(Input)], Event::Key(_)) => {
                self.asked.token_ids = 0;
                sink.restart();
            }
            ([Key(Input), ..], _) => self.texts_or_tokens(steps, event, span, "input must be text or tokens", sink),
            _ => {}
        }
    }

    /// A string, an array of strings, an array of tokens, or an array of arrays of tokens.
    fn texts_or_tokens(
        &mut self,
        steps: &[Step],
        event: &Event<'_>,
        span: Range<usize>,
        what: &'static str,
        sink: &mut impl PromptSink,
    ) {
        match (steps, event) {
            (_, Event::Key(_) | Event::Close) | ([_], Event::Array | Event::Null) => {}
            ([_] | [_, Item], Event::Text(_)) => text(event, sink),
            ([_] | [_, Item], Event::TextEnd) => {
                self.prompts = self.prompts.saturating_add(u64::from(steps.len() > 1));
                text(event, sink);
            }
            ([_, Item], Event::Array) => self.prompts = self.prompts.saturating_add(1),
            ([_, Item] | [_, Item, Item], Event::Number(_)) => {
                self.prompts = self.prompts.max(1);
                self.asked.token_ids = self.asked.token_ids.saturating_add(1);
            }
            _ => self.mistyped(what, span),
        }
    }

    /// Responses: instructions, and the input as text or as items: messages, calls of tools, what these returned, reasoning. Inputs of
    /// repeated keys are all counted.
    fn responses(&mut self, steps: &[Step], event: &Event<'_>, span: Range<usize>, sink: &mut impl PromptSink) {
        match (steps, event) {
            ([Key(Input)], Event::TextEnd) | ([Key(Instructions)], Event::TextEnd) => {
                self.asked.messages = self.asked.messages.saturating_add(1);
                sink.end();
            }
            ([Key(Input)], Event::Text(_)) | ([Key(Instructions)], Event::Text(_)) => text(event, sink),
            ([Key(Input)], Event::Key(_) | Event::Null) => {}
            ([Key(Input)] | [Key(Input), Item], Event::Array | Event::Object | Event::Close | Event::Key(_)) => {
                self.list_of_messages(steps, event, span);
            }
            ([Key(Input)] | [Key(Input), Item], _) => self.mistyped("input must be text or items", span),
            ([Key(Input), Item, Key(Content | Output), Item, Key(ImageUrl)], event) => {
                if let Event::Key(_) = event {
                    self.image();
                }
                self.image_field(Url, event);
            }
            ([Key(Input), Item, Key(Content | Output), Item, Key(Detail)], event) => self.image_field(Detail, event),
            (
                [Key(Input), Item, Key(Role | Content | Name | Arguments | Output | Input)]
                | [Key(Input), Item, Key(Content | Output | Summary), Item, Key(Text)],
                event,
            ) => text(event, sink),
            ([Key(PreviousResponseId | Conversation)], Event::Text(_) | Event::Object)
            | ([Key(Prompt)], Event::Object) => {
                self.asked.unseen = true;
            }
            _ => {}
        }
    }

    /// Anthropic's messages: the system prompt, and blocks of content. Messages of repeated keys are all counted.
    fn messages(&mut self, steps: &[Step], event: &Event<'_>, span: Range<usize>, sink: &mut impl PromptSink) {
        match (steps, event) {
            ([Key(Messages)] | [Key(Messages), Item], _) => self.list_of_messages(steps, event, span),
            (
                [Key(Messages), Item, Key(Content), Item, Key(Source)]
                | [Key(Messages), Item, Key(Content), Item, Key(Content), Item, Key(Source)],
                Event::Object,
            ) => self.image(),
            (
                [Key(Messages), Item, Key(Content), Item, Key(Source), Key(field)]
                | [Key(Messages), Item, Key(Content), Item, Key(Content), Item, Key(Source), Key(field)],
                event,
            ) => self.source(*field, event, sink),
            (
                [Key(System)]
                | [Key(System), Item, Key(Text)]
                | [Key(Messages), Item, Key(Role | Content)]
                | [Key(Messages), Item, Key(Content), Item, Key(Text | Thinking | Name | Content)]
                | [Key(Messages), Item, Key(Content), Item, Key(Content), Item, Key(Text)],
                event,
            ) => text(event, sink),
            // The arguments of a call are an object here; its keys and values cost what they are.
            ([Key(Messages), Item, Key(Content), Item, Key(Input), ..], event) => match event {
                Event::Key(key) if steps.len() > 5 => {
                    sink.part(key);
                    sink.end();
                }
                Event::Number(word) => {
                    sink.part(word);
                    sink.end();
                }
                _ => text(event, sink),
            },
            _ => {}
        }
    }

    /// An array of objects, each a message.
    fn list_of_messages(&mut self, steps: &[Step], event: &Event<'_>, span: Range<usize>) {
        match (steps, event) {
            ([_], Event::Array | Event::Close | Event::Key(_)) | ([_, _], Event::Close) => {}
            ([_], _) => self.mistyped("messages must be an array", span),
            (_, Event::Object) => self.asked.messages = self.asked.messages.saturating_add(1),
            _ => self.mistyped("messages must be objects", span),
        }
    }

    /// A field of the source of an image or of a document, whose text costs what it is.
    fn source(&mut self, field: Field, event: &Event<'_>, sink: &mut impl PromptSink) {
        if field == Data && matches!(event, Event::Key(_)) {
            self.text_source = self.head.starts_with("data:text/");
            if self.text_source {
                self.asked.images.pop();
            }
        }
        if field == Data && self.text_source { text(event, sink) } else { self.image_field(field, event) }
    }

    fn image(&mut self) {
        if self.asked.images.len() < IMAGES_MAX {
            self.asked.images.push(Image::default());
        }
    }

    /// A field of an image. Of what it consists of only the beginning is kept, and nothing of it is counted as text.
    fn image_field(&mut self, field: Field, event: &Event<'_>) {
        // Anthropic has the media type and the data apart; together they are as in a URL.
        if !(field == Data && matches!(event, Event::Key(_)) && self.head.starts_with("data:")) {
            self.keep(event);
        }
        if *event != Event::TextEnd {
            return;
        }
        if field == MediaType {
            self.head = format!("data:{};base64,", self.head);
        }
        let Some(image) = self.asked.images.last_mut() else { return };
        match field {
            Detail => image.low = self.head == "low",
            Url | Data => image.size = size(&self.head),
            _ => {}
        }
    }

    /// Keeps the beginning of a text.
    fn keep(&mut self, event: &Event<'_>) {
        match event {
            Event::Key(_) => self.head.clear(),
            Event::Text(part) => {
                let room = HEAD_MAX.saturating_sub(self.head.len());
                self.head.extend(part.chars().take_while(char::is_ascii).take(room));
            }
            _ => {}
        }
    }

    /// A key that sets a ceiling. Null sets none.
    fn ceiling(&mut self, index: usize, event: &Event<'_>, span: Range<usize>, what: &'static str) {
        let value = match event {
            Event::Key(_) => return,
            Event::Null => Some(None),
            // Some servers take a negative number for none.
            Event::Number(word) if word.starts_with('-') => Some(None),
            Event::Number(word) => whole(word).map(Some),
            _ => None,
        };
        match (value, self.ceilings.get_mut(index)) {
            (Some(value), Some(ceiling))
                if remember(&mut self.asked.max_output_spans, (span.clone(), value, index)) =>
            {
                *ceiling = value;
            }
            _ => self.mistyped(what, span),
        }
    }

    /// A number that multiplies what a request costs.
    fn number(&mut self, field: Field, event: &Event<'_>, span: Range<usize>) {
        let (slot, absent, what) = match field {
            MinTokens => (&mut self.asked.min_output, 0, "min_tokens must be a whole number"),
            N => (&mut self.answers, 1, "n must be a whole number"),
            _ => (&mut self.best_of, 1, "best_of must be a whole number"),
        };
        let value = match event {
            Event::Key(_) => return,
            Event::Null => Some(absent),
            Event::Number(word) => whole(word),
            _ => None,
        };
        match value {
            Some(value) => *slot = value,
            None => self.mistyped(what, span),
        }
    }

    fn mistyped(&mut self, what: &'static str, span: Range<usize>) {
        self.fault.get_or_insert(Unreadable { at: span.start, what: Fault::Mistyped(what) });
    }
}

/// A text that costs tokens.
fn text(event: &Event<'_>, sink: &mut impl PromptSink) {
    match event {
        Event::Text(part) => sink.part(part),
        Event::TextEnd => sink.end(),
        _ => {}
    }
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
