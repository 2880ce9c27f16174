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
