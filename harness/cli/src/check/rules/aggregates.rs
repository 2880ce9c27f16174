//! Aggregate clusters: what a request is sent to a second time, or instead, takes the name that the first one's server was to get.

use std::collections::{BTreeMap, BTreeSet};

use penstock_document::at::At;

use crate::check::finding::Findings;
use crate::check::set::{Chain, Envoy, Set, versions};

/// Holds what aggregate clusters are made of against the versions that are routed to them.
pub fn check(set: &Set, found: &mut Findings) {
    for (envoy, chain) in set.envoys.iter().flat_map(|envoy| envoy.chains.iter().map(move |chain| (envoy, chain))) {
        let members = aggregates(envoy);
        if !members.is_empty() {
            hold(&members, &names(chain), found);
        }
    }
}

/// The members of each aggregate cluster, in the order in which they are tried.
fn aggregates(envoy: &Envoy) -> BTreeMap<String, Vec<At>> {
    let clusters = envoy.root.down(&["static_resources", "clusters"]).items();
    let aggregate = |cluster: At| {
        let members = cluster.pb("cluster_type").pb("typed_config").get("clusters").items();
        (cluster.get("name").words().to_owned(), members)
    };
    clusters.into_iter().map(aggregate).filter(|(_, members)| !members.is_empty()).collect()
}

/// What the body says to each cluster that a route leads to: the names of the versions that the route is for.
fn names(chain: &Chain) -> BTreeMap<String, BTreeSet<String>> {
    let configs = chain.wasms.iter().filter_map(|wasm| wasm.config.as_ref());
    let models: Vec<At> = configs.flat_map(|config| config.get("models").items()).collect();
    let virtuals = chain.manager.down(&["route_config", "virtual_hosts"]).items();
    let mut names: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for route in virtuals.iter().flat_map(|host| host.get("routes").items()) {
        let headers = route.get("match").get("headers").items();
        let wanted = |name: &str| {
            let header = headers.iter().find(|header| header.get("name").words() == name)?;
            [header.down(&["string_match", "exact"]), header.pb("exact_match")].into_iter().find(At::exists)
        };
        let (model, version) = (wanted("x-penstock-model"), wanted("x-penstock-version"));
        if model.is_none() && version.is_none() {
            continue;
        }
        let cluster = route.down(&["route", "cluster"]).words().to_owned();
        for at in &models {
            let name = at.get("name");
            let name = name.words();
            if model.as_ref().is_some_and(|model| model.words() != name) {
                continue;
            }
            let is_meant = |own: &str| version.as_ref().is_none_or(|version| version.words() == own);
            let called = |(_, at): (String, At)| at.get("model").text().unwrap_or(name).to_owned();
            let called = versions(at).into_iter().filter(|(own, _)| is_meant(own)).map(called);
            names.entry(cluster.clone()).or_default().extend(called);
        }
    }
    names
}

fn hold(aggregates: &BTreeMap<String, Vec<At>>, sent: &BTreeMap<String, BTreeSet<String>>, found: &mut Findings) {
    // The first member is the version's own: what it is sent is what its server takes.
    let mut taken = sent.clone();
    for (aggregate, members) in aggregates {
        if let (Some(names), Some(first)) = (sent.get(aggregate), members.first()) {
            taken.entry(first.words().to_owned()).or_default().extend(names.iter().cloned());
        }
    }
    for (aggregate, members) in aggregates {
        let Some(names) = sent.get(aggregate) else { continue };
        for member in members.iter().skip(1) {
            let Some(takes) = taken.get(member.words()) else { continue };
            if let (Some(value), Some(wanted)) = (names.iter().find(|name| !takes.contains(*name)), takes.first()) {
                found.say(
                    "PS411",
                    member,
                    &[("cluster", &member.words()), ("value", value), ("wanted", wanted), ("aggregate", aggregate)],
                );
            }
        }
    }
}
