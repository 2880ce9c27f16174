//! Requests at the same time: permits, which are held until the end and die with their worker.

use penstock_bucket::permit;
use penstock_units::Fingerprint;

use super::books::{Applicant, Books, Refused, Taken, Unchanged};
use crate::config::Limit;
use crate::keys;
use crate::overflow::Table;

/// A permit that is held.
#[derive(Clone, Debug)]
pub struct Charge {
    fingerprint: Fingerprint,
}

/// Takes a permit, where one of `max` is left.
///
/// # Errors
/// [`Refused::Concurrency`] or [`Refused::Contended`].
pub fn take(limit: &Limit, max: u64, by: Applicant<'_>, books: &mut Books<'_>) -> Result<Taken<Charge>, Refused> {
    let holder = books.holder;
    let taken = by.charge(limit, Table::Permits, books, |_, fingerprint, books| {
        let own = books.permits.get(&fingerprint).copied().unwrap_or(0).saturating_add(1);
        let (mut none_left, mut full) = (false, false);
        let retries = books.store.update(&keys::permit(fingerprint), &mut |old| {
            let old = old.unwrap_or_default();
            none_left = permit::in_use(old, fingerprint, holder) >= max;
            if none_left {
                return None;
            }
            let page = permit::set(old, fingerprint, holder, own);
            full = page.is_err();
            page.ok()
        })?;
        if full {
            return Err(Unchanged::Full);
        }
        if none_left {
            return Ok(None);
        }
        books.permits.insert(fingerprint, own);
        Ok(Some(Taken { charge: Charge { fingerprint }, status: None, allowance: None, retries }))
    })?;
    taken.ok_or_else(|| Refused::Concurrency { limit: limit.name.clone(), max })
}

/// Gives a permit back. `false` where that is contended: then the next heartbeat does it.
pub fn settle(charge: &Charge, books: &mut Books<'_>) -> bool {
    let fingerprint = charge.fingerprint;
    let left = books.permits.get(&fingerprint).copied().unwrap_or(0).saturating_sub(1);
    if left == 0 {
        books.permits.remove(&fingerprint);
    } else {
        books.permits.insert(fingerprint, left);
    }
    write(fingerprint, left, books)
}

/// The heartbeat: says of every permit that it is still held.
pub fn beat(books: &mut Books<'_>) {
    let held: Vec<(Fingerprint, u32)> = books.permits.iter().map(|(of, count)| (*of, *count)).collect();
    for (fingerprint, count) in held {
        write(fingerprint, count, books);
    }
}

fn write(fingerprint: Fingerprint, count: u32, books: &mut Books<'_>) -> bool {
    let holder = books.holder;
    let written = books.store.update(&keys::permit(fingerprint), &mut |old| {
        permit::set(old.unwrap_or_default(), fingerprint, holder, count).ok()
    });
    written.is_ok()
}
