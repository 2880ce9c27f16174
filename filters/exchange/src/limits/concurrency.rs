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
    let taken = by.charge(limit, Table::Permits, books, |_, fingerprint, books| {
        let taken = add(fingerprint, 1, max, books)?;
        let charge = Charge { fingerprint };
        Ok(taken.map(|retries| Taken { charge, status: None, allowance: None, retries }))
    })?;
    taken.ok_or_else(|| Refused::Concurrency { limit: limit.name.clone(), max })
}

/// Gives a permit back. `false` where that is contended: then the next heartbeat does it.
pub fn settle(charge: &Charge, books: &mut Books<'_>) -> bool {
    give_back(charge.fingerprint, 1, books)
}

/// Takes so many permits, where that many of `max` are left: by how many updates of others. `None` where they are not.
///
/// # Errors
/// [`Unchanged`], with nothing taken.
pub fn add(fingerprint: Fingerprint, more: u32, max: u64, books: &mut Books<'_>) -> Result<Option<u32>, Unchanged> {
    let holder = books.holder;
    let own = books.permits.get(&fingerprint).copied().unwrap_or(0).saturating_add(more);
    let (mut none_left, mut full) = (false, false);
    let retries = books.store.update(&keys::permit(fingerprint), &mut |old| {
        let old = old.unwrap_or_default();
        none_left = permit::in_use(old, fingerprint, holder).saturating_add(u64::from(more)) > max;
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
    Ok(Some(retries))
}

/// Gives so many permits back. `false` where that is contended: then the next heartbeat does it.
pub fn give_back(fingerprint: Fingerprint, fewer: u32, books: &mut Books<'_>) -> bool {
    let left = books.permits.get(&fingerprint).copied().unwrap_or(0).saturating_sub(fewer);
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
