//! What counting may cost in the sandbox. Fuel and memory do not depend on the machine, so that a change that costs more fails here.

use std::fs;

use penstock_benches::streams::{chat, host};
use penstock_benches::{corpus, sandbox::Sandbox};
use penstock_harness::host::{Module, Worker};
use penstock_tests::{checkout, module};
use serde_json::json;

/// Bytes of linear memory beyond a module that does not count.
const MEMORY_MAX: [(&str, u64); 2] = [("o200k", 7_500_000), ("cl100k", 4_500_000)];
/// Fuel of the first count, which has nothing to initialise.
const FIRST_COUNT_MAX: u64 = 2_000;
/// Fuel per byte with `o200k_base`.
const FUEL_MAX: [(&str, u64); 4] = [("English", 40), ("code", 47), ("JSON chat", 62), ("mixed", 108)];
/// Fuel per byte of any megabyte, and bytes by which the memory grows.
const HARD_FUEL_MAX: u64 = 400;
const HARD_GROWTH_MAX: u64 = 1 << 17;

#[test]
fn memory_and_first_count() {
    let empty = Sandbox::new(None).expect("the probe").memory_bytes();
    for (table, most) in MEMORY_MAX {
        let mut sandbox = Sandbox::new(Some(table)).expect("the probe");
        let memory = sandbox.memory_bytes() - empty;
        assert!(memory <= most, "{table}: {memory} bytes of memory, at most {most}");
        let first = sandbox.count("a", None).expect("a count").fuel;
        assert!(first <= FIRST_COUNT_MAX, "{table}: {first} fuel for the first count, at most {FIRST_COUNT_MAX}");
    }
}

#[test]
fn ordinary_texts() {
    for (name, most) in FUEL_MAX {
        let text = corpus::held_out(name);
        let cost = Sandbox::new(Some("o200k")).expect("the probe").count(&text, None).expect("a count");
        let (fuel, bytes) = (cost.fuel, text.len() as u64);
        assert!(fuel <= most * bytes, "{name}: {fuel} fuel for {bytes} bytes, at most {most} per byte");
    }
}

#[test]
fn hard_megabytes() {
    for (name, text) in corpus::hard_megabytes() {
        let mut sandbox = Sandbox::new(Some("o200k")).expect("the probe");
        let cost = sandbox.count(&text, Some(16_384)).unwrap_or_else(|error| panic!("{name}: {error}"));
        let (fuel, bytes) = (cost.fuel, text.len() as u64);
        assert!(
            fuel <= HARD_FUEL_MAX * bytes,
            "{name}: {fuel} fuel for {bytes} bytes, at most {HARD_FUEL_MAX} per byte"
        );
        assert!(cost.growth <= HARD_GROWTH_MAX, "{name}: grew by {} bytes, at most {HARD_GROWTH_MAX}", cost.growth);
    }
}

/// Fuel for a byte that is counted, and for a byte that is read, which may happen twice.
const COUNTED_MAX: u64 = HARD_FUEL_MAX + 20;
const READ_MAX: u64 = 200;
/// How much fuel a worker may burn before others take it for dead: 3 s on a core that does a billion a second, which is less than half of
/// what the slowest machine did that this was tried on.
const SILENCE: u64 = 3_000_000_000;

/// One request holds a worker for less than its heartbeat allows, however hard its texts and however many encodings are configured: by
/// default 4 MiB are counted, and 4 MiB is what the shipped files let a filter hold.
#[test]
fn one_request_holds_no_worker_for_too_long() {
    const HELD: u64 = 4 << 20;
    const { assert!(HELD * (COUNTED_MAX + READ_MAX) < SILENCE) };
    for folder in ["envoy", "istio/mesh/base"] {
        for file in checkout().join(folder).read_dir().expect("a folder of the repository") {
            let path = file.expect("an entry").path();
            let text = fs::read_to_string(&path).unwrap_or_default();
            for line in text.lines().filter_map(|line| line.trim().strip_prefix("per_connection_buffer_limit_bytes:")) {
                assert!(line.trim().parse::<u64>().is_ok_and(|held| held <= HELD), "{}: {line}", path.display());
            }
        }
    }
    const COUNTED: u64 = 128 << 10;
    let config = json!({"countBytesMax": COUNTED, "models": [{"name": "a", "tokenizer": "o200k_base"},
        {"name": "b", "tokenizer": "cl100k_base"}, {"name": "c", "tokenizer": {"like": "o200k_harmony"}}]});
    let host =
        host(&Module::from_file(&module("penstock")).expect("the module"), &config.to_string(), 1).expect("a host");
    for (name, text) in corpus::hard_megabytes() {
        let text = text.get(..text.floor_char_boundary(256 << 10)).unwrap_or(&text);
        let body = json!({"model": "a", "messages": [{"role": "user", "content": text}]}).to_string();
        let mut worker = host.worker(0);
        let spent = |worker: &Worker| worker.fuel().values().map(|fuel| fuel.total).sum::<u64>();
        let before = spent(&worker);
        let id = worker.open(chat(), false);
        for piece in body.as_bytes().chunks(16 << 10) {
            worker.request_body(id, piece, false);
        }
        worker.request_body(id, b"", true);
        assert!(worker.upstream(id).headers.is_some(), "{name}");
        let fuel = spent(&worker) - before;
        worker.forget(id);
        let most = COUNTED * COUNTED_MAX + body.len() as u64 * READ_MAX;
        assert!(fuel <= most, "{name}: {fuel} fuel for {} bytes, at most {most}", body.len());
    }
}
