//! What the benchmarks share: texts to count, and a sandbox that says what counting them cost.

pub mod corpus;
pub mod sandbox;
pub mod v8;
