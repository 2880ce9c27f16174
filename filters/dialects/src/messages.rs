//! Anthropic's messages.
//!
//! Sources: Anthropic API reference ("Create a Message", "Streaming messages", "Errors"); Anthropic, "Vision", for the price of images.
//! How messages are framed is not documented; it is taken to be as in OpenAI's chats.

use crate::api::{Api, CountApi, Framing, ImagePrice, ModelAt};
use crate::error;
use crate::json::lexer::Event;
use crate::json::path::Field::{
    Content, ContentBlock, Delta, Input, MaxTokens, Message, Messages, Name, PartialJson, Signature, System, Text,
    Thinking, Type,
};
use crate::json::path::Step::{Item, Key};
use crate::json::path::{At, Step};
use crate::request::draft::Draft;
use crate::request::head::Head;
use crate::request::prompt::{anything, arguments, list_of_messages};
use crate::response::TextKind;
use crate::response::report::Report;
use crate::sink::PromptSink;

pub const API: Api = Api {
    paths: &["/v1/messages"],
    count: Some(CountApi { path: "/v1/messages/count_tokens", answer: counted }),
    model: ModelAt::Body,
    ceilings: &[MaxTokens],
    ceiling_key: Some("max_tokens"),
    is_ceiling_key_configurable: false,
    usage_on_request: false,
    usage_leaves_out_cached: true,
    framing: Framing { message: 3, name: 0, reply: 3, documented: false },
    image_price: ImagePrice::Area,
    generates: true,
    has_choices: false,
    error: error::anthropic,
};

/// The answer to a request that is only counted.
fn counted(tokens: u64) -> Vec<u8> {
    format!("{{\"input_tokens\":{tokens}}}").into_bytes()
}

/// The system prompt, and the blocks of the messages' content.
pub fn read_request(at: &At<'_>, draft: &mut Draft, sink: &mut impl PromptSink) {
    match (at.steps, at.event) {
        ([Key(Messages)] | [Key(Messages), Item], _) => list_of_messages(at, draft),
        ([Key(Messages), Item, Key(Content), Item, Key(Input), below @ ..], _) => arguments(below, at, draft, sink),
        ([Key(Messages), Item, Key(Content), Item], Event::Object) => draft.block = Head::default(),
        ([Key(Messages), Item, Key(Content), Item, Key(Type)], event) => {
            draft.block.keep(event);
            anything(at, draft, sink);
        }
        // Of a thought: what only the server that made it can read.
        ([Key(Messages), Item, Key(Content), Item, Key(Signature)], _) if draft.block.as_str() == "thinking" => {}
        ([Key(System | Messages), ..], _) => anything(at, draft, sink),
        _ => draft.unread(at),
    }
}

/// The texts of the blocks of content; in a stream they begin with a `content_block` and go on with deltas. A few servers begin with a message
/// that has all of them, or send content that is one text.
pub fn generated(steps: &[Step], _: &Report) -> Option<TextKind> {
    if let [Key(Content)] | [Key(Message), Key(Content)] = steps {
        return Some(TextKind::Content);
    }
    let ([Key(Content), Item, block @ ..]
    | [Key(Message), Key(Content), Item, block @ ..]
    | [Key(ContentBlock | Delta), block @ ..]) = steps
    else {
        return None;
    };
    match block {
        [Key(Input), below @ ..] => Some(TextKind::ToolInput { nested: !below.is_empty() }),
        [Key(Text)] => Some(TextKind::Content),
        // What a server has made of a conversation that was too long (`compaction`) stands in its content.
        [Key(Thinking | Content)] => Some(TextKind::Reasoning),
        [Key(Name)] => Some(TextKind::ToolName),
        [Key(PartialJson)] => Some(TextKind::ToolArguments),
        _ => None,
    }
}
