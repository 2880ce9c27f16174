//! The replicas of a Deployment, and the gateway in front of them: who starts, who drains, and who gets a request.

use std::collections::{BTreeMap, VecDeque};

use crate::engine::{Engine, Id};
use crate::replica::Figures;
use crate::trace::{Micros, Request, SECOND};

/// Which replica.
pub type Pod = u32;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Loads its model until then.
    Starting(Micros),
    Ready,
    /// Answers what it has, and gets nothing more.
    Draining,
}

struct Replica {
    engine: Engine,
    phase: Phase,
}

/// All of them.
pub struct Fleet {
    figures: Figures,
    cold_start: Micros,
    replicas: BTreeMap<Pod, Replica>,
    next: Pod,
    /// Requests that the gateway holds.
    held: VecDeque<Id>,
    /// Seconds of prefill that a replica is given; what is more is held. `None`: all of it, at once.
    share: Option<f64>,
    /// Replicas times microseconds, since the beginning.
    paid: u64,
    paid_until: Micros,
    /// Tokens that replicas generated which are gone.
    generated: u64,
}

impl Fleet {
    pub fn new(figures: Figures, cold_start: Micros, share: Option<f64>, ready: u32) -> Self {
        let replica = || Replica { engine: Engine::new(figures), phase: Phase::Ready };
        Self {
            figures,
            cold_start,
            replicas: (0..ready).map(|pod| (pod, replica())).collect(),
            next: ready,
            held: VecDeque::new(),
            share,
            paid: 0,
            paid_until: 0,
            generated: 0,
        }
    }

    /// The Deployment's replicas: all but those that drain.
    pub fn wanted(&self) -> u32 {
        self.count(|replica| replica.phase != Phase::Draining)
    }

    pub fn ready(&self) -> u32 {
        self.count(|replica| replica.phase == Phase::Ready)
    }

    /// All that hold a GPU.
    pub fn all(&self) -> u32 {
        self.count(|_| true)
    }

    fn count(&self, of: impl Fn(&Replica) -> bool) -> u32 {
        self.replicas.values().filter(|replica| of(replica)).count() as u32
    }

    fn pay(&mut self, now: Micros) {
        self.paid += u64::from(self.all()) * (now - self.paid_until);
        self.paid_until = now;
    }

    /// Replica-microseconds from the beginning to `at`, which is not before the last change.
    pub fn paid_at(&self, at: Micros) -> u64 {
        self.paid + u64::from(self.all()) * at.saturating_sub(self.paid_until)
    }

    /// Sets how many there should be; when who is ready, of those that begin to start.
    pub fn set(&mut self, now: Micros, wanted: u32) -> Option<(Micros, Vec<Pod>)> {
        self.pay(now);
        let current = self.wanted();
        for _ in wanted..current {
            self.stop_one();
        }
        let ready_at = now + self.cold_start;
        let started: Vec<Pod> = (current..wanted).map(|_| self.start(ready_at)).collect();
        (!started.is_empty()).then_some((ready_at, started))
    }

    fn start(&mut self, ready_at: Micros) -> Pod {
        let pod = self.next;
        self.next += 1;
        self.replicas.insert(pod, Replica { engine: Engine::new(self.figures), phase: Phase::Starting(ready_at) });
        pod
    }

    /// As a ReplicaSet chooses: who is not ready before who is, the youngest first.
    fn stop_one(&mut self) {
        let order = |(pod, replica): &(&Pod, &Replica)| (matches!(replica.phase, Phase::Starting(_)), **pod);
        let candidates = self.replicas.iter().filter(|(_, replica)| replica.phase != Phase::Draining);
        let Some(pod) = candidates.max_by_key(order).map(|(pod, _)| *pod) else { return };
        if let Some(replica) = self.replicas.get_mut(&pod) {
            replica.phase = Phase::Draining;
        }
        self.drop_if_drained(pod);
    }

    fn drop_if_drained(&mut self, pod: Pod) {
        let Some(replica) = self.replicas.get(&pod) else { return };
        if replica.phase == Phase::Draining && replica.engine.requests() == 0 {
            self.generated += replica.engine.generated();
            self.replicas.remove(&pod);
        }
    }

    /// Its model is loaded.
    pub fn becomes_ready(&mut self, now: Micros, pod: Pod) {
        if let Some(replica) = self.replicas.get_mut(&pod)
            && replica.phase == Phase::Starting(now)
        {
            replica.phase = Phase::Ready;
        }
    }

    /// Whether a replica could ever take it.
    pub fn fits(&self, request: &Request) -> bool {
        u64::from(request.prompt) + u64::from(request.output) <= self.figures.kv_tokens
    }

    /// Takes a request at the gateway.
    pub fn arrive(&mut self, id: Id) {
        self.held.push_back(id);
    }

    /// Hands held requests to replicas; who was idle and begins a step now, and until when.
    pub fn dispatch(&mut self, now: Micros, requests: &[Request], begun: &mut Vec<(Micros, Pod)>) {
        while let Some(id) = self.held.front().copied()
            && let Some(pod) = self.least_loaded()
            && let Some(replica) = self.replicas.get_mut(&pod)
        {
            self.held.pop_front();
            let request = &requests[id as usize];
            replica.engine.push(id, request.prompt, request.output);
            if replica.engine.until().is_none()
                && let Some(until) = replica.engine.begin(now)
            {
                begun.push((until, pod));
            }
        }
    }

    /// The ready replica with the least outstanding work, if it may have more.
    fn least_loaded(&self) -> Option<Pod> {
        let ready = self.replicas.iter().filter(|(_, replica)| replica.phase == Phase::Ready);
        // A request in flight weighs as a prompt of 200 tokens: what decoding it slows others down.
        let work = |replica: &Replica| replica.engine.prefill_left() + 200 * replica.engine.requests() as u64;
        let (pod, replica) = ready.min_by_key(|(pod, replica)| (work(replica), **pod))?;
        let backlog = replica.engine.prefill_left() as f64 / self.figures.prefill;
        let may = self.share.is_none_or(|share| backlog < share);
        may.then_some(*pod)
    }

    /// TTFT and time per output token of a request that comes now.
    pub fn forecast(&self, now: Micros, prompt: u32) -> Option<(f64, f64)> {
        let ready = self.replicas.values().filter(|replica| replica.phase == Phase::Ready);
        let best = ready.min_by_key(|replica| replica.engine.prefill_left())?;
        Some(best.engine.forecast(now, prompt))
    }

    /// The engine of a replica.
    pub fn engine(&mut self, pod: Pod) -> Option<&mut Engine> {
        self.replicas.get_mut(&pod).map(|replica| &mut replica.engine)
    }

    /// Begins the next step of a replica; when it is over.
    pub fn next_step(&mut self, now: Micros, pod: Pod) -> Option<Micros> {
        self.pay(now);
        let until = self.engine(pod)?.begin(now);
        self.drop_if_drained(pod);
        until
    }

    /// Requests that the gateway holds.
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// A sum over all that hold a GPU.
    pub fn sum(&self, of: impl Fn(&Engine) -> f64) -> f64 {
        self.replicas.values().map(|replica| of(&replica.engine)).sum()
    }

    /// A sum over those that Prometheus scrapes: they are ready.
    pub fn sum_ready(&self, of: impl Fn(&Engine) -> f64) -> f64 {
        let ready = self.replicas.values().filter(|replica| replica.phase == Phase::Ready);
        ready.map(|replica| of(&replica.engine)).sum()
    }

    /// Tokens that were ever generated.
    pub fn generated(&self) -> u64 {
        self.generated + self.replicas.values().map(|replica| replica.engine.generated()).sum::<u64>()
    }

    /// GPU-seconds that were ever busy, of those that are still there.
    pub fn busy(&self, now: Micros) -> BTreeMap<Pod, f64> {
        let busy = |replica: &Replica| replica.engine.busy(now) as f64 / SECOND as f64;
        self.replicas.iter().map(|(pod, replica)| (*pod, busy(replica))).collect()
    }
}
