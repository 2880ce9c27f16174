//! Counts are those of tiktoken-rs, however the text is cut: `cargo +nightly fuzz run count` in `filters/tokens`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use penstock_tokens::{Counter, Encoding};

fuzz_target!(|input: (u8, &str)| {
    let (cut, text) = input;
    // tiktoken-rs overflows its stack on very long pieces.
    if text.len() > 100_000 {
        return;
    }
    let oracles = [
        (Encoding::O200kBase, tiktoken_rs::o200k_base_singleton()),
        (Encoding::Cl100kBase, tiktoken_rs::cl100k_base_singleton()),
    ];
    for (encoding, oracle) in oracles {
        let expected = oracle.encode_ordinary(text).len() as u64;
        assert_eq!(encoding.count(text), expected);
        assert_eq!(encoding.count_up_to(text, expected), Some(expected));
        assert_eq!(encoding.count_up_to(text, expected.saturating_sub(1)), (expected == 0).then_some(0));
        let mut counter = Counter::new(encoding);
        let mut rest = text;
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(rest.ceil_char_boundary(usize::from(cut).clamp(1, rest.len())));
            counter.push(piece);
            rest = after;
        }
        assert_eq!(counter.finish(), expected);
    }
});
