//! The counter and tiktoken-rs in the engine of a real Envoy, in turns.

use penstock_harness::envoy::{self, Envoy, Rendered};
use serde_json::{Value, json};

use crate::corpus;
use crate::proxy::build;

/// Megabytes per second of both on the held-out half, and the quartiles of their ratio.
///
/// # Errors
/// When there is no Envoy, or the probe cannot be built or does not report.
pub fn speed(sample: &corpus::Sample) -> Result<Value, String> {
    let text = &sample.held_out;
    let texts = [&corpus::strange_words(), &sample.warm, text].map(String::as_str).join("\0");
    let checkout = envoy::checkout()?;
    let binary = envoy::find(&checkout).ok_or("no Envoy; `cargo xtask tools` installs one")?;
    let module = build(&checkout, "penstock-envoy-probe")?;
    let bootstrap = json!({
        "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}}},
        "bootstrap_extensions": [{"name": "envoy.bootstrap.wasm", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.wasm.v3.WasmService",
            "singleton": true,
            "config": {
                "name": "probe",
                "vm_config": {"runtime": "envoy.wasm.runtime.v8", "code": {"local": {"filename": module}}},
                "configuration": {"@type": "type.googleapis.com/google.protobuf.StringValue", "value": texts},
            },
        }}],
    });
    let rendered = Rendered { bootstrap: bootstrap.to_string(), listeners: None };
    let runtime = tokio::runtime::Runtime::new().map_err(|error| error.to_string())?;
    let log = runtime.block_on(async { Ok::<_, String>(Envoy::start(&binary, &rendered, 1).await?.log()) })?;
    let line = log.lines().find_map(|line| line.split_once("probe ")).ok_or("the probe did not report")?.1;
    let rounds: Vec<(f64, f64)> = line
        .split_whitespace()
        .filter_map(|round| round.split_once('/'))
        .filter_map(|(ours, theirs)| Some((ours.parse().ok()?, theirs.parse().ok()?)))
        .collect();
    if rounds.is_empty() || line.contains("differ") {
        return Err(format!("the probe reported {line:?}"));
    }
    let quartiles = |values: Vec<f64>| {
        let mut values = values;
        values.sort_by(f64::total_cmp);
        [1, 2, 3].map(|quarter| (values[values.len() * quarter / 4] * 100.0).round() / 100.0)
    };
    // Bytes per nanosecond are gigabytes per second.
    let speed = |nanos: f64| text.len() as f64 / nanos * 1000.0;
    Ok(json!({
        "mb_per_s": quartiles(rounds.iter().map(|round| speed(round.0)).collect())[1],
        "tiktoken_rs_mb_per_s": quartiles(rounds.iter().map(|round| speed(round.1)).collect())[1],
        "ratio_quartiles": quartiles(rounds.iter().map(|(ours, theirs)| theirs / ours).collect()),
    }))
}
