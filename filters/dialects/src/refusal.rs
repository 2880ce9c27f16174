//! How a refusal reads in the caller's dialect.

use crate::Dialect;
use crate::splice::quoted;

/// What kind of refusal it is, in the terms of the APIs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// 429: a limit.
    RateLimit,
    /// 503: saturated.
    Overloaded,
    /// 401: nobody.
    Authentication,
    /// 403: not allowed.
    Permission,
    /// 400: not readable.
    InvalidRequest,
    /// 413: can never fit.
    TooLarge,
}

impl Kind {
    /// The HTTP status that goes with it.
    pub fn status(self) -> u32 {
        match self {
            Self::RateLimit => 429,
            Self::Overloaded => 503,
            Self::Authentication => 401,
            Self::Permission => 403,
            Self::InvalidRequest => 400,
            Self::TooLarge => 413,
        }
    }

    /// `error.type` as Anthropic names them (API reference, "Errors").
    fn anthropic(self) -> &'static str {
        match self {
            Self::RateLimit => "rate_limit_error",
            Self::Overloaded => "overloaded_error",
            Self::Authentication => "authentication_error",
            Self::Permission => "permission_error",
            Self::InvalidRequest => "invalid_request_error",
            Self::TooLarge => "request_too_large",
        }
    }

    /// `(error.type, error.code)` as OpenAI names them (platform documentation, "Error codes").
    fn openai(self) -> (&'static str, &'static str) {
        match self {
            Self::RateLimit => ("tokens", "rate_limit_exceeded"),
            Self::Overloaded => ("server_error", "overloaded"),
            Self::Authentication => ("invalid_request_error", "invalid_api_key"),
            Self::Permission => ("invalid_request_error", "permission_denied"),
            Self::InvalidRequest => ("invalid_request_error", "invalid_request"),
            Self::TooLarge => ("invalid_request_error", "request_too_large"),
        }
    }
}

/// The JSON body of a refusal. `param` names the offending field, where there is one.
pub fn body(dialect: Dialect, kind: Kind, message: &str, param: Option<&str>) -> Vec<u8> {
    let mut out = Vec::new();
    let mut write = |parts: &[&[u8]]| parts.iter().for_each(|part| out.extend_from_slice(part));
    let message = quoted(message);
    if dialect == Dialect::Messages {
        let kind = quoted(kind.anthropic());
        write(&[b"{\"type\":\"error\",\"error\":{\"type\":", &kind, b",\"message\":", &message, b"}}"]);
    } else {
        let (kind, code) = kind.openai();
        let param = param.map_or_else(|| b"null".to_vec(), quoted);
        write(&[b"{\"error\":{\"message\":", &message, b",\"type\":", &quoted(kind)]);
        write(&[b",\"param\":", &param, b",\"code\":", &quoted(code), b"}}"]);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_the_json_that_sdks_read() {
        let bytes = body(Dialect::Chat, Kind::RateLimit, "slow \"down\"", Some("model"));
        let value: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(value["error"]["code"], "rate_limit_exceeded");
        assert_eq!(value["error"]["message"], "slow \"down\"");
        assert_eq!(value["error"]["param"], "model");
        let bytes = body(Dialect::Messages, Kind::TooLarge, "too \"long\"", None);
        let value: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(
            value,
            serde_json::json!({"type": "error", "error": {"type": "request_too_large", "message": "too \"long\""}})
        );
    }
}
