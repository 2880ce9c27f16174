//! OpenAI's embeddings, for which nothing is generated.
//!
//! Source: OpenAI API reference ("Create embeddings").

use crate::api::{Api, Framing, ImagePrice, ModelAt};
use crate::chat;
use crate::error;
use crate::json::path::Field::{Input, MaxTokens, Messages};
use crate::json::path::Step::Key;
use crate::json::path::{At, Step};
use crate::request::draft::Draft;
use crate::request::prompt::texts_or_tokens;
use crate::response::TextKind;
use crate::response::report::Report;
use crate::sink::PromptSink;

pub const API: Api = Api {
    paths: &["/v1/embeddings"],
    count: None,
    model: ModelAt::Body,
    // It means nothing here, but where it stands it is held to the same rules as everywhere.
    ceilings: &[MaxTokens],
    ceiling_key: None,
    is_ceiling_key_configurable: false,
    usage_on_request: false,
    usage_leaves_out_cached: false,
    framing: Framing::NONE,
    image_price: ImagePrice::Detail,
    generates: false,
    has_choices: false,
    error: error::openai,
};

/// One input or several, as texts or as tokens.
pub fn read_request(at: &At<'_>, draft: &mut Draft, sink: &mut impl PromptSink) {
    match at.steps {
        // vLLM takes what is to be embedded as messages, for the sake of images.
        [Key(Messages), ..] => chat::read_request(at, draft, sink),
        [Key(Input), ..] => texts_or_tokens(at, draft, "input must be text or tokens", sink),
        _ => draft.unread(at),
    }
}

/// No text at all.
pub fn generated(_: &[Step], _: &Report) -> Option<TextKind> {
    None
}
