//! What a chat costs beyond its texts.
//!
//! Source: openai-cookbook, `examples/How_to_count_tokens_with_tiktoken.ipynb`, section 6 ("Counting tokens for chat
//! completions API calls"): every message is framed by 3 tokens, a name costs 1 more, and every reply is primed with
//! 3 tokens. Role, content and name are counted as texts besides.

/// Tokens around each message.
pub const MESSAGE: u64 = 3;
/// Tokens for the presence of a name.
pub const NAME: u64 = 1;
/// Tokens that prime the reply.
pub const REPLY: u64 = 3;

/// The overhead of a chat with so many messages, so many of which carry a name.
pub fn chat(messages: u64, names: u64) -> u64 {
    messages.saturating_mul(MESSAGE).saturating_add(names.saturating_mul(NAME)).saturating_add(REPLY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_the_cookbook_says() {
        assert_eq!(chat(1, 0), 6);
        assert_eq!(chat(6, 4), 25);
    }
}
