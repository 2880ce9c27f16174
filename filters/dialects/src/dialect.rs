//! The dialects, and which of them a request speaks.
//!
//! Each is one file, a module of the crate. A new one is that file and a line below. Keys that no other dialect reads are added to
//! the vocabulary in `json/path.rs`.

use crate::api::{Api, Framing, ImagePrice, ModelAt};
use crate::error::ErrorKind;
use crate::json::path::{At, Step};
use crate::path::without_query;
use crate::request::draft::Draft;
use crate::response::TextKind;
use crate::response::report::Report;
use crate::sink::PromptSink;

/// Makes the enum, and finds for each of its variants what that dialect's file says. What is done for each event is
/// dispatched by a `match`, which the compiler sees through.
macro_rules! dialects {
    ($($dialect:ident = $file:ident,)*) => {
        /// The API that a request speaks.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Dialect {
            $(#[doc = concat!("The API that `", stringify!($file), ".rs` describes.")] $dialect,)*
        }

        impl Dialect {
            /// Every one there is.
            pub const ALL: &[Self] = &[$(Self::$dialect,)*];

            /// What can be said of it in data.
            pub(crate) fn api(self) -> &'static Api {
                match self { $(Self::$dialect => &crate::$file::API,)* }
            }

            /// What it reads in a request beside that which all have in common.
            #[inline]
            pub(crate) fn read_request(self, at: &At<'_>, draft: &mut Draft, sink: &mut impl PromptSink) {
                match self { $(Self::$dialect => crate::$file::read_request(at, draft, sink),)* }
            }

            /// What the text at this place of a response is, where it was generated.
            #[inline]
            pub(crate) fn generated(self, steps: &[Step], report: &Report) -> Option<TextKind> {
                match self { $(Self::$dialect => crate::$file::generated(steps, report),)* }
            }
        }
    };
}

dialects! {
    Chat = chat,
    Completions = completions,
    Responses = responses,
    Embeddings = embeddings,
    Messages = messages,
}

impl Dialect {
    /// Where its requests name the model.
    pub fn model_at(self) -> ModelAt {
        self.api().model
    }

    /// The model that the path of such a request names, where that is where the name is.
    pub fn model_in_path(self, path: &[u8]) -> Option<String> {
        self.api().model_in(without_query(path)).map(str::to_owned)
    }

    /// What a prompt costs beside its texts.
    pub fn framing(self) -> Framing {
        self.api().framing
    }

    /// What decides the price of an image.
    pub fn image_price(self) -> ImagePrice {
        self.api().image_price
    }

    /// Whether anything is generated.
    pub fn generates(self) -> bool {
        self.api().generates
    }

    /// The key under which an output ceiling is inserted where a request has none.
    pub fn ceiling_key(self) -> Option<&'static str> {
        self.api().ceiling_key
    }

    /// Whether a model may want its ceiling under another key.
    pub fn is_ceiling_key_configurable(self) -> bool {
        self.api().is_ceiling_key_configurable
    }

    /// Whether streams report usage only where `stream_options` ask for it.
    pub fn usage_on_request(self) -> bool {
        self.api().usage_on_request
    }
}

/// The JSON body of an answer that says how many tokens a prompt has, where the API has one.
pub fn count_body(dialect: Dialect, tokens: u64) -> Option<Vec<u8>> {
    dialect.api().count.as_ref().map(|count| (count.answer)(tokens))
}

/// The JSON body of an error, as clients of the dialect read it. `param` names the offending field, where there is one.
pub fn error_body(dialect: Dialect, kind: ErrorKind, message: &str, param: Option<&str>) -> Vec<u8> {
    (dialect.api().error)(kind, message, param)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_name_the_model() {
        for dialect in Dialect::ALL {
            for path in dialect.api().paths {
                assert_eq!((dialect.model_at(), dialect.model_in_path(path.as_bytes())), (ModelAt::Body, None));
            }
        }
    }

    #[test]
    fn errors_are_the_json_that_sdks_read() {
        let bytes = error_body(Dialect::Chat, ErrorKind::RateLimit, "slow \"down\"", Some("model"));
        let value: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(value["error"]["code"], "rate_limit_exceeded");
        assert_eq!(value["error"]["message"], "slow \"down\"");
        assert_eq!(value["error"]["param"], "model");
        let bytes = error_body(Dialect::Messages, ErrorKind::TooLarge, "too \"long\"", None);
        let value: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(
            value,
            serde_json::json!({"type": "error", "error": {"type": "request_too_large", "message": "too \"long\""}})
        );
    }
}
