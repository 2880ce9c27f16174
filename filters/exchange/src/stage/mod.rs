//! The stages of a request, each in one file: its rule on the way there, the response headers it sets, and how it settles.
//!
//! A stage is free functions over a state of its own and the [`Flow`](crate::flow::Flow) that all stages share. On the way there it may
//! [`Stop`] the request; on the way back it never fails.

pub mod admit;
pub mod count;
pub mod door;
pub mod feedback;
pub mod hold;
pub mod limit;
pub mod order;
pub mod pending;
pub mod route;
pub mod stop;
pub mod watch;

pub use order::{Plugin, Stage};
pub use stop::Stop;
