//! Which stages there are, and which of them a plugin runs.

/// A stage, in the order in which a request passes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Who asks for which model, by which path: what is certain to be refused.
    Door,
    /// What the request asks and what it costs.
    Count,
    /// Whether the model has room for it.
    Admit,
    /// Whether its limits have.
    Limit,
    /// Which version serves it.
    Route,
    /// It is in flight.
    Pending,
}

impl Stage {
    /// All of them, in order.
    pub const ALL: [Self; 6] = [Self::Door, Self::Count, Self::Admit, Self::Limit, Self::Route, Self::Pending];
}

/// A plugin: which part of the stages it runs.
///
/// Whichever plugin comes first in a row reads the request, so door, count and admit are run by all of them, unless an earlier one has.
/// What counting writes into requests and responses, and the totals, are `token-counter`'s.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plugin {
    /// All stages.
    Penstock,
    /// Counts tokens, and keeps the totals.
    TokenCounter,
    /// Charges the limits.
    TenantBucket,
    /// Draws the version.
    CanaryRouter,
    /// Keeps the pending sums.
    PendingGauge,
}

impl Plugin {
    /// The plugin of this name; an empty one is all of them.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "" | "penstock" => Some(Self::Penstock),
            "token-counter" => Some(Self::TokenCounter),
            "tenant-bucket" => Some(Self::TenantBucket),
            "canary-router" => Some(Self::CanaryRouter),
            "pending-gauge" => Some(Self::PendingGauge),
            _ => None,
        }
    }

    /// Whether the stage is this plugin's own.
    pub fn owns(self, stage: Stage) -> bool {
        match self {
            Self::Penstock => true,
            Self::TokenCounter => stage <= Stage::Admit,
            Self::TenantBucket => stage == Stage::Limit,
            Self::CanaryRouter => stage == Stage::Route,
            Self::PendingGauge => stage == Stage::Pending,
        }
    }

    /// Whether it runs the stage for a request that no earlier plugin has read.
    pub fn runs(self, stage: Stage) -> bool {
        stage <= Stage::Admit || self.owns(stage)
    }
}
