//! What Prometheus knows: the metrics of the gateway and of the model servers, as they were at each scrape.

use crate::series::Series;
use crate::trace::Micros;

/// Bounds of latency histograms, in seconds: those of the Gateway API inference extension's endpoint picker, the last one without a bound.
pub const BOUNDS: [f64; 24] = [
    0.005,
    0.01,
    0.02,
    0.03,
    0.04,
    0.05,
    0.06,
    0.08,
    0.1,
    0.15,
    0.2,
    0.4,
    0.6,
    0.8,
    1.0,
    1.25,
    1.5,
    2.0,
    3.0,
    4.5,
    6.0,
    12.0,
    30.0,
    f64::INFINITY,
];

/// A histogram's cumulative counts.
#[derive(Clone, Debug)]
pub struct Histogram([f64; BOUNDS.len()]);

impl Default for Histogram {
    fn default() -> Self {
        Self([0.0; BOUNDS.len()])
    }
}

impl Histogram {
    /// Counts a value.
    pub fn observe(&mut self, value: f64) {
        let first = BOUNDS.partition_point(|bound| *bound < value);
        self.0[first..].iter_mut().for_each(|count| *count += 1.0);
    }
}

/// What is read at one scrape.
#[derive(Clone, Debug, Default)]
pub struct Reading {
    /// Requests that came, ever.
    pub requests: f64,
    /// Prompt tokens that came, ever.
    pub prompt: f64,
    /// Output tokens that were expected when they came, ever.
    pub expected: f64,
    /// Prompt tokens of requests that wait for their first token.
    pub pending_prefill: f64,
    /// Output tokens that are expected still.
    pub pending_decode: f64,
    /// Requests that are not answered to the end.
    pub in_flight: f64,
    /// Requests that the model servers, or the gateway, let wait.
    pub waiting: f64,
    /// Requests that the model servers work on.
    pub running: f64,
    /// Shares of KV caches in use, as a sum.
    pub kv: f64,
    /// Shares of the time since the last scrape in which GPUs were busy, as a sum.
    pub busy: f64,
    /// Tokens that were generated, ever.
    pub generated: f64,
    /// The Deployment's replicas.
    pub replicas: f64,
    /// Those that are ready.
    pub ready: f64,
    /// TTFTs as they were forecast when requests came.
    pub ttft: Histogram,
    /// Times per output token as they were forecast.
    pub tpot: Histogram,
}

/// All scrapes.
#[derive(Debug, Default)]
pub struct Scrapes {
    pub requests: Series,
    pub prompt: Series,
    pub expected: Series,
    pub pending_prefill: Series,
    pub pending_decode: Series,
    pub in_flight: Series,
    pub waiting: Series,
    pub running: Series,
    pub kv: Series,
    pub busy: Series,
    pub generated: Series,
    pub replicas: Series,
    pub ready: Series,
    pub ttft: Buckets,
    pub tpot: Buckets,
}

/// A histogram's buckets.
#[derive(Debug, Default)]
pub struct Buckets([Series; BOUNDS.len()]);

impl Buckets {
    fn push(&mut self, at: Micros, read: &Histogram) {
        for (series, count) in self.0.iter_mut().zip(read.0) {
            series.push(at, count);
        }
    }

    /// `rate(…_bucket[window])`, with the bounds.
    pub fn rates(&self, now: Micros, window: Micros) -> Option<Vec<(f64, f64)>> {
        BOUNDS.iter().zip(&self.0).map(|(bound, series)| Some((*bound, series.rate(now, window)?))).collect()
    }
}

impl Scrapes {
    /// Keeps what was read.
    pub fn push(&mut self, at: Micros, read: &Reading) {
        self.requests.push(at, read.requests);
        self.prompt.push(at, read.prompt);
        self.expected.push(at, read.expected);
        self.pending_prefill.push(at, read.pending_prefill);
        self.pending_decode.push(at, read.pending_decode);
        self.in_flight.push(at, read.in_flight);
        self.waiting.push(at, read.waiting);
        self.running.push(at, read.running);
        self.kv.push(at, read.kv);
        self.busy.push(at, read.busy);
        self.generated.push(at, read.generated);
        self.replicas.push(at, read.replicas);
        self.ready.push(at, read.ready);
        self.ttft.push(at, &read.ttft);
        self.tpot.push(at, &read.tpot);
    }
}
