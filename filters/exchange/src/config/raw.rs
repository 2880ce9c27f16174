//! The configuration's syntax: what serde reads, unchecked. Unknown keys are errors everywhere.

mod models;
mod tenants;

use std::collections::BTreeMap;

use serde::Deserialize;

pub use models::*;
pub use tenants::*;

/// The document.
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(transform = stated))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Document {
    /// Where the tenant of a request comes from.
    /// Default: none, every caller is anonymous. Example: `{"from": [{"jwt": "org_id"}]}`.
    pub tenant: TenantSources,
    /// Tenants by name, at most 10,000. They alone have a label of their own in metrics; all others are `other`.
    /// Default: none. Example: `{"acme": {"class": "gold"}}`.
    pub tenants: BTreeMap<String, Tenant>,
    /// Classes of tenants by name, where there is something to say of them. A class that no tenant is in does no harm.
    /// Default: none. Example: `{"gold": {"models": ["chat"]}}`.
    pub classes: BTreeMap<String, Class>,
    /// The models that are served, at most 128.
    /// Default: none. Example: `[{"name": "chat"}]`.
    pub models: Vec<Model>,
    /// What callers may use, at most 64 entries. A request is charged under every entry that applies to it, or under none of them.
    /// Default: none. Example: `[{"name": "tenant-tpm", "per": ["tenant"], "tokens": 60000, "every": "1m"}]`.
    pub limits: Vec<Limit>,
    /// What happens to a body that cannot be read, on a path that generates tokens. One that passes is neither counted nor limited.
    /// Default: `refuse` (400). Example: `pass`.
    pub unreadable: Option<Policy>,
    /// What happens to a request for a model that is neither in `models[].name` nor in `models[].aliases`. One that passes is counted,
    /// limited and labelled as the model `other`, by an estimate; what `versions[].model` names never passes.
    /// Default: `refuse` (404); without `models` it is `pass`. Example: `observe`.
    pub unknown_model: Option<UnknownModel>,
    /// The model of requests that name none, one of `models[].name`. Nothing is written into their bodies, unless a version has a name of
    /// its own. Without it, requests to the Responses API that name none, as those with a prompt template do, go to the model `*` where it
    /// is configured, and others are refused (400).
    /// Default: none. Example: `chat`.
    pub default_model: Option<String>,
    /// What happens to a request whose answer is worked on after the response has ended (`background: true` in the Responses API). Under
    /// `reserve` it stays charged what was reserved for it, as what it uses is never reported here.
    /// Default: `refuse` (400). Example: `reserve`.
    pub background: Option<Background>,
    /// What happens where a limit's state could not be updated, because other workers kept winning the update or because too many callers
    /// share a page of it. A request that passes is not limited.
    /// Default: `refuse` (503). Example: `pass`.
    pub contended: Option<Policy>,
    /// Paths that may stand in front of the APIs' own paths, as in `/openai/v1/chat/completions`. Each begins with a slash and does not end
    /// with one.
    /// Default: none. Example: `["/openai"]`.
    pub path_prefixes: Vec<String>,
    /// On a gateway that others share: the hosts that Penstock is for. Each is a domain, or the name of one of the proxy's virtual hosts,
    /// without wildcards. What goes to others passes untouched.
    /// Default: none, it is for all. Example: `["llm.example.com"]`.
    pub hosts: Vec<String>,
    /// Who answers requests that ask what a prompt costs, `POST /v1/messages/count_tokens` and `POST /v1/responses/input_tokens`. They are
    /// charged nothing, and refused to whom the limits give nothing more.
    /// Default: `answer`. Example: `forward`.
    pub count_endpoints: Option<CountEndpoints>,
    /// Who answers `GET /v1/models` and `GET /v1/models/NAME`. Where a model is called `*`, the server does.
    /// Default: `answer`. Example: `forward`.
    pub models_endpoint: Option<ModelsEndpoint>,
    /// Which requests pass besides those to the APIs' own paths.
    /// Default: none, everything else is refused (404) where `models` is set. Example: `{"allow": ["/v1/audio/*"], "public": ["/health"]}`.
    pub paths: Option<Paths>,
    /// Whether the headers of a request may wait until its body has been read: `true`, `false`, or `auto`, which finds out on the first
    /// requests.
    /// Default: `auto`. Example: `true`.
    pub wait_for_body: WaitForBody,
    /// How many bytes of a request's texts are counted exactly. The rest is extrapolated, and the count is marked as estimated. In bytes.
    /// Default: `4194304`. Example: `1048576`.
    pub count_bytes_max: Option<u64>,
    /// The period of heartbeats and gauges: a duration from `50ms` to `10s`.
    /// Default: `500ms`. Example: `250ms`.
    pub tick: Option<String>,
    /// The rate limit service behind limits with `scope: mesh`, which need this section.
    /// Default: none. Example: `{"service": "ratelimit", "salt": "change me"}`.
    pub mesh: Option<Mesh>,
}

/// `countEndpoints`
#[derive(Clone, Copy, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub enum CountEndpoints {
    /// They are answered here, for models whose encoding is built in; for others the server answers.
    Answer,
    /// The server answers.
    Forward,
    /// Nobody answers (404).
    Refuse,
}

/// `modelsEndpoint`
#[derive(Clone, Copy, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub enum ModelsEndpoint {
    /// It is answered here: with the models that are configured and that the tenant may use.
    Answer,
    /// The server answers.
    Forward,
}

/// `paths`
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(transform = stated))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Paths {
    /// Paths that pass by every method, and with upgrades such as websockets: exact ones, and with `/*` at the end everything below one.
    /// They are neither counted nor limited. An API's own path is opened to other methods and upgrades only where it is named itself.
    /// Default: none. Example: `["/v1/audio/*", "/v1/realtime"]`.
    pub allow: Vec<String>,
    /// What happens to all other requests that are not `GET`, `HEAD` or `OPTIONS`, or ask for an upgrade. What is written otherwise than an
    /// API's own path and might still be read as that is refused in any case.
    /// Default: `refuse` (404). Example: `pass`.
    pub other: Option<Policy>,
    /// Whether that is enforced or only observed.
    /// Default: `enforce`. Example: `observe`.
    pub mode: Option<Mode>,
    /// Paths that callers without an identity may ask for, written as in `allow`. It opens no method that is not open otherwise.
    /// Default: none. Example: `["/health"]`.
    pub public: Vec<String>,
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

/// `pass` or `refuse`.
#[derive(Clone, Copy, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub enum Policy {
    /// The request passes.
    Pass,
    /// The request is refused.
    Refuse,
}

/// `unknownModel`: `refuse`, `pass` or `observe`.
#[derive(Clone, Copy, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub enum UnknownModel {
    /// The request is refused (404).
    Refuse,
    /// The request is served as the model `other`.
    Pass,
    /// The same, and it is counted, told in `x-penstock-would` and left in the access log that it would be refused.
    Observe,
}

/// `background`
#[derive(Clone, Copy, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub enum Background {
    /// The request is refused (400).
    Refuse,
    /// The request stays charged what was reserved.
    Reserve,
}

/// `mode`: whether what is decided is done.
#[derive(Clone, Copy, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub enum Mode {
    /// What is to be refused is refused.
    Enforce,
    /// What would be refused goes on, and is counted, told in `x-penstock-would` and left in the access log.
    Observe,
}

/// `waitForBody`: `auto`, `true` or `false`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WaitForBody {
    /// It is found out on the first requests.
    #[default]
    Auto,
    /// They may.
    Yes,
    /// They may not.
    No,
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for WaitForBody {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "WaitForBody".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"enum": ["auto", true, false]})
    }
}

impl<'de> Deserialize<'de> for WaitForBody {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = WaitForBody;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("auto, true or false")
            }
            fn visit_bool<E>(self, value: bool) -> Result<WaitForBody, E> {
                Ok(if value { WaitForBody::Yes } else { WaitForBody::No })
            }
            fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<WaitForBody, E> {
                match value {
                    "auto" => Ok(WaitForBody::Auto),
                    _ => Err(E::invalid_value(serde::de::Unexpected::Str(value), &self)),
                }
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// An element of `sticky` or `per`.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub enum Source {
    /// A claim of the token that `envoy.filters.http.jwt_authn` verified. Example: `org_id`.
    Jwt(String),
    /// A request header, by its name. Its value is hashed before it becomes a key, a label or a field of the log. Example: `x-api-key`.
    Header(String),
    /// A property of the request, by its path. Example: `["connection", "uri_san_peer_certificate"]`.
    Property(Vec<String>),
    /// The tenant.
    Tenant,
    /// The model.
    Model,
}

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

/// Writes the default and the example that each key's description states to where tools look for them.
#[cfg(feature = "schema")]
fn stated(schema: &mut schemars::Schema) {
    let keys = schema.get_mut("properties").and_then(serde_json::Value::as_object_mut);
    for key in keys.into_iter().flat_map(serde_json::Map::values_mut).filter_map(serde_json::Value::as_object_mut) {
        let said = key.get("description").and_then(serde_json::Value::as_str).unwrap_or_default().to_owned();
        let value = |word: &str| {
            let text = said.split_once(word)?.1.split('`').next()?;
            Some(serde_json::from_str(text).unwrap_or_else(|_| serde_json::Value::from(text)))
        };
        key.remove("default");
        key.extend(value("Default: `").map(|value| ("default".to_owned(), value)));
        key.extend(value("Example: `").map(|value| ("examples".to_owned(), serde_json::Value::from(vec![value]))));
    }
}
