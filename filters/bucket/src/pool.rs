//! Tokens that were leased from a budget which others share: spent here without asking, until they are used up or their window is over.
//!
//! The budget's owner counts a lease as spent when it gives it. So no token is admitted twice, and what is lost (a worker that died, an
//! answer that did not arrive) is lost to the spenders. What was used beyond a reservation is debt, and goes into the next question.

use crate::{MILLI, Nanos};

/// How many pools a page holds.
pub const ENTRIES_MAX: usize = 64;
/// Bytes of one entry: fingerprint, balance, expiry, what others have, refused until, refused, asking until (8 each).
const ENTRY: usize = 56;
/// For how long a refusal is believed. Other proxies may have given the owner a reason to think otherwise by then.
const REFUSAL: Nanos = 500_000_000;

/// One pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pool {
    /// Thousandths of a token; negative in debt.
    balance: i64,
    /// When the lease's window is over.
    expires: Nanos,
    /// What the owner had left when it was last asked, in tokens.
    elsewhere: u64,
    refused_until: Nanos,
    /// The smallest question that was refused.
    refused: u64,
    /// Somebody asks for a whole lease, until then at most.
    asking_until: Nanos,
}

/// What became of an attempt to spend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It was there.
    Spent(Pool),
    /// It is not, and the owner is to be asked.
    Ask {
        /// With a note that somebody asks.
        pool: Pool,
        /// For so many tokens.
        hits: u64,
        /// Of which so many are needed if others spend what is here meanwhile.
        need: u64,
        /// Of which so many are needed if they do not.
        short: u64,
    },
    /// The owner said no a moment ago.
    Refused {
        /// When to ask again.
        wait: Nanos,
    },
}

impl Pool {
    /// Spends `cost` thousandths of a token, or says whom to ask for what: a whole `lease`, unless somebody does so already and has been for
    /// less than `patience`.
    #[must_use]
    pub fn take(self, now: Nanos, cost: u64, lease: u64, patience: Nanos) -> Taken {
        let pool = self.at(now);
        let cost = i64::try_from(cost).unwrap_or(i64::MAX);
        let left = pool.balance.saturating_sub(cost);
        if left >= 0 {
            return Taken::Spent(Self { balance: left, ..pool });
        }
        let short = left.unsigned_abs().div_ceil(MILLI);
        let need = cost.saturating_sub(pool.balance.min(0)).unsigned_abs().div_ceil(MILLI);
        if now < pool.refused_until && pool.refused_until.abs_diff(now) <= REFUSAL && short >= pool.refused {
            return Taken::Refused { wait: pool.refused_until.saturating_sub(now) };
        }
        let asks = now < pool.asking_until && pool.asking_until.abs_diff(now) <= patience;
        let hits = if asks { need } else { need.max(lease) };
        Taken::Ask { pool: Self { asking_until: now.saturating_add(patience), ..pool }, hits, need, short }
    }

    /// The owner gave `hits` tokens, for a window that is over after `window`; it has `elsewhere` left.
    #[must_use]
    pub fn granted(self, now: Nanos, hits: u64, window: Nanos, elsewhere: u64) -> Self {
        let pool = self.at(now);
        let gift = i64::try_from(hits.saturating_mul(MILLI)).unwrap_or(i64::MAX);
        Self {
            balance: pool.balance.saturating_add(gift),
            expires: now.saturating_add(window),
            elsewhere,
            refused_until: 0,
            asking_until: 0,
            ..pool
        }
    }

    /// The owner has not so many.
    #[must_use]
    pub fn refused(self, now: Nanos, need: u64) -> Self {
        Self {
            refused_until: now.saturating_add(REFUSAL),
            refused: need,
            asking_until: 0,
            elsewhere: 0,
            ..self.at(now)
        }
    }

    /// Corrects a reservation to what was used. What was reserved in a window that is over is given back to nobody.
    #[must_use]
    pub fn settle(self, now: Nanos, window: Nanos, reserved: u64, used: u64) -> Self {
        let pool = self.at(now);
        let difference = i128::from(reserved).saturating_sub(i128::from(used));
        let difference = if difference > 0 && pool.expires != window { 0 } else { difference };
        let balance = i128::from(pool.balance).saturating_add(difference);
        Self { balance: i64::try_from(balance).unwrap_or(i64::MIN), ..pool }
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
        if now < self.expires { self } else { Self { balance: self.balance.min(0), elsewhere: 0, ..self } }
    }

    fn is_void(self, now: Nanos) -> bool {
        self.at(now).balance == 0 && now >= self.refused_until && now >= self.asking_until
    }
}

/// The pool `fingerprint` in the page.
pub fn get(page: &[u8], fingerprint: u64) -> Pool {
    entries(page).find(|(known, _)| *known == fingerprint).map(|(_, pool)| pool).unwrap_or_default()
}

/// The page with the pool set. Pools that hold nothing make room first, then the one whose window ends next.
pub fn set(page: &[u8], fingerprint: u64, pool: Pool, now: Nanos) -> Vec<u8> {
    let kept = |(known, pool): &(u64, Pool)| *known != fingerprint && !pool.is_void(now);
    let mut all: Vec<(u64, Pool)> = entries(page).filter(kept).collect();
    while all.len() >= ENTRIES_MAX {
        let next = all.iter().enumerate().min_by_key(|(_, (_, pool))| pool.expires).map(|(i, _)| i);
        all.swap_remove(next.unwrap_or(0));
    }
    all.push((fingerprint, pool));
    let mut out = Vec::with_capacity(all.len().saturating_mul(ENTRY));
    for (fingerprint, Pool { balance, expires, elsewhere, refused_until, refused, asking_until }) in all {
        for word in [fingerprint, balance.cast_unsigned(), expires, elsewhere, refused_until, refused, asking_until] {
            out.extend_from_slice(&word.to_le_bytes());
        }
    }
    out
}

fn entries(page: &[u8]) -> impl Iterator<Item = (u64, Pool)> {
    page.chunks_exact(ENTRY).filter_map(|bytes| {
        let words: &[[u8; 8]; 7] = bytes.as_chunks::<8>().0.try_into().ok()?;
        let [fingerprint, balance, expires, elsewhere, refused_until, refused, asking_until] =
            words.map(u64::from_le_bytes);
        let balance = balance.cast_signed();
        Some((fingerprint, Pool { balance, expires, elsewhere, refused_until, refused, asking_until }))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn a_lease_is_spent_without_asking_and_ends_with_its_window() {
        let pool = Pool::default();
        let Taken::Ask { pool, hits: 100, need: 10, short: 10 } = pool.take(0, 10 * MILLI, 100, SECOND) else {
            panic!()
        };
        // Somebody asks already: the next asks for no more than it needs, until patience ends.
        assert!(matches!(pool.take(1, 20 * MILLI, 100, SECOND), Taken::Ask { hits: 20, need: 20, .. }));
        assert!(matches!(pool.take(2 * SECOND, 20 * MILLI, 100, SECOND), Taken::Ask { hits: 100, .. }));
        let mut pool = pool.granted(0, 100, 60 * SECOND, 900);
        for _ in 0..10 {
            let Taken::Spent(next) = pool.take(SECOND, 10 * MILLI, 100, SECOND) else { panic!() };
            pool = next;
        }
        assert_eq!(pool.remaining(), 900);
        assert!(matches!(pool.take(SECOND, 1, 100, SECOND), Taken::Ask { need: 1, .. }));
        let pool = pool.settle(SECOND, pool.window(), 50 * MILLI, 20 * MILLI);
        assert_eq!(pool.remaining(), 930);
        assert!(matches!(pool.take(60 * SECOND, MILLI, 100, SECOND), Taken::Ask { need: 1, .. }));
        // What comes back after the window is nobody's.
        assert_eq!(pool.settle(61 * SECOND, 5, 50 * MILLI, 0).remaining(), 0);
    }

    #[test]
    fn debt_outlives_the_window_and_refusals_are_believed_for_a_moment() {
        let pool = Pool::default().granted(0, 10, SECOND, 0).settle(0, SECOND, 10 * MILLI, 60 * MILLI);
        assert!(matches!(pool.take(5 * SECOND, 10 * MILLI, 1, SECOND), Taken::Ask { need: 50, .. }));
        let pool = Pool::default().refused(0, 7);
        assert_eq!(pool.take(1, 7 * MILLI, 100, SECOND), Taken::Refused { wait: REFUSAL - 1 });
        assert!(matches!(pool.take(1, 6 * MILLI, 100, SECOND), Taken::Ask { .. }));
        assert!(matches!(pool.take(REFUSAL, 7 * MILLI, 100, SECOND), Taken::Ask { .. }));
    }

    proptest! {
        /// Within a window: what is spent and kept is never more than what was given.
        #[test]
        fn no_token_is_admitted_that_was_not_given(asks in prop::collection::vec((1u64..100_000, 0u64..100_000, any::<bool>()), 1..60)) {
            let (mut pool, mut given, mut used) = (Pool::default(), 0u64, 0u64);
            for (cost, spent, says_yes) in asks {
                match pool.take(1, cost, 50, SECOND) {
                    Taken::Spent(next) => {
                        let spent = spent.min(cost);
                        pool = next.settle(2, next.window(), cost, spent);
                        used += spent;
                    }
                    Taken::Ask { pool: next, hits, need, short } => {
                        prop_assert!(hits >= need && need >= short);
                        pool = if says_yes { next.granted(1, hits, SECOND, 0) } else { next.refused(1, short) };
                        given += if says_yes { hits } else { 0 };
                    }
                    Taken::Refused { .. } => {}
                }
                prop_assert!(used <= given * MILLI);
                prop_assert_eq!(get(&set(&[], 3, pool, 1), 3).remaining(), pool.remaining());
            }
        }

        #[test]
        fn nothing_overflows(balance: i64, a: u64, b: u64, c: u64, now: u64) {
            let pool = Pool { balance, expires: a, elsewhere: b, refused_until: c, refused: a, asking_until: b };
            let _ = (pool.take(now, a, b, c), pool.granted(now, a, b, c), pool.refused(now, a), pool.settle(now, a, b, c));
            let _ = (pool.remaining(), set(&[], a, pool, now));
        }
    }

    #[test]
    fn a_page_is_bounded() {
        let mut page = Vec::new();
        for n in 0..1000u64 {
            page = set(&page, n, Pool::default().granted(n, 10, SECOND, 0), n);
            assert!(page.len() <= ENTRIES_MAX * ENTRY);
        }
        assert_eq!(get(&page, 999).remaining(), 10);
    }
}
