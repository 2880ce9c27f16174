//! `limits` and `mesh`.

use serde::Deserialize;

#[cfg(feature = "schema")]
use super::common::stated;
use super::common::{Mode, Source};

/// An element of `limits`: one of `tokens`, `concurrent` and `session`.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(transform = stated))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Limit {
    /// The limit's name: the value of `x-penstock-limit`, and what refusals say.
    /// Required. Example: `tenant-tpm`.
    pub name: String,
    /// What has a bucket of its own; several sources count together.
    /// Default: none, all callers share one. Example: `["tenant", "model"]`.
    #[serde(default)]
    pub per: Vec<Source>,
    /// Which requests the limit applies to.
    /// Default: none, it applies to all. Example: `{"class": "gold"}`.
    #[serde(default, rename = "match")]
    pub matches: Match,
    /// Tokens for each period of `every`, from 1 to 2^40.
    /// Default: none; each limit has one of `tokens`, `concurrent` and `session`. Example: `60000`.
    pub tokens: Option<u64>,
    /// The period in which `tokens` come back, evenly: a duration such as `30s`, `5m`, `1h` or `1d`.
    /// Required with `tokens`. Default: none. Example: `1m`.
    pub every: Option<String>,
    /// The most tokens that a bucket holds.
    /// Default: that of `tokens`. Example: `120000`.
    pub burst: Option<u64>,
    /// Who shares the limit.
    /// Default: `proxy`. Example: `mesh`.
    pub scope: Option<Scope>,
    /// What a token costs under this limit, by its kind.
    /// Default: none, each costs 1. Example: `{"input": 1, "cached": 0.1, "output": 4}`.
    pub cost: Option<Cost>,
    /// How many requests may be open at the same time, 1 or more.
    /// Default: none. Example: `16`.
    pub concurrent: Option<u64>,
    /// What a session may use in all; no time refills it.
    /// Default: none. Example: `{"tokens": 200000, "calls": 50}`.
    pub session: Option<Session>,
    /// Whether the limit is enforced or only observed. What an observed limit would have refused is not charged to it.
    /// Default: `enforce`. Example: `observe`.
    pub mode: Option<Mode>,
}

/// `limits[].match`
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(transform = stated))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Match {
    /// Only tenants of this class.
    /// Default: none. Example: `gold`.
    pub class: Option<String>,
    /// Only this model, one of `models[].name`.
    /// Default: none. Example: `chat`.
    pub model: Option<String>,
    /// Only this tenant, one of `tenants`; or `unnamed`, which is whoever is not under `tenants`, with an identity or without.
    /// Default: none. Example: `unnamed`.
    pub tenant: Option<String>,
}

/// `limits[].scope`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub enum Scope {
    /// All workers of one proxy.
    Proxy,
    /// All proxies, by way of the service under `mesh`.
    Mesh,
}

/// `limits[].cost`
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(transform = stated))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Cost {
    /// What a prompt token costs, from 0 to 1000.
    /// Default: `1`. Example: `0.5`.
    pub input: Option<f64>,
    /// What a prompt token costs that the server had cached, from 0 to 1000.
    /// Default: that of `input`. Example: `0.1`.
    pub cached: Option<f64>,
    /// What a generated token costs, from 0 to 1000.
    /// Default: `1`. Example: `4`.
    pub output: Option<f64>,
}

/// `limits[].session`
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(transform = stated))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Session {
    /// Tokens of prompts and answers, in all.
    /// Default: none. Example: `200000`.
    pub tokens: Option<u64>,
    /// Requests, in all.
    /// Default: none. Example: `50`.
    pub calls: Option<u64>,
    /// Tools that the model may call, in all.
    /// Default: none. Example: `100`.
    pub tool_calls: Option<u64>,
    /// How long the session may last from its first request: a duration.
    /// Default: none. Example: `10m`.
    pub wall_clock: Option<String>,
}

/// `mesh`
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(transform = stated))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Mesh {
    /// The proxy's cluster that speaks `envoy.service.ratelimit.v3` by gRPC, at most 120 bytes long.
    /// Required. Example: `ratelimit`.
    pub service: String,
    /// The domain of the limits in the service's configuration.
    /// Default: `penstock`. Example: `llm`.
    pub domain: Option<String>,
    /// How long the service may take to answer: a duration from `1ms` to `10s`.
    /// Default: `100ms`. Example: `50ms`.
    pub timeout: Option<String>,
    /// What holds while the service does not answer.
    /// Default: `local`. Example: `closed`.
    pub on_error: Option<OnError>,
    /// The key of the hashes under which callers are named to the service, the same on all proxies. Without it anybody can make these
    /// hashes, and the log says so.
    /// Default: none. Example: `change me`.
    pub salt: Option<String>,
}

/// `mesh.onError`
#[derive(Clone, Copy, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub enum OnError {
    /// The limit does not hold.
    Open,
    /// Requests that no lease covers are refused (503).
    Closed,
    /// Each proxy holds the limit by itself.
    Local,
}
