//! A proxy with one worker, as far as the filters see one: it feeds events, and keeps what they do.

use std::collections::BTreeMap;
use std::ops::Range;

use penstock_exchange::{
    CallAnswer, Config, Effect, Event, Exchange, Facts, Headers, Plugin, Properties, Worker, World,
};
use penstock_units::Nanos;

/// When it all begins.
const START: Nanos = Nanos(1_700_000_000_000_000_000);

/// What is known of one request.
#[derive(Default)]
struct Known {
    facts: Option<Vec<u8>>,
    body: Vec<u8>,
}

impl Properties for Known {
    fn get(&self, path: &[&str]) -> Option<Vec<u8>> {
        self.facts.clone().filter(|_| path == penstock_exchange::facts::FILTER_STATE)
    }

    fn body(&self, part: Range<usize>) -> Option<Vec<u8>> {
        self.body.get(part.start..part.end.min(self.body.len())).map(<[u8]>::to_vec)
    }
}

/// A request's way: what the filters did with it.
#[derive(Default)]
pub struct Way {
    /// What they left for the access log.
    pub facts: Option<Facts>,
    /// The answer that they gave, where they did not let it go.
    pub reply: Option<Reply>,
    /// Whether it went on.
    pub went: bool,
    /// The headers that they add to the answer of the server.
    pub headers: Vec<(String, String)>,
    /// What they had to say to the operator.
    pub said: Vec<String>,
    /// A service was to be asked, and there is none here.
    pub asked: bool,
}

/// An answer that is given without a server.
pub struct Reply {
    /// Its status.
    pub status: u32,
    /// Its headers.
    pub headers: Vec<(String, String)>,
    /// Its body.
    pub body: String,
}

/// A proxy.
pub struct Proxy {
    store: BTreeMap<String, Vec<u8>>,
    worker: Worker,
    now: Nanos,
    draws: u64,
    next: u32,
}

impl Proxy {
    /// With a configuration. What is random is drawn from the seed.
    pub fn new(config: Config, seed: u64) -> Self {
        let mut store = BTreeMap::default();
        let worker = Worker::new(config, Plugin::Penstock, [1, mixed(seed), mixed(!seed)], &mut store);
        Self { store, worker, now: START, draws: seed, next: 0 }
    }

    /// Its configuration.
    pub fn config(&self) -> &Config {
        &self.worker.config
    }

    /// It is so many milliseconds after the start now; time does not go back.
    pub fn at(&mut self, millis: u64) {
        let now = START.saturating_add(Nanos(millis.saturating_mul(1_000_000)));
        if now <= self.now {
            return;
        }
        self.now = now;
        let mut out = Vec::new();
        self.worker.tick(now, &mut self.store, &mut out);
    }

    /// Sends a request, and where it goes on answers it with what `answered` makes of its facts.
    pub fn send(&mut self, headers: &Headers, body: &[u8], answered: impl FnOnce(&Facts) -> Vec<u8>) -> Way {
        self.next = self.next.wrapping_add(1);
        let mut exchange = Exchange::new(self.next, self.worker.config.clone());
        let mut known = Known::default();
        let mut way = Way::default();
        self.tell(&mut exchange, &mut known, &mut way, Event::RequestHead { headers, end: body.is_empty() });
        if exchange.is_holding() {
            known.body = body.to_vec();
            self.tell(&mut exchange, &mut known, &mut way, Event::RequestChunk { bytes: body, end: true });
        }
        if way.reply.is_none() && !exchange.is_holding() {
            way.went = true;
            let facts = way.facts.clone().unwrap_or_default();
            let answer = answered(&facts);
            let headers: Headers = vec![
                (":status".to_owned(), b"200".to_vec()),
                ("content-type".to_owned(), b"application/json".to_vec()),
            ];
            self.tell(&mut exchange, &mut known, &mut way, Event::ResponseHead { headers: &headers, end: false });
            self.tell(&mut exchange, &mut known, &mut way, Event::ResponseChunk { bytes: &answer, end: true });
        }
        self.tell(&mut exchange, &mut known, &mut way, Event::Closed);
        way
    }

    /// Feeds one event; services that are asked are not there.
    fn tell(&mut self, exchange: &mut Exchange, known: &mut Known, way: &mut Way, event: Event<'_>) {
        let mut next = Some(event);
        while let Some(event) = next.take() {
            self.draws = self.draws.wrapping_add(1);
            let drawn = mixed(self.draws);
            let mut out = Vec::new();
            let Self { store, worker, now, .. } = self;
            let entropy = || drawn;
            let mut world = World { now: *now, entropy: &entropy, store, properties: known, worker, out: &mut out };
            exchange.on(event, &mut world);
            for effect in out {
                match effect {
                    Effect::Publish(facts) => {
                        way.facts = Facts::decode(&facts);
                        known.facts = Some(facts);
                    }
                    Effect::Reply { status, headers, body } => {
                        let headers = headers.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
                        let body = String::from_utf8_lossy(&body).into_owned();
                        way.reply = Some(Reply { status, headers, body });
                    }
                    Effect::ResponseHeader(name, value) => {
                        way.headers.push((name.to_owned(), String::from_utf8_lossy(&value).into_owned()));
                    }
                    Effect::Log(_, what) => way.said.push(what),
                    Effect::Call(call) => {
                        way.asked = true;
                        next = Some(Event::CallDone { id: call.id, answer: Some(CallAnswer::NoCluster) });
                    }
                    _ => {}
                }
            }
        }
    }
}

/// SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014): one step.
fn mixed(state: u64) -> u64 {
    let z = state.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
