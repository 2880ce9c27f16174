//! What the door reads of a request's headers, in one look at each.

use crate::port::Headers;

/// What headers begin with by which Envoy's router is told how often and for how long to try, and what to answer then: several runs for one
/// charge, and a 504, or a 204, whenever a client wants it. Envoy itself takes most of them from clients that it does not take for internal
/// ones, and `x-envoy-upstream-stream-duration-ms` from nobody (`cleanInternalHeaders` in its `conn_manager_utility.cc`). What else begins
/// with `x-envoy-` is Envoy's own word about the request.
const ORDERS: [&str; 8] = [
    "x-envoy-expected-rq-timeout-ms",
    "x-envoy-hedge-on-per-try-timeout",
    "x-envoy-max-retries",
    "x-envoy-retriable-",
    "x-envoy-retry-",
    "x-envoy-upstream-alt-stat-name",
    "x-envoy-upstream-rq-",
    "x-envoy-upstream-stream-duration-ms",
];

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

    /// The headers that no client sets: Penstock's own, and the orders that the proxy's router would follow.
    pub fn not_theirs(&self) -> impl Iterator<Item = &'a str> {
        let is_barred = |name: &&str| name.starts_with("x-") && (name.starts_with("x-penstock-") || is_order(name));
        self.headers.iter().map(|(name, _)| name.as_str()).filter(is_barred)
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

/// Whether it tells the proxy's router what to do.
fn is_order(name: &str) -> bool {
    name.starts_with("x-envoy-") && ORDERS.iter().any(|order| name.starts_with(order))
}

/// Whether one of the tokens of a `connection` header is `upgrade`.
fn names_upgrade(value: &[u8]) -> bool {
    value.split(|byte| *byte == b',').any(|token| token.trim_ascii().eq_ignore_ascii_case(b"upgrade"))
}
