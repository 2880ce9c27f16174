//! How much output a request may bring: computed once, and what is reserved is what is written into the request.

use penstock_dialects::{Dialect, Request, Splice};
use penstock_units::Tokens;

use crate::config::Model;

/// A prompt, as far as its output is concerned.
#[derive(Clone, Copy, Debug)]
pub struct Prompted {
    /// What it costs.
    pub tokens: Tokens,
    /// Whether that is a guess.
    pub is_estimate: bool,
}

/// The output of one request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OutputBudget {
    /// What the client allows over all choices, no more than the ceiling; `None` where it sets none.
    pub most: Option<Tokens>,
    /// What is expected over all choices.
    pub expected: Tokens,
    /// The ceiling of each choice: what the model is configured to give, and what its context leaves beside the prompt.
    pub ceiling: Option<Tokens>,
    /// The key under which it is set where the request has none.
    key: Option<&'static str>,
}

impl OutputBudget {
    /// Of a request for this model with such a prompt. `learnt`: what earlier requests mostly stayed below; `can_write`: whether a ceiling
    /// reaches the server, as one that does not bounds nothing.
    pub fn new(
        dialect: Dialect,
        request: &Request,
        model: &Model,
        prompt: Prompted,
        learnt: Option<Tokens>,
        can_write: bool,
    ) -> Self {
        if !dialect.generates() {
            return Self { most: Some(Tokens::ZERO), ..Self::default() };
        }
        let asked = request.max_output.map(Tokens);
        let room = model.context.map(|context| context.saturating_sub(prompt.tokens).max(Tokens(1)));
        // An estimate may be off, and what a client asks for is not cut short by a guess: its server knows how much room there is.
        let room = room.filter(|_| asked.is_none() || !prompt.is_estimate);
        let ceiling = model.output_max.into_iter().chain(room).min().filter(|_| can_write);
        let most = ceiling.into_iter().chain(asked).min();
        let likely = learnt.unwrap_or(model.output_expect).max(Tokens(request.min_output));
        let likely = most.map_or(likely, |most| likely.min(most));
        // A request without a ceiling gets one where one is configured; that the context ends somewhere its server knows itself.
        let key = model.output_max.and(dialect.ceiling_key());
        Self {
            most: asked.and(most).map(|most| most.saturating_mul(request.choices)),
            expected: likely.saturating_mul(request.choices),
            ceiling,
            key: key.map(|key| if dialect.is_ceiling_key_configurable() { model.output_key } else { key }),
        }
    }

    /// What is to be edited, so that the server keeps the ceiling.
    pub fn write(&self, request: &Request) -> Vec<Splice> {
        let Some(Tokens(ceiling)) = self.ceiling else { return Vec::new() };
        request.with_ceiling(ceiling, self.key.map(|key| (key, ceiling)))
    }
}
