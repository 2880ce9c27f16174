//! The breakers of what serves, as one worker sees them.
//!
//! How requests begin to be answered is told with the heartbeat, by one update for each version of which there is something to tell, and what
//! all workers have heard is read there. So a version that fails is left alone by all workers within two ticks, and a request pays nothing
//! for it but an addition; except that whoever tries a version again says so at once, as one request at a time may.

use hashbrown::HashMap;
use penstock_canary::Versions;
use penstock_canary::breaker::{Breaker, State, Told};
use penstock_units::Nanos;

use crate::config::{Config, Mode, Model};
use crate::keys;
use crate::labels;
use crate::metrics::{Metric, Registry};
use crate::port::{Contended, Effect, Level, Store};

/// The breakers of a configuration, in the order of its series.
#[derive(Default)]
pub struct Breakers {
    all: Vec<Kept>,
    /// Some are of use.
    is_kept: bool,
    /// Some may not be closed.
    any_open: bool,
}

/// Who asks, by the place among those that have a name; all others are one.
type Caller = Option<usize>;

/// What the requests came to since the last heartbeat.
#[derive(Default)]
struct Votes {
    /// Of each caller, how many more were answered than failed.
    balance: HashMap<Caller, i64>,
    failures: u32,
    retry_after: Nanos,
}

impl Votes {
    fn told(&self) -> Told {
        let count = |is: fn(i64) -> bool| {
            let callers = self.balance.values().filter(|balance| is(**balance)).count();
            u32::try_from(callers).unwrap_or(u32::MAX)
        };
        Told {
            answered: count(|balance| balance > 0),
            failed: count(|balance| balance <= 0),
            failures: self.failures,
            retry_after: self.retry_after,
        }
    }
}

/// The breaker of one version, or of a model that has none.
struct Kept {
    labels: [String; 2],
    votes: Votes,
    breaker: Breaker,
    /// Something else may serve instead, so that it is of use.
    is_kept: bool,
    mode: Mode,
}

impl Breakers {
    /// Those of a configuration: of the models that have one, of versions that there are several of, or with a fallback.
    pub fn new(config: &Config) -> Self {
        let all = config.serving().map(|(model, version)| Kept {
            labels: labels::served(model, version).map(str::to_owned),
            votes: Votes::default(),
            breaker: Breaker::default(),
            is_kept: model.breaker.is_some() && (model.versions.len() > 1 || model.fallback.is_some()),
            mode: model.breaker.unwrap_or_default(),
        });
        let all: Vec<Kept> = all.collect();
        Self { is_kept: all.iter().any(|kept| kept.is_kept), all, any_open: false }
    }

    /// Whether there are any.
    pub fn are_kept(&self) -> bool {
        self.is_kept
    }

    /// How a request of a caller began to be answered: `Some` with how long its server asked to be left alone, where that failed.
    pub fn heard(&mut self, series: usize, caller: Caller, failed: Option<Nanos>) {
        let Some(kept) = self.all.get_mut(series).filter(|kept| kept.is_kept) else { return };
        let Votes { balance, failures, retry_after } = &mut kept.votes;
        let balance = balance.entry(caller).or_default();
        match failed {
            None => *balance = balance.saturating_add(1),
            Some(asked) => {
                *balance = balance.saturating_sub(1);
                *failures = failures.saturating_add(1);
                *retry_after = asked.max(*retry_after);
            }
        }
    }

    /// Whether some version may have to be left alone.
    pub fn any_open(&self) -> bool {
        self.any_open
    }

    /// Whether requests may go to this version of the model. Where one may to try, this is it, and it is to go there.
    pub fn lets(&mut self, model: &Model, version: usize, now: Nanos, store: &mut dyn Store) -> bool {
        let Some(kept) = self.all.get_mut(model.series.saturating_add(version)) else { return true };
        match kept.state(now) {
            State::Closed => true,
            State::Open { .. } => false,
            State::Try => kept.tries(now, store),
        }
    }

    /// Whether nothing is known against a request to this version: it is not left alone, or may be tried.
    pub fn may(&self, model: &Model, version: usize, now: Nanos) -> bool {
        let kept = self.all.get(model.series.saturating_add(version));
        kept.is_none_or(|kept| !matches!(kept.state(now), State::Open { .. }))
    }

    /// The versions of the model that are to be left alone.
    pub fn left_alone(&self, model: &Model, now: Nanos) -> Versions {
        if !self.any_open {
            return Versions::NONE;
        }
        let versions = self.all.iter().skip(model.series).take(model.versions.len().max(1));
        let open = versions.enumerate().filter(|(_, kept)| kept.state(now) != State::Closed);
        open.fold(Versions::NONE, |open, (version, _)| open.and(Versions::one(version)))
    }

    /// The heartbeat. `tells`: this plugin's requests are heard of.
    pub fn tick(
        &mut self,
        tells: bool,
        now: Nanos,
        store: &mut dyn Store,
        registry: &mut Registry,
        out: &mut Vec<Effect>,
    ) {
        self.any_open = false;
        for kept in self.all.iter_mut().filter(|kept| kept.is_kept) {
            kept.tell(now, store, out);
            let is_open = kept.breaker.state(now) != State::Closed;
            self.any_open |= is_open;
            if tells {
                let [model, version] = &kept.labels;
                out.push(Effect::Gauge(registry.id(Metric::BreakerOpen, &[model, version]), u64::from(is_open)));
            }
        }
    }
}

impl Kept {
    fn state(&self, now: Nanos) -> State {
        match self.mode {
            Mode::Enforce => self.breaker.state(now),
            Mode::Observe => State::Closed,
        }
    }

    fn key(&self) -> String {
        let [model, version] = &self.labels;
        keys::breaker(model, version)
    }

    /// Whether this request is the one that tries.
    fn tries(&mut self, now: Nanos, store: &mut dyn Store) -> bool {
        let mut tries = false;
        let key = self.key();
        let updated = store.update(&key, &mut |old| {
            let mut breaker = old.and_then(Breaker::decode).unwrap_or_default();
            tries = breaker.state(now) == State::Try;
            breaker.tried(now);
            self.breaker = breaker;
            tries.then(|| breaker.encode())
        });
        // Somebody else's answer may have closed it.
        (tries && updated.is_ok()) || self.breaker.state(now) == State::Closed
    }

    fn tell(&mut self, now: Nanos, store: &mut dyn Store, out: &mut Vec<Effect>) {
        let key = self.key();
        let told = self.votes.told();
        if told == Told::default() {
            self.breaker = read(&key, store);
            return;
        }
        // Where that fails, the next heartbeat tells it.
        let Ok(change) = tell(&mut self.breaker, &key, told, now, store) else { return };
        self.votes = Votes::default();
        let name = self.labels.join(" ");
        match change {
            Some(true) => out.push(Effect::Log(Level::Info, format!("{name} answers again"))),
            Some(false) if self.mode == Mode::Enforce => {
                let text =
                    format!("{name} fails, and is left alone for a while, where something else serves its model");
                out.push(Effect::Log(Level::Warn, text));
            }
            Some(false) => {
                out.push(Effect::Log(Level::Warn, format!("{name} fails. It goes on, as breaker.mode is observe")));
            }
            None => {}
        }
    }
}

/// What all workers have heard, by this key.
pub fn read(key: &str, store: &mut dyn Store) -> Breaker {
    store.get(key).as_deref().and_then(Breaker::decode).unwrap_or_default()
}

/// Tells all workers what this one saw, and sets the breaker to what all have heard then; whether that closed it, or else opened it.
///
/// # Errors
/// Where others kept winning: nothing is told, and the breaker is as it was.
pub fn tell(
    breaker: &mut Breaker,
    key: &str,
    told: Told,
    now: Nanos,
    store: &mut dyn Store,
) -> Result<Option<bool>, Contended> {
    let (mut heard, mut change) = (*breaker, None);
    store.update(key, &mut |old| {
        heard = old.and_then(Breaker::decode).unwrap_or_default();
        let was_closed = heard.state(now) == State::Closed;
        heard.heard(told, now);
        let is_closed = heard.state(now) == State::Closed;
        change = (was_closed != is_closed).then_some(is_closed);
        Some(heard.encode())
    })?;
    *breaker = heard;
    Ok(change)
}
