//! Where a value of a request comes from.

use penstock_dialects::OriginKey;

/// Where any key comes from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// A claim of the verified JWT.
    Jwt(String),
    /// A request header, by its lower-case name.
    Header(String),
    /// A cookie, by its name.
    Cookie(String),
    /// A property of the request, by its path.
    Property(Vec<String>),
    /// A word of its body.
    Body(OriginKey),
    /// The tenant.
    Tenant,
    /// The model.
    Model,
}

impl Source {
    /// Whether it has to be looked up in the request's headers, and what the proxy knows of it.
    pub fn is_at_headers(&self) -> bool {
        match self {
            Self::Jwt(_) | Self::Header(_) | Self::Cookie(_) | Self::Property(_) => true,
            Self::Body(_) | Self::Tenant | Self::Model => false,
        }
    }
}
