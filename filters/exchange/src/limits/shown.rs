//! Limits of tokens are seen before they bind: how much of each bucket is used, as gauges.
//!
//! A bucket that is charged for a named tenant, or for all callers together, is noted in a list that the workers share. With every tick one
//! of them sets the gauges of all that are listed, to what the buckets say: so a gauge returns to the truth whoever last served the tenant,
//! and one of a limit that is no longer configured runs empty. Where a tenant has several buckets under a limit, one for each model, the
//! fullest is shown.

use hashbrown::{HashMap, HashSet};
use penstock_bucket::{Rate, lease, page};
use penstock_units::{Fingerprint, Nanos, Tokens};

use crate::config::{Config, Kind, Limit, Source};
use crate::keys;
use crate::labels;
use crate::metrics::{Metric, Registry};
use crate::overflow::{Overflow, SHOWN_MAX, Table};
use crate::port::{Effect, Store};

/// How many buckets one worker remembers to have noted, and for how many ticks: those that are empty for long lose their row to others.
const NOTED_MAX: usize = 4096;
const RECENT: usize = 32;
const NOTED_TICKS: u32 = 120;

/// What one worker has noted.
#[derive(Debug, Default)]
pub struct Shown {
    noted: HashSet<Fingerprint>,
    /// Some of them, each at its place, which is quicker to ask.
    recent: [Fingerprint; RECENT],
    ticks: u32,
}

/// A bucket that is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Row {
    limit: String,
    tenant: String,
    fingerprint: Fingerprint,
    rate: Rate,
    /// It is a lease.
    is_shared: bool,
}

/// How a bucket stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Standing {
    used: Tokens,
    size: Tokens,
    debt: Tokens,
}

impl Standing {
    /// Whether it is nearer to its end than another.
    fn is_tighter(self, other: Self) -> bool {
        let share = |a: Self, b: Self| u128::from(a.used.0).saturating_mul(u128::from(b.size.0));
        (self.debt, share(self, other)) > (other.debt, share(other, self))
    }
}

impl Shown {
    /// A bucket was charged: from now on it is shown, where it is a named tenant's or everybody's.
    pub fn charged(
        &mut self,
        limit: &Limit,
        fingerprint: Fingerprint,
        config: &Config,
        tenant: &str,
        store: &mut dyn Store,
    ) {
        let place = (fingerprint.0 as usize) % RECENT;
        match self.recent.get_mut(place) {
            Some(recent) if *recent == fingerprint => return,
            Some(recent) => *recent = fingerprint,
            None => {}
        }
        if self.noted.contains(&fingerprint) || self.noted.len() >= NOTED_MAX {
            return;
        }
        self.noted.insert(fingerprint);
        let (Kind::Rate { rate, .. } | Kind::Mesh { rate, .. }) = limit.kind else { return };
        // What else tells callers apart, they make up themselves.
        if !limit.per.iter().all(|source| matches!(source, Source::Tenant | Source::Model)) {
            return;
        }
        let tenant = if limit.per.contains(&Source::Tenant) {
            let Some(tenant) = config.tenant(tenant) else { return };
            tenant.name.as_str()
        } else {
            labels::OTHER
        };
        let is_shared = matches!(limit.kind, Kind::Mesh { .. });
        let (limit, tenant) = (limit.name.to_string(), tenant.to_owned());
        let row = Row { limit, tenant, fingerprint, rate, is_shared };
        // Where that is contended, the row comes when the bucket is noted anew.
        let _ = store.update(keys::SHOWN, &mut |old| {
            let old = old.unwrap_or_default();
            let mut rows = decode(old);
            let is_new = !rows.iter().any(|known| known.fingerprint == fingerprint) && rows.len() < SHOWN_MAX;
            is_new.then(|| {
                rows.push(row.clone());
                encode(&rows)
            })
        });
    }

    /// The heartbeat: sets the gauges, if no other worker has done so for this tick.
    pub fn tell(
        &mut self,
        now: Nanos,
        tick: Nanos,
        store: &mut dyn Store,
        series: &mut Registry,
        overflow: &mut Overflow,
        out: &mut Vec<Effect>,
    ) {
        self.ticks = self.ticks.saturating_add(1);
        if self.ticks >= NOTED_TICKS {
            *self = Self::default();
        }
        if !claim(now, tick, store) {
            return;
        }
        let rows = store.get(keys::SHOWN).as_deref().map(decode).unwrap_or_default();
        let mut standings: HashMap<(&str, &str), Standing> = HashMap::new();
        let mut empty: Vec<Fingerprint> = Vec::new();
        for row in &rows {
            let standing = standing(row, now, store);
            if standing.used == Tokens::ZERO && standing.debt == Tokens::ZERO {
                empty.push(row.fingerprint);
            }
            let key = (row.limit.as_str(), row.tenant.as_str());
            let known = standings.entry(key).or_insert(standing);
            if !known.is_tighter(standing) {
                *known = standing;
            }
        }
        for ((limit, tenant), Standing { used, size, debt }) in standings {
            for (metric, tokens) in [(Metric::LimitUsed, used), (Metric::LimitSize, size), (Metric::LimitDebt, debt)] {
                out.push(Effect::Gauge(series.id(metric, &[limit, tenant]), tokens.0));
            }
        }
        if rows.len() >= SHOWN_MAX {
            make_room(&empty, store);
            if empty.is_empty() {
                overflow.note(Table::Shown);
            }
        }
    }
}

/// Takes rows of buckets that are empty, which has been said, for others that are not.
fn make_room(empty: &[Fingerprint], store: &mut dyn Store) {
    let _ = store.update(keys::SHOWN, &mut |old| {
        let mut rows = decode(old?);
        rows.retain(|row| !empty.contains(&row.fingerprint));
        Some(encode(&rows))
    });
}

/// Whether the gauges are this worker's to set.
fn claim(now: Nanos, tick: Nanos, store: &mut dyn Store) -> bool {
    let mut is_due = false;
    let claimed = store.update(keys::SHOWN_AT, &mut |old| {
        let at = old.and_then(|old| old.try_into().ok()).map_or(Nanos::ZERO, |at| Nanos(u64::from_le_bytes(at)));
        is_due = now.abs_diff(at) >= Nanos((tick.0 / 4).saturating_mul(3));
        is_due.then(|| now.0.to_le_bytes().to_vec())
    });
    is_due && claimed.is_ok()
}

fn standing(row: &Row, now: Nanos, store: &mut dyn Store) -> Standing {
    let Row { fingerprint, rate, .. } = *row;
    let size = rate.burst();
    let key = if row.is_shared { keys::lease(fingerprint) } else { keys::bucket(fingerprint) };
    let page = store.get(&key).unwrap_or_default();
    let left = if row.is_shared {
        // Of a window that is over nothing is known.
        lease::get(&page, fingerprint).standing(now).unwrap_or(i64::try_from(size.0).unwrap_or(i64::MAX))
    } else {
        rate.remaining(page::get(&page, fingerprint, now).full_at(), now)
    };
    let debt = Tokens(left.min(0).unsigned_abs());
    Standing { used: size.saturating_sub(Tokens(left.max(0).unsigned_abs())), size, debt }
}

/// For each row the two names (length in 1 byte, then the bytes), then the fingerprint, the rate's tokens, period and burst, and whether it
/// is a lease, 8 bytes each, little-endian.
fn encode(rows: &[Row]) -> Vec<u8> {
    let mut out = Vec::new();
    for Row { limit, tenant, fingerprint, rate, is_shared } in rows {
        for name in [limit, tenant] {
            // Names are shorter than that by configuration.
            out.push(u8::try_from(name.len()).unwrap_or(0));
            out.extend_from_slice(name.as_bytes());
        }
        let numbers = [fingerprint.0, rate.tokens().0, rate.period().0, rate.burst().0, u64::from(*is_shared)];
        out.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
    }
    out
}

fn decode(mut bytes: &[u8]) -> Vec<Row> {
    let mut rows = Vec::new();
    while let Some(row) = row(&mut bytes) {
        rows.push(row);
    }
    rows
}

fn row(bytes: &mut &[u8]) -> Option<Row> {
    let mut name = || {
        let (len, rest) = bytes.split_first()?;
        let (name, rest) = rest.split_at_checked(usize::from(*len))?;
        *bytes = rest;
        core::str::from_utf8(name).ok().map(str::to_owned)
    };
    let (limit, tenant) = (name()?, name()?);
    let (numbers, rest) = bytes.split_first_chunk::<40>()?;
    *bytes = rest;
    let numbers: &[[u8; 8]; 5] = numbers.as_chunks::<8>().0.try_into().ok()?;
    let [fingerprint, tokens, period, burst, is_shared] = numbers.map(u64::from_le_bytes);
    let rate = Rate::new(Tokens(tokens), Nanos(period), Tokens(burst))?;
    Some(Row { limit, tenant, fingerprint: Fingerprint(fingerprint), rate, is_shared: is_shared == 1 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn round_trip(rows in prop::collection::vec(("[a-z]{1,64}", "[a-z]{1,64}", any::<u64>(), 1..1u64 << 40, any::<bool>()), 0..9)) {
            let rows: Vec<Row> = rows.into_iter().map(|(limit, tenant, n, burst, is_shared)| {
                let rate = Rate::new(Tokens(burst), Nanos(n >> 2 | 1), Tokens(burst)).unwrap();
                Row { limit, tenant, fingerprint: Fingerprint(n), rate, is_shared }
            }).collect();
            prop_assert_eq!(decode(&encode(&rows)), rows);
        }

        #[test]
        fn any_bytes_decode(bytes: Vec<u8>) {
            let _ = decode(&bytes);
        }
    }
}
