//! Many buckets in one value of a store that can neither expire nor delete.
//!
//! Buckets are spread over a fixed number of pages by their fingerprint. A page holds up to [`ENTRIES_MAX`] buckets
//! that are not full; a bucket that has filled up again is dropped when its page is next written. So the memory is
//! bounded by the number of pages, whoever comes by, and the number of buckets in debt or in use is what it bounds.

use crate::{FullAt, Nanos};

/// How many buckets a page holds.
pub const ENTRIES_MAX: usize = 64;
/// Bytes of one entry: fingerprint (8), state (12), since when it has not been full (8).
const ENTRY: usize = 28;

/// A bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bucket {
    /// Its state.
    pub at: FullAt,
    /// Since when it has not been full. What was reserved before that, time has given back: a refund would give it twice.
    pub since: Nanos,
}

/// A page is full of buckets that are all in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageFull;

/// The bucket `fingerprint` in the page; one that is full until `now` where it is not there.
pub fn get(page: &[u8], fingerprint: u64, now: Nanos) -> Bucket {
    let known = entries(page).find(|(known, _)| *known == fingerprint).map(|(_, bucket)| bucket);
    known.filter(|bucket| !bucket.at.is_past(now)).unwrap_or(Bucket { at: FullAt::default(), since: now })
}

/// The page with the bucket set, without those that are full at `now`.
///
/// # Errors
/// [`PageFull`] where there is no room.
pub fn set(page: &[u8], fingerprint: u64, bucket: Bucket, now: Nanos) -> Result<Vec<u8>, PageFull> {
    let mut out = Vec::with_capacity(page.len().saturating_add(ENTRY));
    let kept = entries(page).filter(|(known, bucket)| *known != fingerprint && !bucket.at.is_past(now));
    let own = (!bucket.at.is_past(now)).then_some((fingerprint, bucket));
    for (fingerprint, Bucket { at, since }) in own.into_iter().chain(kept) {
        out.extend_from_slice(&fingerprint.to_le_bytes());
        out.extend_from_slice(&at.to_bytes());
        out.extend_from_slice(&since.to_le_bytes());
    }
    if out.len() > ENTRIES_MAX.saturating_mul(ENTRY) { Err(PageFull) } else { Ok(out) }
}

/// Every bucket in the page.
fn entries(page: &[u8]) -> impl Iterator<Item = (u64, Bucket)> {
    page.chunks_exact(ENTRY).filter_map(|entry| {
        let (fingerprint, rest) = entry.split_first_chunk()?;
        let (at, since) = rest.split_first_chunk()?;
        let bucket = Bucket { at: FullAt::from_bytes(*at), since: u64::from_le_bytes(since.try_into().ok()?) };
        Some((u64::from_le_bytes(*fingerprint), bucket))
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
            let bucket = get(&page, fingerprint, now);
            let at = rate.admit(bucket.at, now, MILLI).unwrap();
            page = set(&page, fingerprint, Bucket { at, ..bucket }, now).unwrap();
            now += SECOND / 32;
            assert!(page.len() <= ENTRIES_MAX * ENTRY);
        }
        assert_eq!(rate.remaining(get(&page, 9_999, now).at, now), 9);
        assert_eq!(get(&page, 9_999, now).since, now - SECOND / 32);
        assert_eq!(get(&page, 0, now), Bucket { at: FullAt::default(), since: now });
    }

    #[test]
    fn a_page_in_full_use_says_so_and_keeps_its_buckets() {
        let rate = Rate::new(1, SECOND, 10).unwrap();
        let mut page = Vec::new();
        for fingerprint in 0..ENTRIES_MAX as u64 {
            let at = rate.charge(FullAt::default(), 0, MILLI);
            page = set(&page, fingerprint, Bucket { at, since: 0 }, 0).unwrap();
        }
        let one = Bucket { at: rate.charge(FullAt::default(), 0, MILLI), since: 0 };
        assert_eq!(set(&page, 1 << 40, one, 0), Err(PageFull));
        assert!(set(&page, 3, one, 0).is_ok());
    }
}
