//! What a text costs: exact token counts for OpenAI's encodings.
//!
//! What this crate does not do: produce token ids, decode, or treat special tokens specially. Texts are counted as
//! `encode_ordinary` does, which is what a chat API does with user text.

pub mod framing;
pub mod ratio;

use tiktoken_rs::CoreBPE;

/// The encodings that are built in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// GPT-4o, GPT-4.1, o1, o3, GPT-5.
    O200kBase,
    /// gpt-oss. Ordinary text is encoded as in [`Encoding::O200kBase`]; the two differ in special tokens only.
    O200kHarmony,
    /// GPT-4, GPT-3.5, text-embedding-3.
    Cl100kBase,
}

impl Encoding {
    /// All of them, with their names.
    pub const ALL: [(&'static str, Self); 3] =
        [("o200k_base", Self::O200kBase), ("o200k_harmony", Self::O200kHarmony), ("cl100k_base", Self::Cl100kBase)];

    /// The encoding called `name`.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(known, _)| *known == name).map(|(_, encoding)| *encoding)
    }

    fn bpe(self) -> &'static CoreBPE {
        match self {
            Self::O200kBase | Self::O200kHarmony => tiktoken_rs::o200k_base_singleton(),
            Self::Cl100kBase => tiktoken_rs::cl100k_base_singleton(),
        }
    }

    /// The number of tokens in `text`.
    pub fn count(self, text: &str) -> u64 {
        let mut counter = Counter::new(self);
        counter.push(text);
        counter.finish()
    }
}

/// Counts one text that arrives in pieces.
pub struct Counter {
    encoding: Encoding,
    text: String,
}

impl Counter {
    /// A counter for one text after another.
    pub fn new(encoding: Encoding) -> Self {
        Self { encoding, text: String::new() }
    }

    /// The next piece of the current text.
    pub fn push(&mut self, piece: &str) {
        self.text.push_str(piece);
    }

    /// The tokens of the text that has been pushed; the counter is then ready for the next one.
    pub fn finish(&mut self) -> u64 {
        // The regular expression behind tiktoken-rs overflows its stack on long runs of white space.
        const RUN_MAX: usize = 4096;
        let text = core::mem::take(&mut self.text);
        let bpe = self.encoding.bpe();
        let mut tokens = 0u64;
        let mut run = 0usize;
        let mut from = 0usize;
        for (at, c) in text.char_indices() {
            run = if c.is_whitespace() { run.saturating_add(1) } else { 0 };
            if run == RUN_MAX {
                run = 0;
                let part = text.get(from..at).unwrap_or_default();
                tokens = tokens.saturating_add(bpe.encode_ordinary(part).len() as u64);
                from = at;
            }
        }
        let part = text.get(from..).unwrap_or_default();
        tokens.saturating_add(bpe.encode_ordinary(part).len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_counts() {
        // From the openai-cookbook, "How to count tokens with tiktoken".
        assert_eq!(Encoding::O200kBase.count("antidisestablishmentarianism"), 6);
        assert_eq!(Encoding::Cl100kBase.count("2 + 2 = 4"), 7);
        assert_eq!(Encoding::O200kBase.count("お誕生日おめでとう"), 8);
        assert_eq!(Encoding::O200kBase.count(""), 0);
    }

    #[test]
    fn pieces_do_not_matter() {
        let mut counter = Counter::new(Encoding::O200kBase);
        for piece in ["He", "llo, w", "orld"] {
            counter.push(piece);
        }
        assert_eq!(counter.finish(), Encoding::O200kBase.count("Hello, world"));
        assert_eq!(counter.finish(), 0);
    }

    #[test]
    fn a_million_spaces_do_not_panic() {
        assert!(Encoding::O200kBase.count(&" ".repeat(1_000_000)) > 0);
    }
}
