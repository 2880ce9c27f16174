//! The life of one request.

use std::rc::Rc;

use penstock_dialects::{Fault, Ignore, RequestReader, Unreadable};

use crate::body::{Announced, Head, announced};
use crate::budget::OutputBudget;
use crate::config::{Config, Model, Policy};
use crate::facts::Facts;
use crate::flow::{Flow, Read};
use crate::json::hexadecimal;
use crate::labels;
use crate::media;
use crate::metrics::Metric;
use crate::port::{Effect, Event, Headers};
use crate::prompt::Prompt;
use crate::redirect;
use crate::refusal::Refusal;
use crate::response::Response;
use crate::stage::{Plugin, Stage, Stop, admit, count, door, feedback, hold, limit, pending, route, watch};
use crate::worker::Handling;
use crate::world::World;

mod passes;
mod said;
mod waiting;

/// Follows one request. Feed it every [`Event`] in order; the effects are in [`World::out`] afterwards.
pub struct Exchange {
    id: u32,
    state: State,
    flow: Flow,
    count: count::State,
    admit: admit::State,
    limit: limit::State,
    route: route::State,
    hold: hold::State,
    watch: watch::State,
    response: Response,
}

enum State {
    /// Nothing has happened.
    New,
    /// Not ours: passes untouched.
    Foreign,
    /// Held back until its body has been read.
    Reading(Box<Reading>),
    /// Says something of an answer.
    Feedback(Box<feedback::Posted>),
    /// Held back until a service has answered, or there is a server.
    Waiting,
    /// Let go.
    Decided,
    /// Answered here.
    Answered,
    /// Refused here.
    Refused,
    /// Over.
    Closed,
}

/// A body that is being read.
struct Reading {
    reader: RequestReader,
    prompt: Prompt,
    /// Whether its texts are counted as they come, or once it is known that it is not refused anyway.
    counts: bool,
    /// For how many ticks the headers have been held without any of it.
    ticks: u64,
}

/// From how many bytes on a body may be read a second time to be counted.
const LARGE: usize = 16 << 10;
/// How much of it is then read at once.
const PIECE: usize = 64 << 10;

impl Exchange {
    /// A new one. `id` is unique among those of the same worker that are alive.
    pub fn new(id: u32, config: Rc<Config>) -> Self {
        Self {
            id,
            state: State::New,
            flow: Flow::new(config),
            count: count::State::default(),
            admit: admit::State::default(),
            limit: limit::State::default(),
            route: route::State::default(),
            hold: hold::State::default(),
            watch: watch::State::default(),
            response: Response::default(),
        }
    }

    /// Whether the request is being held back.
    pub fn is_holding(&self) -> bool {
        matches!(self.state, State::Reading(_) | State::Waiting | State::Feedback(..))
    }

    /// Whether it is being held back for its body.
    pub fn is_reading(&self) -> bool {
        matches!(self.state, State::Reading(_) | State::Feedback(..))
    }

    /// Whether it was answered here.
    pub fn is_refused(&self) -> bool {
        matches!(self.state, State::Answered | State::Refused)
    }

    /// Whether request and response pass untouched.
    pub fn is_foreign(&self) -> bool {
        match self.state {
            State::New | State::Answered | State::Closed => true,
            // Who asked is told what would have refused it.
            State::Foreign => self.flow.facts.would.is_none(),
            _ => false,
        }
    }

    /// Something happened.
    pub fn on(&mut self, event: Event<'_>, world: &mut World<'_>) {
        match event {
            Event::RequestHead { headers, end } => self.request_head(headers, end, world),
            Event::RequestChunk { bytes, end } => self.request_chunk(bytes, end, world),
            Event::RequestTrailers => {
                self.flow.body.ends_with_trailers();
                self.request_chunk(&[], true, world);
            }
            Event::ResponseHead { headers, end } => self.response_head(headers, end, world),
            Event::ResponseChunk { bytes, end } => {
                self.response.chunk(self.id, bytes, end, world);
                if route::remembers(&self.route) {
                    route::remember(&mut self.route, &self.flow, &self.response, world);
                }
                watch::chunk(self.id, &mut self.watch, &self.response, world);
                hold::hears(&self.hold, &self.response, world);
            }
            Event::CallDone { id, answer } => self.call_done(id, answer, world),
            Event::Tick => self.tick(world),
            Event::Closed => self.closed(world),
        }
    }

    /// The stages in their order, those that are this plugin's to run.
    fn run(&mut self, from: Stage, world: &mut World<'_>) -> Result<(), Stop> {
        let Self { id, flow, count, admit, limit, route, hold, .. } = self;
        let plugin = world.worker.plugin;
        let is_count = flow.is_count;
        let runs = |stage: Stage| plugin.runs(stage) && (!is_count || matches!(stage, Stage::Door | Stage::Route));
        for stage in Stage::ALL.into_iter().filter(|stage| *stage >= from && runs(*stage)) {
            match stage {
                Stage::Door => door::at_body(flow, world)?,
                Stage::Count => count::run(count, flow, world)?,
                Stage::Admit => admit::run(admit, count, limit, flow, world)?,
                Stage::Limit => limit::run(limit, flow, world)?,
                Stage::Route => route::run(route, flow, world)?,
                Stage::Pending => {
                    pending::run(*id, flow, world);
                    hold::run(*id, hold, flow, world)?;
                }
            }
        }
        Ok(())
    }

    /// Runs the stages, and does what they say.
    fn decide(&mut self, from: Stage, world: &mut World<'_>) {
        self.state = State::Decided;
        // What an earlier plugin named need not be configured here.
        let is_ours = from == Stage::Door || self.flow.model(&self.flow.config).is_some();
        match if is_ours { self.run(from, world) } else { Err(Stop::Pass) } {
            Ok(()) if self.flow.is_count => self.count(world),
            Ok(()) => self.forward(world),
            Err(stop) => {
                if hold::has_waited(&self.hold) {
                    // What its body says is not kept for as long as it waits.
                    self.write(world);
                }
                self.stop(stop, world);
            }
        }
    }

    /// What a request costs is all that is asked. Where that is not known here, the server is.
    fn count(&mut self, world: &mut World<'_>) {
        let Self { flow, count, limit, .. } = self;
        let config = flow.config.clone();
        if !flow.is_known
            && let Err(stop) = limit::might_admit(limit, flow, world)
        {
            return self.stop(stop, world);
        }
        let is_asked_here = !flow.is_known && !flow.is_counted_elsewhere();
        let is_known_here = |model: &&Model| is_asked_here && !model.approximate && !model.is_implicit;
        if let Some(model) = flow.model(&config).filter(is_known_here) {
            // What a reservation would refuse has no count either.
            if let Some((what, key)) = media::unpriced(flow, model) {
                return self.stop(Refusal::no_price(what, key).into(), world);
            }
            count::for_model(count, flow, model, world);
            let answer = door::answer::count(flow);
            return self.stop(answer, world);
        }
        if let Err(stop) = limit::hold(limit, flow, world) {
            return self.stop(stop, world);
        }
        self.forward(world);
        self.state = State::Foreign;
    }

    /// The request goes on, with what the stages write into it.
    fn forward(&mut self, world: &mut World<'_>) {
        self.write(world);
        let Self { id, flow, watch, .. } = self;
        if !flow.is_known && flow.body.holds_headers() {
            world.out.push(Effect::RequestHeader("x-penstock-model", flow.facts.model.clone().into_bytes()));
        }
        watch::sent(*id, watch, flow, world);
        flow.body.forward(world.out);
        world.out.push(Effect::Publish(flow.facts.encode()));
        world.out.push(Effect::Resume);
    }

    /// What the stages write into the body. What it said is needed no longer then, and would be kept for as long as the answer takes.
    fn write(&mut self, world: &World<'_>) {
        let Self { flow, count, admit, response, .. } = self;
        if flow.read.is_none() {
            return;
        }
        if !flow.is_known && world.worker.plugin.owns(Stage::Count) && !flow.is_count {
            response.usage_filter = count::write(count, flow);
        }
        route::write(flow, admit.fallback.as_deref(), world);
        flow.read = None;
    }

    /// The request does not go on to the next stage.
    fn stop(&mut self, stop: Stop, world: &mut World<'_>) {
        if !matches!(stop, Stop::Wait(_)) {
            self.flow.read = None;
        }
        match stop {
            Stop::Pass | Stop::Wait(_) => self.flow.body.hand_over(world.out),
            Stop::Answer(_) | Stop::Refuse(_) => self.flow.body.decoded = None,
        }
        self.state = match stop {
            Stop::Pass => {
                world.out.push(Effect::Resume);
                State::Foreign
            }
            Stop::Answer(mut answer) => {
                // No answer of a server follows that could tell it.
                answer.headers.extend(self.flow.facts.would.take().map(|would| ("x-penstock-would", would)));
                world.out.push((*answer).into());
                State::Answered
            }
            Stop::Wait(call) => {
                world.out.extend(call.map(Effect::Call));
                State::Waiting
            }
            Stop::Refuse(refusal) => {
                let Flow { facts, .. } = &mut self.flow;
                facts.refused = Some(refusal.outcome);
                facts.limit.clone_from(&refusal.limit);
                world.out.push(Effect::Publish(facts.encode()));
                let limit = refusal.limit.as_deref().unwrap_or(labels::NO_LIMIT);
                let labels =
                    [labels::model(&self.flow.facts.model), self.flow.tenant_label(), refusal.reason.label(), limit];
                let series = world.worker.series.id(Metric::Refused, &labels);
                world.out.push(Effect::Count(series, 1));
                world.worker.refused.note(self.flow.tenant_label(), world.now);
                world.out.push(refusal.reply(self.flow.dialect));
                State::Refused
            }
        };
    }

    fn request_head(&mut self, headers: &Headers, end: bool, world: &mut World<'_>) {
        let known = Facts::published(world.properties);
        if self.second_pass(known.as_ref(), world) {
            return;
        }
        self.response.started = world.now;
        match door::at_headers(&mut self.flow, headers, known, world) {
            Ok(()) => {}
            // Nothing was held, so that there is nothing to let go.
            Err(Stop::Pass) => return self.state = State::Foreign,
            Err(stop) => return self.stop(stop, world),
        }
        if self.flow.is_feedback {
            return self.feedback_begins(end, world);
        }
        if self.flow.is_known && !route::needs_body(&self.flow, world) {
            return self.decide(Stage::Limit, world);
        }
        let Announced { coding, length, waits } = match announced(headers) {
            Ok(announced) => announced,
            Err(refusal) => return self.unread(refusal, world),
        };
        self.flow.body.coding = coding;
        if end {
            return self.unreadable(Unreadable { at: 0, what: Fault::Empty }, world);
        }
        let is_small = coding.is_none() && length.is_some_and(|length| length < LARGE);
        let counts = !self.flow.is_counted_elsewhere()
            && (is_small || !world.worker.refused.lately(self.flow.tenant_label(), world.now));
        self.flow.body.head = Head::Held { length };
        let prompt = Prompt::new(&self.flow.config, world.worker.secret);
        let reader = RequestReader::new(self.flow.dialect);
        self.state = State::Reading(Box::new(Reading { reader, prompt, counts, ticks: 0 }));
        self.hold(waits, world);
    }

    /// Holds the headers until the body has been read, where the proxy allows it. Elsewhere they go on now, with what is known now.
    /// `waits`: the client sends its body when the server has said so, which it cannot as long as it has not got the headers. A proxy that says
    /// it by itself has taken that away before.
    fn hold(&mut self, waits: bool, world: &mut World<'_>) {
        let flow = &mut self.flow;
        // An answer that is compressed cannot be read here, and a request that does not say what it accepts takes anything (RFC 9110, 12.5.3).
        world.out.push(Effect::RequestHeader("accept-encoding", b"identity".to_vec()));
        if !flow.is_known {
            let tenant = flow.facts.tenant.clone().into_bytes();
            world.out.push(Effect::RequestHeader("x-penstock-tenant", tenant));
        }
        if world.worker.waiting.holds(world.now) {
            if waits {
                return self.stop(Refusal::expectation().into(), world);
            }
            if world.worker.patience().is_some() {
                world.out.push(Effect::Ticks(true));
            }
            return world.out.push(Effect::Pause);
        }
        if let Err(stop) = route::run_ahead(&mut self.route, flow, world) {
            return self.stop(stop, world);
        }
        flow.body.let_headers_go(Head::Passed, world.out);
        // The next plugin in the row is to know our headers from the client's.
        world.out.push(Effect::Publish(flow.facts.encode()));
    }

    fn request_chunk(&mut self, bytes: &[u8], end: bool, world: &mut World<'_>) {
        self.flow.body.bytes = self.flow.body.bytes.saturating_add(bytes.len());
        if !core::mem::replace(&mut self.flow.body.has_begun, true) && self.is_holding() {
            self.body_begins(end, world);
        }
        if matches!(self.state, State::Waiting) {
            return self.look(world);
        }
        if let State::Feedback(said) = &mut self.state {
            said.bytes.extend_from_slice(bytes);
            return self.feedback(end, world);
        }
        let State::Reading(reading) = &mut self.state else { return };
        let Flow { body, config, is_known, .. } = &mut self.flow;
        if body.coding.is_some() {
            // It is decoded once, when all of it is there; the proxy holds it meanwhile.
            match if end { body.decode(config.decoded_bytes_max, world.properties) } else { return } {
                Ok(()) => {}
                Err(refusal) => return self.unread(refusal, world),
            }
        }
        let bytes = body.decoded.as_deref().unwrap_or(bytes);
        let Reading { reader, prompt, counts, .. } = reading.as_mut();
        let counts = *counts && !*is_known;
        let read = if counts { reader.push(bytes, prompt) } else { reader.push(bytes, &mut Ignore) };
        match read {
            Err(error) => self.unreadable(error, world),
            Ok(()) if end => self.body_ends(world),
            Ok(()) => {}
        }
    }

    /// The body begins to come: tells whether headers may wait, and whether an earlier plugin has read it by now.
    fn body_begins(&mut self, end: bool, world: &mut World<'_>) {
        let is_reading = self.is_reading();
        let World { worker, store, out, now, properties, .. } = world;
        match self.flow.body.head {
            Head::Held { .. } => {
                worker.waiting.body_while_held(*store);
                if is_reading && worker.patience().is_some() {
                    out.push(Effect::Ticks(false));
                }
            }
            Head::Passed => {}
            Head::Released(at) => {
                let connection = properties.get(&["connection", "id"]).and_then(|id| id.try_into().ok());
                let connection = connection.map_or(0, u64::from_le_bytes);
                worker.waiting.body_after_release(connection, now.saturating_sub(at), end, *now, *store, out);
            }
        }
        if self.flow.is_known || self.flow.body.holds_headers() {
            return;
        }
        if let Some(known) = Facts::published(world.properties).filter(|facts| !facts.model.is_empty()) {
            let drawn = self.flow.facts.version.take();
            self.flow.facts = known;
            self.flow.facts.version = self.flow.facts.version.take().or(drawn);
            self.flow.is_known = true;
        }
    }

    fn body_ends(&mut self, world: &mut World<'_>) {
        let State::Reading(reading) = core::mem::replace(&mut self.state, State::Decided) else { return };
        let Reading { reader, mut prompt, counts, .. } = *reading;
        let request = match if counts { reader.finish(&mut prompt) } else { reader.finish(&mut Ignore) } {
            Err(error) => return self.unreadable(error, world),
            Ok(request) => request,
        };
        self.response.json_output = request.json_output;
        self.response.echoes = if request.echo { request.choices } else { 0 };
        let Self { flow, limit, .. } = self;
        let is_known = flow.is_known;
        if !is_known {
            flow.facts.stream = request.stream;
        }
        flow.read = Some(Box::new(Read { request, prompt, budget: OutputBudget::default() }));
        if is_known {
            return self.decide(Stage::Limit, world);
        }
        if !counts && !flow.is_counted_elsewhere() {
            // One that came without its length, or compressed, may be small after all.
            let more = flow.body.text(LARGE..LARGE.saturating_add(1), world.properties);
            let is_large = more.is_some_and(|more| !more.is_empty());
            let mut might_go = || door::at_body(flow, world).and_then(|()| limit::might_admit(limit, flow, world));
            if let Err(stop) = if is_large { might_go() } else { Ok(()) } {
                return self.stop(stop, world);
            }
            if let Err(error) = Self::read_again(flow, world) {
                return self.unreadable(error, world);
            }
        }
        if let Some(read) = self.flow.read.as_ref().filter(|_| !self.flow.is_counted_elsewhere()) {
            self.flow.facts.prompt_hash = hexadecimal(read.prompt.hash());
        }
        self.decide(Stage::Door, world);
    }

    /// Counts the texts of a body that has been read once, and is still held.
    fn read_again(flow: &mut Flow, world: &World<'_>) -> Result<(), Unreadable> {
        let Flow { read: Some(read), body, dialect, .. } = flow else { return Ok(()) };
        let (mut reader, prompt) = (RequestReader::new(*dialect), &mut read.prompt);
        let mut at = 0usize;
        let next = |at: usize| body.text(at..at.saturating_add(PIECE), world.properties);
        while let Some(bytes) = next(at).filter(|bytes| !bytes.is_empty()) {
            reader.push(&bytes, prompt)?;
            at = at.saturating_add(bytes.len());
        }
        reader.finish(prompt).map(|_| ())
    }

    fn unreadable(&mut self, error: Unreadable, world: &mut World<'_>) {
        self.unread(Refusal::unreadable(&error), world);
    }

    /// The body cannot be read: the request is refused, or passes, as it is configured.
    fn unread(&mut self, refusal: Refusal, world: &mut World<'_>) {
        let Flow { body, config, .. } = &self.flow;
        let policy = if body.can_pass() { config.unreadable } else { Policy::Refuse };
        self.stop(door::or_pass(policy, refusal), world);
    }

    fn response_head(&mut self, headers: &Headers, end: bool, world: &mut World<'_>) {
        if self.is_foreign() {
            return;
        }
        self.learn(world);
        let Self { id, state, flow, count, admit, limit, route, watch, hold, response, .. } = self;
        if let Some(would) = &flow.facts.would {
            world.out.push(Effect::ResponseHeader("x-penstock-would", would.clone().into_bytes()));
        }
        if matches!(state, State::Foreign) {
            return;
        }
        count::response_headers(count, flow, world);
        admit::response_headers(admit, world);
        watch::response_headers(flow, world);
        limit::response_headers(limit, flow, world);
        response.wants_id = route::remembers(route);
        response.head(headers, end, flow, world.out);
        if route::listens(flow, response, world) {
            route::heard(*id, route, flow, headers, response, world);
        }
        route::response_headers(route, flow, world);
        // Of what was not answered nobody says anything: it costs nothing, so its names could be had without end.
        let is_named = flow.config.feedback.is_some()
            && response.status().is_some_and(|status| (200..300).contains(&status))
            && flow.facts.refused.is_none()
            && world.worker.plugin.owns(Stage::Route);
        let is_evidence = watch::is_watched(watch);
        if let Some(name) = is_named.then(|| feedback::name(flow, is_evidence, response.started, world)).flatten() {
            world.out.push(Effect::ResponseHeader("x-penstock-request-id", name.into_bytes()));
        }
        if world.worker.breakers.are_kept() && world.worker.plugin.owns(Stage::Route) {
            watch::heard(flow, response, headers, world);
        }
        if world.worker.plugin.owns(Stage::Pending) && flow.facts.refused.is_none() {
            hold::heard(hold, flow, response, world);
        }
    }

    /// A plugin that runs by itself asks what later ones found; the all-in-one knows.
    fn learn(&mut self, world: &World<'_>) {
        if world.worker.plugin == Plugin::Penstock {
            return;
        }
        if let Some(known) = Facts::published(world.properties) {
            let facts = &mut self.flow.facts;
            facts.version = facts.version.take().or(known.version);
            facts.limit = facts.limit.take().or(known.limit);
            facts.refused = facts.refused.or(known.refused);
            facts.would = known.would.or(facts.would.take());
            facts.held = facts.held.take().or(known.held);
        }
    }

    /// The stream is over, and mostly the request with it.
    fn closed(&mut self, world: &mut World<'_>) {
        if matches!(self.state, State::New) {
            // A filter in front of this one may have refused a second pass.
            let known = Facts::published(world.properties);
            self.second_pass(known.as_ref(), world);
        } else if matches!(self.state, State::Decided)
            && self.response.status().is_none()
            && redirect::follows(world.properties)
        {
            // An answer that has come here is none that the proxy followed.
            return self.end_of_first_pass(world);
        }
        self.settle(world);
    }

    /// What became of the stream; `None` where it never began here, or goes on in another one.
    fn handling(&self) -> Option<Handling> {
        match &self.state {
            State::New | State::Closed => None,
            State::Foreign => Some(Handling::Passed),
            State::Answered => Some(Handling::Answered),
            State::Refused => Some(Handling::Refused),
            State::Feedback(..) => Some(Handling::Answered),
            State::Reading(_) | State::Waiting | State::Decided => Some(Handling::Counted),
        }
    }

    /// Counts the stream: of a row of plugins the first does, which sees them all, also those that one behind it refuses.
    fn count_stream(&self, handling: Option<Handling>, world: &mut World<'_>) {
        let Some(handling) = handling else { return };
        if self.flow.is_first {
            let is_refused = self.flow.facts.refused.is_some();
            let series = world.worker.streams(if is_refused { Handling::Refused } else { handling });
            world.out.push(Effect::Count(series, 1));
        } else if self.flow.is_behind && handling == Handling::Counted && world.worker.plugin.owns(Stage::Count) {
            world.worker.counted_again(world.out);
        }
    }

    /// It is over: settles everything, backwards through the stages, and says what it came to.
    fn settle(&mut self, world: &mut World<'_>) {
        let handling = self.handling();
        let is_foreign =
            matches!(self.state, State::New | State::Foreign | State::Answered | State::Feedback(..) | State::Closed);
        let (held, decided) = (self.is_holding(), matches!(self.state, State::Decided));
        hold::leave(&mut self.hold, &mut self.flow, world);
        self.state = State::Closed;
        let landed = pending::done(self.id, world);
        if is_foreign {
            self.count_stream(handling, world);
            // What was counted by its server has held permits.
            return limit::settle(&mut self.limit, None, 0, world);
        }
        self.learn(world);
        self.count_stream(handling, world);
        let Self { id, flow, count, limit, watch, response, .. } = self;
        let waited = flow.facts.held.as_deref().copied().unwrap_or_default();
        let held = held || waited.waits;
        let was_forwarded = decided && !held && flow.facts.refused.is_none();
        let outcome = flow.facts.refused.unwrap_or_else(|| response.outcome(held, world.properties));
        flow.facts.quality = response.quality();
        // Nothing was generated while it waited.
        let took = response.duration(world.now).saturating_sub(waited.ms);
        let properties = world.properties;
        let by_time = || count::generated_in(flow, took, world);
        let used = if was_forwarded { response.used(outcome, &flow.facts, properties, by_time) } else { None };
        flow.facts.outcome = Some(outcome);
        flow.facts.used = used;
        flow.facts.ttft_ms = response.ttft();
        let tool_calls = flow.facts.quality.as_ref().map_or(0, |quality| quality.tool_calls);
        pending::settle(flow, response, used, landed, world);
        watch::settle(*id, watch, flow, response, outcome, used, world);
        limit::settle(limit, used, tool_calls, world);
        count::settle(count, flow, (outcome, response.reason), used, took, world);
        world.out.push(Effect::Publish(flow.facts.encode()));
    }
}
