//! Tokens that were leased from a budget which others share: spent here without asking, until they are used up or their window is over.
//!
//! The budget's owner counts a lease as spent when it gives it. So no token is admitted twice, and what is lost (a worker that died, an
//! answer that did not arrive) is lost to the spenders. What was used beyond a reservation is debt, and is paid with later leases.

use crate::{MILLI, Nanos};

/// How many leases a page holds.
pub const ENTRIES_MAX: usize = 64;
/// Bytes of one entry: fingerprint and the fields of [`Lease`] in their order, 8 each.
const ENTRY: usize = 72;
/// For how long a refusal is believed. Other proxies may have given the owner a reason to think otherwise by then.
const REFUSAL: Nanos = 500_000_000;
/// Two ends of a window that are told are one if they are no further apart: clocks differ, and services round.
const SAME_WINDOW: Nanos = 2_000_000_000;
/// The first grant is this part of the largest; each that is used up is followed by one of twice the size.
const FIRST_GRANT: u64 = 16;

/// What is held of one such budget.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lease {
    /// Thousandths of a token; negative in debt.
    balance: i64,
    /// When the lease's window is over.
    expires: Nanos,
    /// What the owner had left when it was last asked, in tokens.
    elsewhere: u64,
    refused_until: Nanos,
    /// The smallest question that was refused.
    refused: u64,
    /// Somebody asks for a whole grant, until then at most.
    asking_until: Nanos,
    /// When the owner will have more, as it said when it refused.
    renews: Nanos,
    /// What was granted last, in tokens.
    grant: u64,
}

/// What became of an attempt to spend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It was there.
    Spent(Lease),
    /// It is not, and the owner is to be asked.
    Ask {
        /// With a note that somebody asks.
        lease: Lease,
        /// For so many tokens.
        hits: u64,
        /// Of which so many are needed if others spend what is here meanwhile.
        need: u64,
        /// Of which so many are needed if they do not.
        short: u64,
    },
    /// The owner said no a moment ago.
    Refused {
        /// When it will have more, as far as is known.
        wait: Nanos,
        /// As it stands.
        lease: Lease,
    },
}

impl Lease {
    /// Spends `cost` thousandths of a token, or says what to ask the owner for: a lease of at most `largest` tokens, unless somebody asks for
    /// one already and has been for less than `patience`. Debt is paid first, in leases.
    #[must_use]
    pub fn take(self, now: Nanos, cost: u64, largest: u64, patience: Nanos) -> Taken {
        let lease = self.at(now);
        let cost = i64::try_from(cost).unwrap_or(i64::MAX);
        let left = lease.balance.saturating_sub(cost);
        if left >= 0 {
            return Taken::Spent(Self { balance: left, ..lease });
        }
        let debt = lease.balance.min(0).unsigned_abs().div_ceil(MILLI);
        let (need, short) = if debt > 0 {
            let part = debt.min(largest.max(1));
            (part, part)
        } else {
            (cost.unsigned_abs().div_ceil(MILLI), left.unsigned_abs().div_ceil(MILLI))
        };
        let refusal = lease.refused_until.saturating_sub(now);
        if (1..=REFUSAL).contains(&refusal) && short >= lease.refused {
            return Taken::Refused { wait: lease.renews.saturating_sub(now).max(refusal), lease };
        }
        let asks = (1..=patience).contains(&lease.asking_until.saturating_sub(now));
        let grant = lease.grant.saturating_mul(2).max(largest / FIRST_GRANT).min(largest);
        let hits = if asks || debt > 0 { need } else { need.max(grant) };
        Taken::Ask { lease: Self { asking_until: now.saturating_add(patience), ..lease }, hits, need, short }
    }

    /// The owner gave `hits` tokens, and has `elsewhere` left. Its window is over after `reset`; where it does not say, after `every` from
    /// the first lease on.
    #[must_use]
    pub fn granted(self, now: Nanos, hits: u64, reset: Option<Nanos>, every: Nanos, elsewhere: u64) -> Self {
        let mut lease = self.at(now);
        let ends = now.saturating_add(reset.unwrap_or(every));
        if now >= lease.expires {
            lease.expires = ends;
        } else if reset.is_some() && ends.abs_diff(lease.expires) > SAME_WINDOW {
            // What is left of a window that is over is nobody's.
            lease.balance = lease.balance.min(0);
            lease.expires = ends;
        }
        let gift = i64::try_from(hits.saturating_mul(MILLI)).unwrap_or(i64::MAX);
        let balance = lease.balance.saturating_add(gift);
        Self { balance, elsewhere, refused_until: 0, asking_until: 0, grant: hits, ..lease }
    }

    /// The owner has not so many, but `elsewhere`, and will have more after `reset`.
    #[must_use]
    pub fn refused(self, now: Nanos, need: u64, reset: Nanos, elsewhere: u64) -> Self {
        let (refused_until, renews) = (now.saturating_add(REFUSAL), now.saturating_add(reset));
        Self { refused_until, refused: need, asking_until: 0, renews, elsewhere, ..self.at(now) }
    }

    /// Corrects a reservation to what was used. What was reserved in a window that is over is given back to nobody.
    #[must_use]
    pub fn settle(self, now: Nanos, window: Nanos, reserved: u64, used: u64) -> Self {
        let lease = self.at(now);
        let difference = i128::from(reserved).saturating_sub(i128::from(used));
        let difference = if difference > 0 && (lease.expires != window || now >= window) { 0 } else { difference };
        let balance = i128::from(lease.balance).saturating_add(difference);
        Self { balance: i64::try_from(balance).unwrap_or(i64::MIN), ..lease }
    }

    /// The window that is spent from: to be named in the settlement.
    pub fn window(&self) -> Nanos {
        self.expires
    }

    /// Whole tokens that are left, here and with the owner as far as is known.
    pub fn remaining(&self) -> u64 {
        u64::try_from(self.balance).unwrap_or(0).checked_div(MILLI).unwrap_or(0).saturating_add(self.elsewhere)
    }

    /// Without a lease whose window is over; debt stays.
    fn at(self, now: Nanos) -> Self {
        if now < self.expires {
            return self;
        }
        // A grant that was not used up was too large.
        let grant = if self.balance > 0 { 0 } else { self.grant };
        Self { balance: self.balance.min(0), elsewhere: 0, grant, ..self }
    }

    fn is_void(self, now: Nanos) -> bool {
        self.at(now).balance == 0 && now >= self.refused_until && now >= self.asking_until
    }
}

/// The lease `fingerprint` in the page.
pub fn get(page: &[u8], fingerprint: u64) -> Lease {
    entries(page).find(|(known, _)| *known == fingerprint).map(|(_, lease)| lease).unwrap_or_default()
}

/// The page with the lease set. Leases that hold nothing make room first, then the one whose window ends next.
pub fn set(page: &[u8], fingerprint: u64, lease: Lease, now: Nanos) -> Vec<u8> {
    let kept = |(known, lease): &(u64, Lease)| *known != fingerprint && !lease.is_void(now);
    let mut all: Vec<(u64, Lease)> = entries(page).filter(kept).collect();
    while all.len() >= ENTRIES_MAX {
        let next = all.iter().enumerate().min_by_key(|(_, (_, lease))| lease.expires).map(|(i, _)| i);
        all.swap_remove(next.unwrap_or(0));
    }
    all.push((fingerprint, lease));
    let mut out = Vec::with_capacity(all.len().saturating_mul(ENTRY));
    for (fingerprint, lease) in all {
        let Lease { balance, expires, elsewhere, refused_until, refused, asking_until, renews, grant } = lease;
        let first = [fingerprint, balance.cast_unsigned(), expires, elsewhere];
        for word in first.into_iter().chain([refused_until, refused, asking_until, renews, grant]) {
            out.extend_from_slice(&word.to_le_bytes());
        }
    }
    out
}

fn entries(page: &[u8]) -> impl Iterator<Item = (u64, Lease)> {
    page.chunks_exact(ENTRY).filter_map(|bytes| {
        let words: &[[u8; 8]; 9] = bytes.as_chunks::<8>().0.try_into().ok()?;
        let [fingerprint, balance, expires, elsewhere, refused_until, refused, asking_until, renews, grant] =
            words.map(u64::from_le_bytes);
        let balance = balance.cast_signed();
        Some((fingerprint, Lease { balance, expires, elsewhere, refused_until, refused, asking_until, renews, grant }))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: u64 = 1_000_000_000;
    const HOUR: u64 = 3600 * SECOND;

    fn granted(lease: Lease, now: Nanos, hits: u64, reset: Nanos) -> Lease {
        lease.granted(now, hits, Some(reset), HOUR, 0)
    }

    #[test]
    fn a_lease_is_spent_without_asking_and_ends_with_its_window() {
        let Taken::Ask { lease, hits: 10, need: 10, short: 10 } = Lease::default().take(0, 10 * MILLI, 100, SECOND)
        else {
            panic!()
        };
        let lease = Lease { grant: 60, ..lease };
        // Somebody asks already: the next asks for no more than it needs, until patience ends.
        assert!(matches!(lease.take(1, 20 * MILLI, 100, SECOND), Taken::Ask { hits: 20, need: 20, .. }));
        assert!(matches!(lease.take(2 * SECOND, 20 * MILLI, 100, SECOND), Taken::Ask { hits: 100, .. }));
        let mut lease = lease.granted(0, 100, Some(60 * SECOND), HOUR, 900);
        for _ in 0..10 {
            let Taken::Spent(next) = lease.take(SECOND, 10 * MILLI, 100, SECOND) else { panic!() };
            lease = next;
        }
        assert_eq!(lease.remaining(), 900);
        assert!(matches!(lease.take(SECOND, 1, 100, SECOND), Taken::Ask { need: 1, .. }));
        // What comes back is there again, also if there was another lease of the same window meanwhile.
        let window = lease.window();
        let lease = granted(lease, 10 * SECOND, 7, 51 * SECOND).settle(11 * SECOND, window, 50 * MILLI, 20 * MILLI);
        assert_eq!(lease.remaining(), 37);
        // After the window it is nobody's, whether another has begun or not.
        assert_eq!(lease.settle(61 * SECOND, window, 50 * MILLI, 0).remaining(), 0);
        let next = granted(lease, 59 * SECOND, 7, 61 * SECOND);
        assert_eq!(next.remaining(), 7);
        assert_eq!(next.settle(59 * SECOND, window, 50 * MILLI, 0).remaining(), 7);
    }

    #[test]
    fn leases_grow_as_they_are_used_up_and_shrink_when_they_are_not() {
        let mut lease = Lease::default();
        let mut sizes = Vec::new();
        for _ in 0..7 {
            let Taken::Ask { lease: next, hits, .. } = lease.take(0, 1600 * MILLI, 160_000, SECOND) else { panic!() };
            sizes.push(hits);
            lease = Lease { balance: 0, ..granted(next, 0, hits, HOUR) };
        }
        assert_eq!(sizes, [10_000, 20_000, 40_000, 80_000, 160_000, 160_000, 160_000]);
        let idle = Lease { balance: 5, ..lease };
        assert!(matches!(idle.take(HOUR, 1600 * MILLI, 160_000, SECOND), Taken::Ask { hits: 10_000, .. }));
    }

    #[test]
    fn a_service_that_tells_no_window_gives_leases_that_last_a_period() {
        let lease = Lease::default().granted(0, 10, None, HOUR, 0).granted(HOUR / 2, 5, None, HOUR, 0);
        assert_eq!((lease.remaining(), lease.window()), (15, HOUR));
    }

    #[test]
    fn debt_outlives_the_window_and_is_paid_in_leases() {
        let mut lease = granted(Lease::default(), 0, 10, SECOND).settle(0, SECOND, 10 * MILLI, 260 * MILLI);
        let mut paid = Vec::new();
        loop {
            match lease.take(5 * SECOND, 10 * MILLI, 100, SECOND) {
                Taken::Ask { lease: next, hits, .. } => {
                    paid.push(hits);
                    lease = granted(next, 5 * SECOND, hits, SECOND);
                }
                Taken::Spent(_) => break,
                Taken::Refused { .. } => panic!(),
            }
        }
        assert_eq!(paid[..3], [100, 100, 40]);
    }

    #[test]
    fn refusals_are_believed_for_a_moment_and_tell_when_there_is_more() {
        let lease = Lease::default().refused(0, 7, 50 * SECOND, 3);
        let Taken::Refused { wait, .. } = lease.take(1, 7 * MILLI, 100, SECOND) else { panic!() };
        assert_eq!(wait, 50 * SECOND - 1);
        assert!(matches!(lease.take(1, 6 * MILLI, 100, SECOND), Taken::Ask { .. }));
        assert!(matches!(lease.take(REFUSAL, 7 * MILLI, 100, SECOND), Taken::Ask { .. }));
    }

    proptest! {
        /// In a window, with several requests in flight and ends that are told with a jitter: what is used is never more than what was given
        /// and what answers took beyond their reservations.
        #[test]
        fn no_token_is_admitted_that_was_not_given(
            asks in prop::collection::vec((1u64..100_000, 0u64..150_000, any::<bool>(), 0u64..3, 0u64..SECOND), 1..80),
        ) {
            let mut lease = Lease::default();
            let mut flights: Vec<(u64, u64, u64)> = Vec::new();
            let (mut now, mut given, mut used, mut beyond) = (0, 0i128, 0i128, 0i128);
            for (cost, spends, yes, ends, jitter) in asks {
                now += SECOND / 2;
                match lease.take(now, cost, 50, SECOND) {
                    Taken::Spent(next) => {
                        lease = next;
                        flights.push((cost, spends, lease.window()));
                        used += i128::from(cost);
                    }
                    Taken::Ask { lease: next, hits, need, short } => {
                        prop_assert!(hits >= need && need >= short);
                        let reset = HOUR - now + jitter;
                        lease = if yes { next.granted(now, hits, Some(reset), HOUR, 0) } else { next.refused(now, short, reset, 0) };
                        given += if yes { i128::from(hits * MILLI) } else { 0 };
                    }
                    Taken::Refused { .. } => {}
                }
                if ends == 0 && !flights.is_empty() {
                    let (cost, spends, window) = flights.swap_remove(0);
                    lease = lease.settle(now, window, cost, spends);
                    used += i128::from(spends) - i128::from(cost);
                    beyond += i128::from(spends.saturating_sub(cost));
                }
                prop_assert!(used <= given + beyond);
                prop_assert_eq!(get(&set(&[], 3, lease, now), 3).remaining(), lease.remaining());
            }
        }

        #[test]
        fn nothing_overflows(balance: i64, a: u64, b: u64, c: u64, now: u64) {
            let lease = Lease {
                balance, expires: a, elsewhere: b, refused_until: c, refused: a, asking_until: b, renews: c, grant: a,
            };
            let _ = (lease.take(now, a, b, c), lease.granted(now, a, Some(b), c, a), lease.refused(now, a, b, c));
            let _ = (lease.settle(now, a, b, c), lease.remaining(), set(&[], a, lease, now));
        }
    }

    #[test]
    fn a_page_is_bounded() {
        let mut page = Vec::new();
        for n in 0..1000u64 {
            page = set(&page, n, granted(Lease::default(), n, 10, SECOND), n);
            assert!(page.len() <= ENTRIES_MAX * ENTRY);
        }
        assert_eq!(get(&page, 999).remaining(), 10);
    }
}
