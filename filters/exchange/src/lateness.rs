//! Which versions begin to answer late, by `bounds.ttftMs`, as one worker sees it.
//!
//! Each version that has such a bound has a [`Breaker`], for which a stream whose first token came late is one that failed: so a version is
//! late where more than half of its streams of the last seconds were, and several, and it is preferred again after a second, then two, and so on. As
//! with [`Breakers`](crate::breakers::Breakers), what workers hear is told with the heartbeat.

use penstock_canary::Versions;
use penstock_canary::breaker::{Breaker, State, Told};
use penstock_units::Nanos;

use crate::breakers;
use crate::config::{Config, Model};
use crate::keys;
use crate::labels;
use crate::port::{Effect, Level, Store};

/// The versions of a configuration, in the order of its series.
#[derive(Default)]
pub struct Lateness {
    all: Vec<Option<Kept>>,
    /// Some may be late.
    any: bool,
}

/// One version that has a bound.
struct Kept {
    labels: [String; 2],
    bound: Nanos,
    told: Told,
    breaker: Breaker,
}

impl Lateness {
    /// Those of a configuration.
    pub fn new(config: &Config) -> Self {
        let all = config.serving().map(|(model, version)| {
            let bound = version?.bounds.ttft?;
            let labels = labels::served(model, version).map(str::to_owned);
            Some(Kept { labels, bound, told: Told::default(), breaker: Breaker::default() })
        });
        let all: Vec<Option<Kept>> = all.collect();
        if all.iter().all(Option::is_none) { Self::default() } else { Self { all, any: false } }
    }

    /// Whether some version has a bound.
    pub fn is_kept(&self) -> bool {
        !self.all.is_empty()
    }

    /// Whether a stream of this version that went out then and has no first token would be late.
    pub fn is_overdue(&self, series: usize, sent: Nanos, now: Nanos) -> bool {
        matches!(self.all.get(series), Some(Some(kept)) if now.saturating_sub(sent) > kept.bound)
    }

    /// Whether this version has a bound.
    pub fn looks_at(&self, series: usize) -> bool {
        matches!(self.all.get(series), Some(Some(_)))
    }

    /// After how long a stream of this version had its first token.
    pub fn heard(&mut self, series: usize, ttft: Nanos) {
        let Some(Some(Kept { told, bound, .. })) = self.all.get_mut(series) else { return };
        if ttft > *bound {
            (told.failed, told.failures) = (told.failed.saturating_add(1), told.failures.saturating_add(1));
        } else {
            told.answered = told.answered.saturating_add(1);
        }
    }

    /// The versions of the model that are late.
    pub fn late(&self, model: &Model, now: Nanos) -> Versions {
        if !self.any {
            return Versions::NONE;
        }
        let versions = self.all.iter().skip(model.series).take(model.versions.len()).enumerate();
        let is_late = |kept: &Option<Kept>| kept.as_ref().is_some_and(|kept| kept.is_late(now));
        versions.filter(|(_, kept)| is_late(kept)).fold(Versions::NONE, |late, (at, _)| late.and(Versions::one(at)))
    }

    /// The heartbeat.
    pub fn tick(&mut self, now: Nanos, store: &mut dyn Store, out: &mut Vec<Effect>) {
        self.any = false;
        for kept in self.all.iter_mut().flatten() {
            kept.tell(now, store, out);
            self.any |= kept.is_late(now);
        }
    }
}

impl Kept {
    /// It may be tried by all requests at once: those that find it late again are heard of at the next heartbeat.
    fn is_late(&self, now: Nanos) -> bool {
        matches!(self.breaker.state(now), State::Open { .. })
    }

    fn tell(&mut self, now: Nanos, store: &mut dyn Store, out: &mut Vec<Effect>) {
        let [model, version] = &self.labels;
        let key = keys::lateness(model, version);
        if self.told == Told::default() {
            self.breaker = breakers::read(&key, store);
            return;
        }
        // Where that fails, the next heartbeat tells it.
        let Ok(change) = breakers::tell(&mut self.breaker, &key, self.told, now, store) else { return };
        self.told = Told::default();
        if change == Some(false) {
            let ms = self.bound.0 / 1_000_000;
            let text =
                format!("{model} {version}: first tokens come later than {ms} ms, and it is not preferred for a while");
            out.push(Effect::Log(Level::Info, text));
        }
    }
}
