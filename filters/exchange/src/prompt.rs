//! From the texts of a prompt to tokens.

use core::hash::Hasher;

use penstock_dialects::PromptSink;
use penstock_tokens::ratio::Features;
use penstock_tokens::{Counter, Encoding};
use penstock_units::Tokens;
use siphasher::sip::SipHasher13;

use crate::config::Config;
use crate::hash::Secret;

/// Counts the texts of a prompt. Which encoding applies depends on the model, and many clients send the model after
/// the messages; so every encoding that the configuration uses is counted, which mostly is one.
pub struct Prompt {
    hash: SipHasher13,
    counts: Vec<(Encoding, Counter, Tokens)>,
    /// What a learnt estimate needs; only gathered where some model is estimated.
    features: Option<Features>,
    /// Some text was longer than is counted exactly.
    pub estimated: bool,
}

impl Prompt {
    /// A count for one request.
    pub fn new(config: &Config, secret: Secret) -> Self {
        let mut encodings: Vec<Encoding> = Vec::new();
        for model in &config.models {
            if !encodings.contains(&model.encoding) {
                encodings.push(model.encoding);
            }
        }
        // However many there are, the work is that of one.
        let budget = config.count_bytes_max.checked_div(encodings.len() as u64).unwrap_or_default();
        let count = |encoding| (encoding, Counter::new(encoding).with_budget(budget), Tokens::ZERO);
        let counts = encodings.into_iter().map(count).collect();
        let features = config.models.iter().any(|model| model.approximate).then(Features::default);
        Self { hash: secret.hasher(), counts, features, estimated: false }
    }

    /// The tokens of all texts in `encoding`.
    pub fn tokens(&self, encoding: Encoding) -> Tokens {
        self.counts.iter().find(|(known, ..)| *known == encoding).map_or(Tokens::ZERO, |(.., tokens)| *tokens)
    }

    /// What a learnt estimate for a model with this encoding needs.
    pub fn features(&self, encoding: Encoding, messages: u64) -> Features {
        Features { tokens: self.tokens(encoding).0, messages, ..self.features.unwrap_or_default() }
    }

    /// The keyed hash of all texts.
    pub fn hash(&self) -> u64 {
        self.hash.finish()
    }
}

impl PromptSink for Prompt {
    fn part(&mut self, text: &str) {
        self.hash.write(text.as_bytes());
        for (_, counter, _) in &mut self.counts {
            counter.push(text);
        }
        if let Some(features) = &mut self.features {
            features.text(text);
        }
    }

    fn end(&mut self) {
        self.hash.write_u8(0);
        for (_, counter, tokens) in &mut self.counts {
            let count = counter.finish_count();
            self.estimated |= count.estimated;
            *tokens = tokens.saturating_add(Tokens(count.tokens));
        }
    }
}
