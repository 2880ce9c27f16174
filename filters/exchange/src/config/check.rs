//! From syntax to meaning: every problem is found, and each is told with path, value and fix.

use core::fmt;

use penstock_bucket::Rate;
use penstock_bucket::credit::Allowance;
use penstock_canary::Split;
use penstock_pending::fair::Priority;
use penstock_tokens::Encoding;

use super::units::{duration, is_name};
use super::{Config, LIMITS_MAX, MODELS_MAX, TENANTS_MAX, VERSIONS_MAX, raw};
use super::{Kind, Limit, Mesh, Model, OnError, Policy, Price, Source, Tenant, Version, WaitForBody, Weights};
use crate::identity::digest;

/// One thing that is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where, as in `limits[2].every`.
    pub path: String,
    /// What, with the value and the fix.
    pub what: String,
}

/// All that is wrong with a configuration; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors(pub Vec<Problem>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, Problem { path, what }) in self.0.iter().enumerate() {
            write!(f, "{}{path}: {what}", if i == 0 { "" } else { "; " })?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// What [`Config::parse`] does.
pub fn parse(bytes: &[u8]) -> Result<Config, ConfigErrors> {
    let bytes = if bytes.trim_ascii().is_empty() { b"{}" } else { bytes };
    // serde would take an array for a struct, field by field.
    if !bytes.trim_ascii_start().starts_with(b"{") {
        let what = "not a JSON object; write {} for an empty configuration".to_owned();
        return Err(ConfigErrors(vec![Problem { path: "configuration".into(), what }]));
    }
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let document = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let path = error.path().to_string();
        let path = if path == "." { "configuration".to_owned() } else { path };
        ConfigErrors(vec![Problem { path, what: error.into_inner().to_string() }])
    })?;
    reader
        .end()
        .map_err(|error| ConfigErrors(vec![Problem { path: "configuration".into(), what: error.to_string() }]))?;
    let mut check = Check::default();
    let config = check.document(document);
    if check.problems.is_empty() { Ok(config) } else { Err(ConfigErrors(check.problems)) }
}

/// Nanoseconds that a bucket may take to refill: an instant that far ahead is still one that can be written down.
const REFILL_MAX: u128 = 50 * 365 * 86_400 * 1_000_000_000;

#[derive(Default)]
struct Check {
    problems: Vec<Problem>,
    notices: Vec<String>,
}

impl Check {
    fn problem(&mut self, path: impl Into<String>, what: impl Into<String>) {
        self.problems.push(Problem { path: path.into(), what: what.into() });
    }

    fn notice(&mut self, path: &str) {
        self.notices.push(format!("{path} is accepted but has no effect in this version"));
    }

    fn document(&mut self, raw: raw::Document) -> Config {
        self.count("tenants", raw.tenants.len(), TENANTS_MAX);
        self.count("models", raw.models.len(), MODELS_MAX);
        self.count("limits", raw.limits.len(), LIMITS_MAX);
        let tenants: Vec<Tenant> = raw.tenants.into_iter().map(|(name, tenant)| self.tenant(name, tenant)).collect();
        let models: Vec<Model> =
            raw.models.into_iter().enumerate().filter_map(|(i, model)| self.model(i, model)).collect();
        for (i, model) in models.iter().enumerate() {
            if models.iter().take(i).any(|other| other.name == model.name) {
                self.problem(
                    format!("models[{i}].name"),
                    format!("{:?} is configured twice; merge the two", model.name),
                );
            }
        }
        for (i, model) in models.iter().enumerate() {
            self.fallback(i, model, &models);
        }
        let limits: Vec<Limit> =
            raw.limits.into_iter().enumerate().filter_map(|(i, limit)| self.limit(i, limit)).collect();
        for (i, limit) in limits.iter().enumerate() {
            if limits.iter().take(i).any(|other| other.name == limit.name) {
                self.problem(format!("limits[{i}].name"), format!("{:?} is used twice; give each a name", limit.name));
            }
            if let Some(model) = &limit.model
                && !models.iter().any(|known| known.name == *model)
            {
                let what = format!("{model:?} is not a configured model; use one of models[].name");
                self.problem(format!("limits[{i}].match.model"), what);
            }
        }
        for (i, limit) in limits.iter().enumerate() {
            if raw.mesh.is_none() && matches!(limit.kind, Kind::Tokens { mesh: true, .. }) {
                let what = "mesh needs a service; add a section mesh: {service: …} that names its cluster";
                self.problem(format!("limits[{i}].scope"), what);
            }
        }
        for (i, prefix) in raw.path_prefixes.iter().enumerate() {
            if !prefix.starts_with('/') || prefix.ends_with('/') {
                let what = format!("{prefix:?} must start with a slash and not end with one, as in /openai");
                self.problem(format!("pathPrefixes[{i}]"), what);
            }
        }
        let tick_ms = match raw.tick.as_deref() {
            None => 500,
            Some(text) => {
                let nanos = self.duration("tick".into(), text);
                let ms = nanos.map_or(500, |nanos| nanos / 1_000_000);
                if !(50..=10_000).contains(&ms) {
                    self.problem("tick", format!("{text:?} is out of range; write 50ms to 10s"));
                }
                ms
            }
        };
        let policy = |raw: Option<raw::Policy>| {
            raw.map(|raw| match raw {
                raw::Policy::Pass => Policy::Pass,
                raw::Policy::Refuse => Policy::Refuse,
            })
        };
        Config {
            tenant_from: self.sources("tenant.from", raw.tenant.from, false),
            deny_anonymous: raw.tenant.anonymous == Some(raw::Anonymous::Deny),
            jwt_payload: raw.tenant.jwt_payload.unwrap_or_else(|| "jwt_payload".to_owned()),
            tenants,
            models,
            limits,
            unreadable: policy(raw.unreadable),
            unknown_model: policy(raw.unknown_model),
            contended: policy(raw.contended),
            path_prefixes: raw.path_prefixes,
            mesh: raw.mesh.map(|mesh| self.mesh(mesh)),
            wait_for_body: match raw.wait_for_body {
                raw::WaitForBody::Auto => WaitForBody::Auto,
                raw::WaitForBody::Yes => WaitForBody::Yes,
                raw::WaitForBody::No => WaitForBody::No,
            },
            count_bytes_max: raw.count_bytes_max.unwrap_or(4 << 20),
            tick_ms,
            notices: core::mem::take(&mut self.notices),
        }
    }

    fn count(&mut self, path: &str, n: usize, max: usize) {
        if n > max {
            self.problem(path, format!("{n} entries are more than the {max} that are allowed"));
        }
    }

    fn name(&mut self, path: String, name: &str) {
        if !is_name(name) {
            let what = format!("{name:?} is not a name; write 1 to 64 of A-Z a-z 0-9 . _ - / : @");
            self.problem(path, what);
        }
    }

    fn duration(&mut self, path: String, text: &str) -> Option<u64> {
        let nanos = duration(text).filter(|nanos| *nanos > 0);
        if nanos.is_none() {
            self.problem(path, format!("{text:?} is not a duration; write 30s, 5m, 1h"));
        }
        nanos
    }

    fn sources(&mut self, path: &str, raw: Vec<raw::Source>, own: bool) -> Vec<Source> {
        let convert = |(i, raw)| match raw {
            raw::Source::Jwt(claim) => Source::Jwt(claim),
            raw::Source::Header(name) => {
                let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
                if name.is_empty() || !name.bytes().all(fits) {
                    self.problem(format!("{path}[{i}].header"), format!("{name:?} is not a header name"));
                }
                Source::Header(name.to_ascii_lowercase())
            }
            raw::Source::Property(keys) => {
                if keys.is_empty() {
                    self.problem(format!("{path}[{i}].property"), "the path is empty; write [source, address]");
                }
                Source::Property(keys)
            }
            raw::Source::Tenant | raw::Source::Model if !own => {
                self.problem(format!("{path}[{i}]"), "use {jwt: …}, {header: …} or {property: […]}");
                Source::Tenant
            }
            raw::Source::Tenant => Source::Tenant,
            raw::Source::Model => Source::Model,
        };
        raw.into_iter().enumerate().map(convert).collect()
    }

    fn tenant(&mut self, name: String, raw: raw::Tenant) -> Tenant {
        self.name(format!("tenants.{name:?}"), &name);
        if matches!(name.as_str(), "other" | "anonymous") {
            self.problem(format!("tenants.{name}"), "the name is reserved for callers without one; use another");
        }
        let weight = raw.weight.unwrap_or(1);
        if weight == 0 {
            self.problem(format!("tenants.{name}.weight"), "0 is not a weight; write 1 or more");
        }
        let priority = match raw.priority {
            Some(raw::Priority::Low) => Priority::Low,
            Some(raw::Priority::High) => Priority::High,
            Some(raw::Priority::Normal) | None => Priority::Normal,
        };
        Tenant { name, class: raw.class, weight, priority, suspended: raw.suspended }
    }

    fn model(&mut self, i: usize, raw: raw::Model) -> Option<Model> {
        let path = format!("models[{i}]");
        if raw.name != "*" {
            self.name(format!("{path}.name"), &raw.name);
        }
        let (encoding, approximate) = self.encoding(&path, raw.tokenizer.as_ref());
        if raw.output.max == Some(0) {
            self.problem(format!("{path}.output.max"), "0 leaves no output; write 1 or more, or leave it out");
        }
        if raw.guard.is_some() {
            self.notice(&format!("{path}.guard"));
        }
        let pending = raw.pending.unwrap_or_default();
        for (key, value) in [("ceiling", pending.ceiling), ("perReplica", pending.per_replica)] {
            if value == Some(0) {
                self.problem(format!("{path}.pending.{key}"), "0 tokens; write 1 or more, or leave it out");
            }
        }
        let falls_back = pending.when_full == Some(raw::WhenFull::Fallback);
        if falls_back && raw.fallback.is_none() {
            self.problem(format!("{path}.fallback"), "missing; name the model to serve when this one is full");
        }
        let price = Price {
            input: self.price(format!("{path}.price.input"), raw.price.input),
            cached: self.price(format!("{path}.price.cached"), raw.price.cached.unwrap_or(raw.price.input)),
            output: self.price(format!("{path}.price.output"), raw.price.output),
        };
        self.count(&format!("{path}.versions"), raw.versions.len(), VERSIONS_MAX);
        let mut versions: Vec<Version> = Vec::new();
        for (j, raw::Version { name, weight, model }) in raw.versions.into_iter().enumerate() {
            self.name(format!("{path}.versions[{j}].name"), &name);
            if versions.iter().any(|other| other.name == name) {
                self.problem(format!("{path}.versions[{j}].name"), format!("{name:?} is used twice in this model"));
            }
            versions.push(Version { name, model, weight });
        }
        let weights: Vec<u32> = versions.iter().map(|version| version.weight).collect();
        let split = Split::new(&weights);
        if !versions.is_empty() && split.is_none() {
            self.problem(format!("{path}.versions"), "all weights are 0; give one version a weight");
        }
        Some(Model {
            encoding: encoding?,
            approximate,
            output_expect: raw.output.expect.unwrap_or(256),
            output_max: raw.output.max,
            output_key: match raw.output.key {
                Some(raw::OutputKey::MaxCompletionTokens) => "max_completion_tokens",
                Some(raw::OutputKey::MaxTokens) | None => "max_tokens",
            },
            context: raw.output.context,
            price,
            versions,
            split,
            sticky: self.sources(&format!("{path}.sticky"), raw.sticky, true),
            suspended: raw.suspended,
            ceiling: pending.ceiling,
            fallback: raw.fallback.filter(|_| falls_back),
            name: raw.name,
        })
    }

    /// Whether following the fallbacks from a model ends.
    fn fallback(&mut self, i: usize, model: &Model, models: &[Model]) {
        let mut at = model;
        for _ in 0..models.len() {
            let Some(next) = &at.fallback else { return };
            match models.iter().find(|known| known.name == *next && known.name != "*") {
                Some(known) => at = known,
                None => {
                    let what = format!("{next:?} is not a configured model; use one of models[].name");
                    return self.problem(format!("models[{i}].fallback"), what);
                }
            }
        }
        self.problem(format!("models[{i}].fallback"), "leads back to the model itself; let the last one shed");
    }

    /// The model's encoding, the module's first one by default, and whether counts with it are estimates.
    fn encoding(&mut self, path: &str, raw: Option<&raw::Tokenizer>) -> (Option<Encoding>, bool) {
        let first = Encoding::ALL.first().map(|(_, encoding)| *encoding);
        let Some((name, approximate)) = raw.map(raw::Tokenizer::name) else { return (first, false) };
        let encoding = Encoding::named(name);
        if encoding.is_none() {
            let known = Encoding::ALL.map(|(name, _)| name).join(", ");
            let path = if approximate { format!("{path}.tokenizer.like") } else { format!("{path}.tokenizer") };
            self.problem(path, format!("{name:?} is not built into this module; write one of {known}"));
        }
        (encoding.or(first), approximate)
    }

    /// US dollars per million tokens to billionths of a dollar per token.
    fn price(&mut self, path: String, dollars: f64) -> u64 {
        if !(0.0..=1e6).contains(&dollars) {
            self.problem(path, format!("{dollars} is not a price; write US dollars for a million tokens"));
            return 0;
        }
        (dollars * 1000.0).round() as u64
    }

    fn weight(&mut self, path: String, weight: Option<f64>) -> u64 {
        let weight = weight.unwrap_or(1.0);
        if !(0.0..=1000.0).contains(&weight) {
            self.problem(path, format!("{weight} is not a weight; write 0 to 1000"));
            return 0;
        }
        (weight * penstock_bucket::MILLI as f64).round() as u64
    }

    fn limit(&mut self, i: usize, raw: raw::Limit) -> Option<Limit> {
        let path = format!("limits[{i}]");
        self.name(format!("{path}.name"), &raw.name);
        let per = self.sources(&format!("{path}.per"), raw.per, true);
        let kind = match (raw.tokens, raw.concurrent, raw.session) {
            (Some(tokens), None, None) => {
                let cost = raw.cost.unwrap_or_default();
                self.tokens(&path, tokens, raw.every.as_deref(), raw.burst, &cost, raw.scope)?
            }
            (None, Some(max), None) => {
                if max == 0 {
                    self.problem(
                        format!("{path}.concurrent"),
                        "0 admits nobody; write 1 or more, or suspend the tenant",
                    );
                }
                Kind::Concurrent { max }
            }
            (None, None, Some(session)) => Kind::Session(self.session(&path, &session)),
            (None, None, None) => {
                self.problem(path, "no limit is given; write tokens and every, or concurrent, or session");
                return None;
            }
            _ => {
                self.problem(path, "tokens, concurrent and session are limits of their own; write one entry for each");
                return None;
            }
        };
        Some(Limit { name: raw.name, per, class: raw.matches.class, model: raw.matches.model, kind })
    }

    fn mesh(&mut self, raw: raw::Mesh) -> Mesh {
        // It travels in a message whose lengths take one byte each.
        if !(1..=120).contains(&raw.service.len()) {
            self.problem("mesh.service", "write the name of a cluster of the proxy, at most 120 bytes long");
        }
        let timeout = raw.timeout.as_deref().unwrap_or("100ms");
        let timeout_ms = self.duration("mesh.timeout".into(), timeout).map_or(100, |nanos| nanos / 1_000_000);
        if !(1..=10_000).contains(&timeout_ms) {
            self.problem("mesh.timeout", format!("{timeout:?} is out of range; write 1ms to 10s"));
        }
        if raw.salt.is_none() {
            let text = "mesh.salt is not set: keys go to the service under hashes that anybody can make; set the same one on all proxies";
            self.notices.push(text.to_owned());
        }
        Mesh {
            service: raw.service,
            domain: raw.domain.unwrap_or_else(|| "penstock".to_owned()),
            timeout_ms: u32::try_from(timeout_ms).unwrap_or(100),
            on_error: match raw.on_error {
                Some(raw::OnError::Open) => OnError::Open,
                Some(raw::OnError::Closed) => OnError::Closed,
                Some(raw::OnError::Local) | None => OnError::Local,
            },
            salt: digest(raw.salt.unwrap_or_default().as_bytes()),
        }
    }

    fn session(&mut self, path: &str, raw: &raw::Session) -> Allowance {
        let counts = [("tokens", raw.tokens), ("calls", raw.calls), ("toolCalls", raw.tool_calls)];
        if counts.iter().all(|(_, max)| max.is_none()) && raw.wall_clock.is_none() {
            self.problem(format!("{path}.session"), "nothing is limited; write tokens, calls, toolCalls or wallClock");
        }
        for (key, _) in counts.iter().filter(|(_, max)| *max == Some(0)) {
            self.problem(format!("{path}.session.{key}"), "0 admits nobody; write 1 or more, or leave it out");
        }
        let wall_clock = raw.wall_clock.as_ref();
        Allowance {
            tokens: raw.tokens,
            calls: raw.calls,
            tool_calls: raw.tool_calls,
            wall_clock: wall_clock.and_then(|text| self.duration(format!("{path}.session.wallClock"), text)),
        }
    }

    fn tokens(
        &mut self,
        path: &str,
        tokens: u64,
        every: Option<&str>,
        burst: Option<u64>,
        cost: &raw::Cost,
        scope: Option<raw::Scope>,
    ) -> Option<Kind> {
        let Some(every) = every else {
            self.problem(format!("{path}.every"), "missing; write the period of the tokens, as in 1m");
            return None;
        };
        let every = self.duration(format!("{path}.every"), every)?;
        let rate = Rate::new(tokens, every, burst.unwrap_or(tokens));
        if rate.is_none() {
            self.problem(format!("{path}.tokens"), format!("{tokens} is out of range; write 1 to {}", 1u64 << 40));
        }
        let refill = u128::from(burst.unwrap_or(tokens)).saturating_mul(u128::from(every));
        if rate.is_some() && refill.checked_div(u128::from(tokens)).is_some_and(|refill| refill > REFILL_MAX) {
            let what = "the bucket takes more than 50 years to refill; raise tokens, or use a session";
            self.problem(format!("{path}.burst"), what);
        }
        let input = self.weight(format!("{path}.cost.input"), cost.input);
        let cost = Weights {
            input,
            cached: cost.cached.map_or(input, |w| self.weight(format!("{path}.cost.cached"), Some(w))),
            output: self.weight(format!("{path}.cost.output"), cost.output),
        };
        Some(Kind::Tokens { rate: rate?, cost, mesh: scope == Some(raw::Scope::Mesh) })
    }
}
