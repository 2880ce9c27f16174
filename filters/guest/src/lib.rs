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
mod calls;
mod effects;
#[cfg(feature = "faults")]
mod faults;
mod host;
mod log;
mod root;
mod stream;
mod vm;

#[cfg(target_family = "wasm")]
#[global_allocator]
static BLOCKS: penstock_blocks::Blocks = penstock_blocks::Blocks::new();

pub use proxy_wasm;
pub use root::{root, start};

/// The entry point of a module: the plugin that is given, or, where none is, the one that its `root_id` names.
#[macro_export]
macro_rules! plugin {
    ($plugin:expr) => {
        $crate::proxy_wasm::main! {{ $crate::start(|context| $crate::root(context, $plugin)); }}
    };
}

pub use penstock_exchange::Plugin;
