//! Who asks, and by what else the configuration tells callers apart.

use sha2::{Digest, Sha256};

use crate::config::{Config, Origin, Source, Tenant};
use crate::hash::{Secret, digest};
use crate::json::hexadecimal;
use crate::port::{Headers, Properties};

/// The tenant of a caller without identity.
pub const ANONYMOUS: &str = "anonymous";
/// Values that are longer are replaced by their hash.
const VALUE_BYTES_MAX: usize = 256;

/// A caller, as far as the configuration asks.
#[derive(Clone, Debug, Default)]
pub struct Caller {
    /// A configured tenant's name, else a keyed hash, else [`ANONYMOUS`].
    pub tenant: String,
    /// Whether that is a configured tenant's name.
    pub is_named: bool,
    /// Whether it is a tenant that probes, and so pays from nobody else's budget.
    pub is_probe: bool,
    /// It has shown a key that nobody has, and nothing better.
    pub has_unknown_key: bool,
    /// What the tenant is known by in every process: its name, or what it was found by.
    tenant_key: Option<Vec<u8>>,
    /// The values of the sources that limits and sticky draws use.
    values: Vec<(Source, Vec<u8>)>,
}

impl Caller {
    /// Looks a caller up. `tenant` is what an earlier plugin found already.
    pub fn identify(
        config: &Config,
        secret: &Secret,
        headers: &Headers,
        properties: &dyn Properties,
        tenant: Option<String>,
    ) -> Self {
        let request = Request { config, headers, properties };
        let found = match tenant.as_deref().and_then(|name| config.tenant(name)) {
            Some(known) => Found::Named(known),
            None => request.tenant(),
        };
        let (own, tenant_key) = match &found {
            Found::Named(tenant) => (tenant.name.clone(), Some(tenant.name.clone().into_bytes())),
            Found::Unnamed { space, value } => {
                let parts = [space.as_bytes(), value.as_slice()];
                // No name has a zero byte in it.
                ([HASH, &hexadecimal(secret.hash(parts))].concat(), Some(parts.join(&0)))
            }
            Found::UnknownKey | Found::Nobody => (ANONYMOUS.to_owned(), None),
        };
        let value = |source: &Source| Some((source.clone(), request.value(source)?));
        let values = config.sources.iter().filter_map(value).collect();
        let named = match &found {
            Found::Named(known) if tenant.as_ref().is_none_or(|tenant| *tenant == known.name) => Some(known),
            _ => None,
        };
        let (is_named, is_probe) = (named.is_some(), named.is_some_and(|known| known.probe));
        let has_unknown_key = matches!(found, Found::UnknownKey);
        Self { tenant: tenant.unwrap_or(own), is_named, is_probe, has_unknown_key, tenant_key, values }
    }

    /// As [`Caller::value`], but with nothing that only this process can know: the tenant by its name, or by what it was found by.
    pub fn shared_value<'a>(&'a self, source: &Source, model: &'a str) -> Option<&'a [u8]> {
        match source {
            Source::Tenant => self.tenant_key.as_deref(),
            other => self.value(other, model),
        }
    }

    /// The value of `source` for this caller and `model`.
    pub fn value<'a>(&'a self, source: &Source, model: &'a str) -> Option<&'a [u8]> {
        match source {
            Source::Tenant if self.tenant == ANONYMOUS => None,
            Source::Tenant => Some(self.tenant.as_bytes()),
            Source::Model => Some(model.as_bytes()),
            other => self.values.iter().find(|(known, _)| known == other).map(|(_, value)| value.as_slice()),
        }
    }
}

/// How tenants without a name are called: this, and 16 hexadecimal digits.
const HASH: &str = "h-";

/// Whether a tenant without a name might be called so.
pub fn is_hash(name: &str) -> bool {
    name.strip_prefix(HASH).is_some_and(|hash| hash.len() == 16 && hash.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// Who a request says that it is from.
enum Found<'c> {
    /// A configured tenant, for certain.
    Named(&'c Tenant),
    /// Somebody else: by which source, and what it says.
    Unnamed { space: &'c str, value: Vec<u8> },
    /// Somebody with a key that no tenant has.
    UnknownKey,
    /// It does not say.
    Nobody,
}

struct Request<'a> {
    config: &'a Config,
    headers: &'a Headers,
    properties: &'a dyn Properties,
}

impl<'a> Request<'a> {
    /// The tenant. Verified sources come first; where one had a key that nobody has, what is not verified does not make up for it.
    fn tenant(&self) -> Found<'a> {
        let mut has_unknown_key = false;
        for origin in &self.config.tenant_from {
            match origin {
                Origin::Key(name) => {
                    let Some(key) = header(self.headers, name).filter(|key| !key.is_empty()) else { continue };
                    match self.config.tenant_of_key(&Sha256::digest(bare(key)).into()) {
                        Some(tenant) => return Found::Named(tenant),
                        None => has_unknown_key = true,
                    }
                }
                Origin::Value { is_verified: false, .. } if has_unknown_key => break,
                Origin::Value { source, is_verified, space } => {
                    let Some(value) = self.value(source) else { continue };
                    let named = core::str::from_utf8(&value).ok().filter(|_| *is_verified);
                    return match named.and_then(|name| self.config.tenant(name)) {
                        Some(tenant) => Found::Named(tenant),
                        None => Found::Unnamed { space, value },
                    };
                }
            }
        }
        if has_unknown_key { Found::UnknownKey } else { Found::Nobody }
    }

    /// What a source says. What leaves this process is hashed once more.
    fn value(&self, source: &Source) -> Option<Vec<u8>> {
        let value = match source {
            Source::Header(name) => header(self.headers, name).map(<[u8]>::to_vec),
            Source::Cookie(name) => cookie(self.headers, name).map(<[u8]>::to_vec),
            Source::Jwt(claim) => self.config.jwt_payloads.iter().find_map(|payload| {
                let path = ["metadata", "filter_metadata", "envoy.filters.http.jwt_authn", payload, claim];
                self.properties.get(&path)
            }),
            Source::Property(path) => self.properties.get(&path.iter().map(String::as_str).collect::<Vec<_>>()),
            Source::Body(_) | Source::Tenant | Source::Model => None,
        };
        let value = value.filter(|value| !value.is_empty())?;
        Some(if value.len() > VALUE_BYTES_MAX { digest(&value).to_vec() } else { value })
    }
}

/// A key without the scheme of an `authorization` header.
fn bare(key: &[u8]) -> &[u8] {
    match key.split_at_checked(6) {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case(b"bearer") && rest.starts_with(b" ") => rest.trim_ascii(),
        _ => key,
    }
}

/// The first header called `name`.
pub fn header<'a>(headers: &'a Headers, name: &str) -> Option<&'a [u8]> {
    headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_slice())
}

/// The first cookie called `name` (RFC 6265, section 4.2). HTTP/2 lets them come in several headers.
fn cookie<'a>(headers: &'a Headers, name: &str) -> Option<&'a [u8]> {
    let lines = headers.iter().filter(|(known, _)| known == "cookie").flat_map(|(_, line)| line.split(|b| *b == b';'));
    lines.map(<[u8]>::trim_ascii).find_map(|pair| pair.strip_prefix(name.as_bytes())?.strip_prefix(b"="))
}
