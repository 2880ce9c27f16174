//! One run: what happens next, until everything is answered.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use serde::Serialize;

use crate::engine::Event;
use crate::fleet::{Fleet, Pod};
use crate::hpa::{Autoscaler, Behavior};
use crate::law::Law;
use crate::outcome::{Answer, Objectives, Outcome, Point, Record};
use crate::replica::Figures;
use crate::scrape::{Reading, Scrapes};
use crate::trace::{Micros, Request, SECOND, Trace};

/// The HPA's sync period (`--horizontal-pod-autoscaler-sync-period`).
const SYNC: Micros = 15 * SECOND;
/// The HPA syncs so long after a multiple of it, and Prometheus scrapes so long after a multiple of its interval: nobody aligns them.
const SYNC_AFTER: Micros = 10 * SECOND;
const SCRAPE_AFTER: Micros = 3 * SECOND;
/// How long after the end of a trace its last requests may be answered.
const PATIENCE: Micros = 7200 * SECOND;
/// What an answer is expected to have before any was seen, and how many answers that is worth.
const EXPECTED: (f64, f64) = (256.0, 20.0);

/// Until when replicas are paid for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Account {
    /// The end of the trace.
    Span,
    /// When the Deployment is back at its least, as llm-d counts it.
    Floor,
}

/// Everything but the trace.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Setup {
    /// What a replica does.
    pub figures: Figures,
    /// Seconds until a new replica is ready.
    pub cold_start: f64,
    /// The trigger.
    pub law: Law,
    /// How fast it may scale.
    pub behavior: Behavior,
    /// `minReplicaCount`.
    pub min: u32,
    /// `maxReplicaCount`.
    pub max: u32,
    /// Replicas that are ready at the beginning.
    pub initial: u32,
    /// Prometheus' scrape interval, in seconds.
    pub scrape: f64,
    /// KEDA's `pollingInterval`, in seconds.
    pub polling: f64,
    /// KEDA's `cooldownPeriod`, in seconds.
    pub cooldown: f64,
    /// Seconds of prefill that a replica is given while the gateway holds the rest; `None` forwards everything at once.
    pub hold: Option<f64>,
    /// Instead of the trace's times: so many clients, each of which sends its next request so many seconds after an answer.
    pub clients: Option<(u32, f64)>,
    /// What is promised.
    pub objectives: Objectives,
    /// Until when replicas are paid for.
    pub account: Account,
}

impl Setup {
    /// # Errors
    /// What cannot be simulated.
    pub fn check(&self) -> Result<(), String> {
        self.figures.check()?;
        self.behavior.check()?;
        self.law.check()?;
        let in_range = |name: &str, value: f64, least: f64, most: f64| match (least..=most).contains(&value) {
            true => Ok(()),
            false => Err(format!("{name} is {value}; write {least} to {most}")),
        };
        in_range("the cold start in seconds", self.cold_start, 0.0, 86_400.0)?;
        in_range("the scrape interval in seconds", self.scrape, 0.1, 300.0)?;
        in_range("the polling interval in seconds", self.polling, 1.0, 3600.0)?;
        in_range("the cooldown in seconds", self.cooldown, 0.0, 86_400.0)?;
        in_range("the objective of TTFT in seconds", self.objectives.ttft, 0.001, 86_400.0)?;
        if self.min > self.max || self.max == 0 || self.max > 1000 {
            return Err(format!(
                "{} to {} replicas; write 0 ≤ min ≤ max ≤ 1000, and a max of at least 1",
                self.min, self.max
            ));
        }
        Ok(())
    }
}

/// What happens, in this order where it is at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Happens {
    StepEnds(Pod),
    Ready(Pod),
    ClientSends,
    Scrape,
    Poll,
    Sync,
}

struct World<'a> {
    setup: &'a Setup,
    requests: Vec<Request>,
    /// The next one that comes.
    next: usize,
    span: Micros,
    fleet: Fleet,
    autoscaler: Autoscaler,
    agenda: BinaryHeap<Reverse<(Micros, Happens)>>,
    scrapes: Scrapes,
    reading: Reading,
    record: Record,
    open: usize,
    answered: (f64, f64),
    busy: BTreeMap<Pod, f64>,
    begun: Vec<(Micros, Pod)>,
    events: Vec<Event>,
}

/// Plays a trace.
///
/// # Errors
/// What cannot be simulated.
pub fn run(trace: &Trace, setup: &Setup) -> Result<Outcome, String> {
    setup.check()?;
    let mut world = World::new(trace, setup);
    world.play();
    let (prompt, output) = trace.means();
    let decode = setup.figures.decode_rate(prompt, output);
    let prefill = setup.figures.prefill_rate();
    let work = |request: &Request| f64::from(request.prompt) / prefill + f64::from(request.output) / decode;
    Ok(world.record.outcome(&world.requests, &setup.objectives, work))
}

impl<'a> World<'a> {
    fn new(trace: &'a Trace, setup: &'a Setup) -> Self {
        let initial = setup.initial.clamp(setup.min, setup.max);
        let cooldown = micros(setup.cooldown);
        let mut agenda = BinaryHeap::new();
        agenda.push(Reverse((SCRAPE_AFTER, Happens::Scrape)));
        agenda.push(Reverse((micros(setup.polling), Happens::Poll)));
        agenda.push(Reverse((SYNC_AFTER, Happens::Sync)));
        for client in 0..setup.clients.map_or(0, |(clients, _)| clients) {
            // Not all at the same moment.
            agenda.push(Reverse((Micros::from(client) * SECOND / 20, Happens::ClientSends)));
        }
        let record = Record {
            answers: vec![Answer::default(); trace.requests.len()],
            changes: vec![(0, initial)],
            ..Record::default()
        };
        Self {
            setup,
            requests: trace.requests.clone(),
            next: 0,
            span: trace.span,
            fleet: Fleet::new(setup.figures, micros(setup.cold_start), setup.hold, initial),
            autoscaler: Autoscaler::new(setup.behavior.clone(), setup.min, setup.max, cooldown),
            agenda,
            scrapes: Scrapes::default(),
            reading: Reading::default(),
            record,
            open: 0,
            answered: (EXPECTED.0 * EXPECTED.1, EXPECTED.1),
            busy: BTreeMap::new(),
            begun: Vec::new(),
            events: Vec::new(),
        }
    }

    fn play(&mut self) {
        let mut now = 0;
        while let Some(Reverse((at, _))) = self.agenda.peek() {
            let next = self.requests.get(self.next).filter(|_| self.setup.clients.is_none());
            let arrives = next.map(|request| request.at).filter(|arrival| arrival < at);
            now = arrives.unwrap_or(*at);
            if self.is_over(now) {
                break;
            }
            if arrives.is_some() {
                self.arrive(now);
            } else if let Some(Reverse((_, happens))) = self.agenda.pop() {
                self.happen(now, happens);
            }
        }
        if self.record.accounted == 0 {
            self.account(now.max(self.span));
        }
        self.record.output_tokens = self.fleet.generated();
        // What no client came to send is not part of it.
        self.requests.truncate(self.next);
        self.record.answers.truncate(self.next);
    }

    /// Whether nothing more will come of it; pays on the way.
    fn is_over(&mut self, now: Micros) -> bool {
        if now < self.span {
            return false;
        }
        let settled = self.setup.account == Account::Span || self.fleet.wanted() <= self.setup.min;
        if settled && self.record.accounted == 0 {
            self.account(if self.setup.account == Account::Span { self.span } else { now });
        }
        let answered = (self.setup.clients.is_some() || self.next == self.requests.len()) && self.open == 0;
        (answered && settled) || now > self.span + PATIENCE
    }

    fn account(&mut self, until: Micros) {
        // What happens at `until` or later is not paid for.
        let until = until.max(1);
        self.record.replica_micros = self.fleet.paid_at(until);
        self.record.accounted = until;
    }

    /// The next request comes.
    fn arrive(&mut self, now: Micros) {
        let index = self.next;
        self.next += 1;
        let request = self.requests[index];
        let expected = self.expected();
        self.reading.requests += 1.0;
        self.reading.prompt += f64::from(request.prompt);
        self.reading.expected += expected;
        if !self.fleet.fits(&request) {
            self.record.refused += 1;
            return;
        }
        if self.watches_latency(true)
            && let Some((ttft, tpot)) = self.fleet.forecast(now, request.prompt)
        {
            self.reading.ttft.observe(ttft);
            self.reading.tpot.observe(tpot);
        }
        self.open += 1;
        self.reading.pending_prefill += f64::from(request.prompt);
        self.fleet.arrive(index as u32);
        self.dispatch(now);
    }

    fn happen(&mut self, now: Micros, happens: Happens) {
        match happens {
            Happens::StepEnds(pod) => self.step_ends(now, pod),
            Happens::Ready(pod) => {
                self.fleet.becomes_ready(now, pod);
                self.dispatch(now);
            }
            Happens::ClientSends => self.client_sends(now),
            Happens::Scrape => {
                self.scrape(now);
                self.agenda.push(Reverse((now + micros(self.setup.scrape), Happens::Scrape)));
            }
            Happens::Poll => {
                let demands = self.setup.law.demands(&self.scrapes, now);
                if self.setup.law != Law::Fixed {
                    let wanted = self.autoscaler.poll(now, self.fleet.wanted(), &demands);
                    self.set(now, wanted);
                }
                self.agenda.push(Reverse((now + micros(self.setup.polling), Happens::Poll)));
            }
            Happens::Sync => {
                let demands = self.setup.law.demands(&self.scrapes, now);
                let wanted = self.autoscaler.sync(now, self.fleet.wanted(), &demands);
                self.set(now, wanted);
                self.agenda.push(Reverse((now + SYNC, Happens::Sync)));
            }
        }
    }

    /// Whether the trigger asks for latencies that are forecast, or measured.
    fn watches_latency(&self, forecast: bool) -> bool {
        matches!(self.setup.law, Law::LlmdLatency { foresight, .. } if foresight == forecast)
    }

    fn client_sends(&mut self, now: Micros) {
        if now < self.span
            && let Some(request) = self.requests.get_mut(self.next)
        {
            request.at = now;
            self.arrive(now);
        }
    }

    fn step_ends(&mut self, now: Micros, pod: Pod) {
        let Some(engine) = self.fleet.engine(pod) else { return };
        let mut events = std::mem::take(&mut self.events);
        let gaps = &mut self.record.gaps;
        engine.end(&mut events, &mut |gap, count| gaps.add(gap, count));
        for event in events.drain(..) {
            match event {
                Event::First(id) => {
                    let around = micros(self.setup.figures.around);
                    self.record.answers[id as usize].first = Some(now + around);
                    if self.watches_latency(false) {
                        let ttft = now + around - self.requests[id as usize].at;
                        self.reading.ttft.observe(ttft as f64 / SECOND as f64);
                    }
                    self.reading.pending_prefill -= f64::from(self.requests[id as usize].prompt);
                    self.record.prompt_tokens += u64::from(self.requests[id as usize].prompt);
                }
                Event::Done(id) => {
                    let around = micros(self.setup.figures.around);
                    self.record.answers[id as usize].done = Some(now + around);
                    let first = self.record.answers[id as usize].first;
                    if let Some(first) = first.filter(|_| self.watches_latency(false)) {
                        let rest = self.requests[id as usize].output.saturating_sub(1).max(1);
                        self.reading.tpot.observe((now + around - first) as f64 / SECOND as f64 / f64::from(rest));
                    }
                    self.answered.0 += f64::from(self.requests[id as usize].output);
                    self.answered.1 += 1.0;
                    self.open -= 1;
                    if let Some((_, pause)) = self.setup.clients {
                        self.agenda.push(Reverse((now + around + micros(pause), Happens::ClientSends)));
                    }
                }
            }
        }
        self.events = events;
        if let Some(until) = self.fleet.next_step(now, pod) {
            self.agenda.push(Reverse((until, Happens::StepEnds(pod))));
        }
        self.dispatch(now);
    }

    fn dispatch(&mut self, now: Micros) {
        if self.fleet.held() == 0 {
            return;
        }
        let mut begun = std::mem::take(&mut self.begun);
        self.fleet.dispatch(now, &self.requests, &mut begun);
        for (until, pod) in begun.drain(..) {
            self.agenda.push(Reverse((until, Happens::StepEnds(pod))));
        }
        self.begun = begun;
    }

    fn set(&mut self, now: Micros, wanted: u32) {
        if wanted == self.fleet.wanted() {
            return;
        }
        self.record.changes.push((now, wanted));
        if let Some((ready_at, started)) = self.fleet.set(now, wanted) {
            for pod in started {
                self.agenda.push(Reverse((ready_at, Happens::Ready(pod))));
            }
        }
    }

    /// What an answer is expected to have: what those before had, on average.
    fn expected(&self) -> f64 {
        self.answered.0 / self.answered.1
    }

    fn scrape(&mut self, now: Micros) {
        let expected = self.expected();
        let held = self.fleet.held() as f64;
        let busy = self.fleet.busy(now);
        let before = |pod: &Pod| self.busy.get(pod).copied().unwrap_or(0.0);
        let spent: f64 = busy.iter().map(|(pod, busy)| busy - before(pod)).sum();
        let read = &mut self.reading;
        read.pending_decode = self.fleet.sum(|engine| engine.still_expected(expected)) + held * expected;
        read.in_flight = self.open as f64;
        read.waiting = self.fleet.sum_ready(|engine| engine.waiting() as f64) + held;
        read.running = self.fleet.sum_ready(|engine| engine.running() as f64);
        read.kv = self.fleet.sum_ready(crate::engine::Engine::kv_use);
        read.busy = spent / self.setup.scrape;
        read.generated = self.fleet.generated() as f64;
        read.replicas = f64::from(self.fleet.wanted());
        read.ready = f64::from(self.fleet.ready());
        self.scrapes.push(now, read);
        self.busy = busy;
        if now <= self.span {
            let waiting = self.fleet.sum(|engine| engine.waiting() as f64) + held;
            let (replicas, ready) = (self.fleet.wanted(), self.fleet.ready());
            let at = now as f64 / SECOND as f64;
            self.record.points.push(Point { at, replicas, ready, work: 0.0, waiting: waiting as u32, ttft: 0.0 });
        }
    }
}

fn micros(seconds: f64) -> Micros {
    (seconds * SECOND as f64) as Micros
}
