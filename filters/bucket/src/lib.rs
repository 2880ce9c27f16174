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

pub mod bucket;
pub mod credit;
pub mod lease;
pub mod page;
pub mod permit;

use penstock_units::{MilliTokens, Nanos, Tokens, product};

/// Fractional bits of a [`FullAt`].
const FRACTION: u32 = 32;

/// When a bucket will be full again, in nanoseconds with 32 fractional bits, since an epoch that all users of the bucket share. Zero is
/// long ago: a full bucket.
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
    u128::from(nanos.0) << FRACTION
}

/// A quotient with [`FRACTION`] fractional bits, rounded up, of what is divided by at most 2^50: in arithmetic of 64 bits, as that of 128 bits
/// is function calls in WebAssembly.
fn quotient(number: u64, by: u64) -> u128 {
    let divide = |number: u64| (number.checked_div(by).unwrap_or(0), number.checked_rem(by).unwrap_or(0));
    let (whole, mut rest) = divide(number);
    let mut fraction = 0u64;
    for bits in [14, 14, 4] {
        let (digits, left) = divide(rest << bits);
        (fraction, rest) = (fraction << bits | digits, left);
    }
    (u128::from(whole) << FRACTION).saturating_add(u128::from(fraction.saturating_add(u64::from(rest > 0))))
}

/// The inverse of [`fixed`], rounded up.
fn nanos(fixed: u128) -> Nanos {
    Nanos(u64::try_from(fixed.div_ceil(1 << FRACTION)).unwrap_or(u64::MAX))
}

/// Why a request is not admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It costs more than the bucket ever holds.
    Never {
        /// What the bucket holds.
        burst: Tokens,
    },
    /// It fits after this long.
    NotYet {
        /// How long to wait if nobody else spends.
        wait: Nanos,
    },
}

/// A limit: so many tokens a period, and at most `burst` at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    tokens: Tokens,
    period: Nanos,
    burst: Tokens,
    /// How long all of it takes to come.
    burst_time: u128,
}

impl Rate {
    /// A rate of `tokens` per `period`. `None` where one of the three is zero or beyond 2^40 (2^62 for the period), because products of
    /// them must fit.
    pub fn new(tokens: Tokens, period: Nanos, burst: Tokens) -> Option<Self> {
        let sane = |n: Tokens| (1..=1 << 40).contains(&n.0);
        let is_sane = sane(tokens) && sane(burst) && (1..=1 << 62).contains(&period.0);
        is_sane.then(|| {
            let rate = Self { tokens, period, burst, burst_time: 0 };
            Self { burst_time: rate.time(burst.to_milli()), ..rate }
        })
    }

    /// What the bucket holds.
    pub fn burst(&self) -> Tokens {
        self.burst
    }

    /// How many tokens come in a period.
    pub fn tokens(&self) -> Tokens {
        self.tokens
    }

    /// How long its tokens take to come.
    pub fn period(&self) -> Nanos {
        self.period
    }

    /// How long the bucket takes to refill `cost`. Rounds up: never in the spender's favour.
    fn time(&self, cost: MilliTokens) -> u128 {
        // 2^50 (a cost is capped) * 2^62 overflows 128 bits only together with the fraction, so that is added last, to no more than leaves
        // room for sums.
        let (cost, per) = (cost.0.min(1 << 50), self.tokens.to_milli().0);
        if cost.leading_zeros().saturating_add(self.period.0.leading_zeros()) >= u64::BITS {
            return quotient(product(cost, self.period.0), per);
        }
        let (cost, per) = (u128::from(cost), u128::from(per));
        let product = cost.saturating_mul(u128::from(self.period.0));
        let whole = product.checked_div(per).unwrap_or(0).min(1 << 94);
        let rest = product.checked_rem(per).unwrap_or(0);
        let fraction = (rest << FRACTION).div_ceil(per.max(1));
        (whole << FRACTION).saturating_add(fraction)
    }

    /// Spends `cost` at `now`, or says why not.
    ///
    /// # Errors
    /// [`Refusal`]; the state is then to be left as it was.
    pub fn admit(&self, at: FullAt, now: Nanos, cost: MilliTokens) -> Result<FullAt, Refusal> {
        if cost > self.burst.to_milli() {
            return Err(Refusal::Never { burst: self.burst });
        }
        let spent = self.charge(at, now, cost);
        let latest = fixed(now).saturating_add(self.burst_time);
        match spent.0.checked_sub(latest) {
            None | Some(0) => Ok(spent),
            Some(over) => Err(Refusal::NotYet { wait: nanos(over) }),
        }
    }

    /// Spends `cost` whether it is there or not; what is not there is debt.
    pub fn charge(&self, at: FullAt, now: Nanos, cost: MilliTokens) -> FullAt {
        FullAt(at.0.max(fixed(now)).saturating_add(self.time(cost)))
    }

    /// Corrects an earlier charge of `reserved` to `used`: gives the difference back, or takes it as debt.
    pub fn settle(&self, at: FullAt, now: Nanos, reserved: MilliTokens, used: MilliTokens) -> FullAt {
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
        let period = fixed(self.period).max(1);
        // Split so that the product of a long debt with a high rate stays in range.
        let (whole, rest) = if missing < period {
            (0, missing >> 16)
        } else {
            let whole = missing.checked_div(period).unwrap_or(0).saturating_mul(u128::from(self.tokens.0));
            (whole, missing.checked_rem(period).unwrap_or(0) >> 16)
        };
        // Below 2^78 times 2^40, and a division more would be as dear as all of this: so it is rounded up by hand.
        let (part, by) = (rest.wrapping_mul(u128::from(self.tokens.0)), (period >> 16).max(1));
        let part = part.saturating_add(by).saturating_sub(1).checked_div(by).unwrap_or(0);
        let missing = i64::try_from(whole.saturating_add(part)).unwrap_or(i64::MAX);
        i64::try_from(self.burst.0).unwrap_or(i64::MAX).saturating_sub(missing)
    }

    /// How long until the bucket is full.
    pub fn reset(&self, at: FullAt, now: Nanos) -> Nanos {
        nanos(at.0.saturating_sub(fixed(now)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: u64 = Nanos::SECOND.0;
    const NOW: Nanos = Nanos(1_700_000_000 * SECOND);

    fn rate(tokens: u64, period: u64, burst: u64) -> Rate {
        Rate::new(Tokens(tokens), Nanos(period), Tokens(burst)).unwrap()
    }

    fn tokens(n: u64) -> MilliTokens {
        Tokens(n).to_milli()
    }

    fn later(by: u64) -> Nanos {
        NOW.saturating_add(Nanos(by))
    }

    #[test]
    fn a_full_bucket_gives_its_burst_and_then_its_rate() {
        let rate = rate(60, 60 * SECOND, 100);
        let empty = rate.admit(FullAt::default(), NOW, tokens(100)).unwrap();
        assert_eq!(rate.remaining(empty, NOW), 0);
        assert_eq!(rate.admit(empty, NOW, tokens(5)), Err(Refusal::NotYet { wait: Nanos(5 * SECOND) }));
        assert!(rate.admit(empty, later(5 * SECOND), tokens(5)).is_ok());
        assert_eq!(rate.admit(empty, NOW, tokens(101)), Err(Refusal::Never { burst: Tokens(100) }));
        assert_eq!(rate.reset(empty, NOW), Nanos(100 * SECOND));
    }

    #[test]
    fn debt_is_carried() {
        let rate = rate(1, SECOND, 10);
        let at = rate.admit(FullAt::default(), NOW, tokens(10)).unwrap();
        let at = rate.settle(at, NOW, tokens(10), tokens(30));
        assert_eq!(rate.remaining(at, NOW), -20);
        assert_eq!(rate.admit(at, NOW, tokens(1)), Err(Refusal::NotYet { wait: Nanos(21 * SECOND) }));
    }

    #[test]
    fn debt_beyond_the_range_is_still_debt() {
        let rate = rate(1, 1 << 62, 1);
        let at = rate.charge(FullAt::default(), NOW, tokens(1 << 34));
        assert!(at >= rate.charge(FullAt::default(), NOW, tokens(4)), "the larger debt takes longer to pay");
        assert!(rate.remaining(at, NOW) < 0);
    }

    #[test]
    fn nonsense_rates_cannot_be_built() {
        for (tokens, period, burst) in [(0, 1, 1), (1, 0, 1), (1, 1, 0), (u64::MAX, 1, 1), (1, u64::MAX, 1)] {
            assert_eq!(Rate::new(Tokens(tokens), Nanos(period), Tokens(burst)), None);
        }
    }

    proptest! {
        /// Conservation: whatever is admitted in any order over any time is at most the burst plus what time refilled,
        /// and a refusal that is retried after the wait it named is admitted.
        #[test]
        fn never_more_than_burst_plus_rate(
            refill in 1u64..1_000_000, period in 1u64..100 * SECOND, burst in 1u64..1_000_000,
            asks in prop::collection::vec((0u64..SECOND, 1u64..2_000_000_000, 0u64..2_000_000_000), 1..60),
        ) {
            let rate = rate(refill, period, burst);
            let burst = tokens(burst);
            let (mut at, mut now) = (FullAt::default(), NOW);
            let mut used_total = 0u128;
            for (pause, reserve, used) in asks {
                now = now.saturating_add(Nanos(pause));
                let (reserve, used) = (MilliTokens(reserve), MilliTokens(used.min(reserve)));
                match rate.admit(at, now, reserve) {
                    Ok(next) => {
                        at = rate.settle(next, now, reserve, used);
                        used_total += u128::from(used.0);
                    }
                    Err(Refusal::NotYet { wait }) => {
                        prop_assert!(wait > Nanos::ZERO);
                        prop_assert!(rate.admit(at, now.saturating_add(wait), reserve).is_ok());
                        let early = now.saturating_add(wait.saturating_sub(Nanos(1)));
                        prop_assert!(rate.admit(at, early, reserve).is_err());
                    }
                    Err(Refusal::Never { .. }) => prop_assert!(reserve > burst),
                }
            }
            let passed = u128::from(now.saturating_sub(NOW).0);
            let refilled = passed * u128::from(tokens(refill).0) / u128::from(period);
            prop_assert!(used_total <= u128::from(burst.0) + refilled + 1);
        }

        #[test]
        fn a_full_refund_leaves_no_trace(cost in 0u64..1 << 50, tokens in 1u64..1 << 40, period in 1u64..1 << 62) {
            let (rate, cost) = (rate(tokens, period, 1 << 40), MilliTokens(cost));
            let before = rate.charge(FullAt::default(), NOW, MilliTokens(77));
            let after = rate.settle(rate.charge(before, NOW, cost), NOW, cost, MilliTokens::ZERO);
            prop_assert_eq!(before, after);
        }

        #[test]
        fn bytes_round_trip(nanos: u64, fraction: u32) {
            let at = FullAt(fixed(Nanos(nanos)) | u128::from(fraction));
            prop_assert_eq!(FullAt::from_bytes(at.to_bytes()), at);
        }

        #[test]
        fn short_and_long_division_agree(number: u64, shift in 0u32..64, by in 1u64..=1 << 50, less in 0u32..50) {
            let (number, by) = (number >> shift, (by >> less).max(1));
            let long = (u128::from(number) << FRACTION).div_ceil(u128::from(by));
            prop_assert_eq!(quotient(number, by), long);
        }

        #[test]
        fn nothing_overflows(at: u64, now: u64, a: u64, b: u64, tokens in 1u64..=1 << 40, period in 1u64..=1 << 62) {
            let rate = rate(tokens, period, 1 << 40);
            let (at, now, a, b) = (FullAt(fixed(Nanos(at))), Nanos(now), MilliTokens(a), MilliTokens(b));
            let _ = (rate.admit(at, now, a), rate.settle(at, now, a, b), rate.remaining(at, now), rate.reset(at, now));
        }
    }
}
