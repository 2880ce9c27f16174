//! The parts of a prompt that several dialects have in the same form.

use crate::json::lexer::Event;
use crate::json::path::At;
use crate::json::path::Step::Item;
use crate::request::draft::Draft;
use crate::sink::PromptSink;

/// A text that costs tokens.
pub fn text(event: &Event<'_>, sink: &mut impl PromptSink) {
    match event {
        Event::Text(part) => sink.part(part),
        Event::TextEnd => sink.end(),
        _ => {}
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
        ([_] | [_, Item], Event::Text(part)) => sink.part(part),
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
