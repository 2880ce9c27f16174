//! What Penstock is tried on: a proxy-wasm host on wasmtime, a real Envoy, and a stand-in for the model server.
//!
//! Nothing here depends on the filters: they are only known as `.wasm` files, as headers on the wire and as metrics, so that no test
//! can agree with the filters merely because it shares their code.
//!
//! The host needs wasmtime, which takes minutes to compile: it is the feature `sandbox`, on by default.

pub mod demo;
pub mod envoy;
#[cfg(feature = "sandbox")]
pub mod host;
pub mod message;
pub mod model_server;
pub mod scenario;
