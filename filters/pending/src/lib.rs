//! What is in flight: for every model version the prompt tokens that wait for their first answer, and the output
//! tokens that are still to come.
//!
//! A [`Ledger`] is one worker's truth, kept in memory and never shared. What is shared is a [`slot`]: the ledger's sums
//! under a heartbeat, written whole. The process's truth is the sum over the slots that still beat, so a worker that
//! died takes its tokens with it, and there is no counter that could drift.
//!
//! The requests that pass also teach what serves them: how much of a prompt is cached, and how much a replica does in a second. A worker
//! gathers that as [`Lesson`]s, which are added to what all workers have [`Learnt`]. And whether anything serves at all is what a [`gate`] knows.
//!
//! What this crate does not do: decide whether to shed, or talk to anybody.

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

pub mod fair;
pub mod gate;
mod histogram;
mod learnt;
mod ledger;
pub mod slot;

pub use learnt::{CacheRatio, Figures, Learnt, Lesson};
pub use ledger::{Admitted, Landed, Ledger};

use penstock_units::{Nanos, Tokens};

/// A model version, as it is labelled.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Series {
    /// The configured model name.
    pub model: String,
    /// The version name.
    pub version: String,
}

/// What is pending in one series.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    /// Prompt tokens, not cached as far as is known, of requests without a first answer.
    pub prefill: Tokens,
    /// The other prompt tokens of these requests.
    pub cached: Tokens,
    /// Output tokens still expected.
    pub decode: Tokens,
    /// Requests.
    pub requests: u64,
    /// When the oldest request without a first answer was admitted.
    pub since: Option<Nanos>,
}

impl Sum {
    /// The tokens of prompts and answers, whatever is cached.
    pub fn tokens(&self) -> Tokens {
        self.prefill.saturating_add(self.cached).saturating_add(self.decode)
    }

    /// Adds another sum of the same series.
    pub fn add(&mut self, other: Sum) {
        self.prefill = self.prefill.saturating_add(other.prefill);
        self.cached = self.cached.saturating_add(other.cached);
        self.decode = self.decode.saturating_add(other.decode);
        self.requests = self.requests.saturating_add(other.requests);
        self.since = self.since.into_iter().chain(other.since).min();
    }
}
