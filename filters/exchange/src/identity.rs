//! Who asks, and by what else the configuration tells callers apart.

use crate::config::{Config, Source};
use crate::hash::{Secret, digest};
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
    /// What the tenant was found by, as the request says it.
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
        let look = |source: &Source| {
            let value = value(config, source, headers, properties)?;
            // What leaves this process is hashed once more.
            Some(if value.len() > VALUE_BYTES_MAX { digest(&value).to_vec() } else { value })
        };
        let tenant_key = config.tenant_from.iter().find_map(look);
        let tenant = tenant.unwrap_or_else(|| {
            let Some(key) = &tenant_key else {
                return ANONYMOUS.to_owned();
            };
            let named = core::str::from_utf8(key).ok().and_then(|name| config.tenant(name));
            named.map_or_else(|| format!("h-{:016x}", secret.hash([key.as_slice()])), |tenant| tenant.name.clone())
        });
        let sticky = config.models.iter().flat_map(|model| &model.sticky);
        let per = config.limits.iter().flat_map(|limit| &limit.per);
        let mut values: Vec<(Source, Vec<u8>)> = Vec::new();
        for source in sticky.chain(per) {
            if !values.iter().any(|(known, _)| known == source)
                && let Some(value) = look(source)
            {
                values.push((source.clone(), value));
            }
        }
        Self { tenant, tenant_key, values }
    }

    /// As [`Caller::value`], but with nothing that only this process can know: the tenant by what it was found by.
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

fn value(config: &Config, source: &Source, headers: &Headers, properties: &dyn Properties) -> Option<Vec<u8>> {
    let value = match source {
        Source::Header(name) => header(headers, name).map(<[u8]>::to_vec),
        Source::Jwt(claim) => {
            let path = ["metadata", "filter_metadata", "envoy.filters.http.jwt_authn", &config.jwt_payload, claim];
            properties.get(&path)
        }
        Source::Property(path) => properties.get(&path.iter().map(String::as_str).collect::<Vec<_>>()),
        Source::Tenant | Source::Model => None,
    };
    value.filter(|value| !value.is_empty())
}

/// The first header called `name`.
pub fn header<'a>(headers: &'a Headers, name: &str) -> Option<&'a [u8]> {
    headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_slice())
}
