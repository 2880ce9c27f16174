//! Where identities and keys come from, and which of that is verified.

use penstock_dialects::OriginKey;

use super::checked::{Origin, Source};
use super::problems::Problems;
use super::raw;

/// Fields of the certificate that a client has shown, as Envoy names them below `connection`.
const CERTIFICATE: [&str; 4] = [
    "subject_peer_certificate",
    "uri_san_peer_certificate",
    "dns_san_peer_certificate",
    "sha256_peer_certificate_digest",
];

/// `sticky` and `per`
pub fn sources(problems: &mut Problems, path: &str, raw: Vec<raw::Source>) -> Vec<Source> {
    let convert = |(i, raw)| match raw {
        raw::Source::Jwt(claim) => Source::Jwt(claim),
        raw::Source::Header(name) => Source::Header(header(problems, format!("{path}[{i}].header"), &name)),
        raw::Source::Cookie(name) => Source::Cookie(cookie(problems, format!("{path}[{i}].cookie"), name)),
        raw::Source::Body(key) => Source::Body(match key {
            raw::BodyKey::User => OriginKey::User,
            raw::BodyKey::SafetyIdentifier => OriginKey::SafetyIdentifier,
            raw::BodyKey::PromptCacheKey => OriginKey::PromptCacheKey,
            raw::BodyKey::Conversation => OriginKey::Conversation,
            raw::BodyKey::PreviousResponseId => OriginKey::PreviousResponse,
        }),
        raw::Source::Property(keys) => Source::Property(property(problems, format!("{path}[{i}].property"), keys)),
        raw::Source::Tenant => Source::Tenant,
        raw::Source::Model => Source::Model,
    };
    raw.into_iter().enumerate().map(convert).collect()
}

/// `tenant.from`: the verified sources come first, so that nobody sheds an identity by claiming another one.
pub fn origins(problems: &mut Problems, raw: Vec<raw::TenantSource>) -> Vec<Origin> {
    let read = |(i, raw)| origin(problems, &format!("tenant.from[{i}]"), raw);
    let mut origins: Vec<Origin> = raw.into_iter().enumerate().filter_map(read).collect();
    origins.sort_by_key(|origin| !origin.is_verified());
    origins
}

fn origin(problems: &mut Problems, path: &str, raw: raw::TenantSource) -> Option<Origin> {
    let raw::TenantSource { jwt, api_key, header: name, trusted, property: keys } = raw;
    if trusted.is_some() && name.is_none() {
        problems.problem(format!("{path}.trusted"), "only a header is trusted by word; leave it out");
    }
    let (source, is_verified, space) = match (jwt, api_key, name, keys) {
        (Some(claim), None, None, None) => (Source::Jwt(claim.clone()), true, format!("jwt {claim}")),
        (None, Some(raw::ApiKey { header: name }), None, None) => {
            return Some(Origin::Key(header(problems, format!("{path}.apiKey.header"), &name)));
        }
        (None, None, Some(name), None) => {
            let name = header(problems, format!("{path}.header"), &name);
            (Source::Header(name.clone()), trusted == Some(true), format!("header {name}"))
        }
        (None, None, None, Some(keys)) => {
            let keys = property(problems, format!("{path}.property"), keys);
            let (is_certificate, space) = (is_certificate(&keys), format!("property {}", keys.join(".")));
            (Source::Property(keys), is_certificate, space)
        }
        _ => {
            let what = "write one of {jwt: …}, {apiKey: {header: …}}, {header: …} and {property: […]} for each source";
            problems.problem(path, what);
            return None;
        }
    };
    Some(Origin::Value { source, is_verified, space })
}

fn is_certificate(path: &[String]) -> bool {
    matches!(path, [connection, field] if connection == "connection" && CERTIFICATE.contains(&field.as_str()))
}

/// A header's name, in lower case.
pub fn header(problems: &mut Problems, path: String, name: &str) -> String {
    let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if name.is_empty() || !name.bytes().all(fits) {
        problems.problem(path, format!("{name:?} is not a header name"));
    }
    name.to_ascii_lowercase()
}

/// A cookie's name: a token (RFC 6265, section 4.1.1, and RFC 9110, section 5.6.2).
fn cookie(problems: &mut Problems, path: String, name: String) -> String {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    if name.is_empty() || !name.bytes().all(fits) {
        problems.problem(path, format!("{name:?} is not a cookie's name; write its letters alone, as session"));
    }
    name
}

fn property(problems: &mut Problems, path: String, keys: Vec<String>) -> Vec<String> {
    if keys.is_empty() {
        problems.problem(path, "the path is empty; write [source, address]");
    }
    keys
}
