//! What each callback of a request costs: `cargo xtask bench stages [--json] [--folded FILE]`.

use std::path::Path;

use penstock_benches::stages::{self, Answer, Callbacks, crossings, inclusive};
use penstock_harness::envoy;
use serde_json::{Value, json};

/// How many functions of each callback are told.
const FUNCTIONS: usize = 25;

fn main() -> Result<(), String> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let as_json = arguments.iter().any(|argument| argument == "--json");
    let folded = arguments.iter().position(|argument| argument == "--folded").and_then(|at| arguments.get(at + 1));
    let root = envoy::checkout()?;
    let shipped = root.join("dist/penstock.wasm");
    let answers = [("json", Answer::Json), ("fifty_events", Answer::Events)];
    let mut lives = Vec::new();
    for (name, answer) in answers {
        lives.push((name, stages::measure(&shipped, answer)?));
    }
    let stacks = stages::stacks(&root.join("target/named/penstock.wasm"))?;
    if let Some(file) = folded {
        let lines = stacks.iter().flat_map(|(callback, stacks)| {
            stacks.iter().map(move |(names, fuel)| format!("{callback};{} {fuel}\n", names.join(";")))
        });
        std::fs::write(Path::new(file), lines.collect::<String>()).map_err(|error| format!("{file}: {error}"))?;
    }
    let functions = stacks.iter().map(|(callback, stacks)| {
        let dearest = inclusive(stacks).into_iter().take(FUNCTIONS);
        ((*callback).to_owned(), dearest.collect::<Vec<_>>())
    });
    let functions: Vec<(String, Vec<(String, u64)>)> = functions.collect();
    if as_json {
        let of = |callbacks: &Callbacks| {
            let all = callbacks.iter().map(|(name, callback)| {
                let what = json!({"calls": callback.calls, "fuel": callback.fuel, "host_calls": callback.host_calls});
                ((*name).to_owned(), what)
            });
            Value::Object(all.collect())
        };
        let lives = lives.iter().map(|(name, callbacks)| ((*name).to_owned(), of(callbacks)));
        let lives = Value::Object(lives.collect());
        let functions = functions.into_iter().map(|(callback, all)| {
            let all = all.into_iter().map(|(function, fuel)| (function, json!(fuel)));
            (callback, Value::Object(all.collect()))
        });
        println!("{:#}", json!({"callbacks": lives, "functions": Value::Object(functions.collect())}));
        return Ok(());
    }
    for (name, callbacks) in &lives {
        println!("{name}:");
        callbacks.iter().for_each(|(name, callback)| {
            let calls: u64 = callback.host_calls.values().sum();
            println!("  {name:<28} {:>3} times {:>7} fuel {calls:>4} host calls", callback.calls, callback.fuel);
            callback.host_calls.iter().for_each(|(function, count)| println!("    {count:>4} {function}"));
        });
        let fuel: u64 = callbacks.values().map(|callback| callback.fuel).sum();
        let (host_calls, rooms) = crossings(callbacks);
        println!(
            "  {:<28} {fuel:>17} fuel {host_calls:>4} host calls, {rooms} times room in the module's memory",
            "all"
        );
    }
    for (callback, functions) in &functions {
        println!("{callback}:");
        functions.iter().for_each(|(function, fuel)| println!("  {fuel:>7} {function}"));
    }
    Ok(())
}
