//! OpenAI's chat completions, which most model servers speak.
//!
//! Sources: OpenAI API reference ("Create chat completion", "The chat completion chunk object"); OpenAI cookbook, "How to count
//! tokens with tiktoken", for the framing; vLLM, "OpenAI-Compatible Server", extra parameters, for reasoning.

use crate::api::{Api, Framing, ImagePrice, ModelAt};
use crate::error;
use crate::json::lexer::Event;
use crate::json::path::Field::{
    Arguments, Choices, Content, Delta, Function, ImageUrl, MaxCompletionTokens, MaxTokens, Message, Messages,
    NPredict, Name, Reasoning, ReasoningContent, Refusal, Role, Text, ToolCalls,
};
use crate::json::path::Step::{Item, Key};
use crate::json::path::{At, Step};
use crate::request::draft::Draft;
use crate::request::prompt::{list_of_messages, text};
use crate::response::TextKind;
use crate::response::report::Report;
use crate::sink::PromptSink;

pub const API: Api = Api {
    paths: &["/v1/chat/completions"],
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

/// The texts and images of the messages.
pub fn read_request(at: &At<'_>, draft: &mut Draft, sink: &mut impl PromptSink) {
    match (at.steps, at.event) {
        ([Key(Messages)] | [Key(Messages), Item], _) => list_of_messages(at, draft),
        ([Key(Messages), Item, Key(Name)], Event::TextEnd) => {
            draft.request.names = draft.request.names.saturating_add(1);
            sink.end();
        }
        ([Key(Messages), Item, Key(Content), Item, Key(ImageUrl)], Event::Object) => draft.images.begin(),
        ([Key(Messages), Item, Key(Content), Item, Key(ImageUrl), Key(field)], event) => {
            draft.images.field(*field, event);
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

/// The texts of each choice: of its message or, in a stream, of a delta. A few servers answer with `text`, as completions do.
pub fn generated(steps: &[Step], _: &Report) -> Option<TextKind> {
    match steps {
        [Key(Choices), Item, Key(Message | Delta), Key(field)] => match field {
            Content => Some(TextKind::Content),
            // A refusal need not be what was asked for.
            ReasoningContent | Reasoning | Refusal => Some(TextKind::Reasoning),
            _ => None,
        },
        [Key(Choices), Item, Key(Message | Delta), Key(ToolCalls), Item, Key(Function), Key(field)] => match field {
            Name => Some(TextKind::ToolName),
            Arguments => Some(TextKind::ToolArguments),
            _ => None,
        },
        [Key(Choices), Item, Key(Text)] => Some(TextKind::Content),
        _ => None,
    }
}
