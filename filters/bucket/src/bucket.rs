//! One bucket, and what a refund may give back.
//!
//! A reservation takes tokens that may turn out not to be used, and meanwhile time refills the bucket. What is not used is given back as if
//! it had never been taken: not as an amount, since a bucket that would have been full in between would have let the rest go by. So a
//! refund is at most what the bucket lacked at its fullest since the reservation: just before one of the charges that followed, or now.
//! A bucket remembers the fullest of these moments. Where there are more than [`MARKS`], two become one that stands for the fuller: then a
//! refund is smaller than it might be, and never larger.
//!
//! Who share a bucket read the clock, and write some time later; so one may come with an earlier moment than the bucket has seen. What it
//! charges is charged at the [`Bucket::latest`] moment that the bucket knows: the bucket may not have been full since its own, and it would
//! get nothing back.

use penstock_units::{MilliTokens, Nanos};

use crate::{FRACTION, FullAt, Rate, Refusal, fixed};

/// How many moments are remembered, besides the last at which the bucket was full.
pub const MARKS: usize = 2;

/// A moment at which a charge came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mark {
    /// When.
    pub(crate) at: Nanos,
    /// How long the bucket would have taken to be full, just before. Zero: nothing is remembered here.
    pub(crate) depth: Nanos,
}

/// A bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bucket {
    pub(crate) at: FullAt,
    /// When it was last full.
    pub(crate) since: Nanos,
    /// The later, the deeper.
    pub(crate) marks: [Mark; MARKS],
}

impl Bucket {
    /// One that is full until `now`.
    pub fn full(now: Nanos) -> Self {
        Self { since: now, ..Self::default() }
    }

    /// When it will be full.
    pub fn full_at(&self) -> FullAt {
        self.at
    }

    /// The latest moment that it knows.
    pub fn latest(&self) -> Nanos {
        self.marks.iter().fold(self.since, |latest, mark| latest.max(mark.at))
    }

    /// Spends `cost` at `now`, or says why not. For [`Bucket::settle`] the charge was made at the [`Bucket::latest`] moment of what comes back.
    ///
    /// # Errors
    /// [`Refusal`]; the bucket is then to be left as it was.
    pub fn admit(&self, rate: Rate, now: Nanos, cost: MilliTokens) -> Result<Self, Refusal> {
        let at = rate.admit(self.at, now, cost)?;
        let depth = Nanos(u64::try_from(self.at.0.saturating_sub(fixed(now)) >> FRACTION).unwrap_or(u64::MAX));
        if depth == Nanos::ZERO {
            return Ok(Self { at, ..Self::full(now) });
        }
        let mut out = Self { at, ..*self };
        out.remember(Mark { at: now, depth });
        Ok(out)
    }

    /// Corrects a charge of `reserved` that was made at `charged` to `used`: gives back what is still to be given back, or takes the
    /// difference as debt.
    #[must_use]
    pub fn settle(&self, rate: Rate, charged: Nanos, now: Nanos, reserved: MilliTokens, used: MilliTokens) -> Self {
        if used >= reserved {
            return Self { at: rate.settle(self.at, now, reserved, used), ..*self };
        }
        let unused = rate.time(reserved).saturating_sub(rate.time(used));
        let refund = unused.min(self.fullest(charged, now));
        let mut out =
            Self { at: FullAt(self.at.0.saturating_sub(refund)), since: self.since, marks: [Mark::default(); MARKS] };
        let less = Nanos(u64::try_from(refund.div_ceil(1 << FRACTION)).unwrap_or(u64::MAX));
        for Mark { at, depth } in self.marks.into_iter().filter(|mark| mark.depth > Nanos::ZERO) {
            out.remember(Mark { at, depth: if at > charged { depth.saturating_sub(less) } else { depth } });
        }
        out
    }

    /// What the bucket lacked at its fullest since a charge, as a time.
    fn fullest(&self, charged: Nanos, now: Nanos) -> u128 {
        if charged < self.since {
            return 0;
        }
        let later = self.marks.iter().filter(|mark| mark.depth > Nanos::ZERO && mark.at > charged);
        let later = later.map(|mark| fixed(mark.depth));
        later.chain([self.at.0.saturating_sub(fixed(now))]).min().unwrap_or(0)
    }

    /// Adds the latest moment. One that was less deep than those before it makes these say nothing more.
    fn remember(&mut self, mark: Mark) {
        if mark.depth == Nanos::ZERO {
            (self.since, self.marks) = (self.since.max(mark.at), [Mark::default(); MARKS]);
            return;
        }
        let shallower = |old: &Mark| old.depth > Nanos::ZERO && old.depth < mark.depth;
        let mut all = self.marks.into_iter().filter(shallower).chain([mark]);
        let is_crowded = self.marks.iter().all(shallower);
        // The two first become one: as late as the later, and no deeper than the other.
        let merged = if is_crowded { all.next().zip(all.next()) } else { None };
        let merged = merged.map(|(first, second)| Mark { at: second.at, depth: first.depth });
        let mut kept = merged.into_iter().chain(all);
        self.marks = core::array::from_fn(|_| kept.next().unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use penstock_units::Tokens;
    use proptest::prelude::*;

    const NOW: u64 = 1_700_000_000 * Nanos::SECOND.0;
    /// By how much somebody's clock may be behind: less than one token takes to be refilled.
    const SKEW: u64 = 1_000_000;

    fn milli(tokens: u64) -> MilliTokens {
        Tokens(tokens).to_milli()
    }

    /// What the bucket would be if every charge had been known from the beginning: those in flight as they are reserved.
    fn oracle(rate: Rate, charges: &[(Nanos, MilliTokens)]) -> FullAt {
        charges.iter().fold(FullAt::default(), |at, (when, cost)| rate.charge(at, *when, *cost))
    }

    #[test]
    fn ten_slow_streams_give_back_what_a_bucket_holds_and_no_more() {
        let rate = Rate::new(Tokens(1000), Nanos(60 * Nanos::SECOND.0), Tokens(1000)).unwrap();
        let (mut bucket, mut now, mut charged) = (Bucket::full(Nanos(NOW)), Nanos(NOW), Vec::new());
        for _ in 0..10 {
            bucket = bucket.admit(rate, now, milli(980)).unwrap();
            charged.push(now);
            // Not quite until it is full again, so that it never is.
            now = now.saturating_add(Nanos(58_750_000_000));
        }
        let mut given = 0;
        for charged in charged {
            bucket = bucket.settle(rate, charged, now, milli(980), milli(1));
            while let Ok(next) = bucket.admit(rate, now, milli(10)) {
                (bucket, given) = (next, given + 10);
            }
        }
        assert!((970..=1000).contains(&given), "{given}");
    }

    #[test]
    fn a_refund_right_away_leaves_no_trace() {
        let rate = Rate::new(Tokens(10), Nanos::SECOND, Tokens(100)).unwrap();
        let before = Bucket::full(Nanos(NOW)).admit(rate, Nanos(NOW), milli(30)).unwrap();
        let now = Nanos(NOW + 7);
        let after = before.admit(rate, now, milli(20)).unwrap().settle(rate, now, now, milli(20), milli(0));
        assert_eq!(after.full_at(), before.full_at());
    }

    proptest! {
        /// Whatever comes in whatever order, the bucket never holds more than the one that knew all from the beginning; and as long as
        /// it remembers every moment, it holds the same: but for what is refilled while somebody's clock is behind.
        #[test]
        fn is_never_more_generous_than_one_that_knew(
            tokens in 1u64..1000, burst in 1u64..2000,
            steps in prop::collection::vec(
                (0u64..3_000_000_000, 1u64..1500, 0u64..1500, any::<bool>(), any::<prop::sample::Index>()), 1..40,
            ),
            skews in prop::collection::vec(0..SKEW, 40),
            skewed: bool,
            few: bool,
        ) {
            let rate = Rate::new(Tokens(tokens), Nanos::SECOND, Tokens(burst)).unwrap();
            let (mut bucket, mut now) = (Bucket::full(Nanos(NOW)), Nanos(NOW));
            let mut charges: Vec<(Nanos, MilliTokens)> = Vec::new();
            let mut open: Vec<(usize, MilliTokens)> = Vec::new();
            for ((pause, reserve, used, ends, which), skew) in steps.into_iter().zip(skews) {
                let (pause, skew, slack) = if skewed { (if pause % 4 > 0 { pause % (2 * SKEW) } else { pause }, skew, SKEW) } else { (pause, 0, 0) };
                now = now.saturating_add(Nanos(pause));
                let (real, now) = (now, now.saturating_sub(Nanos(skew)));
                // In a page one that is full is no bucket.
                if bucket.at.is_past(now) {
                    bucket = Bucket::full(now);
                }
                if ends && !open.is_empty() {
                    let (index, reserved) = open.swap_remove(which.index(open.len()));
                    let used = milli(used).min(reserved);
                    bucket = bucket.settle(rate, charges[index].0, now, reserved, used);
                    charges[index].1 = used;
                } else if !(few && charges.len() > MARKS)
                    && let Ok(next) = bucket.admit(rate, now, milli(reserve))
                {
                    bucket = next;
                    open.push((charges.len(), milli(reserve)));
                    charges.push((bucket.latest(), milli(reserve)));
                }
                let knew = oracle(rate, &charges).0.max(fixed(real));
                let own = bucket.at.0.max(fixed(real));
                let more = knew.saturating_sub(own) >> FRACTION;
                prop_assert!(more <= slack.into(), "{more} ns more than there is");
                if few {
                    let less = own.saturating_sub(knew) >> FRACTION;
                    prop_assert!(less <= (50 + slack).into(), "{less} ns less than there is");
                }
            }
        }
    }
}
