//! Stat tags: each cuts one label out of a stat's name, with a pattern that is not anchored.

use penstock_exchange::metrics::TAGS;

use crate::check::document::{Document, Kind};
use crate::check::finding::Findings;
use crate::check::node::At;
use crate::check::set::Set;

/// Holds the tags against the labels.
pub fn check(set: &Set, found: &mut Findings) {
    for envoy in &set.envoys {
        let tags = envoy.root.down(&["stats_config", "stats_tags"]);
        complete(&tags, &named(tags.items().iter().map(|tag| tag.pb("tag_name"))), found);
    }
    let sources: Vec<At> = set.documents.iter().filter_map(extra).collect();
    let tags = named(sources.iter().flat_map(At::items));
    if let Some(first) = sources.first() {
        complete(first, &tags, found);
    }
    for document in &set.documents {
        annotated(document, found);
    }
}

fn named(tags: impl Iterator<Item = At>) -> Vec<(String, At)> {
    tags.map(|tag| (tag.words().to_owned(), tag)).collect()
}

/// `extraStatTags` of the mesh.
fn extra(document: &Document) -> Option<At> {
    let mesh = match &document.kind {
        Kind::Mesh => document.root.get("meshConfig"),
        Kind::Resource(_, kind) if kind == "IstioOperator" => document.spec().get("meshConfig"),
        _ => return None,
    };
    mesh.exists().then(|| mesh.get("defaultConfig").get("extraStatTags"))
}

/// The annotation of gateways' pods, which stands beside what the mesh says. Only where it has any of ours.
fn annotated(document: &Document, found: &mut Findings) {
    let metas = [document.spec().get("template").get("metadata"), document.root.get("metadata")];
    for meta in metas {
        let annotation = meta.get("annotations").get("sidecar.istio.io/extraStatTags");
        let tags: Vec<_> =
            annotation.words().split(',').map(|tag| (tag.trim().to_owned(), annotation.clone())).collect();
        if tags.iter().any(|(tag, _)| TAGS.contains(&tag.as_str())) {
            complete(&annotation, &tags, found);
        }
    }
}

fn complete(at: &At, tags: &[(String, At)], found: &mut Findings) {
    for label in TAGS.iter().filter(|label| tags.iter().all(|(tag, _)| tag != *label)) {
        found.say("PS301", at, &[("label", label)]);
    }
    // Only with ours: other people's tags are theirs.
    let is_ours = |tag: &str| TAGS.contains(&tag);
    for (tag, place) in tags.iter().filter(|(tag, _)| !tag.is_empty()) {
        let cuts = |(other, _): &&(String, At)| {
            other != tag && other.ends_with(tag.as_str()) && (is_ours(tag) || is_ours(other))
        };
        if let Some((other, other_place)) = tags.iter().find(cuts) {
            let place = if is_ours(tag) { other_place } else { place };
            found.say("PS302", place, &[("tag", tag), ("other", other)]);
        }
    }
}
