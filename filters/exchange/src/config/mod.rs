//! The configuration: one JSON document, every section optional.
//!
//! [`raw`] is its syntax, this module its meaning. [`Config::parse`] is the only way from one to the other, so a
//! `Config` that exists is valid: names are bounded and unique, rates are not zero, every reference leads somewhere.

mod check;
pub mod raw;
mod units;

use penstock_bucket::Rate;
use penstock_bucket::credit::Allowance;
use penstock_canary::Split;
use penstock_pending::fair::Priority;
use penstock_tokens::Encoding;

pub use check::{ConfigErrors, Problem};

/// How many models may be configured: they are label values, and those are never freed.
pub const MODELS_MAX: usize = 128;
/// How many versions a model may have.
pub const VERSIONS_MAX: usize = 8;
/// How many tenants may be named.
pub const TENANTS_MAX: usize = 10_000;
/// How many limits there may be.
pub const LIMITS_MAX: usize = 64;

/// Where a caller's identity, or any key, comes from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// A claim of the verified JWT.
    Jwt(String),
    /// A request header, by its lower-case name.
    Header(String),
    /// A property of the request, by its path.
    Property(Vec<String>),
    /// The tenant.
    Tenant,
    /// The model.
    Model,
}

/// What to do where two answers are reasonable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// Let it through, neither counted nor limited.
    Pass,
    /// Refuse it.
    Refuse,
}

/// A valid configuration.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// The sources of the tenant, first one that yields wins.
    pub tenant_from: Vec<Source>,
    /// Whether callers without identity are refused.
    pub deny_anonymous: bool,
    /// The key of the metadata in which `jwt_authn` leaves the claims.
    pub jwt_payload: String,
    /// Sorted by name.
    pub tenants: Vec<Tenant>,
    /// In the order of the document.
    pub models: Vec<Model>,
    /// In the order of the document.
    pub limits: Vec<Limit>,
    /// What happens to bodies that cannot be read.
    pub unreadable: Option<Policy>,
    /// What happens to models that are not configured.
    pub unknown_model: Option<Policy>,
    /// What happens when shared state is contended.
    pub contended: Option<Policy>,
    /// Paths in front of which the APIs' own paths may stand.
    pub path_prefixes: Vec<String>,
    /// Whether the headers may wait for the body.
    pub wait_for_body: WaitForBody,
    /// How many bytes of a request's texts are counted exactly; what follows is extrapolated.
    pub count_bytes_max: u64,
    /// Milliseconds between two heartbeats.
    pub tick_ms: u64,
    /// The service behind limits that all proxies share.
    pub mesh: Option<Mesh>,
    /// What the operator is to be told at load.
    pub notices: Vec<String>,
}

/// The service behind limits that all proxies share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mesh {
    /// A cluster of the proxy.
    pub service: String,
    /// The domain of its limits.
    pub domain: String,
    /// How long it may take to answer, in milliseconds.
    pub timeout_ms: u32,
    /// What happens when it does not.
    pub on_error: OnError,
    /// The key of the hashes that it is told.
    pub salt: [u8; 16],
}

/// What a limit that all proxies share does when its service does not answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnError {
    /// Nothing.
    Open,
    /// Refuses.
    Closed,
    /// Holds for each proxy by itself.
    #[default]
    Local,
}

/// Whether the request's headers may wait for its body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WaitForBody {
    /// Find out.
    #[default]
    Auto,
    /// They may.
    Yes,
    /// They may not.
    No,
}

/// A named tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tenant {
    /// Its name: also its label.
    pub name: String,
    /// For `match` in limits.
    pub class: Option<String>,
    /// Its share where it comes to shares.
    pub weight: u32,
    /// How much its requests matter when a model is nearly full.
    pub priority: Priority,
    /// Refused, whatever it asks (403).
    pub suspended: bool,
}

/// A model, as clients name it.
#[derive(Clone, Debug)]
pub struct Model {
    /// The name; `*` matches every other.
    pub name: String,
    /// The encoding to count with.
    pub encoding: Encoding,
    /// The encoding is only like the model's own: what is counted is an estimate.
    pub approximate: bool,
    /// Output tokens to expect where the client sets no ceiling.
    pub output_expect: u64,
    /// The ceiling of output tokens.
    pub output_max: Option<u64>,
    /// The key by which a ceiling is set in a chat request that has none.
    pub output_key: &'static str,
    /// How many tokens of prompt and output the model takes together.
    pub context: Option<u64>,
    /// What its tokens cost.
    pub price: Price,
    /// The stable version first. Empty: not split.
    pub versions: Vec<Version>,
    /// The draw; `None` where there is nothing to draw.
    pub split: Option<Split>,
    /// What pins a caller to a version, first source that yields wins.
    pub sticky: Vec<Source>,
    /// Not served, whoever asks (503).
    pub suspended: bool,
    /// How many tokens may be pending.
    pub ceiling: Option<u64>,
    /// The model to serve instead when it is full.
    pub fallback: Option<String>,
}

/// Billionths of a US dollar for one token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Price {
    /// Prompt tokens.
    pub input: u64,
    /// Cached prompt tokens.
    pub cached: u64,
    /// Completion tokens.
    pub output: u64,
}

/// One version of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// Its name: label and `x-penstock-version`.
    pub name: String,
    /// What to write into the request's `model`.
    pub model: Option<String>,
    /// Its share.
    pub weight: u32,
}

/// A limit.
#[derive(Clone, Debug)]
pub struct Limit {
    /// How refusals name it.
    pub name: String,
    /// What has a bucket of its own.
    pub per: Vec<Source>,
    /// Applies to this class only.
    pub class: Option<String>,
    /// Applies to this model only.
    pub model: Option<String>,
    /// Of what.
    pub kind: Kind,
}

/// What is limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Tokens over time.
    Tokens {
        /// The bucket.
        rate: Rate,
        /// What tokens cost here.
        cost: Weights,
        /// Of all proxies together.
        mesh: bool,
    },
    /// Requests at the same time.
    Concurrent {
        /// So many.
        max: u64,
    },
    /// What a session uses in all.
    Session(Allowance),
}

/// Thousandths of a limit's token for one token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weights {
    /// Prompt tokens.
    pub input: u64,
    /// Cached prompt tokens.
    pub cached: u64,
    /// Completion tokens.
    pub output: u64,
}

impl Weights {
    /// What so many tokens cost, in thousandths.
    pub fn cost(&self, prompt: u64, cached: u64, output: u64) -> u64 {
        let cached = cached.min(prompt);
        let fresh = prompt.saturating_sub(cached);
        let cost = fresh.saturating_mul(self.input).saturating_add(cached.saturating_mul(self.cached));
        cost.saturating_add(output.saturating_mul(self.output))
    }
}

/// The JSON Schema of the document: what keys there are, and of what type. What is said in `check` it does not say.
#[cfg(feature = "schema")]
pub fn schema() -> serde_json::Value {
    schemars::schema_for!(raw::Document).to_value()
}

impl Config {
    /// Reads and checks a configuration. Empty bytes are an empty document.
    ///
    /// # Errors
    /// All that is wrong with it: path, value and fix for each.
    pub fn parse(bytes: &[u8]) -> Result<Self, ConfigErrors> {
        check::parse(bytes)
    }

    /// The model that clients call `name`.
    pub fn model(&self, name: &str) -> Option<&Model> {
        let find = |name: &str| self.models.iter().find(|model| model.name == name);
        find(name).or_else(|| find("*"))
    }

    /// The named tenant `name`.
    pub fn tenant(&self, name: &str) -> Option<&Tenant> {
        let at = self.tenants.binary_search_by(|tenant| tenant.name.as_str().cmp(name)).ok()?;
        self.tenants.get(at)
    }
}
