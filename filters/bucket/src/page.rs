//! Many buckets in one value of a store that can neither expire nor delete.
//!
//! Buckets are spread over a fixed number of pages by their fingerprint. A page holds up to [`ENTRIES_MAX`] buckets
//! that are not full; a bucket that has filled up again is dropped when its page is next written. So the memory is
//! bounded by the number of pages, whoever comes by, and the number of buckets in debt or in use is what it bounds.

use penstock_units::{Fingerprint, Nanos};

use crate::FullAt;
use crate::bucket::{Bucket, Mark};

/// How many buckets a page holds.
pub const ENTRIES_MAX: usize = 64;
/// Bytes of one entry: fingerprint (8), state (12), when it was last full (8), two moments since (16 each).
const ENTRY: usize = 60;

/// A page is full of buckets that are all in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageFull;

/// The bucket `fingerprint` in the page; one that is full until `now` where it is not there.
pub fn get(page: &[u8], fingerprint: Fingerprint, now: Nanos) -> Bucket {
    let known = entries(page).find(|(known, _)| *known == fingerprint).map(|(_, bucket)| bucket);
    known.filter(|bucket| !bucket.at.is_past(now)).unwrap_or(Bucket::full(now))
}

/// The page with the bucket set, without those that are full at `now`.
///
/// # Errors
/// [`PageFull`] where there is no room.
pub fn set(page: &[u8], fingerprint: Fingerprint, bucket: Bucket, now: Nanos) -> Result<Vec<u8>, PageFull> {
    let mut out = Vec::with_capacity(page.len().saturating_add(ENTRY));
    let kept = entries(page).filter(|(known, bucket)| *known != fingerprint && !bucket.at.is_past(now));
    let own = (!bucket.at.is_past(now)).then_some((fingerprint, bucket));
    for (fingerprint, Bucket { at, since, marks }) in own.into_iter().chain(kept) {
        out.extend_from_slice(&fingerprint.0.to_le_bytes());
        out.extend_from_slice(&at.to_bytes());
        out.extend_from_slice(&since.0.to_le_bytes());
        for Mark { at, depth } in marks {
            out.extend_from_slice(&at.0.to_le_bytes());
            out.extend_from_slice(&depth.0.to_le_bytes());
        }
    }
    if out.len() > ENTRIES_MAX.saturating_mul(ENTRY) { Err(PageFull) } else { Ok(out) }
}

/// Every bucket in the page.
fn entries(page: &[u8]) -> impl Iterator<Item = (Fingerprint, Bucket)> {
    page.chunks_exact(ENTRY).filter_map(|entry| {
        let (fingerprint, rest) = entry.split_first_chunk()?;
        let (at, rest) = rest.split_first_chunk()?;
        let mut numbers = rest.as_chunks().0.iter().map(|bytes| Nanos(u64::from_le_bytes(*bytes)));
        let since = numbers.next()?;
        let mut mark = || Some(Mark { at: numbers.next()?, depth: numbers.next()? });
        let bucket = Bucket { at: FullAt::from_bytes(*at), since, marks: [mark()?, mark()?] };
        Some((Fingerprint(u64::from_le_bytes(*fingerprint)), bucket))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rate;
    use penstock_units::{MilliTokens, Tokens};

    const TOKEN: MilliTokens = Tokens(1).to_milli();

    fn rate() -> Rate {
        Rate::new(Tokens(1), Nanos::SECOND, Tokens(10)).unwrap()
    }

    #[test]
    fn full_buckets_make_room() {
        let rate = rate();
        let mut page = Vec::new();
        let mut now = Nanos::SECOND.saturating_mul(1000);
        let pause = Nanos(Nanos::SECOND.0 / 32);
        for fingerprint in (0..10_000).map(Fingerprint) {
            let bucket = get(&page, fingerprint, now);
            page = set(&page, fingerprint, bucket.admit(rate, now, TOKEN).unwrap(), now).unwrap();
            now = now.saturating_add(pause);
            assert!(page.len() <= ENTRIES_MAX * ENTRY);
        }
        assert_eq!(rate.remaining(get(&page, Fingerprint(9_999), now).at, now), 9);
        assert_eq!(get(&page, Fingerprint(9_999), now).since, now.saturating_sub(pause));
        assert_eq!(get(&page, Fingerprint(0), now), Bucket::full(now));
    }

    #[test]
    fn a_bucket_is_read_as_it_was_written() {
        let mut bucket = Bucket::full(Nanos(7));
        for second in 0..4 {
            bucket = bucket
                .admit(rate(), Nanos(7).saturating_add(Nanos::SECOND.saturating_mul(second)), Tokens(2).to_milli())
                .unwrap();
        }
        assert!(bucket.marks.iter().all(|mark| mark.depth > Nanos::ZERO), "{bucket:?}");
        let page = set(&[], Fingerprint(9), bucket, Nanos(8)).unwrap();
        assert_eq!(get(&page, Fingerprint(9), Nanos(8)), bucket);
    }

    #[test]
    fn a_page_in_full_use_says_so_and_keeps_its_buckets() {
        let one = Bucket::full(Nanos::ZERO).admit(rate(), Nanos::ZERO, TOKEN).unwrap();
        let mut page = Vec::new();
        for fingerprint in (0..ENTRIES_MAX as u64).map(Fingerprint) {
            page = set(&page, fingerprint, one, Nanos::ZERO).unwrap();
        }
        assert_eq!(set(&page, Fingerprint(1 << 40), one, Nanos::ZERO), Err(PageFull));
        assert!(set(&page, Fingerprint(3), one, Nanos::ZERO).is_ok());
    }
}
