//! The configuration's syntax: what serde reads, unchecked. Unknown keys are errors everywhere.

use std::collections::BTreeMap;

use serde::Deserialize;

/// The document.
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[expect(missing_docs, reason = "the keys are documented in the README, and checked in `check`")]
pub struct Document {
    pub tenant: TenantSources,
    pub tenants: BTreeMap<String, Tenant>,
    pub models: Vec<Model>,
    pub limits: Vec<Limit>,
    pub unreadable: Option<Policy>,
    pub unknown_model: Option<Policy>,
    pub contended: Option<Policy>,
    pub path_prefixes: Vec<String>,
    pub wait_for_body: WaitForBody,
    pub count_bytes_max: Option<u64>,
    pub tick: Option<String>,
    pub mesh: Option<Mesh>,
}

/// `mesh`
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(missing_docs, reason = "as above")]
pub struct Mesh {
    pub service: String,
    pub domain: Option<String>,
    pub timeout: Option<String>,
    pub on_error: Option<OnError>,
    pub salt: Option<String>,
}

/// `mesh.onError`
#[derive(Clone, Copy, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "as above")]
pub enum OnError {
    Open,
    Closed,
    Local,
}

/// `pass` or `refuse`.
#[derive(Clone, Copy, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "as above")]
pub enum Policy {
    Pass,
    Refuse,
}

/// `waitForBody`: `auto`, `true` or `false`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "as above")]
pub enum WaitForBody {
    #[default]
    Auto,
    Yes,
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
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[expect(missing_docs, reason = "as above")]
pub struct TenantSources {
    pub from: Vec<Source>,
    pub anonymous: Option<Anonymous>,
    pub jwt_payload: Option<String>,
}

/// `tenant.anonymous`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "as above")]
pub enum Anonymous {
    Allow,
    Deny,
}

/// An element of `from`, `sticky` or `per`.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "as above")]
pub enum Source {
    Jwt(String),
    Header(String),
    Property(Vec<String>),
    Tenant,
    Model,
}

/// A value of `tenants`.
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[expect(missing_docs, reason = "as above")]
pub struct Tenant {
    pub class: Option<String>,
    pub weight: Option<u32>,
    pub priority: Option<Priority>,
    pub suspended: bool,
}

/// `tenants.*.priority`
#[derive(Clone, Copy, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "as above")]
pub enum Priority {
    Low,
    Normal,
    High,
}

/// An element of `models`.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(missing_docs, reason = "as above")]
pub struct Model {
    pub name: String,
    pub tokenizer: Option<Tokenizer>,
    #[serde(default)]
    pub output: Output,
    #[serde(default)]
    pub price: Price,
    #[serde(default)]
    pub versions: Vec<Version>,
    #[serde(default)]
    pub sticky: Vec<Source>,
    pub guard: Option<Guard>,
    pub pending: Option<Pending>,
    pub fallback: Option<String>,
    #[serde(default)]
    pub suspended: bool,
}

/// `models[].tokenizer`: an encoding, or one that the model's own is like.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "as above")]
pub enum Tokenizer {
    #[serde(rename = "o200k_base")]
    O200kBase,
    #[serde(rename = "o200k_harmony")]
    O200kHarmony,
    #[serde(rename = "cl100k_base")]
    Cl100kBase,
    Custom,
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
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[expect(missing_docs, reason = "as above")]
pub struct Output {
    pub expect: Option<u64>,
    pub max: Option<u64>,
    pub key: Option<OutputKey>,
    pub context: Option<u64>,
}

/// `models[].output.key`
#[derive(Clone, Copy, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "as above")]
pub enum OutputKey {
    MaxTokens,
    MaxCompletionTokens,
}

/// `models[].price`, in US dollars for a million tokens.
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[expect(missing_docs, reason = "as above")]
pub struct Price {
    pub input: f64,
    pub cached: Option<f64>,
    pub output: f64,
}

/// An element of `models[].versions`.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(missing_docs, reason = "as above")]
pub struct Version {
    pub name: String,
    pub weight: u32,
    pub model: Option<String>,
}

/// `models[].guard`
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[expect(missing_docs, reason = "as above")]
pub struct Guard {
    pub min_requests: Option<u64>,
    pub errors: Option<GuardErrors>,
    pub ttft: Option<GuardTtft>,
}

/// `models[].guard.errors`
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[expect(missing_docs, reason = "as above")]
pub struct GuardErrors {
    pub confidence: Option<f64>,
}

/// `models[].guard.ttft`
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[expect(missing_docs, reason = "as above")]
pub struct GuardTtft {
    pub slower_than_ms: Option<u64>,
}

/// `models[].pending`
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[expect(missing_docs, reason = "as above")]
pub struct Pending {
    pub per_replica: Option<u64>,
    pub ceiling: Option<u64>,
    pub when_full: Option<WhenFull>,
}

/// `models[].pending.whenFull`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "as above")]
pub enum WhenFull {
    Shed,
    Fallback,
}

/// An element of `limits`: one of `tokens`, `concurrent` and `session`.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(missing_docs, reason = "as above")]
pub struct Limit {
    pub name: String,
    #[serde(default)]
    pub per: Vec<Source>,
    #[serde(default, rename = "match")]
    pub matches: Match,
    pub tokens: Option<u64>,
    pub every: Option<String>,
    pub burst: Option<u64>,
    pub scope: Option<Scope>,
    pub cost: Option<Cost>,
    pub concurrent: Option<u64>,
    pub session: Option<Session>,
}

/// `limits[].match`
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[expect(missing_docs, reason = "as above")]
pub struct Match {
    pub class: Option<String>,
    pub model: Option<String>,
}

/// `limits[].scope`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "as above")]
pub enum Scope {
    Proxy,
    Mesh,
}

/// `limits[].cost`
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[expect(missing_docs, reason = "as above")]
pub struct Cost {
    pub input: Option<f64>,
    pub cached: Option<f64>,
    pub output: Option<f64>,
}

/// `limits[].session`
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[expect(missing_docs, reason = "as above")]
pub struct Session {
    pub tokens: Option<u64>,
    pub calls: Option<u64>,
    pub tool_calls: Option<u64>,
    pub wall_clock: Option<String>,
}
