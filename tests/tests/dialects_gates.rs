//! What reading a request and its answer may cost in the sandbox. Fuel and memory do not depend on the machine.

use penstock_benches::streams;
use penstock_tests::module;

/// Fuel for an event of about 200 bytes, from the host's callback to its return.
const EVENT_MAX: u64 = 19_860;
/// Fuel for a byte of a request of 2 KB that is read and edited, and not counted.
const REQUEST_BYTE_MAX: u64 = 50;
/// Bytes of memory for an open stream.
const STREAM_MAX: usize = 2340;

#[test]
fn requests_events_and_open_streams() {
    let figures = streams::measure(&module("penstock")).expect("figures");
    assert!(figures.fuel_per_event <= EVENT_MAX, "{figures:?}, at most {EVENT_MAX}");
    assert!(figures.fuel_per_request_byte <= REQUEST_BYTE_MAX, "{figures:?}, at most {REQUEST_BYTE_MAX}");
    assert!(figures.bytes_per_stream <= STREAM_MAX, "{figures:?}, at most {STREAM_MAX}");
}
