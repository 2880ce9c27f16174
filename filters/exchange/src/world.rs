//! What surrounds one event.

use penstock_units::Nanos;

use crate::port::{Effect, Properties, Store};
use crate::worker::Worker;

/// What surrounds one event: the time, the outside, and where the effects go.
pub struct World<'a> {
    /// Since the Unix epoch.
    pub now: Nanos,
    /// Draws a random number.
    pub entropy: &'a dyn Fn() -> u64,
    /// What all workers share.
    pub store: &'a mut dyn Store,
    /// What the proxy knows of the request.
    pub properties: &'a dyn Properties,
    /// What the exchanges of this VM share.
    pub worker: &'a mut Worker,
    /// Where the effects go.
    pub out: &'a mut Vec<Effect>,
}
