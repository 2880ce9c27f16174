//! `models[].guard`.

use serde::Deserialize;

use super::common::Mode;
#[cfg(feature = "schema")]
use super::common::stated;

/// `models[].guard`
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(transform = stated))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Guard {
    /// How many of a version's requests have to have been compared before it is ready to be promoted. A roll-back does not wait for them.
    /// Default: `200`. Example: `1000`.
    pub min_requests: Option<u64>,
    /// For how long a version has to have run before it is ready to be promoted. A roll-back does not wait for it.
    /// Default: `24h`. Example: `2h`.
    pub bake_for: Option<String>,
    /// Whether a version that is found to be worse is taken back, or only shown to be worse. What was found stays known, so that
    /// `observe` also puts a version back into service that was taken back.
    /// Default: `enforce`. Example: `observe`.
    pub mode: Option<Mode>,
    /// How sure to be that a version is worse, over all signals together and for as long as it runs: from 0.5 to 0.999999.
    /// Default: `0.99`. Example: `0.999`.
    pub confidence: Option<f64>,
    /// Whose requests are evidence. Whoever sends requests has some part in how they end.
    /// Default: `all`. Example: `named`.
    pub tenants: Option<GuardTenants>,
    /// Requests with more prompt tokens are no evidence: by what is absurdly large anybody can make a server fail.
    /// Default: `32768`. Example: `100000`.
    pub prompt_tokens_max: Option<u64>,
    /// More of its requests fail. Watched also where this is not written.
    /// Default: `{}`. Example: `{"confidence": 0.99}`.
    pub errors: Option<GuardErrors>,
    /// More of its streams begin late.
    /// Default: none, not watched. Example: `{"slowerThanMs": 2000}`.
    pub ttft: Option<GuardTtft>,
    /// More of its streams are slow.
    /// Default: none, not watched. Example: `{"slowerThanMs": 80}`.
    pub inter_token: Option<GuardInterToken>,
    /// More of its answers are cut, where no ceiling of the client's cut them.
    /// Default: none, not watched. Example: `{}`.
    pub truncated: Option<GuardOutcome>,
    /// More of its answers are empty.
    /// Default: none, not watched. Example: `{}`.
    pub empty: Option<GuardOutcome>,
    /// More of its answers are stopped by a filter, or refused by the model.
    /// Default: none, not watched. Example: `{}`.
    pub filtered: Option<GuardOutcome>,
    /// More of its answers are not the JSON that was asked for, or call tools with arguments that are none.
    /// Default: none, not watched. Example: `{}`.
    pub malformed: Option<GuardOutcome>,
    /// More of its answers are disliked; needs `feedback`.
    /// Default: none, not watched. Example: `{}`.
    pub feedback: Option<GuardOutcome>,
    /// Its requests cost more in the mean.
    /// Default: none, not watched. Example: `{"cap": 0.02}`.
    pub cost: Option<GuardCost>,
    /// Its answers are longer or shorter in the mean.
    /// Default: none, not watched. Example: `{"cap": 2000}`.
    pub length: Option<GuardLength>,
    /// By how much the means may differ before that is worse, as a share: 0.1 is a tenth.
    /// Default: `0.1`. Example: `0.25`.
    pub margin: Option<f64>,
    /// A header that names the category of a request: each of these categories is compared by itself as well.
    /// Default: none. Example: `{"header": "x-use", "values": ["code", "chat"]}`.
    pub category: Option<GuardCategory>,
}

/// `models[].guard.tenants`
#[derive(Clone, Copy, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub enum GuardTenants {
    /// Everybody's.
    All,
    /// Those of the tenants that have a name.
    Named,
}

/// `models[].guard.errors`
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(transform = stated))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct GuardErrors {
    /// The same as `guard.confidence`.
    /// Default: that one. Example: `0.99`.
    pub confidence: Option<f64>,
    /// From which share of failures on a version is worse where nothing is sent to the stable version.
    /// Default: `0.5`. Example: `0.2`.
    pub ceiling: Option<f64>,
}

/// `models[].guard.ttft`
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(transform = stated))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GuardTtft {
    /// From how many milliseconds to the first token on a stream counts as late, from when it went to its server. A bound that a tenth
    /// of the stable version's streams pass is a good one.
    /// Required. Example: `2000`.
    pub slower_than_ms: u64,
    /// Streams with longer prompts are not looked at: a long prompt takes its time.
    /// Default: `8192`. Example: `4000`.
    pub prompt_tokens_max: Option<u64>,
    /// From which share of late streams on a version is worse where nothing is sent to the stable version.
    /// Default: none. Example: `0.5`.
    pub ceiling: Option<f64>,
}

/// `models[].guard.interToken`
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(transform = stated))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GuardInterToken {
    /// From how many milliseconds between two pieces of a stream on, in the mean over its first 128, it counts as slow.
    /// Required. Example: `80`.
    pub slower_than_ms: u64,
    /// From which share of slow streams on a version is worse where nothing is sent to the stable version.
    /// Default: none. Example: `0.5`.
    pub ceiling: Option<f64>,
}

/// `models[].guard.truncated` and its like
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(transform = stated))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct GuardOutcome {
    /// From which share of such requests on a version is worse where nothing is sent to the stable version.
    /// Default: none. Example: `0.5`.
    pub ceiling: Option<f64>,
}

/// `models[].guard.cost`
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(transform = stated))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GuardCost {
    /// What a request costs at most, in US dollars; one that costs more counts as this much. A few times what is usual.
    /// Required. Example: `0.02`.
    pub cap: f64,
}

/// `models[].guard.length`
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(transform = stated))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GuardLength {
    /// How many tokens an answer has at most; a longer one counts as this long. A few times what is usual.
    /// Required. Example: `2000`.
    pub cap: u64,
    /// Which difference is worse.
    /// Default: `either`. Example: `longer`.
    pub worse: Option<Worse>,
}

/// `models[].guard.length.worse`
#[derive(Clone, Copy, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub enum Worse {
    /// Both.
    Either,
    /// Longer answers are.
    Longer,
    /// Shorter answers are.
    Shorter,
}

/// `models[].guard.category`
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(transform = stated))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GuardCategory {
    /// The request header that names the category.
    /// Required. Example: `x-use`.
    pub header: String,
    /// The categories, at most 8; requests of others are compared with all requests only.
    /// Required. Example: `["code", "chat"]`.
    pub values: Vec<String>,
}
