//! `models`.

use serde::Deserialize;

#[cfg(feature = "schema")]
use super::common::stated;
use super::common::{Mode, Size, Source};
use super::guard::Guard;
use super::routing::{Bounds, Override, Owns, Rule, Shadow, Weight};

/// An element of `models`.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(transform = stated))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Model {
    /// What clients put in `model`; `*` is every model that has no entry of its own.
    /// Required. Example: `chat`.
    pub name: String,
    /// What clients may call the model besides, at most 64 entries: a name, or a prefix that ends in `*`. Names and exact aliases come
    /// first, then the longest prefix. Limits, labels and logs use the model's own name; the request keeps the client's.
    /// Default: none. Example: `["gpt-4o", "claude-*"]`.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// How to count the model's tokens.
    /// Default: `o200k_base`, or the first encoding that is built into the module. Example: `{"like": "o200k_base"}`.
    pub tokenizer: Option<Tokenizer>,
    /// How much the model may generate, and what to expect.
    /// Default: none. Example: `{"expect": 256, "max": 4096}`.
    #[serde(default)]
    pub output: Output,
    /// What tokens cost, in US dollars for a million of them, for `penstock_cost_microdollars_total`.
    /// Default: none. Example: `{"input": 0.15, "output": 0.60}`.
    #[serde(default)]
    pub price: Price,
    /// What the model's images, sounds, films and documents cost in tokens where the request only names them, so that their size is not in
    /// it. What is in the request is estimated by its size.
    /// Default: none. Example: `{"file": 20000}`.
    #[serde(default)]
    pub media: Media,
    /// The versions between which requests are split, at most 8; the first is the stable one.
    /// Default: none, the model is not split. Example: `[{"name": "stable", "weight": 95}, {"name": "canary", "weight": 5}]`.
    #[serde(default)]
    pub versions: Vec<Version>,
    /// What pins a caller to a version; the first source that has a value wins. Without a value each request is drawn anew.
    /// Default: none. Example: `[{"header": "x-session-id"}, "tenant"]`.
    #[serde(default)]
    pub sticky: Vec<Source>,
    /// Who may choose a version, and how: before anything is drawn, also one of weight 0.
    /// Default: none. Example: `{"header": "x-version", "tenants": ["qa"]}`.
    #[serde(rename = "override")]
    pub choosers: Option<Override>,
    /// The version that serves everybody, whatever the weights are: for blue and green.
    /// Default: none, the weights decide. Example: `green`.
    pub active: Option<String>,
    /// Which versions serve which requests: the first rule that holds decides, and without one that does, all versions serve.
    /// Default: none. Example: `[{"name": "long-prompts", "when": {"promptTokensFrom": 16000}, "versions": ["long"]}]`.
    #[serde(default)]
    pub rules: Vec<Rule>,
    /// Which requests are marked for the route to copy them, in `x-penstock-shadow`.
    /// Default: none. Example: `{"version": "next", "percent": 5}`.
    pub shadow: Option<Shadow>,
    /// Who owns the weights.
    /// Default: `split`. Example: `pin`.
    pub owns: Option<Owns>,
    /// When to take a version back, by what becomes of its requests and of the stable version's. Each proxy finds out for itself. Counts from
    /// the beginning where the version, the stable one or this section changes, and where its weight was 0.
    /// Default: none. Example: `{"errors": {"confidence": 0.99}, "ttft": {"slowerThanMs": 2000}}`.
    pub guard: Option<Guard>,
    /// What to do with a version that fails: whether requests go to the other versions, or to `fallback`, until it answers again.
    /// Default: none, it goes on. Example: `{"mode": "enforce"}`.
    pub breaker: Option<Breaker>,
    /// What one replica does, for autoscaling. What is given wins over what is learnt, and what a version gives over what its model does.
    /// Default: learnt. Example: `{"prefillTokensPerSecond": 12000, "decodeTokensPerSecond": 1800}`.
    #[serde(default)]
    pub replica: Replica,
    /// What to do with requests while there is no server for them: they wait until a probe succeeds. Needs headers that wait for the body.
    /// Default: none, the proxy answers 503. Example: `{"cluster": "chat-stable", "hold": "120s"}`.
    pub cold_start: Option<ColdStart>,
    /// How many tokens may be pending: admitted, and not yet done.
    /// Default: none. Example: `{"ceiling": 400000, "whenFull": "shed"}`.
    pub pending: Option<Pending>,
    /// The model that is served instead while all versions of this one fail where there is a `breaker`, and while it is full where `pending.whenFull` is `fallback`.
    /// Default: none. Example: `chat-small`.
    pub fallback: Option<String>,
    /// Whether every request for the model is refused (503).
    /// Default: `false`. Example: `true`.
    #[serde(default)]
    pub suspended: bool,
}

/// `models[].tokenizer`: an encoding, or one that the model's own is like.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Tokenizer {
    /// The encoding of GPT-4o and later models, counted exactly.
    #[serde(rename = "o200k_base")]
    O200kBase,
    /// The encoding of the gpt-oss models, counted exactly.
    #[serde(rename = "o200k_harmony")]
    O200kHarmony,
    /// The encoding of GPT-4 and GPT-3.5, counted exactly.
    #[serde(rename = "cl100k_base")]
    Cl100kBase,
    /// The vocabulary that `cargo xtask build --vocab` built into the module, counted exactly.
    Custom,
    /// An encoding that the model's own is like, for models whose vocabulary is not built in. Counts are estimates, which learn from what
    /// the model server reports. Example: `o200k_base`.
    Like(String),
}

impl Tokenizer {
    /// The encoding's name, and whether the model's own is only like it.
    pub fn name(&self) -> (&str, bool) {
        match self {
            Self::O200kBase => ("o200k_base", false),
            Self::O200kHarmony => ("o200k_harmony", false),
            Self::Cl100kBase => ("cl100k_base", false),
            Self::Custom => ("custom", false),
            Self::Like(name) => (name, true),
        }
    }
}

/// `models[].output`
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(transform = stated))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Output {
    /// Tokens to reserve for the answer where the client sets no ceiling, until it is learnt from 20 answers of the model to the tenant, or
    /// of at least three tenants of its class.
    /// Default: `256`. Example: `512`.
    pub expect: Option<u64>,
    /// The most tokens that a client may ask for. This ceiling is written into requests that ask for more or set none.
    /// Default: none. Example: `4096`.
    pub max: Option<u64>,
    /// How a ceiling is written into a chat request that has none.
    /// Default: `max_tokens`. Example: `max_completion_tokens`.
    pub key: Option<OutputKey>,
    /// Tokens of prompt and answer together that the model takes. A longer prompt is refused (400, `context_length_exceeded`); where the
    /// prompt's count is an estimate, one of twice as many tokens. What is reserved, and the ceiling that is written into a request, leave
    /// room for the prompt: the least of the client's ceiling, `output.max`, and `context` less the prompt.
    /// Default: none. Example: `8192`.
    pub context: Option<u64>,
}

/// `models[].output.key`
#[derive(Clone, Copy, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum OutputKey {
    /// As most model servers take it.
    MaxTokens,
    /// As newer OpenAI models want it.
    MaxCompletionTokens,
}

/// `models[].price`, in US dollars for a million tokens.
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(transform = stated))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Price {
    /// US dollars for a million prompt tokens.
    /// Default: `0`. Example: `0.15`.
    pub input: f64,
    /// US dollars for a million prompt tokens that the server had cached.
    /// Default: that of `input`. Example: `0.075`.
    pub cached: Option<f64>,
    /// US dollars for a million generated tokens.
    /// Default: `0`. Example: `0.6`.
    pub output: f64,
}

/// `models[].media`, in tokens for each one.
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(transform = stated))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Media {
    /// Tokens of an image that is sent as a URL or an id.
    /// Default: by the documented rules, as one of unknown size. Example: `1600`.
    pub image: Option<u64>,
    /// Tokens of a sound that is sent as a URL or an id.
    /// Default: none, such requests are refused (400). Example: `2000`.
    pub audio: Option<u64>,
    /// Tokens of a film that is sent as a URL or an id.
    /// Default: none, such requests are refused (400). Example: `16000`.
    pub video: Option<u64>,
    /// Tokens of a document that is sent as a URL or an id.
    /// Default: none, such requests are refused (400). Example: `20000`.
    pub file: Option<u64>,
}

/// An element of `models[].versions`.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(transform = stated))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Version {
    /// The version's name: the label `version`, and the value of `x-penstock-version`.
    /// Required. Example: `canary`.
    pub name: String,
    /// The version's share, relative to the sum of all weights of the model; 0 is none.
    /// Default: none, it has to be written, unless `active` or `owns: pin` say who serves. Example: `5`.
    pub weight: Option<Weight>,
    /// What is written into the request's `model`.
    /// Default: none, it stays as it is. Example: `llama-3.1-8b-r2`.
    pub model: Option<String>,
    /// What its tokens cost, where that is not what the model's do.
    /// Default: what the model says. Example: `{"input": 0.05, "output": 0.20}`.
    pub price: Option<Price>,
    /// How full it may be where `prefer` chooses.
    /// Default: none. Example: `{"pendingTokens": 100000}`.
    #[serde(default)]
    pub bounds: Bounds,
    /// The cluster of the proxy that it is behind, by which it is known that it served under `owns: pin`: in Istio
    /// `outbound|8000|canary|chat.llm.svc.cluster.local`.
    /// Default: none, the route says so in the response header `x-penstock-version`. Example: `chat-canary`.
    pub cluster: Option<String>,
    /// What one replica of this version does.
    /// Default: what the model's does. Example: `{"decodeTokensPerSecond": 2400}`.
    #[serde(default)]
    pub replica: Replica,
    /// What to do with requests while the version has no server. What it does not say, its model's says.
    /// Default: what the model's does. Example: `{"cluster": "chat-canary"}`.
    pub cold_start: Option<ColdStart>,
}

/// `models[].coldStart` and `models[].versions[].coldStart`
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(transform = stated))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ColdStart {
    /// The cluster of the proxy that requests go to, as the proxy calls it: in Istio `outbound|8000||chat-stable.llm.svc.cluster.local`, with
    /// the name of a subset between the two bars. The model or the version has to name one.
    /// Default: none. Example: `chat-stable`.
    pub cluster: Option<String>,
    /// The path that is asked for by GET. Any answer below 500 says that there is a server.
    /// Default: `/health`. Example: `/v1/models`.
    pub probe: Option<String>,
    /// For how long a request waits before it is answered 503: a duration from `1s` to `1h`, shorter than what clients and load balancers wait.
    /// Default: `120s`. Example: `50s`.
    pub hold: Option<String>,
    /// How many requests may wait, over all workers of the proxy, from 1 to 10,000; further ones are answered 503.
    /// Default: `500`. Example: `2000`.
    pub max_held: Option<u64>,
    /// How many bytes the bodies of all of them may have, over all workers of the proxy: a number, or one of `Ki`, `Mi` and `Gi`, from `64Ki`
    /// to `4Gi`.
    /// Default: `64Mi`. Example: `256Mi`.
    pub max_held_bytes: Option<Size>,
}

/// `models[].replica` and `models[].versions[].replica`
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(transform = stated))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Replica {
    /// Prompt tokens that a replica reads in a second, of those that it has not cached; at least 1.
    /// Default: learnt from the time to the first token of streams. Example: `12000`.
    pub prefill_tokens_per_second: Option<f64>,
    /// Tokens that a replica generates in a second, for all requests at a time together; at least 1.
    /// Default: learnt, a lower bound: the most that a server did. Example: `1800`.
    pub decode_tokens_per_second: Option<f64>,
}

/// `models[].breaker`
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(transform = stated))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Breaker {
    /// Whether a version that fails is left alone, or that is only shown.
    /// Default: `enforce`. Example: `observe`.
    pub mode: Option<Mode>,
}

/// `models[].pending`
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(transform = stated))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Pending {
    /// Pending tokens that are one replica's work. The autoscaling manifests divide by it; the filters do not use it.
    /// Default: none. Example: `24000`.
    pub per_replica: Option<u64>,
    /// How many tokens of the model may be pending, over all workers of the proxy.
    /// Default: none. Example: `400000`.
    pub ceiling: Option<u64>,
    /// What happens above the ceiling.
    /// Default: `shed`. Example: `fallback`.
    pub when_full: Option<WhenFull>,
    /// Whether the ceiling is enforced or only observed.
    /// Default: `enforce`. Example: `observe`.
    pub mode: Option<Mode>,
}

/// `models[].pending.whenFull`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub enum WhenFull {
    /// Requests are refused (503).
    Shed,
    /// Requests are served by the model that `fallback` names.
    Fallback,
}
