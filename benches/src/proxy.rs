//! CPU time of a real Envoy, without a filter, with one that does nothing, and with Penstock.

use std::path::{Path, PathBuf};
use std::process::Command;

use penstock_harness::envoy::{self, Chain, Envoy, Gateway};
use penstock_harness::model_server::{ModelServer, Options};
use serde_json::{Value, json};

use crate::process::cpu_nanos;

const ROUNDS: usize = 15;
const REQUESTS: u32 = 200;
const EVENTS: u32 = 2000;
const NAMES: [&str; 3] = ["without", "noop", "penstock"];

/// Microseconds of CPU for a request of 2 KB that is answered with one token, and for an event of a stream: medians over rounds in which
/// the three take turns, and the quartiles of what Penstock takes beyond the filter that does nothing.
///
/// # Errors
/// When there is no Envoy, or the modules have not been built.
pub fn cpu() -> Result<Value, String> {
    let checkout = envoy::checkout()?;
    let binary = envoy::find(&checkout).ok_or("no Envoy; `cargo xtask tools` installs one")?;
    let noop = build(&checkout, "penstock-noop")?;
    let runtime = tokio::runtime::Runtime::new().map_err(|error| error.to_string())?;
    runtime.block_on(measure(&checkout, &binary, &noop))
}

async fn measure(checkout: &Path, binary: &Path, noop: &Path) -> Result<Value, String> {
    let options = Options { ttft_ms: 0, inter_token_ms: 0, ..Options::default() };
    let server = ModelServer::start(options).await.map_err(|error| error.to_string())?;
    let config = json!({
        "models": [{"name": "chat"}],
        "limits": [{"name": "tpm", "per": ["tenant"], "tokens": 1u64 << 40, "every": "1m"}],
    });
    let gateway = Gateway::load(checkout, "gateway.yaml")?
        .cluster("stable", server.address())
        .cluster("canary", server.address())
        .plugin_config(&config);
    let mut envoys = Vec::new();
    for name in NAMES {
        let gateway = match name {
            "without" => gateway.clone().chain(Chain::Without),
            "noop" => gateway.clone().chain(Chain::One).module(noop),
            _ => gateway.clone().chain(Chain::One),
        };
        envoys.push(Envoy::start(binary, &gateway.render(), 1).await?);
    }
    let client = reqwest::Client::new();
    // Per filter: microseconds per request, per event.
    let mut figures: [[Vec<f64>; 2]; NAMES.len()] = Default::default();
    for round in 0..=ROUNDS {
        for (envoy, [requests, events]) in envoys.iter().zip(&mut figures) {
            let of_requests = cost(envoy, REQUESTS, async || ask(&client, envoy, REQUESTS, None).await).await?;
            let of_events = cost(envoy, EVENTS, async || ask(&client, envoy, 1, Some(EVENTS)).await).await?;
            // The first round is warm-up.
            if round > 0 {
                requests.push(of_requests);
                events.push(of_events);
            }
        }
    }
    let report = |which: usize| {
        let mut report = serde_json::Map::new();
        for (name, figures) in NAMES.iter().zip(&figures) {
            report.insert((*name).to_owned(), json!(quartiles(figures[which].iter().copied())[1]));
        }
        let [_, noop, penstock] = &figures;
        let beyond = penstock[which].iter().zip(&noop[which]).map(|(penstock, noop)| penstock - noop);
        report.insert("beyond_noop_quartiles".to_owned(), json!(quartiles(beyond)));
        Value::Object(report)
    };
    Ok(json!({"us_per_request": report(0), "us_per_event": report(1)}))
}

/// Microseconds of Envoy's CPU time for each of `n` things that `work` does.
async fn cost(envoy: &Envoy, n: u32, work: impl AsyncFnOnce() -> Result<(), String>) -> Result<f64, String> {
    let before = cpu_nanos(envoy.pid())?;
    work().await?;
    Ok((cpu_nanos(envoy.pid())? - before) as f64 / 1000.0 / f64::from(n))
}

async fn ask(client: &reqwest::Client, envoy: &Envoy, requests: u32, stream: Option<u32>) -> Result<(), String> {
    let prompt = "A gate lets as much water through as the turbine can take. ".repeat(34);
    let tokens = stream.unwrap_or(1);
    let body = json!({"model": "chat", "max_tokens": tokens, "stream": stream.is_some(),
        "messages": [{"role": "user", "content": prompt}]});
    let url = format!("{}/v1/chat/completions", envoy.url());
    for _ in 0..requests {
        let request = client.post(&url).json(&body).header("x-model-server", json!({"tokens": tokens}).to_string());
        let response = request.send().await.and_then(reqwest::Response::error_for_status);
        let response = response.map_err(|error| format!("a request: {error}"))?;
        response.bytes().await.map_err(|error| format!("an answer: {error}"))?;
    }
    Ok(())
}

/// The three quartiles, to tenths.
fn quartiles(values: impl Iterator<Item = f64>) -> [f64; 3] {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    [1, 2, 3].map(|quarter| (values[values.len() * quarter / 4] * 10.0).round() / 10.0)
}

/// Compiles a package as the filters are compiled, and says where it is.
///
/// # Errors
/// When it cannot be compiled.
pub fn build(checkout: &Path, package: &str) -> Result<PathBuf, String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| checkout.join("target"), |at| checkout.join(at));
    let arguments = ["build", "--quiet", "--profile", "wasm", "--target", "wasm32-wasip1", "--package", package];
    let status = Command::new(cargo).current_dir(checkout).args(arguments).status();
    if !status.is_ok_and(|status| status.success()) {
        return Err(format!("{package} cannot be compiled to WebAssembly"));
    }
    Ok(target.join(format!("wasm32-wasip1/wasm/{}.wasm", package.replace('-', "_"))))
}
