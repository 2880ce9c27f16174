//! What each callback of a request costs `penstock.wasm` on the wasmtime host: fuel, what it calls of the host, and which of its functions the
//! fuel goes to.
//!
//! Functions are told by stopping: the same request is played again and again, each time with a little more fuel, and where it ends is known by
//! the names of the functions that were running. wasmtime looks at the fuel where functions and rounds of loops begin, so that what a function
//! does before it calls another counts for that one. What the compiler has put into another function counts for that.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use penstock_harness::host::{Headers, Host, Module, Worker};
use serde_json::json;

use crate::streams::{chat, event, event_stream, host};

/// Requests before the one that is looked at: what is found or made once has been by then.
const BEFORE: usize = 20;
/// Requests over which the fuel of a callback is averaged.
const REQUESTS: u64 = 200;
/// How many events a streamed answer has.
const EVENTS: u32 = 50;
/// Into how many parts a callback is cut, and the fewest units in one.
const PARTS: u64 = 300;
const PART_MIN: u64 = 40;

/// How a request is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// In one piece.
    Json,
    /// In fifty events that come one by one.
    Events,
}

/// What one kind of callback costs, for one request.
#[derive(Clone, Debug, Default)]
pub struct Callback {
    /// How often it comes.
    pub calls: u64,
    /// Fuel of all of them together.
    pub fuel: u64,
    /// How often it calls which function of the host. Where the host has room made in the module's memory, that is one of them.
    pub host_calls: BTreeMap<&'static str, u64>,
}

/// All callbacks of a request, by their names.
pub type Callbacks = BTreeMap<&'static str, Callback>;

/// What the host calls in the module where it needs room there.
pub const ALLOCATE: &str = "proxy_on_memory_allocate";

/// How often the host is called, and how often it has room made, in all of them together.
pub fn crossings(callbacks: &Callbacks) -> (u64, u64) {
    let sum = |is_room: bool| {
        let all = callbacks.values().flat_map(|callback| &callback.host_calls);
        all.filter(|(function, _)| (**function == ALLOCATE) == is_room).map(|(_, count)| count).sum()
    };
    (sum(false), sum(true))
}

/// The life of a tiny request under one limit, of a model with two versions.
///
/// # Errors
/// When the module has not been built, or does not start.
pub fn measure(module: &Path, answer: Answer) -> Result<Callbacks, String> {
    let host = ready(&Module::from_file(module)?)?;
    let mut worker = host.worker(0);
    for _ in 0..BEFORE {
        live(&mut worker, answer)?;
    }
    let (fuel, calls) = (worker.fuel(), worker.host_calls());
    for _ in 0..REQUESTS {
        live(&mut worker, answer)?;
    }
    let mut callbacks = Callbacks::new();
    for (name, after) in worker.fuel() {
        let before = fuel.get(name).copied().unwrap_or_default();
        let (calls, fuel) = ((after.calls - before.calls) / REQUESTS, (after.total - before.total) / REQUESTS);
        if calls > 0 {
            callbacks.insert(name, Callback { calls, fuel, host_calls: BTreeMap::new() });
        }
    }
    for ((callback, function), after) in worker.host_calls() {
        let count = (after - calls.get(&(callback, function)).copied().unwrap_or(0)) / REQUESTS;
        if let Some(callback) = callbacks.get_mut(callback).filter(|_| count > 0) {
            callback.host_calls.insert(function, count);
        }
    }
    Ok(callbacks)
}

/// The functions that were running, the outermost first, and the fuel that stands for.
pub type Stacks = BTreeMap<Vec<String>, u64>;

/// Where the fuel of each callback goes, of a module that has the names of its functions, for a request that is answered in one piece.
///
/// # Errors
/// As [`measure`] has them.
pub fn stacks(module: &Path) -> Result<BTreeMap<&'static str, Stacks>, String> {
    let callbacks = measure(module, Answer::Json)?;
    let module = Module::from_file(module)?;
    let mut all = BTreeMap::new();
    for (name, Callback { fuel, .. }) in callbacks {
        let part = (fuel / PARTS).max(PART_MIN);
        let mut stacks = Stacks::new();
        for stop in 1..=fuel / part {
            let host = ready(&module)?;
            let mut worker = host.worker(0);
            live(&mut worker, Answer::Json)?;
            worker.limit_fuel(name, stop * part);
            // Mostly it does not end as it should.
            let _ = live(&mut worker, Answer::Json);
            if let Some(trap) = worker.failures().first() {
                *stacks.entry(functions(trap)).or_default() += part;
            }
        }
        all.insert(name, stacks);
    }
    Ok(all)
}

/// What was spent in each function and in those that it called, the dearest first.
pub fn inclusive(stacks: &Stacks) -> Vec<(String, u64)> {
    let mut sums: BTreeMap<&str, u64> = BTreeMap::new();
    for (functions, fuel) in stacks {
        let once: BTreeSet<&str> = functions.iter().map(String::as_str).collect();
        once.into_iter().for_each(|name| *sums.entry(name).or_default() += fuel);
    }
    let mut sums: Vec<(String, u64)> = sums.into_iter().map(|(name, fuel)| (name.to_owned(), fuel)).collect();
    sums.sort_by_key(|(name, fuel)| (u64::MAX - fuel, name.clone()));
    sums
}

/// A trap's functions, the outermost first, without what tells compilations apart.
fn functions(trap: &str) -> Vec<String> {
    // Each stands there as `0: 0x1234 - module!name`, the innermost first.
    let mut words = trap.split_whitespace();
    let mut frames: Vec<String> = Vec::new();
    while words.any(|word| word == "-") {
        let name = words.next().unwrap_or_default().trim_end_matches(':');
        let name = name.split_once('!').map_or(name, |(_, name)| name);
        frames.push(format!("{:#}", rustc_demangle::demangle(name)));
    }
    frames.reverse();
    frames
}

/// One worker, with one limit and a model that is split in two.
fn ready(module: &Module) -> Result<Host, String> {
    let config = json!({
        "models": [{"name": "chat", "versions": [
            {"name": "stable", "weight": 90, "model": "llama"}, {"name": "canary", "weight": 10, "model": "llama-r2"},
        ]}],
        "limits": [{"name": "all", "tokens": 1_000_000_000, "every": "1m"}],
    });
    host(module, &config.to_string(), 1)
}

/// One request, from its headers to its end.
fn live(worker: &mut Worker, answer: Answer) -> Result<(), String> {
    let id = worker.open(chat(), false);
    let stream = if answer == Answer::Events { r#""stream":true,"# } else { "" };
    let body = format!(r#"{{"model":"chat",{stream}"messages":[{{"role":"user","content":"Hi"}}]}}"#);
    worker.request_body(id, body.as_bytes(), true);
    match answer {
        Answer::Json => {
            let headers = Headers::new([(":status", "200"), ("content-type", "application/json")]);
            worker.response_headers(id, headers, false);
            let usage =
                r#"{"choices":[{"message":{"content":"Hi"}}],"usage":{"prompt_tokens":8,"completion_tokens":1}}"#;
            worker.response_body(id, usage.as_bytes(), true);
        }
        Answer::Events => {
            worker.response_headers(id, event_stream(), false);
            (0..EVENTS).for_each(|i| worker.response_body(id, event(i).as_bytes(), false));
            let usage = r#"data: {"choices":[],"usage":{"prompt_tokens":8,"completion_tokens":50}}"#;
            worker.response_body(id, format!("{usage}\n\ndata: [DONE]\n\n").as_bytes(), true);
        }
    }
    if !worker.finished(id) {
        return Err("a request did not end".to_owned());
    }
    worker.forget(id);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trap_tells_its_functions() {
        let trap = "proxy_on_log: error while executing at wasm backtrace: 0: 0x12 - <unknown>!memcpy \
                    1: 0x3 - <unknown>!_ZN4core3fmt5write17h0123456789abcdefE 2: 0x4 - <unknown>!proxy_on_log: wasm trap: all fuel consumed";
        assert_eq!(functions(trap), ["proxy_on_log", "core::fmt::write", "memcpy"]);
    }

    #[test]
    fn what_calls_itself_counts_once() {
        let stack = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let stacks = Stacks::from([(stack(&["a", "b", "a"]), 2), (stack(&["a", "c"]), 3)]);
        let sums = inclusive(&stacks);
        assert_eq!(sums, [("a".to_owned(), 5), ("c".to_owned(), 3), ("b".to_owned(), 2)]);
    }
}
