//! What is asked of a model, and what it can do: tokens at admission, demand that failed for want of capacity, and what a replica does.
//!
//! A request pays next to nothing for it: what it brings is added up in the worker, and told with the heartbeat. So what is learnt of servers
//! is as old as a tick, and what was admitted in the last tick of a worker that dies is not told.

use hashbrown::HashMap;
use penstock_pending::{Admitted, Figures, Learnt, Ledger, Series};
use penstock_units::{Nanos, Tokens};

use crate::config::Config;
use crate::facts::Facts;
use crate::keys;
use crate::labels;
use crate::metrics::{Metric, Registry};
use crate::port::{Effect, Store};
use crate::world::World;

/// Why demand failed for want of capacity. What a limit, a suspension or an identity refuses is none, whatever it costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// The model had no room, by its ceiling or by the proxy's circuit breakers.
    Room,
    /// The proxy had no host for it, or none that takes connections.
    Backend,
}

impl Want {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Room, Self::Backend];

    /// As a label value.
    pub fn label(self) -> &'static str {
        match self {
            Self::Room => "shed",
            Self::Backend => "no_backend",
        }
    }

    /// What Envoy's details of a response of its own say (`source/common/stream_info/utility.h` and the router's `onUpstreamReset`); of
    /// others than these, nothing. A route that is not there is a mistake, and no want.
    pub fn of(details: &[u8]) -> Option<Self> {
        const RESET: &[u8] = b"upstream_reset_before_response_started{";
        match details {
            b"no_healthy_upstream" | b"cluster_not_found" => Some(Self::Backend),
            _ => {
                let why = details.strip_prefix(RESET)?;
                let is = |what: &[u8]| why.starts_with(what);
                if is(b"overflow") {
                    Some(Self::Room)
                } else {
                    let fails: [&[u8]; 4] = [
                        b"remote_connection_failure",
                        b"local_connection_failure",
                        b"connection_failure",
                        b"connection_timeout",
                    ];
                    fails.into_iter().any(is).then_some(Self::Backend)
                }
            }
        }
    }
}

/// The request failed for want of capacity of what would have served it: what it would have been is counted.
pub fn refused([model, version]: [&str; 2], want: Want, facts: &Facts, world: &mut World<'_>) {
    let known = learnt([model, version], world.store);
    let cached = known.map_or(Tokens::ZERO, |known| known.ratio().of(facts.prompt_tokens));
    let tokens = facts.prompt_tokens.saturating_sub(cached).saturating_add(facts.expected_output);
    if tokens > Tokens::ZERO {
        let series = world.worker.series.id(Metric::RefusedDemand, &[model, want.label()]);
        world.out.push(Effect::Count(series, tokens.0));
    }
}

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
        let all = config.models.iter().flat_map(|model| {
            let series = |version: Option<&str>| Series {
                model: labels::model(&model.name).to_owned(),
                version: labels::version(version).to_owned(),
            };
            let replica = |given| Replica { given, known: given };
            let unsplit = model.versions.is_empty().then(|| (series(None), replica(model.replica)));
            let versions = model.versions.iter();
            versions.map(move |version| (series(Some(&version.name)), replica(version.replica))).chain(unsplit)
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
fn learnt([model, version]: [&str; 2], store: &mut dyn Store) -> Option<Learnt> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_had_no_host_or_no_room_is_a_want() {
        let reset = "upstream_reset_before_response_started";
        for (details, want) in [
            ("no_healthy_upstream".to_owned(), Some(Want::Backend)),
            ("cluster_not_found".to_owned(), Some(Want::Backend)),
            (
                format!("{reset}{{remote_connection_failure|delayed_connect_error:_Connection_refused}}"),
                Some(Want::Backend),
            ),
            (format!("{reset}{{connection_timeout}}"), Some(Want::Backend)),
            (format!("{reset}{{overflow}}"), Some(Want::Room)),
            (format!("{reset}{{connection_termination}}"), None),
            (format!("{reset}{{protocol_error}}"), None),
            ("route_not_found".to_owned(), None),
            ("response_timeout".to_owned(), None),
            ("via_upstream".to_owned(), None),
            ("downstream_remote_disconnect".to_owned(), None),
            (String::new(), None),
        ] {
            assert_eq!(Want::of(details.as_bytes()), want, "{details}");
        }
    }
}
