//! What the structure of a response tells about its quality, for comparing the versions of a model.

use core::ops::Range;

use crate::json::{Event, Lexer, Visitor};

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
    /// Why it ended, if it said so; of several answers the worst.
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

/// Whether a text that comes in pieces is JSON.
#[derive(Default)]
pub(crate) struct JsonCheck {
    lexer: Lexer,
    any: bool,
    broken: bool,
}

impl JsonCheck {
    pub(crate) fn push(&mut self, text: &str) {
        self.any |= !text.is_empty();
        self.broken = self.broken || self.lexer.push(text.as_bytes(), &mut Quiet).is_err();
    }

    /// Whether what came is no JSON. Nothing at all is none of its business.
    pub(crate) fn is_malformed(&mut self) -> bool {
        self.any && (self.broken || self.lexer.finish(&mut Quiet).is_err())
    }
}

struct Quiet;

impl Visitor for Quiet {
    fn event(&mut self, _: Event<'_>, _: Range<usize>) {}
}
