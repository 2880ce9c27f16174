//! What limits cost: `cargo xtask bench limits [--json]`.

use penstock_benches::admission;
use penstock_harness::envoy;
use serde_json::json;

fn main() -> Result<(), String> {
    let as_json = std::env::args().any(|argument| argument == "--json");
    let figures = admission::measure(&envoy::checkout()?.join("dist/penstock.wasm"))?;
    let report = json!({
        "fuel_of_a_request": figures.fuel_of_a_request,
        "fuel_of_three_limits": figures.fuel_of_three_limits,
        "fuel_of_pending": figures.fuel_of_pending,
        "fuel_of_a_heartbeat": {"one_version": figures.fuel_of_a_heartbeat, "each_further": figures.fuel_of_a_heartbeat_per_version},
        "retries_per_admission_of_four_workers": figures.retries_per_admission,
        "ten_thousand_tenants": {"load_seconds": figures.tenants_load_seconds, "bytes": figures.tenants_bytes},
    });
    if as_json {
        println!("{report:#}");
    } else {
        println!("a tiny request, to its end: {} fuel", figures.fuel_of_a_request);
        println!("admission under three limits: {} fuel", figures.fuel_of_three_limits);
        println!("what is pending and admitted, of a tiny request: {} fuel", figures.fuel_of_pending);
        println!(
            "a heartbeat: {} fuel for one version, {} for each further one",
            figures.fuel_of_a_heartbeat, figures.fuel_of_a_heartbeat_per_version
        );
        println!("updates that another of four busy workers won: {:.4} an admission", figures.retries_per_admission);
        println!(
            "10,000 tenants: {:.2} s to load, {} bytes for each worker",
            figures.tenants_load_seconds, figures.tenants_bytes
        );
    }
    Ok(())
}
