//! `cargo xtask`: everything that is done with a checkout, on every machine and in CI alike.
//!
//! Only the standard library: it is compiled before anything else, and then waits for cargo most of the time.

mod bench;
mod build;
mod cluster;
mod demo;
mod dist;
mod go;
mod lazy_tables;
mod namespace;
mod paths;
mod playground;
mod run;
mod steps;
mod target;
mod test;
mod tools;

use std::env;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

const HELP: &str = "\
Works on a checkout of Penstock.

Usage: cargo xtask COMMAND

Commands:
  build    Compiles the five filters to WebAssembly, into dist/
  dist     Compiles them with each set of encodings, and packs images to publish, into dist/images/
  tools    Installs the pinned Envoy and the clients that tests use, into target/tools/
  demo     Runs Envoy, two model servers and traffic, and shows what the filters do
  bench    Measures what the filters cost
  playground  Makes the page that shows what a configuration does, dist/playground.html
  cluster  Starts the real control plane of Kubernetes and Istio, without nodes
  test     Runs all checks and tests, as CI does

cargo xtask COMMAND --help says more.
";

fn main() -> ExitCode {
    let mut arguments = env::args().skip(1);
    let command = arguments.next().unwrap_or_default();
    let rest: Vec<String> = arguments.collect();
    let help = rest.iter().any(|argument| argument == "--help" || argument == "-h");
    let root = root();
    let outcome = match command.as_str() {
        "build" => build::command(&root, &rest, help),
        "dist" => dist::command(&root, &rest, help),
        "tools" => tools::command(&root, &rest, help),
        "test" => test::command(&root, &rest, help),
        "bench" => bench::command(&root, &rest, help),
        "cluster" => cluster::command(&root, &rest, help),
        "playground" => playground::command(&root, &rest, help),
        "demo" => demo::command(&root, &rest, help),
        "" | "help" | "--help" | "-h" => {
            print!("{HELP}");
            Ok(())
        }
        other => Err(format!("there is no command `{other}`\n\n{HELP}")),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("xtask: {message}");
            ExitCode::FAILURE
        }
    }
}

/// The root of the checkout, two directories above this package. Cargo says where that is at run time.
fn root() -> PathBuf {
    let package = env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| PathBuf::from("harness/xtask"), PathBuf::from);
    package.ancestors().nth(2).map_or_else(|| PathBuf::from("."), Path::to_owned)
}
