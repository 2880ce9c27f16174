//! What Penstock is tried on: a proxy-wasm host on wasmtime, a real Envoy, and a stand-in for the model server; and charts of what came of it.
//!
//! Nothing here depends on the filters: they are only known as `.wasm` files, as headers on the wire and as metrics, so that no test
//! can agree with the filters merely because it shares their code.
//!
//! The host needs wasmtime, which takes minutes to compile: it is the feature `sandbox`, on by default.

use std::io::Write;

pub mod chart;
pub mod demo;
pub mod envoy;
#[cfg(feature = "sandbox")]
pub mod host;
pub mod message;
pub mod model_server;
pub mod port;
pub mod prometheus;
pub mod scenario;

/// Says that this test tests nothing here, and why.
///
/// # Panics
/// With `REQUIRE_TOOLS=1`.
pub fn skipped(reason: &str) {
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    assert!(std::env::var_os("REQUIRE_TOOLS").is_none_or(|value| value != "1"), "REQUIRE_TOOLS=1, but {reason}");
    // Written to the stream itself: the test runner only captures what goes through the printing macros.
    let _ = writeln!(std::io::stderr(), "SKIPPED {test}: {reason}");
}
