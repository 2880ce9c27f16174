//! What a request can ask of the server, so that a test gets exactly the answer it is about.

use axum::http::HeaderMap;
use serde::Deserialize;

/// The header that carries a [`Script`] as JSON.
pub(super) const HEADER: &str = "x-model-server";

/// One request's deviations from the options; every field is optional.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Script {
    /// Milliseconds until the first token.
    pub ttft_ms: Option<u64>,
    /// Milliseconds between two tokens.
    pub inter_token_ms: Option<u64>,
    /// Length of the completion in tokens, unless the request's own limit is lower.
    pub tokens: Option<u32>,
    /// Answer with this status and an error body, after `ttft_ms`.
    pub status: Option<u16>,
    /// Break the connection after this many events of a stream (or, with any number, in the middle of a body that is not streamed).
    pub reset_after_events: Option<u32>,
    /// `false`: report no usage, even where the client asked for it.
    pub usage: Option<bool>,
    /// Report this many prompt tokens as cached.
    pub cached_tokens: Option<u64>,
    /// Report this many completion tokens as reasoning.
    pub reasoning_tokens: Option<u64>,
}

impl Script {
    /// The script in a request's headers; an empty one without the header.
    pub(super) fn from_headers(headers: &HeaderMap) -> Result<Self, String> {
        let Some(value) = headers.get(HEADER) else { return Ok(Self::default()) };
        serde_json::from_slice(value.as_bytes())
            .map_err(|error| format!("{HEADER}: {error}; write a JSON object such as {{\"ttft_ms\":50,\"tokens\":10}}"))
    }
}
