//! A stream's way through the filters: Envoy's filter manager, reduced to what proxy-wasm filters can observe.
//!
//! Requests pass the filters in order, responses in reverse order. A filter that pauses holds back what comes; what it asked for during a
//! call (go on, answer locally, break off) is done after the call has returned.

use super::lock::lock;
use super::options::FailPolicy;
use super::state::Context;
use super::stream::{Action, Direction, LocalReply, Stopped, Stream, StreamId};
use super::worker::Worker;
use crate::message::Headers;

/// What became of one callback.
enum Called {
    /// The plugin's action: 0 continue, anything else pause.
    Answered(u32),
    /// The plugin takes no part in this stream.
    Skipped,
    /// Its VM is dead, and the policy says that the stream dies with it.
    Failed,
}

impl Worker {
    /// Begins a stream. `end` says that there is no body.
    pub fn open(&mut self, headers: Headers, end: bool) -> StreamId {
        let stream = Stream { properties: self.properties.clone(), ..Stream::default() };
        self.open_as(stream, headers, end)
    }

    fn open_as(&mut self, mut stream: Stream, headers: Headers, end: bool) -> StreamId {
        self.reload_failed();
        self.last_stream += 1;
        let id = self.last_stream;
        stream.contexts.resize(self.slot_of.len(), None);
        stream.request.filters.resize(self.slot_of.len(), Default::default());
        stream.response.filters.resize(self.slot_of.len(), Default::default());
        lock(&self.traffic).streams.insert(id, stream);
        self.begin(id, Direction::Request, headers, end);
        id
    }

    /// A piece of the request's body arrives. HTTP/1 ends a body with an empty last piece.
    pub fn request_body(&mut self, id: StreamId, bytes: &[u8], end: bool) {
        self.run_data(id, Direction::Request, self.first(Direction::Request), bytes.to_vec(), end);
    }

    /// The upstream's response begins.
    pub fn response_headers(&mut self, id: StreamId, headers: Headers, end: bool) {
        self.begin(id, Direction::Response, headers, end);
    }

    /// A piece of the upstream's response body arrives.
    pub fn response_body(&mut self, id: StreamId, bytes: &[u8], end: bool) {
        self.run_data(id, Direction::Response, self.first(Direction::Response), bytes.to_vec(), end);
    }

    /// The client hangs up.
    pub fn client_abort(&mut self, id: StreamId) {
        self.reset(id, "downstream_remote_disconnect");
    }

    /// The upstream breaks the connection: a 503 while the client has seen nothing, a broken response afterwards.
    pub fn upstream_reset(&mut self, id: StreamId) {
        self.upstream_fails(id, "upstream_reset_before_response_started{connection_termination}");
    }

    /// The same for another reason, in Envoy's words: also that there is no upstream.
    pub fn upstream_fails(&mut self, id: StreamId, details: &str) {
        let body = b"upstream connect error or disconnect/reset before headers".to_vec();
        let details = details.to_owned();
        self.local_reply(id, LocalReply { status: 503, headers: Headers::default(), body, details });
    }

    /// The proxy itself follows a redirect of the upstream: this stream ends without an answer, and another begins, with the request as it was
    /// forwarded and the filter state of the first. `None` where nothing was forwarded.
    pub fn follow_redirect(&mut self, id: StreamId, path: &str) -> Option<StreamId> {
        let forwarded = self.with(id, |stream| {
            stream.details = "internal_redirect".to_owned();
            stream.request.seen.clone()
        })?;
        let mut headers = forwarded.headers?;
        let text = |name| headers.text(name).unwrap_or_default();
        let original = format!("{}://{}{}", text(":scheme"), text(":authority"), text(":path"));
        headers.set("x-envoy-original-url", original.as_bytes());
        headers.set(":path", path.as_bytes());
        self.finish(id);
        let stream = self.with(id, |first| Stream {
            properties: first.properties.clone(),
            filter_state: first.filter_state.clone(),
            ..Stream::default()
        })?;
        self.forget(id);
        let second = self.open_as(stream, headers, forwarded.body.is_empty());
        if !forwarded.body.is_empty() {
            self.request_body(second, &forwarded.body, true);
        }
        Some(second)
    }

    fn begin(&mut self, id: StreamId, direction: Direction, headers: Headers, end: bool) {
        let begun = self.with(id, |stream| {
            let flow = stream.flow(direction);
            flow.started = true;
            flow.headers = headers;
            flow.headers_end = end;
            stream.alive(direction)
        });
        if begun == Some(true) {
            self.run_headers(id, direction, self.first(direction), end);
        }
    }

    fn run_headers(&mut self, id: StreamId, direction: Direction, mut at: Option<usize>, end: bool) {
        while let Some(plugin) = at {
            if !self.alive(id, direction) || !self.headers_of(id, direction, plugin, end) {
                return;
            }
            at = self.next(direction, plugin);
        }
        if self.alive(id, direction) {
            self.with(id, |stream| {
                let flow = stream.flow(direction);
                flow.seen.headers = Some(flow.headers.clone());
            });
            self.delivered(id, direction, &[], end);
        }
    }

    /// Gives one filter the headers; true when they may go on to the next one.
    fn headers_of(&mut self, id: StreamId, direction: Direction, plugin: usize, end: bool) -> bool {
        if direction == Direction::Request {
            self.create_context(id, plugin);
        }
        let count = self.with(id, |stream| {
            stream.filter(direction, plugin).headers_visible = true;
            stream.flow(direction).headers.len() as u32
        });
        let name =
            if direction == Direction::Request { "proxy_on_request_headers" } else { "proxy_on_response_headers" };
        let answer = match self.call(id, plugin, name, &[count.unwrap_or(0), u32::from(end)]) {
            Called::Answered(answer) => answer,
            Called::Skipped => 0,
            Called::Failed => {
                self.fail(id);
                return false;
            }
        };
        let hold = if self.options.wait_for_body { Stopped::Single } else { Stopped::All };
        self.with(id, |stream| {
            let filter = stream.filter(direction, plugin);
            if answer == 0 {
                filter.headers_visible = false;
                filter.headers_passed = true;
            } else {
                filter.stopped = hold;
            }
        });
        self.run_actions();
        answer == 0 && self.alive(id, direction)
    }

    fn run_data(&mut self, id: StreamId, direction: Direction, mut at: Option<usize>, mut data: Vec<u8>, end: bool) {
        while let Some(plugin) = at {
            if !self.alive(id, direction) {
                return;
            }
            match self.data_of(id, direction, plugin, data, end) {
                Some(passed) => data = passed,
                None => return,
            }
            at = self.next(direction, plugin);
        }
        if self.alive(id, direction) {
            self.delivered(id, direction, &data, end);
        }
    }

    /// Gives one filter a piece of the body; what comes back goes on to the next one.
    fn data_of(
        &mut self,
        id: StreamId,
        direction: Direction,
        plugin: usize,
        data: Vec<u8>,
        end: bool,
    ) -> Option<Vec<u8>> {
        let size = self.with(id, |stream| {
            let filter = stream.filter(direction, plugin);
            filter.held_end |= end;
            if filter.stopped == Stopped::All || filter.buffering {
                filter.held.get_or_insert_default().extend(data);
            } else {
                filter.current = Some(data);
            }
            (filter.stopped != Stopped::All).then(|| filter.buffer().map_or(0, |buffer| buffer.len() as u32))
        })??;
        let name = if direction == Direction::Request { "proxy_on_request_body" } else { "proxy_on_response_body" };
        let answer = match self.call(id, plugin, name, &[size, u32::from(end)]) {
            Called::Answered(answer) => answer,
            Called::Skipped => 0,
            Called::Failed => {
                self.fail(id);
                return None;
            }
        };
        if answer != 0 {
            self.hold_data(id, direction, plugin);
            return None;
        }
        let (data, headers_waited) = self.with(id, |stream| {
            let filter = stream.filter(direction, plugin);
            let data = filter.buffer().map(std::mem::take).unwrap_or_default();
            let headers_waited = !filter.headers_passed;
            (filter.held, filter.current) = (None, None);
            (filter.stopped, filter.buffering, filter.headers_passed) = (Stopped::No, false, true);
            (data, headers_waited)
        })?;
        self.run_actions();
        if headers_waited && self.alive(id, direction) {
            self.run_headers(id, direction, self.next(direction, plugin), false);
        }
        Some(data)
    }

    /// The filter keeps the body: from now on it sees all of it, up to the buffer's limit.
    fn hold_data(&mut self, id: StreamId, direction: Direction, plugin: usize) {
        let held = self.with(id, |stream| {
            let filter = stream.filter(direction, plugin);
            if let Some(current) = filter.current.take() {
                filter.held.get_or_insert_default().extend(current);
            }
            (filter.stopped, filter.buffering) = (Stopped::Single, true);
            filter.held.as_ref().map_or(0, Vec::len)
        });
        self.run_actions();
        if held > Some(self.options.buffer_limit) && self.alive(id, direction) {
            let (status, details) = match direction {
                Direction::Request => (413, "request_payload_too_large"),
                Direction::Response => (500, "response_payload_too_large"),
            };
            self.local_reply(
                id,
                LocalReply {
                    status,
                    headers: Headers::default(),
                    body: b"Payload Too Large".to_vec(),
                    details: details.to_owned(),
                },
            );
        }
    }

    /// `proxy_continue_stream`: whatever this filter holds goes on.
    fn resume(&mut self, id: StreamId, direction: Direction, plugin: usize) {
        let released = self.with(id, |stream| {
            let headers_end = stream.flow(direction).headers_end;
            let filter = stream.filter(direction, plugin);
            let stopped = std::mem::take(&mut filter.stopped);
            let headers_waited = !std::mem::replace(&mut filter.headers_passed, true);
            filter.buffering = false;
            (stopped, headers_waited, headers_end, filter.held.take(), filter.held_end)
        });
        let Some((stopped, headers_waited, headers_end, held, held_end)) = released else { return };
        if stopped == Stopped::No {
            return;
        }
        let next = self.next(direction, plugin);
        if headers_waited {
            self.run_headers(id, direction, next, headers_end);
        }
        if let Some(held) = held {
            let at = if stopped == Stopped::All { Some(plugin) } else { next };
            self.run_data(id, direction, at, held, held_end);
        }
    }

    fn delivered(&mut self, id: StreamId, direction: Direction, data: &[u8], end: bool) {
        self.with(id, |stream| {
            let seen = &mut stream.flow(direction).seen;
            if !data.is_empty() {
                seen.body.extend(data);
                seen.pieces.push(seen.body.len());
            }
            seen.end |= end;
        });
        if end && direction == Direction::Response {
            self.finish(id);
        }
    }

    /// Does what plugins asked for during the last call.
    pub(super) fn run_actions(&mut self) {
        loop {
            let next = lock(&self.traffic).actions.pop_front();
            let Some((id, plugin, action)) = next else { return };
            if !self.alive(id, Direction::Response) {
                continue;
            }
            match action {
                Action::Continue(direction) if self.alive(id, direction) => self.resume(id, direction, plugin),
                Action::Continue(_) => {}
                Action::LocalReply(reply) => self.local_reply(id, reply),
                Action::Reset => self.reset(id, "wasm_close_stream"),
            }
        }
    }

    fn fail(&mut self, id: StreamId) {
        let details = "wasm_fail_stream".to_owned();
        self.local_reply(id, LocalReply { status: 503, headers: Headers::default(), body: Vec::new(), details });
    }

    /// Answers in the upstream's place. The answer passes the response filters, unless an upstream's answer is already among them; a second
    /// one is ignored, and one that comes after the client saw headers breaks the response off.
    fn local_reply(&mut self, id: StreamId, reply: LocalReply) {
        let LocalReply { status, headers, body, details } = reply;
        let direct = self.with(id, |stream| {
            if !stream.alive(Direction::Request) || stream.response.seen.headers.is_some() {
                return None;
            }
            stream.local_reply = true;
            stream.details = details.clone();
            Some(std::mem::replace(&mut stream.response.started, true))
        });
        let mut all = Headers::new([(":status", status.to_string())]);
        headers.iter().for_each(|(name, value)| all.add(name, value));
        if !body.is_empty() {
            all.set("content-length", body.len().to_string().as_bytes());
            if all.get("content-type").is_none() {
                all.set("content-type", b"text/plain");
            }
        }
        match direct.flatten() {
            None if self.with(id, |stream| stream.response.seen.headers.is_some()) == Some(true) => {
                self.reset(id, &details)
            }
            None => {}
            Some(true) => {
                self.with(id, |stream| stream.response.seen.headers = Some(all));
                self.delivered(id, Direction::Response, &body, true);
            }
            Some(false) => {
                self.begin(id, Direction::Response, all, body.is_empty());
                if !body.is_empty() {
                    self.run_data(id, Direction::Response, self.first(Direction::Response), body, true);
                }
            }
        }
    }

    fn reset(&mut self, id: StreamId, details: &str) {
        if self.alive(id, Direction::Response) {
            self.with(id, |stream| {
                stream.details = details.to_owned();
                stream.response.seen.reset = true;
            });
            self.finish(id);
        }
    }

    /// Log in chain order, then done and delete in chain order.
    fn finish(&mut self, id: StreamId) {
        self.with(id, |stream| {
            stream.finished = true;
            stream.log_phase = true;
            stream.request.seen.reset |= !stream.request.seen.end || stream.response.seen.reset;
            if stream.details.is_empty() {
                stream.details = "via_upstream".to_owned();
            }
        });
        for plugin in 0..self.slot_of.len() {
            // A filter that never saw the request is created now, only to log it.
            self.create_context(id, plugin);
            self.call(id, plugin, "proxy_on_log", &[]);
        }
        self.with(id, |stream| stream.log_phase = false);
        for plugin in 0..self.slot_of.len() {
            self.call(id, plugin, "proxy_on_done", &[]);
            self.call(id, plugin, "proxy_on_delete", &[]);
            self.forget_context(id, plugin);
        }
    }

    fn create_context(&mut self, id: StreamId, plugin: usize) {
        if self.with(id, |stream| stream.contexts[plugin].is_some()) != Some(false) {
            return;
        }
        let slot = &mut self.slots[self.slot_of[plugin]];
        let Some(root) = slot.root_of(plugin).filter(|_| slot.vm.failed.is_none()) else { return };
        let context = slot.next_context();
        slot.vm.state().contexts.insert(context, Context { plugin, root, stream: Some(id) });
        let generation = slot.generation;
        self.with(id, |stream| stream.contexts[plugin] = Some((context, generation)));
        self.call(id, plugin, "proxy_on_context_create", &[root]);
    }

    fn forget_context(&mut self, id: StreamId, plugin: usize) {
        let index = self.slot_of[plugin];
        let Some(Some((context, generation))) = self.with(id, |stream| stream.contexts[plugin].take()) else { return };
        if self.slots[index].generation == generation {
            self.slots[index].vm.state().contexts.remove(&context);
            self.slots[index].let_roots_go();
        }
    }

    fn call(&mut self, id: StreamId, plugin: usize, name: &'static str, args: &[u32]) -> Called {
        let slot = &mut self.slots[self.slot_of[plugin]];
        let (context, local_reply) = match lock(&self.traffic).streams.get(&id) {
            Some(stream) => (stream.contexts[plugin], stream.local_reply),
            None => return Called::Skipped,
        };
        let outcome = match context {
            Some((context, generation)) if generation == slot.generation && slot.vm.failed.is_none() => {
                slot.vm.call(name, context, &[&[context], args].concat())
            }
            // A response filter that never saw the request has no say.
            None if slot.vm.failed.is_none() => return Called::Skipped,
            _ => Err(String::new()),
        };
        match outcome {
            Ok(answer) => Called::Answered(answer.unwrap_or(0)),
            Err(_) if self.options.fail == FailPolicy::Open || local_reply => Called::Skipped,
            Err(_) => Called::Failed,
        }
    }

    fn alive(&self, id: StreamId, direction: Direction) -> bool {
        lock(&self.traffic).streams.get(&id).is_some_and(|stream| stream.alive(direction))
    }

    fn first(&self, direction: Direction) -> Option<usize> {
        match direction {
            Direction::Request => (!self.slot_of.is_empty()).then_some(0),
            Direction::Response => self.slot_of.len().checked_sub(1),
        }
    }

    fn next(&self, direction: Direction, plugin: usize) -> Option<usize> {
        match direction {
            Direction::Request => Some(plugin + 1).filter(|next| *next < self.slot_of.len()),
            Direction::Response => plugin.checked_sub(1),
        }
    }
}
