//! `feedback`.

use serde::Deserialize;

#[cfg(feature = "schema")]
use super::common::stated;

/// `feedback`
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(transform = stated))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Feedback {
    /// The path to which callers post what they say, as `{"request_id": …, "score": …}`.
    /// Default: `/penstock/feedback`. Example: `/v1/feedback`.
    pub path: Option<String>,
    /// A secret of at least 16 characters that signs the names of requests. With several proxies all need the same, so that each takes what
    /// is said of the others' answers.
    /// Default: none, each proxy has its own. Example: `b1946ac92492d2347c6235b4d2611184`.
    pub key: Option<String>,
    /// For how long something may be said of a request.
    /// Default: `24h`. Example: `2h`.
    pub max_age: Option<String>,
    /// Below which score, from -1 to 1, it is negative.
    /// Default: `0.5`. Example: `0`.
    pub negative_below: Option<f64>,
}
