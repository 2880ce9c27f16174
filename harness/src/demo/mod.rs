//! `penstock demo`: Envoy with the filters, two model servers, tenants that behave and tenants that do not.
//!
//! Without an Envoy the filters run in the wasmtime host (the feature `sandbox`), behind a small HTTP proxy; the report says so.
//!
//! The configuration is `envoy/gateway.yaml`, as it is shipped. Beside the traffic, the same request goes again and again to Envoy with
//! and without the filters, in turn, so that what the filters add is measured in the same run and under the same load.
//! Then the canary begins to fail, and is rolled back.

mod latency;
#[cfg(not(feature = "sandbox"))]
mod no_sandbox;
mod observe;
mod options;
mod proxy;
mod report;
mod roll_back;
#[cfg(feature = "sandbox")]
mod sandbox;
mod screen;
mod stage;
mod traffic;

pub use observe::observe;
pub use options::Options;
pub use report::Report;
