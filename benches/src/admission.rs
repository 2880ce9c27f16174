//! What admitting a request costs `penstock.wasm` on the wasmtime host: fuel, lost races, and a large configuration.

use std::path::Path;
use std::time::{Duration, Instant};

use penstock_harness::host::{Headers, Module, Worker};
use serde_json::{Value, json};

use crate::streams::{chat, host, host_of};

/// The callbacks up to a request's release.
const READING: &str = "proxy_on_request";
/// Requests over which fuel is averaged.
const REQUESTS: u64 = 200;
/// How often a worker beats where nothing is said.
const TICK: Duration = Duration::from_millis(500);
/// Requests of each worker where workers race.
const RACING: u64 = 2000;

/// What admission costs.
#[derive(Clone, Copy, Debug)]
pub struct Figures {
    /// Fuel for the whole life of a tiny request under one limit, of a model with two versions.
    pub fuel_of_a_request: u64,
    /// Fuel for charging three limits, beyond the same request without limits.
    pub fuel_of_three_limits: u64,
    /// Fuel for keeping a tiny request in the sums of what is pending and admitted, and for its times, to its end.
    pub fuel_of_pending: u64,
    /// Fuel for a heartbeat that tells of one version.
    pub fuel_of_a_heartbeat: u64,
    /// Fuel for each further version of which it tells, with a request in flight.
    pub fuel_of_a_heartbeat_per_version: u64,
    /// Updates that another of four busy workers won, for each admission under one limit.
    pub retries_per_admission: f64,
    /// Seconds until a configuration of 10,000 tenants is in force.
    pub tenants_load_seconds: f64,
    /// Memory of a worker with it, beyond one with a single tenant.
    pub tenants_bytes: usize,
}

/// Measures `dist/penstock.wasm`.
///
/// # Errors
/// When it has not been built, or does not start.
pub fn measure(module: &Path) -> Result<Figures, String> {
    let module = Module::from_file(module)?;
    let (tenants_load_seconds, tenants_bytes) = tenants(&module)?;
    Ok(Figures {
        fuel_of_a_request: whole(&module, "penstock")?,
        fuel_of_three_limits: fuel(&module, &three_limits())?.saturating_sub(fuel(&module, &json!([]))?),
        // Both read the request and are told of its end; the one draws no version here.
        fuel_of_pending: whole(&module, "pending-gauge")?.saturating_sub(whole(&module, "canary-router")?),
        fuel_of_a_heartbeat: heartbeat(&module, 1)?,
        fuel_of_a_heartbeat_per_version: heartbeat(&module, 101)?.saturating_sub(heartbeat(&module, 1)?) / 100,
        retries_per_admission: retries(&module)?,
        tenants_load_seconds,
        tenants_bytes,
    })
}

fn three_limits() -> Value {
    json!([
        {"name": "org", "per": [{"header": "x-org"}], "tokens": 1_000_000_000, "every": "1m"},
        {"name": "user", "per": ["tenant", "model"], "tokens": 1_000_000_000, "every": "1h", "cost": {"output": 4}},
        {"name": "streams", "per": ["tenant"], "concurrent": 1000},
    ])
}

fn config(limits: &Value) -> Value {
    json!({"tenant": {"from": [{"header": "x-api-key"}]}, "models": [{"name": "chat", "output": {"expect": 10}}], "limits": limits})
}

/// Mean fuel of one request up to its release.
fn fuel(module: &Module, limits: &Value) -> Result<u64, String> {
    let host = host(module, &config(limits).to_string(), 1)?;
    let mut worker = host.worker(0);
    let mut before = 0;
    // The first one brings what all of them use: the encoding's table.
    for number in 0..=REQUESTS {
        let id = worker.open(chat(), false);
        worker.request_body(id, br#"{"model":"chat","messages":[{"role":"user","content":"Hi"}]}"#, true);
        if worker.upstream(id).headers.is_none() {
            return Err("a request was refused".to_owned());
        }
        if number == 0 {
            before = spent(&worker, READING);
        }
    }
    Ok((spent(&worker, READING) - before) / REQUESTS)
}

/// Mean fuel of a tiny request from its headers to its end, answered with usage, for this plugin alone. All in one have two versions to draw.
fn whole(module: &Module, plugin: &str) -> Result<u64, String> {
    let versions = json!([
        {"name": "stable", "weight": 90, "model": "llama"}, {"name": "canary", "weight": 10, "model": "llama-r2"},
    ]);
    let versions = if plugin == "penstock" { versions } else { json!([]) };
    let config = json!({
        "models": [{"name": "chat", "versions": versions}],
        "limits": [{"name": "all", "tokens": 1_000_000_000, "every": "1m"}],
    });
    let host = host_of(module, plugin, &config.to_string(), 1)?;
    let mut worker = host.worker(0);
    let mut before = 0;
    for number in 0..=REQUESTS {
        let id = worker.open(chat(), false);
        worker.request_body(id, br#"{"model":"chat","messages":[{"role":"user","content":"Hi"}]}"#, true);
        worker.response_headers(id, Headers::new([(":status", "200"), ("content-type", "application/json")]), false);
        let answer = br#"{"choices":[{"message":{"content":"Hi"}}],"usage":{"prompt_tokens":8,"completion_tokens":1}}"#;
        worker.response_body(id, answer, true);
        if !worker.finished(id) {
            return Err("a request did not end".to_owned());
        }
        worker.forget(id);
        if number == 0 {
            before = spent(&worker, "");
        }
    }
    Ok((spent(&worker, "") - before) / REQUESTS)
}

/// The fuel of all callbacks whose names begin like this.
fn spent(worker: &Worker, callbacks: &str) -> u64 {
    let fuel = worker.fuel();
    fuel.iter().filter(|(name, _)| name.starts_with(callbacks)).map(|(_, fuel)| fuel.total).sum()
}

/// Mean fuel of a heartbeat that tells of so many versions, each with a request in flight.
fn heartbeat(module: &Module, versions: usize) -> Result<u64, String> {
    let version = |i: usize| json!({"name": format!("v{i}"), "weight": 1});
    let models: Vec<Value> =
        (0..versions).map(|i| json!({"name": format!("m{i}"), "versions": [version(i)]})).collect();
    let host = host(module, &json!({"models": models}).to_string(), 1)?;
    let mut worker = host.worker(0);
    for i in 0..versions {
        let id = worker.open(chat(), false);
        let body = format!(r#"{{"model":"m{i}","messages":[{{"role":"user","content":"Hi"}}]}}"#);
        worker.request_body(id, body.as_bytes(), true);
    }
    drop(worker);
    let told = || host.worker(0).fuel().get("proxy_on_tick").map_or((0, 0), |fuel| (fuel.calls, fuel.total));
    // The first one defines the series.
    host.advance(TICK);
    let (calls, fuel) = told();
    for _ in 0..REQUESTS {
        host.advance(TICK);
    }
    let (calls, fuel) = (told().0 - calls, told().1 - fuel);
    fuel.checked_div(calls).ok_or_else(|| "no heartbeat was heard".to_owned())
}

/// Four workers that do nothing but admit, under one limit and one key.
fn retries(module: &Module) -> Result<f64, String> {
    let limits = json!([{"name": "all", "tokens": 1u64 << 40, "every": "1h"}]);
    let host = host(module, &config(&limits).to_string(), 4)?;
    std::thread::scope(|scope| {
        for index in 0..host.workers() {
            let host = &host;
            scope.spawn(move || {
                for _ in 0..RACING {
                    let mut worker = host.worker(index);
                    let id = worker.open(chat(), false);
                    worker.request_body(id, br#"{"model":"chat","messages":[]}"#, true);
                    worker.client_abort(id);
                    worker.forget(id);
                }
            });
        }
    });
    let lost = host.metrics().prometheus().get("penstock_shared_contention_total").copied().unwrap_or(0);
    Ok(lost as f64 / (RACING * 4) as f64)
}

fn tenants(module: &Module) -> Result<(f64, usize), String> {
    let with = |count: usize| {
        let tenants = (0..count).map(|i| (format!("tenant-{i:05}"), json!({"class": "gold", "weight": 2})));
        let mut config = config(&json!([]));
        config["tenants"] = Value::Object(tenants.collect());
        // Only a header that is trusted leads to a name.
        config["tenant"]["from"][0]["trusted"] = json!(true);
        config
    };
    let small = host(module, &with(1).to_string(), 1)?.worker(0).memory();
    let began = Instant::now();
    let large = host(module, &with(10_000).to_string(), 1)?;
    let seconds = began.elapsed().as_secs_f64();
    let large = large.worker(0).memory();
    Ok((seconds, large - small))
}
