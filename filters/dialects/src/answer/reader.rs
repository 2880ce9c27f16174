//! What a reader of responses does with each event of the JSON, by dialect.
//!
//! Sources: OpenAI API reference ("The chat completion chunk object", "Streaming events" of responses); Anthropic API reference
//! ("Streaming messages"); the servers of vLLM, llama.cpp and Text Generation Inference speak OpenAI's.

use core::ops::Range;

use super::{USAGE_MAX, Usage};
use crate::ask::whole;
use crate::json::{Event, Visitor};
use crate::path::Field::{
    Arguments, CacheCreationInputTokens, CacheReadInputTokens, CachedTokens, Choices, CompletionTokens,
    CompletionTokensDetails, Content, ContentBlock, Delta, Error, FinishReason, Function, IncompleteDetails, Index,
    Input, InputTokens, InputTokensDetails, ItemKey, Message, Name, Object, Output, OutputTokens, OutputTokensDetails,
    PartialJson, PromptTokens, PromptTokensDetails, Reason, Reasoning, ReasoningContent, ReasoningTokens, Refusal,
    Response, Status, StopReason, Summary, Text, Thinking, ToolCalls, Type, Usage as UsageKey,
};
use crate::path::Step::{self, Item, Key};
use crate::path::{Field, Path};
use crate::quality::{Finish, JsonCheck};
use crate::{CompletionSink, Dialect, Quality};

/// How much is kept of a text that is looked at: a reason, a status, a type.
const WORD_MAX: usize = 48;
/// How much of a text is held until it is known which answer it belongs to.
const HELD_MAX: usize = 1024;

/// What a text is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// What the answer says.
    Content,
    /// What was thought on the way.
    Reasoning,
    /// The name of a tool, with which a call begins.
    ToolName,
    ToolArguments,
}

pub(super) struct Reader {
    dialect: Dialect,
    stream: bool,
    pub(super) path: Path,
    usage: Usage,
    reported: bool,
    pub(super) failed: bool,
    /// The answer that the current item is a part of, once it is known.
    index: Option<u32>,
    held: String,
    word: String,
    /// What kind of event this is: by its name, which comes first where there is one, or by its `type`.
    event_type: String,
    /// Usage was reported after it was known how the answer ended: it is not that of a part.
    pub(super) is_settled: bool,
    finish: Option<Finish>,
    any: bool,
    tool_calls: u32,
    /// In the name of a tool, with which its call began.
    in_name: bool,
    /// The arguments of the current call.
    arguments: Option<Box<JsonCheck>>,
    malformed_tool_args: bool,
    /// The output, where it is to be JSON.
    output: Option<Box<JsonCheck>>,
}

pub(super) struct Visit<'a, S> {
    pub(super) reader: &'a mut Reader,
    pub(super) sink: &'a mut S,
}

impl<S: CompletionSink> Visitor for Visit<'_, S> {
    fn event(&mut self, event: Event<'_>, _: Range<usize>) {
        self.reader.path.follow(&event);
        let path = self.reader.path;
        self.reader.read(path.steps(), &event, self.sink);
        self.reader.path.enter(&event);
    }
}

impl Reader {
    pub(super) fn new(dialect: Dialect, stream: bool, json_output: bool) -> Self {
        Self {
            dialect,
            stream,
            path: Path::default(),
            usage: Usage::default(),
            reported: false,
            failed: false,
            index: None,
            held: String::new(),
            word: String::new(),
            event_type: String::new(),
            is_settled: false,
            finish: None,
            any: false,
            tool_calls: 0,
            in_name: false,
            arguments: None,
            malformed_tool_args: false,
            output: json_output.then(Box::default),
        }
    }

    pub(super) fn usage(&self) -> Option<Usage> {
        let mut usage = self.usage;
        if self.dialect == Dialect::Messages {
            // There `input_tokens` are those that no cache had to do with.
            usage.prompt = usage.prompt.saturating_add(usage.cached).saturating_add(usage.cache_creation);
        }
        self.reported.then_some(usage)
    }

    pub(super) fn quality(&mut self) -> Quality {
        self.end_call();
        Quality {
            finish: self.finish,
            empty: !self.any && self.dialect != Dialect::Embeddings,
            malformed_tool_args: self.malformed_tool_args,
            malformed_json_output: self.output.as_deref_mut().is_some_and(JsonCheck::is_malformed),
            tool_calls: self.tool_calls,
        }
    }

    /// A piece of the event's name.
    pub(super) fn name(&mut self, name: &[u8]) {
        // However it is cut: a byte is a character, or is left out.
        let room = WORD_MAX.saturating_sub(self.event_type.len());
        self.event_type.extend(name.iter().filter(|byte| byte.is_ascii()).take(room).map(|byte| char::from(*byte)));
    }

    pub(super) fn end_event(&mut self) {
        self.path = Path::default();
        self.event_type.clear();
        self.word.clear();
    }

    fn read(&mut self, steps: &[Step], event: &Event<'_>, sink: &mut impl CompletionSink) {
        // Most of an event is of no interest.
        if let [Key(Field::Other | Field::Model), ..] | [Key(Choices), Item, Key(Field::Other), ..] = steps {
            return;
        }
        if let (
            [Key(UsageKey), field @ ..] | [Key(Message | Response), Key(UsageKey), field @ ..],
            Event::Number(word),
        ) = (steps, event)
        {
            return self.count(field, word);
        }
        if let Some(kind) = self.kind(steps) {
            return self.generated(kind, event, sink);
        }
        match (steps, event) {
            ([Key(Choices), Item], Event::Object) => self.index = None,
            ([Key(Choices), Item], Event::Close) => self.release(0, sink),
            ([Key(Choices), Item, Key(Index)], Event::Number(word)) => {
                let index = whole(word).and_then(|index| u32::try_from(index).ok()).unwrap_or(0);
                self.release(index, sink);
            }
            // Arguments that are an object, not a string with one.
            ([Key(Content), Item, Key(Input), ..], event) if self.dialect == Dialect::Messages => match event {
                Event::Key(text) if steps.len() > 3 => self.anyhow(text, sink),
                Event::Number(text) => self.anyhow(text, sink),
                Event::Text(text) => self.pass(text, sink),
                Event::TextEnd => sink.end(),
                _ => {}
            },
            ([Key(Error)] | [Key(Response), Key(Error)], Event::Object | Event::TextEnd) => self.failed = true,
            (
                [Key(Choices), Item, Key(FinishReason)]
                | [Key(StopReason | Status | Object | Type)]
                | [Key(Delta), Key(StopReason)]
                | [Key(Response), Key(Status)]
                | [Key(IncompleteDetails), Key(Reason)]
                | [Key(Response), Key(IncompleteDetails), Key(Reason)],
                event,
            ) => self.said(steps, event),
            _ => {}
        }
    }

    /// A number below `usage`. Those of a stream are cumulative, so that the last one is right.
    fn count(&mut self, field: &[Step], word: &str) {
        let value = whole(word).unwrap_or(0).min(USAGE_MAX);
        let usage = &mut self.usage;
        let slot = match field {
            [Key(PromptTokens | InputTokens)] => &mut usage.prompt,
            [Key(CompletionTokens | OutputTokens)] => &mut usage.completion,
            [Key(PromptTokensDetails | InputTokensDetails), Key(CachedTokens)] | [Key(CacheReadInputTokens)] => {
                &mut usage.cached
            }
            [Key(CacheCreationInputTokens)] => &mut usage.cache_creation,
            [Key(CompletionTokensDetails | OutputTokensDetails), Key(ReasoningTokens)] => &mut usage.reasoning,
            _ => return,
        };
        *slot = value;
        self.reported = true;
        self.is_settled = self.finish.is_some();
    }

    /// What the text at this place is, if it was generated.
    fn kind(&self, steps: &[Step]) -> Option<Kind> {
        Some(match (self.dialect, steps) {
            (Dialect::Chat, [Key(Choices), Item, Key(Message | Delta), Key(field)]) => match field {
                Content => Kind::Content,
                // A refusal need not be what was asked for.
                ReasoningContent | Reasoning | Refusal => Kind::Reasoning,
                _ => return None,
            },
            (
                Dialect::Chat,
                [Key(Choices), Item, Key(Message | Delta), Key(ToolCalls), Item, Key(Function), Key(field)],
            ) => match field {
                Name => Kind::ToolName,
                Arguments => Kind::ToolArguments,
                _ => return None,
            },
            (Dialect::Chat | Dialect::Completions, [Key(Choices), Item, Key(Text)]) => Kind::Content,

            // In a stream the texts come as deltas and are repeated at the end of each part, and of all.
            (Dialect::Responses, [Key(Delta)]) if self.event_type.contains("function_call_arguments") => {
                Kind::ToolArguments
            }
            (Dialect::Responses, [Key(Delta)]) if self.event_type.contains("reasoning") => Kind::Reasoning,
            (Dialect::Responses, [Key(Delta)]) if !self.event_type.contains("audio") => Kind::Content,
            (Dialect::Responses, [Key(ItemKey), Key(Name)]) if self.event_type == "response.output_item.added" => {
                Kind::ToolName
            }
            (Dialect::Responses, [Key(Output), Item, Key(field)]) if !self.stream => match field {
                Name => Kind::ToolName,
                Arguments => Kind::ToolArguments,
                _ => return None,
            },
            (Dialect::Responses, [Key(Output), Item, Key(Content), Item, Key(Text | Refusal)]) if !self.stream => {
                Kind::Content
            }
            (Dialect::Responses, [Key(Output), Item, Key(Summary), Item, Key(Text)]) if !self.stream => Kind::Reasoning,

            (Dialect::Messages, [Key(Content), Item, Key(field)] | [Key(ContentBlock | Delta), Key(field)]) => {
                match field {
                    Text => Kind::Content,
                    Thinking => Kind::Reasoning,
                    Name => Kind::ToolName,
                    PartialJson => Kind::ToolArguments,
                    _ => return None,
                }
            }
            _ => return None,
        })
    }

    fn generated(&mut self, kind: Kind, event: &Event<'_>, sink: &mut impl CompletionSink) {
        match event {
            Event::Key(_) => self.in_name = false,
            Event::Text(part) if !part.is_empty() => {
                self.check(kind, part);
                self.pass(part, sink);
            }
            Event::TextEnd => {
                self.in_name = false;
                if !self.stream && kind == Kind::ToolArguments {
                    self.end_call();
                }
                // Until it is known whose it is, nothing of it has been passed on.
                if self.held.is_empty() {
                    sink.end();
                }
            }
            _ => {}
        }
    }

    /// What the text says about the quality.
    fn check(&mut self, kind: Kind, part: &str) {
        self.any = true;
        match kind {
            Kind::Content if self.index.unwrap_or(0) == 0 => {
                if let Some(output) = &mut self.output {
                    output.push(part);
                }
            }
            Kind::ToolName if !core::mem::replace(&mut self.in_name, true) => {
                self.end_call();
                self.tool_calls = self.tool_calls.saturating_add(1);
            }
            Kind::ToolArguments => self.arguments.get_or_insert_default().push(part),
            Kind::Content | Kind::Reasoning | Kind::ToolName => {}
        }
    }

    fn end_call(&mut self) {
        self.malformed_tool_args |= self.arguments.take().is_some_and(|mut arguments| arguments.is_malformed());
    }

    /// Passes a text on. That of one of several choices is held back until its index is there, which mostly comes first.
    fn pass(&mut self, part: &str, sink: &mut impl CompletionSink) {
        let has_index = matches!(self.dialect, Dialect::Chat | Dialect::Completions);
        match self.index {
            None if has_index && self.held.len().saturating_add(part.len()) <= HELD_MAX => self.held.push_str(part),
            None if has_index => {
                self.release(0, sink);
                sink.part(0, part);
            }
            index => sink.part(index.unwrap_or(0), part),
        }
    }

    /// It is known now which answer the current item is a part of.
    fn release(&mut self, index: u32, sink: &mut impl CompletionSink) {
        let index = *self.index.get_or_insert(index);
        if !self.held.is_empty() {
            sink.part(index, &self.held);
            sink.end();
            self.held.clear();
        }
    }

    /// A text that stands by itself.
    fn anyhow(&mut self, text: &str, sink: &mut impl CompletionSink) {
        self.any = true;
        sink.part(0, text);
        sink.end();
    }

    /// A word that says how it ended, or what kind of event this is.
    fn said(&mut self, steps: &[Step], event: &Event<'_>) {
        match event {
            Event::Key(_) => self.word.clear(),
            Event::Text(part) => {
                let room = WORD_MAX.saturating_sub(self.word.len());
                self.word.push_str(part.get(..room.min(part.len())).unwrap_or_default());
            }
            Event::TextEnd => self.understood(steps),
            _ => {}
        }
    }

    fn understood(&mut self, steps: &[Step]) {
        match steps {
            // vLLM's form of an error in a stream, and Anthropic's.
            [Key(Object)] => self.failed |= self.word == "error",
            [Key(Type)] => {
                self.failed |= self.word == "error" || self.word == "response.failed";
                self.event_type.clone_from(&self.word);
            }
            [Key(Status)] | [Key(Response), Key(Status)] => match self.word.as_str() {
                "completed" => self.finish = self.finish.or(Some(Finish::Stop)),
                "failed" => self.failed = true,
                _ => {}
            },
            _ => {
                let finish = Finish::of(&self.word);
                // Of several answers one that was cut short tells more than one that was not.
                if !matches!(self.finish, Some(Finish::Length | Finish::Filter)) {
                    self.finish = Some(finish);
                }
            }
        }
    }
}
