//! How many permits of something are in use at once, counted by owners who may die.
//!
//! A page holds, for each key and owner, how many permits the owner has taken and when it last said so. An owner that was
//! silent for too long has died, and its permits are free again; nobody has to give them back. Owners that live repeat
//! their number with every heartbeat, so one that was only slow is counted again.

use penstock_units::{Fingerprint, Nanos};

use crate::page::PageFull;

/// How many pairs of key and owner a page holds: one key of 128 workers and of as many that a new configuration brings, and some others.
pub const ENTRIES_MAX: usize = 320;
/// Bytes of one entry: fingerprint, owner, beat (8 each), count (4).
const ENTRY: usize = 28;

/// Who asks, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder {
    /// A number that tells owners apart.
    pub owner: u64,
    /// Now.
    pub now: Nanos,
    /// How long an owner may be silent.
    pub silence_max: Nanos,
}

#[derive(Clone, Copy)]
struct Entry {
    fingerprint: Fingerprint,
    owner: u64,
    beat: Nanos,
    count: u32,
}

/// How many permits of `fingerprint` are in use by all who live.
pub fn in_use(page: &[u8], fingerprint: Fingerprint, by: Holder) -> u64 {
    let alive = entries(page).filter(|entry| entry.fingerprint == fingerprint && by.counts(entry));
    alive.map(|entry| u64::from(entry.count)).sum()
}

/// The page with the owner's count of `fingerprint` set to `count`, without those who died.
///
/// # Errors
/// [`PageFull`] where there is no room.
pub fn set(page: &[u8], fingerprint: Fingerprint, by: Holder, count: u32) -> Result<Vec<u8>, PageFull> {
    let other = |entry: &Entry| entry.fingerprint != fingerprint || entry.owner != by.owner;
    let own = (count > 0).then_some(Entry { fingerprint, owner: by.owner, beat: by.now, count });
    let mut out = Vec::with_capacity(page.len().saturating_add(ENTRY));
    for entry in own.into_iter().chain(entries(page).filter(|entry| other(entry) && by.counts(entry))) {
        for word in [entry.fingerprint.0, entry.owner, entry.beat.0] {
            out.extend_from_slice(&word.to_le_bytes());
        }
        out.extend_from_slice(&entry.count.to_le_bytes());
    }
    if out.len() > ENTRIES_MAX.saturating_mul(ENTRY) { Err(PageFull) } else { Ok(out) }
}

impl Holder {
    fn counts(&self, entry: &Entry) -> bool {
        self.now.abs_diff(entry.beat) < self.silence_max
    }
}

fn entries(page: &[u8]) -> impl Iterator<Item = Entry> {
    page.chunks_exact(ENTRY).filter_map(|bytes| {
        let (fingerprint, rest) = bytes.split_first_chunk()?;
        let (owner, rest) = rest.split_first_chunk()?;
        let (beat, rest) = rest.split_first_chunk()?;
        Some(Entry {
            fingerprint: Fingerprint(u64::from_le_bytes(*fingerprint)),
            owner: u64::from_le_bytes(*owner),
            beat: Nanos(u64::from_le_bytes(*beat)),
            count: u32::from_le_bytes(rest.try_into().ok()?),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: Fingerprint = Fingerprint(7);
    const OTHER: Fingerprint = Fingerprint(8);
    /// In none of the full pages below.
    const OUTSIDE: Fingerprint = Fingerprint(1 << 40);

    fn holder(owner: u64, now: u64) -> Holder {
        Holder { owner, now: Nanos(now), silence_max: Nanos(10) }
    }

    #[test]
    fn the_living_are_summed_and_the_dead_forgotten() {
        let page = set(&[], KEY, holder(1, 100), 2).unwrap();
        let page = set(&page, KEY, holder(2, 105), 3).unwrap();
        assert_eq!(in_use(&page, KEY, holder(9, 105)), 5);
        assert_eq!(in_use(&page, OTHER, holder(9, 105)), 0);
        assert_eq!(in_use(&page, KEY, holder(9, 110)), 3, "the first is silent");
        let page = set(&page, OTHER, holder(3, 112), 1).unwrap();
        assert_eq!(page.len(), 2 * ENTRY);
        // It was only slow.
        let page = set(&page, KEY, holder(1, 113), 2).unwrap();
        assert_eq!(in_use(&page, KEY, holder(9, 113)), 5);
        let page = set(&page, KEY, holder(1, 114), 0).unwrap();
        assert_eq!(in_use(&page, KEY, holder(9, 114)), 3);
    }

    #[test]
    fn a_key_of_128_workers_has_room_while_as_many_of_a_new_configuration_begin() {
        let mut page = Vec::new();
        for owner in 1..=256 {
            page = set(&page, KEY, holder(owner, 0), 2).unwrap();
        }
        assert_eq!(in_use(&page, KEY, holder(1, 0)), 512);
    }

    #[test]
    fn a_full_page_says_so() {
        let mut page = Vec::new();
        for fingerprint in (0..ENTRIES_MAX as u64).map(Fingerprint) {
            page = set(&page, fingerprint, holder(1, 0), 1).unwrap();
        }
        assert_eq!(set(&page, OUTSIDE, holder(1, 0), 1), Err(PageFull));
        assert!(set(&page, OUTSIDE, holder(1, 10), 1).is_ok());
    }
}
