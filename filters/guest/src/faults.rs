//! What goes wrong in a worker on demand, for tests: only in modules that are built with the feature `faults`, which none that is shipped has.
#![allow(clippy::panic, reason = "a trap is what is asked for")]

use penstock_exchange::Headers;
use penstock_units::{Millis, Nanos};

use crate::abi;

/// The request header that asks for it.
const HEADER: &str = "x-penstock-fault";

/// `trap` ends the VM; `busy=5000` holds the worker for so many milliseconds.
pub fn commit(headers: &Headers) {
    let asked = headers.iter().find(|(name, _)| name == HEADER);
    let Some(fault) = asked.and_then(|(_, value)| core::str::from_utf8(value).ok()) else { return };
    if let Some(span) = fault.strip_prefix("busy=").and_then(|millis| millis.parse().ok()) {
        busy(Millis(span).to_nanos());
    } else if fault == "trap" {
        panic!("a trap was asked for");
    }
}

/// There is no sleep in a proxy's sandbox.
fn busy(span: Nanos) {
    let end = abi::now().saturating_add(span);
    while abi::now() < end {}
}
