//! The counts are those of tiktoken-rs, for whatever text and however it is cut.

mod texts;

use std::sync::LazyLock;

use penstock_tokens::{Counter, Encoding};
use texts::{Random, any_char, cut, mixture};
use tiktoken_rs::CoreBPE;

static ORACLES: LazyLock<[(Encoding, &'static CoreBPE); 2]> = LazyLock::new(|| {
    [
        (Encoding::O200kBase, tiktoken_rs::o200k_base_singleton()),
        (Encoding::Cl100kBase, tiktoken_rs::cl100k_base_singleton()),
    ]
});

fn assert_same(text: &str) {
    for (encoding, oracle) in *ORACLES {
        let expected = oracle.encode_ordinary(text).len() as u64;
        assert_eq!(encoding.count(text), expected, "{encoding:?}: {text:?}");
    }
}

#[test]
fn mixtures() {
    let texts: usize =
        std::env::var("PENSTOCK_ORACLE_TEXTS").ok().and_then(|value| value.parse().ok()).unwrap_or(40_000);
    let seed: u64 = std::env::var("PENSTOCK_ORACLE_SEED").ok().and_then(|value| value.parse().ok()).unwrap_or(1);
    let mut random = Random(seed);
    for _ in 0..texts {
        assert_same(&mixture(&mut random, 24));
    }
}

/// White space is cut by what follows it, which can be in another block of 64 bytes.
#[test]
fn white_space_across_blocks() {
    for before in 0..70 {
        for white in ["\r\n    \r\n", "\n \n", "\n   x", "  \n\t\u{3000}\n", "   ", "\n", "!\n\n  /"] {
            assert_same(&format!("{}{white}", "7 ".repeat(before / 2) + &"a".repeat(before % 2)));
            assert_same(&format!("{}{white}x{}", "b".repeat(before), "c ".repeat(40)));
        }
    }
}

/// The numbers of both parts have their highest bit set.
#[test]
fn late_tokens_merge() {
    assert_same(" สามส\u{e34}บเอ\u{e47}ดe");
}

#[test]
fn every_character_alone_and_between_others() {
    for c in '\0'..=char::MAX {
        // A character on its own shows its tokens; next to a letter, a digit, a mark and white space, its class.
        if (c as u32) < 0x3_0000 || (c as u32).is_multiple_of(257) {
            assert_same(&format!("a{c}A1{c}\u{301}{c} {c}!{c}\n{c}"));
        }
    }
}

#[test]
fn however_it_is_cut() {
    let mut random = Random(2);
    for _ in 0..4_000 {
        let text = mixture(&mut random, 60);
        for (encoding, oracle) in *ORACLES {
            let expected = oracle.encode_ordinary(&text).len() as u64;
            let mut counter = Counter::new(encoding);
            let most = random.of(&[1, 3, 17, 100]);
            for piece in cut(&mut random, &text, most) {
                counter.push(piece);
            }
            assert_eq!(counter.finish(), expected, "{encoding:?}, pieces of up to {most}: {text:?}");
            assert_eq!(counter.finish(), 0);
        }
    }
}

#[test]
fn long_texts_however_they_are_cut() {
    let mut random = Random(3);
    for _ in 0..30 {
        let mut text = mixture(&mut random, 400);
        while text.len() < 60_000 {
            let more = mixture(&mut random, 400);
            text.push_str(&more);
            (0..random.below(3)).for_each(|_| text.push(any_char(&mut random)));
        }
        for (encoding, oracle) in *ORACLES {
            let expected = oracle.encode_ordinary(&text).len() as u64;
            assert_eq!(encoding.count(&text), expected);
            for most in [1, 50, 5_000, 30_000] {
                let mut counter = Counter::new(encoding);
                cut(&mut random, &text, most).into_iter().for_each(|piece| counter.push(piece));
                assert_eq!(counter.finish(), expected, "{encoding:?}, pieces of up to {most}");
            }
        }
    }
}
