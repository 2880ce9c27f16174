//! How errors read to the clients of an API.

use crate::splice::quoted;

/// What kind of error it is, in the terms of the APIs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
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
    /// 400: longer than the model takes.
    ContextLength,
    /// 413: can never fit.
    TooLarge,
    /// 415: in a form that nobody reads here.
    Unsupported,
    /// 417: it would wait for what never comes.
    Expectation,
    /// 404: nothing of that name, or nothing for this caller; where `model` is what it is about, no such model.
    NotFound,
}

impl ErrorKind {
    /// The HTTP status that goes with it.
    pub fn status(self) -> u32 {
        match self {
            Self::RateLimit => 429,
            Self::Overloaded => 503,
            Self::Authentication => 401,
            Self::Permission => 403,
            Self::InvalidRequest | Self::ContextLength => 400,
            Self::TooLarge => 413,
            Self::Unsupported => 415,
            Self::Expectation => 417,
            Self::NotFound => 404,
        }
    }
}

/// The body of an error as OpenAI writes it (platform documentation, "Error codes").
pub fn openai(kind: ErrorKind, message: &str, param: Option<&str>) -> Vec<u8> {
    let (kind, code) = match kind {
        ErrorKind::RateLimit => ("tokens", "rate_limit_exceeded"),
        ErrorKind::Overloaded => ("server_error", "overloaded"),
        ErrorKind::Authentication => ("invalid_request_error", "invalid_api_key"),
        ErrorKind::Permission => ("invalid_request_error", "permission_denied"),
        ErrorKind::InvalidRequest => ("invalid_request_error", "invalid_request"),
        ErrorKind::ContextLength => ("invalid_request_error", "context_length_exceeded"),
        ErrorKind::TooLarge => ("invalid_request_error", "request_too_large"),
        ErrorKind::Unsupported => ("invalid_request_error", "unsupported_media_type"),
        ErrorKind::Expectation => ("invalid_request_error", "expectation_failed"),
        ErrorKind::NotFound if param == Some("model") => ("invalid_request_error", "model_not_found"),
        ErrorKind::NotFound => ("invalid_request_error", "not_found"),
    };
    let param = param.map_or_else(|| b"null".to_vec(), quoted);
    [
        b"{\"error\":{\"message\":",
        &quoted(message)[..],
        b",\"type\":",
        &quoted(kind),
        b",\"param\":",
        &param,
        b",\"code\":",
        &quoted(code),
        b"}}",
    ]
    .concat()
}

/// The body of an error as Anthropic writes it (API reference, "Errors"). It has no place for a field's name.
pub fn anthropic(kind: ErrorKind, message: &str, _: Option<&str>) -> Vec<u8> {
    let kind = match kind {
        ErrorKind::RateLimit => "rate_limit_error",
        ErrorKind::Overloaded => "overloaded_error",
        ErrorKind::Authentication => "authentication_error",
        ErrorKind::Permission => "permission_error",
        ErrorKind::InvalidRequest | ErrorKind::ContextLength | ErrorKind::Unsupported | ErrorKind::Expectation => {
            "invalid_request_error"
        }
        ErrorKind::TooLarge => "request_too_large",
        ErrorKind::NotFound => "not_found_error",
    };
    let message = &quoted(message)[..];
    [b"{\"type\":\"error\",\"error\":{\"type\":", &quoted(kind)[..], b",\"message\":", message, b"}}"].concat()
}
