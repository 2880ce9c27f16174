//! The ports of `exchange` on a real host, and the execution of effects.

use hashbrown::HashMap;
use penstock_dialects::apply;
use penstock_exchange::metrics::{Kind, stat_name};
use penstock_exchange::{Change, Contended, Effect, Labels, Level, Metric, Properties, Store};
use proxy_wasm::types::{BufferType, MapType, MetricType};

use crate::abi::{self, Status};

/// How often an update is tried before it is called contended.
const ATTEMPTS_MAX: u32 = 128;
/// A number that the host never issues; with it, setting a missing key is create-if-absent.
const ABSENT: u32 = 0xffff_fff0;

/// Shared data as the [`Store`].
pub struct Shared;

impl Store for Shared {
    fn get(&mut self, key: &str) -> Option<Vec<u8>> {
        abi::shared_data(key).ok().map(|(value, _)| value)
    }

    fn update(&mut self, key: &str, change: Change<'_>) -> Result<u32, Contended> {
        for attempt in 0..ATTEMPTS_MAX {
            let (old, cas) = match abi::shared_data(key) {
                Ok((value, cas)) => (Some(value), if cas == 0 { ABSENT } else { cas }),
                Err(Status::NOT_FOUND) => (None, ABSENT),
                Err(_) => return Err(Contended),
            };
            let Some(new) = change(old.as_deref()) else {
                return Ok(attempt);
            };
            match abi::set_shared_data(key, &new, cas) {
                Ok(()) => return Ok(attempt),
                Err(Status::CAS_MISMATCH) => {}
                Err(_) => return Err(Contended),
            }
        }
        Err(Contended)
    }
}

/// The current stream's properties.
pub struct Stream;

impl Properties for Stream {
    fn get(&self, path: &[&str]) -> Option<Vec<u8>> {
        abi::property(path)
    }

    fn body(&self, part: core::ops::Range<usize>) -> Option<Vec<u8>> {
        let size = part.end.saturating_sub(part.start);
        abi::buffer(BufferType::HttpRequestBody, part.start, size).ok()
    }
}

/// A fresh random number.
pub fn entropy() -> u64 {
    // Where the host has no randomness the clock is what is left; it spreads requests well enough.
    getrandom::u64().unwrap_or_else(|_| abi::now().wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

/// What effects do to the stream's progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Nothing was said.
    Unsaid,
    /// Hold it back.
    Held,
    /// Let it go.
    Released,
    /// It has been answered here.
    Replied,
    /// A call was to be made, and could not be.
    Unasked,
}

/// The metrics that were defined, by stat name.
#[derive(Default)]
pub struct Metrics {
    ids: HashMap<String, u32>,
}

impl Metrics {
    /// Carries out effects in their order. The caller releases the stream, which depends on the callback it is in.
    pub fn run(&mut self, effects: &mut Vec<Effect>) -> Progress {
        let mut progress = Progress::Unsaid;
        for effect in effects.drain(..) {
            match effect {
                Effect::Pause => progress = Progress::Held,
                Effect::Resume => progress = Progress::Released,
                Effect::Reply { status, headers, body } => {
                    reply(status, &headers, &body);
                    progress = Progress::Replied;
                }
                Effect::Splice(splices) => {
                    if let Err(Status(status)) = splice(splices) {
                        abi::log(WARN, &format!("the request's body was not edited: status {status}"));
                    }
                }
                Effect::RequestHeader(name, value) => {
                    told(abi::set_header(MapType::HttpRequestHeaders, name, &value), name);
                }
                Effect::DropRequestHeader(name) => {
                    told(abi::remove_header(MapType::HttpRequestHeaders, &name), &name);
                }
                Effect::ResponseHeader(name, value) => {
                    told(abi::set_header(MapType::HttpResponseHeaders, name, &value), name);
                }
                Effect::DropResponseHeader(name) => {
                    told(abi::remove_header(MapType::HttpResponseHeaders, name), name);
                }
                Effect::ResponseBytes(bytes) => {
                    told(abi::set_buffer(BufferType::HttpResponseBody, usize::MAX >> 1, &bytes), "the response's body");
                }
                Effect::Call { cluster, service, method, message, timeout_ms } => {
                    let called = abi::grpc_call(&cluster, service, method, &message, timeout_ms);
                    if let Err(Status(status)) = called {
                        abi::log(WARN, &format!("{cluster:?} cannot be called: status {status}"));
                    }
                    progress = if called.is_ok() { Progress::Held } else { Progress::Unasked };
                }
                Effect::Publish(facts) => told(abi::set_property("penstock.exchange", &facts), "penstock.exchange"),
                Effect::Count(metric, labels, by) => {
                    let by = i64::try_from(by).unwrap_or(i64::MAX);
                    self.with(metric, &labels, |id| abi::increment_metric(id, by));
                }
                Effect::Gauge(metric, labels, value) | Effect::Observe(metric, labels, value) => {
                    self.with(metric, &labels, |id| abi::record_metric(id, value));
                }
                Effect::Log(level, text) => {
                    let level = match level {
                        Level::Info => INFO,
                        Level::Warn => WARN,
                    };
                    abi::log(level, &text);
                }
            }
        }
        progress
    }

    fn with(&mut self, metric: Metric, labels: &Labels, act: impl FnOnce(u32) -> Result<(), Status>) {
        let name = stat_name(metric, labels);
        let id = match self.ids.get(&name) {
            Some(id) => Ok(*id),
            None => {
                let kind = match metric.kind() {
                    Kind::Counter => MetricType::Counter,
                    Kind::Gauge => MetricType::Gauge,
                    Kind::Histogram => MetricType::Histogram,
                };
                abi::define_metric(kind, &name).inspect(|id| {
                    self.ids.insert(name.clone(), *id);
                })
            }
        };
        told(id.and_then(act), metric.name());
    }
}

/// The ABI's numbers of log levels.
pub const INFO: u32 = 2;
/// As above.
pub const WARN: u32 = 3;
/// As above.
pub const ERROR: u32 = 4;

fn told(result: Result<(), Status>, what: &str) {
    if let Err(Status(status)) = result {
        abi::log(WARN, &format!("{what}: the host answered status {status}"));
    }
}

fn reply(status: u32, headers: &[(&'static str, String)], body: &[u8]) {
    let headers: Vec<(&str, &[u8])> = headers.iter().map(|(name, value)| (*name, value.as_bytes())).collect();
    told(abi::reply(status, "penstock", &headers, body), "the refusal");
}

/// Edits the whole buffered body; the proxy frames it anew.
fn splice(splices: Vec<penstock_dialects::Splice>) -> Result<(), Status> {
    let body = abi::buffer(BufferType::HttpRequestBody, 0, usize::MAX >> 1)?;
    let edited = apply(&body, splices);
    abi::set_buffer(BufferType::HttpRequestBody, body.len(), &edited)
}
