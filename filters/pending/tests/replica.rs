//! What is learnt of servers whose rates are known: continuous batching, several servers, several workers in front of them.

use std::collections::VecDeque;

use penstock_pending::{Figures, Learnt, Ledger};
use penstock_units::{Millis, Nanos, Tokens};

/// Tokens a second: what a server reads, what it generates in all, and what one stream gets of that at most.
const PREFILL: f64 = 12_000.0;
const DECODE: f64 = 1500.0;
const STREAM: f64 = 60.0;
/// On the way to the server and back, in milliseconds.
const WAY: u64 = 20;
const STEP: u64 = 5;
const TICK: u64 = 500;
const WORKERS: usize = 4;
const HOSTS: usize = 3;

/// Splitmix64.
struct Draw(u64);

impl Draw {
    fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Many are small, and some are large.
    fn skewed(&mut self, least: f64, most: f64) -> f64 {
        least * (most / least).powf(self.unit().powi(2))
    }
}

struct Request {
    id: u32,
    worker: usize,
    came: u64,
    /// From when it came to its first token.
    waited: u64,
    prompt: u64,
    cached: u64,
    to_read: f64,
    to_write: f64,
    /// Generated, and not yet a whole token.
    part: f64,
}

struct World {
    now: u64,
    draw: Draw,
    ledgers: Vec<Ledger>,
    queues: Vec<VecDeque<Request>>,
    batches: Vec<Vec<Request>>,
    learnt: Learnt,
    next: u32,
    /// The share of prompts that is cached.
    cached: f64,
}

impl World {
    fn new(seed: u64, cached: f64) -> Self {
        Self {
            now: 1_700_000_000_000,
            draw: Draw(seed),
            ledgers: (0..WORKERS).map(|_| Ledger::default()).collect(),
            queues: (0..HOSTS).map(|_| VecDeque::new()).collect(),
            batches: (0..HOSTS).map(|_| Vec::new()).collect(),
            learnt: Learnt::default(),
            next: 0,
            cached,
        }
    }

    /// Runs for so long with so many requests a second.
    fn run(&mut self, seconds: u64, rate: f64) -> Figures {
        for _ in 0..seconds * 1000 / STEP {
            self.now += STEP;
            if self.draw.unit() < rate * STEP as f64 / 1000.0 {
                self.arrive();
            }
            (0..HOSTS).for_each(|host| self.work(host));
            if self.now.is_multiple_of(TICK) {
                self.tick();
            }
        }
        self.learnt.figures()
    }

    fn arrive(&mut self) {
        self.next += 1;
        let (id, worker, host) = (self.next, self.next as usize % WORKERS, (self.draw.unit() * HOSTS as f64) as usize);
        let prompt = self.draw.skewed(100.0, 8000.0);
        let cached = prompt * if self.draw.unit() < 0.5 { 0.0 } else { 2.0 * self.cached };
        let to_write = self.draw.skewed(20.0, 800.0);
        let now = Nanos(self.now * 1_000_000);
        let [tokens, expected] = [prompt, to_write].map(|tokens| Tokens(tokens as u64));
        self.ledgers[worker].admit(id, ["chat", "v1"], "t", tokens, expected, now);
        let (prompt, cached, came) = (prompt as u64, cached as u64, self.now);
        let to_read = (prompt - cached) as f64;
        self.queues[host].push_back(Request {
            id,
            worker,
            came,
            waited: 0,
            prompt,
            cached,
            to_read,
            to_write,
            part: 0.0,
        });
    }

    fn work(&mut self, host: usize) {
        let step = STEP as f64 / 1000.0;
        let mut budget = PREFILL * step;
        while let Some(head) = self.queues[host].front_mut() {
            let read = head.to_read.min(budget);
            head.to_read -= read;
            budget -= read;
            if head.to_read > 0.0 {
                break;
            }
            let mut request = self.queues[host].pop_front().unwrap();
            request.waited = self.now - request.came + WAY;
            self.ledgers[request.worker].first_token(request.id, Some(host as u64));
            self.batches[host].push(request);
        }
        let each = STREAM.min(DECODE / self.batches[host].len().max(1) as f64) * step;
        for request in &mut self.batches[host] {
            request.part += each;
            request.to_write -= each;
            let whole = request.part.floor();
            request.part -= whole;
            self.ledgers[request.worker].decoded(request.id, Tokens(whole as u64));
        }
        let over: Vec<Request> = self.batches[host].extract_if(.., |request| request.to_write <= 0.0).collect();
        for Request { id, worker, waited, prompt, cached, .. } in over {
            let ledger = &mut self.ledgers[worker];
            let landed = ledger.done(id).unwrap();
            let lesson = ledger.lesson(landed).unwrap();
            lesson.reported(Tokens(prompt), Tokens(prompt), Tokens(cached));
            lesson.answered(Tokens(prompt - cached), Millis(waited));
        }
    }

    fn tick(&mut self) {
        for ledger in &mut self.ledgers {
            let news: Vec<_> = ledger.news().map(|(_, _, lesson)| lesson).collect();
            for lesson in news.into_iter().filter(|lesson| !lesson.is_empty()) {
                let now = Nanos(self.now * 1_000_000);
                self.learnt = std::mem::take(&mut self.learnt).heard(lesson, now, Nanos(TICK * 1_000_000));
            }
            ledger.expect_cached(["chat", "v1"], self.learnt.ratio());
        }
    }
}

fn off(learnt: Option<u64>, known: f64) -> f64 {
    (learnt.unwrap_or(0) as f64 - known) / known * 100.0
}

/// Three servers do little at 2 requests a second, work hard at 20, and have more than they can do at 45.
///
/// What is read of prompts is within 12 % all the while. What is generated is seen from below, and within 12 % from when there was more than
/// the servers could do; a quiet night after that forgets nothing.
#[test]
fn rates_are_learnt_of_little_and_of_much_to_do() {
    let near = |off: f64| (-12.0..12.0).contains(&off);
    for (seed, cached) in [(0, 0.0), (1, 0.3)] {
        let mut world = World::new(seed, cached);
        for (load, seconds, rate, is_full) in [
            ("light", 600, 2.0, false),
            ("busy", 600, 20.0, false),
            ("full", 300, 45.0, true),
            ("night", 900, 1.0, true),
        ] {
            let figures = world.run(seconds, rate);
            let (prefill, decode) = (off(figures.prefill, PREFILL), off(figures.decode, DECODE));
            eprintln!("{load}: prefill {prefill:+.1} %, decode {decode:+.1} %");
            assert!(near(prefill), "{load}: {prefill:+.1} %, {figures:?}");
            assert!(if is_full { near(decode) } else { decode < 5.0 }, "{load}: {decode:+.1} %, {figures:?}");
        }
        let expected = world.learnt.ratio().of(Tokens(100_000)).0 as f64 / 100_000.0;
        assert!((expected - cached).abs() < 0.05, "{expected} of {cached}");
    }
}
