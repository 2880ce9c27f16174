//! What all kinds of limits share: where they keep their books, who asks, and what they answer.

use std::rc::Rc;

use hashbrown::HashMap;
use penstock_bucket::Refusal;
use penstock_bucket::credit::{Allowance, Exhausted};
use penstock_bucket::permit::Holder;
use penstock_units::{Fingerprint, MilliTokens, Nanos, Tokens};

use super::rls::LeaseRequest;
use super::shown::Shown;
use crate::config::{Limit, Source, Spend, Weights};
use crate::facts::{Facts, Used};
use crate::hash::Secret;
use crate::identity::Caller;
use crate::keys::Realm;
use crate::overflow::{Overflow, Table};
use crate::port::{Contended, Store};

/// The permits that one worker holds, by the fingerprint of whom they are counted for: repeated with every heartbeat.
pub type Permits = HashMap<Fingerprint, u32>;

/// Where limits keep their books: one worker's view.
pub struct Books<'a> {
    /// What is shared.
    pub store: &'a mut dyn Store,
    /// The worker's permits.
    pub permits: &'a mut Permits,
    /// Who the worker is, and when.
    pub holder: Holder,
    /// Whose state is shown.
    pub shown: &'a mut Shown,
    /// What had no room.
    pub overflow: &'a mut Overflow,
}

/// Why a page was not changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unchanged {
    /// Others kept winning.
    Contended,
    /// It has no room.
    Full,
}

impl From<Contended> for Unchanged {
    fn from(Contended: Contended) -> Self {
        Self::Contended
    }
}

/// Whom a limit counts a request for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whom {
    /// The one that its key names.
    Own,
    /// All together for whom there is no room.
    Rest,
}

/// Whose request is to be charged, and what for.
#[derive(Clone, Copy)]
pub struct Applicant<'a> {
    /// The key of the fingerprints.
    pub secret: &'a Secret,
    /// Who asks.
    pub caller: &'a Caller,
    /// For what.
    pub facts: &'a Facts,
}

impl Applicant<'_> {
    /// Whom a limit counts this request for.
    pub fn fingerprint(&self, limit: &Limit) -> Fingerprint {
        let key = limit.per.iter().map(|source| self.caller.value(source, &self.facts.model).unwrap_or_default());
        let key = [limit.id.as_slice()].into_iter().chain(key);
        self.realm(limit).mark(self.secret.fingerprint(key))
    }

    /// Which session a limit counts this request for. A session belongs to its tenant: who sends another one's has one of its own.
    pub fn session(&self, limit: &Limit) -> Fingerprint {
        let key = [&Source::Tenant].into_iter().chain(&limit.per);
        let key = key.map(|source| self.caller.value(source, &self.facts.model).unwrap_or_default());
        self.realm(limit).mark(self.secret.fingerprint([limit.id.as_slice()].into_iter().chain(key)))
    }

    /// Charges whom a limit counts this request for; where there is no room for one more of those that callers make up, the rest of them.
    pub fn charge<T>(
        &self,
        limit: &Limit,
        table: Table,
        books: &mut Books<'_>,
        mut change: impl FnMut(Whom, Fingerprint, &mut Books<'_>) -> Result<T, Unchanged>,
    ) -> Result<T, Refused> {
        let mut changed = change(Whom::Own, self.fingerprint(limit), books);
        if matches!(changed, Err(Unchanged::Full)) {
            books.overflow.note(table);
            if let Some(who) = self.rest(limit) {
                let rest = Realm::Configured.mark(self.secret.fingerprint([limit.id.as_slice(), who, b"rest"]));
                changed = change(Whom::Rest, rest, books);
            }
        }
        changed.map_err(|_| Refused::Contended)
    }

    /// Who the rest of a limit is: a named tenant for all that it makes up, strangers for all of them together, so that nobody gets a new
    /// bucket by leaving no room. `None` where nobody can make up more.
    pub fn rest(&self, limit: &Limit) -> Option<&[u8]> {
        match self.realm(limit) {
            Realm::Configured => None,
            Realm::Named => Some(self.caller.tenant.as_bytes()),
            Realm::Strangers => Some(b""),
        }
    }

    /// Who can make up further keys of this limit.
    fn realm(&self, limit: &Limit) -> Realm {
        let is_own = |source: &Source| match source {
            Source::Model => true,
            Source::Tenant => self.caller.is_named,
            Source::Jwt(_) | Source::Header(_) | Source::Cookie(_) | Source::Property(_) | Source::Body(_) => false,
        };
        match (limit.per.iter().all(is_own), self.caller.is_named) {
            (true, _) => Realm::Configured,
            (false, true) => Realm::Named,
            (false, false) => Realm::Strangers,
        }
    }

    /// What to reserve. Where the client set no ceiling the output is a guess, and a guess does not refuse a request whose prompt fits: it
    /// takes at most what the bucket holds besides.
    pub fn reservation(&self, burst: Tokens, weights: Weights) -> MilliTokens {
        let Facts { prompt_tokens, max_output, expected_output, .. } = *self.facts;
        let prompt = weights.cost(Spend { prompt: prompt_tokens, ..Spend::default() });
        let output = |output| weights.cost(Spend { output, ..Spend::default() });
        let output = match max_output {
            Some(max) => output(max),
            None => output(expected_output).min(burst.to_milli().saturating_sub(prompt)),
        };
        prompt.saturating_add(output)
    }
}

/// What was really used, by what it costs under these weights; nothing where the request used nothing.
pub fn cost(weights: Weights, used: Option<Used>) -> MilliTokens {
    used.map_or(MilliTokens::ZERO, |used| weights.cost(used.spend()))
}

/// How a caller stands under a limit of tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateLimitStatus {
    /// The limit's name.
    pub limit: Rc<str>,
    /// What it holds.
    pub burst: Tokens,
    /// What is left.
    pub remaining: Tokens,
    /// Until it is full again.
    pub reset: Nanos,
}

impl RateLimitStatus {
    /// Parts per 2^32 that are left.
    fn share(&self) -> u128 {
        (u128::from(self.remaining.0) << 32).checked_div(u128::from(self.burst.0)).unwrap_or(0)
    }

    /// What is left, in percent.
    pub fn percent(&self) -> u64 {
        self.remaining.0.saturating_mul(100).checked_div(self.burst.0).unwrap_or(0)
    }

    /// The one of two of which the smaller share is left.
    pub fn tighter(self, other: Self) -> Self {
        if self.share() <= other.share() { self } else { other }
    }
}

/// What one limit took.
pub struct Taken<C> {
    /// To be settled.
    pub charge: C,
    /// How the caller stands now, under a limit of tokens.
    pub status: Option<RateLimitStatus>,
    /// What is left of a session's credit.
    pub allowance: Option<Box<Allowance>>,
    /// How many updates others won.
    pub retries: u32,
}

impl<C> Taken<C> {
    /// The same, as one of several kinds of charges.
    pub fn map<D>(self, kind: impl FnOnce(C) -> D) -> Taken<D> {
        let Self { charge, status, allowance, retries } = self;
        Taken { charge: kind(charge), status, allowance, retries }
    }
}

/// Why a request is not admitted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// By a limit of tokens.
    Rate {
        /// How the caller stands under it.
        status: RateLimitStatus,
        /// What the request would have cost there.
        cost: Tokens,
        /// Whether and when it can be admitted.
        refusal: Refusal,
    },
    /// By a limit of requests at the same time.
    Concurrency {
        /// Its name.
        limit: Rc<str>,
        /// How many it allows.
        max: u64,
    },
    /// By a session's credit, which is used up.
    Session {
        /// Its name.
        limit: Rc<str>,
        /// What there is no more of.
        exhausted: Exhausted,
    },
    /// Not yet decided: a service is to be asked first.
    Ask(Box<LeaseRequest>),
    /// By a limit whose service does not answer.
    Unavailable {
        /// Its name.
        limit: Rc<str>,
    },
    /// Because the state could not be updated.
    Contended,
}

impl From<Contended> for Refused {
    fn from(Contended: Contended) -> Self {
        Self::Contended
    }
}
