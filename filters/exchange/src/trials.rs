//! The trials of canaries, as one worker takes part in them.
//!
//! What becomes of requests is gathered in memory, and told with the heartbeat: one update of shared data for each trial, of which there is
//! one for each version behind the first of a model that has a guard, and one more for each category. There the verdict is read as well. So a
//! request pays nothing for it but some additions, and what one worker finds out is in force on all of them one heartbeat later.
//!
//! A worker whose configuration is no longer the newest finds that its trials have another plan by then, and takes no more part in them.

mod shared;

use hashbrown::HashMap;
use penstock_canary::Versions;
use penstock_canary::guard::{Arm, Breach, Outcome, Record, Rules, Signal, Verdict};
use penstock_units::{Millis, Nanos};

use crate::config::{Config, Guard, Mode, Model};
use crate::hash::number;
use crate::keys;
use crate::labels;
use crate::metrics::{Metric, Registry};
use crate::port::{Effect, Level, Store};

use shared::{Changes, Shared};

/// How many records of one trial a worker gathers in a tick; what comes then is not told, whoever served it.
const RECORDS_MAX: usize = 8192;
/// How many canaries of earlier configurations are remembered, to set their gauges to zero.
const GONE_MAX: usize = 1024;
/// How much evidence is shown at most, in percent of what is enough.
const EVIDENCE_MAX: f64 = 1e6;

/// Which request it is, for what is known of it later.
#[derive(Clone, Copy, Debug)]
pub struct Subject {
    /// The place of its model.
    pub model: usize,
    /// The place of its version; the first is the stable one.
    pub version: usize,
    /// The place of its category.
    pub category: Option<usize>,
    /// When it went out.
    pub sent: Nanos,
}

/// The trials of a configuration.
#[derive(Default)]
pub struct Trials {
    all: Vec<Trial>,
    /// Streams whose first token has not come, and when it is late.
    awaited: HashMap<u32, (Nanos, Subject)>,
    /// The versions that are taken back, by the places of their models. Mostly there are none.
    taken_back: HashMap<usize, Versions>,
    /// Canaries of earlier configurations, by model and version.
    gone: Vec<[String; 2]>,
    /// When the weights of a model changed.
    changes: Changes,
    beat: Option<Nanos>,
}

/// One canary against the stable version.
struct Trial {
    model: usize,
    canary: usize,
    category: Option<usize>,
    labels: [String; 2],
    key: String,
    plan: u64,
    shares: u64,
    rules: Rules,
    mode: Mode,
    records: Vec<Record>,
    verdict: Verdict,
    /// By signals, in percent of what is enough.
    evidence: Vec<(Signal, u64)>,
    /// It stands in shared data.
    is_claimed: bool,
    /// Another configuration has one of its own in its place.
    is_over: bool,
}

impl Trials {
    /// Those of a configuration, which is the newest.
    pub fn new(config: &Config, store: &mut dyn Store) -> Self {
        let guarded = config.models.iter().filter_map(|model| Some((model, model.guard.as_ref()?)));
        let mut all: Vec<Trial> = guarded.flat_map(|(model, guard)| Trial::all(model, guard)).collect();
        all.iter_mut().for_each(|trial| trial.claim(store));
        let pairs: Vec<[String; 2]> =
            all.iter().filter(|trial| trial.category.is_none()).map(|trial| trial.labels.clone()).collect();
        let gone = shared::gone(&pairs, GONE_MAX, store);
        for [model, version] in &gone {
            let _ = shared::claim(&keys::guard(model, version, None), 0, 0, store);
        }
        for trial in &mut all {
            // What was taken back stays so, from the first request on; how long it has run does not matter for that.
            trial.read(Nanos::ZERO, store);
        }
        let mut trials = Self { all, gone, changes: Changes::new(config), ..Self::default() };
        trials.take_back();
        trials
    }

    /// The versions of a model that are taken back.
    pub fn taken_back(&self, model: &Model) -> Versions {
        if self.taken_back.is_empty() {
            return Versions::NONE;
        }
        self.taken_back.get(&model.place).copied().unwrap_or_default()
    }

    /// A request goes out. `late`: when its first token will be.
    pub fn sent(&mut self, id: u32, subject: Subject, late: Option<Nanos>) {
        self.record(subject, |arm| Record::sent(arm, subject.sent));
        if let Some(late) = late {
            self.awaited.insert(id, (late, subject));
        }
    }

    /// Its first token is here.
    pub fn first_token(&mut self, id: u32, now: Nanos) {
        if let Some((late, subject)) = self.awaited.remove(&id) {
            self.told(subject, |record| record.outcome(Outcome::Ttft, now > late));
        }
    }

    /// It is over without one.
    pub fn give_up(&mut self, id: u32, now: Nanos) {
        if let Some((late, subject)) = self.awaited.remove(&id)
            && now > late
        {
            self.told(subject, |record| record.outcome(Outcome::Ttft, true));
        }
    }

    /// Something is known of a request.
    pub fn told(&mut self, subject: Subject, what: impl Fn(Record) -> Record) {
        self.record(subject, |arm| what(Record::of(arm, subject.sent)));
    }

    fn record(&mut self, subject: Subject, of: impl Fn(Arm) -> Record) {
        for trial in self.all.iter_mut().filter(|trial| trial.takes(&subject)) {
            let arm = if trial.canary == subject.version { Arm::Canary } else { Arm::Stable };
            if trial.records.len() < RECORDS_MAX {
                trial.records.push(of(arm));
            }
        }
    }

    /// The heartbeat: tells what is known, reads what was found, and shows it. `silence_max`: after how long without one the clock is
    /// believed to have jumped, or the worker to have stood still.
    pub fn tick(
        &mut self,
        [now, silence_max]: [Nanos; 2],
        store: &mut dyn Store,
        registry: &mut Registry,
        out: &mut Vec<Effect>,
    ) {
        let has_jumped = self.beat.replace(now).is_some_and(|beat| now.saturating_sub(beat) > silence_max);
        if has_jumped {
            // How late a first token is cannot be said.
            self.awaited.clear();
        }
        let overdue: Vec<Subject> =
            self.awaited.extract_if(|_, (late, _)| *late < now).map(|(_, (_, subject))| subject).collect();
        overdue.into_iter().for_each(|subject| self.told(subject, |record| record.outcome(Outcome::Ttft, true)));
        for trial in &mut self.all {
            if let Some(breach) = trial.flush(now, store) {
                out.push(Effect::Log(Level::Warn, trial.notice(breach)));
            }
        }
        self.take_back();
        self.show(registry, out);
        self.changes.tell(now, store, registry, out);
    }

    /// Takes back what is found to be worse.
    fn take_back(&mut self) {
        self.taken_back.clear();
        for trial in &self.all {
            if matches!(trial.verdict, Verdict::Breached(_)) && trial.mode == Mode::Enforce {
                let of = self.taken_back.entry(trial.model).or_default();
                *of = of.and(Versions::one(trial.canary));
            }
        }
    }

    fn show(&self, registry: &mut Registry, out: &mut Vec<Effect>) {
        for [model, version] in &self.gone {
            out.push(Effect::Gauge(registry.id(Metric::CanaryState, &[model, version]), 0));
        }
        for trial in self.all.iter().filter(|trial| trial.category.is_none() && !trial.is_over) {
            let is_same = |other: &&Trial| other.model == trial.model && other.canary == trial.canary;
            let verdicts = self.all.iter().filter(is_same).map(|other| other.verdict);
            let worst = verdicts.fold(trial.verdict, |worst, other| match other {
                Verdict::Breached(_) => other,
                _ => worst,
            });
            // Where it is only observed, it goes on.
            let state = match (worst, trial.mode) {
                (Verdict::Breached(_), Mode::Observe) => Verdict::Running,
                _ => worst,
            };
            let [model, version] = &trial.labels;
            out.push(Effect::Gauge(registry.id(Metric::CanaryState, &[model, version]), state.state()));
            for (signal, percent) in &trial.evidence {
                let series = registry.id(Metric::CanaryEvidence, &[model, version, signal.label()]);
                out.push(Effect::Gauge(series, *percent));
            }
        }
    }
}

impl Trial {
    /// Those of a model: of each version behind the first, over all requests and by category.
    fn all(model: &Model, guard: &Guard) -> Vec<Self> {
        let Some((stable, canaries)) = model.versions.split_first() else { return Vec::new() };
        let weights: Vec<(&str, u32)> =
            model.versions.iter().map(|version| (version.name.as_str(), version.weight)).collect();
        let shares = number(&format!("{weights:?}"));
        let categories = guard.category.as_ref();
        let each = categories.into_iter().flat_map(|category| {
            category.values.iter().enumerate().map(|(place, name)| (Some((place, name.as_str())), &category.rules))
        });
        let rules: Vec<(Option<(usize, &str)>, &Rules)> = [(None, &guard.rules)].into_iter().chain(each).collect();
        // Whether what is found is done is no part of what is found.
        let plan_of = Guard { mode: Mode::Enforce, ..guard.clone() };
        let trials = canaries.iter().enumerate().flat_map(|(place, canary)| {
            let labels = [labels::model(&model.name).to_owned(), canary.name.clone()];
            let is_on = canary.weight > 0;
            let versions = [stable, canary].map(|version| (version.name.as_str(), version.model.as_deref()));
            let plan = number(&format!("{versions:?} {is_on} {plan_of:?}"));
            rules.iter().map(move |(category, rules)| Self {
                model: model.place,
                canary: place.saturating_add(1),
                category: category.map(|(place, _)| place),
                key: keys::guard(&labels[0], &labels[1], category.map(|(_, name)| name)),
                labels: labels.clone(),
                plan,
                shares,
                rules: (*rules).clone(),
                mode: guard.mode,
                records: Vec::new(),
                verdict: Verdict::None,
                evidence: Vec::new(),
                is_claimed: false,
                is_over: false,
            })
        });
        trials.collect()
    }

    /// Whether the request says something of it.
    fn takes(&self, subject: &Subject) -> bool {
        let is_compared = subject.version == 0 || subject.version == self.canary;
        let is_of_category = self.category.is_none() || self.category == subject.category;
        self.model == subject.model && is_compared && is_of_category
    }

    fn claim(&mut self, store: &mut dyn Store) {
        self.is_claimed = shared::claim(&self.key, self.plan, self.shares, store);
    }

    /// Reads the verdict.
    fn read(&mut self, now: Nanos, store: &mut dyn Store) {
        let known = shared::read(&self.key, self.plan, now, store).filter(|known| known.plan == self.plan);
        if let Some(Shared { guard, .. }) = known {
            self.verdict = guard.verdict(&self.rules, now);
        }
    }

    /// Tells what was gathered and reads what is known; the breach, where this has brought it.
    fn flush(&mut self, now: Nanos, store: &mut dyn Store) -> Option<Breach> {
        if self.is_over {
            self.records.clear();
            return None;
        }
        if !self.is_claimed {
            // Others kept winning when this was loaded.
            self.claim(store);
            return None;
        }
        let known = shared::read(&self.key, self.plan, now, store);
        let is_behind = known.as_ref().is_some_and(|known| known.shares != self.shares);
        if known.as_ref().is_some_and(|known| known.plan != self.plan) {
            self.is_over = true;
            self.records.clear();
            return None;
        }
        let mut found = None;
        let mut after = known;
        if is_behind {
            self.records.clear();
        } else if !self.records.is_empty() || after.as_ref().is_none_or(|known| known.is_new) {
            let Self { records, rules, plan, shares, key, .. } = self;
            let written = shared::update(key, *plan, *shares, now, store, &mut |guard| {
                let was_running = !matches!(guard.verdict(rules, now), Verdict::Breached(_));
                guard.record(rules, records.iter().copied(), now);
                found = match guard.verdict(rules, now) {
                    Verdict::Breached(breach) if was_running => Some(breach),
                    _ => None,
                };
            });
            match written {
                Some(written) => {
                    self.records.clear();
                    after = Some(written);
                }
                // Others kept winning: the next heartbeat tells it.
                None => found = None,
            }
        }
        if let Some(Shared { guard, .. }) = after {
            self.verdict = guard.verdict(&self.rules, now);
            let percent = |signal| (guard.evidence(&self.rules, signal) * 100.0).min(EVIDENCE_MAX).round() as u64;
            let watched = Signal::ALL.into_iter().filter(|signal| self.rules.watches(*signal));
            self.evidence = watched.map(|signal| (signal, percent(signal))).collect();
        }
        found
    }

    /// What the operator is told of it.
    fn notice(&self, Breach { signal, against, requests }: Breach) -> String {
        let [model, version] = &self.labels;
        let than = match against {
            penstock_canary::guard::Against::Stable => "than the stable version",
            penstock_canary::guard::Against::Ceiling => "than its ceiling allows",
        };
        let of = self.category.map_or_else(String::new, |_| format!(" in one category ({})", self.key));
        let what = format!("worse {than} by its {}{of}, after {requests} of its requests", signal.label());
        match self.mode {
            Mode::Enforce => format!(
                "{model} {version} is rolled back: {what}. Its callers are served by the other versions until it, the stable version or \
                 the guard is changed, or the proxy restarts; set its weight to 0"
            ),
            Mode::Observe => format!("{model} {version} is {what}. It goes on, as guard.mode is observe"),
        }
    }
}

/// Tells the trials of a model at once what becomes known of a request, over all categories.
pub fn tell_now(
    model: &Model,
    subject: Subject,
    of: impl Fn(Arm) -> Record,
    now: Nanos,
    store: &mut dyn Store,
    out: &mut Vec<Effect>,
) {
    let Some(guard) = &model.guard else { return };
    for trial in Trial::all(model, guard).iter().filter(|trial| trial.category.is_none() && trial.takes(&subject)) {
        let arm = if trial.canary == subject.version { Arm::Canary } else { Arm::Stable };
        let mut found = None;
        let written = shared::update(&trial.key, trial.plan, trial.shares, now, store, &mut |guard| {
            let was_running = !matches!(guard.verdict(&trial.rules, now), Verdict::Breached(_));
            guard.record(&trial.rules, [of(arm)], now);
            found = match guard.verdict(&trial.rules, now) {
                Verdict::Breached(breach) if was_running => Some(breach),
                _ => None,
            };
        });
        out.extend(written.and(found).map(|breach| Effect::Log(Level::Warn, trial.notice(breach))));
    }
}

/// When the first token of a stream that goes out now is late.
pub fn late(bound: Millis, now: Nanos) -> Nanos {
    now.saturating_add(bound.to_nanos())
}
