//! Stat tags: each cuts one label out of a stat's name, with a pattern that is not anchored.

use penstock_document::at::At;
use penstock_exchange::metrics::TAGS;

use crate::check::document::{Document, Kind};
use crate::check::finding::Findings;
use crate::check::set::Set;

/// More tags than any proxy has.
const TAGS_MAX: usize = 1000;

/// Holds the tags against the labels.
pub fn check(set: &Set, found: &mut Findings) {
    for envoy in &set.envoys {
        let tags = envoy.root.down(&["stats_config", "stats_tags"]);
        complete(&tags, &named(tags.items().iter().map(|tag| tag.pb("tag_name"))), found);
    }
    // A pod's annotation stands beside what the mesh says: what one of them has is there.
    let sources: Vec<At> = set.documents.iter().filter_map(extra).collect();
    let annotations: Vec<At> = set.documents.iter().flat_map(annotated).collect();
    let mut tags = named(sources.iter().flat_map(At::items));
    for at in &annotations {
        tags.extend(at.words().split(',').map(|tag| (tag.trim().to_owned(), at.clone())));
    }
    if let Some(first) = sources.first().or(annotations.first()) {
        complete(first, &tags, found);
    }
}

fn named(tags: impl Iterator<Item = At>) -> Vec<(String, At)> {
    tags.take(TAGS_MAX).map(|tag| (tag.words().to_owned(), tag)).collect()
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

/// The annotations of gateways' pods that have any of Penstock's tags.
fn annotated(document: &Document) -> Vec<At> {
    let spec = document.spec();
    let metas = [spec.get("template").get("metadata"), document.root.get("metadata"), spec.get("infrastructure")];
    let annotations = metas.map(|meta| meta.get("annotations").get("sidecar.istio.io/extraStatTags"));
    let has_ours = |at: &At| at.words().split(',').any(|tag| TAGS.contains(&tag.trim()));
    annotations.into_iter().filter(has_ours).collect()
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
