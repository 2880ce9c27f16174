//! `cargo xtask test`: every check there is, in the order in which a mistake is cheapest to find.

use std::env;
use std::path::{Path, PathBuf};

use crate::run::{Outcome, Run, cargo};
use crate::{build, tools};

const HELP: &str = "\
Runs formatting, lints and all tests: natively, in the sandbox, on a real Envoy and with real clients.

Usage: cargo xtask test

What a missing tool would have tested is skipped, loudly. With REQUIRE_TOOLS=1 a missing tool is an error.
";

pub fn command(root: &Path, arguments: &[String], help: bool) -> Outcome {
    if help {
        print!("{HELP}");
        return Ok(());
    }
    if let Some(first) = arguments.first() {
        return Err(format!("`test` takes no argument, got `{first}`"));
    }
    let required = env::var_os("REQUIRE_TOOLS").is_some_and(|value| value == "1");
    for tool in [
        tools::envoy(root).map(drop),
        tools::clients(root).map(drop),
        tools::node_clients(root).map(drop),
        tools::promtool(root),
    ] {
        match tool {
            Err(message) if required => return Err(format!("REQUIRE_TOOLS=1, but {message}")),
            Err(message) => eprintln!("xtask: SKIPPING what needs it: {message}"),
            Ok(()) => {}
        }
    }
    cargo(root).args(["fmt", "--all", "--check"]).go()?;
    // The modules come before the lints: tests of other crates load them, and they fail on the same mistakes.
    build::build(root)?;
    cargo(root).args(["clippy", "--quiet", "--workspace", "--all-targets", "--", "--deny", "warnings"]).go()?;
    with_shared(root, cargo(root)).args(["test", "--no-fail-fast"]).go()
}

/// Some tests can use material that is not part of the repository and may lie beside the checkout.
fn with_shared(root: &Path, mut run: Run) -> Run {
    for (name, directory) in [("PENSTOCK_CRDS", "crds"), ("PENSTOCK_DATA", "data")] {
        let path: PathBuf = root.join("../shared").join(directory);
        if env::var_os(name).is_none() && path.is_dir() {
            run = run.env(name, path);
        }
    }
    run
}
