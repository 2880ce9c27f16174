//! Which version served what: a memory that the workers share, and that has an end.
//!
//! Each page keeps its newest entries, in the order in which they were heard of, so that whoever fills one takes the oldest from it. What is
//! forgotten is drawn as if it had never been.

use penstock_units::Fingerprint;

use crate::hash::Secret;
use crate::port::Store;

/// How many entries a page keeps.
const ENTRIES_MAX: usize = 64;
/// Bytes of one: of what, and the version's tag.
const ENTRY: usize = 12;

/// What stands for a version's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag([u8; 4]);

impl Tag {
    /// That of the version of this name.
    pub fn of(secret: &Secret, version: &str) -> Self {
        let [a, b, c, d, ..] = secret.hash([version.as_bytes()]).to_le_bytes();
        Self([a, b, c, d])
    }
}

/// The version that served this; `None` where that is not known, or not any more.
pub fn by(of: Fingerprint, key: &str, store: &mut dyn Store) -> Option<Tag> {
    let page = store.get(key)?;
    entries(&page).rev().find(|(known, _)| *known == of.0.to_le_bytes()).map(|(_, tag)| Tag(tag))
}

/// Remembers that this version served it. Where that is contended it is forgotten.
pub fn remember(of: Fingerprint, by: Tag, key: &str, store: &mut dyn Store) {
    let _ = store.update(key, &mut |old| {
        let is_fresh = |page: &[u8]| {
            let known = entries(page).rev().take(ENTRIES_MAX / 2).find(|(known, _)| *known == of.0.to_le_bytes());
            known.is_some_and(|(_, tag)| tag == by.0)
        };
        if old.is_some_and(is_fresh) {
            return None;
        }
        let others = entries(old.unwrap_or_default()).filter(|(known, _)| *known != of.0.to_le_bytes());
        let others: Vec<_> = others.collect();
        let newest = others.iter().skip(others.len().saturating_sub(ENTRIES_MAX.saturating_sub(1)));
        Some(page(newest.copied().chain([(of.0.to_le_bytes(), by.0)])))
    });
}

/// Forgets it.
pub fn forget(of: Fingerprint, key: &str, store: &mut dyn Store) {
    let _ = store.update(key, &mut |old| Some(page(entries(old?).filter(|(known, _)| *known != of.0.to_le_bytes()))));
}

fn page(entries: impl Iterator<Item = ([u8; 8], [u8; 4])>) -> Vec<u8> {
    let mut page = Vec::with_capacity(ENTRIES_MAX.saturating_mul(ENTRY));
    for (of, tag) in entries {
        page.extend_from_slice(&of);
        page.extend_from_slice(&tag);
    }
    page
}

fn entries(page: &[u8]) -> impl DoubleEndedIterator<Item = ([u8; 8], [u8; 4])> {
    page.chunks_exact(ENTRY).filter_map(|entry| {
        let (of, tag) = entry.split_first_chunk()?;
        Some((*of, tag.try_into().ok()?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::port::{Change, Contended};

    struct Page(Vec<u8>);

    impl Store for Page {
        fn get(&mut self, _: &str) -> Option<Vec<u8>> {
            Some(self.0.clone())
        }

        fn update(&mut self, _: &str, change: Change<'_>) -> Result<u32, Contended> {
            if let Some(new) = change(Some(&self.0)) {
                self.0 = new;
            }
            Ok(0)
        }
    }

    #[test]
    fn the_newest_are_remembered() {
        let mut page = Page(Vec::new());
        let [one, other] = ["stable", "canary"].map(|name| Tag::of(&Secret::default(), name));
        assert_eq!(by(Fingerprint(0), "", &mut page), None);
        for i in 0..100 {
            remember(Fingerprint(i), one, "", &mut page);
        }
        assert_eq!(page.0.len(), ENTRIES_MAX * ENTRY);
        let known = |page: &mut Page| (0..100).filter(|i| by(Fingerprint(*i), "", page).is_some()).collect::<Vec<_>>();
        assert_eq!(known(&mut page), (36..100).collect::<Vec<_>>());
        // Who is heard of again is new, and known by the last version.
        remember(Fingerprint(36), other, "", &mut page);
        remember(Fingerprint(100), one, "", &mut page);
        assert_eq!(by(Fingerprint(36), "", &mut page), Some(other));
        assert_eq!(by(Fingerprint(37), "", &mut page), None);
        assert_eq!(page.0.len(), ENTRIES_MAX * ENTRY);
        // Of one that is new nothing has to be written.
        let before = page.0.clone();
        remember(Fingerprint(36), other, "", &mut page);
        assert_eq!(page.0, before);
        forget(Fingerprint(36), "", &mut page);
        assert_eq!((by(Fingerprint(36), "", &mut page), page.0.len()), (None, (ENTRIES_MAX - 1) * ENTRY));
    }
}
