//! A proxy-wasm host: one proxy process with several workers, on wasmtime, under the test's control.
//!
//! It runs the very `.wasm` files that Envoy runs and answers their host calls as Envoy does, including where that is surprising: headers that
//! cannot be edited once they went on, compare-and-swap that creates missing keys, gauges that wrap below zero, plugins that share a VM. Time
//! stands still until [`Host::advance`], randomness is seeded, other services answer when the test does. Each worker may be driven from a
//! thread of its own; shared data and statistics are one per process, behind a mutex, so contention is real.
//!
//! Nothing in it is Penstock's: any module of proxy-wasm runs here.
//!
//! ```
//! use penstock_harness::host::{Headers, Host, Module, Options, Plugin};
//!
//! # fn main() -> Result<(), String> {
//! // A filter that refuses every request; `Module::from_file` reads a compiled one.
//! let module = Module::compile(br#"(module
//!     (import "env" "proxy_send_local_response"
//!         (func $answer (param i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
//!     (memory (export "memory") 1)
//!     (func (export "proxy_abi_version_0_2_1"))
//!     (func (export "proxy_on_context_create") (param i32 i32))
//!     (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
//!         (drop (call $answer (i32.const 403) (i32.const 0) (i32.const 0) (i32.const 0)
//!             (i32.const 0) (i32.const 0) (i32.const 0) (i32.const -1)))
//!         (i32.const 1)))"#)?;
//! let plugin = Plugin {
//!     module,
//!     name: "refuses".to_owned(),
//!     root_id: String::new(),
//!     vm_id: String::new(),
//!     configuration: Vec::new(),
//! };
//! let host = Host::start(&[plugin], &Options::default())?;
//! let mut worker = host.worker(0);
//! let stream = worker.open(Headers::new([(":method", "GET"), (":path", "/"), (":authority", "example.com")]), true);
//! assert_eq!(worker.client(stream).status(), 403);
//! # Ok(())
//! # }
//! ```
//!
//! What its host functions return is held against a real Envoy, call by call, by `tests/tests/conformance.rs`.
//!
//! It does not speak HTTP: no parsing, no routing, no retries, no trailers, no shared queues and no gRPC streams. What a real proxy makes of
//! a configuration file is for the tests against Envoy.

mod abi;
mod callouts;
mod calls;
mod chain;
mod guest;
mod lock;
mod metrics;
mod module;
mod options;
mod pairs;
mod process;
mod properties;
mod proxy;
mod state;
mod status;
mod stream;
mod timers;
mod traffic;
mod vm;
mod wasi;
mod worker;

#[cfg(test)]
mod tests;

pub use crate::message::{Headers, Seen};
pub use callouts::{Callout, Protocol};
pub use metrics::Metrics;
pub use module::Module;
pub use options::{FailPolicy, GuestLog, Options, Plugin};
pub use process::{LogLine, SharedData};
pub use proxy::Host;
pub use status::Status;
pub use stream::StreamId;
pub use vm::Fuel;
pub use worker::Worker;
