//! What came of a run, in figures.

use serde::Serialize;

use crate::trace::{Micros, Request, SECOND};

/// What is promised to users.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Objectives {
    /// Seconds until the first token.
    pub ttft: f64,
    /// Seconds for each further token, as a request's mean; infinite where nothing is promised.
    #[serde(skip_serializing_if = "is_infinite")]
    pub tpot: f64,
    /// The share of requests for which both have to hold.
    pub attainment: f64,
}

/// Serde asks with a reference.
#[allow(clippy::trivially_copy_pass_by_ref, reason = "the form that serde wants")]
fn is_infinite(value: &f64) -> bool {
    value.is_infinite()
}

/// Of how many requests or tokens something took at most so long, in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Percentiles {
    /// Half of them.
    pub p50: f64,
    /// 90 of 100.
    pub p90: f64,
    /// 95 of 100.
    pub p95: f64,
    /// 99 of 100.
    pub p99: f64,
    /// All.
    pub max: f64,
}

impl Percentiles {
    fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let at = |q: f64| values.get(((values.len() as f64 * q).ceil() as usize).saturating_sub(1)).copied();
        let [p50, p90, p95, p99, max] = [0.5, 0.9, 0.95, 0.99, 1.0].map(|q| at(q).unwrap_or(0.0));
        Self { p50, p90, p95, p99, max }
    }
}

/// One moment of a run, as it was scraped.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Point {
    /// Seconds since the beginning.
    pub at: f64,
    /// The Deployment's replicas.
    pub replicas: u32,
    /// Those that are ready.
    pub ready: u32,
    /// Work that arrived since the last point, in replicas.
    pub work: f64,
    /// Requests that wait for their first token.
    pub waiting: u32,
    /// TTFT that 95 of 100 requests had which arrived since the last point.
    pub ttft: f64,
}

/// What came of a run.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Outcome {
    /// Requests of the trace.
    pub requests: usize,
    /// Those that no replica could take.
    pub refused: usize,
    /// Those that had no answer two hours after the end.
    pub unserved: usize,
    /// The share for which the objectives held.
    pub attainment: f64,
    /// Time to first token.
    pub ttft: Percentiles,
    /// Time per output token, as a mean of each request.
    pub tpot: Percentiles,
    /// Time between two tokens.
    pub inter_token: Percentiles,
    /// Replicas times seconds, from the beginning of a start to the end of a drain.
    pub replica_seconds: f64,
    /// The Deployment's replicas, on average over time: what starts counts, what drains does not.
    pub replicas_mean: f64,
    /// The most of them.
    pub replicas_peak: u32,
    /// How often it was scaled up.
    pub scaled_up: usize,
    /// How often it was scaled down.
    pub scaled_down: usize,
    /// How often it was scaled the other way within five minutes.
    pub flaps: usize,
    /// How often it was scaled down while more work arrived in the last two minutes than in the two before.
    pub down_while_rising: usize,
    /// Prompt tokens that were computed, of those that came and of those that had to be computed anew.
    pub prompt_tokens: u64,
    /// Output tokens that were generated.
    pub output_tokens: u64,
    /// The course of it.
    pub points: Vec<Point>,
}

/// When a request's first and last token came.
#[derive(Clone, Copy, Debug, Default)]
pub struct Answer {
    pub first: Option<Micros>,
    pub done: Option<Micros>,
}

/// Times between tokens, in buckets that are 2 % wide: there are millions of them.
#[derive(Debug, Default)]
pub struct Gaps(Vec<u64>);

const WIDTH: f64 = 1.02;

impl Gaps {
    pub fn add(&mut self, gap: Micros, count: u64) {
        let bucket = ((gap.max(1) as f64).ln() / WIDTH.ln()).ceil() as usize;
        if self.0.len() <= bucket {
            self.0.resize(bucket + 1, 0);
        }
        self.0[bucket] += count;
    }

    fn percentiles(&self) -> Percentiles {
        let total: u64 = self.0.iter().sum();
        let at = |q: f64| {
            let rank = (total as f64 * q).ceil() as u64;
            let mut sum = 0;
            let bucket = self.0.iter().position(|count| {
                sum += count;
                sum >= rank.max(1)
            });
            bucket.map_or(0.0, |bucket| WIDTH.powi(bucket as i32) / SECOND as f64)
        };
        let [p50, p90, p95, p99, max] = [0.5, 0.9, 0.95, 0.99, 1.0].map(at);
        Percentiles { p50, p90, p95, p99, max }
    }
}

/// What a run keeps of itself.
#[derive(Debug, Default)]
pub struct Record {
    pub answers: Vec<Answer>,
    pub gaps: Gaps,
    pub refused: usize,
    /// When the Deployment's replicas changed, and to what, the beginning included.
    pub changes: Vec<(Micros, u32)>,
    pub points: Vec<Point>,
    pub replica_micros: u64,
    pub accounted: Micros,
    pub prompt_tokens: u64,
    pub output_tokens: u64,
}

impl Record {
    /// The figures. `work` is a request's, in replica-seconds.
    pub fn outcome(mut self, requests: &[Request], objectives: &Objectives, work: impl Fn(&Request) -> f64) -> Outcome {
        let seconds = |micros: Micros| micros as f64 / SECOND as f64;
        let answered = || requests.iter().zip(&self.answers);
        let ttft = |request: &Request, answer: &Answer| answer.first.map(|first| seconds(first - request.at));
        let tpot = |request: &Request, answer: &Answer| {
            let (first, done) = answer.first.zip(answer.done)?;
            Some(if request.output > 1 { seconds(done - first) / f64::from(request.output - 1) } else { 0.0 })
        };
        let holds = |request: &Request, answer: &Answer| {
            ttft(request, answer).is_some_and(|ttft| ttft <= objectives.ttft)
                && tpot(request, answer).is_some_and(|tpot| tpot <= objectives.tpot)
        };
        let attained = answered().filter(|(request, answer)| holds(request, answer)).count();
        let unserved = self.answers.iter().filter(|answer| answer.done.is_none()).count() - self.refused;
        let ttfts = Percentiles::of(answered().filter_map(|(request, answer)| ttft(request, answer)).collect());
        let tpots =
            answered().filter(|(request, _)| request.output > 1).filter_map(|(request, answer)| tpot(request, answer));
        let tpots = Percentiles::of(tpots.collect());
        fill(&mut self.points, requests, &self.answers, &work);
        let (ups, downs): (Vec<_>, Vec<_>) = steps(&self.changes).partition(|(_, up)| *up);
        let rising = |now: Micros| {
            let sum = |from: Micros, to: Micros| {
                let index = |at: Micros| requests.partition_point(|request| request.at < at);
                requests[index(from)..index(to)].iter().map(&work).sum::<f64>()
            };
            let (old, middle) = (now.saturating_sub(240 * SECOND), now.saturating_sub(120 * SECOND));
            sum(middle, now) > sum(old, middle) * 1.05
        };
        Outcome {
            requests: requests.len(),
            refused: self.refused,
            unserved,
            attainment: attained as f64 / requests.len().max(1) as f64,
            ttft: ttfts,
            tpot: tpots,
            inter_token: self.gaps.percentiles(),
            replica_seconds: self.replica_micros as f64 / SECOND as f64,
            replicas_mean: mean(&self.changes, self.accounted),
            replicas_peak: self.changes.iter().map(|(_, replicas)| *replicas).max().unwrap_or(0),
            scaled_up: ups.len(),
            scaled_down: downs.len(),
            flaps: flaps(&self.changes),
            down_while_rising: downs.iter().filter(|(at, _)| rising(*at)).count(),
            prompt_tokens: self.prompt_tokens,
            output_tokens: self.output_tokens,
            points: self.points,
        }
    }
}

/// Each change: when, and whether it was up.
fn steps(changes: &[(Micros, u32)]) -> impl Iterator<Item = (Micros, bool)> {
    changes.windows(2).map(|pair| (pair[1].0, pair[1].1 > pair[0].1))
}

fn flaps(changes: &[(Micros, u32)]) -> usize {
    let steps: Vec<_> = steps(changes).collect();
    steps.windows(2).filter(|pair| pair[0].1 != pair[1].1 && pair[1].0 - pair[0].0 <= 300 * SECOND).count()
}

fn mean(changes: &[(Micros, u32)], until: Micros) -> f64 {
    let ends = changes.iter().skip(1).map(|(at, _)| *at).chain([until]);
    let spent = changes
        .iter()
        .zip(ends)
        .map(|((at, replicas), end)| f64::from(*replicas) * (end.min(until).saturating_sub(*at)) as f64);
    spent.sum::<f64>() / until.max(1) as f64
}

/// What is only known in the end: TTFTs and work between two points.
fn fill(points: &mut [Point], requests: &[Request], answers: &[Answer], work: &impl Fn(&Request) -> f64) {
    let (mut next, mut since) = (0, 0.0);
    for point in points {
        let until = (point.at * SECOND as f64) as Micros;
        let end = next + requests[next..].partition_point(|request| request.at < until);
        let between = next..end;
        let ttfts = requests[between.clone()].iter().zip(&answers[between.clone()]).map(|(request, answer)| {
            answer.first.map_or(f64::NAN, |first| (first - request.at) as f64 / SECOND as f64)
        });
        point.ttft = Percentiles::of(ttfts.filter(|ttft| ttft.is_finite()).collect()).p95;
        point.work = requests[between].iter().map(work).sum::<f64>() / (point.at - since).max(1e-9);
        (next, since) = (end, point.at);
    }
}
