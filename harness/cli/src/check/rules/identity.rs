//! Tenants that come from tokens: who verifies them, when, and where the claims are left.

use penstock_document::at::At;

use crate::check::finding::Findings;
use crate::check::set::{Chain, Set};

/// Where Penstock looks if `tenant.jwtPayload` says nothing.
const PAYLOADS: [&str; 2] = ["jwt_payload", "payload"];
/// Where Istio's RequestAuthentication leaves claims.
const ISTIOS: &str = "payload";

/// Holds the sources of tenants against what is in front.
pub fn check(set: &Set, found: &mut Findings) {
    let configs = set.mesh_configs();
    if configs.iter().any(reads_tokens) {
        for plugin in &set.plugins {
            let phase = plugin.document.spec().get("phase");
            if phase.words() == "AUTHN" {
                found.say("PS214", &phase, &[("phase", &"AUTHN")]);
            }
        }
    }
    if !set.plugins.is_empty() || !set.filters.is_empty() {
        for config in configs.first().into_iter().filter(|config| reads_tokens(config)) {
            let payload = config.get("tenant").get("jwtPayload");
            if payload.exists() && payload.words() != ISTIOS {
                found.say("PS501", &payload, &[("value", &payload.words()), ("others", &ISTIOS)]);
            }
        }
    }
    set.envoys.iter().flat_map(|envoy| &envoy.chains).for_each(|chain| in_front(chain, found));
}

fn reads_tokens(config: &At) -> bool {
    config.get("tenant").get("from").items().iter().any(|source| source.get("jwt").exists())
}

fn in_front(chain: &Chain, found: &mut Findings) {
    for wasm in &chain.wasms {
        let Some(config) = wasm.config.as_ref().filter(|config| reads_tokens(config)) else { continue };
        let filters = chain.manager.pb("http_filters").items();
        let before = filters.iter().take_while(|filter| filter.line < wasm.plugin.line);
        let providers = before.flat_map(|filter| filter.pb("typed_config").get("providers").entries());
        let left: Vec<At> =
            providers.map(|(_, provider)| provider.pb("payload_in_metadata")).filter(At::exists).collect();
        let from = config.get("tenant").get("from");
        let Some(first) = left.first() else {
            found.say("PS502", &from, &[]);
            continue;
        };
        let payload = config.get("tenant").get("jwtPayload");
        let is_read = |key: &str| if payload.exists() { payload.words() == key } else { PAYLOADS.contains(&key) };
        if !left.iter().any(|key| is_read(key.words())) {
            let value = payload.text().unwrap_or("jwt_payload or payload").to_owned();
            let at = if payload.exists() { &payload } else { &from };
            found.say("PS501", at, &[("value", &value), ("others", &first.words())]);
        }
    }
}
