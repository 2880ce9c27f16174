//! What a configuration means, once it has been checked.

mod cold_start;
pub mod guard;
pub mod names;
pub mod paths;
pub mod policy;
pub mod routing;
mod source;

use std::rc::Rc;

use penstock_bucket::Rate;
use penstock_bucket::credit::Allowance;
use penstock_pending::Figures;
use penstock_pending::fair::Priority;
use penstock_tokens::Encoding;
use penstock_units::{MilliTokens, Millis, Nanos, Tokens};

pub use cold_start::ColdStart;
pub use guard::{Category, Guard};
pub use names::Names;
pub use paths::{PathPattern, Paths};
pub use policy::{CountEndpoints, Mode, Policy, UnknownModel};
pub use routing::{Bounds, Choosers, Owner, Routing, Rule, Shadow, When};
pub use source::Source;

/// How many models may be configured: they are label values, and those are never freed.
pub const MODELS_MAX: usize = 128;
/// How many versions a model may have.
pub const VERSIONS_MAX: usize = 8;
/// How many tenants may be named.
pub const TENANTS_MAX: usize = 10_000;
/// How many limits there may be.
pub const LIMITS_MAX: usize = 64;

/// Where a caller's identity may come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A key of some tenant, in this header.
    Key(String),
    /// A value.
    Value {
        /// Where it stands.
        source: Source,
        /// Whether somebody has checked that it is the caller's, so that it may be a tenant's name.
        is_verified: bool,
        /// The source as text: the same value from another one is somebody else.
        space: String,
    },
}

impl Origin {
    /// Whether what it yields is known to be the caller's.
    pub fn is_verified(&self) -> bool {
        match self {
            Self::Key(_) => true,
            Self::Value { is_verified, .. } => *is_verified,
        }
    }
}

/// Whom a limit is for, among tenants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whose {
    /// Whoever has no name.
    Unnamed,
    /// The tenant of this name.
    Named(String),
}

/// A valid configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// The sources of the tenant: the verified ones first, and the first one that yields wins.
    pub tenant_from: Vec<Origin>,
    /// Whether who may not ask is refused.
    pub tenant_mode: Mode,
    /// Whether callers without identity are refused.
    pub deny_anonymous: bool,
    /// The keys of the metadata in which `jwt_authn` leaves the claims.
    pub jwt_payloads: Vec<String>,
    /// The hashes of the tenants' keys, sorted, with the places of the tenants.
    pub api_keys: Vec<([u8; 32], usize)>,
    /// The names of the models that callers without a name may use, sorted; `None`: every one.
    pub unnamed_models: Option<Rc<[String]>>,
    /// Sorted by name.
    pub tenants: Vec<Tenant>,
    /// In the order of the document. Where models pass that are not configured, the last one stands for them.
    pub models: Vec<Model>,
    /// What clients may call them.
    pub names: Names,
    /// All sources that are looked up at the headers of every request, each once.
    pub sources: Vec<Source>,
    /// Whether callers may say what they think of answers.
    pub feedback: Option<Feedback>,
    /// In the order in which they are charged: those of this proxy first, and otherwise in the order of the document.
    pub limits: Vec<Limit>,
    /// What happens to bodies that cannot be read.
    pub unreadable: Policy,
    /// What happens to models that are not configured.
    pub unknown_model: UnknownModel,
    /// The model of requests that name none.
    pub default_model: Option<String>,
    /// Whether answers may be worked on after their response; what was reserved for one stays charged.
    pub serves_background: bool,
    /// What happens when shared state is contended.
    pub contended: Policy,
    /// Paths in front of which the APIs' own paths may stand.
    pub path_prefixes: Vec<String>,
    /// Who says what a prompt costs.
    pub count_endpoints: CountEndpoints,
    /// Whether the list of models is answered here.
    pub lists_models: bool,
    /// Which hosts it is for, in lower case; all where none is named.
    pub hosts: Vec<String>,
    /// What passes besides.
    pub paths: Paths,
    /// Whether the headers may wait for the body.
    pub wait_for_body: WaitForBody,
    /// How many bytes of a request's texts are counted exactly; what follows is extrapolated.
    pub count_bytes_max: u64,
    /// How many bytes a compressed request may become.
    pub decoded_bytes_max: usize,
    /// Between two heartbeats.
    pub tick: Millis,
    /// Whether some rule asks how much is left of a budget.
    pub asks_budget: bool,
    /// Whether the weights of some model are the route's.
    pub has_pins: bool,
    /// How many there are of versions, and of models without them.
    pub series: usize,
    /// How many gates there are in front of servers, by [`ColdStart::gate`].
    pub gates: usize,
    /// What the operator is to be told at load.
    pub notices: Vec<String>,
}

/// What callers say of answers.
#[derive(Clone, Debug, PartialEq)]
pub struct Feedback {
    /// The path to which they post it.
    pub path: String,
    /// The key that signs the names of requests, where all proxies have the same.
    pub key: Option<[u8; 16]>,
    /// For how long something may be said.
    pub age_max: Nanos,
    /// Lower scores are negative.
    pub negative_below: f64,
}

/// The service behind limits that all proxies share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateLimitService {
    /// A cluster of the proxy.
    pub cluster: String,
    /// The domain of its limits.
    pub domain: String,
    /// How long it may take to answer.
    pub timeout: Millis,
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
    pub class: Option<Rc<str>>,
    /// Its share where it comes to shares.
    pub weight: u32,
    /// How much its requests matter when a model is nearly full.
    pub priority: Priority,
    /// Refused, whatever it asks (403).
    pub suspended: bool,
    /// It probes: limits that it would share with others do not apply to it.
    pub probe: bool,
    /// The names of the models that it may use, sorted; `None`: every one.
    pub models: Option<Rc<[String]>>,
}

impl Tenant {
    /// Whether it may use the model of this name.
    pub fn may_use(&self, model: &str) -> bool {
        has(self.models.as_deref(), model)
    }
}

/// Whether a list, which is sorted, has this model; without one all have.
pub fn has(models: Option<&[String]>, model: &str) -> bool {
    models.is_none_or(|models| models.binary_search_by(|known| known.as_str().cmp(model)).is_ok())
}

/// A model, as clients name it.
#[derive(Clone, Debug)]
pub struct Model {
    /// The name; `*` matches every other.
    pub name: String,
    /// It stands for the models that are not configured, and the document does not have it.
    pub is_implicit: bool,
    /// The encoding to count with.
    pub encoding: Encoding,
    /// The encoding is only like the model's own: what is counted is an estimate.
    pub approximate: bool,
    /// Output tokens to expect where the client sets no ceiling.
    pub output_expect: Tokens,
    /// The ceiling of output tokens.
    pub output_max: Option<Tokens>,
    /// The key by which a ceiling is set in a chat request that has none.
    pub output_key: &'static str,
    /// How many tokens of prompt and output the model takes together.
    pub context: Option<Tokens>,
    /// What its tokens cost.
    pub price: Price,
    /// What media cost that are not in the request.
    pub media: Flat,
    /// The stable version first. Empty: not split.
    pub versions: Vec<Version>,
    /// How one of them is chosen; `None` where there is none.
    pub routing: Option<Routing>,
    /// Not served, whoever asks (503).
    pub suspended: bool,
    /// What one replica does.
    pub replica: Figures,
    /// How requests wait while there is no server; that of a model without versions.
    pub cold_start: Option<ColdStart>,
    /// How many tokens may be pending.
    pub ceiling: Option<Tokens>,
    /// Whether what does not fit is refused.
    pub ceiling_mode: Mode,
    /// The model to serve instead when it fails.
    pub fallback: Option<String>,
    /// It also serves when this one is full.
    pub falls_back_when_full: bool,
    /// When a version is taken back; there are several, then.
    pub guard: Option<Guard>,
    /// Its place among the models.
    pub place: usize,
    /// The place of its first version, or of itself where it has none, among all that serves.
    pub series: usize,
    /// Whether it is watched which versions fail, and whether those are left alone.
    pub breaker: Option<Mode>,
}

/// What each image, sound, film or document costs that a request only names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flat {
    /// An image; otherwise it goes by the documented rules.
    pub image: Option<Tokens>,
    /// A sound; otherwise it is refused.
    pub audio: Option<Tokens>,
    /// A film; otherwise it is refused.
    pub video: Option<Tokens>,
    /// A document; otherwise it is refused.
    pub file: Option<Tokens>,
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

impl Price {
    /// What so many tokens cost, in billionths of a US dollar.
    pub fn nanodollars(&self, spend: Spend) -> u64 {
        let fresh = spend.prompt.saturating_sub(spend.cached);
        let parts = [(fresh, self.input), (spend.cached, self.cached), (spend.output, self.output)];
        parts.into_iter().map(|(tokens, price)| penstock_units::product(tokens.0, price)).fold(0, u64::saturating_add)
    }
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
    /// What its tokens cost.
    pub price: Price,
    /// How full it may be to be preferred.
    pub bounds: Bounds,
    /// The cluster that it is behind, where it is known by that.
    pub cluster: Option<String>,
    /// What one replica of it does: the model's where it gives none.
    pub replica: Figures,
    /// How its requests wait while there is no server.
    pub cold_start: Option<ColdStart>,
}

impl Model {
    /// What its tokens cost at this version.
    pub fn price(&self, version: Option<&str>) -> &Price {
        let name = version.filter(|_| self.routing.as_ref().is_some_and(|routing| routing.has_prices));
        let known = name.and_then(|name| self.versions.iter().find(|version| version.name == name));
        known.map_or(&self.price, |version| &version.price)
    }

    /// How requests wait while this version of it, or the model that has none, has no server.
    pub fn cold_start(&self, version: Option<&str>) -> Option<&ColdStart> {
        match version {
            None => self.cold_start.as_ref(),
            Some(name) => self.versions.iter().find(|version| version.name == name)?.cold_start.as_ref(),
        }
    }
}

/// A limit.
#[derive(Clone, Debug)]
pub struct Limit {
    /// How refusals name it.
    pub name: Rc<str>,
    /// What is hashed for its name, and for its period: what was spent at one rate says nothing under another, as a bucket's state is a time.
    pub id: [u8; 8],
    /// What has a bucket of its own.
    pub per: Vec<Source>,
    /// Applies to this class only.
    pub class: Option<String>,
    /// Applies to this model only.
    pub model: Option<String>,
    /// Applies to these tenants only.
    pub tenant: Option<Whose>,
    /// Whether it refuses.
    pub mode: Mode,
    /// Of what.
    pub kind: Kind,
}

/// What is limited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Tokens over time, of this proxy.
    Rate {
        /// The bucket.
        rate: Rate,
        /// What tokens cost here.
        weights: Weights,
    },
    /// Tokens over time, of all proxies together.
    Mesh {
        /// The budget and its period.
        rate: Rate,
        /// What tokens cost here.
        weights: Weights,
        /// Who keeps the budget.
        service: Rc<RateLimitService>,
    },
    /// Requests at the same time.
    Concurrency {
        /// So many.
        max: u64,
    },
    /// What a session uses in all.
    Session(Allowance),
}

/// Tokens that are spent, by what they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spend {
    /// All of the prompt.
    pub prompt: Tokens,
    /// Those of them that the server had cached.
    pub cached: Tokens,
    /// All of the answer.
    pub output: Tokens,
}

/// What a token of a kind costs under a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weights {
    /// Prompt tokens.
    pub input: MilliTokens,
    /// Cached prompt tokens.
    pub cached: MilliTokens,
    /// Completion tokens.
    pub output: MilliTokens,
}

impl Weights {
    /// What so many tokens cost.
    pub fn cost(&self, spend: Spend) -> MilliTokens {
        let cached = spend.cached.min(spend.prompt);
        let fresh = spend.prompt.saturating_sub(cached);
        [(self.input, fresh), (self.cached, cached), (self.output, spend.output)]
            .into_iter()
            .map(|(weight, tokens)| weight.saturating_mul(tokens.0))
            .sum()
    }
}

impl Config {
    /// The model that a client asks for by this name: its own, an alias, or what the wildcard matches.
    pub fn asked(&self, name: &str) -> Option<&Model> {
        self.names.find(name).and_then(|at| self.models.get(at))
    }

    /// The model that is configured under `name`.
    pub fn model(&self, name: &str) -> Option<&Model> {
        let find = |name: &str| self.models.iter().find(|model| model.name == name);
        find(name).or_else(|| find("*"))
    }

    /// All that serves, in the order of its series: the versions, and the models that have none.
    pub fn serving(&self) -> impl Iterator<Item = (&Model, Option<&Version>)> {
        self.models.iter().flat_map(|model| {
            let unsplit = model.versions.is_empty().then_some((model, None));
            model.versions.iter().map(move |version| (model, Some(version))).chain(unsplit)
        })
    }

    /// The tenant that has the key of this hash.
    pub fn tenant_of_key(&self, hash: &[u8; 32]) -> Option<&Tenant> {
        let at = self.api_keys.binary_search_by(|(known, _)| known.cmp(hash)).ok()?;
        self.tenants.get(self.api_keys.get(at)?.1)
    }

    /// The named tenant `name`.
    pub fn tenant(&self, name: &str) -> Option<&Tenant> {
        self.tenants.get(self.tenant_place(name)?)
    }

    /// Its place among the tenants.
    pub fn tenant_place(&self, name: &str) -> Option<usize> {
        self.tenants.binary_search_by(|tenant| tenant.name.as_str().cmp(name)).ok()
    }
}
