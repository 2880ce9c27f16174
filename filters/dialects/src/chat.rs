//! OpenAI's chat completions, which most model servers speak.
//!
//! Sources: OpenAI API reference ("Create chat completion", "The chat completion chunk object"); OpenAI cookbook, "How to count
//! tokens with tiktoken", for the framing; vLLM, "OpenAI-Compatible Server", extra parameters, for reasoning.

use crate::api::{Api, Framing, ImagePrice, ModelAt};
use crate::error;
use crate::json::lexer::Event;
use crate::json::path::Field::{
    self, Arguments, AudioKey, Choices, Content, Custom, Delta, Function, FunctionCall, Input, MaxCompletionTokens,
    MaxTokens, Message, Messages, NPredict, Name, Reasoning, ReasoningContent, ReasoningDetails, ReasoningText,
    Refusal, Role, Summary, Text, Thinking, ThinkingBlocks, ToolCalls, Transcript,
};
use crate::json::path::Step::{Item, Key};
use crate::json::path::{At, Step};
use crate::request::draft::Draft;
use crate::request::prompt::{anything, arguments, list_of_messages};
use crate::response::TextKind;
use crate::response::report::Report;
use crate::sink::{PromptSink, text};

pub const API: Api = Api {
    paths: &["/v1/chat/completions"],
    count: None,
    model: ModelAt::Body,
    // `n_predict` is llama.cpp's own, which it prefers to the others.
    ceilings: &[MaxTokens, MaxCompletionTokens, NPredict],
    ceiling_key: Some("max_tokens"),
    // OpenAI's reasoning models take `max_completion_tokens` only.
    is_ceiling_key_configurable: true,
    usage_on_request: true,
    usage_leaves_out_cached: false,
    framing: Framing { message: 3, name: 1, reply: 3, documented: true },
    image_price: ImagePrice::Detail,
    generates: true,
    has_choices: true,
    error: error::openai,
};

/// The texts of the messages, and what else they have in them.
pub fn read_request(at: &At<'_>, draft: &mut Draft, sink: &mut impl PromptSink) {
    match (at.steps, at.event) {
        ([Key(Messages)] | [Key(Messages), Item], _) => list_of_messages(at, draft),
        ([Key(Messages), Item, Key(Name)], Event::TextEnd) => {
            draft.request.names = draft.request.names.saturating_add(1);
            sink.end();
        }
        (
            [Key(Messages), Item, Key(Role | Content)] | [Key(Messages), Item, Key(Content), Item, Key(Text)],
            Event::Text(_) | Event::TextEnd,
        ) => text(at.event, sink),
        (
            [Key(Messages), Item, Key(ToolCalls), Item, Key(Function), Key(Arguments), below @ ..]
            | [Key(Messages), Item, Key(FunctionCall), Key(Arguments), below @ ..],
            _,
        ) => arguments(below, at, draft, sink),
        ([Key(Messages), ..], _) => anything(at, draft, sink),
        _ => draft.unread(at),
    }
}

/// The texts of each choice: of its message or, in a stream, of a delta. A few servers answer with `text`, as completions do.
// Two dialects read it, and a call for every member of an event is 2 % of what the event costs.
#[inline(always)]
pub fn generated(steps: &[Step], _: &Report) -> Option<TextKind> {
    match steps {
        // Nearly all of a stream is this.
        [Key(Choices), Item, Key(Message | Delta), Key(Content)] => Some(TextKind::Content),
        [Key(Choices), Item, Key(Message | Delta), Key(field), below @ ..] => said(*field, below),
        [Key(Choices), Item, Key(Text)] => Some(TextKind::Content),
        _ => None,
    }
}

/// A text of a message. Besides OpenAI's names: `reasoning_content` (DeepSeek, vLLM), `reasoning` and `reasoning_details` (OpenRouter),
/// `thinking_blocks` (LiteLLM), and parts of content (Mistral).
#[inline(never)]
fn said(field: Field, below: &[Step]) -> Option<TextKind> {
    match (field, below) {
        (Content, [] | [Item] | [Key(Text)] | [Item, .., Key(Text)]) => Some(TextKind::Content),
        // A refusal and what is said aloud need not be in the form that was asked for.
        (ReasoningContent | Reasoning | ReasoningText | Thinking | Refusal, [])
        | (Content, [Item, Key(Thinking)])
        | (ThinkingBlocks, [Item, Key(Thinking)])
        | (ReasoningDetails, [Item, Key(Text | Summary)])
        | (AudioKey, [Key(Transcript)])
        | (ToolCalls, [Item, Key(Custom), Key(Input)]) => Some(TextKind::Reasoning),
        (ToolCalls, [Item, Key(Function | Custom), Key(Name)]) | (FunctionCall, [Key(Name)]) => {
            Some(TextKind::ToolName)
        }
        (ToolCalls, [Item, Key(Function), Key(Arguments)]) | (FunctionCall, [Key(Arguments)]) => {
            Some(TextKind::ToolArguments)
        }
        // A few servers send them as they are, and not as a text.
        (ToolCalls, [Item, Key(Function), Key(Arguments), ..]) | (FunctionCall, [Key(Arguments), ..]) => {
            Some(TextKind::ToolInput { nested: true })
        }
        _ => None,
    }
}
