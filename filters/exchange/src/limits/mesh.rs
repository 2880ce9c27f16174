//! Tokens over time, of all proxies together: spent from leases that a rate limit service gives.

use core::hash::Hasher;
use std::rc::Rc;

use penstock_bucket::lease::{self, Lease, Taken as FromLease};
use penstock_bucket::{Rate, Refusal};
use penstock_units::{Fingerprint, MilliTokens, Nanos, Tokens};
use siphasher::sip::SipHasher13;

use super::books::{Applicant, Books, RateLimitStatus, Refused, Taken, Unchanged, Whom, cost};
use super::rate::{self, Of};
use super::rls::{HITS_MAX, LeaseRequest, Response};
use crate::config::{Limit, OnError, RateLimitService, Weights};
use crate::facts::Used;
use crate::keys;
use crate::overflow::Table;
use crate::port::Store;

/// A lease is at most this part of a budget.
const LEASES: u64 = 16;
/// How long the service is left alone after it did not answer.
const LEFT_ALONE: Nanos = Nanos::SECOND;

/// What was reserved in a lease.
#[derive(Clone, Debug)]
pub struct Charge {
    /// Whose.
    pub fingerprint: Fingerprint,
    /// The lease's window.
    window: Nanos,
    weights: Weights,
    reserved: MilliTokens,
}

/// Where a request under such a limit was charged.
pub enum Outcome {
    /// To a lease.
    Leased(Taken<Charge>),
    /// To a bucket of this proxy, while the service does not answer.
    Local(Taken<rate::Charge>),
    /// Nowhere, while the service does not answer.
    Open,
}

/// What follows from the service's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Try to charge again.
    Retry,
    /// Ask again, for less.
    Ask(Box<LeaseRequest>),
    /// There was no answer: for a while `onError` holds.
    Unanswered,
}

/// Spends from the lease of this limit; where it does not suffice, says what to ask for.
///
/// # Errors
/// [`Refused`]; [`Refused::Ask`] where the service is to be asked first.
pub fn take(
    limit: &Limit,
    rate: Rate,
    weights: Weights,
    service: &Rc<RateLimitService>,
    by: Applicant<'_>,
    books: &mut Books<'_>,
) -> Result<Outcome, Refused> {
    match spend(limit, rate, weights, service, by, books) {
        // What is leased is spent whether the service answers or not.
        Err(Refused::Ask(_)) if is_left_alone(books.holder.now, books.store) => match service.on_error {
            OnError::Open => Ok(Outcome::Open),
            OnError::Closed => Err(Refused::Unavailable { limit: limit.name.clone() }),
            OnError::Local => rate::take(limit, rate, weights, Of::Spent, by, books).map(Outcome::Local),
        },
        spent => spent.map(Outcome::Leased),
    }
}

fn spend(
    limit: &Limit,
    rate: Rate,
    weights: Weights,
    service: &Rc<RateLimitService>,
    by: Applicant<'_>,
    books: &mut Books<'_>,
) -> Result<Taken<Charge>, Refused> {
    let now = books.holder.now;
    let reserved = by.reservation(rate.burst(), weights);
    let refused = |lease: Lease, refusal: Refusal| Refused::Rate {
        status: status(limit, rate, lease, now),
        cost: reserved.to_tokens_ceil(),
        refusal,
    };
    if reserved > rate.burst().to_milli() {
        return Err(refused(Lease::default(), Refusal::Never { burst: rate.burst() }));
    }
    let largest = Tokens(rate.burst().0.div_ceil(LEASES)).min(HITS_MAX);
    let (whom, fingerprint, taken, retries) = by.charge(limit, Table::Leases, books, |whom, fingerprint, books| {
        let (mut taken, mut full) = (None, false);
        let retries = books.store.update(&keys::lease(fingerprint), &mut |old| {
            let old = old.unwrap_or_default();
            let outcome = lease::get(old, fingerprint).take(now, reserved, largest, service.timeout.to_nanos());
            taken = Some(outcome);
            match outcome {
                FromLease::Spent(lease) | FromLease::Ask { lease, .. } => {
                    let page = lease::set(old, fingerprint, lease, now);
                    full = page.is_err();
                    page.ok()
                }
                FromLease::Refused { .. } => None,
            }
        })?;
        if full { Err(Unchanged::Full) } else { Ok((whom, fingerprint, taken, retries)) }
    })?;
    match taken {
        None => Err(Refused::Contended),
        Some(FromLease::Spent(lease)) => {
            let charge = Charge { fingerprint, window: lease.window(), weights, reserved };
            Ok(Taken { charge, status: Some(status(limit, rate, lease, now)), allowance: None, retries })
        }
        Some(FromLease::Ask { hits, need, short, .. }) => Err(Refused::Ask(Box::new(LeaseRequest {
            service: service.clone(),
            limit: limit.name.clone(),
            fingerprint,
            key: key(limit, whom, service, by),
            hits: hits.min(HITS_MAX),
            need: need.min(HITS_MAX),
            short: short.min(HITS_MAX),
            period: rate.period(),
        }))),
        Some(FromLease::Refused { wait, lease }) => {
            let mut refused = refused(lease, Refusal::NotYet { wait });
            if let Refused::Rate { status, .. } = &mut refused {
                status.reset = wait;
            }
            Err(refused)
        }
    }
}

/// Corrects what was spent from a lease. `false` where that is contended.
pub fn settle(charge: &Charge, used: Option<Used>, books: &mut Books<'_>) -> bool {
    let Charge { fingerprint, window, weights, reserved } = *charge;
    let cost = cost(weights, used);
    let now = books.holder.now;
    let mut full = false;
    let settled = books.store.update(&keys::lease(fingerprint), &mut |old| {
        let old = old.unwrap_or_default();
        let lease = lease::get(old, fingerprint).settle(now, window, reserved, cost);
        let page = lease::set(old, fingerprint, lease, now);
        full = page.is_err();
        page.ok()
    });
    settled.is_ok() && !full
}

/// Takes an answer to the books. Where there was none, nothing can be asked for a while.
pub fn answered(request: LeaseRequest, message: Option<&[u8]>, now: Nanos, store: &mut dyn Store) -> Next {
    let Some(response) = message.and_then(Response::decode) else {
        let until = now.saturating_add(LEFT_ALONE);
        let _ = store.update(keys::MESH_DOWN, &mut |_| Some(until.0.to_le_bytes().to_vec()));
        return Next::Unanswered;
    };
    let LeaseRequest { fingerprint, hits, need, short, period, .. } = request;
    if !response.granted && hits > short {
        let hits = if hits > need { need } else { short };
        return Next::Ask(Box::new(LeaseRequest { hits, ..request }));
    }
    let left = response.left.unwrap_or_default();
    // An answer that cannot be noted is a lease that is lost; the next attempt asks again.
    let _ = store.update(&keys::lease(fingerprint), &mut |old| {
        let old = old.unwrap_or_default();
        let lease = lease::get(old, fingerprint);
        let lease = if response.granted {
            lease.granted(now, hits, response.reset, period, left)
        } else {
            lease.refused(now, short, response.reset.unwrap_or_default(), left)
        };
        lease::set(old, fingerprint, lease, now).ok()
    });
    Next::Retry
}

/// Whether the service did not answer a moment ago.
fn is_left_alone(now: Nanos, store: &mut dyn Store) -> bool {
    let until = store.get(keys::MESH_DOWN).and_then(|bytes| bytes.as_slice().try_into().ok());
    let until = Nanos(until.map_or(0, u64::from_le_bytes));
    now < until && until.abs_diff(now) <= LEFT_ALONE
}

/// Whom a limit counts, as all proxies name it: by a hash that is not keyed by this process.
fn key(limit: &Limit, whom: Whom, service: &RateLimitService, by: Applicant<'_>) -> String {
    let mut hasher = SipHasher13::new_with_key(&service.salt);
    let mut write = |value: &[u8]| {
        hasher.write(&(value.len() as u64).to_le_bytes());
        hasher.write(value);
    };
    for source in &limit.per {
        write(match whom {
            Whom::Own => by.caller.shared_value(source, &by.facts.model).unwrap_or_default(),
            Whom::Rest => b"",
        });
    }
    // One value more than any caller has: nobody can make up the key of the rest.
    if whom == Whom::Rest {
        write(by.rest(limit).unwrap_or_default());
    }
    format!("{:016x}", hasher.finish())
}

fn status(limit: &Limit, rate: Rate, lease: Lease, now: Nanos) -> RateLimitStatus {
    RateLimitStatus {
        limit: limit.name.clone(),
        burst: rate.burst(),
        remaining: lease.remaining().min(rate.burst()),
        reset: lease.window().saturating_sub(now),
    }
}
