//! The APIs: what each asks, and what its prompt costs.
//!
//! Sources: OpenAI API reference (chat completions, completions, responses, embeddings); Anthropic API reference ("Messages").

use serde_json::Value;

use super::count::Encoding;

/// An API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Api {
    Chat,
    Completions,
    Responses,
    Messages,
    Embeddings,
}

impl Api {
    /// What a real server would refuse; otherwise the request's own limit on the completion, in tokens.
    pub(super) fn check(self, request: &Value) -> Result<u32, String> {
        if request["model"].as_str().is_none_or(str::is_empty) {
            return Err("`model` is required and must be a string.".to_owned());
        }
        let (prompt, limits): (_, &[&str]) = match self {
            Self::Chat => ("messages", &["max_completion_tokens", "max_tokens"]),
            Self::Completions => ("prompt", &["max_tokens"]),
            Self::Responses => ("input", &["max_output_tokens"]),
            Self::Messages => ("messages", &["max_tokens"]),
            Self::Embeddings => ("input", &[]),
        };
        let is_empty = match &request[prompt] {
            Value::Array(items) => items.is_empty(),
            Value::String(_) => prompt == "messages",
            _ => true,
        };
        if is_empty {
            return Err(format!("`{prompt}` is required and must not be empty."));
        }
        for field in limits {
            let value = &request[field];
            if value.is_null() {
                continue;
            }
            return match value.as_u64() {
                Some(tokens) if tokens > 0 => Ok(u32::try_from(tokens).unwrap_or(u32::MAX)),
                _ => Err(format!("`{field}` must be at least 1, got {value}.")),
            };
        }
        if self == Self::Messages { Err("`max_tokens` is required.".to_owned()) } else { Ok(u32::MAX) }
    }

    /// What the completion depends on: the prompt, and no other part of the request.
    pub(super) fn prompt(self, request: &Value) -> String {
        let field = match self {
            Self::Chat | Self::Messages => "messages",
            Self::Completions => "prompt",
            Self::Responses | Self::Embeddings => "input",
        };
        request[field].to_string()
    }

    /// The tokens of the prompt.
    pub(super) fn count(self, encoding: Encoding, request: &Value) -> usize {
        match self {
            Self::Chat => encoding.count_chat(request),
            Self::Completions => encoding.count_prompt(&request["prompt"]),
            Self::Embeddings => encoding.count_prompt(&request["input"]),
            Self::Responses => encoding.count_framed(request, &["instructions", "input"]),
            Self::Messages => encoding.count_framed(request, &["system", "messages"]),
        }
    }

    /// Whether a stream begins with events before the first token.
    pub(super) fn has_opening(self) -> bool {
        self != Self::Completions
    }
}
