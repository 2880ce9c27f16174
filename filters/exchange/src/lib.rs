//! One request's life: events in, effects out.
//!
//! [`Exchange`] follows one request through the stages, in this order: the *door* (who asks for which model, by which path), *count* what it
//! costs, *admit* it where the model has room, charge the *limits*, draw the *route*, keep it in the *pending* sums; backwards through the
//! same stages it is settled. It is given events as the proxy sees them and answers with effects, which are plain data. [`Worker`] is what
//! the exchanges of one VM share. What has to be shared by all workers goes through the [`Store`] port. None of this knows a clock, a host
//! or a log: the time is in [`World::now`].
//!
//! The same code runs the all-in-one plugin and each plugin by itself ([`Plugin`]). Between plugins that are deployed in a row, [`Facts`]
//! travel in the proxy's filter state, so that only the first of them has to read.
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

mod body;
mod breakers;
mod budget;
mod clock;
mod completion;
pub mod config;
mod demand;
mod exchange;
mod expectation;
pub mod facts;
mod finished;
mod flow;
mod hash;
mod identity;
mod json;
mod keys;
mod labels;
mod lateness;
mod limits;
mod media;
pub mod metrics;
mod overflow;
mod pace;
mod places;
pub mod port;
mod prompt;
mod redirect;
mod refusal;
mod refused;
mod response;
pub mod series;
mod served;
mod stage;
mod tools;
mod trials;
mod voices;
mod waiting;
mod want;
mod worker;
mod world;

pub use config::{Config, ConfigErrors};
pub use exchange::Exchange;
pub use facts::{Facts, Held, Outcome, Used};
pub use metrics::{Labels, Metric, SeriesId};
pub use port::{
    Call, CallAnswer, CallId, CallMessage, Change, Contended, Effect, Event, Headers, Level, Properties, Store,
};
pub use stage::Plugin;
pub use worker::{Handling, Worker};
pub use world::World;

pub use penstock_dialects::{Splice, apply};
