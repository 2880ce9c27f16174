//! What a session uses in all: a credit that no time refills.

use penstock_bucket::credit::{self, Account, Allowance, Exhausted};
use penstock_units::{Fingerprint, Nanos, Tokens};

use super::books::{Applicant, Books, Refused, Taken};
use crate::config::Limit;
use crate::facts::Used;
use crate::keys;

/// A call that was drawn from a session's credit, with the tokens that were reserved for it.
#[derive(Clone, Debug)]
pub struct Charge {
    fingerprint: Fingerprint,
    reserved: Tokens,
}

/// Draws a call.
///
/// # Errors
/// [`Refused::Session`] or [`Refused::Contended`].
pub fn take(
    limit: &Limit,
    allowance: &Allowance,
    by: Applicant<'_>,
    books: &mut Books<'_>,
) -> Result<Taken<Charge>, Refused> {
    let now = books.holder.now;
    let fingerprint = by.session(limit);
    let mut drawn = Err(Exhausted::Calls);
    let changed = books.store.update(&keys::credit(fingerprint), &mut |old| {
        let old = old.unwrap_or_default();
        drawn = draw(credit::get(old, fingerprint), allowance, by, now);
        let (account, _) = drawn.as_ref().ok()?;
        Some(credit::set(old, fingerprint, *account))
    });
    let (account, reserved) = drawn.map_err(|exhausted| Refused::Session { limit: limit.name.clone(), exhausted })?;
    let retries = changed?;
    let left = account.remaining(allowance, now);
    Ok(Taken { charge: Charge { fingerprint, reserved }, status: None, allowance: Some(Box::new(left)), retries })
}

/// Whether a call could be drawn.
///
/// # Errors
/// [`Refused::Session`].
pub fn look(limit: &Limit, allowance: &Allowance, by: Applicant<'_>, books: &mut Books<'_>) -> Result<(), Refused> {
    let fingerprint = by.session(limit);
    let page = books.store.get(&keys::credit(fingerprint)).unwrap_or_default();
    let drawn = draw(credit::get(&page, fingerprint), allowance, by, books.holder.now);
    drawn.map(drop).map_err(|exhausted| Refused::Session { limit: limit.name.clone(), exhausted })
}

/// The account with the call drawn, and the tokens that were reserved.
fn draw(
    account: Option<Account>,
    allowance: &Allowance,
    by: Applicant<'_>,
    now: Nanos,
) -> Result<(Account, Tokens), Exhausted> {
    let facts = by.facts;
    let (output, firm) = facts.max_output.map_or((facts.expected_output, false), |max| (max, true));
    account.unwrap_or_default().admit(allowance, now, facts.prompt_tokens, output, firm)
}

/// Corrects a call to what it used; one that used nothing is given back. `false` where that is contended.
pub fn settle(charge: &Charge, used: Option<Used>, tool_calls: u32, books: &mut Books<'_>) -> bool {
    let Charge { fingerprint, reserved } = *charge;
    let now = books.holder.now;
    let settled = books.store.update(&keys::credit(fingerprint), &mut |old| {
        let old = old.unwrap_or_default();
        // One that was forgotten meanwhile has begun anew.
        let account = credit::get(old, fingerprint)?;
        let account = match used {
            Some(used) => account.settle(now, reserved, used.prompt.saturating_add(used.completion), tool_calls),
            None => account.refund(reserved),
        };
        Some(credit::set(old, fingerprint, account))
    });
    settled.is_ok()
}

/// The smaller part of each.
pub fn tighter(a: Allowance, b: Allowance) -> Allowance {
    fn less<T: Ord>(a: Option<T>, b: Option<T>) -> Option<T> {
        a.into_iter().chain(b).min()
    }
    Allowance {
        tokens: less(a.tokens, b.tokens),
        calls: less(a.calls, b.calls),
        tool_calls: less(a.tool_calls, b.tool_calls),
        wall_clock: less(a.wall_clock, b.wall_clock),
    }
}
