//! The usage that a server reports.

use crate::json::number::whole;
use crate::json::path::Field::{
    CacheCreationInputTokens, CacheReadInputTokens, CachedTokens, CompletionTokens, CompletionTokensDetails,
    InputTokens, InputTokensDetails, OutputTokens, OutputTokensDetails, PromptTokens, PromptTokensDetails,
    ReasoningTokens,
};
use crate::json::path::Step::{self, Key};

/// No usage that a server reports is believed beyond this many tokens.
pub const USAGE_MAX: u64 = 1 << 24;

/// Tokens as the model server reports them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// All prompt tokens: cached ones and those that were written to a cache included, also where the dialect counts these apart.
    pub prompt: u64,
    /// Those of them that the server had cached.
    pub cached: u64,
    /// Those of them that were written to a cache.
    pub cache_creation: u64,
    /// All generated tokens, reasoning included.
    pub completion: u64,
    /// Those of them that were reasoning.
    pub reasoning: u64,
}

impl Usage {
    /// Takes a number that stands at `steps` below `usage`, and says whether it is one that is known. The names of all dialects are
    /// understood in each, as servers mix them. Those of a stream are cumulative, so that the last one is right.
    pub(crate) fn count(&mut self, steps: &[Step], word: &str) -> bool {
        let slot = match steps {
            [Key(PromptTokens | InputTokens)] => &mut self.prompt,
            [Key(CompletionTokens | OutputTokens)] => &mut self.completion,
            [Key(PromptTokensDetails | InputTokensDetails), Key(CachedTokens)] | [Key(CacheReadInputTokens)] => {
                &mut self.cached
            }
            [Key(CacheCreationInputTokens)] => &mut self.cache_creation,
            [Key(CompletionTokensDetails | OutputTokensDetails), Key(ReasoningTokens)] => &mut self.reasoning,
            _ => return false,
        };
        *slot = whole(word).unwrap_or(0).min(USAGE_MAX);
        true
    }

    /// The same, where `prompt` has left out so far what a cache had to do with.
    pub(crate) fn with_cached(self) -> Self {
        Self { prompt: self.prompt.saturating_add(self.cached).saturating_add(self.cache_creation), ..self }
    }
}
