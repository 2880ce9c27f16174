//! Buffers: how long a request may be that waits for its verdict.

use penstock_document::at::At;

use crate::check::document::{Document, Kind};
use crate::check::finding::Findings;
use crate::check::set::{Envoy, Set};

/// What Envoy buffers where nothing is said (`per_connection_buffer_limit_bytes`).
const ENVOYS_BYTES: f64 = 1_048_576.0;
/// What Penstock counts exactly where nothing is said (`countBytesMax`).
const COUNTED_BYTES: f64 = 4_194_304.0;
/// What Istio 1.31's profile EDGE has for `listener_per_connection_buffer_limit_bytes`.
const EDGE_BYTES: f64 = 32_768.0;

/// Holds the buffers against the configurations.
pub fn check(set: &Set, found: &mut Findings) {
    set.envoys.iter().for_each(|envoy| of_envoy(envoy, found));
    let patches: Vec<At> =
        set.filters.iter().flat_map(|filter| filter.document.spec().get("configPatches").items()).collect();
    let limits: Vec<At> =
        patches.iter().map(|patch| limit(&patch.get("patch").get("value"))).filter(At::exists).collect();
    let configs = set.mesh_configs();
    for at in &limits {
        enough(at, ENVOYS_BYTES, &configs, found);
    }
    let is_buffer = |filter: &Document| {
        filter.spec().get("configPatches").items().iter().any(|patch| limit(&patch.get("patch").get("value")).exists())
    };
    if set.of("networking.istio.io", "EnvoyFilter").any(is_buffer) && limits.is_empty() {
        // An EnvoyFilter that is not Penstock's, for pods that may be others.
        return;
    }
    // Nothing raises it, and the filter is in force.
    if let Some(filter) = set.filters.iter().find(|filter| !filter.added.is_empty()).filter(|_| limits.is_empty()) {
        enough(&filter.document.spec().get("configPatches"), ENVOYS_BYTES, &configs, found);
    }
    if limits.is_empty() {
        set.documents.iter().for_each(|document| edge(document, found));
    }
}

fn limit(at: &At) -> At {
    ["per_connection_buffer_limit_bytes", "request_body_buffer_limit"]
        .map(|key| at.pb(key))
        .into_iter()
        .find(At::exists)
        .unwrap_or_else(|| at.pb("per_connection_buffer_limit_bytes"))
}

fn of_envoy(envoy: &Envoy, found: &mut Findings) {
    for chain in &envoy.chains {
        let configs: Vec<_> = chain.wasms.iter().filter_map(|wasm| wasm.config.clone()).collect();
        let at = chain.listener.pb("per_connection_buffer_limit_bytes");
        enough(&at, ENVOYS_BYTES, &configs, found);
        let window = chain.manager.down(&["http2_protocol_options", "initial_stream_window_size"]);
        if window.exists() {
            enough(&window, ENVOYS_BYTES, &configs, found);
        }
        for host in chain.manager.down(&["route_config", "virtual_hosts"]).items() {
            for place in host.get("routes").items().into_iter().chain([host]) {
                let at = place.pb("request_body_buffer_limit");
                if at.exists() {
                    enough(&at, ENVOYS_BYTES, &configs, found);
                }
            }
        }
    }
}

/// At least what the configurations say; where they say nothing, what is counted by default, with a warning.
fn enough(at: &At, default: f64, configs: &[At], found: &mut Findings) {
    let bytes = at.number().unwrap_or(default);
    let sizes = configs
        .iter()
        .flat_map(|config| ["countBytesMax", "decodedBytesMax"].map(|key| (key, config.get(key).number())));
    let sizes = sizes.filter_map(|(key, size)| Some((key, size?)));
    match sizes.max_by(|(_, one), (_, other)| one.total_cmp(other)) {
        Some((key, wanted)) if wanted > bytes => {
            found.say("PS303", at, &[("bytes", &bytes), ("key", &key), ("wanted", &wanted)]);
        }
        None if bytes < COUNTED_BYTES => found.say("PS304", at, &[("bytes", &bytes)]),
        _ => {}
    }
}

/// `connectionSettings.profile: EDGE`, of the mesh or of pods.
fn edge(document: &Document, found: &mut Findings) {
    let config = match &document.kind {
        Kind::Mesh => document.root.get("meshConfig").get("defaultConfig"),
        Kind::Resource(_, kind) if kind == "IstioOperator" => document.spec().get("meshConfig").get("defaultConfig"),
        Kind::Resource(group, kind) if kind == "ProxyConfig" && group == "networking.istio.io" => document.spec(),
        Kind::Resource(..) => {
            let meta = document.spec().get("template").get("metadata");
            match meta.get("annotations").get("proxy.istio.io/config").inner() {
                Some(config) => config,
                None => return,
            }
        }
        _ => return,
    };
    let settings = config.get("connectionSettings");
    let profile = settings.get("profile");
    if profile.text() != Some("EDGE") {
        return;
    }
    for (key, bytes) in
        [("listenerPerConnectionBufferLimitBytes", EDGE_BYTES), ("http2InitialStreamWindowSize", 65_536.0)]
    {
        let own = settings.get(key);
        if own.number().unwrap_or(bytes) < ENVOYS_BYTES {
            let at = if own.exists() { &own } else { &profile };
            found.say("PS305", at, &[("bytes", &own.number().unwrap_or(bytes)), ("key", &key)]);
        }
    }
}
