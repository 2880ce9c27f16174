//! One request's life: events in, effects out.
//!
//! [`Exchange`] follows one request through its [`Stages`], in this order: *count* what it costs, charge the *limits*,
//! draw the *route*, keep it in the *pending* sums. It is given events as the proxy sees them and answers with effects,
//! which are plain data. [`Worker`] is what the exchanges of one VM share. What has to be shared by all workers goes
//! through the [`Store`] port. None of this knows a clock, a host or a log: the time is in [`World::now`].
//!
//! The same code runs the all-in-one plugin (all stages) and each plugin by itself (one stage). Between plugins that
//! are deployed in a row, [`Facts`] travel in the proxy's filter state, so that only the first of them has to read.
//!
//! What this crate does not do: parse bodies (`dialects`), count (`tokens`), or talk to a proxy (`guest`).

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

pub mod config;
pub mod facts;
pub mod metrics;
pub mod port;

mod clock;
mod counting;
mod exchange;
mod expectation;
mod identity;
mod limits;
pub mod mesh;
mod saturation;
mod tools;
mod waiting;
mod worker;

pub use config::{Config, ConfigErrors};
pub use exchange::Exchange;
pub use facts::{Facts, Outcome};
pub use metrics::{Labels, Metric};
pub use port::{Change, Contended, Effect, Event, Headers, Level, Properties, Store, World};
pub use worker::Worker;

/// Which stages an exchange runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stages {
    /// Count tokens, and keep the totals.
    pub count: bool,
    /// Charge the limits.
    pub limit: bool,
    /// Draw the version.
    pub route: bool,
    /// Keep the pending sums.
    pub pending: bool,
}

impl Stages {
    const NONE: Self = Self { count: false, limit: false, route: false, pending: false };
    /// Every stage: the plugin `penstock`.
    pub const ALL: Self = Self { count: true, limit: true, route: true, pending: true };
    /// The plugin `token-counter`.
    pub const COUNT: Self = Self { count: true, ..Self::NONE };
    /// The plugin `tenant-bucket`.
    pub const LIMIT: Self = Self { limit: true, ..Self::NONE };
    /// The plugin `canary-router`.
    pub const ROUTE: Self = Self { route: true, ..Self::NONE };
    /// The plugin `pending-gauge`.
    pub const PENDING: Self = Self { pending: true, ..Self::NONE };

    /// The stages that a plugin of this name runs; an empty name is all of them.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "" | "penstock" => Some(Self::ALL),
            "token-counter" => Some(Self::COUNT),
            "tenant-bucket" => Some(Self::LIMIT),
            "canary-router" => Some(Self::ROUTE),
            "pending-gauge" => Some(Self::PENDING),
            _ => None,
        }
    }
}
