//! Tokens that were leased from a budget which all proxies share: spent here without asking, until they are used up or their window is
//! over.
//!
//! The service that keeps the budget counts a grant as spent when it gives it. So no token is admitted twice, and what is lost (a worker
//! that died, an answer that did not arrive) is lost to the spenders. What was used beyond a reservation is debt, and is paid with later
//! grants.

use penstock_units::{Fingerprint, MilliTokens, Nanos, Tokens};

use crate::page::PageFull;

/// How many leases a page holds.
pub const ENTRIES_MAX: usize = 64;
/// Bytes of one entry: fingerprint and the fields of [`Lease`] in their order, 8 each.
const ENTRY: usize = 72;
/// For how long a refusal is believed. Other proxies may have given the service a reason to think otherwise by then.
const REFUSAL: Nanos = Nanos(500_000_000);
/// Two ends of a window that are told are one if they are no further apart: clocks differ, and services round.
const SAME_WINDOW: Nanos = Nanos(2_000_000_000);
/// The first grant is this part of the largest; each that is used up is followed by one of twice the size.
const FIRST_GRANT: u64 = 16;

/// What is held of one such budget.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lease {
    /// Thousandths of a token; negative in debt.
    balance: i64,
    /// When the window is over.
    expires: Nanos,
    /// What the service had left when it was last asked.
    elsewhere: Tokens,
    refused_until: Nanos,
    /// The smallest question that was refused.
    refused: Tokens,
    /// Somebody asks for a whole grant, until then at most.
    asking_until: Nanos,
    /// When the service will have more, as it said when it refused.
    renews: Nanos,
    /// What was granted last.
    grant: Tokens,
}

/// What became of an attempt to spend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It was there.
    Spent(Lease),
    /// It is not, and the service is to be asked.
    Ask {
        /// With a note that somebody asks.
        lease: Lease,
        /// For so many tokens.
        hits: Tokens,
        /// Of which so many are needed if others spend what is here meanwhile.
        need: Tokens,
        /// Of which so many are needed if they do not.
        short: Tokens,
    },
    /// The service said no a moment ago.
    Refused {
        /// When it will have more, as far as is known.
        wait: Nanos,
        /// As it stands.
        lease: Lease,
    },
}

impl Lease {
    /// Spends `cost`, or says what to ask the service for: a grant of at most `largest`, unless somebody asks for one already and has been
    /// for less than `patience`. Debt is paid first, in grants.
    #[must_use]
    pub fn take(self, now: Nanos, cost: MilliTokens, largest: Tokens, patience: Nanos) -> Taken {
        let lease = self.at(now);
        let cost = signed(cost);
        let left = lease.balance.saturating_sub(cost);
        if left >= 0 {
            return Taken::Spent(Self { balance: left, ..lease });
        }
        let debt = tokens_ceil(lease.balance.min(0));
        let (need, short) = if debt > Tokens::ZERO {
            let part = debt.min(largest.max(Tokens(1)));
            (part, part)
        } else {
            (tokens_ceil(cost), tokens_ceil(left))
        };
        let refusal = lease.refused_until.saturating_sub(now);
        if (Nanos(1)..=REFUSAL).contains(&refusal) && short >= lease.refused {
            return Taken::Refused { wait: lease.renews.saturating_sub(now).max(refusal), lease };
        }
        let asks = (Nanos(1)..=patience).contains(&lease.asking_until.saturating_sub(now));
        let grant = lease.grant.saturating_mul(2).max(Tokens(largest.0 / FIRST_GRANT)).min(largest);
        let hits = if asks || debt > Tokens::ZERO { need } else { need.max(grant) };
        Taken::Ask { lease: Self { asking_until: now.saturating_add(patience), ..lease }, hits, need, short }
    }

    /// The service gave `hits`, and has `elsewhere` left. Its window is over after `reset`; where it does not say, after `period` from the
    /// first grant on.
    #[must_use]
    pub fn granted(self, now: Nanos, hits: Tokens, reset: Option<Nanos>, period: Nanos, elsewhere: Tokens) -> Self {
        let mut lease = self.at(now);
        let ends = now.saturating_add(reset.unwrap_or(period));
        if now >= lease.expires {
            lease.expires = ends;
        } else if reset.is_some() && ends.abs_diff(lease.expires) > SAME_WINDOW {
            // What is left of a window that is over is nobody's.
            lease.balance = lease.balance.min(0);
            lease.expires = ends;
        }
        let balance = lease.balance.saturating_add(signed(hits.to_milli()));
        Self { balance, elsewhere, refused_until: Nanos::ZERO, asking_until: Nanos::ZERO, grant: hits, ..lease }
    }

    /// The service has not so many, but `elsewhere`, and will have more after `reset`.
    #[must_use]
    pub fn refused(self, now: Nanos, need: Tokens, reset: Nanos, elsewhere: Tokens) -> Self {
        let (refused_until, renews) = (now.saturating_add(REFUSAL), now.saturating_add(reset));
        Self { refused_until, refused: need, asking_until: Nanos::ZERO, renews, elsewhere, ..self.at(now) }
    }

    /// Corrects a reservation to what was used. What was reserved in a window that is over is given back to nobody.
    #[must_use]
    pub fn settle(self, now: Nanos, window: Nanos, reserved: MilliTokens, used: MilliTokens) -> Self {
        let lease = self.at(now);
        let difference = i128::from(reserved.0).saturating_sub(i128::from(used.0));
        let difference = if difference > 0 && (lease.expires != window || now >= window) { 0 } else { difference };
        let balance = i128::from(lease.balance).saturating_add(difference);
        Self { balance: i64::try_from(balance).unwrap_or(i64::MIN), ..lease }
    }

    /// The window that is spent from: to be named in the settlement.
    pub fn window(&self) -> Nanos {
        self.expires
    }

    /// Whole tokens that are left, here and with the service as far as is known.
    pub fn remaining(&self) -> Tokens {
        Tokens(self.balance.max(0).unsigned_abs() / 1000).saturating_add(self.elsewhere)
    }

    /// Whole tokens that are left, negative in debt; `None` where the window is over, and nothing is owed.
    pub fn standing(&self, now: Nanos) -> Option<i64> {
        if self.balance < 0 {
            return Some(0i64.saturating_sub_unsigned(tokens_ceil(self.balance).0));
        }
        (now < self.expires).then(|| i64::try_from(self.remaining().0).unwrap_or(i64::MAX))
    }

    /// Without what was granted in a window that is over; debt stays.
    fn at(self, now: Nanos) -> Self {
        if now < self.expires {
            return self;
        }
        // A grant that was not used up was too large.
        let grant = if self.balance > 0 { Tokens::ZERO } else { self.grant };
        Self { balance: self.balance.min(0), elsewhere: Tokens::ZERO, grant, ..self }
    }

    fn is_void(self, now: Nanos) -> bool {
        self.at(now).balance == 0 && now >= self.refused_until && now >= self.asking_until
    }
}

/// As a part of a balance.
fn signed(milli: MilliTokens) -> i64 {
    i64::try_from(milli.0).unwrap_or(i64::MAX)
}

/// Whole tokens, rounded up, whatever the sign of the balance.
fn tokens_ceil(balance: i64) -> Tokens {
    MilliTokens(balance.unsigned_abs()).to_tokens_ceil()
}

/// The lease `fingerprint` in the page.
pub fn get(page: &[u8], fingerprint: Fingerprint) -> Lease {
    entries(page).find(|(known, _)| *known == fingerprint).map(|(_, lease)| lease).unwrap_or_default()
}

/// The page with the lease set, without those of others that say nothing any more. What was granted or is owed is not forgotten for
/// strangers; notes that somebody asks, or was refused, are.
///
/// # Errors
/// [`PageFull`] where all others hold something.
pub fn set(page: &[u8], fingerprint: Fingerprint, lease: Lease, now: Nanos) -> Result<Vec<u8>, PageFull> {
    let kept = |(known, lease): &(Fingerprint, Lease)| *known != fingerprint && !lease.is_void(now);
    let mut all: Vec<(Fingerprint, Lease)> = entries(page).filter(kept).collect();
    if all.len() >= ENTRIES_MAX {
        let note = all.iter().position(|(_, lease)| lease.at(now).balance == 0).ok_or(PageFull)?;
        all.swap_remove(note);
    }
    all.push((fingerprint, lease));
    let mut out = Vec::with_capacity(all.len().saturating_mul(ENTRY));
    for (fingerprint, lease) in all {
        let Lease { balance, expires, elsewhere, refused_until, refused, asking_until, renews, grant } = lease;
        let first = [fingerprint.0, balance.cast_unsigned(), expires.0, elsewhere.0];
        for word in first.into_iter().chain([refused_until.0, refused.0, asking_until.0, renews.0, grant.0]) {
            out.extend_from_slice(&word.to_le_bytes());
        }
    }
    Ok(out)
}

fn entries(page: &[u8]) -> impl Iterator<Item = (Fingerprint, Lease)> {
    page.chunks_exact(ENTRY).filter_map(|bytes| {
        let words: &[[u8; 8]; 9] = bytes.as_chunks::<8>().0.try_into().ok()?;
        let [fingerprint, balance, expires, elsewhere, refused_until, refused, asking_until, renews, grant] =
            words.map(u64::from_le_bytes);
        let lease = Lease {
            balance: balance.cast_signed(),
            expires: Nanos(expires),
            elsewhere: Tokens(elsewhere),
            refused_until: Nanos(refused_until),
            refused: Tokens(refused),
            asking_until: Nanos(asking_until),
            renews: Nanos(renews),
            grant: Tokens(grant),
        };
        Some((Fingerprint(fingerprint), lease))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: u64 = Nanos::SECOND.0;
    const HOUR: Nanos = Nanos(3600 * SECOND);
    /// How long somebody else who asks is waited for.
    const PATIENCE: Nanos = Nanos::SECOND;

    fn seconds(n: u64) -> Nanos {
        Nanos(n * SECOND)
    }

    fn tokens(n: u64) -> MilliTokens {
        Tokens(n).to_milli()
    }

    /// As [`Lease::take`] of so many tokens, with grants of at most 100.
    fn take(lease: Lease, now: Nanos, cost: u64) -> Taken {
        lease.take(now, tokens(cost), Tokens(100), PATIENCE)
    }

    /// As [`Lease::granted`], by a service that tells its window and has nothing left.
    fn granted(lease: Lease, now: Nanos, hits: Tokens, reset: Nanos) -> Lease {
        lease.granted(now, hits, Some(reset), HOUR, Tokens::ZERO)
    }

    #[test]
    fn a_lease_is_spent_without_asking_and_ends_with_its_window() {
        let Taken::Ask { lease, hits: Tokens(10), need: Tokens(10), short: Tokens(10) } =
            take(Lease::default(), Nanos::ZERO, 10)
        else {
            panic!()
        };
        let lease = Lease { grant: Tokens(60), ..lease };
        // Somebody asks already: the next asks for no more than it needs, until patience ends.
        assert!(matches!(take(lease, Nanos(1), 20), Taken::Ask { hits: Tokens(20), need: Tokens(20), .. }));
        assert!(matches!(take(lease, seconds(2), 20), Taken::Ask { hits: Tokens(100), .. }));
        let mut lease = lease.granted(Nanos::ZERO, Tokens(100), Some(seconds(60)), HOUR, Tokens(900));
        for _ in 0..10 {
            let Taken::Spent(next) = take(lease, seconds(1), 10) else { panic!() };
            lease = next;
        }
        assert_eq!(lease.remaining(), Tokens(900));
        let crumb = lease.take(seconds(1), MilliTokens(1), Tokens(100), PATIENCE);
        assert!(matches!(crumb, Taken::Ask { need: Tokens(1), .. }));
        // What comes back is there again, also if there was another grant of the same window meanwhile.
        let window = lease.window();
        let lease = granted(lease, seconds(10), Tokens(7), seconds(51));
        let lease = lease.settle(seconds(11), window, tokens(50), tokens(20));
        assert_eq!(lease.remaining(), Tokens(37));
        // After the window it is nobody's, whether another has begun or not.
        let refunded = |lease: Lease, now| lease.settle(now, window, tokens(50), MilliTokens::ZERO).remaining();
        assert_eq!(refunded(lease, seconds(61)), Tokens(0));
        let next = granted(lease, seconds(59), Tokens(7), seconds(61));
        assert_eq!(next.remaining(), Tokens(7));
        assert_eq!(refunded(next, seconds(59)), Tokens(7));
    }

    #[test]
    fn grants_grow_as_they_are_used_up_and_shrink_when_they_are_not() {
        let take = |lease: Lease, now| lease.take(now, tokens(1600), Tokens(160_000), PATIENCE);
        let mut lease = Lease::default();
        let mut sizes = Vec::new();
        for _ in 0..7 {
            let Taken::Ask { lease: next, hits, .. } = take(lease, Nanos::ZERO) else { panic!() };
            sizes.push(hits.0);
            lease = Lease { balance: 0, ..granted(next, Nanos::ZERO, hits, HOUR) };
        }
        assert_eq!(sizes, [10_000, 20_000, 40_000, 80_000, 160_000, 160_000, 160_000]);
        let idle = Lease { balance: 5, ..lease };
        assert!(matches!(take(idle, HOUR), Taken::Ask { hits: Tokens(10_000), .. }));
    }

    #[test]
    fn a_service_that_tells_no_window_gives_leases_that_last_a_period() {
        let lease = Lease::default().granted(Nanos::ZERO, Tokens(10), None, HOUR, Tokens::ZERO);
        let lease = lease.granted(Nanos(HOUR.0 / 2), Tokens(5), None, HOUR, Tokens::ZERO);
        assert_eq!((lease.remaining(), lease.window()), (Tokens(15), HOUR));
    }

    #[test]
    fn debt_outlives_the_window_and_is_paid_in_grants() {
        let mut lease = granted(Lease::default(), Nanos::ZERO, Tokens(10), seconds(1));
        lease = lease.settle(Nanos::ZERO, seconds(1), tokens(10), tokens(260));
        let mut paid = Vec::new();
        loop {
            match take(lease, seconds(5), 10) {
                Taken::Ask { lease: next, hits, .. } => {
                    paid.push(hits.0);
                    lease = granted(next, seconds(5), hits, seconds(1));
                }
                Taken::Spent(_) => break,
                Taken::Refused { .. } => panic!(),
            }
        }
        assert_eq!(paid[..3], [100, 100, 40]);
    }

    #[test]
    fn refusals_are_believed_for_a_moment_and_tell_when_there_is_more() {
        let lease = Lease::default().refused(Nanos::ZERO, Tokens(7), seconds(50), Tokens(3));
        let Taken::Refused { wait, .. } = take(lease, Nanos(1), 7) else { panic!() };
        assert_eq!(wait, Nanos(50 * SECOND - 1));
        assert!(matches!(take(lease, Nanos(1), 6), Taken::Ask { .. }));
        assert!(matches!(take(lease, REFUSAL, 7), Taken::Ask { .. }));
    }

    proptest! {
        /// In a window, with several requests in flight and ends that are told with a jitter: what is used is never more than what was given
        /// and what answers took beyond their reservations.
        #[test]
        fn no_token_is_admitted_that_was_not_given(
            asks in prop::collection::vec((1u64..100_000, 0u64..150_000, any::<bool>(), 0u64..3, 0u64..SECOND), 1..80),
        ) {
            const KEY: Fingerprint = Fingerprint(3);
            let mut lease = Lease::default();
            let mut flights: Vec<(MilliTokens, MilliTokens, Nanos)> = Vec::new();
            let mut now = Nanos::ZERO;
            let (mut given, mut used, mut beyond) = (0i128, 0i128, 0i128);
            let count = |milli: MilliTokens| i128::from(milli.0);
            for (cost, spends, yes, ends, jitter) in asks {
                let (cost, spends) = (MilliTokens(cost), MilliTokens(spends));
                now = now.saturating_add(Nanos(SECOND / 2));
                match lease.take(now, cost, Tokens(50), PATIENCE) {
                    Taken::Spent(next) => {
                        lease = next;
                        flights.push((cost, spends, lease.window()));
                        used += count(cost);
                    }
                    Taken::Ask { lease: next, hits, need, short } => {
                        prop_assert!(hits >= need && need >= short);
                        let reset = HOUR.saturating_sub(now).saturating_add(Nanos(jitter));
                        if yes {
                            lease = granted(next, now, hits, reset);
                            given += count(hits.to_milli());
                        } else {
                            lease = next.refused(now, short, reset, Tokens::ZERO);
                        }
                    }
                    Taken::Refused { .. } => {}
                }
                if ends == 0 && !flights.is_empty() {
                    let (cost, spends, window) = flights.swap_remove(0);
                    lease = lease.settle(now, window, cost, spends);
                    used += count(spends) - count(cost);
                    beyond += count(spends.saturating_sub(cost));
                }
                prop_assert!(used <= given + beyond);
                prop_assert_eq!(get(&set(&[], KEY, lease, now).unwrap(), KEY).remaining(), lease.remaining());
            }
        }

        #[test]
        fn nothing_overflows(balance: i64, a: u64, b: u64, c: u64, now: u64) {
            let now = Nanos(now);
            let lease = Lease {
                balance,
                expires: Nanos(a),
                elsewhere: Tokens(b),
                refused_until: Nanos(c),
                refused: Tokens(a),
                asking_until: Nanos(b),
                renews: Nanos(c),
                grant: Tokens(a),
            };
            let _ = lease.take(now, MilliTokens(a), Tokens(b), Nanos(c));
            let _ = lease.granted(now, Tokens(a), Some(Nanos(b)), Nanos(c), Tokens(a));
            let _ = lease.refused(now, Tokens(a), Nanos(b), Tokens(c));
            let _ = lease.settle(now, Nanos(a), MilliTokens(b), MilliTokens(c));
            let _ = (lease.remaining(), set(&[], Fingerprint(a), lease, now));
        }
    }

    #[test]
    fn a_page_is_bounded_and_nobody_is_forgotten_for_strangers() {
        const KEY: Fingerprint = Fingerprint(7);
        let fresh = |n: u64| granted(Lease::default(), Nanos(n), Tokens(10), seconds(1));
        let mut page = set(
            &[],
            KEY,
            fresh(0).settle(Nanos(0), fresh(0).window(), MilliTokens(0), Tokens(30).to_milli()),
            Nanos(0),
        )
        .unwrap();
        let owed = get(&page, KEY);
        for n in 1..ENTRIES_MAX as u64 {
            page = set(&page, Fingerprint(1000 + n), fresh(n), Nanos(n)).unwrap();
        }
        assert_eq!(page.len(), ENTRIES_MAX * ENTRY);
        assert_eq!(set(&page, Fingerprint(1), fresh(99), Nanos(99)), Err(PageFull));
        assert!(set(&page, Fingerprint(1001), fresh(99), Nanos(99)).is_ok());
        // When their windows are over, grants say nothing any more; debt does.
        let later = Nanos(3 * SECOND);
        let page = set(&page, Fingerprint(1), fresh(later.0), later).unwrap();
        assert_eq!(page.len(), 2 * ENTRY);
        assert_eq!(get(&page, KEY).balance, owed.balance);
        assert!(owed.balance < 0);
    }
}
