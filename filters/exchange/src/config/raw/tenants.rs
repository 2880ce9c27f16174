//! `tenant`, `tenants` and `classes`.

use serde::Deserialize;

use super::Mode;
#[cfg(feature = "schema")]
use super::stated;

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
    pub api_keys: Vec<String>,
    /// The models that the tenant may use, of `models[].name`; `*` is every one. Another is refused like one that is not configured (404).
    /// Default: that of the tenant's class, else every one. Example: `["chat"]`.
    pub models: Option<Vec<String>>,
    /// The tenant's share where a model is nearly full, relative to the other tenants: 1 or more.
    /// Default: `1`. Example: `4`.
    pub weight: Option<u32>,
    /// Who is refused first where a model is nearly full.
    /// Default: `normal`. Example: `low`.
    pub priority: Option<Priority>,
    /// Whether every request of the tenant is refused (403).
    /// Default: `false`. Example: `true`.
    pub suspended: bool,
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
