//! A simulated proxy: workers over one store, with a clock that tests move.

#![allow(dead_code, reason = "each file of tests uses a part of it")]
#![allow(clippy::disallowed_types, reason = "what runs in tests may use the standard maps")]

use std::collections::HashMap;
use std::mem::{swap, take};

use penstock_exchange::{
    Change, Config, Contended, Effect, Event, Exchange, Facts, Headers, Labels, Metric, Plugin, Properties, Store,
    Worker, World,
};
use penstock_units::Nanos;

pub const SECOND: u64 = 1_000_000_000;

/// The store as a map. `busy` makes that many attempts of every update fail.
#[derive(Default)]
pub struct Map {
    pub values: HashMap<String, Vec<u8>>,
    pub busy: bool,
    /// How often it was asked.
    pub calls: usize,
}

impl Store for Map {
    fn get(&mut self, key: &str) -> Option<Vec<u8>> {
        self.calls += 1;
        self.values.get(key).cloned()
    }

    fn update(&mut self, key: &str, change: Change<'_>) -> Result<u32, Contended> {
        self.calls += 1;
        if self.busy {
            return Err(Contended);
        }
        if let Some(new) = change(self.values.get(key).map(Vec::as_slice)) {
            self.values.insert(key.to_owned(), new);
        }
        Ok(0)
    }
}

#[derive(Default)]
pub struct Props(pub HashMap<String, Vec<u8>>, pub Vec<u8>);

impl Properties for Props {
    fn get(&self, path: &[&str]) -> Option<Vec<u8>> {
        self.0.get(&path.join(".")).cloned()
    }

    fn body(&self, part: std::ops::Range<usize>) -> Option<Vec<u8>> {
        // Proxies give what there is.
        self.1.get(part.start..part.end.min(self.1.len())).map(<[u8]>::to_vec)
    }
}

/// One process with a worker.
pub struct Proxy {
    pub now: u64,
    pub store: Map,
    pub worker: Worker,
    next: u32,
}

/// One request in flight.
pub struct Flight {
    pub exchange: Exchange,
    pub props: Props,
    pub seen: Vec<Effect>,
    counts: Vec<(Metric, Labels, u64)>,
    observations: Vec<(Metric, Labels, u64)>,
}

impl Proxy {
    pub fn new(config: &str) -> Self {
        Self::with(config, Plugin::Penstock)
    }

    pub fn with(config: &str, plugin: Plugin) -> Self {
        Self::of(config, plugin, Map::default(), 7)
    }

    /// Another worker of the process that this store belongs to, or one with another configuration.
    pub fn beside(config: &str, store: Map, owner: u64) -> Self {
        Self::of(config, Plugin::Penstock, store, owner)
    }

    fn of(config: &str, plugin: Plugin, mut store: Map, owner: u64) -> Self {
        let config = Config::parse(config.as_bytes()).unwrap();
        let worker = Worker::new(config, plugin, [owner, 8, 9], &mut store);
        Self { now: 1_700_000_000 * SECOND, store, worker, next: 0 }
    }

    pub fn open(&mut self) -> Flight {
        self.next += 1;
        let exchange = Exchange::new(self.next, self.worker.config.clone());
        Flight { exchange, props: Props::default(), seen: Vec::new(), counts: Vec::new(), observations: Vec::new() }
    }

    /// Feeds one event; returns what it brought.
    pub fn tell(&mut self, flight: &mut Flight, event: Event<'_>) -> Vec<Effect> {
        let entropy = u64::from(self.next).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut out = Vec::new();
        let mut world = World {
            now: self.worker.time(Nanos(self.now), &mut self.store),
            entropy: &|| entropy,
            store: &mut self.store,
            properties: &flight.props,
            worker: &mut self.worker,
            out: &mut out,
        };
        flight.exchange.on(event, &mut world);
        for effect in &out {
            match effect {
                Effect::Publish(facts) => {
                    flight.props.0.insert("filter_state.wasm.penstock.exchange".into(), facts.clone());
                }
                Effect::Count(id, by) | Effect::Observe(id, by) => {
                    let (metric, labels) = self.worker.series.series(*id).unwrap();
                    let list = match effect {
                        Effect::Count(..) => &mut flight.counts,
                        _ => &mut flight.observations,
                    };
                    list.push((metric, labels.clone(), *by));
                }
                _ => {}
            }
        }
        flight.seen.extend(out.iter().cloned());
        out
    }

    /// Sends a chat request with a body in one piece.
    pub fn chat(&mut self, headers: &[(&str, &str)], body: &str) -> Flight {
        let mut flight = self.open();
        self.send_with(&mut flight, headers, body);
        flight
    }

    /// The same, of one that was opened by itself.
    pub fn send(&mut self, flight: &mut Flight, body: &str) {
        self.send_with(flight, &[], body);
    }

    /// The same, with these headers.
    pub fn send_with(&mut self, flight: &mut Flight, headers: &[(&str, &str)], body: impl AsRef<[u8]>) {
        let body = body.as_ref();
        let mut all: Headers =
            vec![(":method".into(), b"POST".to_vec()), (":path".into(), b"/v1/chat/completions".to_vec())];
        all.extend(headers.iter().map(|(name, value)| ((*name).into(), value.as_bytes().to_vec())));
        self.tell(flight, Event::RequestHead { headers: &all, end: false });
        if flight.exchange.is_holding() {
            flight.props.1 = body.to_vec();
            self.tell(flight, Event::RequestChunk { bytes: body, end: true });
        }
    }

    /// Answers a request that was let go with a JSON body.
    pub fn answer(&mut self, flight: &mut Flight, status: u16, body: &str) {
        let headers = vec![
            (":status".into(), status.to_string().into_bytes()),
            ("content-type".into(), b"application/json".to_vec()),
        ];
        self.tell(flight, Event::ResponseHead { headers: &headers, end: false });
        self.tell(flight, Event::ResponseChunk { bytes: body.as_bytes(), end: true });
        self.close(flight);
    }

    pub fn close(&mut self, flight: &mut Flight) {
        self.tell(flight, Event::Closed);
    }

    /// Its configuration ends.
    pub fn end(&mut self) {
        let mut world = World {
            now: self.worker.time(Nanos(self.now), &mut self.store),
            entropy: &|| 0,
            store: &mut self.store,
            properties: &Props::default(),
            worker: &mut self.worker,
            out: &mut Vec::new(),
        };
        Exchange::settle_waiting(&mut world);
    }

    /// What a tick brings.
    pub fn tick(&mut self) -> Vec<Effect> {
        let mut out = Vec::new();
        let now = self.worker.time(Nanos(self.now), &mut self.store);
        let mut world = World {
            now,
            entropy: &|| 0,
            store: &mut self.store,
            properties: &Props::default(),
            worker: &mut self.worker,
            out: &mut out,
        };
        Exchange::settle_late(&mut world);
        self.worker.tick(now, &mut self.store, &mut out);
        out
    }

    /// What the gauges are set to by a tick.
    pub fn gauges(&mut self) -> HashMap<(Metric, Labels), u64> {
        self.tick()
            .into_iter()
            .filter_map(|effect| match effect {
                Effect::Gauge(id, value) => {
                    let (metric, labels) = self.worker.series.series(id).unwrap();
                    Some(((metric, labels.clone()), value))
                }
                _ => None,
            })
            .collect()
    }
}

impl Flight {
    pub fn reply(&self) -> Option<(u32, HashMap<&'static str, String>, serde_json::Value)> {
        self.seen.iter().find_map(|effect| match effect {
            Effect::Reply { status, headers, body } => {
                Some((*status, headers.iter().cloned().collect(), serde_json::from_slice(body).unwrap()))
            }
            _ => None,
        })
    }

    pub fn went(&self) -> bool {
        self.seen.contains(&Effect::Resume)
    }

    pub fn facts(&self) -> Facts {
        let published = self.seen.iter().rev().find_map(|effect| match effect {
            Effect::Publish(facts) => Facts::decode(facts),
            _ => None,
        });
        published.unwrap()
    }

    pub fn response_header(&self, name: &str) -> Option<String> {
        self.seen.iter().find_map(|effect| match effect {
            Effect::ResponseHeader(known, value) if *known == name => Some(String::from_utf8(value.clone()).unwrap()),
            _ => None,
        })
    }

    /// All that was done for it but holding, letting go and publishing, with its series by name.
    pub fn said(&self) -> Vec<String> {
        let kept = |effect: &&Effect| {
            use Effect::{Count, Observe, Pause, Publish, Resume};
            !matches!(effect, Pause | Resume | Publish(_) | Count(..) | Observe(..))
        };
        let effects = self.seen.iter().filter(kept).map(|effect| format!("{effect:?}"));
        let series = self.counts.iter().chain(&self.observations).map(|series| format!("{series:?}"));
        effects.chain(series).collect()
    }

    pub fn counted(&self, metric: Metric) -> Vec<(Labels, u64)> {
        Self::of(&self.counts, metric)
    }

    pub fn observed(&self, metric: Metric) -> Vec<(Labels, u64)> {
        Self::of(&self.observations, metric)
    }

    fn of(list: &[(Metric, Labels, u64)], metric: Metric) -> Vec<(Labels, u64)> {
        list.iter().filter(|(known, ..)| *known == metric).map(|(_, labels, by)| (labels.clone(), *by)).collect()
    }
}

/// Workers over one store.
pub struct Process {
    pub store: Map,
    pub workers: Vec<Proxy>,
    pub now: u64,
}

impl Process {
    pub fn new(config: &str, workers: u64) -> Self {
        let mut process = Self { store: Map::default(), workers: Vec::new(), now: 1_700_000_000 * SECOND };
        process.load(config, workers);
        process
    }

    /// Another configuration: its workers take the place of those that are there, which are returned.
    pub fn load(&mut self, config: &str, workers: u64) -> Vec<Proxy> {
        let before = take(&mut self.workers);
        for owner in 0..workers {
            let mut proxy = Proxy::beside(config, take(&mut self.store), owner + 1);
            swap(&mut self.store, &mut proxy.store);
            self.workers.push(proxy);
        }
        before
    }

    pub fn on<R>(&mut self, worker: usize, act: impl FnOnce(&mut Proxy) -> R) -> R {
        let proxy = &mut self.workers[worker];
        proxy.now = self.now;
        swap(&mut self.store, &mut proxy.store);
        let result = act(proxy);
        swap(&mut self.store, &mut proxy.store);
        result
    }
}
