//! OpenAI's completions, which are older than chats.
//!
//! Sources: OpenAI API reference ("Create completion"); vLLM, "OpenAI-Compatible Server", extra parameters.

use crate::api::{Api, Framing, ImagePrice, ModelAt};
use crate::chat;
use crate::error;
use crate::json::lexer::Event;
use crate::json::path::Field::{MaxTokens, NPredict, Prompt, PromptEmbeds, Suffix};
use crate::json::path::Step::{Item, Key};
use crate::json::path::{At, Step};
use crate::request::draft::Draft;
use crate::request::prompt::{anything, texts_or_tokens};
use crate::response::TextKind;
use crate::response::report::Report;
use crate::sink::{PromptSink, text};

pub const API: Api = Api {
    paths: &["/v1/completions"],
    count: None,
    model: ModelAt::Body,
    // `n_predict` is llama.cpp's own, which it prefers to the others.
    ceilings: &[MaxTokens, NPredict],
    // Servers have a ceiling of their own here, which mostly is 16.
    ceiling_key: None,
    is_ceiling_key_configurable: false,
    usage_on_request: true,
    usage_leaves_out_cached: false,
    framing: Framing::NONE,
    image_price: ImagePrice::Detail,
    generates: true,
    has_choices: true,
    error: error::openai,
};

/// One prompt or several, as texts or as tokens.
pub fn read_request(at: &At<'_>, draft: &mut Draft, sink: &mut impl PromptSink) {
    match (at.steps, at.event) {
        ([Key(Prompt)], Event::Array) => draft.prompts = 0,
        ([Key(Prompt), ..], _) => texts_or_tokens(at, draft, "prompt must be text or tokens", sink),
        ([Key(Suffix)], event) => text(event, sink),
        ([Key(PromptEmbeds), ..], event) => {
            // Each of them is answered as well.
            if let ([_] | [_, Item], Event::TextEnd) | ([_, Item], Event::Array) = (at.steps, event) {
                draft.vector_prompts = draft.vector_prompts.saturating_add(1);
            }
            anything(at, draft, sink);
        }
        _ => draft.unread(at),
    }
}

/// The text of each choice; a few servers answer as to chats.
pub fn generated(steps: &[Step], report: &Report) -> Option<TextKind> {
    chat::generated(steps, report)
}
