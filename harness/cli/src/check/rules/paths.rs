//! What the proxy makes of paths and of `Expect: 100-continue` before Penstock sees a request.

use penstock_document::at::At;

use crate::check::document::{Document, Kind};
use crate::check::finding::Findings;
use crate::check::set::{Chain, Set};

/// Holds managers and the mesh against what the filters rely on.
pub fn check(set: &Set, found: &mut Findings) {
    for chain in set.envoys.iter().flat_map(|envoy| &envoy.chains) {
        manager(chain, found);
    }
    let waits = set.mesh_configs().iter().any(|config| config.get("waitForBody").is_true());
    let is_normal =
        set.filters.iter().any(|filter| filter.document.spec().get("configPatches").items().iter().any(normalizes));
    for document in &set.documents {
        mesh(document, waits, is_normal, found);
    }
}

/// A patch that does for some gateways what the mesh can do for all.
fn normalizes(patch: &At) -> bool {
    let manager = patch.get("patch").get("value").pb("typed_config");
    let escaped = manager.pb("path_with_escaped_slashes_action");
    manager.pb("normalize_path").is_true() && manager.pb("merge_slashes").is_true() && is_safe(&escaped)
}

/// What is done with slashes that are written as `%2f`.
fn is_safe(action: &At) -> bool {
    matches!(action.words(), "UNESCAPE_AND_FORWARD" | "UNESCAPE_AND_REDIRECT" | "REJECT_REQUEST")
}

fn manager(chain: &Chain, found: &mut Findings) {
    let shown = |at: &At| at.text().unwrap_or("missing").to_owned();
    for key in ["normalize_path", "merge_slashes"] {
        let at = chain.manager.pb(key);
        if !at.is_true() {
            found.say("PS306", &at, &[("key", &key), ("value", &shown(&at)), ("wanted", &format!("{key}: true"))]);
        }
    }
    let at = chain.manager.pb("path_with_escaped_slashes_action");
    if !is_safe(&at) {
        let key = "path_with_escaped_slashes_action";
        found.say("PS306", &at, &[("key", &key), ("value", &shown(&at)), ("wanted", &"UNESCAPE_AND_FORWARD")]);
    }
    let at = chain.manager.pb("proxy_100_continue");
    if at.is_true() {
        found.say("PS307", &at, &[("key", &"proxy_100_continue is true"), ("wanted", &"proxy_100_continue: false")]);
    }
}

fn mesh(document: &Document, waits: bool, is_normal: bool, found: &mut Findings) {
    let values = match &document.kind {
        Kind::Mesh => document.root.clone(),
        Kind::Resource(_, kind) if kind == "IstioOperator" => document.spec(),
        _ => return,
    };
    let at = values.get("meshConfig").get("pathNormalization").get("normalization");
    if !is_normal && at.text() != Some("DECODE_AND_MERGE_SLASHES") {
        let arguments: [(&str, &dyn std::fmt::Display); 3] = [
            ("key", &"pathNormalization.normalization"),
            ("value", &at.text().unwrap_or("missing")),
            ("wanted", &"normalization: DECODE_AND_MERGE_SLASHES"),
        ];
        found.say("PS306", &at, &arguments);
    }
    let keys = ["env", "values.pilot.env", "pilot.env"];
    let env = keys.map(|path| path.split('.').fold(values.clone(), |at, key| at.get(key)));
    let at = env.into_iter().find(At::exists).unwrap_or(values).get("ENABLE_100_CONTINUE_HEADERS");
    if waits && at.text() != Some("false") {
        let key = format!("ENABLE_100_CONTINUE_HEADERS is {}", at.text().unwrap_or("missing"));
        found.say("PS307", &at, &[("key", &key), ("wanted", &"ENABLE_100_CONTINUE_HEADERS: \"false\"")]);
    }
}
