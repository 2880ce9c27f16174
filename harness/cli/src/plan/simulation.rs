//! Model servers, one event after the other: what a plan is held against. It knows the figures, and none of the formulas.
//!
//! Each server batches continuously, as vLLM does: a step generates a token for each stream, and reads what its budget of tokens has left
//! of the prompts that came first. A request goes to that of two servers, drawn by chance, which has fewer, as Envoy's LEAST_REQUEST does.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use penstock_simulate::Random;

use super::figures::Measured;

/// How lengths are spread around their average.
#[derive(Clone, Copy, Debug)]
pub enum Spread {
    /// All alike.
    None,
    /// Exponentially: 95 of 100 are below three times the average.
    Exponential,
    /// As a logarithm of a normal distribution with this standard deviation.
    LogNormal(f64),
}

/// A request, in its turn: when it came, what is to be read of it yet, and what it will generate.
struct Request {
    came: f64,
    unread: f64,
    output: u64,
}

#[derive(Default)]
struct Server {
    waiting: VecDeque<Request>,
    /// In the batch, and not yet read.
    reading: VecDeque<Request>,
    /// In the batch, by the step after which they are done.
    streams: BinaryHeap<Reverse<u64>>,
    steps: u64,
    is_busy: bool,
}

impl Server {
    fn requests(&self) -> usize {
        self.waiting.len() + self.reading.len() + self.streams.len()
    }

    /// Begins a step: how long it takes; `None` where there is nothing to do.
    fn begin(&mut self, of: &Measured) -> Option<f64> {
        let batch = of.batch as usize;
        let mut budget = of.prefill_chunk - self.streams.len() as f64;
        let has_streams = !self.streams.is_empty();
        let mut read = 0.0;
        let mut i = 0;
        while budget > 0.0 {
            if i == self.reading.len() {
                let is_full = self.streams.len() + self.reading.len() >= batch;
                let Some(next) = self.waiting.pop_front_if(|_| !is_full) else { break };
                self.reading.push_back(next);
            }
            let now = self.reading[i].unread.min(budget);
            self.reading[i].unread -= now;
            read += now;
            budget -= now;
            i += 1;
        }
        self.is_busy = has_streams || !self.reading.is_empty();
        // A step takes as long as it was measured with a full batch: memory is read once, for however many streams.
        let step = if has_streams { of.batch / of.decode_tokens_per_second } else { 0.0 };
        self.is_busy.then_some(step + read / of.prefill_tokens_per_second)
    }

    /// Ends a step: the requests that have their first token now.
    fn end(&mut self) -> Vec<f64> {
        self.steps += 1;
        while self.streams.peek().is_some_and(|Reverse(done)| *done <= self.steps) {
            self.streams.pop();
        }
        let mut first = Vec::new();
        while let Some(request) = self.reading.pop_front_if(|request| request.unread <= 1e-9) {
            first.push(request.came);
            if request.output > 1 {
                self.streams.push(Reverse(self.steps + request.output - 1));
            }
        }
        first
    }
}

/// The share of requests with a first token within `ttft_seconds`, where so many servers get so many requests a second.
pub fn share_within(of: &Measured, requests_per_second: f64, servers: u32, spread: Spread, seed: u64) -> f64 {
    const REQUESTS: usize = 12_000;
    /// Until the servers are as full as they stay.
    const WARM_UP: usize = 3_000;
    let mut random = Random(seed);
    let mut servers: Vec<Server> = (0..servers).map(|_| Server::default()).collect();
    let mut steps: BinaryHeap<Reverse<(Instant, usize)>> = BinaryHeap::new();
    let mut next = 0.0;
    let (mut arrived, mut answered, mut within) = (0, 0_usize, 0_usize);
    let warm = WARM_UP as f64 / requests_per_second;
    while arrived < REQUESTS || !steps.is_empty() {
        let is_arrival = arrived < REQUESTS && steps.peek().is_none_or(|Reverse((Instant(end), _))| next <= *end);
        let (now, at) = if is_arrival {
            let came = next;
            next += random.exponential() / requests_per_second;
            arrived += 1;
            let mut drawn = || random.below(servers.len() as u64) as usize;
            let (a, b) = (drawn(), drawn());
            let at = if servers[a].requests() <= servers[b].requests() { a } else { b };
            let unread = of.prompt_tokens * (1.0 - of.cached) * self::spread(&mut random, spread);
            let output = (of.output_tokens * random.exponential()).ceil() as u64;
            servers[at].waiting.push_back(Request { came, unread, output });
            if servers[at].is_busy {
                continue;
            }
            (came, at)
        } else {
            let Some(Reverse((Instant(end), at))) = steps.pop() else { break };
            for came in servers[at].end().into_iter().filter(|came| *came >= warm) {
                answered += 1;
                within += usize::from(end - came <= of.ttft_seconds);
            }
            (end, at)
        };
        if let Some(takes) = servers[at].begin(of) {
            steps.push(Reverse((Instant(now + takes), at)));
        }
    }
    within as f64 / answered as f64
}

/// A time, in seconds, in its order.
#[derive(Clone, Copy, PartialEq)]
struct Instant(f64);

impl Eq for Instant {}

impl PartialOrd for Instant {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Instant {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

/// A length, with an average of 1.
fn spread(random: &mut Random, spread: Spread) -> f64 {
    match spread {
        Spread::None => 1.0,
        Spread::Exponential => random.exponential(),
        Spread::LogNormal(deviation) => {
            let normal = (-2.0 * random.share().ln()).sqrt() * (std::f64::consts::TAU * random.share()).cos();
            (deviation * normal - deviation * deviation / 2.0).exp()
        }
    }
}
