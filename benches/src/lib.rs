//! What the benchmarks share: texts to count, sandboxes that say what counting and reading cost, and a real Envoy.

pub mod admission;
pub mod corpus;
pub mod load;
pub mod process;
pub mod proxy;
pub mod sandbox;
pub mod stages;
pub mod streams;
pub mod v8;
