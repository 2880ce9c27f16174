//! The configuration's syntax: what serde reads, unchecked. Unknown keys are errors everywhere.

use std::collections::BTreeMap;

use serde::Deserialize;

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
    /// The versions between which requests are split, at most 8; the first is the stable one.
    /// Default: none, the model is not split. Example: `[{"name": "stable", "weight": 95}, {"name": "canary", "weight": 5}]`.
    #[serde(default)]
    pub versions: Vec<Version>,
    /// What pins a caller to a version; the first source that has a value wins. Without a value each request is drawn anew.
    /// Default: none. Example: `[{"header": "x-session-id"}, "tenant"]`.
    #[serde(default)]
    pub sticky: Vec<Source>,
    /// When to take a version back. Accepted, but without effect so far: the log says so at load.
    /// Default: none. Example: `{"minRequests": 200}`.
    pub guard: Option<Guard>,
    /// How many tokens may be pending: admitted, and not yet done.
    /// Default: none. Example: `{"ceiling": 400000, "whenFull": "shed"}`.
    pub pending: Option<Pending>,
    /// The model that is served instead while this one is full; `pending.whenFull: fallback` needs it.
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

/// An element of `models[].versions`.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(transform = stated))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Version {
    /// The version's name: the label `version`, and the value of `x-penstock-version`.
    /// Required. Example: `canary`.
    pub name: String,
    /// The version's share, relative to the sum of all weights of the model; 0 is none.
    /// Required. Example: `5`.
    pub weight: u32,
    /// What is written into the request's `model`.
    /// Default: none, it stays as it is. Example: `llama-3.1-8b-r2`.
    pub model: Option<String>,
}

/// `models[].guard`
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(transform = stated))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Guard {
    /// How many requests a version has to serve before it is judged. Without effect so far.
    /// Default: none. Example: `200`.
    pub min_requests: Option<u64>,
    /// Judges a version by its errors. Without effect so far.
    /// Default: none. Example: `{"confidence": 0.99}`.
    pub errors: Option<GuardErrors>,
    /// Judges a version by its time to the first token. Without effect so far.
    /// Default: none. Example: `{"slowerThanMs": 2000}`.
    pub ttft: Option<GuardTtft>,
}

/// `models[].guard.errors`
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(transform = stated))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct GuardErrors {
    /// How sure to be that the version fails more often than the stable one, from 0 to 1. Without effect so far.
    /// Default: none. Example: `0.99`.
    pub confidence: Option<f64>,
}

/// `models[].guard.ttft`
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(transform = stated))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct GuardTtft {
    /// From how many milliseconds to the first token on a request counts as slow. Without effect so far.
    /// Default: none. Example: `2000`.
    pub slower_than_ms: Option<u64>,
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
