//! What a request asks: the model, the texts that cost tokens, the output ceiling, streaming; and how that is edited.

use core::ops::Range;

use crate::request::image::Image;
use crate::request::media::Media;
use crate::request::origin::{Origin, OriginKey};
use crate::splice::{Splice, quoted};

pub mod base64;
pub mod classify;
pub mod draft;
pub mod head;
pub mod image;
pub mod keys;
pub mod level;
pub mod media;
pub mod origin;
pub mod parts;
pub mod piece;
pub mod prompt;
pub mod reader;
pub mod source;
pub mod stretches;

#[cfg(test)]
mod tests;

/// The value of a ceiling that bounds nothing: some servers take a negative number for that.
pub const UNBOUNDED: u64 = u64::MAX;

/// A request. No key at the top of its body is there twice, so that it has one reading.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Request {
    /// `model`, unescaped.
    pub model: Option<String>,
    /// Where its value stands, quotes included.
    pub model_span: Option<Range<usize>>,
    /// `stream`
    pub stream: bool,
    /// `stream_options.include_usage`
    pub include_usage: bool,
    /// The ceiling of each choice's output, in tokens: the largest, where several keys set one, as which of them a server reads is not
    /// known. `None` where none is set, or one that bounds nothing.
    pub max_output: Option<u64>,
    /// `min_tokens`: how much is generated at least.
    pub min_output: u64,
    /// Where ceilings have values, one for each of the dialect's keys at most, and what these are: null is `None`, one that bounds nothing
    /// is the largest number there is.
    pub ceilings: Vec<(Range<usize>, Option<u64>)>,
    /// Where `stream_options` stands.
    pub stream_options: Option<StreamOptions>,
    /// Where `include_usage` has a value.
    pub include_usage_span: Option<Range<usize>>,
    /// Where a member can be inserted: behind the body's opening brace.
    pub inside: usize,
    /// Whether the body has any members.
    pub has_members: bool,
    /// How many choices are generated: the larger of `n` and `best_of`, for each prompt; at least 1.
    pub choices: u64,
    /// How many prompts there are, each of which has to fit into the model's context by itself; at least 1.
    pub prompts: u64,
    /// The server is asked to cut the prompt where it is too long.
    pub is_cut_to_fit: bool,
    /// How many tokens of the prompt were given as such.
    pub token_ids: u64,
    /// There is more to the prompt than the request shows: a stored conversation or template.
    pub unseen: bool,
    /// The answer is to be worked on after the response has ended.
    pub background: bool,
    /// The answer is to begin with the prompt.
    pub echo: bool,
    /// The output is to be JSON.
    pub json_output: bool,
    /// How many messages there are.
    pub messages: u64,
    /// How many of them carry a `name`.
    pub names: u64,
    /// Where the definitions of `tools`, and of `functions`, stand, brackets included.
    pub tools: Vec<Range<usize>>,
    /// The images of the messages, at most [`IMAGES_MAX`](image::IMAGES_MAX).
    pub images: Vec<Image>,
    /// How many images there are beyond those.
    pub images_beyond: u64,
    /// What there is beside texts and images.
    pub media: Media,
    /// Some of its texts stand where it is not documented what becomes of them, as in the schema of a response.
    pub has_texts_beside: bool,
    /// Whom and what it belongs to, where it says.
    origin: Option<Box<Origin>>,
    /// Whether streams of the request's dialect report usage only where `stream_options` ask for it.
    usage_on_request: bool,
}

/// What `stream_options` are.
#[derive(Clone, Debug, PartialEq)]
pub enum StreamOptions {
    /// It is null, here.
    Null(Range<usize>),
    /// It is an object.
    Object {
        /// Where a member can be inserted: behind its opening brace.
        inside: usize,
        /// It has no members.
        empty: bool,
    },
}

impl Request {
    /// Nothing is known of it yet.
    pub(crate) fn new(usage_on_request: bool) -> Self {
        Self { usage_on_request, ..Self::default() }
    }

    /// What it says under one of the keys that tell whom and what it belongs to.
    pub fn origin(&self, key: OriginKey) -> Option<&[u8]> {
        self.origin.as_deref()?.get(key)
    }

    /// Whether it has stream options of any kind.
    pub fn has_stream_options(&self) -> bool {
        matches!(self.stream_options, Some(StreamOptions::Object { empty: false, .. }))
    }

    /// Names another model, where the model is named, or at the beginning.
    pub fn with_model(&self, model: &str) -> Vec<Splice> {
        let with = quoted(model);
        match &self.model_span {
            Some(at) => vec![Splice { at: at.clone(), with }],
            None => vec![self.insert(self.inside, "model", &String::from_utf8_lossy(&with))],
        }
    }

    /// Lowers every output ceiling to `max`; where there is none, sets it to `absent` under that key. Empty where all are low enough.
    pub fn with_ceiling(&self, max: u64, absent: Option<(&str, u64)>) -> Vec<Splice> {
        // A null stays one if another key has a number: a server that takes only one of them takes that.
        let is_set = self.ceilings.iter().any(|(_, value)| value.is_some());
        let replaced = self.ceilings.iter().filter_map(|(at, value)| match value {
            Some(value) => (*value > max).then_some((at, max)),
            None if is_set => None,
            None => absent.map(|(_, value)| (at, value)),
        });
        let replaced = replaced.map(|(at, value)| Splice { at: at.clone(), with: value.to_string().into_bytes() });
        let absent = absent.filter(|_| self.ceilings.is_empty());
        let inserted = absent.map(|(key, value)| self.insert(self.inside, key, &value.to_string()));
        replaced.chain(inserted).collect()
    }

    /// Asks for usage at the end of the stream, where the dialect has it that way.
    pub fn with_usage(&self) -> Vec<Splice> {
        if !self.usage_on_request {
            return Vec::new();
        }
        const INCLUDED: &str = "{\"include_usage\":true}";
        let changed = self.include_usage_span.iter().map(|at| Splice { at: at.clone(), with: b"true".to_vec() });
        let added = match &self.stream_options {
            None => Some(self.insert(self.inside, "stream_options", INCLUDED)),
            Some(StreamOptions::Null(at)) => Some(Splice { at: at.clone(), with: INCLUDED.as_bytes().to_vec() }),
            Some(StreamOptions::Object { inside, empty: true }) => {
                Some(Splice { at: *inside..*inside, with: b"\"include_usage\":true".to_vec() })
            }
            Some(StreamOptions::Object { inside, .. }) if self.include_usage_span.is_none() => {
                Some(self.insert(*inside, "include_usage", "true"))
            }
            Some(StreamOptions::Object { .. }) => None,
        };
        changed.chain(added).collect()
    }

    /// A member in front of others. There is one at least.
    fn insert(&self, at: usize, key: &str, value: &str) -> Splice {
        Splice { at: at..at, with: format!("\"{key}\":{value},").into_bytes() }
    }
}
