//! What several sections have.

use serde::Deserialize;

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

/// An element of `sticky` or `per`.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub enum Source {
    /// A claim of the token that `envoy.filters.http.jwt_authn` verified. Example: `org_id`.
    Jwt(String),
    /// A request header, by its name. Its value is hashed before it becomes a key, a label or a field of the log. Example: `x-api-key`.
    Header(String),
    /// A cookie, by its name. Example: `session`.
    Cookie(String),
    /// What the request's body says of whom or what it belongs to; for `sticky` only. Example: `user`.
    Body(BodyKey),
    /// A property of the request, by its path. Example: `["connection", "uri_san_peer_certificate"]`.
    Property(Vec<String>),
    /// The tenant.
    Tenant,
    /// The model.
    Model,
}

/// `{body: …}` in `sticky`
#[derive(Clone, Copy, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum BodyKey {
    /// `user`, else `metadata.user_id`, as it is in Anthropic's messages.
    User,
    /// `safety_identifier`
    SafetyIdentifier,
    /// `prompt_cache_key`
    PromptCacheKey,
    /// `conversation`, or its `id`, in the Responses API.
    Conversation,
    /// `previous_response_id` in the Responses API: the version that gave that response, as long as the proxy remembers it.
    PreviousResponseId,
}

/// A size in bytes as it is written: a number, or text such as `64Mi`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Size(pub String);

#[cfg(feature = "schema")]
impl schemars::JsonSchema for Size {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Size".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"type": ["integer", "string"], "minimum": 0, "pattern": "^[0-9]+(Ki|Mi|Gi)?$"})
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Size;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a number of bytes, or text such as 64Mi")
            }
            fn visit_u64<E>(self, value: u64) -> Result<Size, E> {
                Ok(Size(value.to_string()))
            }
            fn visit_str<E>(self, value: &str) -> Result<Size, E> {
                Ok(Size(value.to_owned()))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// Writes the default and the example that each key's description states to where tools look for them.
#[cfg(feature = "schema")]
pub(super) fn stated(schema: &mut schemars::Schema) {
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
