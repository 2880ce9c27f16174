//! The usage that a server reports.

use crate::json::number::whole;
use crate::json::path::Field::{
    CacheCreationInputTokens, CacheReadInputTokens, CachedTokens, CompletionTokens, CompletionTokensDetails,
    InputTokens, InputTokensDetails, OutputTokens, OutputTokensDetails, PromptTokens, PromptTokensDetails,
    ReasoningTokens,
};
use crate::json::path::Step::{self, Key};

/// A count beyond this many tokens is none: no model reads or writes as much at once.
pub const USAGE_MAX: u64 = 1 << 24;

/// Tokens as the model server reports them. What it does not report, or what can be no count, is 0.
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
    /// understood in each, as servers mix them.
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
        *slot = whole(word).filter(|tokens| *tokens <= USAGE_MAX).unwrap_or(0);
        true
    }

    /// With what a later report says, which may be about the prompt or the completion only. Those of a stream are cumulative, so that one that
    /// says less says nothing; `leaves_out_cached`: what a cache had to do with comes on top of the prompt.
    pub(crate) fn then(self, later: Self, leaves_out_cached: bool) -> Self {
        let read = |usage: Self| if leaves_out_cached { usage.with_cached().prompt } else { usage.prompt };
        let (reads_more, writes_more) = (read(later) >= read(self), later.completion >= self.completion);
        let (prompt, completion) = (if reads_more { later } else { self }, if writes_more { later } else { self });
        Self { completion: completion.completion, reasoning: completion.reasoning, ..prompt }
    }

    /// The same, where `prompt` has left out so far what a cache had to do with.
    pub(crate) fn with_cached(self) -> Self {
        Self { prompt: self.prompt.saturating_add(self.cached).saturating_add(self.cache_creation), ..self }
    }
}
