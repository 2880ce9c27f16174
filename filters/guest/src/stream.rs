//! The stream context: one request's callbacks.

use std::cell::RefCell;
use std::rc::Rc;

use penstock_exchange::{Event, Exchange, World};
use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::{Action, BufferType, MapType};

use crate::abi;
use crate::host::{self, Progress, Shared, entropy};
use crate::root::Plugin;

/// One request.
pub struct Stream {
    id: u32,
    exchange: Exchange,
    plugin: Rc<RefCell<Plugin>>,
    /// Bytes of the request's body that the exchange has been given. They stay in the proxy's buffer meanwhile.
    read: usize,
    replied: bool,
}

impl Stream {
    /// For a new exchange of `plugin`.
    pub fn new(id: u32, exchange: Exchange, plugin: Rc<RefCell<Plugin>>) -> Self {
        Self { id, exchange, plugin, read: 0, replied: false }
    }

    fn tell(&mut self, event: Event<'_>) -> Progress {
        // Host calls do not call back into the plugin while one of its callbacks runs, except that a reply runs the
        // response's callbacks: those find the plugin borrowed, and the reply has been written in full by then.
        let Ok(mut plugin) = self.plugin.try_borrow_mut() else { return Progress::Unsaid };
        let Plugin { worker, metrics, effects, waiting, released } = &mut *plugin;
        waiting.remove(&self.id);
        let mut was_released = released.remove(&self.id);
        let mut event = event;
        let progress = loop {
            let mut world = World {
                now: worker.time(abi::now(), &mut Shared),
                entropy: entropy(),
                store: &mut Shared,
                properties: &host::Stream,
                worker,
                out: effects,
            };
            if core::mem::take(&mut was_released) {
                self.exchange.on(Event::Released, &mut world);
            }
            self.exchange.on(event, &mut world);
            match metrics.run(effects) {
                Progress::Unasked => event = Event::CallDone { message: None },
                progress => break progress,
            }
        };
        if progress == Progress::Held && self.exchange.is_reading() && worker.patience().is_some() {
            waiting.insert(self.id, 0);
        }
        self.replied |= progress == Progress::Replied;
        progress
    }
}

impl Context for Stream {
    fn on_grpc_call_response(&mut self, _: u32, status: u32, size: usize) {
        let message = abi::buffer(BufferType::GrpcReceiveBuffer, 0, size);
        let message = message.ok().filter(|_| status == 0);
        if self.tell(Event::CallDone { message: message.as_deref() }) == Progress::Released {
            let _ = abi::continue_request();
        }
    }
}

impl HttpContext for Stream {
    fn on_http_request_headers(&mut self, _: usize, end: bool) -> Action {
        let headers = abi::headers(MapType::HttpRequestHeaders).unwrap_or_default();
        match self.tell(Event::RequestHead { headers: &headers, end }) {
            Progress::Held | Progress::Replied | Progress::Unasked => Action::Pause,
            Progress::Unsaid | Progress::Released => Action::Continue,
        }
    }

    fn on_http_request_body(&mut self, size: usize, end: bool) -> Action {
        if self.replied {
            return Action::Pause;
        }
        if !self.exchange.is_holding() {
            return Action::Continue;
        }
        let fresh = size.saturating_sub(self.read);
        let bytes = abi::buffer(BufferType::HttpRequestBody, self.read, fresh).unwrap_or_default();
        self.read = self.read.saturating_add(bytes.len());
        match self.tell(Event::RequestChunk { bytes: &bytes, end }) {
            Progress::Released => Action::Continue,
            Progress::Replied | Progress::Unasked => Action::Pause,
            Progress::Held | Progress::Unsaid if self.exchange.is_holding() => Action::Pause,
            Progress::Held | Progress::Unsaid => Action::Continue,
        }
    }

    /// A body that trailers follow ends with them.
    fn on_http_request_trailers(&mut self, _: usize) -> Action {
        if self.replied {
            return Action::Pause;
        }
        if !self.exchange.is_reading() {
            return if self.exchange.is_holding() { Action::Pause } else { Action::Continue };
        }
        // Going on from here would be inside of the proxy's own going on where the headers were let go a moment ago, and then the body is
        // lost. Being told to go on it does when it is done with that.
        if self.tell(Event::RequestTrailers) == Progress::Released {
            let _ = abi::continue_request();
        }
        Action::Pause
    }

    fn on_http_response_trailers(&mut self, _: usize) -> Action {
        if !self.exchange.is_foreign() && !self.replied {
            self.tell(Event::ResponseChunk { bytes: &[], end: true });
        }
        Action::Continue
    }

    fn on_http_response_headers(&mut self, _: usize, end: bool) -> Action {
        if !self.exchange.is_foreign() {
            let headers = abi::headers(MapType::HttpResponseHeaders).unwrap_or_default();
            self.tell(Event::ResponseHead { headers: &headers, end });
        }
        Action::Continue
    }

    fn on_http_response_body(&mut self, size: usize, end: bool) -> Action {
        if !self.exchange.is_foreign() && !self.replied {
            let bytes = abi::buffer(BufferType::HttpResponseBody, 0, size).unwrap_or_default();
            self.tell(Event::ResponseChunk { bytes: &bytes, end });
        }
        Action::Continue
    }

    fn on_log(&mut self) {
        self.tell(Event::Closed);
    }
}
