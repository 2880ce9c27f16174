//! The limit stage: all limits of a request or none, and settlement under the limits that admitted it.

use penstock_bucket::{FullAt, MILLI, Nanos, Rate, Refusal, page};

use crate::config::{Config, Limit, Weights};
use crate::facts::{Facts, Used};
use crate::identity::{Caller, Secret};
use crate::port::{Contended, Store};

/// How many pages the buckets are spread over; each holds [`page::ENTRIES_MAX`] of them.
const PAGES: u64 = 4096;

/// What was reserved under one limit.
#[derive(Clone, Debug)]
pub struct Charge {
    fingerprint: u64,
    rate: Rate,
    cost: Weights,
    reserved: u64,
}

/// How a caller stands under the limit that binds: the one with the smallest share left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Its name.
    pub limit: String,
    /// What it holds, in tokens.
    pub burst: u64,
    /// What is left, in tokens.
    pub remaining: u64,
    /// Nanoseconds until it is full again.
    pub reset: Nanos,
}

/// Why a request is not admitted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// By a limit.
    Limit {
        /// How the caller stands under it.
        standing: Standing,
        /// What the request would have cost there, in tokens.
        cost: u64,
        /// Whether and when it can be admitted.
        refusal: Refusal,
    },
    /// Because the state could not be updated.
    Contended,
}

/// What a stage of charges brought.
pub struct Admitted {
    /// To be settled.
    pub charges: Vec<Charge>,
    /// `None` where no limit applies.
    pub standing: Option<Standing>,
    /// How many updates others won.
    pub retries: u64,
}

/// Charges every limit that applies, or none.
///
/// # Errors
/// [`Refused`], naming the first limit in the configured order that does not admit.
pub fn admit(
    config: &Config,
    secret: &Secret,
    caller: &Caller,
    facts: &Facts,
    now: Nanos,
    store: &mut dyn Store,
) -> Result<Admitted, Refused> {
    let mut admitted = Admitted { charges: Vec::new(), standing: None, retries: 0 };
    for limit in config.limits.iter().filter(|limit| applies(limit, facts)) {
        let charge = Charge {
            fingerprint: fingerprint(limit, secret, caller, facts),
            rate: limit.rate,
            cost: limit.cost,
            reserved: reservation(limit, facts),
        };
        match take(&charge, now, store) {
            Ok((at, retries)) => {
                admitted.retries = admitted.retries.saturating_add(u64::from(retries));
                admitted.charges.push(charge);
                let standing = standing(limit, at, now);
                admitted.standing = Some(match admitted.standing.take() {
                    Some(tighter) if share(&tighter) <= share(&standing) => tighter,
                    _ => standing,
                });
            }
            Err(refused) => {
                settle(&admitted.charges, None, now, store);
                return Err(match refused {
                    None => Refused::Contended,
                    Some((at, refusal)) => {
                        let cost = charge.reserved.div_ceil(MILLI);
                        Refused::Limit { standing: standing(limit, at, now), cost, refusal }
                    }
                });
            }
        }
    }
    Ok(admitted)
}

/// Corrects the charges to what was used; `None` gives everything back. Returns how many could not be corrected.
pub fn settle(charges: &[Charge], used: Option<Used>, now: Nanos, store: &mut dyn Store) -> u64 {
    let mut lost = 0u64;
    for charge in charges {
        let cost = used.map_or(0, |used| charge.cost.cost(used.prompt, used.cached, used.completion));
        let settled =
            change(charge.fingerprint, now, store, &mut |at| Some(charge.rate.settle(at, now, charge.reserved, cost)));
        lost = lost.saturating_add(u64::from(settled.is_err()));
    }
    lost
}

fn applies(limit: &Limit, facts: &Facts) -> bool {
    limit.class.as_ref().is_none_or(|class| facts.class.as_ref() == Some(class))
        && limit.model.as_ref().is_none_or(|model| facts.model == *model)
}

/// Which bucket of the limit a request draws from.
fn fingerprint(limit: &Limit, secret: &Secret, caller: &Caller, facts: &Facts) -> u64 {
    let key = limit.per.iter().map(|source| caller.value(source, &facts.model).unwrap_or_default());
    secret.hash([limit.name.as_bytes()].into_iter().chain(key))
}

/// What to reserve, in thousandths. Where the client set no ceiling the output is a guess, and a guess does not refuse
/// a request whose prompt fits: it takes at most what the bucket holds besides.
fn reservation(limit: &Limit, facts: &Facts) -> u64 {
    let prompt = limit.cost.cost(facts.prompt_tokens, 0, 0);
    let output = limit.cost.cost(0, 0, facts.expected_output);
    let room = limit.rate.burst().saturating_mul(MILLI).saturating_sub(prompt);
    let output = if facts.max_output.is_none() { output.min(room) } else { output };
    prompt.saturating_add(output)
}

fn standing(limit: &Limit, at: FullAt, now: Nanos) -> Standing {
    Standing {
        limit: limit.name.clone(),
        burst: limit.rate.burst(),
        remaining: u64::try_from(limit.rate.remaining(at, now)).unwrap_or(0),
        reset: limit.rate.reset(at, now),
    }
}

/// Parts per 2^32 that are left.
fn share(standing: &Standing) -> u128 {
    (u128::from(standing.remaining) << 32).checked_div(u128::from(standing.burst)).unwrap_or(0)
}

/// Takes the reservation. The error holds the bucket's state and the refusal, or nothing where it is contended.
fn take(charge: &Charge, now: Nanos, store: &mut dyn Store) -> Result<(FullAt, u32), Option<(FullAt, Refusal)>> {
    let mut after = FullAt::default();
    let mut refused = None;
    let changed = change(charge.fingerprint, now, store, &mut |at| match charge.rate.admit(at, now, charge.reserved) {
        Ok(next) => {
            after = next;
            refused = None;
            Some(next)
        }
        Err(refusal) => {
            refused = Some((at, refusal));
            None
        }
    });
    match (changed, refused) {
        (_, Some(refused)) => Err(Some(refused)),
        (Err(Contended), None) => Err(None),
        (Ok(retries), None) => Ok((after, retries)),
    }
}

/// Changes one bucket in its page.
fn change(
    fingerprint: u64,
    now: Nanos,
    store: &mut dyn Store,
    to: &mut dyn FnMut(FullAt) -> Option<FullAt>,
) -> Result<u32, Contended> {
    let key = format!("penstock/bucket/{}", fingerprint % PAGES);
    let mut full = false;
    let retries = store.update(&key, &mut |old| {
        let old = old.unwrap_or_default();
        let next = to(page::get(old, fingerprint))?;
        let page = page::set(old, fingerprint, next, now);
        full = page.is_err();
        page.ok()
    })?;
    if full { Err(Contended) } else { Ok(retries) }
}
