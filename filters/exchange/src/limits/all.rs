//! All limits of a request together: every one of them is charged, or none.

use penstock_bucket::credit::Allowance;

use super::books::{Applicant, Books, RateLimitStatus, Refused, Taken};
use super::{concurrency, mesh, rate, session};
use crate::config::{Config, Kind, Limit, Mode, Source, Whose};
use crate::facts::Used;

/// What was taken under one limit.
#[derive(Clone, Debug)]
pub enum Charge {
    /// Tokens of a bucket.
    Rate(rate::Charge),
    /// Tokens of a lease.
    Mesh(mesh::Charge),
    /// A permit.
    Concurrency(concurrency::Charge),
    /// A call of a session.
    Session(session::Charge),
}

/// What charging brought.
#[derive(Default)]
pub struct Admitted {
    /// To be settled.
    pub charges: Vec<Charge>,
    /// How the caller stands under the limit that binds, the one of which the smallest share is left; `None` where none of tokens applies.
    pub status: Option<RateLimitStatus>,
    /// What is left of the session's credit, where there is one.
    pub allowance: Option<Box<Allowance>>,
    /// Why limits that only observe would have refused; nothing was charged under them.
    pub observed: Vec<Refused>,
    /// How many updates others won.
    pub retries: u64,
}

impl Admitted {
    fn add(&mut self, taken: Taken<Charge>) {
        let Taken { charge, status, allowance, retries } = taken;
        self.charges.push(charge);
        self.retries = self.retries.saturating_add(u64::from(retries));
        self.status = match (self.status.take(), status) {
            (Some(known), Some(new)) => Some(known.tighter(new)),
            (known, new) => known.or(new),
        };
        self.allowance = match (self.allowance.take(), allowance) {
            (Some(known), Some(new)) => Some(Box::new(session::tighter(*known, *new))),
            (known, new) => known.or(new),
        };
    }
}

/// Charges every limit that applies, or none. Those of this proxy come first, and a service is asked only for what no other limit is known
/// to refuse: what it grants for a request that is refused all the same is kept from other proxies until its window is over. Where several
/// would be asked it is the narrowest, which is the one that a single caller may exhaust. `may_ask`: whether a limit that only observes may
/// ask once more.
///
/// # Errors
/// [`Refused`]: a limit that could never admit the request, as it is of no use to come back then; else the first in that order that does
/// not; else [`Refused::Ask`].
pub fn charge(config: &Config, by: Applicant<'_>, may_ask: bool, books: &mut Books<'_>) -> Result<Admitted, Refused> {
    take_all(config, Aim::Charge { may_ask }, by, books)
}

/// Takes the permits of those limits that count requests at the same time, and nothing else: all or none.
///
/// # Errors
/// [`Refused`], naming the first limit that has none left.
pub fn hold(config: &Config, by: Applicant<'_>, books: &mut Books<'_>) -> Result<Admitted, Refused> {
    take_all(config, Aim::Hold, by, books)
}

/// Whether all limits that apply would admit. They are left as they were.
///
/// # Errors
/// As [`charge`] has them.
pub fn look(config: &Config, by: Applicant<'_>, books: &mut Books<'_>) -> Result<(), Refused> {
    let admitted = take_all(config, Aim::Look, by, books)?;
    settle(&admitted.charges, None, 0, books);
    Ok(())
}

/// What limits are asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Aim {
    /// All that the request may cost. `may_ask`: see [`charge`].
    Charge { may_ask: bool },
    /// Permits.
    Hold,
    /// All of it, to be given back at once.
    Look,
}

fn take_all(config: &Config, aim: Aim, by: Applicant<'_>, books: &mut Books<'_>) -> Result<Admitted, Refused> {
    let mut admitted = Admitted::default();
    let mut ask: Option<(usize, Refused)> = None;
    let may_ask = aim != Aim::Charge { may_ask: false };
    let is_meant = |limit: &&Limit| aim != Aim::Hold || matches!(limit.kind, Kind::Concurrency { .. });
    for limit in config.limits.iter().filter(is_meant).filter(|limit| applies(limit, by)) {
        match take(limit, aim, by, books) {
            Ok(Some(taken)) => {
                if let Charge::Rate(rate::Charge { fingerprint, .. }) | Charge::Mesh(mesh::Charge { fingerprint, .. }) =
                    taken.charge
                {
                    books.shown.charged(limit, fingerprint, config, &by.facts.tenant, books.store);
                }
                admitted.add(taken);
            }
            Ok(None) => {}
            Err(asks @ Refused::Ask(_)) if may_ask || limit.mode == Mode::Enforce => {
                let keys = limit.per.len();
                if ask.as_ref().is_none_or(|(known, _)| keys > *known) {
                    ask = Some((keys, asks));
                }
            }
            Err(refused) if limit.mode == Mode::Observe => admitted.observed.push(refused),
            Err(refused) => {
                settle(&admitted.charges, None, 0, books);
                // Who only asks for a count asks for no tokens.
                let never = if aim == Aim::Hold { None } else { never(config, by, books) };
                return Err(never.unwrap_or(refused));
            }
        }
    }
    match ask {
        None => Ok(admitted),
        Some((_, asks)) => {
            settle(&admitted.charges, None, 0, books);
            Err(asks)
        }
    }
}

/// A limit that is smaller than the request, if there is one.
fn never(config: &Config, by: Applicant<'_>, books: &mut Books<'_>) -> Option<Refused> {
    let is_smaller = |limit: &&Limit| match limit.kind {
        Kind::Rate { rate, weights } | Kind::Mesh { rate, weights, .. } => {
            by.reservation(rate.burst(), weights) > rate.burst().to_milli()
        }
        Kind::Concurrency { .. } | Kind::Session(_) => false,
    };
    let enforced = config.limits.iter().filter(|limit| limit.mode == Mode::Enforce && applies(limit, by));
    enforced.filter(is_smaller).find_map(|limit| take(limit, Aim::Look, by, books).err())
}

/// Charges one limit; `None` where it does not hold at the moment, or has nothing to be given back.
fn take(limit: &Limit, aim: Aim, by: Applicant<'_>, books: &mut Books<'_>) -> Result<Option<Taken<Charge>>, Refused> {
    match &limit.kind {
        Kind::Rate { rate, weights } => {
            rate::take(limit, *rate, *weights, rate::Of::Spent, by, books).map(|taken| Some(taken.map(Charge::Rate)))
        }
        Kind::Mesh { rate, weights, service } => {
            let taken = mesh::take(limit, *rate, *weights, service, by, books)?;
            Ok(match taken {
                mesh::Outcome::Leased(taken) => Some(taken.map(Charge::Mesh)),
                mesh::Outcome::Local(taken) => Some(taken.map(Charge::Rate)),
                mesh::Outcome::Open => None,
            })
        }
        Kind::Concurrency { max } => {
            concurrency::take(limit, *max, by, books).map(|taken| Some(taken.map(Charge::Concurrency)))
        }
        // A session that is only looked at has not begun, and takes no other one's place.
        Kind::Session(allowance) if aim == Aim::Look => session::look(limit, allowance, by, books).map(|()| None),
        Kind::Session(allowance) => {
            session::take(limit, allowance, by, books).map(|taken| Some(taken.map(Charge::Session)))
        }
    }
}

/// Corrects the charges to what was used, and gives permits back; `None` gives everything back. Returns how many could not be corrected.
pub fn settle(charges: &[Charge], used: Option<Used>, tool_calls: u32, books: &mut Books<'_>) -> u64 {
    let mut lost = 0u64;
    for charge in charges {
        let settled = match charge {
            Charge::Rate(charge) => rate::settle(charge, used, books),
            Charge::Mesh(charge) => mesh::settle(charge, used, books),
            Charge::Concurrency(charge) => concurrency::settle(charge, books),
            Charge::Session(charge) => session::settle(charge, used, tool_calls, books),
        };
        lost = lost.saturating_add(u64::from(!settled));
    }
    lost
}

/// Whether it is a limit of this request.
pub fn applies(limit: &Limit, by: Applicant<'_>) -> bool {
    // A rate is shared by all callers without a key; a session of theirs is no session.
    let has_key = || limit.per.iter().all(|source| by.caller.value(source, &by.facts.model).is_some());
    (!matches!(limit.kind, Kind::Session(_)) || has_key())
        && limit.class.as_ref().is_none_or(|class| by.facts.class.as_ref() == Some(class))
        && limit.model.as_ref().is_none_or(|model| by.facts.model == *model)
        && (!by.caller.is_probe || is_its_own(limit))
        && limit.tenant.as_ref().is_none_or(|whose| match whose {
            Whose::Unnamed => !by.caller.is_named,
            Whose::Named(name) => by.caller.is_named && by.caller.tenant == *name,
        })
}

/// Whether no other tenant pays into what the limit counts.
fn is_its_own(limit: &Limit) -> bool {
    limit.per.contains(&Source::Tenant) || matches!(limit.tenant, Some(Whose::Named(_)))
}
