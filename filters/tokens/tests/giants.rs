//! Texts of a megabyte that are one piece, or few: where tiktoken-rs overflows its stack, and where everything has to stay linear.
//!
//! The texts are put together from their pieces, and the expected count is that of merging each piece, here with a heap.

#![allow(clippy::disallowed_types, clippy::type_complexity, reason = "the reference is plain, and runs in tests only")]

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use penstock_tokens::{Counter, Encoding};
use tiktoken_rs::CoreBPE;

const SIZE: usize = 1 << 20;

/// The ranks of a vocabulary.
struct Reference(HashMap<Vec<u8>, u32>);

impl Reference {
    fn new(bpe: &CoreBPE) -> Self {
        Self((0..).map_while(|rank| Some((bpe.decode_bytes(&[rank]).ok()?, rank))).collect())
    }

    /// Byte-pair encoding by its definition: of all neighbours that form a token, those of the lowest rank merge, the leftmost first.
    fn tokens(&self, piece: &[u8]) -> u64 {
        if self.0.contains_key(piece) {
            return 1;
        }
        let mut ends: Vec<usize> = (1..=piece.len()).collect();
        let mut starts_before: Vec<usize> = (0..=piece.len()).map(|at| at.saturating_sub(1)).collect();
        let mut alive = vec![true; piece.len()];
        let mut heap = BinaryHeap::new();
        let offer = |heap: &mut BinaryHeap<_>, start: usize, middle: usize, end: usize| {
            if let Some(rank) = self.0.get(&piece[start..end]) {
                heap.push(Reverse((*rank, start, middle, end)));
            }
        };
        for start in 0..piece.len() - 1 {
            offer(&mut heap, start, start + 1, start + 2);
        }
        let mut tokens = piece.len() as u64;
        while let Some(Reverse((_, start, middle, end))) = heap.pop() {
            let fresh =
                alive[start] && ends[start] == middle && middle < piece.len() && alive[middle] && ends[middle] == end;
            if !fresh {
                continue;
            }
            alive[middle] = false;
            ends[start] = end;
            tokens -= 1;
            if end < piece.len() {
                starts_before[end] = start;
                offer(&mut heap, start, end, ends[end]);
            }
            if start > 0 {
                let before = starts_before[start];
                offer(&mut heap, before, start, end);
            }
        }
        tokens
    }
}

/// Texts as their pieces, which are the same in all encodings unless they are given per encoding.
fn giants() -> Vec<(&'static str, Vec<String>, Option<Vec<String>>)> {
    let n = |text: &str| text.repeat(SIZE / text.len());
    let mut state = 1u64;
    let mut letters = |alphabet: &[char]| -> String {
        (0..SIZE / alphabet[0].len_utf8())
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                alphabet[(state >> 33) as usize % alphabet.len()]
            })
            .collect()
    };
    let capitals = letters(&('A'..='Z').collect::<Vec<_>>());
    let lower: Vec<char> = ('a'..='z').collect();
    let kana: Vec<char> = ('ぁ'..='ん').collect();
    let punctuation: Vec<char> = "!#$%&()*+,-.:;<=>?@[]^_{|}~".chars().collect();
    vec![
        ("a", vec![n("a")], None),
        ("a, contracted", vec![n("a") + "'s", "!".into()], Some(vec![n("a"), "'s".into(), "!".into()])),
        ("A", vec![n("A")], None),
        ("A, contracted", vec![" ".to_owned() + &n("A") + "'LL"], Some(vec![" ".to_owned() + &n("A"), "'LL".into()])),
        ("ab", vec![n("ab")], None),
        ("spaces", vec![n(" ")], None),
        ("spaces and a word", vec![n(" "), " x".into()], None),
        ("spaces and a digit", vec![n(" "), " ".into(), "1".into()], None),
        ("a line end and spaces", vec!["\n".into(), n(" "), " x".into()], None),
        ("a line end and final spaces", vec!["\r\n".into(), n(" ")], Some(vec!["\r\n".to_owned() + &n(" ")])),
        ("spaces and a line end", vec![n(" ") + "\n"], None),
        ("spaces, a line end, spaces, and a word", vec![n(" ") + "\n", n(" "), " x".into()], None),
        ("spaces and two line ends far apart", vec!["\n".to_owned() + &n(" ") + "\n", " x".into()], None),
        ("line ends", vec![n("\n")], None),
        ("tabs and line ends", vec![n("\t\n"), "\t".into(), "1".into()], None),
        ("wide spaces", vec![n("\u{3000}"), "\u{3000}x".into()], None),
        ("Han", vec![n("中")], None),
        ("Han and upper case", vec![n("中"), n("A"), "!".into()], Some(vec![n("中") + &n("A"), "!".into()])),
        ("Han, upper case and lower case", vec![n("中") + &n("A") + &n("b")], None),
        ("Han, contracted", vec![n("中") + "'s"], Some(vec![n("中"), "'s".into()])),
        ("Han, upper case, contracted", vec![n("中"), n("A") + "'s"], Some(vec![n("中") + &n("A"), "'s".into()])),
        ("Han and random capitals", vec!["中".into(), capitals.clone()], Some(vec!["中".to_owned() + &capitals])),
        (
            "random capitals around Han",
            vec![capitals.clone() + "中", capitals.clone(), "!".into()],
            Some(vec![capitals.clone() + "中" + &capitals, "!".into()]),
        ),
        (
            "a mark and random capitals",
            vec!["\u{301}".into(), capitals.clone()],
            Some(vec!["\u{301}".to_owned() + &capitals]),
        ),
        ("a prefix and kana", vec!["(".to_owned() + &letters(&kana)], None),
        ("random letters", vec![letters(&lower)], None),
        ("random upper case", vec![letters(&('A'..='Z').collect::<Vec<_>>())], None),
        ("random punctuation", vec![letters(&punctuation)], None),
        ("dashes", vec![n("-")], None),
        ("a space and dashes", vec![" ".to_owned() + &n("-")], None),
        ("punctuation, line ends and slashes", vec!["!\n".to_owned() + &n("/\n")], Some(punctuated_lines())),
        ("emoji", vec![n("👍")], None),
        ("marks", vec![n("\u{301}")], Some(vec![n("\u{301}")])),
    ]
}

/// `!\n/\n/\n…` where a slash does not continue punctuation after a line end.
fn punctuated_lines() -> Vec<String> {
    let mut pieces = vec!["!\n".to_owned()];
    pieces.extend(std::iter::repeat_n("/\n".to_owned(), SIZE / 2));
    pieces
}

#[test]
fn counts_are_those_of_merging() {
    let encodings = [
        (Encoding::O200kBase, Reference::new(tiktoken_rs::o200k_base_singleton())),
        (Encoding::Cl100kBase, Reference::new(tiktoken_rs::cl100k_base_singleton())),
    ];
    std::thread::scope(|scope| {
        for (encoding, reference) in &encodings {
            scope.spawn(move || {
                for (name, pieces, other) in giants() {
                    let pieces = if *encoding == Encoding::Cl100kBase { other.unwrap_or(pieces) } else { pieces };
                    let expected: u64 = pieces.iter().map(|piece| reference.tokens(piece.as_bytes())).sum();
                    let text = pieces.concat();
                    assert_eq!(encoding.count(&text), expected, "{encoding:?}: {name}");
                    for size in [997, 70_001, SIZE] {
                        assert_eq!(
                            streamed(*encoding, &text, size),
                            expected,
                            "{encoding:?}: {name} in pieces of {size} bytes"
                        );
                    }
                }
            });
        }
    });
}

fn streamed(encoding: Encoding, text: &str, size: usize) -> u64 {
    let mut counter = Counter::new(encoding);
    let mut rest = text;
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(rest.ceil_char_boundary(size.min(rest.len())));
        counter.push(piece);
        rest = after;
    }
    counter.finish()
}

#[test]
fn the_reference_is_right_about_what_tiktoken_rs_can_count() {
    let bpe = tiktoken_rs::o200k_base_singleton();
    let reference = Reference::new(bpe);
    for word in ["antidisestablishmentarianism", "中文日本語中文", "qqqqqqqqqqqqqqqq", "xkcdxkcdxkcdxkcdxkcd"] {
        assert_eq!(reference.tokens(word.as_bytes()), bpe.encode_ordinary(word).len() as u64, "{word}");
    }
}
