//! What to do where several answers are reasonable.

/// What to do where two answers are reasonable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// Let it through, neither counted nor limited.
    Pass,
    /// Refuse it.
    Refuse,
}

/// What to do with a request for a model that is not configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnknownModel {
    /// Refuse it.
    Refuse,
    /// Serve it as any other model, which is counted and limited.
    Pass,
    /// The same, and say that it would be refused.
    Observe,
}

/// Whether what is decided is done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// It is.
    #[default]
    Enforce,
    /// It is counted and told, and the request goes on.
    Observe,
}

/// Who answers requests that only ask what a prompt costs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CountEndpoints {
    /// Penstock, where it knows the model's encoding.
    #[default]
    Answer,
    /// The server.
    Forward,
    /// Nobody.
    Refuse,
}
