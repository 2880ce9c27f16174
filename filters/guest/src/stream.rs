//! The stream context: one request's callbacks.

use std::cell::RefCell;
use std::rc::Rc;

use penstock_exchange::{Event, Exchange};
use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::{Action, BufferType, MapType};

use crate::abi;
use crate::effects::Progress;
use crate::vm::{Shareable, Vm};

/// One request.
pub struct Stream {
    id: u32,
    exchange: Shareable,
    vm: Rc<RefCell<Vm>>,
    /// Bytes of the request's body that the exchange has been given. They stay in the proxy's buffer meanwhile.
    read: usize,
}

impl Stream {
    /// A request begins. `None` while the worker is busy, in which no proxy begins one.
    pub fn open(id: u32, vm: Rc<RefCell<Vm>>) -> Option<Self> {
        let exchange = vm.try_borrow().ok()?.open(id);
        Some(Self { id, exchange, vm, read: 0 })
    }

    fn tell(&self, event: Event<'_>) -> Progress {
        self.tell_of(event, false)
    }

    fn tell_of(&self, event: Event<'_>, is_whole: bool) -> Progress {
        // Host calls do not call back into the plugin while one of its callbacks runs, except that a reply runs the
        // response's callbacks: those find the worker borrowed, and the reply has been written in full by then.
        self.vm.try_borrow_mut().map_or(Progress::Unsaid, |mut vm| vm.tell_of(self.id, &self.exchange, event, is_whole))
    }

    fn is(&self, what: impl FnOnce(&Exchange) -> bool) -> bool {
        self.exchange.try_borrow().is_ok_and(|exchange| what(&exchange))
    }

    /// Whether the answer is read here.
    fn reads_answer(&self) -> bool {
        self.is(|exchange| !exchange.is_foreign() && !exchange.is_refused())
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if let Ok(mut vm) = self.vm.try_borrow_mut() {
            vm.forget(self.id);
        }
    }
}

impl Context for Stream {}

impl HttpContext for Stream {
    fn on_http_request_headers(&mut self, _: usize, end: bool) -> Action {
        let headers = abi::headers(MapType::HttpRequestHeaders).unwrap_or_default();
        #[cfg(feature = "faults")]
        crate::faults::commit(&headers);
        match self.tell(Event::RequestHead { headers: &headers, end }) {
            Progress::Held | Progress::Replied => Action::Pause,
            Progress::Unsaid | Progress::Released => Action::Continue,
        }
    }

    fn on_http_request_body(&mut self, size: usize, end: bool) -> Action {
        if self.is(Exchange::is_refused) {
            return Action::Pause;
        }
        if !self.is(Exchange::is_holding) {
            return Action::Continue;
        }
        let fresh = size.saturating_sub(self.read);
        let bytes = abi::buffer(BufferType::HttpRequestBody, self.read, fresh).unwrap_or_default();
        self.read = self.read.saturating_add(bytes.len());
        let is_whole = end && bytes.len() == size;
        match self.tell_of(Event::RequestChunk { bytes: &bytes, end }, is_whole) {
            Progress::Released => Action::Continue,
            Progress::Replied => Action::Pause,
            Progress::Held | Progress::Unsaid if self.is(Exchange::is_holding) => Action::Pause,
            Progress::Held | Progress::Unsaid => Action::Continue,
        }
    }

    /// A body that trailers follow ends with them.
    fn on_http_request_trailers(&mut self, _: usize) -> Action {
        if self.is(Exchange::is_refused) {
            return Action::Pause;
        }
        if !self.is(Exchange::is_reading) {
            return if self.is(Exchange::is_holding) { Action::Pause } else { Action::Continue };
        }
        // Going on from here would be inside of the proxy's own going on where the headers were let go a moment ago, and then the body is
        // lost. Being told to go on it does when it is done with that.
        if self.tell(Event::RequestTrailers) == Progress::Released {
            let _ = abi::continue_request();
        }
        Action::Pause
    }

    fn on_http_response_headers(&mut self, _: usize, end: bool) -> Action {
        if self.is(|exchange| !exchange.is_foreign()) {
            let headers = abi::headers(MapType::HttpResponseHeaders).unwrap_or_default();
            self.tell(Event::ResponseHead { headers: &headers, end });
        }
        Action::Continue
    }

    fn on_http_response_body(&mut self, size: usize, end: bool) -> Action {
        if self.reads_answer() {
            let bytes = abi::buffer(BufferType::HttpResponseBody, 0, size).unwrap_or_default();
            self.tell(Event::ResponseChunk { bytes: &bytes, end });
        }
        Action::Continue
    }

    fn on_http_response_trailers(&mut self, _: usize) -> Action {
        if self.reads_answer() {
            self.tell(Event::ResponseChunk { bytes: &[], end: true });
        }
        Action::Continue
    }

    fn on_log(&mut self) {
        self.tell(Event::Closed);
    }
}
