//! What Penstock is tried on: a proxy-wasm host on wasmtime, a real Envoy, and a stand-in for the model server.
//!
//! Nothing here depends on the filters: they are only known as `.wasm` files, as headers on the wire and as metrics, so that no test
//! can agree with the filters merely because it shares their code.

pub mod demo;
pub mod envoy;
pub mod host;
pub mod model_server;
pub mod scenario;
pub mod vocab;
