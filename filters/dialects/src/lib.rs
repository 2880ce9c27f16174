//! What a request asks and what a response reports, read from the bytes as they pass.
//!
//! The readers here are push parsers: they are fed the pieces in which a body arrives, keep a bounded state, and
//! never hold the body themselves. Texts that cost tokens go to a [`PromptSink`] piece by piece; everything else that
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

pub use answer::{ResponseReader, Usage};
pub use ask::{Image, Request, RequestReader};
pub use hide::UsageFilter;
pub use json::{Fault, Unreadable};
pub use quality::Quality;
pub use refusal::{Kind as ErrorKind, body as error_body};
pub use splice::{Splice, apply};

/// Where the texts of a request or a response go, in document order.
///
/// One text (a role, a content string, the arguments of a tool call) is any number of [`PromptSink::part`] calls followed
/// by one [`PromptSink::end`]. Texts are tokenized separately, so the boundary matters.
pub trait PromptSink {
    /// The next piece of the current text. Pieces are never split inside a character.
    fn part(&mut self, text: &str);
    /// The current text is complete.
    fn end(&mut self);
    /// A repeated key made everything reported so far void, because the last of equal keys wins.
    fn restart(&mut self);
}

/// Where the texts of a response go as they are generated.
pub trait CompletionSink {
    /// The next piece of what is generated for one of the answers, from 0 on.
    fn part(&mut self, answer: u32, text: &str);
    /// A delta is complete: in a stream the text of one event, otherwise a whole text.
    fn end(&mut self);
}

impl CompletionSink for Ignore {
    fn part(&mut self, _: u32, _: &str) {}
    fn end(&mut self) {}
}

/// Forgets every text. For readers that are only after the fields.
pub struct Ignore;

impl PromptSink for Ignore {
    fn part(&mut self, _: &str) {}
    fn end(&mut self) {}
    fn restart(&mut self) {}
}

/// The API that a request speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// `POST /v1/chat/completions`
    Chat,
    /// `POST /v1/completions`
    Completions,
    /// `POST /v1/responses`
    Responses,
    /// `POST /v1/embeddings`
    Embeddings,
    /// `POST /v1/messages`
    Messages,
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
            b"/v1/chat/completions" => Some(Self::Chat),
            b"/v1/completions" => Some(Self::Completions),
            b"/v1/responses" => Some(Self::Responses),
            b"/v1/embeddings" => Some(Self::Embeddings),
            b"/v1/messages" => Some(Self::Messages),
            _ => None,
        };
        own(path).or_else(|| prefixes.iter().filter_map(|prefix| path.strip_prefix(prefix.as_bytes())).find_map(own))
    }

    /// See its name.
    pub fn framing(self) -> Framing {
        match self {
            Self::Chat => Framing { message: 3, name: 1, reply: 3, documented: true },
            Self::Responses | Self::Messages => Framing { message: 3, name: 0, reply: 3, documented: false },
            Self::Completions | Self::Embeddings => Framing { message: 0, name: 0, reply: 0, documented: true },
        }
    }
    /// See its name.
    pub fn image_price(self) -> ImagePrice {
        if self == Self::Messages { ImagePrice::Area } else { ImagePrice::Detail }
    }
    /// See its name.
    pub fn generates(self) -> bool {
        self != Self::Embeddings
    }
    /// See its name.
    pub fn ceiling_key(self) -> Option<&'static str> {
        match self {
            Self::Chat | Self::Messages => Some("max_tokens"),
            Self::Responses => Some("max_output_tokens"),
            _ => None,
        }
    }
    /// See its name.
    pub fn is_ceiling_key_configurable(self) -> bool {
        self == Self::Chat
    }
    /// See its name.
    pub fn usage_on_request(self) -> bool {
        matches!(self, Self::Chat | Self::Completions)
    }
}
/// Tokens around texts.
#[allow(missing_docs)]
pub struct Framing {
    pub message: u64,
    pub name: u64,
    pub reply: u64,
    pub documented: bool,
}
impl Framing {
    /// See its name.
    pub fn tokens(&self, messages: u64, names: u64) -> u64 {
        self.message.saturating_mul(messages).saturating_add(self.name.saturating_mul(names)).saturating_add(self.reply)
    }
}
/// What images cost by.
#[allow(missing_docs)]
pub enum ImagePrice {
    Detail,
    Area,
}
