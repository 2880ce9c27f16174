//! What the door reads of a request's headers, in one look at each.

use crate::port::Headers;

/// What the door reads of a request's headers.
#[derive(Default)]
pub struct Head<'a> {
    /// The method.
    pub method: &'a [u8],
    /// The path, with its query.
    pub path: &'a [u8],
    /// The host, as the client names it.
    pub authority: &'a [u8],
    /// The client speaks Anthropic's API.
    pub is_anthropic: bool,
    /// The connection is to become something else than an exchange of HTTP: a websocket, a tunnel.
    pub is_upgrade: bool,
    /// A browser asks whether a page of another origin may ask.
    is_preflight: bool,
    /// A server may take the request for one with another method.
    has_other_method: bool,
    headers: &'a [(String, Vec<u8>)],
}

impl<'a> Head<'a> {
    /// Of these headers.
    pub fn of(headers: &'a Headers) -> Self {
        let mut head = Self { headers, ..Self::default() };
        for (name, value) in headers {
            match name.as_str() {
                ":method" => head.method = value,
                ":path" => head.path = value,
                ":authority" => head.authority = value,
                ":protocol" | "upgrade" => head.is_upgrade = true,
                "connection" => head.is_upgrade |= names_upgrade(value),
                "anthropic-version" => head.is_anthropic = true,
                "access-control-request-method" => head.is_preflight = true,
                "x-http-method-override" | "x-http-method" | "x-method-override" => head.has_other_method = true,
                _ => {}
            }
        }
        head.is_upgrade |= head.method == b"CONNECT";
        head
    }

    /// The headers that only Penstock sets.
    pub fn ours(&self) -> impl Iterator<Item = &'a str> {
        self.headers.iter().map(|(name, _)| name.as_str()).filter(|name| name.starts_with("x-penstock-"))
    }

    /// Whether it asks for nothing to be done.
    pub fn is_safe(&self) -> bool {
        matches!(self.method, b"GET" | b"HEAD" | b"OPTIONS") && !self.is_upgrade && !self.has_other_method
    }

    /// Whether it only asks what may be asked, which browsers do without credentials.
    pub fn is_preflight(&self) -> bool {
        self.is_preflight && self.method == b"OPTIONS" && self.is_safe()
    }
}

/// Whether one of the tokens of a `connection` header is `upgrade`.
fn names_upgrade(value: &[u8]) -> bool {
    value.split(|byte| *byte == b',').any(|token| token.trim_ascii().eq_ignore_ascii_case(b"upgrade"))
}
