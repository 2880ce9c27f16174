//! What counting may cost in the sandbox. Fuel and memory do not depend on the machine, so that a change that costs more fails here.

use penstock_benches::{corpus, sandbox::Sandbox};

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
