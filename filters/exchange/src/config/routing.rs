//! How a version is chosen.

use penstock_canary::Split;
use penstock_dialects::OriginKey;
use penstock_units::Tokens;

use super::checked::{Choosers, Model, Owner, Price, Routing, Rule, Shadow, Source, Tenant, Version, When};
use super::problems::Problems;
use super::raw;
use super::sources::{header, sources};

/// What a model says of how a version is chosen.
pub struct Said {
    pub sticky: Vec<raw::Source>,
    pub choosers: Option<raw::Override>,
    pub active: Option<String>,
    pub rules: Vec<raw::Rule>,
    pub shadow: Option<raw::Shadow>,
    pub is_pinned: bool,
    pub price: Price,
    /// It falls back to another model.
    pub has_fallback: bool,
}

/// Who serves, where it is not for the weights to say.
#[derive(Clone, Copy)]
pub struct WhoServes<'a> {
    /// This version.
    pub active: Option<&'a str>,
    /// Whomever the route leads to.
    pub is_pinned: bool,
}

/// How many rules a model may have.
const RULES_MAX: usize = 32;

/// The versions' shares, by what their weights and `active` say.
pub fn weights(
    problems: &mut Problems,
    path: &str,
    WhoServes { active, is_pinned }: WhoServes<'_>,
    versions: &[(String, Option<raw::Weight>)],
) -> Vec<u32> {
    if let Some(active) = active.filter(|active| versions.iter().all(|(name, _)| name != active)) {
        let what = format!("{active:?} is not a version of this model; use one of versions[].name");
        problems.problem(format!("{path}.active"), what);
    }
    let weight = |(j, (name, weight)): (usize, &(String, Option<raw::Weight>))| match (active, weight) {
        (_, weight) if is_pinned => {
            if weight.is_some() {
                let what = "under owns: pin the weights are the route's; leave it out";
                problems.problem(format!("{path}.versions[{j}].weight"), what);
            }
            1
        }
        (Some(active), _) => u32::from(name == active),
        (None, Some(raw::Weight(weight))) => *weight,
        (None, None) => {
            let what = "missing; write the version's share, as 5, or 0 for none";
            problems.problem(format!("{path}.versions[{j}].weight"), what);
            0
        }
    };
    versions.iter().enumerate().map(weight).collect()
}

/// `sticky`, `override`, and the draw. `None` without versions.
pub fn routing(problems: &mut Problems, path: &str, said: Said, versions: &[Version]) -> Option<Routing> {
    let sticky = sources(problems, &format!("{path}.sticky"), said.sticky);
    let choosers = said.choosers.and_then(|raw| choosers(problems, &format!("{path}.override"), raw));
    if versions.is_empty() {
        for (key, is_there) in [
            ("override", choosers.is_some()),
            ("active", said.active.is_some()),
            ("rules", !said.rules.is_empty()),
            ("shadow", said.shadow.is_some()),
            ("owns", said.is_pinned),
        ] {
            if is_there {
                problems.problem(format!("{path}.{key}"), "there is nothing to choose from; write versions");
            }
        }
        return None;
    }
    let weights: Vec<u32> = versions.iter().map(|version| version.weight).collect();
    let Some(split) = Split::new(&weights) else {
        // One that is missing, or of a version that is not there, has been told.
        if said.active.is_none() {
            problems.problem(format!("{path}.versions"), "all weights are 0; give one version a weight");
        }
        return None;
    };
    if said.is_pinned {
        pinned(problems, path, said.active.is_some(), &said.rules, &sticky, versions);
    }
    problems.count(&format!("{path}.rules"), said.rules.len(), RULES_MAX);
    weighs_fallbacks(problems, path, &said.rules, said.has_fallback);
    let rule = |(i, raw)| rule(problems, &format!("{path}.rules[{i}]"), raw, versions);
    let rules: Vec<Rule> = said.rules.into_iter().enumerate().filter_map(rule).collect();
    let weighs_fallbacks = rules.iter().any(|rule| rule.weighs_fallbacks);
    let shadow = said.shadow.and_then(|raw| shadow(problems, &format!("{path}.shadow"), raw, versions));
    let has_prices = versions.iter().any(|version| version.price != said.price);
    let owner = if said.is_pinned { Owner::Route } else { Owner::Penstock };
    let remembers_responses = sticky.contains(&Source::Body(OriginKey::PreviousResponse));
    Some(Routing { split, owner, sticky, choosers, rules, shadow, has_prices, weighs_fallbacks, remembers_responses })
}

/// What has no place where the route draws: nobody knows the version before the request has gone.
fn pinned(
    problems: &mut Problems,
    path: &str,
    has_active: bool,
    rules: &[raw::Rule],
    sticky: &[Source],
    versions: &[Version],
) {
    for (key, is_there) in [("active", has_active), ("rules", !rules.is_empty())] {
        if is_there {
            problems.problem(format!("{path}.{key}"), "under owns: pin the route draws; leave it out");
        }
    }
    for (j, version) in versions.iter().enumerate() {
        if version.model.is_some() {
            let what = "under owns: pin the version is not known when the body is written; let all servers take the same name, and leave it out";
            problems.problem(format!("{path}.versions[{j}].model"), what);
        }
    }
    if sticky.is_empty() {
        problems.notices.push(format!("{path}.sticky is not set: under owns: pin nobody comes back to a version"));
    }
}

/// Whether rules can weigh what they are to weigh. The model is chosen before its limits are asked, and the version behind them.
fn weighs_fallbacks(problems: &mut Problems, path: &str, rules: &[raw::Rule], has_fallback: bool) {
    let mut asks_budget = false;
    for (i, rule) in rules.iter().enumerate() {
        asks_budget |= rule.when.budget_below_percent.is_some();
        let what = match rule {
            raw::Rule { fallbacks: false, .. } => continue,
            raw::Rule { prefer: None, .. } => "nothing is preferred; write prefer: cheapest, or leave it out",
            _ if !has_fallback => "the model has no fallback; name one in models[].fallback, or leave it out",
            _ if asks_budget => {
                "the budget is known only when the model is; leave budgetBelowPercent out here, and put rules that have it behind this one"
            }
            _ => continue,
        };
        problems.problem(format!("{path}.rules[{i}].fallbacks"), what);
    }
}

fn rule(problems: &mut Problems, path: &str, raw: raw::Rule, versions: &[Version]) -> Option<Rule> {
    problems.name(format!("{path}.name"), &raw.name);
    for (j, name) in raw.versions.iter().enumerate() {
        if versions.iter().all(|version| version.name != *name) {
            let what = format!("{name:?} is not a version of this model; use one of versions[].name");
            problems.problem(format!("{path}.versions[{j}]"), what);
        }
    }
    let raw::When { class, tenants, prompt_tokens_from, prompt_tokens_below, tools, images, budget_below_percent } =
        raw.when;
    let prompt = match (prompt_tokens_from, prompt_tokens_below) {
        (None, None) => None,
        (from, below) => Some((Tokens(from.unwrap_or(0)), Tokens(below.unwrap_or(u64::MAX)))),
    };
    if let Some((from, below)) = prompt.filter(|(from, below)| from >= below) {
        let what = format!("no prompt has {from} tokens or more and fewer than {below}; write a larger number");
        problems.problem(format!("{path}.when.promptTokensBelow"), what);
    }
    if let Some(percent) = budget_below_percent.filter(|percent| !(1..=100).contains(percent)) {
        let what = format!("{percent} is out of range; write 1 to 100");
        problems.problem(format!("{path}.when.budgetBelowPercent"), what);
    }
    let when = When { class, tenants, prompt, tools, images, budget_below: budget_below_percent };
    let weights: Vec<u32> = versions.iter().map(|version| version.weight).collect();
    let is_meant = |at: usize| {
        let is_named = |version: &Version| raw.versions.is_empty() || raw.versions.contains(&version.name);
        versions.get(at).is_some_and(is_named)
    };
    let split = Split::among(&weights, is_meant)?;
    let is_cheapest = raw.prefer == Some(raw::Prefer::Cheapest);
    Some(Rule { name: raw.name, when, split, is_cheapest, weighs_fallbacks: raw.fallbacks })
}

fn shadow(problems: &mut Problems, path: &str, raw: raw::Shadow, versions: &[Version]) -> Option<Shadow> {
    let is_known = versions.iter().any(|version| version.name == raw.version);
    if !is_known {
        let what = format!("{:?} is not a version of this model; add it to versions, with weight 0", raw.version);
        problems.problem(format!("{path}.version"), what);
    }
    let is_share = raw.percent > 0.0 && raw.percent <= 100.0;
    if !is_share {
        let what = format!("{} is out of range; write more than 0, and up to 100", raw.percent);
        problems.problem(format!("{path}.percent"), what);
    }
    // Of 2^32 points.
    let end = (raw.percent / 100.0 * 4_294_967_296.0).round() as u64;
    (is_known && is_share).then_some(Shadow { version: raw.version, end })
}

fn choosers(problems: &mut Problems, path: &str, raw: raw::Override) -> Option<Choosers> {
    let header = Source::Header(header(problems, format!("{path}.header"), &raw.header));
    if raw.tenants.is_empty() {
        problems
            .problem(format!("{path}.tenants"), "nobody may choose; name tenants, or write [\"*\"] for whoever asks");
        return None;
    }
    let is_open = raw.tenants.iter().any(|name| name == "*");
    Some(Choosers { header, tenants: (!is_open).then_some(raw.tenants) })
}

/// Whether all tenants are there that may choose, or that a rule is for.
pub fn known(problems: &mut Problems, models: &[Model], tenants: &[Tenant]) {
    for (i, model) in models.iter().enumerate() {
        let rules = model.routing.iter().flat_map(|routing| &routing.rules).enumerate();
        for (j, rule) in rules {
            for (k, name) in rule.when.tenants.iter().enumerate() {
                if tenants.iter().all(|tenant| tenant.name != *name) {
                    let what = format!("{name:?} is not a configured tenant; use a name of tenants");
                    problems.problem(format!("models[{i}].rules[{j}].when.tenants[{k}]"), what);
                }
            }
        }
        let choosers = model.routing.as_ref().and_then(|routing| routing.choosers.as_ref()?.tenants.as_ref());
        for (j, name) in choosers.into_iter().flatten().enumerate() {
            if tenants.iter().all(|tenant| tenant.name != *name) {
                let what =
                    format!("{name:?} is not a configured tenant; use a name of tenants, or \"*\" for whoever asks");
                problems.problem(format!("models[{i}].override.tenants[{j}]"), what);
            }
        }
    }
}
