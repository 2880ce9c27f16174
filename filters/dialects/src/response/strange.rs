//! Texts at places of an answer that no reader knows. Where nothing else of an answer was found, they may be the answer; where a text is
//! known, those may still be that stand beside it, in the message or the delta itself.

use crate::json::lexer::Event;
use crate::json::path::Field::{
    CallId, Choices, ContentBlock, Conversation, Data, Delta, Detail, EncryptedContent, Error, FileId, FinishReason,
    Format, Id, ImageUrl, Instructions, MediaType, Message, Model, Object, Other, PreviousResponseId, Prompt,
    Reasoning, Response, Role, Signature, Status, StopReason, Text, ToolCallId, ToolUseId, Tools, Truncation, Type,
    Url,
};
use crate::json::path::Step::{self, Item, Key};

/// How long all of them are at most where they are only words about an answer, in bytes.
const WORDS_MAX: u16 = 64;

/// How long the words of an error are at most, in bytes.
const ERROR_MAX: u16 = 2048;

/// Counts these texts.
#[derive(Default)]
pub struct Strange {
    /// How long they are, in bytes.
    len: u16,
    /// As above, of what is an error, or part of one where there is one.
    message: u16,
    /// As above, of what stands in messages and deltas, whatever else does.
    beside: u16,
    /// Below the current key nothing is an answer.
    is_label: bool,
}

impl Strange {
    /// Whether they are more than words about an answer; `failed`: it reports an error.
    pub fn is_much(&self, failed: bool) -> bool {
        let message = if failed { self.message.saturating_sub(ERROR_MAX) } else { self.message };
        self.len.saturating_add(message) > WORDS_MAX
    }

    /// About how many tokens they are: one for four bytes.
    pub fn tokens(&self) -> u64 {
        u64::from(self.len.max(self.message)) / 4
    }

    /// Whether those in messages and deltas are, although a text is known.
    pub fn is_much_beside(&self) -> bool {
        self.beside > WORDS_MAX
    }

    /// Something that no reader knows; `has_choices`: the dialect has them.
    #[inline(never)]
    pub fn see(&mut self, steps: &[Step], event: Event<'_>, has_choices: bool) {
        match event {
            Event::Key(key) => {
                if let [above @ .., Key(Other)] = steps
                    && let [] | [Key(Response | Delta)] | [Key(Choices), Item, Key(Message | Delta)] = above
                {
                    self.is_label = is_label(key);
                }
            }
            Event::Text(part) if !self.is_about(steps, has_choices) => {
                let len = u16::try_from(part.len()).unwrap_or(u16::MAX);
                let is_error =
                    matches!(steps, [Key(Message | Detail)] | [Key(Error), ..] | [Key(Response), Key(Error), ..]);
                let count = if is_error { &mut self.message } else { &mut self.len };
                *count = count.saturating_add(len);
                if is_beside(steps) {
                    self.beside = self.beside.saturating_add(len);
                }
            }
            _ => {}
        }
    }

    /// Whether what stands here says something about an answer, and is none.
    fn is_about(&self, steps: &[Step], has_choices: bool) -> bool {
        let inside = if let [Key(Response), inside @ ..] = steps { inside } else { steps };
        match inside {
            [Key(Model), ..] => true,
            [Key(Other), ..] | [Key(Choices), Item, _, Key(Other), ..] | [Key(Delta), Key(Other), ..] if self.is_label => {
                true
            }
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

/// Whether it is looked at here although a text is known: below a message or a delta of a choice, or a delta that is an object.
#[inline]
pub fn is_beside(steps: &[Step]) -> bool {
    matches!(steps, [Key(Choices), Item, Key(Message | Delta), _, ..] | [Key(Delta), _, ..])
}

/// Whether a key is that of a word about an answer, or of what an answer quotes, which was not generated.
fn is_label(key: &str) -> bool {
    key.ends_with("_id")
        || key.ends_with("_at")
        || matches!(
            key,
            "annotations"
                | "citation"
                | "citations"
                | "metadata"
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
