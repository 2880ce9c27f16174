//! What several tenants say of one thing, and what is believed of it.
//!
//! Each tenant has one voice, which is the last that it said; all tenants without a name are one. What is believed is the median of three
//! voices or more: whatever one tenant does, that lies between the least and the greatest of what the others say. Fewer voices are not
//! believed by anybody but themselves.

/// How many voices are remembered: those that spoke last.
const VOICES_MAX: usize = 32;
/// How many it takes.
const ENOUGH: usize = 3;
/// Bytes of one: whose it is, and what it says.
const ENTRY: usize = 16;

/// The page with what `who` says now; `None` where that is known.
pub fn say(page: &[u8], who: u64, what: u64) -> Option<Vec<u8>> {
    if own(page, who) == Some(what) {
        return None;
    }
    let mut out = Vec::with_capacity(page.len().saturating_add(ENTRY));
    let others = voices(page).filter(|(known, _)| *known != who).take(VOICES_MAX.saturating_sub(1));
    for (who, what) in core::iter::once((who, what)).chain(others) {
        out.extend_from_slice(&who.to_le_bytes());
        out.extend_from_slice(&what.to_le_bytes());
    }
    Some(out)
}

/// What `who` said last.
pub fn own(page: &[u8], who: u64) -> Option<u64> {
    voices(page).find(|(known, _)| *known == who).map(|(_, what)| what)
}

/// What is believed; `None` while too few have spoken. Of two in the middle it is the lower.
pub fn believed(page: &[u8]) -> Option<u64> {
    let mut said: Vec<u64> = voices(page).map(|(_, what)| what).collect();
    said.sort_unstable();
    let middle = said.len().checked_sub(1).filter(|_| said.len() >= ENOUGH)? / 2;
    said.get(middle).copied()
}

fn voices(page: &[u8]) -> impl Iterator<Item = (u64, u64)> {
    page.as_chunks::<ENTRY>().0.iter().filter_map(|entry| {
        let (who, what) = entry.split_first_chunk()?;
        Some((u64::from_le_bytes(*who), u64::from_le_bytes(what.try_into().ok()?)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Whatever one says, however often, what is believed is within what the others say.
        #[test]
        fn one_voice_moves_nothing_beyond_the_others(
            others in proptest::collection::vec(any::<u64>(), 2..40),
            liar in proptest::collection::vec((any::<prop::sample::Index>(), any::<u64>()), 1..100),
        ) {
            let mut page = Vec::new();
            let mut lies = liar.iter();
            for (who, what) in others.iter().enumerate() {
                page = say(&page, who as u64, *what).unwrap_or(page);
                if let Some((_, lie)) = lies.next() {
                    page = say(&page, u64::MAX, *lie).unwrap_or(page);
                }
            }
            for (_, lie) in lies {
                page = say(&page, u64::MAX, *lie).unwrap_or(page);
            }
            let heard = others.iter().rev().take(VOICES_MAX);
            let (least, greatest) = (heard.clone().min().unwrap(), heard.max().unwrap());
            let believed = believed(&page).unwrap();
            prop_assert!(*least <= believed && believed <= *greatest);
            prop_assert!(page.len() <= VOICES_MAX * ENTRY);
        }
    }

    #[test]
    fn few_voices_are_not_believed() {
        let two = say(&say(&[], 1, 10).unwrap(), 2, 20).unwrap();
        assert_eq!((believed(&[]), believed(&two)), (None, None));
        assert_eq!((own(&two, 1), own(&two, 3), say(&two, 1, 10)), (Some(10), None, None));
        assert_eq!(believed(&say(&two, 3, 1_000_000).unwrap()), Some(20));
        assert_eq!(believed(&[1; 7]), None);
    }
}
