//! From syntax to meaning: every problem is found, and each is told with path, value and fix.

use penstock_units::{Millis, Nanos};

use super::checked::{Config, CountEndpoints, Limit, Model, Owner, Policy, Routing, Source, UnknownModel, WaitForBody};
use super::cold_start;
use super::feedback::feedback;
use super::hosts::hosts;
use super::limits::{limits, strangers};
use super::models::{implicit, models};
use super::names::{names, unknown};
use super::paths::{paths, prefixes};
use super::problems::{ConfigErrors, Problem, Problems, mode};
use super::raw;
use super::routing;
use super::sources::origins;
use super::tenants::{api_keys, reachable, tenants};

/// The period of heartbeats.
const TICK: Millis = Millis(500);
/// How many bytes of a request's texts are counted exactly.
const COUNT_BYTES_MAX: u64 = 4 << 20;
/// How many bytes a compressed request may become: as many as the shipped gateways let one be that is not.
const DECODED_BYTES_MAX: usize = 4 << 20;
/// The most that can be allowed, as all of it is held in a worker's memory at once.
const DECODED_BYTES_LIMIT: usize = 64 << 20;

impl Config {
    /// Reads and checks a configuration. Empty bytes are an empty document.
    ///
    /// # Errors
    /// All that is wrong with it: path, value and fix for each.
    pub fn parse(bytes: &[u8]) -> Result<Self, ConfigErrors> {
        let mut problems = Problems::default();
        let config = document(&mut problems, read(bytes)?);
        if problems.found.is_empty() { Ok(config) } else { Err(ConfigErrors(problems.found)) }
    }
}

/// The syntax.
fn read(bytes: &[u8]) -> Result<raw::Document, ConfigErrors> {
    let wrong = |path: &str, what: String| ConfigErrors(vec![Problem { path: path.to_owned(), what }]);
    let bytes = if bytes.trim_ascii().is_empty() { b"{}" } else { bytes };
    // serde would take an array for a struct, field by field.
    if !bytes.trim_ascii_start().starts_with(b"{") {
        return Err(wrong("configuration", "not a JSON object; write {} for an empty configuration".to_owned()));
    }
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let document = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let path = error.path().to_string();
        wrong(if path == "." { "configuration" } else { &path }, error.into_inner().to_string())
    })?;
    reader.end().map_err(|error| wrong("configuration", error.to_string()))?;
    Ok(document)
}

fn document(problems: &mut Problems, raw: raw::Document) -> Config {
    prefixes(problems, &raw.path_prefixes);
    let paths = paths(problems, raw.paths, &raw.path_prefixes, !raw.models.is_empty());
    let (mut models, aliases) = models(problems, raw.models);
    let is_list = !models.is_empty() && models.iter().all(|model| model.name != "*");
    let lists_models = is_list && !matches!(raw.models_endpoint, Some(raw::ModelsEndpoint::Forward));
    let keys = api_keys(problems, &raw.tenants);
    let (tenants, unnamed_models) = tenants(problems, raw.tenants, raw.classes, &models);
    let limits = limits(problems, raw.limits, raw.mesh, &models, &tenants);
    let tenant_from = origins(problems, raw.tenant.from);
    strangers(problems, &limits, &tenant_from);
    routing::known(problems, &models, &tenants);
    let deny_anonymous = deny_anonymous(problems, raw.tenant.anonymous, !tenant_from.is_empty());
    let unknown_model = unknown(problems, raw.unknown_model, &models);
    if unknown_model != UnknownModel::Refuse && models.iter().all(|model| model.name != "*") {
        models.extend(implicit());
    }
    let series = number(&mut models);
    let feedback = feedback(problems, raw.feedback, &models);
    let names = names(problems, &models, &aliases);
    let gates = cold_start::number(&mut models);
    if raw.wait_for_body == raw::WaitForBody::No {
        let needs = [
            (gates > 0, "coldStart needs", "no request is held, and a version without a server answers 503"),
            (feedback.is_some(), "feedback needs", "what callers say is answered with 503"),
        ];
        for (_, who, then) in needs.into_iter().filter(|(is_there, ..)| *is_there) {
            problems.notices.push(format!("{who} headers that wait for the body, and waitForBody is false: {then}"));
        }
    }
    reachable(problems, &tenants, &tenant_from, &keys);
    if let Some(name) = raw.default_model.as_ref().filter(|name| models.iter().all(|model| model.name != **name)) {
        problems.problem("defaultModel", format!("{name:?} is not a configured model; use one of models[].name"));
    }
    Config {
        tenant_from,
        tenant_mode: mode(raw.tenant.mode),
        deny_anonymous,
        jwt_payloads: match raw.tenant.jwt_payload {
            Some(key) => vec![key],
            None => ["jwt_payload", "payload"].map(str::to_owned).to_vec(),
        },
        api_keys: keys,
        unnamed_models,
        tenants,
        sources: looked_up(&models, &limits),
        asks_budget: asks_budget(&models),
        has_pins: has_pins(&models),
        models,
        names,
        limits,
        unreadable: policy(raw.unreadable, Policy::Refuse),
        unknown_model,
        default_model: raw.default_model,
        serves_background: matches!(raw.background, Some(raw::Background::Reserve)),
        contended: policy(raw.contended, Policy::Refuse),
        path_prefixes: raw.path_prefixes,
        count_endpoints: match raw.count_endpoints {
            Some(raw::CountEndpoints::Answer) | None => CountEndpoints::Answer,
            Some(raw::CountEndpoints::Forward) => CountEndpoints::Forward,
            Some(raw::CountEndpoints::Refuse) => CountEndpoints::Refuse,
        },
        lists_models,
        hosts: hosts(problems, raw.hosts),
        paths,
        wait_for_body: match raw.wait_for_body {
            raw::WaitForBody::Auto => WaitForBody::Auto,
            raw::WaitForBody::Yes => WaitForBody::Yes,
            raw::WaitForBody::No => WaitForBody::No,
        },
        count_bytes_max: raw.count_bytes_max.unwrap_or(COUNT_BYTES_MAX),
        decoded_bytes_max: raw.decoded_bytes_max.map_or(DECODED_BYTES_MAX, |bytes| decoded_bytes_max(problems, bytes)),
        series,
        feedback,
        gates,
        tick: raw.tick.as_deref().map_or(TICK, |text| tick(problems, text)),
        notices: core::mem::take(&mut problems.notices),
    }
}

/// Whether some rule asks how much is left of a budget.
fn asks_budget(models: &[Model]) -> bool {
    routings(models).any(|routing| routing.rules.iter().any(|rule| rule.when.budget_below.is_some()))
}

/// Whether the weights of some model are the route's.
fn has_pins(models: &[Model]) -> bool {
    routings(models).any(|routing| routing.owner == Owner::Route)
}

fn routings(models: &[Model]) -> impl Iterator<Item = &Routing> {
    models.iter().filter_map(|model| model.routing.as_ref())
}

/// The sources that are looked up for every request, whatever it is for.
fn looked_up(models: &[Model], limits: &[Limit]) -> Vec<Source> {
    let of_versions = routings(models)
        .flat_map(|routing| routing.choosers.iter().map(|choosers| &choosers.header).chain(&routing.sticky));
    let mut sources: Vec<Source> = Vec::new();
    for source in of_versions.chain(limits.iter().flat_map(|limit| &limit.per)) {
        if source.is_at_headers() && !sources.contains(source) {
            sources.push(source.clone());
        }
    }
    sources
}

/// Gives models and what serves them their places; how many serve.
fn number(models: &mut [Model]) -> usize {
    let mut series = 0usize;
    for (place, model) in models.iter_mut().enumerate() {
        (model.place, model.series) = (place, series);
        series = series.saturating_add(model.versions.len().max(1));
    }
    series
}

/// Whether callers without identity are refused, which the operator is told where nobody said it.
fn deny_anonymous(problems: &mut Problems, raw: Option<raw::Anonymous>, has_sources: bool) -> bool {
    if raw.is_none() && has_sources {
        let text = "tenant.anonymous is not set: callers without an identity are refused (401); they were served before. \
                    Write tenant.anonymous: deny or allow";
        problems.notices.push(text.to_owned());
    }
    raw.map_or(has_sources, |raw| raw == raw::Anonymous::Deny)
}

fn policy(raw: Option<raw::Policy>, default: Policy) -> Policy {
    match raw {
        Some(raw::Policy::Pass) => Policy::Pass,
        Some(raw::Policy::Refuse) => Policy::Refuse,
        None => default,
    }
}

fn decoded_bytes_max(problems: &mut Problems, bytes: u64) -> usize {
    let fits = usize::try_from(bytes).ok().filter(|bytes| *bytes <= DECODED_BYTES_LIMIT);
    fits.unwrap_or_else(|| {
        let what = format!("{bytes} is out of range; write a number of bytes up to {DECODED_BYTES_LIMIT}");
        problems.problem("decodedBytesMax", what);
        DECODED_BYTES_MAX
    })
}

fn tick(problems: &mut Problems, text: &str) -> Millis {
    let tick = problems.duration("tick".into(), text).map_or(TICK, Nanos::to_millis);
    if !(50..=10_000).contains(&tick.0) {
        problems.problem("tick", format!("{text:?} is out of range; write 50ms to 10s"));
    }
    tick
}
