//! How a version is chosen.

use penstock_canary::Split;

use super::source::Source;

/// How a version of a model is chosen.
#[derive(Clone, Debug)]
pub struct Routing {
    /// The draw.
    pub split: Split,
    /// What pins a caller to a version, first source that yields wins.
    pub sticky: Vec<Source>,
    /// Who may choose, and how.
    pub choosers: Option<Choosers>,
    /// Whether it is remembered which version gave a response.
    pub remembers_responses: bool,
}

/// Who may choose a version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choosers {
    /// The header that names it.
    pub header: Source,
    /// Their names, sorted; `None`: whoever asks.
    pub tenants: Option<Vec<String>>,
}

impl Choosers {
    /// Whether the tenant of this name may. Of tenants without one there is `None`.
    pub fn may(&self, name: Option<&str>) -> bool {
        let has = |tenants: &Vec<String>| name.is_some_and(|name| tenants.iter().any(|known| known == name));
        self.tenants.as_ref().is_none_or(has)
    }
}
