//! The loop closed: a gateway with the filter, whose metrics scale the servers that it sends requests to; and what
//! `penstock simulate` says of such a loop.
//!
//! Started by `cargo xtask test --cluster`. One chain serves all tests, one after the other, and is emptied before each.

#[path = "closed_loop/from_zero.rs"]
mod from_zero;
#[path = "closed_loop/ramp.rs"]
mod ramp;
#[path = "closed_loop/simulated.rs"]
mod simulated;
#[path = "scaling/stage.rs"]
mod stage;
