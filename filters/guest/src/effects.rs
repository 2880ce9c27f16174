//! Effects become host calls.

use std::collections::VecDeque;

use penstock_exchange::metrics::{Kind, Registry, stat_name};
use penstock_exchange::series::shown;
use penstock_exchange::{Call, CallAnswer, CallId, Effect, Level, SeriesId, Splice, apply};
use penstock_units::Millis;
use proxy_wasm::types::{BufferType, MapType, MetricType};

use crate::abi::{self, Status};
use crate::calls;
use crate::host::Shared;

/// Under which property the facts are left.
const FACTS: &str = "penstock.exchange";

/// Asks the host to keep the facts for as long as the client's request takes. Elsewhere they end with the stream, of which there may be two:
/// Envoy follows redirects of servers with a second one.
pub fn declare_facts() {
    // `envoy.source.extensions.common.wasm.DeclarePropertyArguments`: `name` (1), and `span` (5) DownstreamRequest (1).
    let length = u8::try_from(FACTS.len()).unwrap_or_default();
    let argument = [&[0x0a, length][..], FACTS.as_bytes(), &[0x28, 0x01]].concat();
    // A host that has no such function needs none, and one that knows the property by now says so.
    let _ = abi::foreign_function("declare_property", &argument);
}

/// What effects do to a stream's progress.
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
}

/// What became of effects.
#[derive(Debug)]
pub struct Ran {
    /// The caller releases the stream, which depends on the callback it is in.
    pub progress: Progress,
    /// Calls that are on their way, with the host's numbers for them, and how long they are waited for.
    pub calls: Vec<(u32, CallId, Millis)>,
    /// Calls that could not be made, and what is to be said of them.
    pub failed: Vec<(CallId, Option<CallAnswer<'static>>)>,
    /// Whether ticks are wanted from now on; `None` where nothing was said about it.
    pub ticks: Option<bool>,
}

/// The host's numbers of metrics, in the order of the worker's.
#[derive(Default)]
pub struct Metrics {
    ids: Vec<Option<Shown>>,
    /// It was said that there are too many.
    is_told: bool,
}

/// What the host knows of a series.
#[derive(Clone, Copy)]
enum Shown {
    /// It, under this number.
    As(u32),
    /// Nothing: the process shows too many.
    Nothing,
}

/// Carries out effects in their order, on the current stream. `body`: all of the request's, where it is at hand; else the host is asked for it.
/// `woken`: where those go that are to be told of a tick.
pub fn run(
    effects: &mut Vec<Effect>,
    metrics: &mut Metrics,
    series: &Registry,
    root: u32,
    mut body: Option<&[u8]>,
    woken: &mut VecDeque<u32>,
) -> Ran {
    let mut ran = Ran { progress: Progress::Unsaid, calls: Vec::new(), failed: Vec::new(), ticks: None };
    for effect in effects.drain(..) {
        match effect {
            Effect::Pause => ran.progress = Progress::Held,
            Effect::Resume => ran.progress = Progress::Released,
            Effect::Reply { status, headers, body } => {
                reply(status, &headers, &body);
                ran.progress = Progress::Replied;
            }
            Effect::Call(call) => dispatch(call, root, &mut ran),
            Effect::Ticks(wanted) => ran.ticks = Some(wanted),
            Effect::Wake(exchanges) => woken.extend(exchanges),
            Effect::RequestBody(bytes) => {
                let set = abi::set_buffer(BufferType::HttpRequestBody, usize::MAX >> 1, &bytes);
                warn(set, "replacing the request's body");
                // What is edited from here on is that.
                body = None;
            }
            Effect::Splice(splices) => warn(splice(splices, body), "editing the request's body"),
            Effect::RequestHeader(name, value) => {
                warn(abi::set_header(MapType::HttpRequestHeaders, name, &value), name);
            }
            Effect::DropRequestHeader(name) => warn(abi::remove_header(MapType::HttpRequestHeaders, &name), &name),
            Effect::ResponseHeader(name, value) => {
                warn(abi::set_header(MapType::HttpResponseHeaders, name, &value), name);
            }
            Effect::DropResponseHeader(name) => warn(abi::remove_header(MapType::HttpResponseHeaders, name), name),
            Effect::ResponseBytes(bytes) => {
                let set = abi::set_buffer(BufferType::HttpResponseBody, usize::MAX >> 1, &bytes);
                warn(set, "editing the response's body");
            }
            Effect::Publish(facts) => warn(abi::set_property(FACTS, &facts), FACTS),
            Effect::Count(id, by) => {
                let by = i64::try_from(by).unwrap_or(i64::MAX);
                // A series that is to stand at 0 is only defined: the proxy refuses to add nothing.
                metrics.with(id, series, |metric| if by == 0 { Ok(()) } else { abi::increment_metric(metric, by) });
            }
            Effect::Gauge(id, value) | Effect::Observe(id, value) => {
                metrics.with(id, series, |metric| abi::record_metric(metric, value));
            }
            Effect::Log(Level::Info, text) => log::info!("{text}"),
            Effect::Log(Level::Warn, text) => log::warn!("{text}"),
        }
    }
    ran
}

impl Metrics {
    /// Acts on a series, which is defined when it is first used.
    fn with(&mut self, id: SeriesId, series: &Registry, act: impl FnOnce(u32) -> Result<(), Status>) {
        let Ok(index) = usize::try_from(id.0) else { return };
        if self.ids.len() <= index {
            self.ids.resize(index.saturating_add(1), None);
        }
        let Some(slot) = self.ids.get_mut(index) else { return };
        let shown = match *slot {
            Some(shown) => Ok(shown),
            None => define(id, series, &mut self.is_told).inspect(|shown| *slot = Some(*shown)),
        };
        let acted = shown.and_then(|shown| match shown {
            Shown::As(metric) => act(metric),
            Shown::Nothing => Ok(()),
        });
        if let Err(Status(status)) = acted {
            let name = series.series(id).map_or("a metric", |(metric, _)| metric.name());
            log::warn!("{name}: the host answered status {status}");
        }
    }
}

fn define(id: SeriesId, series: &Registry, is_told: &mut bool) -> Result<Shown, Status> {
    let (metric, labels) = series.series(id).ok_or(Status::NOT_FOUND)?;
    let shown = shown(metric, labels, &mut Shared);
    if shown.as_ref() != Some(labels) && !core::mem::replace(is_told, true) {
        let name = stat_name(metric, labels);
        log::warn!("this process shows as many series as it may; {name} and further ones are among the others");
    }
    let Some(labels) = shown else { return Ok(Shown::Nothing) };
    let kind = match metric.kind() {
        Kind::Counter => MetricType::Counter,
        Kind::Gauge => MetricType::Gauge,
        Kind::Histogram => MetricType::Histogram,
    };
    abi::define_metric(kind, &stat_name(metric, &labels)).map(Shown::As)
}

fn dispatch(call: Box<Call>, root: u32, ran: &mut Ran) {
    let (id, hold, timeout) = (call.id, call.hold, call.timeout);
    match calls::dispatch(call, root) {
        Ok(number) => {
            ran.calls.push((number, id, timeout));
            if hold {
                ran.progress = Progress::Held;
            }
        }
        Err(status) => {
            // Envoy knows no cluster of that name.
            let is_unknown = status == Status::BAD_ARGUMENT;
            ran.failed.push((id, is_unknown.then_some(CallAnswer::NoCluster)));
        }
    }
}

fn warn(result: Result<(), Status>, what: &str) {
    if let Err(Status(status)) = result {
        log::warn!("{what}: the host answered status {status}");
    }
}

fn reply(status: u32, headers: &[(&'static str, String)], body: &[u8]) {
    let headers: Vec<(&str, &[u8])> = headers.iter().map(|(name, value)| (*name, value.as_bytes())).collect();
    warn(abi::reply(status, "penstock", &headers, body), "the refusal");
}

/// Edits the whole buffered body; the proxy frames it anew.
fn splice(splices: Vec<Splice>, body: Option<&[u8]>) -> Result<(), Status> {
    let held = match body {
        Some(_) => Vec::new(),
        None => abi::buffer(BufferType::HttpRequestBody, 0, usize::MAX >> 1)?,
    };
    let body = body.unwrap_or(&held);
    let edited = apply(body, splices);
    abi::set_buffer(BufferType::HttpRequestBody, body.len(), &edited)
}
