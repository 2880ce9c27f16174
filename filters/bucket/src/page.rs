//! Many buckets in one value of a store that can neither expire nor delete.
//!
//! Buckets are spread over a fixed number of pages by their fingerprint. A page holds up to [`ENTRIES_MAX`] buckets
//! that are not full; a bucket that has filled up again is dropped when its page is next written. So the memory is
//! bounded by the number of pages, whoever comes by, and the number of buckets in debt or in use is what it bounds.

use crate::{FullAt, Nanos};

/// How many buckets a page holds.
pub const ENTRIES_MAX: usize = 64;
/// Bytes of one entry: 8 of fingerprint, 12 of state.
const ENTRY: usize = 20;

/// A page is full of buckets that are all in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageFull;

/// The state of the bucket `fingerprint` in the page; a full bucket where it is not there.
pub fn get(page: &[u8], fingerprint: u64) -> FullAt {
    entries(page).find(|(known, _)| *known == fingerprint).map(|(_, at)| at).unwrap_or_default()
}

/// The page with the bucket set to `at`, without those that are full at `now`.
///
/// # Errors
/// [`PageFull`] where there is no room.
pub fn set(page: &[u8], fingerprint: u64, at: FullAt, now: Nanos) -> Result<Vec<u8>, PageFull> {
    let mut out = Vec::with_capacity(page.len().saturating_add(ENTRY));
    let kept = entries(page).filter(|(known, at)| *known != fingerprint && !at.is_past(now));
    let own = (!at.is_past(now)).then_some((fingerprint, at));
    for (fingerprint, at) in own.into_iter().chain(kept) {
        out.extend_from_slice(&fingerprint.to_le_bytes());
        out.extend_from_slice(&at.to_bytes());
    }
    if out.len() > ENTRIES_MAX.saturating_mul(ENTRY) { Err(PageFull) } else { Ok(out) }
}

/// Every bucket in the page.
fn entries(page: &[u8]) -> impl Iterator<Item = (u64, FullAt)> {
    page.chunks_exact(ENTRY).filter_map(|entry| {
        let (fingerprint, at) = entry.split_first_chunk::<8>()?;
        Some((u64::from_le_bytes(*fingerprint), FullAt::from_bytes(at.try_into().ok()?)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{MILLI, Rate};

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn full_buckets_make_room() {
        let rate = Rate::new(1, SECOND, 10).unwrap();
        let mut page = Vec::new();
        let mut now = 1000 * SECOND;
        for fingerprint in 0..10_000u64 {
            let at = rate.admit(get(&page, fingerprint), now, MILLI).unwrap();
            page = set(&page, fingerprint, at, now).unwrap();
            now += SECOND / 32;
            assert!(page.len() <= ENTRIES_MAX * ENTRY);
        }
        assert_eq!(rate.remaining(get(&page, 9_999), now), 9);
        assert_eq!(get(&page, 0), FullAt::default());
    }

    #[test]
    fn a_page_in_full_use_says_so_and_keeps_its_buckets() {
        let rate = Rate::new(1, SECOND, 10).unwrap();
        let mut page = Vec::new();
        for fingerprint in 0..ENTRIES_MAX as u64 {
            page = set(&page, fingerprint, rate.charge(FullAt::default(), 0, MILLI), 0).unwrap();
        }
        let one = rate.charge(FullAt::default(), 0, MILLI);
        assert_eq!(set(&page, 1 << 40, one, 0), Err(PageFull));
        assert!(set(&page, 3, one, 0).is_ok());
    }
}
