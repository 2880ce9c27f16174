//! What counting may cost in the sandbox. Fuel and memory do not depend on the machine, so that a change that costs more fails here.

use std::fs;

use penstock_benches::streams::{chat, host};
use penstock_benches::{corpus, sandbox::Sandbox};
use penstock_harness::host::{Module, Worker};
use penstock_tests::{checkout, coded, module};
use serde_json::{Value, json};

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

/// Memory of a worker that has counted nothing, and by how much a count with each encoding adds to it.
const IDLE_MAX: usize = 300_000;
const TABLE_MAX: [(&str, usize); 2] = [("o200k_base", 7_500_000), ("cl100k_base", 4_500_000)];

#[test]
fn only_tables_that_are_counted_with_take_memory() {
    let penstock = Module::from_file(&module("penstock")).expect("the module");
    for (encoding, most) in TABLE_MAX {
        let config = json!({"models": [{"name": "chat", "tokenizer": encoding}]}).to_string();
        let host = host(&penstock, &config, 1).expect("a host");
        let mut worker = host.worker(0);
        let idle = worker.touched();
        assert!(idle <= IDLE_MAX, "{idle} bytes of a worker that has counted nothing, at most {IDLE_MAX}");
        let id = worker.open(chat(), false);
        let messages = json!([{"role": "user", "content": corpus::held_out("English")}]);
        worker.request_body(id, json!({"model": "chat", "messages": messages}).to_string().as_bytes(), true);
        assert!(worker.upstream(id).headers.is_some(), "{encoding}");
        let more = worker.touched() - idle;
        println!("idle: {idle}; {encoding}: {more}");
        assert!(more <= most, "{encoding}: {more} bytes, at most {most}");
        // Otherwise nothing would have been measured: the table is there only now.
        assert!(more > most / 2, "{encoding}: {more} bytes");
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
/// What a compressed body may become, by default and in the tests, and fuel for each byte of that.
const DECODED: usize = 4 << 20;
const DECODED_MAX: u64 = 210;
/// Bytes by which the memory of a worker grows for it: it is held as it came, as it is decoded, and as it goes on.
const DECODED_GROWTH_MAX: usize = 16 << 20;
/// How much fuel a worker may burn before others take it for dead: 3 s on a core that does a billion a second, which is less than half of
/// what the slowest machine did that this was tried on.
const SILENCE: u64 = 3_000_000_000;

/// One request holds a worker for less than its heartbeat allows, however hard its texts and however many encodings are configured: by
/// default 4 MiB are counted, and 4 MiB is what the shipped files let a filter hold.
#[test]
fn one_request_holds_no_worker_for_too_long() {
    const HELD: u64 = 4 << 20;
    const { assert!(HELD * (COUNTED_MAX + READ_MAX) < SILENCE) };
    for folder in ["envoy", "istio/mesh/wasmplugin", "istio/mesh/trafficextension", "istio/gateway-api"] {
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

/// Sends a chat for somebody who was refused a moment ago, so that it is read twice: the status of its refusal or 0, the fuel that it took, and
/// by how much the worker's memory grew.
fn send(config: &Value, module: &Module, coding: &str, body: &[u8]) -> (u16, u64, usize) {
    let host = host(module, &config.to_string(), 1).expect("a host");
    let mut worker = host.worker(0);
    let refused = worker.open(chat(), false);
    worker.request_body(refused, br#"{"model":"none","messages":[]}"#, true);
    assert_eq!(worker.client(refused).status(), 404);
    worker.forget(refused);
    let spent = |worker: &Worker| worker.fuel().values().map(|fuel| fuel.total).sum::<u64>();
    let (fuel, memory) = (spent(&worker), worker.memory());
    let mut headers = chat();
    headers.add("content-encoding", coding.as_bytes());
    let id = worker.open(headers, false);
    for piece in body.chunks(16 << 10) {
        worker.request_body(id, piece, false);
    }
    worker.request_body(id, b"", true);
    let status = if worker.upstream(id).headers.is_some() { 0 } else { worker.client(id).status() };
    worker.forget(id);
    (status, spent(&worker) - fuel, worker.memory() - memory)
}

/// Whatever a client compressed, and however. What is decoded here is no JSON by its first byte, so that nothing else costs anything.
#[test]
fn no_compressed_body_costs_more_to_decode() {
    let module = Module::from_file(&module("penstock")).expect("the module");
    let mut bodies: Vec<(String, &str, Vec<u8>, u16)> = vec![
        ("a bomb".to_owned(), "gzip", coded::gzip_bomb(), 413),
        ("a bomb".to_owned(), "zstd", coded::zstd_bomb(), 413),
    ];
    for (name, text) in coded::hard(DECODED) {
        bodies.push((name.to_owned(), "gzip", coded::gzip(&text), 400));
        bodies.push((name.to_owned(), "zstd", coded::zstd(&text), 400));
    }
    for count in [2000, 100_000] {
        bodies.push((format!("{count} tables"), "gzip", coded::gzip_tables(count), 400));
        bodies.push((format!("{count} tables"), "zstd", coded::zstd_tables(count), 400));
    }
    for (name, coding, body, expected) in bodies {
        let (status, fuel, growth) = send(&json!({"models": [{"name": "a"}]}), &module, coding, &body);
        let most = DECODED as u64 * DECODED_MAX;
        println!(
            "{coding} {name}: {} bytes, {fuel} fuel, {} a byte, {growth} bytes of memory",
            body.len(),
            fuel / DECODED as u64
        );
        assert_eq!(status, expected, "{coding} {name}");
        assert!(fuel <= most, "{coding} {name}: {fuel} fuel, at most {most}");
        assert!(growth <= DECODED_GROWTH_MAX, "{coding} {name}: grew by {growth} bytes, at most {DECODED_GROWTH_MAX}");
    }
}

/// All of it together, from the first byte to the decision: what costs most to decode, to read, and to count.
#[test]
fn one_compressed_request_holds_no_worker_for_too_long() {
    let module = Module::from_file(&module("penstock")).expect("the module");
    let text = |text: &str| json!({"model": "a", "messages": [{"role": "user", "content": text}]}).to_string();
    let mut bodies: Vec<(&str, String)> = Vec::new();
    for (name, hard) in corpus::hard_megabytes() {
        let hard = hard.repeat(4);
        let escaped = json!(hard).to_string().len() - hard.len();
        let end = hard.floor_char_boundary(hard.len().min(DECODED).saturating_sub(escaped + 100));
        bodies.push((name, text(&hard[..end])));
    }
    for (name, letters) in coded::hard(DECODED - 100) {
        bodies.push((name, text(&String::from_utf8(letters).expect("ASCII"))));
    }
    // As many small values as are read, and hard text for the rest of it.
    let values = coded::values(1_250_000);
    for (name, hard) in corpus::hard_megabytes().into_iter().take(3) {
        let hard = hard.repeat(4);
        let escaped = json!(hard).to_string().len() / (hard.len() / 1000) + 1;
        let end = hard.floor_char_boundary((DECODED - values.len() - 200) * 1000 / escaped);
        let body = json!({"model": "a", "messages": [{"role": "user", "content": hard[..end]}]}).to_string();
        bodies.push((name, body.replacen('{', &format!("{{\"x\":[{values}1],"), 1)));
    }
    let all_values = format!(r#"{{"model":"a","messages":[],"x":[{}1]}}"#, coded::values(DECODED - 100));
    let (status, fuel, _) = send(&json!({"models": [{"name": "a"}]}), &module, "identity", all_values.as_bytes());
    assert!(status == 400 && fuel < SILENCE / 3, "{status} {fuel}");
    for (name, body) in bodies {
        let plain = ("identity", body.clone().into_bytes());
        for (coding, coded) in [plain, ("gzip", coded::gzip(body.as_bytes())), ("zstd", coded::zstd(body.as_bytes()))] {
            let (status, fuel, growth) = send(&json!({"models": [{"name": "a"}]}), &module, coding, &coded);
            println!("{coding} {name}: {} of {} bytes, {fuel} fuel, {growth} bytes of memory", coded.len(), body.len());
            // What becomes more than a hundred times as long is not decoded to its end.
            let expected = if coding != "identity" && body.len() > 100 * coded.len() { 413 } else { 0 };
            assert_eq!(status, expected, "{coding} {name}");
            assert!(fuel < SILENCE, "{coding} {name}: {fuel} fuel, less than {SILENCE}");
        }
    }
}
