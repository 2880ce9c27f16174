//! Scenarios on the wasmtime host.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::chain::Chain;
use super::exchange::{Answer, Exchange, Sent};
use super::format::{Abort, Scenario, Servers, Unreachable};
use super::run::{Executor, run_steps, split};
use crate::host::{FailPolicy, Host, Module, Options, Plugin, Protocol, Status, StreamId};
use crate::message::Headers;

/// How long a request may stay undecided on the simulated clock: a proxy whose headers cannot wait needs ticks to find that out.
const UNDECIDED_MAX: Duration = Duration::from_secs(5);
const UNDECIDED_STEP: Duration = Duration::from_millis(100);

/// The buffer limit that the shipped configurations set.
const BUFFER_LIMIT: usize = 4 << 20;

/// Runs one scenario on the wasmtime host, from the first step to the last invariant.
///
/// # Errors
/// When something is not as the scenario says, with every difference and what the plugins logged.
pub fn run_on_host(scenario: &Scenario, chain: Chain, wasm_dir: &Path) -> Result<(), String> {
    let started = HostExecutor::start(scenario, chain, wasm_dir);
    if !scenario.config_refused.is_empty() {
        let error = started.err().ok_or("config_refused: the config was accepted")?;
        let missing: Vec<&String> = scenario.config_refused.iter().filter(|words| !error.contains(*words)).collect();
        return if missing.is_empty() {
            Ok(())
        } else {
            Err(format!("config_refused: {missing:?} is not in:\n{error}"))
        };
    }
    let mut executor = started?;
    let outcome = run_steps(scenario, &mut executor).and_then(|()| executor.invariants());
    outcome.map_err(|why| [vec![why], executor.complaints()].concat().join("\n"))
}

/// A wasmtime host with a chain of plugins.
pub struct HostExecutor {
    host: Host,
    plugins: usize,
    open: Vec<Open>,
    servers: BTreeMap<String, Servers>,
    /// Plugins may call somebody.
    calls: bool,
}

struct Open {
    worker: usize,
    stream: StreamId,
    sent: Sent,
}

impl HostExecutor {
    /// Loads the chain from `wasm_dir` with the scenario's config. The error is what the plugins logged.
    pub fn start(scenario: &Scenario, chain: Chain, wasm_dir: &Path) -> Result<Self, String> {
        let plugins = chain.plugins().iter().map(|name| {
            let file = if chain == Chain::RowInOneVm { "penstock" } else { name };
            let module = Module::from_file(&wasm_dir.join(format!("{file}.wasm")))
                .map_err(|error| format!("{error}; `cargo xtask build` makes it"))?;
            let configuration = scenario.config.to_string().into_bytes();
            Ok(Plugin {
                module,
                name: (*name).to_owned(),
                root_id: (*name).to_owned(),
                vm_id: "penstock".to_owned(),
                configuration,
            })
        });
        Self::with_plugins(scenario, &plugins.collect::<Result<Vec<_>, String>>()?)
    }

    pub(super) fn with_plugins(scenario: &Scenario, plugins: &[Plugin]) -> Result<Self, String> {
        let options = Options {
            workers: scenario.workers,
            wait_for_body: scenario.wait_for_body,
            buffer_limit: BUFFER_LIMIT,
            fail: FailPolicy::Reload,
            ..Options::default()
        };
        let host = Host::start(plugins, &options)?;
        host.fail_calls(Unreachable::NoHost.label(), Status::InternalFailure);
        host.fail_calls(Unreachable::NoCluster.label(), Status::BadArgument);
        let servers = BTreeMap::from([(Unreachable::Refused.label().to_owned(), Servers::Status(503))]);
        let calls = scenario.config.to_string().contains("coldStart");
        Ok(HostExecutor { host, plugins: plugins.len(), open: Vec::new(), servers, calls })
    }

    /// Time passes, in which calls of the plugins are answered.
    fn pass(&self, by: Duration) {
        if !self.calls {
            return self.host.advance(by);
        }
        let until = self.host.now() + by;
        loop {
            self.answer_calls();
            let left = until.saturating_sub(self.host.now());
            if left.is_zero() {
                return;
            }
            self.host.advance(left.min(UNDECIDED_STEP));
        }
    }

    fn answer_calls(&self) {
        for index in 0..self.host.workers() {
            let calls = self.host.worker(index).callouts();
            for call in calls.into_iter().filter(|call| call.protocol == Protocol::Http) {
                let upstream = String::from_utf8_lossy(&call.upstream).into_owned();
                let answer = self.servers.get(&upstream).copied().unwrap_or(Servers::Status(200));
                if let Servers::Status(status) = answer {
                    self.host.worker(index).answer_call(
                        call.token,
                        Headers::new([(":status", status.to_string())]),
                        b"",
                    );
                }
            }
        }
    }

    /// What must hold after every scenario: no VM died, and no context outlived its stream.
    pub(super) fn invariants(&self) -> Result<(), String> {
        for index in 0..self.host.workers() {
            let mut worker = self.host.worker(index);
            let (contexts, failures) = (worker.contexts(), worker.failures());
            if !failures.is_empty() || self.host.log().iter().any(|line| line.message.starts_with("vm failed")) {
                return Err(format!("a VM of worker {index} died: {failures:?}"));
            }
            if contexts != self.plugins {
                return Err(format!(
                    "worker {index} has {contexts} contexts after the last stream, not {}",
                    self.plugins
                ));
            }
        }
        Ok(())
    }

    fn complaints(&self) -> Vec<String> {
        let lines = self.host.log().into_iter().filter(|line| line.level >= 3);
        let mut said: Vec<String> = Vec::new();
        for line in lines.map(|line| format!("log: worker {}: {}", line.worker, line.message)) {
            // What every plugin says of the same configuration is said once.
            if !said.contains(&line) {
                said.push(line);
            }
        }
        said
    }

    fn finished(&self, open: &Open) -> bool {
        self.host.worker(open.worker).finished(open.stream)
    }

    /// Lets time pass until the request is either at the model server or answered.
    fn decide(&self, open: &Open) -> Result<bool, String> {
        let (began, deadline) = (self.host.now(), self.host.now() + UNDECIDED_MAX);
        loop {
            self.answer_calls();
            let upstream = self.host.worker(open.worker).upstream(open.stream);
            if self.finished(open) {
                return Ok(upstream.headers.is_some());
            }
            if upstream.end || (open.sent.abort.is_some() && upstream.headers.is_some()) {
                return Ok(true);
            }
            if matches!(open.sent.abort, Some(Abort::Waiting(span)) if self.host.now() >= began + span.0) {
                self.host.worker(open.worker).client_abort(open.stream);
                return Ok(upstream.headers.is_some());
            }
            if self.host.now() >= deadline {
                return Err(format!(
                    "stuck: the request is neither forwarded nor answered; the model server has {upstream:?}"
                ));
            }
            self.pass(UNDECIDED_STEP);
        }
    }

    fn answer(&mut self, ticket: usize) -> Result<(), String> {
        let Open { worker, stream, sent } = &self.open[ticket];
        let (index, mut stream, sent) = (*worker, *stream, sent.clone());
        let mut answer = &sent.answer;
        while let Some((location, next)) = answer.followed() {
            self.host.advance(answer.delay);
            // What stands before the path leads to the same server.
            let path = location.split_once("://").map_or(location, |(_, rest)| &rest[rest.find('/').unwrap_or(0)..]);
            stream =
                self.host.worker(index).follow_redirect(stream, path).ok_or("nothing to follow a redirect with")?;
            self.open[ticket].stream = stream;
            self.decide(&self.open[ticket])?;
            answer = next;
        }
        if !self.finished(&self.open[ticket]) {
            self.play(index, stream, answer, sent.abort);
        }
        Ok(())
    }

    fn play(&self, index: usize, stream: StreamId, answer: &Answer, abort: Option<Abort>) {
        let worker = || self.host.worker(index);
        self.host.advance(answer.delay);
        if let Some(why) = answer.unreachable {
            return worker().upstream_fails(stream, why.details());
        }
        if answer.reset_after == Some(0) {
            return worker().upstream_reset(stream);
        }
        let status = Headers::new([(":status", answer.status.to_string())]);
        let headers = status.iter().chain(answer.headers.iter().map(|(name, value)| (name.as_str(), value.as_slice())));
        worker().response_headers(stream, Headers::new(headers), false);
        for (index, piece) in answer.pieces.iter().enumerate() {
            if index > 0 {
                self.host.advance(answer.every);
            }
            worker().response_body(stream, piece, false);
            if answer.reset_after == Some(index + 1) {
                return worker().upstream_reset(stream);
            }
            if matches!(abort, Some(Abort::Events(events)) if events == index + 1) {
                return worker().client_abort(stream);
            }
        }
        worker().response_body(stream, b"", true);
    }
}

impl Executor for HostExecutor {
    fn open(&mut self, sent: &Sent) -> Result<usize, String> {
        let mut headers = Headers::new([
            (":method", sent.method.as_str()),
            (":path", &sent.path),
            (":scheme", "http"),
            (":authority", "penstock.test"),
        ]);
        sent.headers.iter().for_each(|(name, value)| headers.add(name, value));
        let mut worker = self.host.worker(sent.worker);
        let stream = worker.open(headers, sent.body.as_ref().is_none_or(Vec::is_empty));
        if let Some(body) = sent.body.as_ref().filter(|body| !body.is_empty()) {
            if !sent.body_after.is_zero() {
                drop(worker);
                self.host.advance(sent.body_after);
                worker = self.host.worker(sent.worker);
            }
            let left = match sent.abort {
                Some(Abort::Bytes(bytes)) => &body[..bytes.min(body.len())],
                _ => body,
            };
            for piece in split(left, sent.chunks) {
                worker.request_body(stream, &piece, false);
            }
            if matches!(sent.abort, Some(Abort::Bytes(_))) {
                worker.client_abort(stream);
            } else {
                // HTTP/1 ends a body with an empty last piece.
                worker.request_body(stream, b"", true);
            }
        }
        drop(worker);
        self.open.push(Open { worker: sent.worker, stream, sent: sent.clone() });
        Ok(self.open.len() - 1)
    }

    fn admitted(&mut self, ticket: usize) -> Result<bool, String> {
        self.decide(&self.open[ticket])
    }

    fn finish(&mut self, ticket: usize) -> Result<Exchange, String> {
        self.decide(&self.open[ticket])?;
        if !self.finished(&self.open[ticket]) {
            self.answer(ticket)?;
        }
        let open = &self.open[ticket];
        let mut worker = self.host.worker(open.worker);
        let exchange = Exchange { client: worker.client(open.stream), upstream: worker.upstream(open.stream) };
        if !worker.finished(open.stream) {
            return Err(format!(
                "stuck: the model server has answered and the client waits; it has {:?}",
                exchange.client
            ));
        }
        worker.forget(open.stream);
        Ok(exchange)
    }

    fn advance(&mut self, by: Duration) -> Result<(), String> {
        self.pass(by);
        Ok(())
    }

    fn servers(&mut self, answers: &BTreeMap<String, Servers>) {
        self.servers.extend(answers.iter().map(|(name, answer)| (name.clone(), *answer)));
    }

    fn configure(&mut self, config: &Value) -> Result<(), String> {
        self.host.reconfigure(&vec![config.to_string().into_bytes(); self.plugins])
    }

    fn metrics(&mut self) -> Result<BTreeMap<String, u64>, String> {
        Ok(self.host.metrics().prometheus())
    }

    fn patience(&self) -> Duration {
        Duration::ZERO
    }
}
