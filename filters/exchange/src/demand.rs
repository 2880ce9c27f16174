//! What is asked of a model, and what it can do: tokens at admission, and what a replica does.
//!
//! A request pays next to nothing for it: what it brings is added up in the worker, and told with the heartbeat. So what is learnt of servers
//! is as old as a tick, and what was admitted in the last tick of a worker that dies is not told.

use hashbrown::HashMap;
use penstock_pending::{Admitted, Figures, Learnt, Ledger, Series};
use penstock_units::{Nanos, Tokens};

use crate::config::Config;
use crate::keys;
use crate::labels;
use crate::metrics::{Metric, Registry};
use crate::port::{Effect, Store};
use crate::want::Want;

/// What serves by a configuration.
pub struct Served {
    all: HashMap<Series, Replica>,
    models: Vec<String>,
    /// Series that nothing was counted of yet are told from zero on.
    is_told: bool,
}

/// What is said of a series' replicas.
struct Replica {
    given: Figures,
    /// What is given, else learnt.
    known: Figures,
}

impl Served {
    /// By this one.
    pub fn new(config: &Config) -> Self {
        let all = config.serving().map(|(model, version)| {
            let [of, name] = labels::served(model, version).map(str::to_owned);
            let given = version.map_or(model.replica, |version| version.replica);
            (Series { model: of, version: name }, Replica { given, known: given })
        });
        let models = config.models.iter().map(|model| labels::model(&model.name).to_owned());
        Self { all: all.collect(), models: models.collect(), is_told: false }
    }

    /// The series, sorted.
    pub fn series(&self) -> Vec<Series> {
        let mut all: Vec<Series> = self.all.keys().cloned().collect();
        all.sort();
        all
    }

    /// What a replica of the series does, as of the last heartbeat.
    pub fn figures(&self, series: &Series) -> Figures {
        self.all.get(series).map(|replica| replica.known).unwrap_or_default()
    }

    /// The heartbeat: tells what was admitted, and adds what was taught to what all workers know.
    pub fn tell(
        &mut self,
        ledger: &mut Ledger,
        [now, tick]: [Nanos; 2],
        store: &mut dyn Store,
        registry: &mut Registry,
        out: &mut Vec<Effect>,
    ) {
        if !core::mem::replace(&mut self.is_told, true) {
            for Series { model, version } in self.all.keys() {
                admitted([model, version], Admitted::default(), true, registry, out);
            }
            for model in &self.models {
                for want in Want::ALL {
                    out.push(Effect::Count(registry.id(Metric::RefusedDemand, &[model, want.label()]), 0));
                }
            }
        }
        for (Series { model, version }, news, lesson) in ledger.news() {
            admitted([model, version], news, false, registry, out);
            if !lesson.is_empty() {
                // Where that is contended the lesson is lost: there are more.
                let _ = store.update(&keys::learnt(model, version), &mut |old| {
                    let known = old.and_then(Learnt::decode).unwrap_or_default();
                    Some(known.heard(lesson.clone(), now, tick).encode())
                });
            }
        }
        for (Series { model, version }, Replica { given, known }) in &mut self.all {
            let Some(learnt) = learnt([model, version], store) else { continue };
            ledger.expect_cached([model, version], learnt.ratio());
            let Figures { prefill, decode } = learnt.figures();
            *known = Figures { prefill: given.prefill.or(prefill), decode: given.decode.or(decode) };
        }
    }
}

/// What was learnt of the servers of a version.
pub fn learnt([model, version]: [&str; 2], store: &mut dyn Store) -> Option<Learnt> {
    store.get(&keys::learnt(model, version)).as_deref().and_then(Learnt::decode)
}

/// Counts what was admitted; also what is nothing, where that `is_new`.
fn admitted([model, version]: [&str; 2], news: Admitted, is_new: bool, registry: &mut Registry, out: &mut Vec<Effect>) {
    let Admitted { prompt, cached, expected } = news;
    for (kind, tokens) in [("prompt", prompt), ("cached", cached), ("expected", expected)] {
        if is_new || tokens > Tokens::ZERO {
            out.push(Effect::Count(registry.id(Metric::Admitted, &[model, version, kind]), tokens.0));
        }
    }
}
