//! WasmPlugin and TrafficExtension: what they load, for which gateways, and whether one is enough.

use std::collections::BTreeMap;

use penstock_document::at::At;

use crate::check::document::Document;
use crate::check::finding::Findings;
use crate::check::set::{Plugin, Set};

/// Holds the plugins against the set.
pub fn check(set: &Set, found: &mut Findings) {
    for (i, plugin) in set.plugins.iter().enumerate() {
        second(plugin, &set.plugins[..i], found);
        headers(set, plugin, found);
        trap(plugin, found);
        pinned(plugin, found);
        selector(set, plugin, found);
        targets(set, &plugin.document, found);
    }
    for filter in &set.filters {
        targets(set, &filter.document, found);
    }
}

fn second(plugin: &Plugin, before: &[Plugin], found: &mut Findings) {
    if let Some(other) = first_of(plugin, before) {
        found.say("PS206", &plugin.document.root.get("kind"), &[("other", &other.document.title())]);
    }
}

/// The plugin that already does what this one does, for the same pods. Four in a row have different names.
pub fn first_of<'a>(plugin: &Plugin, before: &'a [Plugin]) -> Option<&'a Plugin> {
    let name = |plugin: &Plugin| plugin.wasm.get("pluginName").words().to_owned();
    let has_all = |plugin: &Plugin| name(plugin) == "penstock";
    let is_same = |other: &&Plugin| name(other) == name(plugin) || has_all(other) || has_all(plugin);
    before.iter().filter(is_same).find(|other| binding(&other.document) == binding(&plugin.document))
}

fn headers(set: &Set, plugin: &Plugin, found: &mut Findings) {
    let Some(wait) = plugin.config.as_ref().map(|config| config.get("waitForBody")).filter(At::is_true) else { return };
    if set.filters.iter().all(|filter| filter.added.is_empty()) {
        found.say("PS201", &wait, &[]);
    }
}

fn trap(plugin: &Plugin, found: &mut Findings) {
    strategy(&plugin.wasm.get("failStrategy"), "failStrategy", found);
}

/// What becomes of requests after a trap; for Envoy's own name of it too.
pub fn strategy(at: &At, key: &str, found: &mut Findings) {
    match at.text() {
        Some("FAIL_RELOAD") => {}
        Some("FAIL_OPEN") => found.say("PS213", at, &[("key", &key)]),
        other => found.say("PS212", at, &[("key", &key), ("value", &other.unwrap_or("missing (FAIL_CLOSED)"))]),
    }
}

/// A digest stands in `sha256`, or in the name of the image.
fn pinned(plugin: &Plugin, found: &mut Findings) {
    let (url, pin) = (plugin.wasm.get("url"), plugin.wasm.get("sha256"));
    let is_remote = !url.words().starts_with("file://");
    if is_remote && pin.words().is_empty() && !url.words().contains("@sha256:") {
        found.say("PS211", &url, &[]);
    }
}

/// What pods a resource is for: its namespace, and how it selects there.
pub fn binding(document: &Document) -> (String, BTreeMap<String, String>, Vec<String>) {
    let spec = document.spec();
    let labels = match spec.get("workloadSelector").get("labels") {
        labels if labels.exists() => labels,
        _ => spec.get("selector").get("matchLabels"),
    };
    let mut targets: Vec<_> = spec.get("targetRefs").items();
    targets.push(spec.get("targetRef"));
    let targets = targets.iter().filter(|target| target.exists());
    let named = targets.map(|target| format!("{} {}", target.get("kind").words(), target.get("name").words()));
    (document.namespace.clone(), pairs(&labels), named.collect())
}

fn pairs(labels: &At) -> BTreeMap<String, String> {
    labels.entries().into_iter().map(|(key, value)| (key, value.words().to_owned())).collect()
}

/// A plugin whose labels no gateway of the set has. Gateways say which labels their pods have at least; pods themselves say all.
fn selector(set: &Set, plugin: &Plugin, found: &mut Findings) {
    let at = plugin.document.spec().get("selector").get("matchLabels");
    let wanted = pairs(&at);
    if wanted.is_empty() {
        return;
    }
    let gateways: Vec<_> =
        set.of("networking.istio.io", "Gateway").map(|gateway| pairs(&gateway.spec().get("selector"))).collect();
    let is_against = |labels: &BTreeMap<String, String>| {
        wanted.iter().any(|(key, value)| labels.get(key).is_some_and(|other| other != value))
    };
    if !gateways.is_empty() && gateways.iter().all(is_against) {
        let text = |labels: &BTreeMap<String, String>| {
            labels.iter().map(|(key, value)| format!("{key}: {value}")).collect::<Vec<_>>().join(", ")
        };
        let all = gateways.iter().map(text).collect::<Vec<_>>().join("; ");
        found.say("PS215", &at, &[("selector", &text(&wanted)), ("gateways", &all)]);
    }
}

/// `targetRefs` to a gateway that is not among those of the set.
fn targets(set: &Set, document: &Document, found: &mut Findings) {
    let spec = document.spec();
    let mut targets = spec.get("targetRefs").items();
    targets.extend(Some(spec.get("targetRef")).filter(At::exists));
    const GROUP: &str = "gateway.networking.k8s.io";
    for target in targets.iter().filter(|target| target.get("kind").words() == "Gateway") {
        let is_here =
            |gateway: &Document| gateway.name == target.get("name").words() && gateway.namespace == document.namespace;
        let has_any =
            set.of(GROUP, "Gateway").next().is_some() || set.of("networking.istio.io", "Gateway").next().is_some();
        if has_any && !set.of(GROUP, "Gateway").any(is_here) {
            let name = target.get("name");
            let arguments: [(&str, &dyn std::fmt::Display); 3] =
                [("kind", &"Gateway"), ("name", &name.words()), ("namespace", &document.namespace)];
            found.say("PS216", &name, &arguments);
        }
    }
}
