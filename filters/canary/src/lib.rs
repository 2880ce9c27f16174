//! Which version of a model serves a caller.
//!
//! The draw maps a caller to a point in [0, 2^32) and every version owns an interval of that range. Canaries own the
//! intervals from 0 upwards in the order in which they are configured; the first version, the stable one, owns the
//! rest. So raising a canary's weight moves callers from stable to it and none between others, and lowering it moves
//! them back.
//!
//! The hash is XXH64 with seed 0 over the model's name, one zero byte and the sticky key; the point is its upper half.
//!
//! Whether a canary may go on is for its [`guard`] to say; whether a version's servers are left alone for a while, for its [`breaker`].
//! What users say of answers comes with a ticket ([`feedback`]).
//!
//! What this crate does not do: find the sticky key, or remember anybody.

#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

pub mod breaker;
pub mod feedback;
pub mod guard;

use xxhash_rust::xxh64::xxh64;

/// The point of a caller: where it falls in [0, 2^32).
pub fn point(model: &str, sticky: &[u8]) -> u32 {
    let mut key = Vec::with_capacity(model.len().saturating_add(sticky.len()).saturating_add(1));
    key.extend_from_slice(model.as_bytes());
    key.push(0);
    key.extend_from_slice(sticky);
    (xxh64(&key, 0) >> 32) as u32
}

/// Some of a model's versions, by their places: of the first eight.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Versions(u8);

impl Versions {
    /// None of them.
    pub const NONE: Self = Self(0);

    /// The one at this place alone.
    pub fn one(place: usize) -> Self {
        Self(u32::try_from(place).ok().and_then(|place| 1u8.checked_shl(place)).unwrap_or(0))
    }

    /// Whether the one at this place is among them.
    pub fn has(self, place: usize) -> bool {
        self.0 & Self::one(place).0 != 0
    }

    /// These, and those.
    #[must_use]
    pub fn and(self, those: Self) -> Self {
        Self(self.0 | those.0)
    }

    /// All others.
    #[must_use]
    pub fn others(self) -> Self {
        Self(!self.0)
    }
}

/// The upper ends of the intervals of all versions but the first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    ends: Vec<u64>,
}

impl Split {
    /// A split by `weights`, the stable version's first. `None` where they are all zero.
    pub fn new(weights: &[u32]) -> Option<Self> {
        let total: u64 = weights.iter().map(|weight| u64::from(*weight)).sum();
        let mut cumulative = 0u64;
        let ends = weights.iter().skip(1).map(|weight| {
            cumulative = cumulative.saturating_add(u64::from(*weight));
            // At most 2^32, because total >= cumulative.
            let end = (u128::from(cumulative) << 32).checked_div(u128::from(total));
            end.and_then(|end| u64::try_from(end).ok())
        });
        let ends = ends.collect::<Option<Vec<_>>>()?;
        (total > 0).then_some(Self { ends })
    }

    /// The index of the version that owns `point`.
    pub fn draw(&self, point: u32) -> usize {
        self.ends.iter().position(|end| u64::from(point) < *end).map_or(0, |canary| canary.saturating_add(1))
    }

    /// The split between some of the versions alone: by their weights, and in equal parts where they have none. `None` for none of them.
    pub fn among(weights: &[u32], is_meant: impl Fn(usize) -> bool) -> Option<Self> {
        let of = |weight: &dyn Fn(u32) -> u32| -> Vec<u32> {
            let all = weights.iter().enumerate();
            all.map(|(version, own)| if is_meant(version) { weight(*own) } else { 0 }).collect()
        };
        Self::new(&of(&|own| own)).or_else(|| Self::new(&of(&|_| 1)))
    }

    /// Whether some points are this version's.
    pub fn has(&self, version: usize) -> bool {
        let end = |at: Option<usize>| at.and_then(|at| self.ends.get(at)).copied();
        match version.checked_sub(1) {
            None => self.ends.last().is_none_or(|last| *last < 1 << 32),
            Some(at) => end(Some(at)).is_some_and(|own| own > end(at.checked_sub(1)).unwrap_or(0)),
        }
    }

    /// The version that serves `point` while some are avoided: its owner, unless that is one of them; then one of the others, by their
    /// weights, always the same. So nobody moves but the callers of those that are avoided, and each of them comes back. `None` where no
    /// version with a weight is left: who then serves is the caller's rule.
    pub fn draw_avoiding(&self, point: u32, is_avoided: impl Fn(usize) -> bool) -> Option<usize> {
        let owner = self.draw(point);
        if !is_avoided(owner) {
            return Some(owner);
        }
        let last = 1u64 << 32;
        let rest = || {
            let ends = self.ends.iter().copied().enumerate().map(|(canary, end)| (canary.saturating_add(1), end));
            let all = ends.chain([(0, last)]);
            let sizes = all.scan(0, |begin, (version, end)| {
                let size = end.saturating_sub(*begin);
                *begin = end;
                Some((version, size))
            });
            sizes.filter(|(version, _)| !is_avoided(*version))
        };
        let total: u64 = rest().map(|(_, size)| size).sum();
        // Another point of the same caller's, as the first says where it lies in its owner's interval. Less than `total`.
        let other = xxh64(&point.to_le_bytes(), 0) >> 32;
        let mut left = u64::try_from(u128::from(other).saturating_mul(u128::from(total)) >> 32).unwrap_or(0);
        rest().find_map(|(version, size)| match left.checked_sub(size) {
            Some(less) => {
                left = less;
                None
            }
            None => Some(version),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_hash_is_the_one_that_is_named() {
        // XXH64 of "chat\0alice" is 0x1fb5_8b21_e891_5e38 (python-xxhash, which binds the reference implementation): the point is its
        // upper half.
        assert_eq!(point("chat", b"alice"), 0x1fb5_8b21);
        // The published test vector of the empty input.
        assert_eq!(xxh64(b"", 0), 0xEF46_DB37_51D8_E999);
    }

    #[test]
    fn edges() {
        assert_eq!(Split::new(&[0, 0]), None);
        assert_eq!(Split::new(&[]), None);
        let none = Split::new(&[1, 0]).unwrap();
        assert_eq!((none.draw(0), none.draw(u32::MAX)), (0, 0));
        let all = Split::new(&[0, 1]).unwrap();
        assert_eq!((all.draw(0), all.draw(u32::MAX)), (1, 1));
        let half = Split::new(&[50, 50]).unwrap();
        assert_eq!((half.draw((1 << 31) - 1), half.draw(1 << 31)), (1, 0));
    }

    #[test]
    fn the_split_is_binomial() {
        let split = Split::new(&[84, 5, 10, 0, 1]).unwrap();
        let n = 1_000_000u32;
        let mut hits = [0u32; 5];
        (0..n).for_each(|i| hits[split.draw(point("chat", format!("user-{i}").as_bytes()))] += 1);
        for (hits, share) in hits.into_iter().zip([0.84, 0.05, 0.1, 0.0, 0.01]) {
            let (mean, sigma) = (f64::from(n) * share, (f64::from(n) * share * (1.0 - share)).sqrt());
            assert!((f64::from(hits) - mean).abs() <= 4.0 * sigma, "{hits} of {n}, expected {mean} ± {sigma}");
        }
    }

    #[test]
    fn from_5_to_10_callers_move_from_stable_to_the_canary_alone() {
        let [before, after] = [[95, 5], [90, 10]].map(|weights| Split::new(&weights).unwrap());
        let n = 1_000_000u32;
        let mut moved = 0u32;
        for i in 0..n {
            let point = point("chat", &i.to_le_bytes());
            match (before.draw(point), after.draw(point)) {
                (from, to) if from == to => {}
                (0, 1) => moved += 1,
                other => panic!("caller {i} moved: {other:?}"),
            }
        }
        // A twentieth of them, give or take four deviations.
        assert!(moved.abs_diff(n / 20) < 872, "{moved}");
    }

    #[test]
    fn callers_of_who_is_avoided_are_spread_by_weight() {
        let split = Split::new(&[60, 10, 30]).unwrap();
        let mut hits = [0u32; 3];
        (0..100_000u32).for_each(|i| {
            hits[split.draw_avoiding(point("chat", &i.to_le_bytes()), |version| version == 0).unwrap()] += 1
        });
        // A quarter and three quarters of 100,000, give or take four deviations of a caller's choice.
        assert!(hits[0] == 0 && hits[1].abs_diff(25_000) < 550, "{hits:?}");
    }

    proptest! {
        /// Raising the canary's weight moves callers only towards it.
        #[test]
        fn weights_move_callers_one_way(low in 0u32..=100, more in 0u32..=100, point: u32) {
            let high = (low + more).min(100);
            let before = Split::new(&[100 - low, low]).unwrap().draw(point);
            let after = Split::new(&[100 - high, high]).unwrap().draw(point);
            prop_assert!(before == 0 || after == 1);
        }

        /// Whoever is avoided, its callers alone move, to versions that have a weight.
        #[test]
        fn only_the_callers_of_who_is_avoided_move(weights in prop::collection::vec(0u32..5, 1..6), avoided: u8, point: u32) {
            if let Some(split) = Split::new(&weights) {
                let is_avoided = |version: usize| avoided >> version & 1 == 1;
                let (owner, drawn) = (split.draw(point), split.draw_avoiding(point, is_avoided));
                match drawn {
                    Some(version) => prop_assert!(!is_avoided(version) && (version == owner || weights[version] > 0)),
                    None => prop_assert!((0..weights.len()).all(|version| is_avoided(version) || weights[version] == 0)),
                }
                prop_assert!(is_avoided(owner) || drawn == Some(owner));
            }
        }

        /// Among some of the versions only these are drawn, and in the same way.
        #[test]
        fn some_of_the_versions_share_what_there_is(weights in prop::collection::vec(0u32..5, 1..6), meant: u8, point: u32) {
            let is_meant = |version: usize| meant >> version & 1 == 1;
            match Split::among(&weights, is_meant) {
                Some(split) => prop_assert!(is_meant(split.draw(point))),
                None => prop_assert!((0..weights.len()).all(|version| !is_meant(version))),
            }
            prop_assert!(Split::new(&weights).is_none() || Split::among(&weights, |_| true) == Split::new(&weights));
        }

        #[test]
        fn some_version_with_weight_is_drawn(weights in prop::collection::vec(any::<u32>(), 1..6), point: u32) {
            if let Some(split) = Split::new(&weights) {
                prop_assert!(split.has(split.draw(point)));
            }
        }

        /// A share is one that can be drawn; one of less than a part in 2^32 may be none.
        #[test]
        fn who_has_a_share_is_known(weights in prop::collection::vec(0u32..5, 1..6)) {
            if let Some(split) = Split::new(&weights) {
                (0..weights.len()).for_each(|version| assert_eq!(split.has(version), weights[version] > 0));
                prop_assert!(!split.has(weights.len()));
            }
        }
    }
}
