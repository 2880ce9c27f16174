//! The steps of a scenario, against whatever can carry requests.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::check;
use super::exchange::{Answer, Exchange, Sent};
use super::format::{Bound, Concurrent, Request, Scenario, Servers, Step, Upstream};
use crate::message::Headers;

/// Carries requests: the wasmtime host, or a real Envoy.
pub trait Executor {
    /// Sends a request up to the model server, which does not answer yet. Returns a ticket.
    fn open(&mut self, sent: &Sent) -> Result<usize, String>;
    /// Whether the request reached the model server; false when the proxy answered it. Waits until it is one or the other.
    fn admitted(&mut self, ticket: usize) -> Result<bool, String>;
    /// Lets the model server answer, if it was asked, and returns what came of it.
    fn finish(&mut self, ticket: usize) -> Result<Exchange, String>;
    /// Lets time pass.
    fn advance(&mut self, by: Duration) -> Result<(), String>;
    /// Puts another configuration in force. Requests that are open keep theirs.
    fn configure(&mut self, config: &Value) -> Result<(), String>;
    /// Says what clusters answer to calls that the plugins make by HTTP; before, it is 200.
    fn servers(&mut self, answers: &BTreeMap<String, Servers>);
    /// The statistics: Prometheus series with sorted labels.
    fn metrics(&mut self) -> Result<BTreeMap<String, u64>, String>;
    /// How long statistics may take to become what they must be; nothing where time is simulated.
    fn patience(&self) -> Duration;
}

/// Runs the steps. The error names the step and every difference.
pub fn run_steps(scenario: &Scenario, executor: &mut dyn Executor) -> Result<(), String> {
    run_all(scenario, executor, &scenario.steps, &mut Past::default())
}

/// What has happened so far that later requests are made of.
#[derive(Default)]
struct Past {
    /// How many requests were sent.
    sent: usize,
    /// The headers of the answers, each as it came last.
    answers: BTreeMap<String, String>,
}

fn run_all(scenario: &Scenario, executor: &mut dyn Executor, steps: &[Step], past: &mut Past) -> Result<(), String> {
    for (number, step) in steps.iter().enumerate() {
        let (kind, outcome) = match step {
            Step::Request(request) => ("request", run_request(scenario, executor, request, past)),
            Step::Concurrent(concurrent) => ("concurrent", run_concurrent(scenario, executor, concurrent, past)),
            Step::Advance(span) => ("advance", executor.advance(span.0)),
            Step::Configure(config) => ("configure", executor.configure(config)),
            Step::Servers(answers) => {
                executor.servers(answers);
                ("servers", Ok(()))
            }
            Step::Metrics(expected) => ("metrics", check_metrics(executor, expected)),
        };
        outcome.map_err(|why| format!("step {number} ({kind}): {why}"))?;
    }
    Ok(())
}

fn run_request(
    scenario: &Scenario,
    executor: &mut dyn Executor,
    request: &Request,
    past: &mut Past,
) -> Result<(), String> {
    let mut exchanges = Vec::new();
    for repetition in 0..request.times {
        let sent = wire(scenario, request, repetition, past);
        let ticket = executor.open(&sent)?;
        let exchange = executor.finish(ticket)?;
        let headers = exchange.client.headers.iter().flat_map(Headers::iter);
        past.answers
            .extend(headers.map(|(name, value)| (name.to_owned(), String::from_utf8_lossy(value).into_owned())));
        report(check::exchange(&request.expect, &sent, &exchange))
            .map_err(|why| format!("repetition {repetition}: {why}"))?;
        exchanges.push(exchange);
    }
    report(check::repetitions(&request.expect, &exchanges))
}

fn run_concurrent(
    scenario: &Scenario,
    executor: &mut dyn Executor,
    step: &Concurrent,
    past: &mut Past,
) -> Result<(), String> {
    let mut open = Vec::new();
    for request in &step.requests {
        for repetition in 0..request.times {
            let sent = wire(scenario, request, repetition, past);
            open.push((executor.open(&sent)?, request, sent));
        }
    }
    let waiting = run_all(scenario, executor, &step.waiting, past);
    let mut differences: Vec<String> = waiting.err().map(|why| format!("waiting: {why}")).into_iter().collect();
    let mut admitted = Vec::new();
    for (ticket, ..) in &open {
        admitted.push(executor.admitted(*ticket).map_err(|why| [differences.clone(), vec![why]].concat().join("\n"))?);
    }
    let number = admitted.iter().filter(|admitted| **admitted).count() as u64;
    if !step.admitted.holds(number) {
        differences.push(format!("admitted: expected {}, got {number} of {}", step.admitted, open.len()));
    }
    let meanwhile = run_all(scenario, executor, &step.meanwhile, past);
    differences.extend(meanwhile.err().map(|why| format!("meanwhile: {why}")));
    for ((ticket, request, sent), admitted) in open.iter().zip(admitted) {
        let exchange = executor.finish(*ticket)?;
        let expect = if admitted { &request.expect } else { &step.refused };
        differences.extend(check::exchange(expect, sent, &exchange));
    }
    report(differences)
}

fn check_metrics(executor: &mut dyn Executor, expected: &BTreeMap<String, Bound>) -> Result<(), String> {
    let began = Instant::now();
    loop {
        let differences = check::metrics(expected, &executor.metrics()?);
        if differences.is_empty() || began.elapsed() >= executor.patience() {
            return report(differences);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn report(differences: Vec<String>) -> Result<(), String> {
    if differences.is_empty() { Ok(()) } else { Err(differences.join("\n")) }
}

/// A request of the file, as bytes. Requests that name no worker go round all of them.
fn wire(scenario: &Scenario, request: &Request, repetition: usize, past: &mut Past) -> Sent {
    let body = request.bytes().map(|body| past.told(body));
    let method = request.method.clone().unwrap_or_else(|| if body.is_some() { "POST" } else { "GET" }.to_owned());
    let mut headers = Vec::new();
    if let Some(body) = &body {
        headers.push(("content-type".to_owned(), b"application/json".to_vec()));
        headers.push(("content-length".to_owned(), body.len().to_string().into_bytes()));
    }
    for (name, value) in &request.headers {
        headers.retain(|(other, _)| other != name);
        headers.push((name.clone(), number_in(&value.0, repetition)));
    }
    let worker = request.worker.unwrap_or(past.sent % scenario.workers.max(1));
    past.sent += 1;
    let (path, answer) = (request.path.clone(), answer(&request.upstream));
    Sent {
        method,
        path,
        headers,
        body,
        chunks: request.chunks,
        body_after: request.body_after.0,
        worker,
        abort: request.abort_after,
        answer,
    }
}

impl Past {
    /// The bytes, with what answers had in the place of `{answer NAME}`.
    fn told(&self, bytes: Vec<u8>) -> Vec<u8> {
        let Some(text) = std::str::from_utf8(&bytes).ok().filter(|text| text.contains("{answer ")) else {
            return bytes;
        };
        let put = |text: String, (name, value): (&String, &String)| text.replace(&format!("{{answer {name}}}"), value);
        self.answers.iter().fold(text.to_owned(), put).into_bytes()
    }
}

fn number_in(value: &[u8], repetition: usize) -> Vec<u8> {
    match std::str::from_utf8(value) {
        Ok(text) => text.replace("{n}", &repetition.to_string()).into_bytes(),
        Err(_) => value.to_vec(),
    }
}

fn answer(upstream: &Upstream) -> Answer {
    let (kind, pieces) = match (&upstream.sse, &upstream.text) {
        (Some(events), _) => {
            let data = |event: &serde_json::Value| event.as_str().map_or_else(|| event.to_string(), str::to_owned);
            (
                "text/event-stream",
                events.iter().map(|event| format!("data: {}\n\n", data(event)).into_bytes()).collect(),
            )
        }
        (None, Some(text)) => ("text/plain", split(text.as_bytes(), upstream.chunks.unwrap_or(1))),
        (None, None) => {
            let json = upstream.json.as_ref().map_or_else(|| "{}".to_owned(), ToString::to_string);
            ("application/json", split(json.as_bytes(), upstream.chunks.unwrap_or(1)))
        }
    };
    let mut headers = vec![("content-type".to_owned(), kind.as_bytes().to_vec())];
    if upstream.sse.is_none() {
        headers
            .push(("content-length".to_owned(), pieces.iter().map(Vec::len).sum::<usize>().to_string().into_bytes()));
    }
    for (name, value) in &upstream.headers {
        headers.retain(|(other, _)| other != name);
        headers.push((name.clone(), value.0.clone()));
    }
    let status = upstream.status.unwrap_or(200);
    Answer {
        status,
        headers,
        pieces,
        delay: upstream.delay.0,
        every: upstream.every.0,
        reset_after: upstream.reset_after,
        unreachable: upstream.unreachable,
        follow: upstream.follow.as_deref().map(|upstream| Box::new(answer(upstream))),
    }
}

/// Cuts bytes into pieces of nearly the same size: at most as many as there are bytes, at least one.
pub(super) fn split(bytes: &[u8], pieces: usize) -> Vec<Vec<u8>> {
    if bytes.is_empty() {
        return vec![Vec::new()];
    }
    let pieces = pieces.clamp(1, bytes.len());
    (0..pieces).map(|index| bytes[bytes.len() * index / pieces..bytes.len() * (index + 1) / pieces].to_vec()).collect()
}
