//! What all handlers share.

use super::capacity::Capacity;
use super::ledger::Ledger;
use super::options::Options;

/// What all handlers share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) options: Options,
    pub(super) capacity: Capacity,
    pub(super) ledger: Ledger,
}

impl Shared {
    /// The value of the label `model_name`.
    pub(super) fn label(&self) -> &str {
        self.options.models.first().unwrap_or(&self.options.name)
    }
}
