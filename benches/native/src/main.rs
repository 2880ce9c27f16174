//! The counter and tiktoken-rs side by side, natively: whether they agree, and how fast each is. Prints JSON.
//!
//! A package of its own, so that it can be optimised without compiling a WebAssembly engine again.

#[allow(dead_code, reason = "the texts for the sandbox are not used here")]
#[path = "../../src/corpus.rs"]
mod corpus;
#[allow(dead_code, reason = "some of it is for tests only")]
#[path = "../../../filters/tokens/tests/oracle/texts.rs"]
mod texts;

use std::hint::black_box;
use std::time::{Duration, Instant};

use penstock_tokens::{Counter, Encoding};
use serde_json::{Value, json};
use texts::{Random, cut, mixture};
use tiktoken_rs::CoreBPE;

/// Rounds of each of the two, in turns.
const ROUNDS: usize = 31;
/// Bytes that a round counts, at least.
const ROUND_BYTES: usize = 100_000;

fn main() {
    let texts = std::env::args().nth(1).and_then(|value| value.parse().ok()).unwrap_or(1_000_000);
    let encodings = [
        ("o200k_base", Encoding::O200kBase, tiktoken_rs::o200k_base_singleton()),
        ("cl100k_base", Encoding::Cl100kBase, tiktoken_rs::cl100k_base_singleton()),
    ];
    let (mut strings, mut mismatches) = (0, 0);
    let threads: Vec<(usize, usize)> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..2)
            .map(|thread| {
                scope.spawn(move || compare(thread, texts / 2, encodings.map(|(_, ours, theirs)| (ours, theirs))))
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("the comparison does not panic")).collect()
    });
    for (compared, different) in threads {
        strings += compared;
        mismatches += different;
    }
    let samples = corpus::samples();
    let strange = corpus::strange_words();
    let speed: serde_json::Map<String, Value> = encodings
        .into_iter()
        .map(|(name, ours, theirs)| {
            let speeds = samples.iter().map(|sample| (sample.name.to_owned(), speed(sample, ours, theirs, &strange)));
            (name.to_owned(), Value::Object(speeds.collect()))
        })
        .collect();
    println!("{:#}", json!({"strings": strings, "mismatches": mismatches, "native": speed}));
}

/// Counts texts with both, whole and cut. Returns how many strings there were, and how many counts differed.
fn compare(seed: usize, texts: usize, encodings: [(Encoding, &CoreBPE); 2]) -> (usize, usize) {
    let mut random = Random(1000 + seed as u64);
    let mut different = 0;
    for index in 0..texts {
        let text = mixture(&mut random, 12);
        let (encoding, oracle) = encodings[index % 2];
        let expected = oracle.encode_ordinary(&text).len() as u64;
        let mut counter = Counter::new(encoding);
        cut(&mut random, &text, 40).into_iter().for_each(|piece| counter.push(piece));
        let (whole, cut) = (encoding.count(&text), counter.finish());
        if whole != expected || cut != expected {
            eprintln!("{encoding:?}: {whole} as a whole, {cut} in pieces, {expected} by tiktoken-rs: {text:?}");
            different += 1;
        }
    }
    (texts, different)
}

/// Megabytes per second of both on the held-out half, and the ratio with its quartiles. Before each time, what was remembered of it is
/// displaced.
fn speed(sample: &corpus::Sample, ours: Encoding, theirs: &CoreBPE, strange: &str) -> Value {
    let text = &sample.held_out;
    let times = ROUND_BYTES.div_ceil(text.len().max(1));
    let bytes = (text.len() * times) as f64 / 1e6;
    let ours_on = |text: &str| ours.count(black_box(text));
    let theirs_on = |text: &str| theirs.encode_ordinary(black_box(text)).len();
    let ours = || {
        let mut spent = Duration::ZERO;
        for _ in 0..times {
            black_box(ours_on(strange));
            let start = Instant::now();
            black_box(ours_on(text));
            spent += start.elapsed();
        }
        bytes / spent.as_secs_f64()
    };
    let theirs = || {
        let start = Instant::now();
        for _ in 0..times {
            black_box(theirs_on(text));
        }
        bytes / start.elapsed().as_secs_f64()
    };
    for _ in 0..times {
        black_box(ours_on(&sample.warm));
        black_box(theirs_on(&sample.warm));
    }
    let rounds: Vec<(f64, f64)> = (0..ROUNDS).map(|_| (ours(), theirs())).collect();
    let quartiles = |values: Vec<f64>| {
        let mut values = values;
        values.sort_by(f64::total_cmp);
        [1, 2, 3].map(|quarter| (values[values.len() * quarter / 4] * 100.0).round() / 100.0)
    };
    json!({
        "mb_per_s": quartiles(rounds.iter().map(|round| round.0).collect())[1],
        "tiktoken_rs_mb_per_s": quartiles(rounds.iter().map(|round| round.1).collect())[1],
        "ratio_quartiles": quartiles(rounds.iter().map(|(ours, theirs)| ours / theirs).collect()),
    })
}
