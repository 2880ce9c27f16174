//! What gauges may say, by what the model servers know, who count with tiktoken and know nothing of the filters.
//!
//! A worker says with each tick what it holds, and sets the gauges to what all workers last said. So at any moment a gauge is the sum of what
//! each worker held at some moment of the tick before. What was pending for all of that time is in it; what was not pending at any moment of
//! it is not. Between these two bounds lies what began and ended within a tick: the rate of arrival, times the tick, times two.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use penstock_harness::envoy::Metrics;
use penstock_harness::model_server::ModelServer;

use crate::load::{Ending, Request, TOKENS};

/// The period of the workers' heartbeats.
pub const TICK: Duration = Duration::from_millis(250);
/// How late a tick, a byte or a goodbye may be on a machine that is busy with something else: the tick is longer by that on both sides.
pub const SLACK: Duration = Duration::from_millis(500);
/// So many readings of a gauge are a test of it.
const READINGS_MIN: usize = 20;

const GAUGES: [Gauge; 3] = [Gauge::Requests, Gauge::Prefill, Gauge::Decode];

#[derive(Clone, Copy, Debug)]
enum Gauge {
    Requests,
    Prefill,
    Decode,
}

/// The server, and the request's number there.
type Id = (usize, u64);

/// What a server knows of a request.
#[derive(Clone, Copy, Debug)]
struct Flight {
    prompt: u64,
    generated: u64,
    is_over: bool,
}

#[derive(Debug)]
struct Moment {
    at: Instant,
    flights: BTreeMap<Id, Flight>,
}

/// What the gauges said at some moment between two.
#[derive(Debug)]
struct Reading {
    before: Instant,
    after: Instant,
    values: [u64; 3],
}

/// What servers knew and what gauges said, from moment to moment.
#[derive(Debug, Default)]
pub struct Oracle {
    moments: Vec<Moment>,
    readings: Vec<Reading>,
    /// Prompts as they were counted in the end.
    prompts: BTreeMap<Id, u64>,
}

impl Oracle {
    /// Notes what the servers know now.
    pub fn ask<'a>(&mut self, servers: impl Iterator<Item = &'a ModelServer>) {
        let mut flights = BTreeMap::new();
        for (number, server) in servers.enumerate() {
            for seen in server.requests() {
                let id = (number, seen.id);
                self.prompts.insert(id, seen.prompt_tokens);
                flights.insert(
                    id,
                    Flight { prompt: seen.prompt_tokens, generated: seen.completion_tokens, is_over: seen.done },
                );
            }
        }
        self.moments.push(Moment { at: Instant::now(), flights });
    }

    /// Notes what the gauges said since `before`.
    pub fn read(&mut self, before: Instant, metrics: &Metrics) {
        let tokens = |phase| metrics.sum("penstock_pending_tokens", &[("model", "chat"), ("phase", phase)]);
        let requests = metrics.sum("penstock_pending_requests", &[("model", "chat")]);
        let values = [requests, tokens("prefill"), tokens("decode")].map(|value| value as u64);
        self.readings.push(Reading { before, after: Instant::now(), values });
    }

    /// What the servers have read of prompts, in requests that came after this moment.
    pub fn prompts_since(&self, at: Instant) -> u64 {
        let earlier = self.moments.iter().rfind(|moment| moment.at <= at).map(|moment| &moment.flights);
        let is_later = |id: &Id| earlier.is_none_or(|earlier| earlier.keys().next_back().is_none_or(|last| id > last));
        self.prompts.iter().filter(|(id, _)| is_later(id)).map(|(_, prompt)| prompt).sum()
    }

    /// Holds each reading that is due to what may be, under this load.
    #[track_caller]
    pub fn assert_true(&self, requests: &[Request], is_due: impl Fn(Instant) -> bool) {
        let last = self.moments.last().map(|moment| moment.at);
        let is_known = |reading: &&Reading| Some(reading.after + SLACK) < last;
        let due: Vec<&Reading> =
            self.readings.iter().filter(is_known).filter(|reading| is_due(reading.before)).collect();
        assert!(due.len() >= READINGS_MIN, "only {} readings", due.len());
        for (index, gauge) in GAUGES.into_iter().enumerate() {
            let (mut exact, mut least_max) = (0, 0);
            for reading in &due {
                let said = reading.values[index];
                let (least, most) = self.bounds(gauge, reading, SLACK, requests);
                assert!(
                    (least..=most).contains(&said),
                    "{gauge:?}: {said}, and it is {least} to {most} by what the servers know; {:?} after the beginning",
                    reading.before - self.moments[0].at
                );
                let (least, most) = self.bounds(gauge, reading, Duration::ZERO, requests);
                exact += usize::from((least..=most).contains(&said));
                least_max = least_max.max(least);
            }
            println!(
                "{gauge:?}: {} readings true, {exact} of them to the tick; {least_max} and more at the peak",
                due.len()
            );
            assert!(least_max > 0, "{gauge:?}: nothing was ever pending");
        }
    }

    /// The least and the most that may be pending by what all servers know.
    fn bounds(&self, gauge: Gauge, reading: &Reading, slack: Duration, requests: &[Request]) -> (u64, u64) {
        let (begin, end) = (reading.before - TICK - slack, reading.after + slack);
        let nothing = BTreeMap::new();
        let first = self.moments.iter().rfind(|moment| moment.at <= begin).map_or(&nothing, |moment| &moment.flights);
        let last = self.moments.iter().find(|moment| moment.at >= end).map_or(&nothing, |moment| &moment.flights);
        let is = |flight: &Flight, id: &Id| gauge.of(flight, self.prompts.get(id).copied().unwrap_or(flight.prompt));
        let (mut least, mut most) = (0, 0);
        for (id, flight) in last {
            let was = first.get(id).map(|flight| is(flight, id));
            // It never becomes more.
            least += was.map_or(0, |was| was.min(is(flight, id)));
            most += was.unwrap_or_else(|| is(&Flight { prompt: 0, generated: 0, is_over: false }, id));
        }
        // What no server has seen was pending as long as its client waited.
        let is_unseen = |request: &&Request| matches!(request.ending, Ending::Refused(_) | Ending::Unanswered);
        let unseen = requests.iter().filter(is_unseen).filter(|request| request.began <= end && request.ended >= begin);
        let longest = self.prompts.values().max().copied().unwrap_or(0);
        let one = gauge.of(&Flight { prompt: longest, generated: 0, is_over: false }, longest);
        (least, most + one * unseen.count() as u64)
    }
}

impl Gauge {
    /// What a request counts for.
    fn of(self, flight: &Flight, prompt: u64) -> u64 {
        match self {
            _ if flight.is_over => 0,
            Self::Requests => 1,
            Self::Prefill if flight.generated > 0 => 0,
            Self::Prefill => prompt,
            Self::Decode => TOKENS.saturating_sub(flight.generated),
        }
    }
}
