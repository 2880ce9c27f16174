//! How a version is chosen: what `models` have beside the versions themselves.

use serde::Deserialize;

#[cfg(feature = "schema")]
use super::common::stated;

/// A version's share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weight(pub u32);

#[cfg(feature = "schema")]
impl schemars::JsonSchema for Weight {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Weight".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"type": "integer", "minimum": 0, "maximum": u32::MAX})
    }
}

impl<'de> Deserialize<'de> for Weight {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Weight;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a weight, which is a whole number from 0 to 4294967295; write 5, or 0 for no share")
            }
            fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Weight, E> {
                let wrong = || E::invalid_value(serde::de::Unexpected::Unsigned(value), &self);
                u32::try_from(value).map(Weight).map_err(|_| wrong())
            }
        }
        deserializer.deserialize_u64(Visitor)
    }
}

/// `models[].owns`: who owns the weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub enum Owns {
    /// Penstock: it draws, and routes follow `x-penstock-version`.
    Split,
    /// The route, as where Argo Rollouts or Flagger move its weights. Penstock sees which version served, and lets a caller with a sticky
    /// value come back to it.
    Pin,
}

/// `models[].shadow`
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(transform = stated))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Shadow {
    /// The version that gets copies: the value of `x-penstock-shadow`, for a route that mirrors.
    /// Required. Example: `next`.
    pub version: String,
    /// How much of the requests is copied, in percent: of callers where they have a sticky value. More than 0, up to 100.
    /// Required. Example: `5`.
    pub percent: f64,
}

/// An element of `models[].rules`
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(transform = stated))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rule {
    /// What the access log calls it, in `chosenBy`.
    /// Required. Example: `long-prompts`.
    pub name: String,
    /// Which requests it is for: those for which all of this holds.
    /// Default: none, it is for all. Example: `{"promptTokensFrom": 16000}`.
    #[serde(default)]
    pub when: When,
    /// The versions that serve them: drawn by their weights, and in equal parts where these are 0.
    /// Default: none, all versions. Example: `["long"]`.
    #[serde(default)]
    pub versions: Vec<String>,
    /// What is to be preferred among them.
    /// Default: none, the draw decides. Example: `cheapest`.
    pub prefer: Option<Prefer>,
    /// Whether the models that this one falls back to are among what is preferred: where one of them costs less, it serves.
    /// Default: `false`. Example: `true`.
    #[serde(default)]
    pub fallbacks: bool,
}

/// `models[].rules[].when`
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(transform = stated))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct When {
    /// The caller's class is this.
    /// Default: none. Example: `gold`.
    pub class: Option<String>,
    /// The caller is one of these tenants, by their names in `tenants`.
    /// Default: none. Example: `["acme"]`.
    pub tenants: Vec<String>,
    /// The prompt has so many tokens at least.
    /// Default: none. Example: `16000`.
    pub prompt_tokens_from: Option<u64>,
    /// The prompt has fewer tokens than this.
    /// Default: none. Example: `16000`.
    pub prompt_tokens_below: Option<u64>,
    /// Whether the request defines tools.
    /// Default: none. Example: `true`.
    pub tools: Option<bool>,
    /// Whether it has images in it.
    /// Default: none. Example: `true`.
    pub images: Option<bool>,
    /// Less than so much is left of the limit of tokens that binds, in percent of its `burst`, when this request is charged.
    /// Default: none. Example: `20`.
    pub budget_below_percent: Option<u64>,
}

/// `models[].rules[].prefer`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub enum Prefer {
    /// The version for which the request costs least, of those that are within their `bounds`.
    Cheapest,
}

/// `models[].versions[].bounds`
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(transform = stated))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Bounds {
    /// Tokens that may be pending at the version, over all workers of the proxy, with those of the request.
    /// Default: none. Example: `100000`.
    pub pending_tokens: Option<u64>,
    /// For how many milliseconds its oldest request may have waited for the first token.
    /// Default: none. Example: `2000`.
    pub oldest_wait_ms: Option<u64>,
    /// From how many milliseconds on the first token of a stream is late, from when it went to its server: the version is beyond this where
    /// half of its streams of the last five to ten seconds were late, and five at least.
    /// Default: none. Example: `2000`.
    pub ttft_ms: Option<u64>,
}

/// `models[].override`
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(transform = stated))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Override {
    /// The request header that names the version.
    /// Required. Example: `x-version`.
    pub header: String,
    /// The tenants that may choose, by their names in `tenants`; `*` is whoever asks. From others the header is ignored.
    /// Required. Example: `["qa"]`.
    pub tenants: Vec<String>,
}
