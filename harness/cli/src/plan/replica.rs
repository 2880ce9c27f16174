//! What one replica does at a given utilization: how long a prompt waits, and how many streams are open.
//!
//! A replica batches continuously: in each step it generates a token for every stream, and reads a chunk of the prompts that wait, in the
//! order in which they came. So prompts wait for prompts, by the Pollaczek-Khinchine formula of a queue M/G/1, and everybody waits where all
//! places of the batch are taken. That requests are dealt to replicas better than by chance is not counted on; it is the reserve of the plan.

use super::figures::Figures;

/// A replica, and the requests that come.
#[derive(Clone, Copy, Debug)]
pub struct Replica<'a>(pub &'a Figures);

impl Replica<'_> {
    /// What a request costs, in seconds of a replica that does nothing else: to read, and to generate.
    pub fn work(self) -> (f64, f64) {
        (self.0.prompt / self.0.prefill, self.0.output / self.0.decode)
    }

    /// From one token to the next, in seconds, with the batch full.
    pub fn step(self) -> f64 {
        self.0.batch / self.0.decode
    }

    /// How long it takes to read so many tokens, in seconds, with a step for the streams after each chunk.
    pub fn read(self, tokens: f64) -> f64 {
        tokens * (1.0 / self.0.prefill + self.step() / (self.0.chunk - self.0.batch))
    }

    /// Requests a second, at this utilization.
    pub fn requests(self, utilization: f64) -> f64 {
        let (read, write) = self.work();
        utilization / (read + write)
    }

    /// The share of time in which prompts are read, with the steps between; 1 and more where the queue never ends.
    pub fn busy(self, utilization: f64) -> f64 {
        self.requests(utilization) * self.read(self.0.prompt)
    }

    /// How long a prompt waits for others, on average, in seconds.
    fn wait(self, utilization: f64) -> f64 {
        self.busy(utilization) * self.wait_if_any(utilization)
    }

    /// How long one waits that finds others before it. Infinite where the queue never ends.
    fn wait_if_any(self, utilization: f64) -> f64 {
        let busy = self.busy(utilization);
        if busy >= 1.0 {
            return f64::INFINITY;
        }
        self.read(self.0.prompt) * (1.0 + self.0.spread) / 2.0 / (1.0 - busy)
    }

    /// How long a prompt waits and is read, on average, in seconds.
    pub fn prefill_seconds(self, utilization: f64) -> f64 {
        self.wait(utilization) + self.read(self.0.prompt)
    }

    /// What 95 of 100 requests have their first token within, in seconds: waiting and reading have nothing to do with one another, so what
    /// their long ones have beyond the average adds up as squares do. Exact to 3 % where lengths are all alike or spread exponentially.
    pub fn ttft_p95(self, utilization: f64) -> f64 {
        let mean = self.prefill_seconds(utilization);
        if mean.is_infinite() {
            return mean;
        }
        // A wait is spread exponentially, for those who wait at all.
        let wait_p95 = self.wait_if_any(utilization) * (20.0 * self.busy(utilization)).max(1.0).ln();
        let waits = (wait_p95 - self.wait(utilization)).max(0.0);
        let reads = self.read(self.0.long_prompt) - self.read(self.0.prompt);
        // The step that runs when it comes, half of it on average, and the one that generates its token.
        mean + waits.hypot(reads) + 1.5 * self.step()
    }

    /// How long a stream generates, in seconds, with what steps lose to prompts.
    pub fn decode_seconds(self, utilization: f64) -> f64 {
        let (read, _) = self.work();
        self.0.output * self.step() / (1.0 - self.requests(utilization) * read)
    }

    /// Streams that generate, on average, by Little's law.
    pub fn streams(self, utilization: f64) -> f64 {
        self.requests(utilization) * self.decode_seconds(utilization)
    }

    /// Places of the batch that are needed so that 97 of 100 requests find one free, where so many replicas are dealt requests by who has
    /// the fewest: twice the root of the average on top of it.
    pub fn places(self, utilization: f64, replicas: u32) -> f64 {
        let streams = self.streams(utilization);
        streams + 2.0 * (streams / f64::from(replicas)).sqrt()
    }

    /// Whether so many replicas keep the objective at this utilization.
    pub fn holds(self, utilization: f64, replicas: u32) -> bool {
        utilization < 1.0
            && self.places(utilization, replicas) <= self.0.batch
            && self.ttft_p95(utilization) <= self.0.ttft
    }

    /// The highest utilization at which so many replicas keep the objective; 0 where they never do.
    pub fn utilization_max(self, replicas: u32) -> f64 {
        let (mut holds, mut fails) = (0.0, 1.0);
        for _ in 0..50 {
            let middle = (holds + fails) / 2.0;
            if self.holds(middle, replicas) {
                holds = middle;
            } else {
                fails = middle;
            }
        }
        holds
    }
}
