//! How a version is chosen.

use penstock_canary::Split;
use penstock_dialects::OriginKey;

use super::checked::{Choosers, Model, Routing, Source, Tenant, Version};
use super::problems::Problems;
use super::raw;
use super::sources::{header, sources};

/// What a model says of how a version is chosen.
pub struct Said {
    pub sticky: Vec<raw::Source>,
    pub choosers: Option<raw::Override>,
    pub active: Option<String>,
}

/// The versions' shares, by what their weights and `active` say.
pub fn weights(
    problems: &mut Problems,
    path: &str,
    active: Option<&str>,
    versions: &[(String, Option<raw::Weight>)],
) -> Vec<u32> {
    if let Some(active) = active.filter(|active| versions.iter().all(|(name, _)| name != active)) {
        let what = format!("{active:?} is not a version of this model; use one of versions[].name");
        problems.problem(format!("{path}.active"), what);
    }
    let weight = |(j, (name, weight)): (usize, &(String, Option<raw::Weight>))| match (active, weight) {
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
        for (key, is_there) in [("override", choosers.is_some()), ("active", said.active.is_some())] {
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
    let remembers_responses = sticky.contains(&Source::Body(OriginKey::PreviousResponse));
    Some(Routing { split, sticky, choosers, remembers_responses })
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

/// Whether all that may choose are there.
pub fn known(problems: &mut Problems, models: &[Model], tenants: &[Tenant]) {
    for (i, model) in models.iter().enumerate() {
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
