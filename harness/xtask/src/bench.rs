//! `cargo xtask bench`: what the filters cost.

use std::path::Path;

use crate::run::{Outcome, cargo, cargo_long};
use crate::steps::Steps;
use crate::{build, tools};

/// The benchmarks, and what they measure.
const BENCHES: [(&str, &str); 5] = [
    ("tokens", "counting: exactness, fuel, memory, speed next to tiktoken-rs"),
    ("limits", "admission: fuel, lost races between workers, many tenants"),
    (
        "stages",
        "a tiny request: fuel and host calls of each callback, and in which functions the fuel goes (--folded FILE: their stacks)",
    ),
    ("dialects", "reading requests and answers: fuel, memory, CPU of Envoy next to a filter that does nothing"),
    (
        "load",
        "Envoy under load, without and with Penstock: throughput, CPU, latencies, memory; takes nginx and wrk (--quick: whether it works; \
         --plot FILE: an SVG)",
    ),
];

pub fn command(root: &Path, arguments: &[String], help: bool) -> Outcome {
    let name = arguments.first().map(String::as_str).unwrap_or_default();
    let known = BENCHES.iter().any(|(known, _)| *known == name);
    if help || !known {
        println!("Measures what the filters cost.\n\nUsage: cargo xtask bench NAME [--json]\n");
        BENCHES.iter().for_each(|(name, what)| println!("  {name:<9} {what}"));
        return if help { Ok(()) } else { Err(format!("there is no benchmark `{name}`")) };
    }
    if name == "load" {
        // Said before a quarter of an hour of building, and not after it.
        tools::on_path("nginx", "nginx-light")?;
        tools::on_path("wrk", "wrk")?;
    }
    let mut steps = Steps::new(if matches!(name, "stages" | "load") { 5 } else { 4 });
    let envoy = steps.step("installing Envoy", "5 s", || Ok(tools::envoy(root)))?;
    if let Err(message) = envoy {
        eprintln!("xtask: SKIPPING what needs Envoy: {message}");
    }
    steps.step("compiling the filters", "30 s", || build::build(root))?;
    if name == "stages" {
        steps.step("compiling one once more, with the names of its functions", "1 min", || build::build_named(root))?;
    }
    if name == "load" {
        steps.step("compiling one once more, with one encoding", "1 min", || build::build_o200k(root))?;
    }
    let package = ["--package", "penstock-benches", "--bin", name];
    steps.step("compiling the benchmark", "3 min", || cargo_long(root, "build").args(package).go())?;
    steps.step("measuring", "a few minutes; `load`: 8", || {
        cargo(root).args(["run", "--quiet"]).args(package).args(["--"]).args(arguments.iter().skip(1)).go()
    })?;
    steps.end();
    Ok(())
}
