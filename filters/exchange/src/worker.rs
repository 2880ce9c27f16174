//! What the exchanges of one VM share, and the heartbeat.

use std::rc::Rc;

use hashbrown::HashMap;
use penstock_bucket::permit::Holder;
use penstock_pending::gate::Gate;
use penstock_pending::slot::{OTHER, ROWS_MAX, SLOTS, Slot};
use penstock_pending::{Ledger, Series, Sum};
use penstock_units::Nanos;

use crate::breakers::Breakers;
use crate::clock::Clock;
use crate::config::Config;
use crate::demand::Served;
use crate::finished::Finished;
use crate::hash::Secret;
use crate::keys;
use crate::labels;
use crate::lateness::Lateness;
use crate::limits::shown::Shown;
use crate::limits::{Books, Permits, concurrency};
use crate::metrics::{Metric, Registry, SeriesId};
use crate::overflow::{Overflow, Table};
use crate::places::Places;
use crate::port::{Effect, Level, Store};
use crate::redirect;
use crate::refused::Refused;
use crate::stage::order::{Plugin, Stage};
use crate::trials::Trials;
use crate::waiting::Waiting;

/// A slot that was silent for this long no longer counts, in ticks.
const SILENCE_TICKS: u64 = 6;
/// A slot that was silent for this many times that long may be taken over.
const TAKEOVER: u64 = 4;

/// What became of a stream here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handling {
    /// It was read and counted, and went on.
    Counted,
    /// It was refused here, or by a plugin behind this one.
    Refused,
    /// It was answered here: a count, or a list of models.
    Answered,
    /// It went on unread.
    Passed,
    /// It was counted although a filter in front of this one had counted it.
    Again,
}

impl Handling {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Counted, Self::Refused, Self::Answered, Self::Passed, Self::Again];

    /// As a label value.
    pub fn label(self) -> &'static str {
        match self {
            Self::Counted => "counted",
            Self::Refused => "refused",
            Self::Answered => "answered",
            Self::Passed => "passed",
            Self::Again => "again",
        }
    }
}

/// One VM's share of the work.
pub struct Worker {
    /// The configuration in force.
    pub config: Rc<Config>,
    /// Which plugin it runs.
    pub plugin: Plugin,
    /// What is in flight here.
    pub ledger: Ledger,
    pub(crate) secret: Secret,
    pub(crate) waiting: Waiting,
    /// Who was refused a moment ago.
    pub(crate) refused: Refused,
    /// The metrics that it has used.
    pub series: Registry,
    clock: Clock,
    permits: Permits,
    shown: Shown,
    owner: u64,
    slot: Option<u32>,
    load_slot: Option<u32>,
    /// Billionths of a dollar that were not yet worth a millionth, by the costs that they belong to.
    carry: HashMap<SeriesId, u64>,
    /// Exchanges between two passes of their request, by number.
    pub(crate) redirected: redirect::Waiting,
    /// The operator has been told that a host is served by a virtual host of another name.
    pub(crate) told_of_host: bool,
    /// Whether what serves is there, by [`crate::config::ColdStart::gate`].
    pub(crate) gates: Vec<Gate>,
    /// Whose requests wait in front of them.
    pub(crate) places: Places,
    /// The operator has been told that a cold start holds nothing here.
    pub(crate) told_of_unheld: bool,
    /// The operator has been told what is wrong with a cold start.
    pub(crate) told_of_probe: bool,
    /// The operator has been told that there is no route for a version.
    pub(crate) told_of_route: bool,
    /// Streams are counted from zero on.
    shows_streams: bool,
    /// Their series, by what became of them.
    streams: [Option<SeriesId>; Handling::ALL.len()],
    said_again: bool,
    /// Tables that were full.
    pub(crate) overflow: Overflow,
    /// Series that are no longer set, and are to be zero from now on.
    gone: Vec<(Series, Sum)>,
    /// What serves by its configuration.
    pub(crate) served: Served,
    /// Which versions fail.
    pub(crate) breakers: Breakers,
    /// Which versions begin late.
    pub(crate) lateness: Lateness,
    /// Why answers ended.
    pub(crate) finished: Finished,
    /// What is known of canaries.
    pub(crate) trials: Trials,
}

impl Worker {
    /// A worker with a configuration. `entropy` tells it from all others.
    pub fn new(config: Config, plugin: Plugin, entropy: [u64; 3], store: &mut dyn Store) -> Self {
        let [owner, a, b] = entropy;
        let mut secret = Secret::default();
        let _ = store.update(keys::SECRET, &mut |old| match old.and_then(|old| <[u8; 16]>::try_from(old).ok()) {
            Some(known) => {
                secret = Secret(known);
                None
            }
            None => {
                secret = Secret((u128::from(a) << 64 | u128::from(b)).to_le_bytes());
                Some(secret.0.to_vec())
            }
        });
        let waiting = Waiting::new(config.wait_for_body, store);
        let mut clock = Clock::default();
        clock.refresh(store);
        let trials = if plugin.owns(Stage::Route) { Trials::new(&config, store) } else { Trials::default() };
        let draws = plugin.owns(Stage::Route) || plugin.owns(Stage::Admit);
        let breakers = if draws { Breakers::new(&config) } else { Breakers::default() };
        let lateness = if draws { Lateness::new(&config) } else { Lateness::default() };
        let finished = if plugin.owns(Stage::Count) { Finished::new(&config) } else { Finished::default() };
        let config = Rc::new(config);
        let mut worker = Self {
            waiting,
            clock,
            served: Served::new(&config),
            gates: (0..config.gates).map(|_| Gate::default()).collect(),
            config,
            plugin,
            series: Registry::default(),
            ledger: Ledger::default(),
            secret,
            refused: Refused::default(),
            owner: owner.max(1),
            slot: None,
            load_slot: None,
            permits: Permits::new(),
            shown: Shown::default(),
            carry: HashMap::new(),
            redirected: redirect::Waiting::default(),
            told_of_host: false,
            places: Places::default(),
            told_of_unheld: false,
            told_of_probe: false,
            told_of_route: false,
            shows_streams: false,
            streams: [None; Handling::ALL.len()],
            said_again: false,
            overflow: Overflow::default(),
            gone: Vec::new(),
            breakers,
            lateness,
            finished,
            trials,
        };
        if plugin.owns(Stage::Pending) {
            worker.register(store);
        }
        worker
    }

    /// The time, where the system's clock says `wall`: it does not go back.
    pub fn time(&mut self, wall: Nanos, store: &mut dyn Store) -> Nanos {
        self.clock.read(wall, store)
    }

    /// After how many ticks without a body headers that are held are to be let go.
    pub(crate) fn patience(&self) -> Option<u64> {
        self.waiting.patience(self.config.tick)
    }

    /// Whole millionths of a dollar out of `nano` billionths and what earlier calls left over.
    pub(crate) fn microdollars(&mut self, cost: SeriesId, nano: u64) -> u64 {
        let carry = self.carry.entry(cost).or_insert(0);
        let all = carry.saturating_add(nano);
        *carry = all % 1000;
        all / 1000
    }

    /// Every series that this process ever showed stays in a list, so that each keeps being set: a gauge of a model that
    /// the next configuration does not have goes to zero and not stale. Where there are too many, those of earlier configurations go, and
    /// are set to zero once more.
    fn register(&mut self, store: &mut dyn Store) {
        let series = self.served.series();
        let gone = &mut self.gone;
        let _ = store.update(keys::SERIES, &mut |old| {
            let mut list = old.and_then(Slot::decode).unwrap_or_default();
            list.add(&series);
            gone.clear();
            if list.rows.len() > ROWS_MAX {
                let (kept, rest) = list.rows.drain(..).partition(|(known, _)| series.contains(known));
                list.rows = kept;
                gone.extend(rest);
            }
            Some(list.encode())
        });
    }

    /// Where limits keep their books.
    pub(crate) fn books<'a>(&'a mut self, now: Nanos, store: &'a mut dyn Store) -> Books<'a> {
        let holder = Holder { owner: self.owner, now, silence_max: self.silence_max() };
        let Self { permits, shown, overflow, .. } = self;
        Books { store, permits, holder, shown, overflow }
    }

    /// How long a worker may be silent before what it holds no longer counts.
    pub(crate) fn silence_max(&self) -> Nanos {
        self.config.tick.to_nanos().saturating_mul(SILENCE_TICKS)
    }

    /// Whether it has written this.
    pub(crate) fn is_own(&self, slot: &Slot) -> bool {
        slot.owner == self.owner
    }

    /// The heartbeat: repeats what this worker holds, sets the gauges, and tells of tables that were full.
    pub fn tick(&mut self, now: Nanos, store: &mut dyn Store, out: &mut Vec<Effect>) {
        self.waiting.refresh(now, store);
        self.clock.refresh(store);
        concurrency::beat(&mut self.books(now, store));
        if self.plugin.owns(Stage::Limit) {
            self.shown.tell(now, self.config.tick.to_nanos(), store, &mut self.series, &mut self.overflow, out);
        }
        if self.plugin.owns(Stage::Pending) {
            self.tell_pending(now, store, out);
        }
        let silence_max = self.silence_max();
        self.trials.tick([now, silence_max], store, &mut self.series, out);
        self.lateness.tick(now, store, out);
        self.breakers.tick(self.plugin.owns(Stage::Route), now, store, &mut self.series, out);
        if self.plugin.owns(Stage::Count) {
            self.finished.tell(&self.config, &mut self.series, out);
        }
        if let Some(waits) = self.waiting.shown() {
            out.push(Effect::Gauge(self.series.id(Metric::HeadersWait, &[]), u64::from(waits)));
        }
        if !core::mem::replace(&mut self.shows_streams, true) {
            // A counter that was never counted would look like one that is not there.
            for handling in Handling::ALL {
                out.push(Effect::Count(self.streams(handling), 0));
            }
        }
        self.overflow.tell(out);
    }

    /// The series of streams with which this was done.
    pub(crate) fn streams(&mut self, handling: Handling) -> SeriesId {
        let place = handling as usize;
        if let Some(Some(known)) = self.streams.get(place) {
            return *known;
        }
        let id = self.series.id(Metric::Streams, &[handling.label()]);
        if let Some(place) = self.streams.get_mut(place) {
            *place = Some(id);
        }
        id
    }

    /// A request was counted here that a filter in front had counted: in a row of plugins only the first does.
    pub(crate) fn counted_again(&mut self, out: &mut Vec<Effect>) {
        out.push(Effect::Count(self.streams(Handling::Again), 1));
        if !core::mem::replace(&mut self.said_again, true) {
            let text = "two Penstock filters of this chain count the same requests, and each charges them; remove one \
                        (on Istio: either the WasmPlugin or the TrafficExtension)";
            out.push(Effect::Log(Level::Warn, text.to_owned()));
        }
    }

    /// Writes this worker's sums into its slot and sets every gauge to the sum over the slots that live.
    fn tell_pending(&mut self, now: Nanos, store: &mut dyn Store, out: &mut Vec<Effect>) {
        let silence_max = self.silence_max();
        let own = self.own_slot(now, self.ledger.sums());
        if !self.slot.is_some_and(|slot| self.write(&keys::pending(slot), &own, silence_max, store)) {
            self.slot = (0..SLOTS).find(|slot| self.write(&keys::pending(*slot), &own, silence_max, store));
            if self.slot.is_none() {
                self.overflow.note(Table::Workers);
            }
        }
        self.tell_load(now, store);
        let mut totals = store.get(keys::SERIES).as_deref().and_then(Slot::decode).unwrap_or_default().rows;
        let slots: Vec<Slot> = self.slots(keys::pending, now, store).collect();
        for slot in slots {
            for (series, sum) in slot.rows {
                // One that has no row here, or none there, is among the others: nothing that is pending goes unseen.
                let is = |model: &str, version: &str| {
                    totals.iter().position(|(known, _)| known.model == model && known.version == version)
                };
                let place = is(&series.model, &series.version).or_else(|| is(&series.model, OTHER));
                // Of a model that is split, what went before a version could be drawn has a series of its own once there is any.
                let is_model = |(known, _): &(Series, Sum)| known.model == series.model;
                let is_undrawn =
                    series.version == labels::UNSPLIT && totals.len() < ROWS_MAX && totals.iter().any(is_model);
                let [model, version] =
                    if is_undrawn { [&series.model, &series.version].map(String::as_str) } else { [OTHER; 2] };
                match place.or_else(|| is(model, version)).and_then(|at| totals.get_mut(at)) {
                    Some((_, total)) => total.add(sum),
                    None => {
                        let other = Series { model: model.to_owned(), version: version.to_owned() };
                        let _ = store.update(keys::SERIES, &mut |old| {
                            let mut list = old.and_then(Slot::decode).unwrap_or_default();
                            list.add(core::slice::from_ref(&other));
                            Some(list.encode())
                        });
                        totals.push((other, sum));
                    }
                }
            }
        }
        let times = [now, self.config.tick.to_nanos()];
        self.served.tell(&mut self.ledger, times, store, &mut self.series, out);
        for (series, sum) in core::mem::take(&mut self.gone).into_iter().chain(totals) {
            let replica = self.served.figures(&series);
            let Series { model, version } = series;
            for (phase, tokens) in [("prefill", sum.prefill), ("decode", sum.decode)] {
                let series = self.series.id(Metric::PendingTokens, &[&model, &version, phase]);
                out.push(Effect::Gauge(series, tokens.0));
            }
            let waited = sum.since.map_or(0, |since| now.saturating_sub(since).to_millis().0);
            for (metric, value) in [
                (Metric::PendingRequests, sum.requests),
                (Metric::PendingCached, sum.cached.0),
                (Metric::OldestWait, waited),
                (Metric::ReplicaPrefill, replica.prefill.unwrap_or(0)),
                (Metric::ReplicaDecode, replica.decode.unwrap_or(0)),
            ] {
                out.push(Effect::Gauge(self.series.id(metric, &[&model, &version]), value));
            }
        }
    }

    /// Says what the tenants hold of the models that have a ceiling, and of the places in front of versions that may have no server.
    pub(crate) fn tell_load(&mut self, now: Nanos, store: &mut dyn Store) {
        let config = self.config.clone();
        let with_ceiling = config.models.iter().filter(|model| model.ceiling.is_some());
        let labels: Vec<&str> = with_ceiling.map(|model| labels::model(&model.name)).collect();
        if labels.is_empty() && config.gates == 0 {
            return;
        }
        let has_ceiling = |label: &str| labels.contains(&label);
        let mut rows = self.ledger.holdings(has_ceiling);
        rows.extend(self.places.rows());
        let own = self.own_slot(now, rows);
        let silence_max = self.silence_max();
        if !self.load_slot.is_some_and(|slot| self.write(&keys::load(slot), &own, silence_max, store)) {
            self.load_slot = (0..SLOTS).find(|slot| self.write(&keys::load(*slot), &own, silence_max, store));
        }
    }

    /// What each tenant holds of what has this name, over all workers that live.
    pub(crate) fn loads(&self, name: &str, now: Nanos, store: &mut dyn Store) -> HashMap<String, Sum> {
        let mut held: HashMap<String, Sum> = HashMap::new();
        for slot in self.slots(keys::load, now, store) {
            // The tenant stands in the place of the version.
            for (Series { model, version }, sum) in slot.rows {
                if model == name {
                    held.entry(version).or_default().add(sum);
                }
            }
        }
        held
    }

    /// What the workers that live say, each in a slot of its own.
    pub(crate) fn slots<'s>(
        &self,
        key: fn(u32) -> String,
        now: Nanos,
        store: &'s mut dyn Store,
    ) -> impl Iterator<Item = Slot> + use<'s> {
        let silence_max = self.silence_max();
        let written = (0..SLOTS).map_while(move |slot| store.get(&key(slot)));
        written.filter_map(|bytes| Slot::decode(&bytes)).filter(move |slot| slot.lives(now, silence_max))
    }

    /// What this worker says of itself, as far as there is room for it.
    fn own_slot(&mut self, beat: Nanos, rows: Vec<(Series, Sum)>) -> Slot {
        if rows.len() > ROWS_MAX {
            self.overflow.note(Table::Rows);
        }
        Slot { owner: self.owner, beat, rows }
    }

    /// Writes a slot if it is this worker's, or nobody's for long enough.
    fn write(&self, key: &str, own: &Slot, silence_max: Nanos, store: &mut dyn Store) -> bool {
        let mut mine = false;
        let written = store.update(key, &mut |old| {
            let other = old.and_then(Slot::decode).filter(|old| old.owner != self.owner);
            mine = !other.is_some_and(|other| other.lives(own.beat, silence_max.saturating_mul(TAKEOVER)));
            mine.then(|| own.encode())
        });
        mine && written.is_ok()
    }
}
