//! The filter in Envoy's own terms, in an EnvoyFilter or a static file.

use penstock_document::at::At;

use super::plugins::strategy;
use crate::check::finding::Findings;
use crate::check::set::{Set, Wasm, versions};

/// Holds each filter against what it needs.
pub fn check(set: &Set, found: &mut Findings) {
    for filter in &set.filters {
        filter.added.iter().for_each(|wasm| one(wasm, found));
        ids(filter.added.iter(), found);
        clusters(set, &filter.added, None, found);
    }
    for envoy in &set.envoys {
        for chain in &envoy.chains {
            chain.wasms.iter().for_each(|wasm| one(wasm, found));
            twice(&chain.wasms, found);
            clusters(set, &chain.wasms, Some(&envoy.root), found);
        }
        ids(envoy.chains.iter().flat_map(|chain| &chain.wasms), found);
    }
    for plugin in &set.plugins {
        // Where an EnvoyFilter stands in, that one's configuration was looked at.
        if let Some(config) =
            plugin.config.as_ref().filter(|_| set.filters.iter().all(|filter| filter.added.is_empty()))
        {
            cluster(set, config, None, found);
        }
    }
}

fn one(wasm: &Wasm, found: &mut Findings) {
    let flag = wasm.plugin.pb("allow_on_headers_stop_iteration");
    if let Some(config) = wasm.config.as_ref().filter(|_| !flag.is_true()) {
        let models = config.get("models").items();
        let is_split = models.len() > 1 || models.iter().any(|model| versions(model).len() > 1);
        if config.get("waitForBody").is_true() {
            found.say("PS202", &flag, &[]);
        } else if is_split {
            found.say("PS203", &flag, &[]);
        }
    }
    let policy = wasm.plugin.pb("failure_policy");
    if policy.exists() || !wasm.plugin.pb("fail_open").is_true() {
        strategy(&policy, "failure_policy", found);
    } else {
        strategy(&wasm.plugin.pb("fail_open"), "fail_open", found);
    }
    let remote = wasm.plugin.down(&["vm_config", "code", "remote"]);
    let (pin, uri) = (remote.get("sha256"), remote.down(&["http_uri", "uri"]));
    if remote.exists() && matches!(pin.words(), "" | "nil") && !uri.words().contains("@sha256:") {
        found.say("PS211", &pin, &[]);
    }
}

/// Shared data has the VM's id before its keys.
fn ids<'a>(wasms: impl Iterator<Item = &'a Wasm>, found: &mut Findings) {
    let mut first: Option<At> = None;
    for wasm in wasms {
        let id = wasm.plugin.down(&["vm_config", "vm_id"]);
        if id.words().is_empty() {
            found.say("PS219", &id, &[]);
            continue;
        }
        match &first {
            Some(first) if first.text() != id.text() => {
                found.say("PS220", &id, &[("value", &id.words()), ("others", &first.words()), ("line", &first.line)]);
            }
            Some(_) => {}
            None => first = Some(id),
        }
    }
}

/// The same plugin again in one chain.
fn twice(wasms: &[Wasm], found: &mut Findings) {
    for (i, wasm) in wasms.iter().enumerate() {
        let root = |wasm: &Wasm| wasm.plugin.pb("root_id").words().to_owned();
        if let Some(other) = wasms[..i].iter().find(|other| root(other) == root(wasm)) {
            let other = format!("{} in line {}", other.name.words(), other.name.line);
            found.say("PS206", &wasm.name, &[("other", &other)]);
        }
    }
}

fn clusters(set: &Set, wasms: &[Wasm], envoy: Option<&At>, found: &mut Findings) {
    for config in wasms.iter().filter_map(|wasm| wasm.config.as_ref()) {
        cluster(set, config, envoy, found);
    }
}

/// The clusters that the filters call: the one that limits of all proxies ask, and those that cold starts probe.
fn cluster(set: &Set, config: &At, envoy: Option<&At>, found: &mut Findings) {
    let service = config.get("mesh").get("service");
    if let Some(name) = service.text().filter(|name| !is_known(set, envoy, name)) {
        found.say("PS310", &service, &[("service", &name)]);
    }
    for model in config.get("models").items() {
        for place in model.get("versions").items().into_iter().chain([model]) {
            let probed = place.get("coldStart").get("cluster");
            if let Some(name) = probed.text().filter(|name| !is_known(set, envoy, name)) {
                found.say("PS311", &probed, &[("cluster", &name)]);
            }
        }
    }
}

/// Whether the proxy has a cluster of this name. Istio names its own: of those only the form can be checked.
fn is_known(set: &Set, envoy: Option<&At>, name: &str) -> bool {
    match envoy {
        Some(envoy) => {
            let clusters = envoy.down(&["static_resources", "clusters"]).items();
            // Clusters may come from elsewhere while it runs.
            envoy.down(&["dynamic_resources", "cds_config"]).exists()
                || clusters.iter().any(|cluster| cluster.get("name").words() == name)
        }
        None => is_outbound(name) || patched(set, name),
    }
}

/// `outbound|8081||ratelimit.llm.svc.cluster.local`
fn is_outbound(name: &str) -> bool {
    let parts: Vec<_> = name.split('|').collect();
    matches!(parts.as_slice(), ["outbound", port, _, host] if port.parse::<u16>().is_ok() && !host.is_empty())
}

fn patched(set: &Set, name: &str) -> bool {
    let patches =
        set.of("networking.istio.io", "EnvoyFilter").flat_map(|filter| filter.spec().get("configPatches").items());
    let mut clusters = patches.filter(|patch| patch.get("applyTo").words() == "CLUSTER");
    clusters.any(|patch| patch.get("patch").get("value").get("name").words() == name)
}
