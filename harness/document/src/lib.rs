//! YAML and JSON documents in which everything knows its line, so that what is wrong can be said where it is.
//!
//! What this crate does not do: it does not know what a document means.

pub mod at;
pub mod node;
pub mod yaml;

pub use at::At;
