//! The same scenarios give the same answers on the wasmtime host and on a real Envoy, with the plugins in a row, in a row in one VM, and all in
//! one.

use std::path::PathBuf;

use penstock_harness::scenario::{Chain, OnEnvoy, Scenario, load, run_on_envoy, run_on_host};
use penstock_tests::{checkout, find_envoy, module, skip};

/// Every scenario of the checkout, or of the one file that `SCENARIOS` names, with the file it comes from.
fn scenarios() -> Vec<(String, Scenario)> {
    let directory = checkout().join("tests/scenarios");
    let mut files: Vec<PathBuf> = std::fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    if let Some(only) = std::env::var_os("SCENARIOS") {
        files.retain(|file| file.file_stem() == Some(&only));
    }
    let read = |file: &PathBuf| {
        let name = file.file_stem().unwrap().to_string_lossy().into_owned();
        load(file).unwrap().into_iter().map(move |scenario| (name.clone(), scenario))
    };
    let scenarios: Vec<_> = files.iter().flat_map(read).collect();
    assert!(!scenarios.is_empty(), "{} has no scenarios", directory.display());
    scenarios
}

/// Runs scenarios with one chain and reports every failure at once.
fn run_all(scenarios: &[(String, Scenario)], chain: Chain, run: impl Fn(&Scenario) -> Result<(), String>) {
    let failures: Vec<String> = scenarios
        .iter()
        .filter_map(|(file, scenario)| {
            let why = run(scenario).err()?;
            Some(format!("{file} [{}] {}:\n{why}", chain.label(), scenario.name))
        })
        .collect();
    assert!(failures.is_empty(), "{} scenarios failed:\n\n{}", failures.len(), failures.join("\n\n"));
}

fn on_host(chain: Chain) {
    module("penstock");
    run_all(&scenarios(), chain, |scenario| run_on_host(scenario, chain, &checkout().join("dist")));
}

fn on_envoy(chain: Chain, scenarios: &[(String, Scenario)]) {
    module("penstock");
    let binary = match find_envoy() {
        Ok(binary) => binary,
        Err(reason) => skip!("{reason}"),
    };
    run_all(scenarios, chain, |scenario| match run_on_envoy(scenario, chain, &checkout(), &binary)? {
        OnEnvoy::Passed => Ok(()),
        OnEnvoy::Skipped(reason) => {
            eprintln!("only on the host: {}: {reason}", scenario.name);
            Ok(())
        }
    });
}

#[test]
fn host_row() {
    on_host(Chain::Row);
}

#[test]
fn host_row_in_one_vm() {
    on_host(Chain::RowInOneVm);
}

#[test]
fn host_one() {
    on_host(Chain::One);
}

/// Envoy compiles four modules for every scenario here, so only the first one of each file is tried; the host tries them all.
#[test]
fn envoy_row() {
    let mut scenarios = scenarios();
    scenarios.dedup_by(|later, first| later.0 == first.0);
    on_envoy(Chain::Row, &scenarios);
}

#[test]
fn envoy_row_in_one_vm() {
    on_envoy(Chain::RowInOneVm, &scenarios());
}

#[test]
fn envoy_one() {
    on_envoy(Chain::One, &scenarios());
}
