//! What a tenant may still spend: a token bucket as an integer GCRA, with debt and refunds.
//!
//! The state of a bucket is one instant: when it will be full again. Spending moves the instant into the future,
//! refunding moves it back, and time does the refilling. Debt needs no state of its own: an instant further away than
//! a whole burst means that more was used than there was. A bucket that is full is no state at all, so its storage
//! can be reused; [`page`] does that.
//!
//! Limits that no time refills are [`credit`]s, limits of what happens at the same time give [`permit`]s, and limits that all proxies share
//! give [`lease`]s.
//!
//! GCRA: ITU-T I.371, annex A; here with a variable cost per arrival.
//!
//! What this crate does not do: read a clock, share state (that is the caller's store), or decide what a request costs.

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

pub mod credit;
pub mod lease;
pub mod page;
pub mod permit;

/// Costs are given in thousandths of a token, so that weights like 0.1 stay integers.
pub const MILLI: u64 = 1000;

/// Fractional bits of an [`Instant`].
const FRACTION: u32 = 32;

/// Nanoseconds since an epoch that all users of a bucket share.
pub type Nanos = u64;

/// When a bucket will be full again, in nanoseconds with 32 fractional bits. Zero is long ago: a full bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct FullAt(u128);

impl FullAt {
    /// Its 12 bytes, little-endian. Instants beyond the range (584 years) are cut.
    pub fn to_bytes(self) -> [u8; 12] {
        let mut out = [0; 12];
        for (to, from) in out.iter_mut().zip(self.0.min((1 << 96) - 1).to_le_bytes()) {
            *to = from;
        }
        out
    }

    /// The inverse of [`FullAt::to_bytes`].
    pub fn from_bytes(bytes: [u8; 12]) -> Self {
        let mut wide = [0; 16];
        for (to, from) in wide.iter_mut().zip(bytes) {
            *to = from;
        }
        Self(u128::from_le_bytes(wide))
    }

    /// Whether the bucket is full at `now`, so that nothing needs to be remembered of it.
    pub fn is_past(self, now: Nanos) -> bool {
        self.0 <= fixed(now)
    }
}

fn fixed(nanos: Nanos) -> u128 {
    u128::from(nanos) << FRACTION
}

/// Why a request is not admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It costs more than the bucket ever holds.
    Never {
        /// What the bucket holds, in tokens.
        burst: u64,
    },
    /// It fits after this long.
    NotYet {
        /// Nanoseconds to wait if nobody else spends.
        wait: Nanos,
    },
}

/// A limit: so many tokens every so many nanoseconds, and at most `burst` at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    tokens: u64,
    every: Nanos,
    burst: u64,
}

impl Rate {
    /// A rate of `tokens` per `every` nanoseconds. `None` where one of the three is zero or beyond 2^40 (2^63 for the
    /// time), because products of them must fit.
    pub fn new(tokens: u64, every: Nanos, burst: u64) -> Option<Self> {
        let sane = |n: u64| (1..=1 << 40).contains(&n);
        (sane(tokens) && sane(burst) && (1..=1 << 62).contains(&every)).then_some(Self { tokens, every, burst })
    }

    /// What the bucket holds, in tokens.
    pub fn burst(&self) -> u64 {
        self.burst
    }

    /// The period of its tokens, in nanoseconds.
    pub fn every(&self) -> Nanos {
        self.every
    }

    /// How long the bucket takes to refill `cost` thousandths of a token. Rounds up: never in the spender's favour.
    fn time(&self, cost: u64) -> u128 {
        // 2^50 (a cost is capped) * 2^62 overflows 128 bits only together with the fraction, so that is added last.
        let cost = u128::from(cost.min(1 << 50));
        let per = u128::from(self.tokens).saturating_mul(u128::from(MILLI));
        let product = cost.saturating_mul(u128::from(self.every));
        let whole = product.checked_div(per).unwrap_or(0);
        let rest = product.checked_rem(per).unwrap_or(0);
        let fraction = (rest << FRACTION).div_ceil(per.max(1));
        (whole << FRACTION).saturating_add(fraction)
    }

    fn burst_time(&self) -> u128 {
        self.time(self.burst.saturating_mul(MILLI))
    }

    /// Spends `cost` thousandths of a token at `now`, or says why not.
    ///
    /// # Errors
    /// [`Refusal`]; the state is then to be left as it was.
    pub fn admit(&self, at: FullAt, now: Nanos, cost: u64) -> Result<FullAt, Refusal> {
        if cost > self.burst.saturating_mul(MILLI) {
            return Err(Refusal::Never { burst: self.burst });
        }
        let spent = self.charge(at, now, cost);
        let latest = fixed(now).saturating_add(self.burst_time());
        match spent.0.checked_sub(latest) {
            None | Some(0) => Ok(spent),
            Some(over) => {
                let wait = over.div_ceil(1 << FRACTION);
                Err(Refusal::NotYet { wait: u64::try_from(wait).unwrap_or(u64::MAX) })
            }
        }
    }

    /// Spends `cost` whether it is there or not; what is not there is debt.
    pub fn charge(&self, at: FullAt, now: Nanos, cost: u64) -> FullAt {
        FullAt(at.0.max(fixed(now)).saturating_add(self.time(cost)))
    }

    /// Corrects an earlier charge of `reserved` to `used`: gives the difference back, or takes it as debt.
    pub fn settle(&self, at: FullAt, now: Nanos, reserved: u64, used: u64) -> FullAt {
        let (reserved, used) = (self.time(reserved), self.time(used));
        match used.checked_sub(reserved) {
            Some(0) => at,
            Some(more) => FullAt(at.0.max(fixed(now)).saturating_add(more)),
            None => FullAt(at.0.saturating_sub(reserved.saturating_sub(used))),
        }
    }

    /// What is left at `now`, in whole tokens; negative in debt.
    pub fn remaining(&self, at: FullAt, now: Nanos) -> i64 {
        let missing = at.0.saturating_sub(fixed(now));
        let every = fixed(self.every).max(1);
        // Split so that the product of a long debt with a high rate stays in range.
        let whole = missing.checked_div(every).unwrap_or(0).saturating_mul(u128::from(self.tokens));
        let rest = missing.checked_rem(every).unwrap_or(0) >> 16;
        let part = rest.saturating_mul(u128::from(self.tokens)).div_ceil((every >> 16).max(1));
        let missing = i64::try_from(whole.saturating_add(part)).unwrap_or(i64::MAX);
        i64::try_from(self.burst).unwrap_or(i64::MAX).saturating_sub(missing)
    }

    /// How long until the bucket is full, in nanoseconds.
    pub fn reset(&self, at: FullAt, now: Nanos) -> Nanos {
        let missing = at.0.saturating_sub(fixed(now));
        u64::try_from(missing.div_ceil(1 << FRACTION)).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: u64 = 1_000_000_000;
    const NOW: u64 = 1_700_000_000 * SECOND;

    #[test]
    fn a_full_bucket_gives_its_burst_and_then_its_rate() {
        let rate = Rate::new(60, 60 * SECOND, 100).unwrap();
        let empty = rate.admit(FullAt::default(), NOW, 100 * MILLI).unwrap();
        assert_eq!(rate.remaining(empty, NOW), 0);
        assert_eq!(rate.admit(empty, NOW, 5 * MILLI), Err(Refusal::NotYet { wait: 5 * SECOND }));
        assert!(rate.admit(empty, NOW + 5 * SECOND, 5 * MILLI).is_ok());
        assert_eq!(rate.admit(empty, NOW, 101 * MILLI), Err(Refusal::Never { burst: 100 }));
        assert_eq!(rate.reset(empty, NOW), 100 * SECOND);
    }

    #[test]
    fn debt_is_carried() {
        let rate = Rate::new(1, SECOND, 10).unwrap();
        let at = rate.admit(FullAt::default(), NOW, 10 * MILLI).unwrap();
        let at = rate.settle(at, NOW, 10 * MILLI, 30 * MILLI);
        assert_eq!(rate.remaining(at, NOW), -20);
        assert_eq!(rate.admit(at, NOW, MILLI), Err(Refusal::NotYet { wait: 21 * SECOND }));
    }

    #[test]
    fn nonsense_rates_cannot_be_built() {
        for (tokens, every, burst) in [(0, 1, 1), (1, 0, 1), (1, 1, 0), (u64::MAX, 1, 1), (1, u64::MAX, 1)] {
            assert_eq!(Rate::new(tokens, every, burst), None);
        }
    }

    proptest! {
        /// Conservation: whatever is admitted in any order over any time is at most the burst plus what time refilled,
        /// and a refusal that is retried after the wait it named is admitted.
        #[test]
        fn never_more_than_burst_plus_rate(
            tokens in 1u64..1_000_000, every in 1u64..100 * SECOND, burst in 1u64..1_000_000,
            asks in prop::collection::vec((0u64..SECOND, 1u64..2_000_000_000, 0u64..2_000_000_000), 1..60),
        ) {
            let rate = Rate::new(tokens, every, burst).unwrap();
            let (mut at, mut now) = (FullAt::default(), NOW);
            let mut used_total = 0u128;
            for (pause, reserve, used) in asks {
                now += pause;
                match rate.admit(at, now, reserve) {
                    Ok(next) => {
                        at = rate.settle(next, now, reserve, used.min(reserve));
                        used_total += u128::from(used.min(reserve));
                    }
                    Err(Refusal::NotYet { wait }) => {
                        prop_assert!(wait > 0);
                        prop_assert!(rate.admit(at, now.saturating_add(wait), reserve).is_ok());
                        prop_assert!(rate.admit(at, now.saturating_add(wait - 1), reserve).is_err());
                    }
                    Err(Refusal::Never { .. }) => prop_assert!(reserve > burst * MILLI),
                }
            }
            let refilled = u128::from(now - NOW) * u128::from(tokens) * u128::from(MILLI) / u128::from(every);
            prop_assert!(used_total <= u128::from(burst * MILLI) + refilled + 1);
        }

        #[test]
        fn a_full_refund_leaves_no_trace(cost in 0u64..1 << 50, tokens in 1u64..1 << 40, every in 1u64..1 << 62) {
            let rate = Rate::new(tokens, every, 1 << 40).unwrap();
            let before = rate.charge(FullAt::default(), NOW, 77);
            let after = rate.settle(rate.charge(before, NOW, cost), NOW, cost, 0);
            prop_assert_eq!(before, after);
        }

        #[test]
        fn bytes_round_trip(nanos: u64, fraction: u32) {
            let at = FullAt(fixed(nanos) | u128::from(fraction));
            prop_assert_eq!(FullAt::from_bytes(at.to_bytes()), at);
        }

        #[test]
        fn nothing_overflows(at: u64, now: u64, a: u64, b: u64, tokens in 1u64..=1 << 40, every in 1u64..=1 << 62) {
            let rate = Rate::new(tokens, every, 1 << 40).unwrap();
            let at = FullAt(fixed(at));
            let _ = (rate.admit(at, now, a), rate.settle(at, now, a, b), rate.remaining(at, now), rate.reset(at, now));
        }
    }
}
