//! The parts of a prompt that several dialects have in the same form.

use crate::json::lexer::Event;
use crate::json::path::Field::{
    CacheControl, CallId, EncryptedContent, Format, Id, Other, Status, Text, ToolCallId, ToolUseId,
};
use crate::json::path::Step::{Item, Key};
use crate::json::path::{At, Step};
use crate::request::draft::Draft;
use crate::request::parts::Read;
use crate::sink::{PromptSink, text};

/// What stands somewhere in a prompt: every text costs tokens unless it is known to be none, as ids and words for types are, or to be a part
/// of another kind. Keys and numbers are not put into prompts, and count by their length where there are many.
pub fn anything(at: &At<'_>, draft: &mut Draft, sink: &mut impl PromptSink) {
    match (at.steps, at.event) {
        ([.., Key(Text)], Event::Text(_) | Event::TextEnd) => return text(at.event, sink),
        ([.., Key(CacheControl), _], event) => return draft.label(event),
        _ => {}
    }
    match draft.parts.read(at, sink) {
        Read::Done => return,
        Read::Label => return draft.label(at.event),
        Read::Not => {}
    }
    match (at.steps, at.event) {
        ([.., Key(Id | CallId | ToolCallId | ToolUseId | Status | Format | EncryptedContent)], event) => {
            draft.label(event);
        }
        ([.., Key(Other)] | [.., Key(Other), Item], Event::Text(_) | Event::TextEnd) => {
            draft.parts.unknown(at);
            text(at.event, sink);
        }
        (_, Event::Text(_) | Event::TextEnd | Event::Number(_)) => {
            if !draft.parts.is_empty() {
                draft.parts.unknown(at);
            }
            match at.event {
                Event::Number(_) => draft.unread(at),
                event => text(event, sink),
            }
        }
        ([.., Key(Other)], Event::Key(_)) => draft.unread(at),
        _ => {}
    }
}

/// The arguments of a call, where they are an object: its keys and values cost what they are.
pub fn arguments(below: &[Step], at: &At<'_>, draft: &mut Draft, sink: &mut impl PromptSink) {
    match at.event {
        // This is the key of the arguments themselves.
        Event::Key(_) if below.is_empty() => {}
        // A key that is longer than is kept.
        Event::Key("") => draft.unread(at),
        Event::Key(word) | Event::Number(word) => {
            sink.part(word);
            sink.end();
        }
        event => text(event, sink),
    }
}

/// An array of objects, each a message.
pub fn list_of_messages(at: &At<'_>, draft: &mut Draft) {
    match (at.steps, at.event) {
        ([_], Event::Array | Event::Close | Event::Key(_)) | ([_, _], Event::Close) => {}
        ([_], _) => draft.mistyped("messages must be an array", at.span),
        (_, Event::Object) => draft.request.messages = draft.request.messages.saturating_add(1),
        _ => draft.mistyped("messages must be objects", at.span),
    }
}

/// A string, an array of strings, an array of tokens, or an array of arrays of tokens. `mistyped` says that it is none of these.
pub fn texts_or_tokens(at: &At<'_>, draft: &mut Draft, mistyped: &'static str, sink: &mut impl PromptSink) {
    match (at.steps, at.event) {
        (_, Event::Key(_) | Event::Close) | ([_], Event::Array | Event::Null) => {}
        ([_] | [_, Item], Event::Text(part)) => {
            if at.steps.len() == 1 {
                draft.prompts = draft.prompts.max(1);
            }
            sink.part(part);
        }
        ([_], Event::TextEnd) => sink.end(),
        ([_, Item], Event::TextEnd) => {
            draft.prompts = draft.prompts.saturating_add(1);
            sink.end();
        }
        ([_, Item], Event::Array) => draft.prompts = draft.prompts.saturating_add(1),
        ([_, Item] | [_, Item, Item], Event::Number(_)) => {
            draft.prompts = draft.prompts.max(1);
            draft.request.token_ids = draft.request.token_ids.saturating_add(1);
        }
        _ => draft.mistyped(mistyped, at.span),
    }
}
