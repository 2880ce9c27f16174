//! From texts to tokens: the sinks behind the readers.

use core::hash::Hasher;

use penstock_dialects::{Generated, Sink};
use penstock_tokens::ratio::Features;
use penstock_tokens::{Counter, Encoding};
use siphasher::sip::SipHasher13;

use crate::config::Config;
use crate::identity::Secret;

/// Counts the texts of a prompt. Which encoding applies depends on the model, and many clients send the model after
/// the messages; so every encoding that the configuration uses is counted, which mostly is one.
pub struct Prompt {
    secret: Secret,
    hash: SipHasher13,
    counts: Vec<(Encoding, Counter, u64)>,
    /// What a learnt estimate needs; only gathered where some model is estimated.
    features: Option<Features>,
    /// Some text was longer than is counted exactly.
    pub estimated: bool,
}

impl Prompt {
    /// A count for one request.
    pub fn new(config: &Config, secret: Secret) -> Self {
        let mut counts: Vec<(Encoding, Counter, u64)> = Vec::new();
        for model in &config.models {
            if !counts.iter().any(|(encoding, ..)| *encoding == model.encoding) {
                let counter = Counter::new(model.encoding).with_budget(config.count_bytes_max);
                counts.push((model.encoding, counter, 0));
            }
        }
        let features = config.models.iter().any(|model| model.approximate).then(Features::default);
        Self { secret, hash: secret.hasher(), counts, features, estimated: false }
    }

    /// The tokens of all texts in `encoding`.
    pub fn tokens(&self, encoding: Encoding) -> u64 {
        self.counts.iter().find(|(known, ..)| *known == encoding).map_or(0, |(.., tokens)| *tokens)
    }

    /// What a learnt estimate for a model with this encoding needs.
    pub fn features(&self, encoding: Encoding, messages: u64) -> Features {
        Features { tokens: self.tokens(encoding), messages, ..self.features.unwrap_or_default() }
    }

    /// The keyed hash of all texts.
    pub fn hash(&self) -> u64 {
        self.hash.finish()
    }
}

impl Sink for Prompt {
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
            *tokens = tokens.saturating_add(count.tokens);
        }
    }

    fn restart(&mut self) {
        self.hash = self.secret.hasher();
        for (_, counter, tokens) in &mut self.counts {
            counter.finish();
            *tokens = 0;
        }
        self.estimated = false;
        self.features = self.features.map(|_| Features::default());
    }
}

/// Bytes of an answer that are collected before they are counted.
const BATCH: usize = 256;
/// How many answers of one response are counted apart; further ones are counted with the last of these.
const ANSWERS_MAX: usize = 8;

/// Watches what is generated.
pub struct Completion {
    encoding: Encoding,
    counters: Vec<Counter>,
    /// Pieces of the answer that carried text: what a stream has brought so far.
    pub deltas: u64,
    any: bool,
}

impl Completion {
    /// For answers in `encoding`.
    pub fn new(encoding: Encoding) -> Self {
        Self { encoding, counters: Vec::new(), deltas: 0, any: false }
    }

    /// The tokens of everything that was generated, each answer as one text.
    pub fn tokens(&mut self) -> u64 {
        self.counters.iter_mut().map(Counter::finish).fold(0, u64::saturating_add)
    }
}

impl Generated for Completion {
    fn part(&mut self, answer: u32, text: &str) {
        self.any = true;
        let answer = usize::try_from(answer).unwrap_or(ANSWERS_MAX).min(ANSWERS_MAX.saturating_sub(1));
        while self.counters.len() <= answer {
            self.counters.push(Counter::new(self.encoding).with_batch(BATCH));
        }
        if let Some(counter) = self.counters.get_mut(answer) {
            counter.push(text);
        }
    }

    fn end(&mut self) {
        if core::mem::take(&mut self.any) {
            self.deltas = self.deltas.saturating_add(1);
        }
    }
}
