//! What a request asks and what a response reports, read from the bytes as they pass.
//!
//! The readers here are push parsers: they are fed the pieces in which a body arrives, keep a bounded state, and
//! never hold the body themselves. Texts that cost tokens go to a [`Sink`] piece by piece; everything else that
//! matters (the model and where it stands, the output ceiling, the reported usage) is kept in small records.
//!
//! What this crate does not do: count tokens, decide anything, or build a JSON tree. It accepts slightly more than
//! RFC 8259 (raw control characters in strings, Python's `NaN` and `Infinity`), because a model server behind it may,
//! and a request that the server can read must not pass uncounted.

#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

pub mod answer;
pub mod ask;
pub mod hide;
pub mod json;
pub mod quality;
pub mod refusal;
pub mod splice;
pub mod sse;

mod path;

pub use answer::{Answer, Usage};
pub use ask::{Ask, Asked};
pub use hide::Hide;
pub use json::Unreadable;
pub use quality::Quality;
pub use splice::{Splice, apply};

/// Where the texts of a request or a response go, in document order.
///
/// One text (a role, a content string, the arguments of a tool call) is any number of [`Sink::part`] calls followed
/// by one [`Sink::end`]. Texts are tokenized separately, so the boundary matters.
pub trait Sink {
    /// The next piece of the current text. Pieces are never split inside a character.
    fn part(&mut self, text: &str);
    /// The current text is complete.
    fn end(&mut self);
    /// A repeated key made everything reported so far void, because the last of equal keys wins.
    fn restart(&mut self);
}

/// Where the texts of a response go as they are generated.
pub trait Generated {
    /// The next piece of what is generated for one of the answers, from 0 on.
    fn part(&mut self, answer: u32, text: &str);
    /// A delta is complete: in a stream the text of one event, otherwise a whole text.
    fn end(&mut self);
}

impl Generated for Ignore {
    fn part(&mut self, _: u32, _: &str) {}
    fn end(&mut self) {}
}

/// Forgets every text. For readers that are only after the fields.
pub struct Ignore;

impl Sink for Ignore {
    fn part(&mut self, _: &str) {}
    fn end(&mut self) {}
    fn restart(&mut self) {}
}

/// The API that a request speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// `POST /v1/chat/completions`
    OpenAiChat,
    /// `POST /v1/completions`
    OpenAiCompletions,
    /// `POST /v1/responses`
    OpenAiResponses,
    /// `POST /v1/embeddings`
    OpenAiEmbeddings,
    /// `POST /v1/messages`
    AnthropicMessages,
}

/// A path as servers read it: with its percent-escapes undone.
fn decoded(path: &[u8]) -> Vec<u8> {
    let hex = |at: usize| path.get(at).and_then(|byte| char::from(*byte).to_digit(16));
    let mut out = Vec::with_capacity(path.len());
    let mut at = 0usize;
    while let Some(byte) = path.get(at) {
        let (high, low) = (hex(at.saturating_add(1)), hex(at.saturating_add(2)));
        match (byte, high, low) {
            (b'%', Some(high), Some(low)) => {
                out.push((high << 4 | low) as u8);
                at = at.saturating_add(3);
            }
            _ => {
                out.push(*byte);
                at = at.saturating_add(1);
            }
        }
    }
    out
}

impl Dialect {
    /// The dialect of a request, if it is one that costs tokens. A query string is ignored; anything else in
    /// front of the API's own path (`/openai/v1/chat/completions`) is not, unless `prefixes` names it.
    pub fn of(method: &[u8], path: &[u8], prefixes: &[String]) -> Option<Self> {
        if method != b"POST" {
            return None;
        }
        let path = path.split(|b| matches!(b, b'?' | b'#')).next()?;
        let path = &decoded(path)[..];
        let own = |path: &[u8]| match path.strip_suffix(b"/").unwrap_or(path) {
            b"/v1/chat/completions" => Some(Self::OpenAiChat),
            b"/v1/completions" => Some(Self::OpenAiCompletions),
            b"/v1/responses" => Some(Self::OpenAiResponses),
            b"/v1/embeddings" => Some(Self::OpenAiEmbeddings),
            b"/v1/messages" => Some(Self::AnthropicMessages),
            _ => None,
        };
        own(path).or_else(|| prefixes.iter().filter_map(|prefix| path.strip_prefix(prefix.as_bytes())).find_map(own))
    }
}
