//! When a version is taken back.

use penstock_canary::guard::{Outcome, Rules, Signal};
use penstock_units::{Millis, Tokens};

use super::policy::Mode;

/// How many categories a guard may have.
pub const CATEGORIES_MAX: usize = 8;

/// When a version is taken back.
#[derive(Clone, Debug, PartialEq)]
pub struct Guard {
    /// What is watched over all requests.
    pub rules: Rules,
    /// Whether what is found is done.
    pub mode: Mode,
    /// Whether only requests of named tenants are evidence.
    pub named_only: bool,
    /// Requests with more prompt tokens are none.
    pub prompt_max: Tokens,
    /// When a first token is late, and up to which prompt that says anything.
    pub ttft: Option<(Millis, Tokens)>,
    /// When tokens are slow.
    pub inter_token: Option<Millis>,
    /// What a request costs at most, in billionths of a US dollar, where costs are compared.
    pub cost_cap: Option<u64>,
    /// How long an answer is at most, where lengths are compared.
    pub length_cap: Option<u64>,
    /// What is compared by itself.
    pub category: Option<Category>,
}

impl Guard {
    /// Whether it looks at what callers say.
    pub fn watches_feedback(&self) -> bool {
        self.rules.watches(Signal::More(Outcome::Feedback))
    }
}

/// Requests by the value of a header.
#[derive(Clone, Debug, PartialEq)]
pub struct Category {
    /// Its lower-case name.
    pub header: String,
    /// Each is compared by itself.
    pub values: Vec<String>,
    /// What is watched in each of them.
    pub rules: Rules,
}
