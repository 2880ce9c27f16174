//! What all workers know of trials: under one key each, the plan, by what shares requests are drawn, and the guard.
//!
//! Layout, little-endian: version (1), plan (8), shares (8), whether requests are drawn anew from the next heartbeat on (1), and the
//! guard's bytes; none before the first heartbeat.

use penstock_canary::guard::Guard;
use penstock_units::Nanos;

use crate::config::Config;
use crate::hash::number;
use crate::keys;
use crate::labels;
use crate::metrics::{Metric, Registry};
use crate::port::{Effect, Store};

const VERSION: u8 = 1;
/// What stands between a model and its version, and behind each pair: neither is in names.
const WITHIN: u8 = 0;
const BEHIND: u8 = b'\n';

/// What is known of one trial.
pub struct Shared {
    pub plan: u64,
    pub shares: u64,
    /// Nobody has counted since the shares changed.
    pub is_new: bool,
    pub guard: Guard,
}

impl Shared {
    fn decode(bytes: &[u8], now: Nanos) -> Option<Self> {
        let (version, rest) = bytes.split_first()?;
        let (plan, rest) = rest.split_first_chunk()?;
        let (shares, rest) = rest.split_first_chunk()?;
        let (is_new, rest) = rest.split_first()?;
        let plan = u64::from_le_bytes(*plan);
        let guard = Guard::decode(rest).unwrap_or_else(|_| Guard::new(plan, now));
        let shared = Self { plan, shares: u64::from_le_bytes(*shares), is_new: *is_new != 0, guard };
        (*version == VERSION).then_some(shared)
    }
}

fn encode(plan: u64, shares: u64, is_new: bool, guard: &[u8]) -> Vec<u8> {
    let head = [[VERSION].as_slice(), &plan.to_le_bytes(), &shares.to_le_bytes(), &[u8::from(is_new)]].concat();
    [head.as_slice(), guard].concat()
}

/// Makes this the plan and the shares from now on. What was found by the same plan stays. `false` where others kept winning.
pub fn claim(key: &str, plan: u64, shares: u64, store: &mut dyn Store) -> bool {
    let claimed = store.update(key, &mut |old| {
        let known = old.and_then(|old| Shared::decode(old, Nanos::ZERO)).filter(|known| known.plan == plan);
        match known {
            Some(known) if known.shares == shares => None,
            Some(known) => Some(encode(plan, shares, true, &known.guard.encode())),
            None => Some(encode(plan, shares, true, &[])),
        }
    });
    claimed.is_ok()
}

/// What is known.
pub fn read(key: &str, plan: u64, now: Nanos, store: &mut dyn Store) -> Option<Shared> {
    let known = Shared::decode(&store.get(key)?, now)?;
    // A guard by another plan than what stands beside it is none of it.
    let guard = if known.guard.plan() == known.plan { known.guard } else { Guard::new(plan, now) };
    Some(Shared { guard, ..known })
}

/// Changes the guard, where plan and shares are still these. `None` where they are not, or others kept winning.
pub fn update(
    key: &str,
    plan: u64,
    shares: u64,
    now: Nanos,
    store: &mut dyn Store,
    change: &mut dyn FnMut(&mut Guard),
) -> Option<Shared> {
    let mut written = None;
    let updated = store.update(key, &mut |old| {
        written = None;
        let known = old.and_then(|old| Shared::decode(old, now));
        if known.as_ref().is_some_and(|known| known.plan != plan || known.shares != shares) {
            return None;
        }
        let is_new = known.as_ref().is_none_or(|known| known.is_new);
        let mut guard = known.map(|known| known.guard).filter(|guard| guard.plan() == plan);
        if let Some(guard) = guard.as_mut().filter(|_| is_new) {
            guard.redrawn(now);
        }
        let mut guard = guard.unwrap_or_else(|| Guard::new(plan, now));
        change(&mut guard);
        let bytes = encode(plan, shares, false, &guard.encode());
        written = Some(Shared { plan, shares, is_new: false, guard });
        Some(bytes)
    });
    updated.ok().and(written)
}

/// Adds these canaries to those that this process ever had; those of them that are not among these.
pub fn gone(pairs: &[[String; 2]], max: usize, store: &mut dyn Store) -> Vec<[String; 2]> {
    let mut gone = Vec::new();
    let _ = store.update(keys::GUARDED, &mut |old| {
        let mut known: Vec<[String; 2]> =
            old.unwrap_or_default().split(|byte| *byte == BEHIND).filter_map(pair).collect();
        gone = known.iter().filter(|known| !pairs.contains(known)).cloned().collect();
        let new: Vec<[String; 2]> = pairs.iter().filter(|pair| !known.contains(pair)).cloned().collect();
        if new.is_empty() {
            return None;
        }
        known.extend(new);
        let all = known.iter().take(max);
        let bytes =
            all.flat_map(|[model, version]| [model.as_bytes(), &[WITHIN], version.as_bytes(), &[BEHIND]].concat());
        Some(bytes.collect())
    });
    gone
}

fn pair(bytes: &[u8]) -> Option<[String; 2]> {
    let at = bytes.iter().position(|byte| *byte == WITHIN)?;
    let (model, version) = bytes.split_at_checked(at)?;
    let text = |bytes: &[u8]| core::str::from_utf8(bytes).ok().map(str::to_owned);
    Some([text(model)?, text(version.strip_prefix(&[WITHIN])?)?])
}

/// When the weights of models changed: alerts can be held for a while then.
#[derive(Default)]
pub struct Changes {
    /// By label; what tells its versions and weights, and since when that is so, once it is known.
    all: Vec<(String, u64, Option<Nanos>)>,
}

impl Changes {
    /// Of the models that are split.
    pub fn new(config: &Config) -> Self {
        let split = config.models.iter().filter(|model| model.versions.len() > 1);
        let all = split.map(|model| {
            let versions: Vec<_> =
                model.versions.iter().map(|version| (&version.name, &version.model, version.weight)).collect();
            (labels::model(&model.name).to_owned(), number(&format!("{versions:?}")), None)
        });
        Self { all: all.collect() }
    }

    /// The heartbeat. What a process begins with is no change.
    pub fn tell(&mut self, now: Nanos, store: &mut dyn Store, registry: &mut Registry, out: &mut Vec<Effect>) {
        for (model, versions, known) in &mut self.all {
            let since = match known {
                Some(since) => {
                    // Another configuration has others by now, and shows them.
                    let shown = store.get(&keys::weights(model));
                    if shown.is_some_and(|shown| !shown.starts_with(&versions.to_le_bytes())) {
                        continue;
                    }
                    *since
                }
                None => {
                    let mut since = Nanos::ZERO;
                    let _ = store.update(&keys::weights(model), &mut |old| {
                        let before =
                            old.and_then(|old| Some((old.first_chunk::<8>()?, old.get(8..)?.first_chunk::<8>()?)));
                        let (is_same, at) = match before {
                            Some((hash, at)) => {
                                (u64::from_le_bytes(*hash) == *versions, Nanos(u64::from_le_bytes(*at)))
                            }
                            None => (false, Nanos::ZERO),
                        };
                        since = if is_same || before.is_none() { at } else { now };
                        (!is_same).then(|| [versions.to_le_bytes(), since.0.to_le_bytes()].concat())
                    });
                    since
                }
            };
            *known = Some(since);
            let seconds = since.to_millis().0 / 1000;
            out.push(Effect::Gauge(registry.id(Metric::WeightsChanged, &[model]), seconds));
        }
    }
}
