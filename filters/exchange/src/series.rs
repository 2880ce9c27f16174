//! How many series a process shows: a proxy never forgets one, so that their number is bounded, whatever names come and go with its
//! configurations.

use penstock_units::Fingerprint;

use crate::hash::digest;
use crate::keys;
use crate::labels::OTHER;
use crate::metrics::{Kind, Labels, Metric, stat_name};
use crate::port::Store;

/// How many series a page lists, by their hashes of 8 bytes.
const ENTRIES_MAX: usize = 256;
/// The labels whose values are names that configurations give.
const NAMES: [&str; 4] = ["model", "version", "tenant", "limit"];

/// The labels under which a series is shown: its own, or where the process shows too many `other` for every name. A gauge of others would be
/// set by each of them to something else, so that it is not shown: `None`.
pub fn shown(metric: Metric, labels: &Labels, store: &mut dyn Store) -> Option<Labels> {
    if is_listed(&stat_name(metric, labels), store) {
        return Some(labels.clone());
    }
    (metric.kind() != Kind::Gauge).then(|| {
        let value =
            |(label, value): (&&str, &String)| if NAMES.contains(label) { OTHER.to_owned() } else { value.clone() };
        metric.labels().iter().zip(labels).map(value).collect()
    })
}

/// Whether the series is among those that the process shows, or finds room there.
fn is_listed(name: &str, store: &mut dyn Store) -> bool {
    let hash = digest(name.as_bytes());
    let hash = hash.first_chunk::<8>().copied().unwrap_or_default();
    let mut listed = false;
    let changed = store.update(&keys::stats(Fingerprint(u64::from_le_bytes(hash))), &mut |old| {
        let old = old.unwrap_or_default();
        let is_known = old.as_chunks::<8>().0.contains(&hash);
        let has_room = old.len() < ENTRIES_MAX.saturating_mul(8);
        listed = is_known || has_room;
        (!is_known && has_room).then(|| [old, &hash].concat())
    });
    // Where others kept winning it is shown all the same: once too often is no harm, and for good under another name would be.
    listed || changed.is_err()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn a_process_shows_so_many_series_and_the_rest_as_others() {
        let mut store = BTreeMap::default();
        let labels = |i: u32| vec!["chat".to_owned(), "v1".to_owned(), format!("t{i}"), "ok".to_owned()];
        let all = 100_000;
        let own: Vec<bool> =
            (0..all).map(|i| shown(Metric::Requests, &labels(i), &mut store) == Some(labels(i))).collect();
        let count = own.iter().filter(|own| **own).count();
        assert!((32_000..=32_768).contains(&count), "{count}");
        let others = ["other", "other", "other", "ok"].map(str::to_owned).to_vec();
        for i in 0..all {
            let seen = shown(Metric::Requests, &labels(i), &mut store).unwrap();
            assert_eq!(seen, if own[i as usize] { labels(i) } else { others.clone() }, "what was shown stays");
        }
        let gauge = |i: u32| vec![format!("l{i}"), "t".to_owned()];
        assert!((0..100).all(|i| shown(Metric::LimitUsed, &gauge(i), &mut store).is_none()));
    }
}
