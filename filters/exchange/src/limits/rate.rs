//! Tokens over time, of this proxy: one bucket for each of those that a limit counts apart.

use penstock_bucket::bucket::Bucket;
use penstock_bucket::page;
use penstock_bucket::{FullAt, Rate};
use penstock_units::{Fingerprint, MilliTokens, Nanos, Tokens};

use super::books::{Applicant, Books, RateLimitStatus, Refused, Taken, Unchanged, cost};
use crate::config::{Limit, Weights};
use crate::facts::Used;
use crate::keys;
use crate::overflow::Table;

/// What was reserved in a bucket.
#[derive(Clone, Debug)]
pub struct Charge {
    /// Whose.
    pub fingerprint: Fingerprint,
    /// The rate and the weights that admitted, whatever the configuration says by the end.
    rate: Rate,
    weights: Weights,
    reserved: MilliTokens,
    /// When it was.
    at: Nanos,
}

/// Which of two buckets of a caller: each limit keeps both, at the same rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of {
    /// What it has spent.
    Spent,
    /// What it would have spent, had there been room: see [`demand`](super::demand).
    Wanted,
}

impl Of {
    /// The bucket of that kind of whoever has this one. The realm stays.
    #[inline]
    pub fn bucket(self, fingerprint: Fingerprint) -> Fingerprint {
        match self {
            Self::Spent => fingerprint,
            Self::Wanted => Fingerprint(fingerprint.0 ^ (u64::MAX >> 2)),
        }
    }
}

/// Reserves what the request may cost.
///
/// # Errors
/// [`Refused::Rate`] or [`Refused::Contended`].
pub fn take(
    limit: &Limit,
    rate: Rate,
    weights: Weights,
    of: Of,
    by: Applicant<'_>,
    books: &mut Books<'_>,
) -> Result<Taken<Charge>, Refused> {
    let now = books.holder.now;
    let reserved = by.reservation(rate.burst(), weights);
    let mut outcome = None;
    let mut before = FullAt::default();
    let (fingerprint, retries) = by.charge(limit, Table::Buckets, books, |_, fingerprint, books| {
        let fingerprint = of.bucket(fingerprint);
        let retries = change(fingerprint, books, &mut |bucket| {
            before = bucket.full_at();
            let admitted = bucket.admit(rate, now, reserved);
            outcome = Some(admitted);
            admitted.ok()
        })?;
        Ok((fingerprint, retries))
    })?;
    let after = outcome.ok_or(Refused::Contended)?.map_err(|refusal| {
        let status = status(limit, rate, before, now);
        Refused::Rate { status, cost: reserved.to_tokens_ceil(), refusal }
    })?;
    let charge = Charge { fingerprint, rate, weights, reserved, at: after.latest() };
    Ok(Taken { charge, status: Some(status(limit, rate, after.full_at(), now)), allowance: None, retries })
}

/// Corrects a charge to what was used. `false` where that is contended.
pub fn settle(charge: &Charge, used: Option<Used>, books: &mut Books<'_>) -> bool {
    let Charge { fingerprint, rate, weights, reserved, at } = *charge;
    let cost = cost(weights, used);
    let now = books.holder.now;
    change(fingerprint, books, &mut |bucket| Some(bucket.settle(rate, at, now, reserved, cost))).is_ok()
}

fn status(limit: &Limit, rate: Rate, at: FullAt, now: Nanos) -> RateLimitStatus {
    RateLimitStatus {
        limit: limit.name.clone(),
        burst: rate.burst(),
        remaining: Tokens(u64::try_from(rate.remaining(at, now)).unwrap_or(0)),
        reset: rate.reset(at, now),
    }
}

/// Changes one bucket in its page.
pub fn change(
    fingerprint: Fingerprint,
    books: &mut Books<'_>,
    to: &mut dyn FnMut(Bucket) -> Option<Bucket>,
) -> Result<u32, Unchanged> {
    let now = books.holder.now;
    let mut full = false;
    let retries = books.store.update(&keys::bucket(fingerprint), &mut |old| {
        let old = old.unwrap_or_default();
        let page = page::set(old, fingerprint, to(page::get(old, fingerprint, now))?, now);
        full = page.is_err();
        page.ok()
    })?;
    if full { Err(Unchanged::Full) } else { Ok(retries) }
}
