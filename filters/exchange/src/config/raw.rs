//! The configuration's syntax: what serde reads, unchecked. Unknown keys are errors everywhere.

mod common;
mod feedback;
mod guard;
mod limits;
mod models;
mod routing;

use std::collections::BTreeMap;

use serde::Deserialize;

#[cfg(feature = "schema")]
use common::stated;
pub use common::{BodyKey, Mode, Size, Source};
pub use feedback::Feedback;
pub use guard::{
    Guard, GuardCategory, GuardCost, GuardErrors, GuardInterToken, GuardLength, GuardOutcome, GuardTenants, GuardTtft,
    Worse,
};
pub use limits::{Cost, Limit, Match, Mesh, OnError, Scope, Session};
pub use models::{
    Breaker, ColdStart, Media, Model, Output, OutputKey, Pending, Price, Replica, Tokenizer, Version, WhenFull,
};
pub use routing::{Bounds, Override, Owns, Prefer, Rule, Shadow, Weight, When};

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
    /// Classes of tenants by name, where there is something to say of them; `unnamed` is whoever is not under `tenants`. A class that no tenant
    /// is in does no harm.
    /// Default: none. Example: `{"gold": {"models": ["chat"]}}`.
    pub classes: BTreeMap<String, Class>,
    /// The models that are served, at most 128.
    /// Default: none. Example: `[{"name": "chat"}]`.
    pub models: Vec<Model>,
    /// Whether callers may say what they think of answers: the name of a request is `x-penstock-request-id` of its answer.
    /// Default: none, they may not. Example: `{"path": "/penstock/feedback"}`.
    pub feedback: Option<Feedback>,
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
    /// without wildcards. What goes to virtual hosts of other domains passes untouched; one of a free name may serve any domain, and passes
    /// only where this list has names of virtual hosts alone.
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
    /// How long a compressed request may become when it is decoded; longer ones are refused (413). In bytes, up to 64 MiB.
    /// Default: `4194304`. Example: `16777216`.
    pub decoded_bytes_max: Option<u64>,
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

/// `tenant`
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(transform = stated))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct TenantSources {
    /// Where to look for the caller's identity. The first verified source that has a value wins: `jwt`, `apiKey`, a certificate's field, or a
    /// header that is `trusted`; without one, the first of the others. Only verified sources lead to a name in `tenants`.
    /// Default: none. Example: `[{"jwt": "org_id"}, {"apiKey": {"header": "authorization"}}]`.
    pub from: Vec<TenantSource>,
    /// Whether callers without an identity are served.
    /// Default: `deny`; `allow` where `from` is empty. Example: `allow`.
    pub anonymous: Option<Anonymous>,
    /// The key under which `envoy.filters.http.jwt_authn` leaves the verified claims (`payload_in_metadata`).
    /// Default: none; Envoy's own `jwt_payload` and Istio's `payload` are both read. Example: `claims`.
    pub jwt_payload: Option<String>,
    /// Whether who may not ask is refused (401, 403), or only observed.
    /// Default: `enforce`. Example: `observe`.
    pub mode: Option<Mode>,
}

/// An element of `tenant.from`: one of `jwt`, `apiKey`, `header` and `property`.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(transform = stated))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct TenantSource {
    /// A claim of the token that `envoy.filters.http.jwt_authn` verified.
    /// Default: none. Example: `org_id`.
    pub jwt: Option<String>,
    /// A key that a tenant has under `apiKeys`. One that nobody has is refused (401), unless another source has a verified tenant.
    /// Default: none. Example: `{"header": "authorization"}`.
    pub api_key: Option<ApiKey>,
    /// A request header, by its name. Its value is hashed before it becomes a key, a label or a field of the log.
    /// Default: none. Example: `x-tenant`.
    pub header: Option<String>,
    /// Whether a filter in front of this one sets the header, and takes away what a client sends under its name: only then it may lead to a
    /// name in `tenants`.
    /// Default: `false`. Example: `true`.
    pub trusted: Option<bool>,
    /// A property of the request, by its path. Verified are the fields of the client's certificate.
    /// Default: none. Example: `["connection", "uri_san_peer_certificate"]`.
    pub property: Option<Vec<String>>,
}

/// `tenant.from[].apiKey`
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(transform = stated))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ApiKey {
    /// The request header that has the key, with or without `Bearer`.
    /// Required. Example: `authorization`.
    pub header: String,
}

/// `tenant.anonymous`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub enum Anonymous {
    /// They are served, as the tenant `anonymous`.
    Allow,
    /// They are refused (401).
    Deny,
}

/// A value of `tenants`.
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(transform = stated))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Tenant {
    /// A class of tenants, for `match` in limits and for what is learnt about the length of answers.
    /// Default: none. Example: `gold`.
    pub class: Option<String>,
    /// The tenant's keys for `{"apiKey": …}` in `tenant.from`, at most 16 at a time, so that they can be changed one by one: `sha256:` and the
    /// SHA-256 of the key in lower-case hexadecimal.
    /// Default: none. Example: `["sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"]`.
    pub api_keys: Option<Box<Vec<String>>>,
    /// The models that the tenant may use, of `models[].name`; `*` is every one. Another is refused like one that is not configured (404).
    /// Default: that of the tenant's class, else every one. Example: `["chat"]`.
    pub models: Option<Box<Vec<String>>>,
    /// The tenant's share where a model is nearly full, relative to the other tenants: 1 or more.
    /// Default: `1`. Example: `4`.
    pub weight: Option<u32>,
    /// Who is refused first where a model is nearly full.
    /// Default: `normal`. Example: `low`.
    pub priority: Option<Priority>,
    /// Whether every request of the tenant is refused (403).
    /// Default: `false`. Example: `true`.
    pub suspended: bool,
    /// Whether the tenant sends probes (`penstock probe`): of the limits only those apply that no other tenant pays into, with `tenant` in `per`
    /// or its own name in `match`.
    /// Default: `false`. Example: `true`.
    pub probe: bool,
}

/// A value of `classes`.
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(transform = stated))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Class {
    /// The models that tenants of the class may use, of `models[].name`; `*` is every one. A tenant's own list replaces it.
    /// Default: none, every one. Example: `["chat"]`.
    pub models: Option<Vec<String>>,
}

/// `tenants.*.priority`
#[derive(Clone, Copy, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub enum Priority {
    /// Refused first, from seven tenths of the ceiling on.
    Low,
    /// Admitted up to the tenant's share.
    Normal,
    /// Admitted up to the ceiling, whatever the tenant holds.
    High,
}
