//! The dialects, and which of them a request speaks.
//!
//! Each is one file, a module of the crate. A new one is that file and a line below. Keys that no other dialect reads are added to
//! the vocabulary in `json/path.rs`.

use crate::api::{Api, Framing, ImagePrice, ModelAt};
use crate::error::ErrorKind;
use crate::json::path::{At, Step};
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
    /// The dialect of a request, if it is one that costs tokens. A query string is ignored; anything else in
    /// front of the API's own path (`/openai/v1/chat/completions`) is not, unless `prefixes` names it.
    pub fn of(method: &[u8], path: &[u8], prefixes: &[String]) -> Option<Self> {
        if method != b"POST" {
            return None;
        }
        let path = &decoded(path)[..];
        let own = |path: &[u8]| {
            let path = without_slash(path);
            Self::ALL.iter().copied().find(|dialect| dialect.api().is_at(path))
        };
        own(path).or_else(|| prefixes.iter().filter_map(|prefix| path.strip_prefix(prefix.as_bytes())).find_map(own))
    }

    /// Where its requests name the model.
    pub fn model_at(self) -> ModelAt {
        self.api().model
    }

    /// The model that the path of such a request names, where that is where the name is.
    pub fn model_in_path(self, path: &[u8]) -> Option<String> {
        self.api().model_in(without_slash(&decoded(path))).map(str::to_owned)
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

/// The JSON body of an error, as clients of the dialect read it. `param` names the offending field, where there is one.
pub fn error_body(dialect: Dialect, kind: ErrorKind, message: &str, param: Option<&str>) -> Vec<u8> {
    (dialect.api().error)(kind, message, param)
}

/// A path as servers read it: without its query, and with its percent-escapes undone.
fn decoded(path: &[u8]) -> Vec<u8> {
    let path = path.split(|byte| matches!(byte, b'?' | b'#')).next().unwrap_or_default();
    let hex = |at: usize| path.get(at).and_then(|byte| char::from(*byte).to_digit(16));
    let mut out = Vec::with_capacity(path.len());
    let mut at = 0usize;
    while let Some(byte) = path.get(at) {
        let (high, low) = (hex(at.saturating_add(1)), hex(at.saturating_add(2)));
        match (byte, high, low) {
            (b'%', Some(high), Some(low)) => {
                out.push((high << 4 | low) as u8);
                at = at.saturating_add(3);
            }
            _ => {
                out.push(*byte);
                at = at.saturating_add(1);
            }
        }
    }
    out
}

/// A path without the slash that it may end in.
fn without_slash(path: &[u8]) -> &[u8] {
    path.strip_suffix(b"/").unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_those_that_servers_see() {
        let of = |path: &str| Dialect::of(b"POST", path.as_bytes(), &["/openai".to_owned()]);
        assert_eq!(of("/v1/%63hat/completion%73?x=%"), Some(Dialect::Chat));
        assert_eq!(of("/open%61i/v1/messages"), Some(Dialect::Messages));
        assert_eq!(of("/v1/chat/completions%"), None);
    }

    #[test]
    fn every_dialect_is_at_its_paths() {
        for dialect in Dialect::ALL {
            for path in dialect.api().paths {
                assert_eq!(Dialect::of(b"POST", path.as_bytes(), &[]), Some(*dialect));
                assert_eq!(Dialect::of(b"GET", path.as_bytes(), &[]), None);
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
