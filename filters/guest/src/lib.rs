//! The proxy-wasm side: turns callbacks into events and effects into host calls, and decides nothing.
//!
//! This is the only crate that names `proxy_wasm`. From it come the exports and the dispatch of callbacks; the host is
//! called through [`abi`], because the SDK's own calls panic on statuses that a proxy may well answer, and a panic costs
//! the VM with all its streams.

#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

mod abi;
mod host;
mod root;
mod stream;

pub use proxy_wasm;
pub use root::start;

/// The entry point of a plugin that runs the given stages; all of them, or those of its `root_id`, where none are given.
#[macro_export]
macro_rules! plugin {
    ($stages:expr) => {
        $crate::proxy_wasm::main! {{ $crate::start(|context| $crate::root(context, $stages)); }}
    };
}

pub use penstock_exchange::Stages;
pub use root::root;
