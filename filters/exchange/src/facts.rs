//! What is known of one exchange: the record that goes between plugins and into the access log.

mod writer;

use penstock_dialects::{Quality, Usage};
use penstock_units::{Millis, Tokens};
use serde::Deserialize;

use crate::config::Spend;
use crate::port::Properties;

/// Where the facts stand for another plugin of the same stream.
pub const FILTER_STATE: [&str; 2] = ["filter_state", "wasm.penstock.exchange"];

/// How an exchange ended, as `penstock_requests_total{outcome}` says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Answered in full.
    Ok,
    /// Refused by a limit.
    Limited,
    /// Refused because of saturation.
    Shed,
    /// Refused because of who asked.
    Denied,
    /// Refused or answered with 4xx because of what was asked.
    ClientError,
    /// Not answered, or with 5xx, or not to the end, or with a success that is none.
    UpstreamError,
    /// The client left.
    Abandoned,
}

impl Outcome {
    /// As a label value.
    pub fn label(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Limited => "limited",
            Self::Shed => "shed",
            Self::Denied => "denied",
            Self::ClientError => "client_error",
            Self::UpstreamError => "upstream_error",
            Self::Abandoned => "abandoned",
        }
    }
}

/// Token usage, as the facts carry it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(rename_all = "camelCase", default)]
pub struct Used {
    /// All prompt tokens.
    pub prompt: Tokens,
    /// Cached prompt tokens.
    pub cached: Tokens,
    /// All completion tokens.
    pub completion: Tokens,
    /// Prompt tokens that were written to a cache.
    pub cache_creation: Tokens,
    /// Reasoning tokens.
    pub reasoning: Tokens,
    /// Counted here, because the server did not report it.
    pub counted: bool,
    /// The completion is what was reserved, because the answer could not be read, or is worked on later.
    #[serde(skip_serializing_if = "is_false")]
    pub reserved: bool,
}

impl Used {
    /// As limits see it.
    pub fn spend(self) -> Spend {
        Spend { prompt: self.prompt, cached: self.cached, output: self.completion }
    }
}

impl From<Usage> for Used {
    fn from(usage: Usage) -> Self {
        let Usage { prompt, cached, cache_creation, completion, reasoning } = usage;
        Self {
            prompt: Tokens(prompt),
            cached: Tokens(cached),
            completion: Tokens(completion),
            cache_creation: Tokens(cache_creation),
            reasoning: Tokens(reasoning),
            counted: false,
            reserved: false,
        }
    }
}

/// How a request waited for a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(rename_all = "camelCase", default)]
pub struct Held {
    /// It waits, and has not gone on.
    #[serde(skip_serializing_if = "is_false")]
    pub waits: bool,
    /// For how many milliseconds it has waited.
    pub ms: Millis,
}

/// What the structure of a response told; what is not there is as it should be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(rename_all = "camelCase", default)]
pub struct Signals {
    /// Why it ended: `stop`, `tool_calls`, `length`, `filter`, `other`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finish: Option<String>,
    /// Nothing was generated.
    #[serde(skip_serializing_if = "is_false")]
    pub empty: bool,
    /// The arguments of some tool call are not JSON.
    #[serde(skip_serializing_if = "is_false")]
    pub malformed_tool_args: bool,
    /// JSON was asked for, and the text is none.
    #[serde(skip_serializing_if = "is_false")]
    pub malformed_json_output: bool,
    /// How many tools it calls.
    pub tool_calls: u32,
}

#[cfg(test)]
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
fn is_false(flag: &bool) -> bool {
    !flag
}

impl From<Quality> for Signals {
    fn from(quality: Quality) -> Self {
        let Quality { finish, empty, malformed_tool_args, malformed_json_output, tool_calls } = quality;
        let finish = finish.map(|finish| finish.label().to_owned());
        Self { finish, empty, malformed_tool_args, malformed_json_output, tool_calls }
    }
}

/// The record. No text of a prompt or completion, and no tenant key that is not a configured name.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(rename_all = "camelCase", default)]
pub struct Facts {
    /// A configured tenant's name, else a keyed hash, else `anonymous`.
    pub tenant: String,
    /// Its class.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// The configured model; `*` for one that only the wildcard matches.
    pub model: String,
    /// The version that was drawn.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// What narrowed the choice: `override`, `pin`, or the name of a rule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chosen_by: Option<String>,
    /// The version that a copy of it is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shadow: Option<String>,
    /// What is left of the limit that binds, in percent, where some rule asks for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget_left: Option<u64>,
    /// What the client calls its prompt, from `x-prompt-version`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt_version: Option<String>,
    /// A keyed hash of the prompt's texts, in hexadecimal.
    pub prompt_hash: String,
    /// Prompt tokens, as counted here.
    pub prompt_tokens: Tokens,
    /// Whether that is an estimate.
    pub estimated: bool,
    /// The output tokens that the client allows, over all choices.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_output: Option<Tokens>,
    /// Output tokens that are expected.
    pub expected_output: Tokens,
    /// Whether the answer is worked on after its response.
    #[serde(skip_serializing_if = "is_false")]
    pub background: bool,
    /// Whether the answer is streamed.
    pub stream: bool,
    /// It passes unread, as what is not the API of a model does.
    #[serde(skip_serializing_if = "is_false")]
    pub passed: bool,
    /// The proxy follows a redirect of the server with it: under which number the exchange goes on with its second pass.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redirected: Option<u64>,
    /// How it waited for a server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held: Option<Box<Held>>,
    /// The limit that refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<String>,
    /// How it was refused; none where it was forwarded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<Outcome>,
    /// What would have refused it if that were enforced, in the order of the stages: `limited; limit=tpm, shed`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub would: Option<String>,
    /// How it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// What was used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub used: Option<Used>,
    /// What the response's structure told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quality: Option<Signals>,
    /// Milliseconds from the request's headers to the first token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttft_ms: Option<Millis>,
}

impl Facts {
    /// As JSON.
    pub fn encode(&self) -> Vec<u8> {
        writer::write(self)
    }

    /// What an earlier plugin of the same stream, or this one, has left there.
    pub fn published(properties: &dyn Properties) -> Option<Self> {
        properties.get(&FILTER_STATE).as_deref().and_then(Self::decode)
    }

    /// The inverse of [`Facts::encode`]; `None` for anything else.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }
}
