//! Texts at places of an answer that no reader knows. Where nothing else of an answer was found, they may be the answer.

use crate::json::lexer::Event;
use crate::json::path::Field::{
    CallId, ContentBlock, Conversation, Data, Detail, EncryptedContent, Error, FileId, FinishReason, Format, Id,
    ImageUrl, Instructions, MediaType, Message, Model, Object, Other, PreviousResponseId, Prompt, Reasoning, Response,
    Role, Signature, Status, StopReason, Text, ToolCallId, ToolUseId, Tools, Truncation, Type, Url,
};
use crate::json::path::Step::{self, Key};

/// How long all of them are at most where they are only words about an answer, in bytes.
const WORDS_MAX: u16 = 64;

/// Counts these texts.
#[derive(Default)]
pub struct Strange {
    /// How long they are, in bytes.
    len: u16,
    /// As above, of what is part of an error where there is one.
    message: u16,
    /// Below the current key nothing is an answer.
    is_label: bool,
}

impl Strange {
    /// Whether they are more than words about an answer; `failed`: it reports an error.
    pub fn is_much(&self, failed: bool) -> bool {
        let message = if failed { 0 } else { self.message };
        self.len.saturating_add(message) > WORDS_MAX
    }

    /// Something that no reader knows; `has_choices`: the dialect has them.
    #[inline(never)]
    pub fn see(&mut self, steps: &[Step], event: Event<'_>, has_choices: bool) {
        match (steps, event) {
            ([Key(Other)] | [Key(Response), Key(Other)], Event::Key(key)) => self.is_label = is_label(key),
            (_, Event::Text(part)) if !self.is_about(steps, has_choices) => {
                let count = if let [Key(Message | Detail)] = steps { &mut self.message } else { &mut self.len };
                *count = count.saturating_add(u16::try_from(part.len()).unwrap_or(u16::MAX));
            }
            _ => {}
        }
    }

    /// Whether what stands here says something about an answer, and is none.
    fn is_about(&self, steps: &[Step], has_choices: bool) -> bool {
        let inside = if let [Key(Response), inside @ ..] = steps { inside } else { steps };
        match inside {
            [Key(Error | Model), ..] => true,
            [Key(Other), ..] if self.is_label => true,
            // What a response repeats of its request.
            [Key(Instructions | Tools | Prompt | Conversation | PreviousResponseId | Truncation), ..]
            | [Key(Text | Reasoning), _, ..]
                if !has_choices =>
            {
                true
            }
            [
                ..,
                Key(
                    Id | Object | Role | Type | Status | FinishReason | StopReason | Signature | EncryptedContent | CallId
                    | ToolCallId | ToolUseId | FileId | Format | MediaType,
                ),
            ]
            // What is heard or seen.
            | [_, _, .., Key(Data | Url | ImageUrl)]
            | [Key(ContentBlock), Key(Data)] => true,
            _ => false,
        }
    }
}

/// Whether a key is that of a word about an answer.
fn is_label(key: &str) -> bool {
    key.ends_with("_id")
        || key.ends_with("_at")
        || matches!(
            key,
            "metadata"
                | "obfuscation"
                | "prompt_cache_key"
                | "provider"
                | "safety_identifier"
                | "service_tier"
                | "stop_sequence"
                | "system_fingerprint"
                | "tool_choice"
                | "user"
        )
}
