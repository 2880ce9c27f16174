//! What tests that cross crates share: where the modules and tools are, and how a test says that it was skipped.

pub mod coded;
pub mod rate_limit;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use penstock_harness::envoy::{self, Chain, Envoy, Gateway, Metrics};
use penstock_harness::model_server::{ModelServer, Options};
pub use penstock_harness::skipped;
use serde_json::Value;

/// How long a test waits for what takes milliseconds, before it says that it does not come: so long that no busy machine is taken for
/// a failure. What is there earlier is not waited for.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Leaves the test because something it needs is not there; the arguments are those of `format!` and say what.
///
/// Loud even where the test runner captures the output, and a failure with `REQUIRE_TOOLS=1`.
#[macro_export]
macro_rules! skip {
    ($($reason:tt)*) => {{
        $crate::skipped(&format!($($reason)*));
        return;
    }};
}

/// Unwraps a tool, or leaves the test as [`skip!`] does.
#[macro_export]
macro_rules! need {
    ($tool:expr) => {
        match $tool {
            Ok(tool) => tool,
            Err(reason) => $crate::skip!("{reason}"),
        }
    };
}

/// The root of the checkout.
///
/// # Panics
/// When the test does not run inside one.
pub fn checkout() -> PathBuf {
    envoy::checkout().unwrap_or_else(|message| panic!("{message}"))
}

/// The path of `dist/<name>.wasm`.
///
/// # Panics
/// When it has not been built.
pub fn module(name: &str) -> PathBuf {
    let path = checkout().join("dist").join(format!("{name}.wasm"));
    assert!(path.is_file(), "dist/{name}.wasm is not there; run `cargo xtask build`");
    path
}

/// The Envoy to test with, see [`envoy::find`]; without one the reason to skip.
///
/// # Errors
/// When there is none.
pub fn find_envoy() -> Result<PathBuf, String> {
    envoy::find(&checkout())
        .ok_or_else(|| "there is no Envoy; run `cargo xtask tools` or set PENSTOCK_ENVOY".to_owned())
}

/// An Envoy of two workers with `envoy/gateway.yaml`, this configuration of the all-in-one and this change to the gateway, in front of a model
/// server that answers at once; `None` where there is no Envoy, which is told.
///
/// # Panics
/// When one of them does not start.
pub async fn gateway(config: &Value, change: impl FnOnce(Gateway) -> Gateway) -> Option<(Envoy, ModelServer)> {
    shipped_gateway(|gateway| change(gateway.chain(Chain::One).plugin_config(config))).await
}

/// The same with the filters as `envoy/gateway.yaml` has them.
///
/// # Panics
/// When one of them does not start.
pub async fn shipped_gateway(change: impl FnOnce(Gateway) -> Gateway) -> Option<(Envoy, ModelServer)> {
    let binary = match find_envoy() {
        Ok(binary) => binary,
        Err(reason) => {
            skipped(&reason);
            return None;
        }
    };
    module("penstock");
    let options = Options { ttft_ms: 0, inter_token_ms: 0, ..Options::default() };
    let server = ModelServer::start(options).await.expect("a free port");
    let gateway = Gateway::load(&checkout(), "gateway.yaml").expect("gateway.yaml");
    let gateway = gateway.cluster("stable", server.address()).cluster("canary", server.address());
    let envoy = Envoy::start(&binary, &change(gateway).render(), 2).await.expect("Envoy starts");
    Some((envoy, server))
}

/// The Python that has the clients installed; without one the reason to skip.
///
/// # Errors
/// When there is none.
pub fn find_python() -> Result<PathBuf, String> {
    let python = checkout().join("target/tools/clients/bin/python");
    if python.is_file() {
        Ok(python)
    } else {
        Err("the Python clients are not installed; run `cargo xtask tools`".to_owned())
    }
}

/// The Python that has what the openai package's own tests need, and the directory of these tests; without them the reason to skip.
///
/// # Errors
/// When they are not there.
pub fn find_openai_suite() -> Result<(PathBuf, PathBuf), String> {
    let directory = checkout().join("target/tools/openai-suite");
    let source = std::fs::read_dir(directory.join("source")).ok().into_iter().flatten().flatten();
    let source = source.map(|entry| entry.path()).find(|path| path.join("tests/api_resources").is_dir());
    source
        .map(|source| (directory.join("bin/python"), source))
        .ok_or_else(|| "the openai package's own tests are not there; run `cargo xtask tools`".to_owned())
}

/// The packages of npm that are installed, as `NODE_PATH`; without them the reason to skip.
///
/// # Errors
/// When there are none.
pub fn find_node_clients() -> Result<PathBuf, String> {
    let packages = checkout().join("target/tools/node/node_modules");
    if packages.is_dir() {
        Ok(packages)
    } else {
        Err("the clients for Node.js are not installed; run `cargo xtask tools`".to_owned())
    }
}

/// Waits until Envoy's metrics are as they must be. Counters move when a stream is logged, which is after the client has its answer, and
/// gauges with the next tick.
///
/// # Panics
/// When they are not within [`PATIENCE`]; the message has what they are, and names the line that asked.
#[track_caller]
pub fn until_metrics(envoy: &Envoy, condition: impl Fn(&Metrics) -> bool) -> impl Future<Output = ()> {
    let caller = std::panic::Location::caller();
    async move {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let metrics = envoy.metrics().await.expect("metrics");
            if condition(&metrics) {
                return;
            }
            if Instant::now() > deadline {
                let ours: Vec<_> = metrics.0.iter().filter(|sample| sample.name.starts_with("penstock_")).collect();
                panic!("{caller}: not within {PATIENCE:?}; the metrics are {ours:#?}\n{}", envoy.access_log());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}
