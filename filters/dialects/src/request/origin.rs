//! What a request says of whom and what it belongs to: words by which callers, and servers, know it again.

use crate::json::lexer::Event;
use crate::json::path::Field::Other;
use crate::json::path::Step::Key;
use crate::json::path::{At, Step};

/// How much is kept of each, in bytes; one that is longer counts by its beginning. OpenAI's own have at most 64 characters.
pub const ORIGIN_BYTES_MAX: usize = 256;

/// A field that says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OriginKey {
    /// `user`, else `metadata.user_id`, as it is in Anthropic's messages.
    User,
    /// `safety_identifier`
    SafetyIdentifier,
    /// `prompt_cache_key`
    PromptCacheKey,
    /// `conversation`, or its `id` (Responses API).
    Conversation,
    /// `previous_response_id` (Responses API).
    PreviousResponse,
}

/// Whom and what a request belongs to, as far as it says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    said: [Vec<u8>; 5],
    metadata_user: Vec<u8>,
}

impl Origin {
    /// What the request says there.
    pub fn get(&self, key: OriginKey) -> Option<&[u8]> {
        let said = self.said.get(key as usize).filter(|value| !value.is_empty());
        let metadata = || Some(&self.metadata_user).filter(|value| key == OriginKey::User && !value.is_empty());
        said.or_else(metadata).map(Vec::as_slice)
    }

    /// Takes what an event adds to it; of two values the last one stays.
    pub fn keep(&mut self, place: Place, event: &Event<'_>) {
        let value = match place {
            Place::Key(key) => self.said.get_mut(key as usize),
            Place::Metadata => Some(&mut self.metadata_user),
        };
        match (value, event) {
            (Some(value), Event::Key(_)) => value.clear(),
            // Bytes, so that it is the same in whatever pieces it comes.
            (Some(value), Event::Text(part)) => {
                value.extend(part.bytes().take(ORIGIN_BYTES_MAX.saturating_sub(value.len())));
            }
            _ => {}
        }
    }
}

/// Where one may stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Under its key, at the top.
    Key(OriginKey),
    /// In `metadata`.
    Metadata,
}

impl Place {
    /// What stands under this key at the top of a body. No reader asks for these keys elsewhere, so that they are no fields.
    pub fn of(key: &str) -> Option<Self> {
        match key {
            "user" => Some(Self::Key(OriginKey::User)),
            "safety_identifier" => Some(Self::Key(OriginKey::SafetyIdentifier)),
            "prompt_cache_key" => Some(Self::Key(OriginKey::PromptCacheKey)),
            "metadata" => Some(Self::Metadata),
            _ => None,
        }
    }

    /// Whether an event below that key is of the value itself. `is_it`: the last key in `metadata` was the user's.
    pub fn has(self, at: &At<'_>, is_it: &mut bool) -> bool {
        const TOP: &[Step] = &[Key(Other)];
        const BELOW: &[Step] = &[Key(Other), Key(Other)];
        match self {
            Self::Key(_) => at.steps == TOP,
            Self::Metadata if at.steps == BELOW => {
                if let Event::Key(key) = at.event {
                    *is_it = *key == "user_id";
                }
                *is_it
            }
            Self::Metadata => false,
        }
    }
}
