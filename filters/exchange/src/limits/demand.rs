//! How much of what came to nothing is demand: as much as the limits of who asks would have admitted.
//!
//! What fails for want of capacity is charged nothing, so whoever tries again and again could ask each time for what it may spend once, and
//! replicas would be started for it. So each limit of tokens keeps a second bucket for each of its callers, at the same rate
//! ([`Of::Wanted`]). It is charged what the request was to be charged, and never refunded; where it is empty, the request was no demand.
//! Whoever is under no limit of tokens asks for as much as one replica does, for each model; what has a name asks for itself, and all others
//! together. The first request always counts, so that it wakes what has no replica.

use penstock_bucket::Rate;
use penstock_pending::Figures;
use penstock_units::{Nanos, Tokens};

use super::all::applies;
use super::books::{Applicant, Books};
use super::rate::{self, Charge, Of};
use crate::config::{Config, Kind, Limit, Mode};
use crate::keys::Realm;
use crate::labels;

/// What a replica does in this time may be wanted at once. Whoever finds no server is told to come back after it.
const AT_ONCE: Nanos = Nanos(10_000_000_000);
/// What a replica is taken to do where nobody knows it: tokens in [`AT_ONCE`].
const UNKNOWN: u64 = 100_000;

/// Whether a request that came to nothing was demand, as `tokens` of it are. `replica`: what one does.
pub fn counts(config: &Config, by: Applicant<'_>, tokens: Tokens, replica: Figures, books: &mut Books<'_>) -> bool {
    let holds = |limit: &&Limit| limit.mode == Mode::Enforce && applies(limit, by);
    let mut charges: Vec<Charge> = Vec::new();
    for limit in config.limits.iter().filter(holds) {
        let (Kind::Rate { rate, weights } | Kind::Mesh { rate, weights, .. }) = limit.kind else { continue };
        match rate::take(limit, rate, weights, Of::Wanted, by, books) {
            Ok(taken) => charges.push(taken.charge),
            // Also where that is contended: others are counted then.
            Err(_) => {
                charges.iter().for_each(|charge| _ = rate::settle(charge, None, books));
                return false;
            }
        }
    }
    !charges.is_empty() || counts_without_limit(config, by, tokens, replica, books)
}

/// The same for whoever is under no limit. One request may be more than is wanted at once: then it takes the longer until the next one counts.
fn counts_without_limit(
    config: &Config,
    by: Applicant<'_>,
    tokens: Tokens,
    replica: Figures,
    books: &mut Books<'_>,
) -> bool {
    let known = replica.prefill.max(replica.decode).filter(|figure| *figure > 0);
    let most = known.map_or(UNKNOWN, |figure| figure.saturating_mul(AT_ONCE.0 / Nanos::SECOND.0).min(1 << 40));
    let Some(rate) = Rate::new(Tokens(most), AT_ONCE, Tokens(most)) else { return false };
    let named = config.tenant(&by.facts.tenant).map_or(labels::OTHER, |tenant| tenant.name.as_str());
    let fingerprint = by.secret.fingerprint([b"wanted".as_slice(), named.as_bytes(), by.facts.model.as_bytes()]);
    let (now, cost, at_once) = (books.holder.now, tokens.to_milli(), tokens.min(Tokens(most)).to_milli());
    let mut counts = false;
    let changed = rate::change(Realm::Configured.mark(fingerprint), books, &mut |bucket| {
        let admitted = bucket.admit(rate, now, at_once).ok();
        counts = admitted.is_some();
        // What is beyond that is owed.
        admitted.map(|bucket| bucket.settle(rate, bucket.latest(), now, at_once, cost))
    });
    counts && changed.is_ok()
}
