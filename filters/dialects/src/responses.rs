//! OpenAI's responses.
//!
//! Sources: OpenAI API reference ("Create a model response", "Streaming events"). How messages are framed is not documented; it is
//! taken to be as in chats.

use crate::api::{Api, CountApi, Framing, ImagePrice, ModelAt};
use crate::error;
use crate::json::lexer::Event;
use crate::json::path::Field::{
    Arguments, Background, Code, Content, Conversation, Delta, Id, Input, Instructions, ItemKey, MaxOutputTokens, Name,
    Output, Part, PreviousResponseId, Prompt, Refusal, Response, Summary, Text, Transcript,
};
use crate::json::path::Step::{Item, Key};
use crate::json::path::{At, Step};
use crate::request::draft::Draft;
use crate::request::origin::OriginKey;
use crate::request::prompt::{anything, arguments, list_of_messages};
use crate::response::TextKind;
use crate::response::report::Report;
use crate::sink::PromptSink;

pub const API: Api = Api {
    paths: &["/v1/responses"],
    count: Some(CountApi { path: "/v1/responses/input_tokens", answer: counted }),
    model: ModelAt::Body,
    ceilings: &[MaxOutputTokens],
    ceiling_key: Some("max_output_tokens"),
    is_ceiling_key_configurable: false,
    usage_on_request: false,
    usage_leaves_out_cached: false,
    framing: Framing { message: 3, name: 0, reply: 3, documented: false },
    image_price: ImagePrice::Detail,
    generates: true,
    has_choices: false,
    error: error::openai,
};

/// The answer to a request that is only counted.
fn counted(tokens: u64) -> Vec<u8> {
    format!("{{\"object\":\"response.input_tokens\",\"input_tokens\":{tokens}}}").into_bytes()
}

/// Instructions, and the input as text or as items: messages, calls of tools, what these returned, reasoning.
pub fn read_request(at: &At<'_>, draft: &mut Draft, sink: &mut impl PromptSink) {
    match (at.steps, at.event) {
        ([Key(Input | Instructions)], Event::Text(part)) => sink.part(part),
        ([Key(Input | Instructions)], Event::TextEnd) => {
            draft.request.messages = draft.request.messages.saturating_add(1);
            sink.end();
        }
        ([Key(Input)], Event::Key(_) | Event::Null) => {}
        ([Key(Input)] | [Key(Input), Item], Event::Array | Event::Object | Event::Close | Event::Key(_)) => {
            list_of_messages(at, draft);
        }
        ([Key(Input)] | [Key(Input), Item], _) => draft.mistyped("input must be text or items", at.span),
        ([Key(Background)], event) => background(event, at, draft),
        ([Key(PreviousResponseId)], event) => stored(OriginKey::PreviousResponse, event, draft),
        ([Key(Conversation)], event) => stored(OriginKey::Conversation, event, draft),
        ([Key(Conversation), Key(Id)], event) => {
            draft.belongs(OriginKey::Conversation, event);
            draft.unread(at);
        }
        ([Key(Prompt)], Event::Object) => {
            draft.request.unseen = true;
            draft.label(at.event);
        }
        ([Key(Prompt), Key(_)], event) => draft.label(event),
        ([Key(Input), Item, Key(Arguments), below @ ..], _) => arguments(below, at, draft, sink),
        ([Key(Input | Instructions | Prompt), ..], _) => anything(at, draft, sink),
        _ => draft.unread(at),
    }
}

/// What is stored at the server is not seen here.
fn stored(key: OriginKey, event: &Event<'_>, draft: &mut Draft) {
    draft.request.unseen |= matches!(event, Event::Text(_) | Event::Object);
    draft.belongs(key, event);
    draft.label(event);
}

/// Whether the answer is worked on behind the back of a response that says `queued`.
fn background(event: &Event<'_>, at: &At<'_>, draft: &mut Draft) {
    match event {
        Event::Key(_) | Event::Null => {}
        Event::Bool(background) => draft.request.background = *background,
        // Servers take `"true"` and 1 for it.
        _ => draft.mistyped("background must be true or false", at.span),
    }
}

/// The texts of the output's items. In a stream they come as deltas and are repeated at the end of each part, of each item, and of all: that
/// is read where nothing of it came before. What kind of event it is may stand behind that.
pub fn generated(steps: &[Step], report: &Report) -> Option<TextKind> {
    match steps {
        [Key(Delta)] => delta(report.event_type()),
        [Key(ItemKey), inside @ ..] => match report.event_type() {
            "response.output_item.added" => matches!(inside, [Key(Name)]).then_some(TextKind::ToolName),
            "response.output_item.done" | "" if !report.has_item_spoken() => {
                output_item(inside).filter(|kind| *kind != TextKind::ToolName || !report.is_item_named())
            }
            _ => None,
        },
        [Key(Text | Refusal | Arguments | Transcript | Code | Input)]
        | [Key(Part), Key(Text | Refusal | Transcript)]
            if !report.has_part_spoken()
                && (report.event_type().ends_with(".done") || report.event_type().is_empty()) =>
        {
            delta(report.event_type())
        }
        [Key(Output), Item, inside @ ..] if !report.is_stream() => output_item(inside),
        [Key(Response), Key(Output), Item, inside @ ..] if !report.has_spoken() => output_item(inside),
        _ => None,
    }
}

/// What a delta is of is in the event's type only.
fn delta(event_type: &str) -> Option<TextKind> {
    if event_type.contains("_call_arguments") {
        Some(TextKind::ToolArguments)
    } else if ["reasoning", "transcript", "_call_"].iter().any(|part| event_type.contains(part)) {
        // Code and free text for tools are no more what was asked for than thoughts are.
        Some(TextKind::Reasoning)
    } else if event_type.contains("audio") {
        None
    } else {
        Some(TextKind::Content)
    }
}

fn output_item(inside: &[Step]) -> Option<TextKind> {
    match inside {
        [Key(Name)] => Some(TextKind::ToolName),
        [Key(Arguments)] => Some(TextKind::ToolArguments),
        [Key(Content)] | [Key(Content), Item, Key(Text | Refusal)] => Some(TextKind::Content),
        [Key(Summary), Item, Key(Text)] | [Key(Content), Item, Key(Transcript)] | [Key(Code | Input)] => {
            Some(TextKind::Reasoning)
        }
        _ => None,
    }
}
