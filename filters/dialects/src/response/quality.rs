//! What the structure of a response says of its quality, for comparing the versions of a model.

use core::ops::Range;

use crate::json::lexer::{Event, Lexer, Visitor};
use crate::response::TextKind;

/// Why a response ended, in the terms of all dialects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// `stop`, `end_turn`, `stop_sequence`, `completed`.
    Stop,
    /// `tool_calls`, `function_call`, `tool_use`.
    ToolCalls,
    /// `length`, `max_tokens`, `max_output_tokens`.
    Length,
    /// `content_filter`, `refusal`.
    Filter,
    /// Anything else.
    Other,
}

impl Finish {
    /// The meaning of a `finish_reason`, `stop_reason`, or of the status of a response and what it says of its incompleteness.
    pub(crate) fn of(reason: &str) -> Self {
        match reason {
            "stop" | "end_turn" | "stop_sequence" | "completed" | "eos_token" => Self::Stop,
            "tool_calls" | "function_call" | "tool_use" => Self::ToolCalls,
            "length" | "max_tokens" | "max_output_tokens" => Self::Length,
            "content_filter" | "refusal" => Self::Filter,
            _ => Self::Other,
        }
    }

    /// As an access log shows it.
    pub fn label(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::ToolCalls => "tool_calls",
            Self::Length => "length",
            Self::Filter => "filter",
            Self::Other => "other",
        }
    }
}

/// The signals of one response.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quality {
    /// Why it ended, if it said so; of several choices the worst.
    pub finish: Option<Finish>,
    /// Nothing was generated.
    pub empty: bool,
    /// The arguments of some tool call are not JSON.
    pub malformed_tool_args: bool,
    /// JSON was asked for, and the text is none.
    pub malformed_json_output: bool,
    /// How many tools the response calls.
    pub tool_calls: u32,
}

/// Gathers the signals from the texts as they are generated.
pub(crate) struct Checks {
    has_text: bool,
    tool_calls: u32,
    /// In the name of a tool, with which its call began.
    in_name: bool,
    /// The arguments of the current call.
    arguments: Option<Box<JsonCheck>>,
    malformed_tool_args: bool,
    /// The output, where it is to be JSON.
    output: Option<Box<JsonCheck>>,
}

impl Checks {
    pub(crate) fn new(json_output: bool) -> Self {
        Self {
            has_text: false,
            tool_calls: 0,
            in_name: false,
            arguments: None,
            malformed_tool_args: false,
            output: json_output.then(Box::default),
        }
    }

    /// Something was generated.
    pub(crate) fn has_text(&mut self) {
        self.has_text = true;
    }

    /// Whether anything was.
    pub(crate) fn any_text(&self) -> bool {
        self.has_text
    }

    /// A text begins.
    pub(crate) fn begin(&mut self) {
        self.in_name = false;
    }

    /// A piece of a text. Only the first of several choices is checked for being JSON.
    pub(crate) fn part(&mut self, kind: TextKind, part: &str, is_first_choice: bool) {
        self.has_text = true;
        match kind {
            TextKind::Content => {
                if let Some(output) = self.output.as_mut().filter(|_| is_first_choice) {
                    output.push(part);
                }
            }
            TextKind::ToolName => {
                if !core::mem::replace(&mut self.in_name, true) {
                    self.end_call();
                    self.tool_calls = self.tool_calls.saturating_add(1);
                }
            }
            TextKind::ToolArguments => self.arguments.get_or_insert_default().push(part),
            TextKind::Reasoning | TextKind::ToolInput { .. } => {}
        }
    }

    /// A text is over, and with it a call if it was the arguments as a whole.
    pub(crate) fn end(&mut self, kind: TextKind, is_whole: bool) {
        self.in_name = false;
        if is_whole && kind == TextKind::ToolArguments {
            self.end_call();
        }
    }

    fn end_call(&mut self) {
        self.malformed_tool_args |= self.arguments.take().is_some_and(|mut arguments| arguments.is_malformed());
    }

    /// The signals, at the end of the response.
    pub(crate) fn quality(&mut self, finish: Option<Finish>, generates: bool) -> Quality {
        self.end_call();
        Quality {
            finish,
            empty: generates && !self.has_text,
            malformed_tool_args: self.malformed_tool_args,
            malformed_json_output: self.output.as_deref_mut().is_some_and(JsonCheck::is_malformed),
            tool_calls: self.tool_calls,
        }
    }
}

/// Whether a text that comes in pieces is JSON.
#[derive(Default)]
struct JsonCheck {
    lexer: Lexer,
    any: bool,
    broken: bool,
}

impl JsonCheck {
    fn push(&mut self, text: &str) {
        self.any |= !text.is_empty();
        self.broken = self.broken || self.lexer.push(text.as_bytes(), &mut Quiet).is_err();
    }

    /// Whether what came is no JSON. Nothing at all is none of its business.
    fn is_malformed(&mut self) -> bool {
        self.any && (self.broken || self.lexer.finish(&mut Quiet).is_err())
    }
}

/// Takes no interest in what is read.
pub(crate) struct Quiet;

impl Visitor for Quiet {
    fn event(&mut self, _: Event<'_>, _: Range<usize>) {}
}
