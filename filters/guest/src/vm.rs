//! What the streams of one root context share: the worker, and by id the exchanges that may be told something without a callback of theirs.

use std::cell::RefCell;
use std::rc::Rc;

use hashbrown::HashMap;
use penstock_exchange::{CallAnswer, CallId, Config, Effect, Event, Exchange, Headers, Plugin, Worker, World};
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
    /// Calls that are on their way: whose they are, by the host's number.
    calls: HashMap<u32, (u32, CallId, Shareable)>,
}

/// An exchange, for its stream and for whoever else tells it something.
pub type Shareable = Rc<RefCell<Exchange>>;

impl Vm {
    /// With a configuration.
    pub fn new(config: Config, plugin: Plugin) -> Self {
        Self {
            worker: Worker::new(config, plugin, [entropy(), entropy(), entropy()], &mut Shared),
            metrics: Metrics::default(),
            effects: Vec::new(),
            ticking: HashMap::new(),
            calls: HashMap::new(),
        }
    }

    /// A request begins.
    pub fn open(&self, id: u32) -> Shareable {
        Rc::new(RefCell::new(Exchange::new(id, self.worker.config.clone())))
    }

    /// It is gone.
    pub fn forget(&mut self, id: u32) {
        self.ticking.remove(&id);
        self.calls.retain(|_, (stream, ..)| *stream != id);
    }

    /// Something happened to the current stream. Where its exchange is being told something already, that is not for it.
    pub fn tell(&mut self, id: u32, shared: &Shareable, event: Event<'_>) -> Progress {
        let Ok(mut exchange) = shared.try_borrow_mut() else { return Progress::Unsaid };
        let Self { worker, metrics, effects, ticking, calls } = self;
        let now = worker.time(abi::now(), &mut Shared);
        let mut progress = Progress::Unsaid;
        let (mut next, mut failed) = (Some(event), Vec::new());
        while let Some(event) = next.take() {
            let mut world =
                World { now, entropy: &entropy, store: &mut Shared, properties: &Current, worker, out: effects };
            exchange.on(event, &mut world);
            let ran = effects::run(effects, metrics, &worker.series);
            match ran.ticks {
                Some(true) => drop(ticking.insert(id, shared.clone())),
                Some(false) => drop(ticking.remove(&id)),
                None => {}
            }
            calls.extend(ran.calls.into_iter().map(|(number, call)| (number, (id, call, shared.clone()))));
            failed.extend(ran.failed);
            if ran.progress != Progress::Unsaid {
                progress = ran.progress;
            }
            next = failed.pop().map(|id| Event::CallDone { id, answer: None });
        }
        progress
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

    /// The heartbeat; the exchanges that want a tick, which is told to them afterwards.
    pub fn tick(&mut self) -> Vec<(u32, Shareable)> {
        let Self { worker, metrics, effects, ticking, .. } = self;
        let now = worker.time(abi::now(), &mut Shared);
        worker.tick(now, &mut Shared, effects);
        effects::run(effects, metrics, &worker.series);
        ticking.iter().map(|(id, exchange)| (*id, exchange.clone())).collect()
    }
}
