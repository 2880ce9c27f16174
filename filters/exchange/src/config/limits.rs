//! Limits, and the service behind those that all proxies share.

use std::rc::Rc;

use penstock_bucket::Rate;
use penstock_bucket::credit::Allowance;
use penstock_units::{MilliTokens, Millis, Nanos, Tokens};

use super::checked::{
    Kind, LIMITS_MAX, Limit, Mode, Model, OnError, Origin, RateLimitService, Source, Tenant, Weights, Whose,
};
use super::problems::{Problems, mode};
use super::raw;
use super::sources::sources;
use crate::hash::digest;

/// How long a bucket may take to refill: an instant that far ahead is still one that can be written down.
const REFILL_MAX: u128 = 50 * 365 * 86_400 * 1_000_000_000;

/// How long a rate limit service may take to answer.
const TIMEOUT: Millis = Millis(100);

/// `limits` and `mesh`
pub fn limits(
    problems: &mut Problems,
    raw: Vec<raw::Limit>,
    mesh: Option<raw::Mesh>,
    models: &[Model],
    tenants: &[Tenant],
) -> Vec<Limit> {
    problems.count("limits", raw.len(), LIMITS_MAX);
    let service = mesh.map(|mesh| Rc::new(rate_limit_service(problems, mesh)));
    let read = |(i, raw)| Some((i, limit(problems, i, raw, service.as_ref())?));
    let indexed: Vec<(usize, Limit)> = raw.into_iter().enumerate().filter_map(read).collect();
    for (at, (i, limit)) in indexed.iter().enumerate() {
        if indexed.iter().take(at).any(|(_, other)| other.name == limit.name) {
            problems.problem(format!("limits[{i}].name"), format!("{:?} is used twice; give each a name", limit.name));
        }
        if let Some(model) = &limit.model
            && !models.iter().any(|known| known.name == *model)
        {
            let what = format!("{model:?} is not a configured model; use one of models[].name");
            problems.problem(format!("limits[{i}].match.model"), what);
        }
        if let Some(Whose::Named(tenant)) = &limit.tenant
            && !tenants.iter().any(|known| known.name == *tenant)
        {
            let what = format!("{tenant:?} is not a configured tenant; use a name of tenants, or unnamed");
            problems.problem(format!("limits[{i}].match.tenant"), what);
        }
    }
    let mut limits: Vec<Limit> = indexed.into_iter().map(|(_, limit)| limit).collect();
    limits.sort_by_key(|limit| matches!(limit.kind, Kind::Mesh { .. }));
    limits
}

/// Tells where whoever makes up identities, or values of a header, has a limit's whole size for each of them.
pub fn strangers(problems: &mut Problems, limits: &[Limit], origins: &[Origin]) {
    let may_be_made_up = origins.iter().any(|origin| !origin.is_verified());
    let holds = |limit: &&Limit| limit.mode == Mode::Enforce && !matches!(limit.kind, Kind::Session(_));
    let of_unnamed = |limit: &&Limit| {
        // Who has no name has no class.
        let is_theirs = limit.class.is_none() && matches!(limit.tenant, None | Some(Whose::Unnamed));
        is_theirs && !matches!(limit.kind, Kind::Session(_))
    };
    let is_for_all = |limit: &Limit| {
        let is_one = limit.per.iter().all(|source| *source == Source::Model);
        is_one && limit.model.is_none() && limit.mode == Mode::Enforce
    };
    let mut theirs = limits.iter().filter(of_unnamed);
    let each = theirs.clone().find(|limit| limit.per.contains(&Source::Tenant));
    if let Some(each) = each.filter(|_| may_be_made_up && !theirs.any(is_for_all)) {
        let text = format!(
            "limit {:?} holds for each tenant, and anybody can make up tenants: tenant.from has a source that nobody verifies. Add a limit \
             for all of them together, with match: {{tenant: unnamed}} and without per",
            each.name
        );
        problems.notices.push(text);
    }
    // A limit that counts the same callers together, whatever headers they send.
    let bounds = |limit: &Limit, other: &Limit| {
        other.per.iter().all(|source| matches!(source, Source::Tenant | Source::Model))
            && (other.class.is_none() || other.class == limit.class)
            && (other.model.is_none() || other.model == limit.model)
            && (other.tenant.is_none() || other.tenant == limit.tenant)
    };
    for limit in limits.iter().filter(holds) {
        let header = limit.per.iter().find_map(|source| match source {
            Source::Header(name) => Some(format!("header {name}")),
            Source::Cookie(name) => Some(format!("cookie {name}")),
            Source::Jwt(_) | Source::Property(_) | Source::Body(_) | Source::Tenant | Source::Model => None,
        });
        if let Some(header) = header.filter(|_| !limits.iter().filter(holds).any(|other| bounds(limit, other))) {
            let text = format!(
                "limit {:?} holds for each value of the {header}, and whoever writes another has its whole size again. Add a limit \
                 without it, or see to it that a filter in front sets it and takes it from clients",
                limit.name
            );
            problems.notices.push(text);
        }
    }
}

fn limit(problems: &mut Problems, i: usize, raw: raw::Limit, service: Option<&Rc<RateLimitService>>) -> Option<Limit> {
    let path = format!("limits[{i}]");
    problems.name(format!("{path}.name"), &raw.name);
    let per = sources(problems, &format!("{path}.per"), raw.per);
    if let Some(j) = per.iter().position(|source| matches!(source, Source::Body(_))) {
        let what = "body is for sticky: what a client writes there is nobody's identity; use tenant, or a header";
        problems.problem(format!("{path}.per[{j}].body"), what);
    }
    let kind = match (raw.tokens, raw.concurrent, &raw.session) {
        (Some(tokens), None, None) => {
            let rate = rate(problems, &path, tokens, raw.every.as_deref(), raw.burst)?;
            let weights = weights(problems, &path, &raw.cost.unwrap_or_default());
            match raw.scope {
                Some(raw::Scope::Mesh) => {
                    let Some(service) = service else {
                        let what = "mesh needs a service; add a section mesh: {service: …} that names its cluster";
                        problems.problem(format!("{path}.scope"), what);
                        return None;
                    };
                    Kind::Mesh { rate, weights, service: service.clone() }
                }
                Some(raw::Scope::Proxy) | None => Kind::Rate { rate, weights },
            }
        }
        (None, Some(max), None) => {
            if max == 0 {
                let what = "0 admits nobody; write 1 or more, or suspend the tenant";
                problems.problem(format!("{path}.concurrent"), what);
            }
            Kind::Concurrency { max }
        }
        (None, None, Some(session)) => Kind::Session(allowance(problems, &path, session)),
        (None, None, None) => {
            problems.problem(path, "no limit is given; write tokens and every, or concurrent, or session");
            return None;
        }
        _ => {
            problems.problem(path, "tokens, concurrent and session are limits of their own; write one entry for each");
            return None;
        }
    };
    let period = match &kind {
        Kind::Rate { rate, .. } | Kind::Mesh { rate, .. } => rate.period(),
        Kind::Concurrency { .. } | Kind::Session(_) => Nanos::ZERO,
    };
    let id = digest(&[raw.name.as_bytes(), &[0], &period.0.to_le_bytes()].concat());
    Some(Limit {
        id: id.first_chunk().copied().unwrap_or_default(),
        name: raw.name.into(),
        per,
        class: raw.matches.class,
        model: raw.matches.model,
        tenant: raw.matches.tenant.map(|tenant| match tenant.as_str() {
            "unnamed" => Whose::Unnamed,
            _ => Whose::Named(tenant),
        }),
        mode: mode(raw.mode),
        kind,
    })
}

fn rate(problems: &mut Problems, path: &str, tokens: u64, every: Option<&str>, burst: Option<u64>) -> Option<Rate> {
    let Some(every) = every else {
        problems.problem(format!("{path}.every"), "missing; write the period of the tokens, as in 1m");
        return None;
    };
    let period = problems.duration(format!("{path}.every"), every)?;
    let burst = burst.unwrap_or(tokens);
    let rate = Rate::new(Tokens(tokens), period, Tokens(burst));
    if rate.is_none() {
        problems.problem(format!("{path}.tokens"), format!("{tokens} is out of range; write 1 to {}", 1u64 << 40));
    }
    let refill = u128::from(burst).saturating_mul(u128::from(period.0)).checked_div(u128::from(tokens));
    if rate.is_some() && refill.is_some_and(|refill| refill > REFILL_MAX) {
        let what = "the bucket takes more than 50 years to refill; raise tokens, or use a session";
        problems.problem(format!("{path}.burst"), what);
    }
    rate
}

fn weights(problems: &mut Problems, path: &str, raw: &raw::Cost) -> Weights {
    let mut read = |key: &str, weight: Option<f64>| {
        let weight = weight.unwrap_or(1.0);
        if !(0.0..=1000.0).contains(&weight) {
            problems.problem(format!("{path}.cost.{key}"), format!("{weight} is not a weight; write 0 to 1000"));
            return MilliTokens::ZERO;
        }
        MilliTokens((weight * 1000.0).round() as u64)
    };
    Weights {
        input: read("input", raw.input),
        cached: read("cached", raw.cached.or(raw.input)),
        output: read("output", raw.output),
    }
}

fn allowance(problems: &mut Problems, path: &str, raw: &raw::Session) -> Allowance {
    let counts = [("tokens", raw.tokens), ("calls", raw.calls), ("toolCalls", raw.tool_calls)];
    if counts.iter().all(|(_, max)| max.is_none()) && raw.wall_clock.is_none() {
        problems.problem(format!("{path}.session"), "nothing is limited; write tokens, calls, toolCalls or wallClock");
    }
    for (key, _) in counts.iter().filter(|(_, max)| *max == Some(0)) {
        problems.problem(format!("{path}.session.{key}"), "0 admits nobody; write 1 or more, or leave it out");
    }
    let wall_clock = raw.wall_clock.as_ref();
    Allowance {
        tokens: raw.tokens.map(Tokens),
        calls: raw.calls,
        tool_calls: raw.tool_calls,
        wall_clock: wall_clock.and_then(|text| problems.duration(format!("{path}.session.wallClock"), text)),
    }
}

fn rate_limit_service(problems: &mut Problems, raw: raw::Mesh) -> RateLimitService {
    // It travels in a message whose lengths take one byte each.
    if !(1..=120).contains(&raw.service.len()) {
        problems.problem("mesh.service", "write the name of a cluster of the proxy, at most 120 bytes long");
    }
    let timeout = raw.timeout.as_deref().map_or(Some(TIMEOUT), |text| {
        let timeout = problems.duration("mesh.timeout".into(), text)?.to_millis();
        if !(1..=10_000).contains(&timeout.0) {
            problems.problem("mesh.timeout", format!("{text:?} is out of range; write 1ms to 10s"));
        }
        Some(timeout)
    });
    if raw.salt.is_none() {
        let text = "mesh.salt is not set: keys go to the service under hashes that anybody can make; set the same one on all proxies";
        problems.notices.push(text.to_owned());
    }
    RateLimitService {
        cluster: raw.service,
        domain: raw.domain.unwrap_or_else(|| "penstock".to_owned()),
        timeout: timeout.unwrap_or(TIMEOUT),
        on_error: match raw.on_error {
            Some(raw::OnError::Open) => OnError::Open,
            Some(raw::OnError::Closed) => OnError::Closed,
            Some(raw::OnError::Local) | None => OnError::Local,
        },
        salt: digest(raw.salt.unwrap_or_default().as_bytes()),
    }
}
