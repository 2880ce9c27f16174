//! What counting costs: `cargo xtask bench tokens [--json]`. Every figure in one run, next to tiktoken-rs where it is about speed.

use std::process::Command;

use penstock_benches::{corpus, sandbox::Sandbox, v8};
use serde_json::{Value, json};

/// Strings that are compared with tiktoken-rs.
const STRINGS: &str = "1000000";
const TABLES: [&str; 2] = ["o200k", "cl100k"];

fn main() -> Result<(), String> {
    let as_json = std::env::args().any(|argument| argument == "--json");
    let mut report = native()?;
    report["v8"] = corpus::samples()
        .last()
        .ok_or_else(|| "no samples".to_owned())
        .and_then(v8::speed)
        .unwrap_or_else(|error| json!({"skipped": error}));
    report["sandbox"] = Value::Object(
        TABLES.iter().map(|table| Ok(((*table).to_owned(), sandbox(table)?))).collect::<Result<_, String>>()?,
    );
    if as_json {
        println!("{report:#}");
    } else {
        print(&report);
    }
    Ok(())
}

/// Runs the comparison, which is a program of its own because it has to be optimised.
fn native() -> Result<Value, String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let arguments = ["run", "--quiet", "--release", "--package", "penstock-native-bench", "--", STRINGS];
    let output = Command::new(cargo).args(arguments).output().map_err(|error| format!("cargo: {error}"))?;
    if !output.status.success() {
        return Err(format!("the native comparison failed: {}", String::from_utf8_lossy(&output.stderr)));
    }
    eprint!("{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).map_err(|error| format!("the native comparison: {error}"))
}

/// Fuel and memory with one table.
fn sandbox(table: &str) -> Result<Value, String> {
    let empty = Sandbox::new(None)?.memory_bytes();
    let first = Sandbox::new(Some(table))?;
    let memory = first.memory_bytes() - empty;
    let first_count = { first }.count("a", None)?.fuel;
    let mut fuel = serde_json::Map::new();
    for sample in corpus::samples() {
        let bytes = sample.held_out.len() as f64;
        let whole = Sandbox::new(Some(table))?.count(&sample.held_out, None)?;
        let cut = Sandbox::new(Some(table))?.count(&sample.held_out, Some(1000))?;
        let tenths = |fuel: u64| (fuel as f64 / bytes * 10.0).round() / 10.0;
        fuel.insert(sample.name.to_owned(), json!({"whole": tenths(whole.fuel), "in_pieces": tenths(cut.fuel)}));
    }
    let mut hard = serde_json::Map::new();
    for (name, text) in corpus::hard_megabytes() {
        let whole = Sandbox::new(Some(table))?.count(&text, None)?;
        let cut = Sandbox::new(Some(table))?.count(&text, Some(16384))?;
        if whole.tokens != cut.tokens {
            return Err(format!("{name}: {} tokens as a whole, {} in pieces", whole.tokens, cut.tokens));
        }
        let fuel = whole.fuel.max(cut.fuel) / text.len() as u64;
        hard.insert(name.to_owned(), json!({"fuel_per_byte": fuel, "growth_bytes": whole.growth.max(cut.growth)}));
    }
    Ok(json!({
        "memory_bytes": memory,
        "first_count_fuel": first_count,
        "fuel_per_byte": fuel,
        "hard_megabytes": hard,
    }))
}

fn print(report: &Value) {
    println!("{} strings, {} counts other than tiktoken-rs's", report["strings"], report["mismatches"]);
    for (encoding, samples) in report["native"].as_object().into_iter().flatten() {
        for (name, speed) in samples.as_object().into_iter().flatten() {
            println!(
                "native {encoding} {name}: {} MB/s, {} with tiktoken-rs, ratio quartiles {}",
                speed["mb_per_s"], speed["tiktoken_rs_mb_per_s"], speed["ratio_quartiles"]
            );
        }
    }
    println!("Envoy's V8, mixed: {}", report["v8"]);
    for (table, figures) in report["sandbox"].as_object().into_iter().flatten() {
        println!(
            "{table}: {} bytes of memory, first count {} fuel",
            figures["memory_bytes"], figures["first_count_fuel"]
        );
        for (name, fuel) in figures["fuel_per_byte"].as_object().into_iter().flatten() {
            println!("  {name}: {} fuel per byte, {} in pieces of 1,000", fuel["whole"], fuel["in_pieces"]);
        }
        for (name, cost) in figures["hard_megabytes"].as_object().into_iter().flatten() {
            println!(
                "  1 MB, {name}: {} fuel per byte, {} bytes of growth",
                cost["fuel_per_byte"], cost["growth_bytes"]
            );
        }
    }
}
