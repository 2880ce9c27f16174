//! A proxy-wasm host: one proxy process with several workers, on wasmtime, under the test's control.
//!
//! It runs the very `.wasm` files that Envoy runs and answers their host calls as Envoy does, including where that is surprising: headers that
//! cannot be edited once they went on, compare-and-swap that creates missing keys, gauges that wrap below zero, plugins that share a VM. Time
//! stands still until [`Host::advance`], randomness is seeded, other services answer when the test does. Each worker may be driven from a
//! thread of its own; shared data and statistics are one per process, behind a mutex, so contention is real.
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
