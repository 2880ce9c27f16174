//! Routes: they follow the version that Penstock drew, are for its hosts, and leave a long answer its time.

use std::collections::{BTreeMap, BTreeSet};

use penstock_document::at::At;

use crate::check::document::Document;
use crate::check::finding::Findings;
use crate::check::set::{Chain, Envoy, Set, versions};

/// An answer of a few thousand tokens takes longer than this.
const SECONDS_MIN: f64 = 60.0;
/// What sends a request again after a server may have begun with it. What Istio and Envoy call them.
const REPEATS: [&str; 7] = [
    "5xx",
    "gateway-error",
    "reset",
    "retriable-4xx",
    "retriable-status-codes",
    "retriable-headers",
    "envoy-ratelimited",
];

/// More wildcards than any gateway has.
const WILDCARDS_MAX: usize = 100;

/// A route, whatever its syntax.
struct Route {
    /// All of it.
    at: At,
    /// The model and the version of each match, where it asks for them.
    matches: Vec<(Option<At>, Option<At>)>,
    /// Where it leads, if to several places.
    weights: Option<At>,
    /// Whether it is for one path alone, as health checks have: no model serves that.
    is_one_path: bool,
    timeout: Option<At>,
    retry: At,
    /// The version that it is for a copy to, where it asks for that.
    shadow: Option<At>,
    /// Where it copies to.
    mirror: Option<At>,
}

/// Holds the routes against the configurations.
pub fn check(set: &Set, found: &mut Findings) {
    let models = set.mesh_models();
    let own_hosts: BTreeSet<String> = set
        .mesh_configs()
        .iter()
        .flat_map(|config| config.get("hosts").items())
        .map(|host| host.words().to_owned())
        .collect();
    let services: Vec<_> = set
        .of("networking.istio.io", "VirtualService")
        .filter(|service| is_ours(service, &own_hosts, &models))
        .collect();
    let http: Vec<_> =
        set.of("gateway.networking.k8s.io", "HTTPRoute").filter(|route| is_ours(route, &own_hosts, &models)).collect();
    let mut routes: Vec<Route> =
        services.iter().flat_map(|service| service.spec().get("http").items()).map(of_istio).collect();
    routes.extend(http.iter().flat_map(|route| route.spec().get("rules").items()).map(of_gateway_api));
    hold(&routes, &models, found);
    shadows(&routes, &models, &|_| false, found);
    services.iter().for_each(|service| subsets(set, service, found));
    let hosts = services.iter().flat_map(|service| service.spec().get("hosts").items());
    let hosts: Vec<At> = hosts.chain(http.iter().flat_map(|route| route.spec().get("hostnames").items())).collect();
    let own = set.mesh_configs().iter().map(|config| config.get("hosts")).find(At::exists);
    own.into_iter().for_each(|own| same_hosts(&own, &hosts, found));
    rollouts(set, &services, &models, found);
    for (envoy, chain) in set.envoys.iter().flat_map(|envoy| envoy.chains.iter().map(move |chain| (envoy, chain))) {
        let configs: Vec<_> = chain.wasms.iter().filter_map(|wasm| wasm.config.clone()).collect();
        let models = configs.iter().flat_map(|config| config.get("models").items());
        let models = models.map(|model| (model.get("name").words().to_owned(), model)).collect();
        let virtuals = chain.manager.down(&["route_config", "virtual_hosts"]).items();
        let routes: Vec<_> = virtuals.iter().flat_map(|host| host.get("routes").items()).filter_map(of_envoy).collect();
        hold(&routes, &models, found);
        shadows(&routes, &models, &|mirror| is_own(envoy, mirror), found);
        let hosts: Vec<_> = virtuals.iter().flat_map(|host| host.get("domains").items()).collect();
        let own = configs.iter().map(|config| config.get("hosts")).find(At::exists);
        own.into_iter().for_each(|own| same_hosts(&own, &hosts, found));
    }
}

/// Models that Penstock splits itself.
fn is_split(model: &At) -> bool {
    versions(model).len() > 1 && model.get("owns").words() != "pin"
}

/// Routes on what Penstock sets, or of its hosts and gateways between versions that it splits: others have a `canary` too.
fn is_ours(document: &Document, hosts: &BTreeSet<String>, models: &BTreeMap<String, At>) -> bool {
    let splits = |route: At| {
        let subsets: BTreeSet<String> = route
            .get("route")
            .items()
            .iter()
            .map(|to| to.get("destination").get("subset").words().to_owned())
            .collect();
        models.values().any(|model| versions(model).iter().filter(|(name, _)| subsets.contains(name)).count() > 1)
    };
    let spec = document.spec();
    let is_served =
        spec.get("gateways").exists() && spec.get("hosts").items().iter().any(|host| hosts.contains(host.words()));
    spec.mentions("x-penstock-") || is_served && spec.get("http").items().into_iter().any(splits)
}

fn of_istio(at: At) -> Route {
    let header = |matched: &At, name: &str| Some(matched.get("headers").get(name).get("exact")).filter(At::exists);
    let matches = at.get("match").items();
    Route {
        is_one_path: are_all(&matches, |one| one.get("uri").get("exact").exists()),
        matches: told(&matches, header),
        weights: Some(at.get("route")).filter(splits),
        timeout: Some(at.get("timeout")).filter(At::exists),
        retry: at.get("retries").get("retryOn"),
        shadow: matches.iter().find_map(|matched| header(matched, "x-penstock-shadow")),
        mirror: ["mirror", "mirrors"].map(|key| at.get(key)).into_iter().find(At::exists),
        at,
    }
}

/// Whether requests go to more than one of these: what has the weight 0 gets none.
fn splits(destinations: &At) -> bool {
    destinations.items().iter().filter(|to| to.get("weight").number() != Some(0.0)).count() > 1
}

/// Whether there are any, and all are so.
fn are_all(matches: &[At], is_so: impl Fn(&At) -> bool) -> bool {
    !matches.is_empty() && matches.iter().all(is_so)
}

/// What each of these asks of the headers that Penstock sets: model and version.
fn told(matches: &[At], header: impl Fn(&At, &str) -> Option<At>) -> Vec<(Option<At>, Option<At>)> {
    matches.iter().map(|one| (header(one, "x-penstock-model"), header(one, "x-penstock-version"))).collect()
}

fn of_gateway_api(at: At) -> Route {
    let header = |matched: &At, name: &str| {
        let header = matched
            .get("headers")
            .items()
            .into_iter()
            .find(|header| header.get("name").words().eq_ignore_ascii_case(name));
        header.map(|header| header.get("value")).filter(At::exists)
    };
    let matches = at.get("matches").items();
    let filters = at.get("filters").items();
    Route {
        shadow: matches.iter().find_map(|matched| header(matched, "x-penstock-shadow")),
        mirror: filters.into_iter().find(|filter| filter.get("type").words() == "RequestMirror"),
        is_one_path: are_all(&matches, |one| one.get("path").get("type").words() == "Exact"),
        matches: told(&matches, header),
        weights: Some(at.get("backendRefs")).filter(splits),
        timeout: Some(at.get("timeouts").get("request")).filter(At::exists),
        retry: at.get("retry").get("codes"),
        at,
    }
}

fn of_envoy(at: At) -> Option<Route> {
    let action = at.get("route");
    if !action.exists() {
        return None;
    }
    let headers = at.get("match").get("headers").items();
    let header = |name: &str| {
        let header = headers.iter().find(|header| header.get("name").words() == name)?;
        [header.down(&["string_match", "exact"]), header.pb("exact_match")].into_iter().find(At::exists)
    };
    Some(Route {
        is_one_path: at.get("match").get("path").exists(),
        matches: vec![(header("x-penstock-model"), header("x-penstock-version"))],
        weights: Some(action.pb("weighted_clusters")).filter(At::exists),
        // Envoy's own timeout is 15 s.
        timeout: Some(action.get("timeout")),
        retry: action.down(&["retry_policy", "retry_on"]),
        shadow: header("x-penstock-shadow"),
        mirror: action.pb("request_mirror_policies").items().into_iter().next(),
        at,
    })
}

fn hold(routes: &[Route], models: &BTreeMap<String, At>, found: &mut Findings) {
    let mut served = BTreeSet::new();
    let mut is_strange = false;
    for route in routes {
        // A route that is for some models alone takes nothing from others.
        let of_split = |model: &Option<At>| match model {
            Some(model) => models.get(model.words()).is_some_and(is_split),
            None => models.values().any(is_split),
        };
        let is_for_split = route.matches.is_empty() && models.values().any(is_split)
            || route.matches.iter().any(|(model, _)| of_split(model));
        if let Some(weights) = route.weights.as_ref().filter(|_| is_for_split) {
            found.say("PS401", weights, &[]);
        }
        times(route, found);
        for (model, version) in &route.matches {
            is_strange |= !known(model.as_ref(), version.as_ref(), models, found);
            let name = model.as_ref().map(|at| at.words().to_owned());
            served.extend(version.as_ref().map(|version| (name, version.words().to_owned())));
        }
    }
    // Routes that take no notice of versions leave all of them to somebody else; one with a slip in its name is the one that is missing.
    if served.is_empty() || is_strange {
        return;
    }
    for (name, model) in models {
        let of_rules = model.get("rules").items().into_iter().flat_map(|rule| rule.get("versions").items());
        let of_rules: BTreeSet<String> = of_rules.map(|version| version.words().to_owned()).collect();
        let may_serve =
            |(version, at): &&(String, At)| at.get("weight").number() != Some(0.0) || of_rules.contains(version);
        for (version, at) in versions(model).iter().filter(may_serve) {
            if !served.contains(&(Some(name.clone()), version.clone())) && !served.contains(&(None, version.clone())) {
                found.say("PS404", at, &[("model", name), ("version", version)]);
            }
        }
    }
}

/// Whether the cluster that a mirror leads to is a listener of the same proxy that has Penstock in its chain.
fn is_own(envoy: &Envoy, mirror: &At) -> bool {
    let name = mirror.get("cluster");
    let clusters = envoy.root.down(&["static_resources", "clusters"]).items();
    let cluster = clusters.iter().find(|cluster| name.exists() && cluster.get("name").words() == name.words());
    let ports = cluster.into_iter().flat_map(|cluster| {
        let hosts = cluster.down(&["load_assignment", "endpoints"]).items();
        let hosts = hosts.into_iter().flat_map(|locality| locality.get("lb_endpoints").items());
        hosts.map(|host| host.down(&["endpoint", "address", "socket_address", "port_value"]).words().to_owned())
    });
    let listens = |port: &String| {
        let own = |chain: &Chain| chain.listener.down(&["address", "socket_address", "port_value"]).words() == port;
        envoy.chains.iter().any(own)
    };
    let ports: Vec<String> = ports.collect();
    !ports.is_empty() && ports.iter().all(listens)
}

/// Whether the copies that a model asks for are made, and of what its server understands. `is_own`: the cluster leads to a listener of the
/// same proxy, whose Penstock writes the name anew.
fn shadows(routes: &[Route], models: &BTreeMap<String, At>, is_own: &dyn Fn(&At) -> bool, found: &mut Findings) {
    // Routes that take no notice of Penstock are somebody else's.
    if routes.iter().flat_map(|route| &route.matches).all(|(model, version)| model.is_none() && version.is_none()) {
        return;
    }
    for (name, model) in models {
        let version = model.get("shadow").get("version");
        if !version.exists() {
            continue;
        }
        let is_meant = |route: &&Route| route.shadow.as_ref().is_some_and(|shadow| shadow.words() == version.words());
        let mirrors = routes.iter().filter(is_meant).filter_map(|route| route.mirror.as_ref());
        let mirrors: Vec<&At> = mirrors.collect();
        if mirrors.is_empty() {
            found.say("PS409", &version, &[("model", name), ("version", &version.words())]);
            continue;
        }
        let called = |at: &At| at.get("model").text().unwrap_or(name).to_owned();
        let versions = versions(model);
        let Some(wanted) = versions.iter().find(|(own, _)| own == version.words()).map(|(_, at)| called(at)) else {
            continue;
        };
        let is_served = |(own, at): &&(String, At)| own != version.words() && at.get("weight").number() != Some(0.0);
        let mut other = versions.iter().filter(is_served).map(|(_, at)| called(at)).filter(|name| *name != wanted);
        if let (Some(value), false) = (other.next(), mirrors.iter().all(|mirror| is_own(mirror))) {
            found.say("PS410", &version, &[("version", &version.words()), ("value", &value), ("wanted", &wanted)]);
        }
    }
}

/// Whether a match is for what is configured.
fn known(model: Option<&At>, version: Option<&At>, models: &BTreeMap<String, At>, found: &mut Findings) -> bool {
    if models.is_empty() {
        return true;
    }
    if let Some(model) = model.filter(|model| !models.contains_key(model.words()) && model.words() != "other") {
        found.say("PS403", model, &[("what", &"model"), ("value", &model.words())]);
        return false;
    }
    let of: Vec<_> = models.iter().filter(|(name, _)| model.is_none_or(|model| model.words() == **name)).collect();
    let Some(version) = version else { return true };
    let is_known = of.iter().flat_map(|(_, model)| versions(model)).any(|(name, _)| name == version.words());
    if !is_known {
        found.say("PS403", version, &[("what", &"version"), ("value", &version.words())]);
    }
    is_known
}

fn times(route: &Route, found: &mut Findings) {
    if route.is_one_path {
        return;
    }
    if let Some(timeout) = &route.timeout {
        let is_short =
            timeout.text().map_or(Some(15.0), seconds).is_some_and(|seconds| seconds > 0.0 && seconds < SECONDS_MIN);
        if is_short {
            let at = if timeout.exists() { timeout } else { &route.at.get("route") };
            found.say("PS308", at, &[("value", &timeout.text().unwrap_or("missing (15s)"))]);
        }
    }
    let codes = route.retry.items();
    let listed = codes.first().map(|code| code.words().to_owned());
    let conditions = route.retry.words().split(',').map(|condition| condition.trim().to_owned());
    let again = |condition: &String| REPEATS.contains(&condition.as_str()) || condition.parse::<u16>().is_ok();
    if let Some(condition) = conditions.chain(listed).find(again) {
        found.say("PS309", &route.retry, &[("condition", &condition)]);
    }
}

/// `1m30s`, `600s`, `500ms`
fn seconds(text: &str) -> Option<f64> {
    let mut rest = text.trim();
    let mut sum = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, behind) = rest.split_at(digits);
        let unit = behind.find(|c: char| c.is_ascii_digit()).unwrap_or(behind.len());
        let (unit, behind) = behind.split_at(unit);
        let size = match unit {
            "ms" => 0.001,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        sum += number.parse::<f64>().ok()? * size;
        rest = behind;
    }
    Some(sum)
}

/// A subset of a host that a DestinationRule of the set is for, but does not have.
fn subsets(set: &Set, service: &Document, found: &mut Findings) {
    let rules: Vec<_> = set.of("networking.istio.io", "DestinationRule").map(Document::spec).collect();
    if rules.is_empty() {
        return;
    }
    let known: BTreeSet<(String, String)> = rules
        .iter()
        .flat_map(|rule| {
            rule.get("subsets")
                .items()
                .into_iter()
                .map(|own| (rule.get("host").words().to_owned(), own.get("name").words().to_owned()))
        })
        .collect();
    for destination in service.spec().get("http").items().iter().flat_map(|route| route.get("route").items()) {
        let destination = destination.get("destination");
        let (host, subset) = (destination.get("host"), destination.get("subset"));
        if subset.exists() && !known.contains(&(host.words().to_owned(), subset.words().to_owned())) {
            found.say("PS405", &subset, &[("host", &host.words()), ("subset", &subset.words())]);
        }
    }
}

/// What one serves and the other does not know passes uncounted, or is not there.
fn same_hosts(own: &At, routed: &[At], found: &mut Findings) {
    let normal = |at: &At| at.words().split(':').next().unwrap_or_default().trim_end_matches('.').to_ascii_lowercase();
    let (ours, theirs): (BTreeSet<_>, BTreeSet<_>) =
        (own.items().iter().map(normal).collect(), routed.iter().map(normal).collect());
    if ours.is_empty() || theirs.is_empty() {
        return;
    }
    for host in routed.iter().filter(|host| !ours.contains(&normal(host))) {
        found.say("PS407", host, &[("host", &host.words())]);
    }
    let wild: Vec<&str> = theirs.iter().filter_map(|their| their.strip_prefix('*')).take(WILDCARDS_MAX).collect();
    let covers = |host: &str| theirs.contains(host) || wild.iter().any(|end| host.ends_with(end));
    for host in own.items().iter().filter(|host| !covers(&normal(host))) {
        found.say("PS408", host, &[("host", &host.words())]);
    }
}

/// Argo Rollouts and Flagger, where they move weights of what Penstock splits.
fn rollouts(set: &Set, services: &[&Document], models: &BTreeMap<String, At>, found: &mut Findings) {
    for document in &set.documents {
        let (place, service, only_opens) = if document.is("argoproj.io", "Rollout") {
            let canary = document.spec().get("strategy").get("canary");
            let routing = canary.get("trafficRouting");
            let name = routing.get("istio").get("virtualService").get("name").words().to_owned();
            let only_opens = opens(services, &canary);
            (routing, name, only_opens)
        } else if document.is("flagger.app", "Canary") {
            let spec = document.spec();
            // Flagger sends what matches to the canary, all of it.
            let only_opens = are_all(&spec.get("analysis").get("match").items(), is_of_one_version);
            (spec.get("service"), spec.get("targetRef").get("name").words().to_owned(), only_opens)
        } else {
            continue;
        };
        if only_opens {
            continue;
        }
        let is_of = |name: &str| {
            let own = &document.name;
            own == name || own.strip_prefix(name).is_some_and(|rest| rest.starts_with('-'))
        };
        let moves = services.iter().any(|ours| is_named(ours, &service));
        let split = models.iter().filter(|(_, model)| is_split(model)).find(|(name, _)| moves || is_of(name));
        if let (Some((model, _)), true) = (split, place.exists()) {
            let kind = document.root.get("kind");
            found.say("PS402", &place, &[("kind", &kind.words()), ("name", &document.name), ("model", model)]);
        }
    }
}

/// Whether a Rollout only opens and shuts routes of one version each, which splits nothing.
fn opens(services: &[&Document], canary: &At) -> bool {
    let service = canary.down(&["trafficRouting", "istio", "virtualService"]);
    let rules = services.iter().filter(|ours| is_named(ours, service.get("name").words()));
    let rules: Vec<At> = rules.flat_map(|ours| ours.spec().get("http").items()).collect();
    let is_whole = |step: &At| [None, Some(0.0), Some(100.0)].contains(&step.get("setWeight").number());
    are_all(&service.get("routes").items(), |name| {
        let rule = rules.iter().find(|rule| rule.get("name").words() == name.words());
        rule.is_some_and(|rule| are_all(&rule.get("match").items(), is_of_one_version))
    }) && are_all(&canary.get("steps").items(), is_whole)
}

fn is_of_one_version(matched: &At) -> bool {
    matched.get("headers").get("x-penstock-version").get("exact").exists()
}

/// Argo writes NAME, or NAME.NAMESPACE.
fn is_named(service: &Document, name: &str) -> bool {
    let rest = name.strip_prefix(service.name.as_str());
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}
