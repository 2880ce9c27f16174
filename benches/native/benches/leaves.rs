//! What one step of each leaf takes natively, by criterion: `cargo bench -p penstock-native-bench`; with a name behind it only what has that in its
//! name. It keeps what it measured in `target/criterion`, and says next time by how much that has changed.
//!
//! For who changes a leaf and wants to know at once. What counts in the end is fuel in the sandbox, which tests have bounds for.

#[allow(dead_code, reason = "the texts for the sandbox are not used here")]
#[path = "../../src/corpus.rs"]
mod corpus;

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use penstock_bucket::bucket::Bucket;
use penstock_bucket::{Rate, page};
use penstock_canary::{Split, point};
use penstock_dialects::{Dialect, Ignore, PromptSink, RequestReader, ResponseReader};
use penstock_exchange::Facts;
use penstock_pending::Series;
use penstock_pending::slot::Slot;
use penstock_tokens::ratio::{Features, Ratio};
use penstock_tokens::{Counter, Encoding};
use penstock_units::{Fingerprint, MilliTokens, Nanos, Tokens};
use serde_json::json;

/// Bytes of a prompt.
const PROMPT: usize = 2_000;
/// As many buckets as fit into a page.
const BUCKETS: u64 = page::ENTRIES_MAX as u64;
const NOW: Nanos = Nanos(1_767_225_600_000_000_000);

criterion_group!(leaves, counting, reading, buckets, drawing, facts, estimates, slots);
criterion_main!(leaves);

/// Counts what a reader hands on.
struct Count(Counter, u64);

impl PromptSink for Count {
    fn part(&mut self, text: &str) {
        self.0.push(text);
    }

    fn end(&mut self) {
        self.1 += self.0.finish();
    }
}

fn prompt() -> String {
    let text = corpus::held_out("English");
    text[..text.floor_char_boundary(PROMPT)].to_owned()
}

fn body() -> Vec<u8> {
    json!({"model": "chat", "max_tokens": 100, "messages": [{"role": "user", "content": prompt()}]})
        .to_string()
        .into_bytes()
}

fn counting(c: &mut Criterion) {
    let mut group = c.benchmark_group("tokens");
    for name in ["English", "code", "mixed"] {
        let text = corpus::held_out(name);
        group.throughput(Throughput::Bytes(text.len() as u64));
        group.bench_function(name, |b| b.iter(|| Encoding::O200kBase.count(black_box(&text))));
    }
    group.finish();
}

fn reading(c: &mut Criterion) {
    let mut group = c.benchmark_group("dialects");
    let body = body();
    group.throughput(Throughput::Bytes(body.len() as u64));
    group.bench_function("a request of 2 KB, read", |b| {
        b.iter(|| {
            let mut reader = RequestReader::new(Dialect::Chat);
            reader.push(black_box(&body), &mut Ignore).map(|()| reader.finish(&mut Ignore).is_ok())
        });
    });
    group.bench_function("a request of 2 KB, read and counted", |b| {
        b.iter(|| {
            let mut reader = RequestReader::new(Dialect::Chat);
            let mut count = Count(Counter::new(Encoding::O200kBase), 0);
            let is_read = reader.push(black_box(&body), &mut count).and_then(|()| reader.finish(&mut count)).is_ok();
            (is_read, count.1)
        });
    });
    let event = r#"data: {"id":"chatcmpl-5a0c8ad2b1f94d0c","object":"chat.completion.chunk","created":1767225600,"model":"llama","choices":[{"index":0,"delta":{"content":" water"},"logprobs":null,"finish_reason":null}]}"#;
    let event = format!("{event}\n\n");
    group.throughput(Throughput::Bytes(event.len() as u64));
    let mut reader = ResponseReader::new(Dialect::Chat, false);
    group.bench_function("an event of a stream", |b| b.iter(|| reader.push(black_box(event.as_bytes()), &mut Ignore)));
    group.finish();
}

fn buckets(c: &mut Criterion) {
    let mut group = c.benchmark_group("bucket");
    let rate = Rate::new(Tokens(60_000), Nanos(60_000_000_000), Tokens(60_000)).expect("a rate");
    let cost = MilliTokens(500_000);
    let charge = |page: &[u8], owner: u64| {
        let bucket = page::get(page, Fingerprint(owner), NOW).admit(rate, NOW, cost).unwrap_or(Bucket::full(NOW));
        page::set(page, Fingerprint(owner), bucket, NOW).unwrap_or_default()
    };
    let full = (0..BUCKETS).fold(Vec::new(), |page, owner| charge(&page, owner));
    for (name, page) in [("a charge, alone in its page", charge(&[], 1)), ("a charge, in a full page", full)] {
        group.bench_function(name, |b| b.iter(|| charge(black_box(&page), 1)));
    }
    group.finish();
}

fn drawing(c: &mut Criterion) {
    let split = Split::new(&[90, 10]).expect("a split");
    c.bench_function("canary/a draw", |b| b.iter(|| split.draw(point(black_box("chat"), black_box(b"session-4711")))));
}

fn facts(c: &mut Criterion) {
    let mut group = c.benchmark_group("facts");
    let facts = Facts {
        tenant: "acme".to_owned(),
        model: "chat".to_owned(),
        version: Some("stable".to_owned()),
        prompt_hash: "246c6a889938d703".to_owned(),
        prompt_tokens: Tokens(400),
        expected_output: Tokens(256),
        ..Facts::default()
    };
    let bytes = facts.encode();
    group.bench_function("written", |b| b.iter(|| black_box(&facts).encode()));
    group.bench_function("read", |b| b.iter(|| Facts::decode(black_box(&bytes))));
    group.finish();
}

fn estimates(c: &mut Criterion) {
    let mut group = c.benchmark_group("ratio");
    let text = prompt();
    let mut features = Features { tokens: 400, messages: 1, ..Features::default() };
    features.text(&text);
    let bytes = Ratio::default().encode();
    group.bench_function("what is known of 2 KB", |b| {
        b.iter_batched_ref(Features::default, |features| features.text(black_box(&text)), BatchSize::SmallInput);
    });
    group.bench_function("an estimate", |b| b.iter(|| Ratio::decode(black_box(&bytes)).estimate(&features)));
    group.bench_function("a report learnt", |b| {
        b.iter(|| {
            let mut ratio = Ratio::decode(black_box(&bytes));
            ratio.learn(&features, 420);
            ratio.encode()
        });
    });
    group.finish();
}

fn slots(c: &mut Criterion) {
    let mut group = c.benchmark_group("pending");
    let mut slot = Slot { owner: 1, beat: NOW, ..Slot::default() };
    let series = (0..10).map(|number| Series { model: "chat".to_owned(), version: format!("v{number}") });
    slot.add(&series.collect::<Vec<_>>());
    let bytes = slot.encode();
    group.bench_function("a worker's slot of ten versions, written", |b| b.iter(|| black_box(&slot).encode()));
    group.bench_function("a worker's slot of ten versions, read", |b| b.iter(|| Slot::decode(black_box(&bytes))));
    group.finish();
}
