//! What reading requests and answers costs: `cargo xtask bench dialects [--json]`.

use penstock_benches::{proxy, streams};
use penstock_harness::envoy;
use serde_json::json;

fn main() -> Result<(), String> {
    let as_json = std::env::args().any(|argument| argument == "--json");
    let figures = streams::measure(&envoy::checkout()?.join("dist/penstock.wasm"))?;
    let on_envoy = proxy::cpu().unwrap_or_else(|error| json!({"skipped": error}));
    if as_json {
        let report = json!({
            "fuel_per_event": figures.fuel_per_event,
            "fuel_per_request_byte": figures.fuel_per_request_byte,
            "bytes_per_stream": figures.bytes_per_stream,
            "envoy_cpu": on_envoy,
        });
        println!("{report:#}");
    } else {
        println!("an event of 200 bytes: {} fuel", figures.fuel_per_event);
        println!("a request of 2 KB, not counted: {} fuel per byte", figures.fuel_per_request_byte);
        println!("an open stream: {} bytes", figures.bytes_per_stream);
        println!("CPU on Envoy: {on_envoy:#}");
    }
    Ok(())
}
