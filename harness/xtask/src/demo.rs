//! `cargo xtask demo`: the first thing that anyone does with a checkout, so it compiles what it needs and nothing else.

use std::path::Path;

use crate::run::{Outcome, Run, cargo, cargo_long};
use crate::steps::Steps;
use crate::{build, cluster, tools};

/// The package of the `penstock` command.
const COMMAND: [&str; 5] = ["--package", "penstock-cli", "--bin", "penstock", "--no-default-features"];
/// With the host that runs filters without an Envoy, which is most of what there is to compile.
const SANDBOX: [&str; 2] = ["--features", "sandbox"];

/// Takes the options of `penstock demo`; or `--cluster`, and the options of that.
pub fn command(root: &Path, arguments: &[String], help: bool) -> Outcome {
    if let Some(("--cluster", rest)) = arguments.split_first().map(|(first, rest)| (first.as_str(), rest)) {
        return cluster::demo(root, rest, help);
    }
    if help {
        println!(
            "With --cluster first: the closed loop with a real KEDA; `cargo xtask demo --cluster --help` says more.\n"
        );
        return penstock(cargo(root).args(["run", "--quiet"]), false).args(["--", "demo", "--help"]).go();
    }
    let wanted = arguments.iter().any(|argument| argument == "--sandbox");
    let mut steps = Steps::new(4);
    let envoy = steps.step("installing Envoy", "5 s", || Ok(if wanted { None } else { tools::envoy(root).err() }))?;
    // An Envoy that cannot be installed is no reason to stop.
    if let Some(message) = &envoy {
        eprintln!("xtask: there is no Envoy, so the filters run in the sandbox: {message}");
    }
    let sandbox = wanted || envoy.is_some();
    steps.step("compiling the filter", "25 s", || build::build_all_in_one(root))?;
    let usual = if sandbox { "3 min" } else { "50 s" };
    steps.step("compiling the command", usual, || penstock(cargo_long(root, "build"), sandbox).go())?;
    steps.step("the demo", "35 s", || {
        penstock(cargo(root).args(["run", "--quiet"]), sandbox).args(["--", "demo"]).args(arguments).go()
    })?;
    steps.end();
    Ok(())
}

/// What cargo has to know to build or run the command.
fn penstock(run: Run, sandbox: bool) -> Run {
    run.args(COMMAND).args(sandbox.then_some(SANDBOX).into_iter().flatten())
}
