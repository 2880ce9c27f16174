//! The models that are served, as clients ask for them (`GET /v1/models`).
//!
//! Sources: OpenAI API reference ("List models", "Retrieve model"); Anthropic API reference ("List Models", "Get a Model").

use crate::splice::quoted;

/// The path; below it, each model by its name.
pub const MODELS: &str = "/v1/models";

/// Whose shape a list of models has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listing {
    /// OpenAI's.
    OpenAi,
    /// Anthropic's.
    Anthropic,
}

impl Listing {
    /// One model. When it was made is not known here.
    pub fn one(self, name: &str) -> Vec<u8> {
        let id = &quoted(name)[..];
        match self {
            Self::OpenAi => {
                [b"{\"id\":", id, b",\"object\":\"model\",\"created\":0,\"owned_by\":\"penstock\"}"].concat()
            }
            Self::Anthropic => {
                let created = b",\"created_at\":\"1970-01-01T00:00:00Z\"}";
                [b"{\"type\":\"model\",\"id\":", id, b",\"display_name\":", id, created].concat()
            }
        }
    }

    /// All of them, on one page.
    pub fn all(self, names: &[&str]) -> Vec<u8> {
        let data = names.iter().map(|name| self.one(name)).collect::<Vec<_>>().join(&b',');
        let or_null = |name: Option<&&str>| name.map_or_else(|| b"null".to_vec(), |name| quoted(name));
        match self {
            Self::OpenAi => [b"{\"object\":\"list\",\"data\":[", &data[..], b"]}"].concat(),
            Self::Anthropic => {
                let (first, last) = (or_null(names.first()), or_null(names.last()));
                let page =
                    [b"],\"has_more\":false,\"first_id\":", &first[..], b",\"last_id\":", &last[..], b"}"].concat();
                [b"{\"data\":[", &data[..], &page[..]].concat()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn models_read_as_their_clients_expect() {
        let read = |bytes: Vec<u8>| serde_json::from_slice::<Value>(&bytes).unwrap();
        let all = read(Listing::OpenAi.all(&["a\"b", "c"]));
        assert_eq!((&all["object"], &all["data"][0]["id"]), (&json!("list"), &json!("a\"b")));
        assert_eq!(all["data"][1], json!({"id": "c", "object": "model", "created": 0, "owned_by": "penstock"}));
        let all = read(Listing::Anthropic.all(&["a", "c"]));
        assert_eq!((&all["first_id"], &all["last_id"], &all["has_more"]), (&json!("a"), &json!("c"), &json!(false)));
        assert_eq!(all["data"][0]["type"], "model");
        assert_eq!(read(Listing::Anthropic.all(&[]))["first_id"], Value::Null);
        assert_eq!(read(Listing::OpenAi.all(&[]))["data"], json!([]));
    }
}
