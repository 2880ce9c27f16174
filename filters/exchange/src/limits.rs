//! The limit stage: all limits of a request or none, and settlement under the limits that admitted it.

use hashbrown::HashMap;
use penstock_bucket::credit::{self, Account, Allowance, Exhausted};
use penstock_bucket::lease::{self, Holder};
use penstock_bucket::page::{self, Bucket};
use penstock_bucket::{FullAt, MILLI, Nanos, Rate, Refusal};

use crate::config::{Config, Kind, Limit, OnError, Weights};
use crate::facts::{Facts, Used};
use crate::identity::{Caller, Secret};
use crate::mesh::{self, Question};
use crate::port::{Contended, Store};

/// How many pages the buckets are spread over; each holds [`page::ENTRIES_MAX`] of them.
const PAGES: u64 = 4096;

/// What one worker holds of the concurrency limits, by fingerprint: repeated with every heartbeat.
pub type Leases = HashMap<u64, u32>;

/// What was taken under one limit.
#[derive(Clone, Debug)]
pub enum Charge {
    /// Tokens were reserved.
    Tokens {
        /// The bucket.
        fingerprint: u64,
        /// The rate that admitted.
        rate: Rate,
        /// Its weights.
        cost: Weights,
        /// Thousandths of a token.
        reserved: u64,
        /// Since when the bucket had not been full.
        since: Nanos,
    },
    /// Tokens of a lease were reserved.
    Leased {
        /// The pool.
        fingerprint: u64,
        /// The lease's window.
        window: Nanos,
        /// Its weights.
        cost: Weights,
        /// Thousandths of a token.
        reserved: u64,
    },
    /// A place is held.
    Place {
        /// Whose.
        fingerprint: u64,
    },
    /// A call was taken from a session's credit, with so many tokens.
    Credit {
        /// The session.
        fingerprint: u64,
        /// Tokens.
        reserved: u64,
    },
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
    /// By a limit of requests at the same time.
    Concurrent {
        /// Its name.
        limit: String,
        /// How many it allows.
        max: u64,
    },
    /// By a session's credit, which is used up.
    Session {
        /// Its name.
        limit: String,
        /// What there is no more of.
        exhausted: Exhausted,
    },
    /// Not yet decided: a service is to be asked first.
    Asks(Question),
    /// By a limit whose service does not answer.
    Unavailable {
        /// Its name.
        limit: String,
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
    /// What is left of the session's credit, where there is one.
    pub credit: Option<Allowance>,
    /// How many updates others won.
    pub retries: u64,
}

impl Admitted {
    /// Keeps the tighter standing.
    fn stand(&mut self, standing: Standing) {
        self.standing = Some(match self.standing.take() {
            Some(tighter) if share(&tighter) <= share(&standing) => tighter,
            _ => standing,
        });
    }
}

/// What all charges of a worker need.
pub struct Till<'a> {
    /// What is shared.
    pub store: &'a mut dyn Store,
    /// The worker's places.
    pub leases: &'a mut Leases,
    /// Who the worker is, and when.
    pub holder: Holder,
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
    till: &mut Till<'_>,
) -> Result<Admitted, Refused> {
    let mut admitted = Admitted { charges: Vec::new(), standing: None, credit: None, retries: 0 };
    let on_error = config.mesh.as_ref().map(|mesh| mesh.on_error).unwrap_or_default();
    let is_down = config.mesh.is_some() && mesh::is_down(till.holder.now, till.store);
    for limit in config.limits.iter().filter(|limit| applies(limit, caller, facts)) {
        let fingerprint = fingerprint(limit, secret, caller, facts);
        let taken = match limit.kind {
            Kind::Tokens { rate, cost, mesh } => {
                let reserved = reservation(rate, cost, facts);
                let leased = mesh.then(|| mesh::take(limit, rate, fingerprint, reserved, config, caller, facts, till));
                let taken = match leased {
                    Some(Ok((standing, window, retries))) => {
                        Ok((standing, Charge::Leased { fingerprint, window, cost, reserved }, retries))
                    }
                    // What is leased is spent whether the service answers or not.
                    Some(Err(Refused::Asks(_))) if is_down => match on_error {
                        OnError::Open => continue,
                        OnError::Closed => Err(Refused::Unavailable { limit: limit.name.clone() }),
                        OnError::Local => take(&limit.name, fingerprint, rate, cost, reserved, till),
                    },
                    Some(Err(refused)) => Err(refused),
                    None => take(&limit.name, fingerprint, rate, cost, reserved, till),
                };
                taken.map(|(standing, charge, retries)| {
                    admitted.stand(standing);
                    (charge, retries)
                })
            }
            Kind::Concurrent { max } => {
                let refused = || Refused::Concurrent { limit: limit.name.clone(), max };
                till.place(fingerprint, Some(max))
                    .map_err(|contended| contended.map_or_else(refused, |Contended| Refused::Contended))
                    .map(|retries| (Charge::Place { fingerprint }, retries))
            }
            Kind::Session(allowance) => {
                draw(&limit.name, fingerprint, &allowance, facts, till).map(|(left, reserved, retries)| {
                    admitted.credit = Some(tighter(admitted.credit.unwrap_or_default(), left));
                    (Charge::Credit { fingerprint, reserved }, retries)
                })
            }
        };
        match taken {
            Ok((charge, retries)) => {
                admitted.retries = admitted.retries.saturating_add(u64::from(retries));
                admitted.charges.push(charge);
            }
            Err(refused) => {
                settle(&admitted.charges, None, 0, till);
                return Err(refused);
            }
        }
    }
    Ok(admitted)
}

/// Corrects the charges to what was used, and gives places back; `None` gives everything back. Returns how many could not
/// be corrected.
pub fn settle(charges: &[Charge], used: Option<Used>, tool_calls: u32, till: &mut Till<'_>) -> u64 {
    let mut lost = 0u64;
    for charge in charges {
        let settled = match *charge {
            Charge::Tokens { fingerprint, rate, cost, reserved, since } => {
                let cost = used.map_or(0, |used| cost.cost(used.prompt, used.cached, used.completion));
                let now = till.holder.now;
                let settled = change(fingerprint, till, &mut |bucket| {
                    // It has been full since: time has given back what was not used.
                    let cost = if bucket.since == since { cost } else { cost.max(reserved) };
                    Some(rate.settle(bucket.at, now, reserved, cost))
                });
                settled.is_ok()
            }
            Charge::Leased { fingerprint, window, cost, reserved } => {
                let used = used.map_or(0, |used| cost.cost(used.prompt, used.cached, used.completion));
                mesh::settle(fingerprint, window, reserved, used, till)
            }
            Charge::Place { fingerprint } => till.leave(fingerprint),
            Charge::Credit { fingerprint, reserved } => {
                let now = till.holder.now;
                let settled = till.store.update(&credit_key(fingerprint), &mut |old| {
                    let old = old.unwrap_or_default();
                    // One that was forgotten meanwhile has begun anew.
                    let account = credit::get(old, fingerprint)?;
                    let account = match used {
                        Some(used) => {
                            let tokens = used.prompt.saturating_add(used.completion);
                            account.settle(now, reserved, tokens, tool_calls)
                        }
                        None => account.refund(reserved),
                    };
                    Some(credit::set(old, fingerprint, account))
                });
                settled.is_ok()
            }
        };
        lost = lost.saturating_add(u64::from(!settled));
    }
    lost
}

impl Till<'_> {
    /// Takes a place under a limit of `max`. The error is `None` where there is none left.
    fn place(&mut self, fingerprint: u64, max: Option<u64>) -> Result<u32, Option<Contended>> {
        let own = self.leases.get(&fingerprint).copied().unwrap_or(0);
        let (mut none_left, mut full) = (false, false);
        let holder = self.holder;
        let retries = self.store.update(&lease_key(fingerprint), &mut |old| {
            let old = old.unwrap_or_default();
            none_left = max.is_some_and(|max| lease::in_use(old, fingerprint, holder) >= max);
            if none_left {
                return None;
            }
            let page = lease::set(old, fingerprint, holder, own.saturating_add(1));
            full = page.is_err();
            page.ok()
        });
        match retries {
            _ if none_left => Err(None),
            Ok(retries) if !full => {
                self.leases.insert(fingerprint, own.saturating_add(1));
                Ok(retries)
            }
            _ => Err(Some(Contended)),
        }
    }

    /// Gives a place back. Where that fails, the next heartbeat does it.
    fn leave(&mut self, fingerprint: u64) -> bool {
        let left = self.leases.get(&fingerprint).copied().unwrap_or(0).saturating_sub(1);
        if left == 0 {
            self.leases.remove(&fingerprint);
        } else {
            self.leases.insert(fingerprint, left);
        }
        self.tell(fingerprint, left)
    }

    /// The heartbeat: says of every place that it is still held.
    pub fn beat(&mut self) {
        let held: Vec<(u64, u32)> = self.leases.iter().map(|(fingerprint, count)| (*fingerprint, *count)).collect();
        for (fingerprint, count) in held {
            self.tell(fingerprint, count);
        }
    }

    fn tell(&mut self, fingerprint: u64, count: u32) -> bool {
        let holder = self.holder;
        let told = self.store.update(&lease_key(fingerprint), &mut |old| {
            lease::set(old.unwrap_or_default(), fingerprint, holder, count).ok()
        });
        told.is_ok()
    }
}

fn applies(limit: &Limit, caller: &Caller, facts: &Facts) -> bool {
    // A rate is shared by all callers without a key; a session of theirs is no session.
    let has_key = || limit.per.iter().all(|source| caller.value(source, &facts.model).is_some());
    (!matches!(limit.kind, Kind::Session(_)) || has_key())
        && limit.class.as_ref().is_none_or(|class| facts.class.as_ref() == Some(class))
        && limit.model.as_ref().is_none_or(|model| facts.model == *model)
}

/// Which bucket of the limit a request draws from.
fn fingerprint(limit: &Limit, secret: &Secret, caller: &Caller, facts: &Facts) -> u64 {
    let key = limit.per.iter().map(|source| caller.value(source, &facts.model).unwrap_or_default());
    // A bucket's state is a time: what was spent at one rate says nothing under another period.
    let every = match limit.kind {
        Kind::Tokens { rate, .. } => rate.every(),
        Kind::Concurrent { .. } | Kind::Session(_) => 0,
    };
    secret.hash([limit.name.as_bytes(), &every.to_le_bytes()].into_iter().chain(key))
}

/// What to reserve, in thousandths. Where the client set no ceiling the output is a guess, and a guess does not refuse
/// a request whose prompt fits: it takes at most what the bucket holds besides.
fn reservation(rate: Rate, cost: Weights, facts: &Facts) -> u64 {
    let prompt = cost.cost(facts.prompt_tokens, 0, 0);
    if let Some(output) = facts.max_output {
        return prompt.saturating_add(cost.cost(0, 0, output));
    }
    let room = rate.burst().saturating_mul(MILLI).saturating_sub(prompt);
    prompt.saturating_add(cost.cost(0, 0, facts.expected_output).min(room))
}

fn standing(limit: &str, rate: Rate, at: FullAt, now: Nanos) -> Standing {
    Standing {
        limit: limit.to_owned(),
        burst: rate.burst(),
        remaining: u64::try_from(rate.remaining(at, now)).unwrap_or(0),
        reset: rate.reset(at, now),
    }
}

/// Parts per 2^32 that are left.
fn share(standing: &Standing) -> u128 {
    (u128::from(standing.remaining) << 32).checked_div(u128::from(standing.burst)).unwrap_or(0)
}

/// Takes a reservation out of a bucket.
fn take(
    limit: &str,
    fingerprint: u64,
    rate: Rate,
    cost: Weights,
    reserved: u64,
    till: &mut Till<'_>,
) -> Result<(Standing, Charge, u32), Refused> {
    let now = till.holder.now;
    let mut after = FullAt::default();
    let mut since = now;
    let mut refused = None;
    let changed = change(fingerprint, till, &mut |bucket| match rate.admit(bucket.at, now, reserved) {
        Ok(next) => {
            after = next;
            since = bucket.since;
            refused = None;
            Some(next)
        }
        Err(refusal) => {
            refused = Some((bucket.at, refusal));
            None
        }
    });
    if let Some((at, refusal)) = refused {
        let standing = standing(limit, rate, at, now);
        return Err(Refused::Limit { standing, cost: reserved.div_ceil(MILLI), refusal });
    }
    let retries = changed.map_err(|Contended| Refused::Contended)?;
    let charge = Charge::Tokens { fingerprint, rate, cost, reserved, since };
    Ok((standing(limit, rate, after, now), charge, retries))
}

/// Changes one bucket in its page.
fn change(
    fingerprint: u64,
    till: &mut Till<'_>,
    to: &mut dyn FnMut(Bucket) -> Option<FullAt>,
) -> Result<u32, Contended> {
    let key = format!("penstock/bucket/{}", fingerprint % PAGES);
    let now = till.holder.now;
    let mut full = false;
    let retries = till.store.update(&key, &mut |old| {
        let old = old.unwrap_or_default();
        let bucket = page::get(old, fingerprint, now);
        let page = page::set(old, fingerprint, Bucket { at: to(bucket)?, ..bucket }, now);
        full = page.is_err();
        page.ok()
    })?;
    if full { Err(Contended) } else { Ok(retries) }
}

/// Draws a call from a session's credit: what is left of it, and the tokens that were reserved.
fn draw(
    limit: &str,
    fingerprint: u64,
    allowance: &Allowance,
    facts: &Facts,
    till: &mut Till<'_>,
) -> Result<(Allowance, u64, u32), Refused> {
    let now = till.holder.now;
    let mut drawn = Err(Exhausted::Calls);
    let (output, firm) = facts.max_output.map_or((facts.expected_output, false), |max| (max, true));
    let changed = till.store.update(&credit_key(fingerprint), &mut |old| {
        let old = old.unwrap_or_default();
        let account: Account = credit::get(old, fingerprint).unwrap_or_default();
        drawn = account.admit(allowance, now, facts.prompt_tokens, output, firm);
        let (account, _) = drawn.as_ref().ok()?;
        Some(credit::set(old, fingerprint, *account))
    });
    let (account, reserved) = drawn.map_err(|exhausted| Refused::Session { limit: limit.to_owned(), exhausted })?;
    let retries = changed.map_err(|Contended| Refused::Contended)?;
    Ok((account.remaining(allowance, now), reserved, retries))
}

/// The smaller part of each.
fn tighter(a: Allowance, b: Allowance) -> Allowance {
    let less = |a: Option<u64>, b: Option<u64>| a.into_iter().chain(b).min();
    Allowance {
        tokens: less(a.tokens, b.tokens),
        calls: less(a.calls, b.calls),
        tool_calls: less(a.tool_calls, b.tool_calls),
        wall_clock: less(a.wall_clock, b.wall_clock),
    }
}

fn credit_key(fingerprint: u64) -> String {
    format!("penstock/credit/{}", fingerprint % PAGES)
}

fn lease_key(fingerprint: u64) -> String {
    format!("penstock/lease/{}", fingerprint % PAGES)
}
