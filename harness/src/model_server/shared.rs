//! What all handlers share.

use std::sync::Arc;

use tokio::time::Instant;

use super::capacity::Capacity;
use super::ledger::Ledger;
use super::options::Options;
use super::pace::Pace;

/// What all handlers share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) options: Options,
    pub(super) capacity: Capacity,
    pub(super) pace: Arc<Pace>,
    pub(super) ledger: Ledger,
    /// When the model is loaded.
    pub(super) loaded: Instant,
}

impl Shared {
    pub(super) fn is_loaded(&self) -> bool {
        Instant::now() >= self.loaded
    }

    /// The value of the label `model_name`.
    pub(super) fn label(&self) -> &str {
        self.options.models.first().unwrap_or(&self.options.name)
    }
}
