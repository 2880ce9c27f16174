//! What the streams of one root context share: the worker, and by id the exchanges that may be told something without a callback of theirs.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use hashbrown::HashMap;
use penstock_exchange::{CallAnswer, CallId, Config, Effect, Event, Exchange, Headers, Plugin, Worker, World};
use penstock_units::{Millis, Nanos};
use proxy_wasm::types::{BufferType, MapType};

use crate::abi;
use crate::effects::{self, Metrics, Progress};
use crate::host::{Current, Shared, entropy};

/// The worker of one root context, with its exchanges.
pub struct Vm {
    worker: Worker,
    metrics: Metrics,
    /// A buffer for effects, kept between callbacks.
    effects: Vec<Effect>,
    /// Exchanges that want ticks.
    ticking: HashMap<u32, Shareable>,
    /// Those of them that are to be told at once, in this order.
    woken: VecDeque<u32>,
    /// Calls that are on their way: whose they are, by the host's number. They outlive their requests.
    calls: HashMap<u32, (u32, CallId, Shareable)>,
    /// Until when a request waits for its call.
    waits: Vec<(Nanos, u32)>,
    /// When the heartbeat was.
    beat: Nanos,
    root: u32,
}

/// What is to be told after a tick.
#[derive(Default)]
pub struct Due {
    /// Requests whose calls have taken too long.
    pub overdue: Vec<(u32, CallId, Shareable)>,
    /// Exchanges that want a tick.
    pub ticking: Vec<(u32, Shareable)>,
}

/// An exchange, for its stream and for whoever else tells it something.
pub type Shareable = Rc<RefCell<Exchange>>;

impl Vm {
    /// With a configuration.
    pub fn new(config: Config, plugin: Plugin, root: u32) -> Self {
        Self {
            worker: Worker::new(config, plugin, [entropy(), entropy(), entropy()], &mut Shared),
            metrics: Metrics::default(),
            effects: Vec::new(),
            ticking: HashMap::new(),
            woken: VecDeque::new(),
            calls: HashMap::new(),
            waits: Vec::new(),
            beat: Nanos::ZERO,
            root,
        }
    }

    /// A request begins.
    pub fn open(&self, id: u32) -> Shareable {
        Rc::new(RefCell::new(Exchange::new(id, self.worker.config.clone())))
    }

    /// It is gone.
    pub fn forget(&mut self, id: u32) {
        self.ticking.remove(&id);
    }

    /// Something happened to the current stream. Where its exchange is being told something already, that is not for it.
    pub fn tell(&mut self, id: u32, shared: &Shareable, event: Event<'_>) -> Progress {
        self.tell_of(id, shared, event, false)
    }

    /// The same. `is_whole`: what is here of the request's body is all of it, and as the proxy holds it.
    pub fn tell_of(&mut self, id: u32, shared: &Shareable, event: Event<'_>, is_whole: bool) -> Progress {
        let Ok(mut exchange) = shared.try_borrow_mut() else { return Progress::Unsaid };
        let Self { worker, metrics, effects, ticking, woken, calls, waits, root, .. } = self;
        let now = worker.time(abi::now(), &mut Shared);
        let mut progress = Progress::Unsaid;
        let mut body = match event {
            Event::RequestChunk { bytes, .. } if is_whole => Some(bytes),
            _ => None,
        };
        let (mut next, mut failed) = (Some(event), Vec::new());
        while let Some(event) = next.take() {
            let mut world =
                World { now, entropy: &entropy, store: &mut Shared, properties: &Current, worker, out: effects };
            exchange.on(event, &mut world);
            let ran = effects::run(effects, metrics, &worker.series, *root, body.take(), woken);
            match ran.ticks {
                Some(true) => drop(ticking.insert(id, shared.clone())),
                Some(false) => drop(ticking.remove(&id)),
                None => {}
            }
            for (number, call, timeout) in ran.calls {
                calls.insert(number, (id, call, shared.clone()));
                if waits.is_empty() {
                    let _ = abi::set_tick_period(timeout.min(worker.config.tick));
                }
                waits.push((now.saturating_add(timeout.to_nanos()), number));
            }
            failed.extend(ran.failed);
            if ran.progress != Progress::Unsaid {
                progress = ran.progress;
            }
            next = failed.pop().map(|(id, answer)| Event::CallDone { id, answer });
            if !woken.is_empty() && next.is_none() {
                // It need not wait for another callback.
                next = woken.pop_front_if(|first| *first == id).map(|_| Event::Tick);
            }
        }
        progress
    }

    /// The next exchange that is to be told of a tick at once.
    pub fn woken(&mut self) -> Option<(u32, Shareable)> {
        while let Some(id) = self.woken.pop_front() {
            if let Some(exchange) = self.ticking.get(&id) {
                return Some((id, exchange.clone()));
            }
        }
        None
    }

    /// A call by gRPC has ended. The caller lets the request go, where that is said.
    pub fn grpc_done(&mut self, number: u32, status: u32, size: usize) -> Progress {
        let Some((stream, id, exchange)) = self.calls.remove(&number) else { return Progress::Unsaid };
        let _ = abi::set_effective_context(stream);
        let message = abi::buffer(BufferType::GrpcReceiveBuffer, 0, size).ok().filter(|_| status == 0);
        let answer = message.as_deref().map(CallAnswer::Grpc);
        self.tell(stream, &exchange, Event::CallDone { id, answer })
    }

    /// As above, by HTTP; one that failed comes without headers.
    pub fn http_done(&mut self, number: u32, headers: usize, size: usize) -> Progress {
        let Some((stream, id, exchange)) = self.calls.remove(&number) else { return Progress::Unsaid };
        let _ = abi::set_effective_context(stream);
        let headers: Headers = match headers {
            0 => Headers::new(),
            _ => abi::headers(MapType::HttpCallResponseHeaders).unwrap_or_default(),
        };
        let body = abi::buffer(BufferType::HttpCallResponseBody, 0, size).unwrap_or_default();
        let answer = (!headers.is_empty()).then_some(CallAnswer::Http { headers: &headers, body: &body });
        self.tell(stream, &exchange, Event::CallDone { id, answer })
    }

    /// The host's tick: the heartbeat, where it is due, and what is to be told to exchanges afterwards. While requests wait for calls, ticks
    /// come when the first of them has waited long enough.
    pub fn tick(&mut self) -> Due {
        let Self { worker, metrics, effects, ticking, woken, calls, waits, beat, root } = self;
        let now = worker.time(abi::now(), &mut Shared);
        let mut due = Due::default();
        if !waits.is_empty() {
            waits.retain(|(until, number)| {
                let Some((stream, id, exchange)) = calls.get(number) else { return false };
                if *until <= now {
                    due.overdue.push((*stream, *id, exchange.clone()));
                }
                *until > now
            });
            let next = waits.iter().map(|(until, _)| until.saturating_sub(now).to_millis_ceil().max(Millis(1))).min();
            let _ = abi::set_tick_period(next.into_iter().chain([worker.config.tick]).min().unwrap_or_default());
        }
        let period = worker.config.tick.to_nanos();
        if now.abs_diff(*beat) >= Nanos((period.0 / 4).saturating_mul(3)) {
            *beat = now;
            let mut world =
                World { now, entropy: &entropy, store: &mut Shared, properties: &Current, worker, out: effects };
            Exchange::settle_late(&mut world);
            worker.tick(now, &mut Shared, effects);
            effects::run(effects, metrics, &worker.series, *root, None, woken);
            due.ticking = ticking.iter().map(|(id, exchange)| (*id, exchange.clone())).collect();
        }
        due
    }

    /// The last heartbeat, with which what this worker held is gone: no stream is left that could be told anything after it.
    pub fn end(&mut self) {
        let Self { worker, metrics, effects, woken, root, .. } = self;
        let now = worker.time(abi::now(), &mut Shared);
        let mut world =
            World { now, entropy: &entropy, store: &mut Shared, properties: &Current, worker, out: effects };
        Exchange::settle_waiting(&mut world);
        effects::run(effects, metrics, &worker.series, *root, None, woken);
        self.beat = Nanos::ZERO;
        self.tick();
    }
}
