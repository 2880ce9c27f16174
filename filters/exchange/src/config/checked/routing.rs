//! How a version is chosen.

use penstock_canary::Split;
use penstock_units::{Nanos, Tokens};

use super::source::Source;

/// How a version of a model is chosen.
#[derive(Clone, Debug)]
pub struct Routing {
    /// The draw.
    pub split: Split,
    /// Who owns the weights.
    pub owner: Owner,
    /// Which versions serve which requests; the first that holds decides.
    pub rules: Vec<Rule>,
    /// What is copied.
    pub shadow: Option<Shadow>,
    /// What pins a caller to a version, first source that yields wins.
    pub sticky: Vec<Source>,
    /// Who may choose, and how.
    pub choosers: Option<Choosers>,
    /// Whether some version's tokens cost something else than the model's.
    pub has_prices: bool,
    /// Whether some rule weighs what serves against the models that this one falls back to.
    pub weighs_fallbacks: bool,
    /// Whether it is remembered which version gave a response.
    pub remembers_responses: bool,
}

/// Who owns the weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// Penstock draws.
    Penstock,
    /// The route does.
    Route,
}

/// Which requests are copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shadow {
    /// To which version.
    pub version: String,
    /// Those whose point is below this.
    pub end: u64,
}

/// Which versions serve which requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// What the log calls it.
    pub name: String,
    /// For which requests it is.
    pub when: When,
    /// The draw between its versions.
    pub split: Split,
    /// Whether the cheapest of them are preferred.
    pub is_cheapest: bool,
    /// Whether the models that this one falls back to are among them.
    pub weighs_fallbacks: bool,
}

/// What has to hold of a request, all of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct When {
    /// The class.
    pub class: Option<String>,
    /// The names of the tenants; empty for any.
    pub tenants: Vec<String>,
    /// Tokens of the prompt, from and below.
    pub prompt: Option<(Tokens, Tokens)>,
    /// Whether there are tools.
    pub tools: Option<bool>,
    /// Whether there are images.
    pub images: Option<bool>,
    /// Less than so much is left of the budget, in percent.
    pub budget_below: Option<u64>,
}

impl When {
    /// Whether the request has to be read for it here, and not by an earlier plugin alone.
    pub fn is_of_body(&self) -> bool {
        self.tools.is_some() || self.images.is_some()
    }
}

/// How full a version may be to be preferred.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    /// What may be pending.
    pub pending: Option<Tokens>,
    /// How long the oldest request may have waited for its first token.
    pub oldest_wait: Option<Nanos>,
    /// How long its streams may mostly take to their first token.
    pub ttft: Option<Nanos>,
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
