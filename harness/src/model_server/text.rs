//! The completions: words of which each is exactly one token, so that the number of events is the number of tokens.

/// Every word is one token in both encodings, with and without a space before it; the test below asks tiktoken.
const WORDS: [&str; 64] = [
    "the", "water", "in", "a", "river", "power", "and", "light", "from", "hand", "time", "value", "house", "field",
    "open", "control", "flow", "number", "point", "line", "state", "level", "high", "low", "test", "run", "start",
    "end", "work", "data", "set", "key", "list", "map", "name", "type", "code", "word", "text", "page", "read",
    "write", "send", "load", "store", "form", "part", "group", "order", "large", "small", "full", "new", "first",
    "last", "next", "for", "with", "under", "over", "about", "after", "before", "between",
];

/// An endless, deterministic sequence of one-token pieces.
#[derive(Clone, Debug)]
pub(super) struct Words {
    state: u64,
    started: bool,
}

impl Words {
    pub(super) fn new(seed: u64) -> Self {
        Self { state: seed, started: false }
    }
}

impl Iterator for Words {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        let word = WORDS[(splitmix64(&mut self.state) % WORDS.len() as u64) as usize];
        let space = if self.started { " " } else { "" };
        self.started = true;
        Some(format!("{space}{word}"))
    }
}

/// A number in `0..2^64` from `seed` and `bytes` (FNV-1a, then one step of splitmix64 for the high bits).
pub(super) fn hash(seed: u64, bytes: &[u8]) -> u64 {
    let fnv = bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325 ^ seed, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3));
    splitmix64(&mut { fnv })
}

/// Sebastiano Vigna's splitmix64: the next state and its output.
fn splitmix64(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model_server::Encoding;

    #[test]
    fn every_piece_is_one_token_and_stays_one_in_the_whole_text() {
        for encoding in [Encoding::O200kBase, Encoding::Cl100kBase] {
            for word in WORDS {
                assert_eq!(encoding.count(word), 1, "{word:?} in {encoding:?}");
            }
            for (seed, length) in [(0, 1), (1, 2), (7, 500), (u64::MAX, 4000)] {
                let text: String = Words::new(seed).take(length).collect();
                assert_eq!(encoding.count(&text), length, "seed {seed} in {encoding:?}");
            }
        }
    }

    #[test]
    fn seeds_differ_and_repeat() {
        let text = |seed| Words::new(seed).take(40).collect::<String>();
        assert_eq!(text(3), text(3));
        assert_ne!(text(3), text(4));
    }
}
