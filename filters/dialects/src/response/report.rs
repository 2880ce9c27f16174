//! A response as far as it has been read, and what all dialects report alike.
//!
//! Sources: OpenAI API reference ("The chat completion chunk object", "Streaming events" of responses); Anthropic API reference
//! ("Streaming messages"); the servers of vLLM, llama.cpp and Text Generation Inference speak OpenAI's.

use crate::api::Api;
use crate::json::lexer::Event;
use crate::json::number::whole;
use crate::json::path::Field::{
    self, Choices as ChoicesKey, Delta, Error, FinishReason, IncompleteDetails, Index, Message, Object, Reason,
    Response, Status, StopReason, Type, Usage as UsageKey,
};
use crate::json::path::Step::{self, Item, Key};
use crate::request::origin::ORIGIN_BYTES_MAX;
use crate::response::choices::Choices;
use crate::response::echo::Echo;
use crate::response::quality::{Checks, Finish, Quality};
use crate::response::strange::{Strange, is_beside};
use crate::response::usage::Usage;
use crate::response::{SHORTER_MAX, TextKind};
use crate::sink::CompletionSink;

/// How much is kept of a word that is looked at, in bytes: a reason, a status, a type.
const WORD_MAX: usize = 48;

/// What is known of a response so far.
pub struct Report {
    api: &'static Api,
    is_stream: bool,
    /// Text was generated in an earlier event: at all, of the current item, of the current part.
    has_spoken: bool,
    has_item_spoken: bool,
    has_part_spoken: bool,
    /// The current item began with a text, which is the name of a tool.
    is_item_named: bool,
    /// How many items have begun and are not over.
    open_items: u8,
    /// Text is generated in this event.
    speaks: bool,
    /// Something was there that answers have.
    is_familiar: bool,
    /// What kind of event this is: by its name, which comes first where there is one, or by its `type`.
    event_type: String,
    word: String,
    usage: Usage,
    /// The report that is being read.
    reported: Usage,
    has_usage: bool,
    /// Of the completion only what an answer begins with was reported.
    is_opening: bool,
    is_settled: bool,
    /// Something came in an event behind the one with the last report that was more than those before.
    is_followed: bool,
    /// This event has that report.
    reports: bool,
    failed: bool,
    /// An error was reported of which nothing is said.
    has_hollow_error: bool,
    finish: Option<Finish>,
    choices: Choices,
    /// From when on it may be needed, which most streams never come to.
    echo: Option<Box<Echo>>,
    /// Under which name content came first, and whether it also came under another.
    content_name: Option<Step>,
    has_two_names: bool,
    checks: Checks,
    strange: Strange,
    /// What its server calls it, where that is asked for.
    id: Option<Box<Id>>,
}

/// What a server calls its answer.
#[derive(Default)]
struct Id {
    value: Vec<u8>,
    is_whole: bool,
}

impl Id {
    /// Takes what an event adds to it. The first is that of the answer.
    fn keep(&mut self, steps: &[Step], event: Event<'_>) {
        if let ([Key(Field::Id)] | [Key(Response), Key(Field::Id)], false) = (steps, self.is_whole) {
            match event {
                Event::Key(_) => self.value.clear(),
                Event::Text(part) => {
                    self.value.extend(part.bytes().take(ORIGIN_BYTES_MAX.saturating_sub(self.value.len())));
                }
                Event::TextEnd => self.is_whole = !self.value.is_empty(),
                _ => {}
            }
        }
    }
}

/// Whether nothing below this place is of interest. That is most of an event.
#[inline]
pub fn is_skipped(steps: &[Step]) -> bool {
    matches!(steps, [Key(Field::Other | Field::Model), ..] | [Key(ChoicesKey), Item, Key(Field::Other), ..])
}

impl Report {
    pub fn new(api: &'static Api, json_output: bool) -> Self {
        Self {
            api,
            is_stream: false,
            is_familiar: false,
            event_type: String::new(),
            word: String::new(),
            usage: Usage::default(),
            reported: Usage::default(),
            has_usage: false,
            is_opening: false,
            is_settled: false,
            is_followed: false,
            reports: false,
            failed: false,
            has_hollow_error: false,
            finish: None,
            choices: Choices::new(api.has_choices),
            echo: None,
            content_name: None,
            has_two_names: false,
            has_spoken: false,
            has_item_spoken: false,
            has_part_spoken: false,
            is_item_named: false,
            open_items: 0,
            speaks: false,
            checks: Checks::new(json_output),
            strange: Strange::default(),
            id: None,
        }
    }

    /// What its server calls it is asked for.
    pub fn want_id(&mut self) {
        self.id = Some(Box::default());
    }

    /// What its server calls it, once that has come.
    pub fn id(&self) -> Option<&[u8]> {
        self.id.as_deref().filter(|id| id.is_whole).map(|id| id.value.as_slice())
    }

    /// It is a stream of events.
    pub fn is_of_stream(&mut self) {
        self.is_stream = true;
    }

    /// Whether anything of an answer was found in it.
    pub fn is_known(&self) -> bool {
        self.is_familiar || self.has_usage || self.failed() || self.finish.is_some() || self.checks.any_text()
    }

    /// Whether no text that is known was in it, but others that are more than words of an envelope; or whether such stand beside one.
    pub fn is_strange(&self) -> bool {
        if self.strange.is_much_beside() {
            return self.api.generates;
        }
        // What an answer begins with is no report of it, and what is too little for such a text is none.
        let is_reported =
            self.usage.completion.saturating_mul(SHORTER_MAX) >= self.strange.tokens().max(1) && !self.is_opening;
        self.api.generates && !self.checks.any_text() && !is_reported && self.strange.is_much(self.failed())
    }

    /// About how many tokens these are.
    pub fn strange_tokens(&self) -> u64 {
        if self.is_strange() { self.strange.tokens() } else { 0 }
    }

    pub fn is_stream(&self) -> bool {
        self.is_stream
    }

    /// Whether text was generated in an earlier event, so that what an event repeats of the whole answer is known.
    pub fn has_spoken(&self) -> bool {
        self.has_spoken
    }

    /// The same of the item that the response is at, and of its part.
    pub fn has_item_spoken(&self) -> bool {
        self.has_item_spoken
    }

    pub fn has_part_spoken(&self) -> bool {
        self.has_part_spoken
    }

    /// Whether the item's name was told when it began.
    pub fn is_item_named(&self) -> bool {
        self.is_item_named
    }

    /// Whether more was said behind what was reported, or something that could not be read.
    pub fn is_followed(&self) -> bool {
        // The last event may not be over.
        self.is_followed || (self.has_usage && self.speaks && !self.reports)
    }

    /// Something could not be read.
    pub fn breaks(&mut self) {
        self.speaks = true;
    }

    pub fn event_type(&self) -> &str {
        &self.event_type
    }

    pub fn usage(&self) -> Option<Usage> {
        let usage = if self.api.usage_leaves_out_cached { self.usage.with_cached() } else { self.usage };
        self.has_usage.then_some(usage)
    }

    /// Whether the completion's usage is that of Anthropic's first event only, which cannot know what will be generated.
    pub fn is_opening(&self) -> bool {
        self.is_opening
    }

    /// Whether usage was reported after it was known how the response ended, and so is not that of a part.
    pub fn is_settled(&self) -> bool {
        self.is_settled
    }

    /// Whether it reports an error. One of which nothing is said is none beside an answer.
    pub fn failed(&self) -> bool {
        let is_answer = || self.has_usage || self.finish.is_some() || self.checks.any_text();
        self.failed || (self.has_hollow_error && !is_answer())
    }

    pub fn quality(&mut self) -> Quality {
        self.checks.quality(self.finish, self.api.generates)
    }

    /// A piece of the event's name.
    pub fn event_name(&mut self, name: &[u8]) {
        // However it is cut: a byte is a character, or is left out.
        let room = WORD_MAX.saturating_sub(self.event_type.len());
        self.event_type.extend(name.iter().filter(|byte| byte.is_ascii()).take(room).map(|byte| char::from(*byte)));
    }

    /// That was none.
    pub fn no_name(&mut self) {
        self.event_type.clear();
    }

    pub fn end_event(&mut self) {
        self.has_spoken = self.checks.any_text();
        if self.has_usage {
            self.is_followed = !core::mem::take(&mut self.reports) && (self.is_followed || self.speaks);
        }
        if self.api.has_choices {
            self.speaks = false;
        } else {
            self.end_part();
        }
        self.event_type.clear();
        self.word.clear();
    }

    /// What the event, which is of a dialect without choices, was to the items and parts of the answer.
    #[inline(never)]
    fn end_part(&mut self) {
        let speaks = core::mem::take(&mut self.speaks);
        if self.event_type == "response.output_item.added" {
            (self.has_item_spoken, self.has_part_spoken, self.is_item_named) = (false, false, speaks);
            self.open_items = self.open_items.saturating_add(1);
        } else if self.event_type == "response.output_item.done" && self.open_items <= 1 {
            // The next one need not say that it begins.
            (self.has_item_spoken, self.has_part_spoken, self.is_item_named) = (false, false, false);
            self.open_items = 0;
        } else if self.event_type == "response.output_item.done" {
            self.open_items = self.open_items.saturating_sub(1);
        } else if self.event_type.ends_with("_part.added") {
            self.has_part_spoken = false;
        } else {
            self.has_item_spoken |= speaks;
            self.has_part_spoken |= speaks;
        }
    }

    /// Something of the usage, where it is that. Whether it stands there.
    #[inline]
    pub fn read_usage(&mut self, steps: &[Step], event: Event<'_>) -> bool {
        let ([Key(UsageKey), below @ ..] | [Key(Message | Response), Key(UsageKey), below @ ..]) = steps else {
            return false;
        };
        match (below, event) {
            ([], Event::Object) => self.reported = Usage::default(),
            ([], Event::Close) => self.report(matches!(steps, [Key(Message), ..])),
            (_, Event::Number(word)) if self.reported.count(below, word) => {
                self.has_usage = true;
                self.is_settled = self.finish.is_some();
            }
            _ => {}
        }
        true
    }

    /// A report of usage is complete; `begins`: it stands in what an answer begins with.
    #[inline(never)]
    fn report(&mut self, begins: bool) {
        if begins {
            self.is_opening = self.usage.completion == 0;
        } else {
            self.is_opening &= self.reported.completion == 0;
        }
        self.reports |= self.reported.completion >= self.usage.completion;
        self.usage = self.usage.then(self.reported, self.api.usage_leaves_out_cached);
    }

    /// Something of a text that was generated.
    #[inline]
    pub fn read_text(&mut self, kind: TextKind, steps: &[Step], event: Event<'_>, sink: &mut impl CompletionSink) {
        match event {
            _ if matches!(kind, TextKind::ToolInput { .. }) => self.read_input(kind, event, sink),
            Event::Key(_) => self.checks.begin(),
            Event::Text(part) if !part.is_empty() && self.may_repeat(kind, steps) => {
                self.read_once(kind, steps, part, sink);
            }
            Event::Text(part) if !part.is_empty() => {
                self.speaks = true;
                self.checks.part(kind, part, self.choices.is_first());
                self.choices.part(part, sink);
            }
            Event::TextEnd => {
                self.checks.end(kind, !self.is_stream);
                self.choices.end(sink);
            }
            _ => {}
        }
    }

    /// A piece of a text, as far as it has not come under another name.
    #[inline(never)]
    fn read_once(&mut self, kind: TextKind, steps: &[Step], part: &str, sink: &mut impl CompletionSink) {
        let echo = self.echo.get_or_insert_default();
        echo.at(kind, steps);
        for part in echo.fresh(part).into_iter().filter(|part| !part.is_empty()) {
            self.speaks = true;
            self.checks.part(kind, part, self.choices.is_first());
            self.choices.part(part, sink);
        }
    }

    /// Whether this may be a text that comes under two names. Of a stream's content that is known when it has, as nearly all of a stream is
    /// content under one name.
    fn may_repeat(&mut self, kind: TextKind, steps: &[Step]) -> bool {
        if !self.api.has_choices || kind != TextKind::Content || !self.is_stream {
            return self.api.has_choices;
        }
        let name = steps.get(2).copied();
        let first = self.content_name.or(name);
        self.has_two_names |= first != name;
        self.content_name = first;
        self.has_two_names
    }

    /// Something of arguments that are JSON.
    fn read_input(&mut self, kind: TextKind, event: Event<'_>, sink: &mut impl CompletionSink) {
        match event {
            // This is the key of the arguments themselves.
            Event::Key(_) if kind == (TextKind::ToolInput { nested: false }) => {}
            Event::Key(word) | Event::Number(word) => {
                self.checks.has_text();
                sink.part(0, word);
                sink.end();
            }
            Event::Text(part) => self.choices.part(part, sink),
            Event::TextEnd => sink.end(),
            _ => {}
        }
    }

    /// Anything else: how a response ended, whether it failed, which choice this is.
    #[inline]
    pub fn read(&mut self, steps: &[Step], event: Event<'_>, sink: &mut impl CompletionSink) {
        if let Some(id) = self.id.as_deref_mut() {
            id.keep(steps, event);
        }
        match (steps, event) {
            ([Key(ChoicesKey)], Event::Array) => self.is_familiar = true,
            ([Key(ChoicesKey), Item], Event::Object) => {
                self.choices.begin();
                if let Some(echo) = &mut self.echo {
                    echo.begin_choice();
                }
            }
            ([Key(ChoicesKey), Item], Event::Close) => self.choices.is(0, sink),
            ([Key(ChoicesKey), Item, Key(Index)], Event::Number(word)) => {
                let index = whole(word).and_then(|index| u32::try_from(index).ok()).unwrap_or(0);
                self.choices.is(index, sink);
            }
            ([Key(Error)] | [Key(Response), Key(Error)], Event::Object) => self.has_hollow_error = true,
            ([Key(Error)] | [Key(Response), Key(Error)], Event::Text(_))
            | ([Key(Error), Key(_)] | [Key(Response), Key(Error), Key(_)], Event::Key(_)) => {
                self.failed = true;
                self.skip(steps, event);
            }
            (
                [Key(ChoicesKey), Item, Key(FinishReason)]
                | [Key(StopReason | Status | Object | Type)]
                | [Key(Delta), Key(StopReason)]
                | [Key(Response), Key(Status)]
                | [Key(IncompleteDetails), Key(Reason)]
                | [Key(Response), Key(IncompleteDetails), Key(Reason)],
                _,
            ) => self.read_word(steps, event),
            (_, Event::Text(_) | Event::Key(_)) => self.skip(steps, event),
            _ => {}
        }
    }

    /// It is over. A text of which it is not known yet which choice it belongs to is that of the first.
    pub fn finish(&mut self, sink: &mut impl CompletionSink) {
        self.choices.is(0, sink);
    }

    /// Something that nobody reads. Where a text is known, it is only of interest beside that.
    #[inline]
    pub fn skip(&mut self, steps: &[Step], event: Event<'_>) {
        if (!self.has_spoken && !self.checks.any_text()) || is_beside(steps) {
            self.strange.see(steps, event, self.api.has_choices);
        }
    }

    /// Something of a word that says how it ended, or what kind of event this is.
    fn read_word(&mut self, steps: &[Step], event: Event<'_>) {
        match (event, steps) {
            (Event::Key(_), _) => self.word.clear(),
            (Event::Text(part), _) => {
                let room = WORD_MAX.saturating_sub(self.word.len());
                if part.len() <= room {
                    self.word.push_str(part);
                } else {
                    self.word.push_str(part.get(..part.ceil_char_boundary(room)).unwrap_or_default());
                }
            }
            // vLLM's form of an error in a stream.
            (Event::TextEnd, [Key(Object)]) => self.failed |= self.word == "error",
            (Event::TextEnd, [Key(Type)]) => self.read_type(),
            (Event::TextEnd, [Key(Status)] | [Key(Response), Key(Status)]) => self.read_status(),
            (Event::TextEnd, _) => self.read_reason(),
            _ => {}
        }
    }

    fn read_type(&mut self) {
        self.is_familiar = true;
        self.failed |= self.word == "error" || self.word == "response.failed";
        self.event_type.clone_from(&self.word);
    }

    fn read_status(&mut self) {
        self.is_familiar = true;
        match self.word.as_str() {
            "completed" => self.finish = self.finish.or(Some(Finish::Stop)),
            "failed" => self.failed = true,
            _ => {}
        }
    }

    fn read_reason(&mut self) {
        // Of several choices one that was cut short matters more than one that was not.
        if !matches!(self.finish, Some(Finish::Length | Finish::Filter)) {
            self.finish = Some(Finish::of(&self.word));
        }
    }
}
