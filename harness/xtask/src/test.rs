//! `cargo xtask test`: every check there is, in the order in which a mistake is cheapest to find.

use std::env;
use std::path::{Path, PathBuf};

use crate::run::{Outcome, Run, cargo, cargo_long, program};
use crate::steps::Steps;
use crate::{build, cluster, paths, playground, tools};

const HELP: &str = "\
Runs formatting, lints, the rules for dependencies, the documentation and all tests: natively, in the sandbox, on a real Envoy and
with real clients.

Usage: cargo xtask test
       cargo xtask test --cluster [--istio 1.30] [FILTER]

  --cluster      instead: the tests of istio/ and of the guides with Helm and istioctl, and those on the real control plane; all of it has to be
                 built from Go first (`cargo xtask cluster --help`)
  --istio 1.30   on the line before (default: 1.31)
  FILTER         only tests on the control plane whose names have this in them

What a missing tool would have tested is skipped, loudly. With REQUIRE_TOOLS=1 a missing tool is an error.
";

pub fn command(root: &Path, arguments: &[String], help: bool) -> Outcome {
    if help {
        print!("{HELP}");
        return Ok(());
    }
    let required = env::var_os("REQUIRE_TOOLS").is_some_and(|value| value == "1");
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] => {}
        ["--cluster", rest @ ..] => {
            let (istio, filter) = match rest {
                ["--istio", line, filter @ ..] => (*line, filter),
                filter => ("1.31", filter),
            };
            return on_cluster(root, istio, filter, required);
        }
        [first, ..] => return Err(format!("`test` does not know `{first}`; see --help")),
    }
    let mut steps = Steps::new(10);
    let cargo_deny = steps.step("installing tools", "20 s", || {
        for tool in [
            tools::envoy(root).map(drop),
            tools::clients(root).map(drop),
            tools::suite(root).map(drop),
            tools::node_clients(root).map(drop),
            tools::held_out(root).map(drop),
            tools::installed(root, "promtool", "prometheus"),
            tools::installed(root, "chromium", "chromium"),
        ] {
            or_skip(tool, required)?;
        }
        or_skip(tools::cargo_deny(root), required)
    })?;
    steps.step("formatting", "1 s", || cargo(root).args(["fmt", "--all", "--check"]).go())?;
    steps.step("dependencies", "2 s", || cargo_deny.map_or(Ok(()), |program| dependencies(root, &program)))?;
    // The modules come before the lints: tests of other crates load them, and they fail on the same mistakes.
    steps.step("compiling the filters", "30 s", || {
        build::build(root)?;
        build::build_for_tests(root)
    })?;
    steps.step("the page of the playground", "1 min", || playground::make(root).map(drop))?;
    steps.step("compiling a filter once more, elsewhere", "1 min", || build::build_again(root))?;
    let lints = ["--workspace", "--all-targets", "--", "--deny", "warnings"];
    steps.step("lints", "2 min", || cargo_long(root, "clippy").args(lints).go())?;
    steps.step("documentation", "45 s", || documentation(root))?;
    steps.step("compiling the tests", "5 min", || cargo_long(root, "test").args(["--no-run"]).go())?;
    steps.step("the tests", "5 min", || with_shared(root, cargo(root)).args(["test", "--no-fail-fast"]).go())?;
    steps.end();
    Ok(())
}

/// The tests of the manifests that take programs built from Go, and those on the real control plane.
fn on_cluster(root: &Path, istio: &str, filter: &[&str], required: bool) -> Outcome {
    // Said before a quarter of an hour of building, and not after it.
    for (name, package) in [("prometheus", "prometheus"), ("redis-server", "redis-server")] {
        or_skip(tools::installed(root, name, package), required)?;
    }
    let mut steps = Steps::new(if filter.is_empty() { 5 } else { 4 });
    let programs = steps.step("the programs of the cluster", "17 min the first time", || {
        or_skip(cluster::programs(root, istio, true), required)
    })?;
    let Some(programs) = programs else {
        eprintln!(
            "xtask: SKIPPED all of `test --cluster`: what Helm makes of istio/chart, what Istio makes of istio/mesh, and what a gateway then does, \
             is not tested"
        );
        return Ok(());
    };
    steps.step("compiling the filter", "25 s", || build::build_all_in_one(root))?;
    if filter.is_empty() {
        steps.step("compiling the tests of the manifests and the guides", "5 min", || {
            cluster::compile_manifests(root)
        })?;
    }
    steps.step("compiling the tests", "2 min", || cluster::compile_tests(root))?;
    steps.step("the tests", "4 min", || cluster::test(root, istio, filter, &programs))?;
    steps.end();
    Ok(())
}

/// A tool, or nothing and a loud word where it may be missing.
fn or_skip<T>(tool: Result<T, String>, required: bool) -> Result<Option<T>, String> {
    match tool {
        Err(message) if required => Err(format!("REQUIRE_TOOLS=1, but {message}")),
        Err(message) => {
            eprintln!("xtask: SKIPPING what needs it: {message}");
            Ok(None)
        }
        Ok(tool) => Ok(Some(tool)),
    }
}

/// Licences, bans and sources, by deny.toml. Advisories too where somebody has fetched the database: a test does not depend on what was
/// published this morning, nor on a network.
fn dependencies(root: &Path, cargo_deny: &Path) -> Outcome {
    program(root, cargo_deny).args(["--locked", "check", "licenses", "bans", "sources"]).go()?;
    if paths::cargo_home().is_ok_and(|home| home.join("advisory-dbs").is_dir()) {
        return program(root, cargo_deny).args(["--locked", "check", "--disable-fetch", "advisories"]).go();
    }
    eprintln!("xtask: SKIPPING advisories: there is no database of them; `cargo deny fetch` gets it");
    Ok(())
}

/// What rustdoc says: links that lead nowhere, above all. These pages are for who works on this, so they may lead to what is private.
fn documentation(root: &Path) -> Outcome {
    let own = "--deny warnings --allow rustdoc::private_intra_doc_links";
    let flags = env::var("RUSTDOCFLAGS").map_or_else(|_| own.to_owned(), |flags| format!("{flags} {own}"));
    let arguments = ["--workspace", "--no-deps", "--document-private-items"];
    cargo_long(root, "doc").args(arguments).env("RUSTDOCFLAGS", flags).go()
}

/// Some tests can use material that is not part of the repository and may lie beside the checkout.
fn with_shared(root: &Path, mut run: Run) -> Run {
    let path: PathBuf = root.join("../shared/data");
    if env::var_os("PENSTOCK_DATA").is_none() && path.is_dir() {
        run = run.env("PENSTOCK_DATA", path);
    }
    run
}
