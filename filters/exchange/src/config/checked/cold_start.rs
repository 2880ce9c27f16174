//! How requests wait for a version that has no server.

use penstock_units::Nanos;

/// How requests wait for a version that has no server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColdStart {
    /// The place of its gate among those of a worker.
    pub gate: usize,
    /// A cluster of the proxy.
    pub cluster: String,
    /// The path that is asked for.
    pub probe: String,
    /// For how long a request waits.
    pub hold: Nanos,
    /// How many may wait in this process.
    pub max_held: u64,
    /// How many bytes of bodies may wait in this process.
    pub max_held_bytes: u64,
}
