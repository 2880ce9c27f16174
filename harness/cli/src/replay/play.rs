//! Requests through the compiled filter, one process with one worker, on a simulated clock.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::path::Path;
use std::time::Duration;

use penstock_exchange::{Facts, Outcome};
use penstock_harness::host::{Headers, Host, Module, Options, Plugin, Protocol, StreamId};
use penstock_simulate::Micros;
use serde_json::{Value, json};

use super::lines::{Line, Lines};
use super::report::Run;
use super::setting::{CALLER, Setting};
use crate::progress::Progress;

/// What the shipped configurations hold of a request.
const BUFFER_LIMIT: usize = 4 << 20;
/// How often it is asked what became of a request that is held, and for how long.
const POLL: Micros = 100_000;
const HELD_MAX: Micros = 600_000_000;
/// Some beats after the last answer, which show everything.
const END: Duration = Duration::from_secs(10);
/// What a log calls requests for models that only the wildcard matches.
const WILDCARD: &str = "*";
/// A token each, however many there are.
const WORD: &str = " a";

/// Plays all requests in their order, each answered when its time is over.
///
/// # Errors
/// When the module is not there, or refuses the configuration.
pub fn play(setting: &Setting, lines: &Lines, wasm_dir: &Path, seed: u64, pace: u32) -> Result<Run, String> {
    let module = Module::from_file(&wasm_dir.join("penstock.wasm"))
        .map_err(|error| format!("{error}; `cargo xtask build` makes it"))?;
    let first = lines.requests.first().map_or(0, |line| line.at);
    let start = |config: &Value, at: Micros| {
        let (name, configuration) = ("penstock".to_owned(), config.to_string().into_bytes());
        let plugin = Plugin { module: module.clone(), root_id: name.clone(), vm_id: name.clone(), name, configuration };
        let start = Duration::from_micros(at);
        Host::start(&[plugin], &Options { seed, start, buffer_limit: BUFFER_LIMIT, ..Options::default() })
    };
    let around = around(&start, &setting.config, lines)?;
    let mut player = Player {
        host: start(&setting.config, first)?,
        around,
        pace: u64::from(pace),
        run: Run { file: setting.file.clone(), notes: setting.notes.clone(), ..Run::default() },
    };
    let (progress, mut shown) = (Progress::new(lines.requests.len()), 0);
    let mut later: BinaryHeap<Reverse<(Micros, usize, Next)>> = BinaryHeap::new();
    let mut arrivals = lines.requests.iter().enumerate().peekable();
    loop {
        let due = later.peek().map(|Reverse((at, ..))| *at);
        match arrivals.next_if(|(_, line)| due.is_none_or(|due| line.at < due)) {
            Some((index, line)) => {
                player.at(line.at);
                let stream = player.send(line);
                later.extend(player.look(line, stream, line.at, line.at).map(|(at, next)| Reverse((at, index, next))));
            }
            None => {
                let Some(Reverse((at, index, next))) = later.pop() else { break };
                let line = &lines.requests[index];
                player.at(at);
                match next {
                    Next::Look(stream) => {
                        let next = player.look(line, stream, line.at, at);
                        later.extend(next.map(|(at, next)| Reverse((at, index, next))));
                    }
                    Next::Answer(stream) => player.answer(line, stream),
                }
            }
        }
        while shown < player.run.played() {
            shown += 1;
            progress.step();
        }
    }
    progress.end();
    player.host.advance(END);
    player.end()
}

/// What is to be done with a request at its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Next {
    Look(StreamId),
    Answer(StreamId),
}

/// By model, how many tokens stand around the words of a request: asked of the filter itself, with limits out of the way.
fn around(
    start: &impl Fn(&Value, Micros) -> Result<Host, String>,
    config: &Value,
    lines: &Lines,
) -> Result<BTreeMap<String, u64>, String> {
    let mut open = config.clone();
    open["limits"] = json!([]);
    let host = start(&open, lines.requests.first().map_or(0, |line| line.at))?;
    let mut around = BTreeMap::new();
    for line in &lines.requests {
        if !around.contains_key(&line.model) {
            let probe = Line { prompt: 1, ..line.clone() };
            let stream = open_stream(&host, &probe, 1);
            let facts = facts(&host, stream).map_or(1, |facts| facts.prompt_tokens.0);
            host.worker(0).client_abort(stream);
            host.worker(0).forget(stream);
            around.insert(line.model.clone(), facts.saturating_sub(1));
        }
    }
    Ok(around)
}

fn open_stream(host: &Host, line: &Line, words: u64) -> StreamId {
    let mut headers = Headers::new([
        (":method", "POST"),
        (":path", "/v1/chat/completions"),
        (":scheme", "http"),
        (":authority", "replay"),
        ("content-type", "application/json"),
    ]);
    if let Some(tenant) = &line.tenant {
        headers.add(CALLER, tenant.as_bytes());
    }
    let model = if line.model == WILDCARD { "replayed" } else { &line.model };
    let text = WORD.repeat(usize::try_from(words).unwrap_or(usize::MAX).min(BUFFER_LIMIT));
    let mut body = json!({"model": model, "messages": [{"role": "user", "content": text}]});
    if let Some(most) = line.max_output {
        body["max_tokens"] = json!(most);
    }
    let mut worker = host.worker(0);
    let stream = worker.open(headers, false);
    worker.request_body(stream, body.to_string().as_bytes(), false);
    worker.request_body(stream, b"", true);
    stream
}

fn facts(host: &Host, stream: StreamId) -> Option<Facts> {
    host.worker(0).filter_state(stream, "wasm.penstock.exchange").as_deref().and_then(Facts::decode)
}

struct Player {
    host: Host,
    around: BTreeMap<String, u64>,
    pace: u64,
    run: Run,
}

impl Player {
    /// Time passes until then, and calls are answered.
    fn at(&mut self, at: Micros) {
        let by = Duration::from_micros(at).saturating_sub(self.host.now());
        self.host.advance(by);
        self.answer_calls();
    }

    /// Servers are there; a service that a limit asks is not.
    fn answer_calls(&mut self) {
        let calls = self.host.worker(0).callouts();
        for call in calls {
            if call.protocol == Protocol::Http {
                self.host.worker(0).answer_call(call.token, Headers::new([(":status", "200")]), b"");
            } else {
                self.run.unanswered += 1;
                self.host.worker(0).fail_call(call.token);
            }
        }
    }

    fn send(&mut self, line: &Line) -> StreamId {
        let around = self.around.get(&line.model).copied().unwrap_or(0);
        let stream = open_stream(&self.host, line, line.prompt.saturating_sub(around));
        self.answer_calls();
        stream
    }

    /// What became of a request by now: what is next of it and when, and nothing once it is over.
    fn look(&mut self, line: &Line, stream: StreamId, since: Micros, now: Micros) -> Option<(Micros, Next)> {
        let (finished, upstream) = {
            let worker = self.host.worker(0);
            (worker.finished(stream), worker.upstream(stream))
        };
        if finished {
            self.over(line, stream, upstream.headers.is_some());
            return None;
        }
        if upstream.end {
            // Nobody knows how long an answer takes that was refused.
            let takes = line.micros.unwrap_or(line.output.saturating_mul(1_000_000) / self.pace);
            return Some((now.saturating_add(takes), Next::Answer(stream)));
        }
        if now.saturating_sub(since) < HELD_MAX {
            return Some((now + POLL, Next::Look(stream)));
        }
        self.host.worker(0).client_abort(stream);
        self.run.failed("neither sent on nor refused within ten minutes");
        self.host.worker(0).forget(stream);
        None
    }

    fn answer(&mut self, line: &Line, stream: StreamId) {
        let status = match line.outcome {
            Outcome::UpstreamError => "503",
            Outcome::ClientError => "400",
            _ => "200",
        };
        let mut worker = self.host.worker(0);
        if line.outcome == Outcome::Abandoned {
            worker.client_abort(stream);
        } else {
            let body = if status == "200" { answer(line) } else { json!({"error": {"message": "as recorded"}}) };
            let headers = [(":status", status), ("content-type", "application/json")];
            worker.response_headers(stream, Headers::new(headers), false);
            worker.response_body(stream, body.to_string().as_bytes(), false);
            worker.response_body(stream, b"", true);
        }
        drop(worker);
        self.over(line, stream, true);
    }

    /// Writes down how it ended.
    fn over(&mut self, line: &Line, stream: StreamId, went: bool) {
        let facts = facts(&self.host, stream);
        let seen = self.host.worker(0).client(stream);
        self.host.worker(0).forget(stream);
        match facts {
            Some(facts) => {
                let after = seen.header("retry-after").and_then(|seconds| seconds.parse().ok());
                self.run.over(line, &facts, went, after);
            }
            None => self.run.failed(&format!("no facts, and status {}", seen.status())),
        }
    }

    /// What the filter has counted in sum.
    fn end(mut self) -> Result<Run, String> {
        let failures = self.host.worker(0).failures();
        if let Some(why) = failures.first() {
            return Err(format!("the filter's VM died: {why}"));
        }
        for (series, value) in self.host.metrics().prometheus() {
            if let Some(labels) = series.strip_prefix("penstock_cost_microdollars_total{") {
                let label =
                    |name: &str| labels.split(&format!("{name}=\"")).nth(1).and_then(|rest| rest.split('"').next());
                let version = format!("{}/{}", label("model").unwrap_or("?"), label("version").unwrap_or("?"));
                self.run.version(version).microdollars += value;
                self.run.microdollars += value;
            }
        }
        Ok(self.run)
    }
}

fn answer(line: &Line) -> Value {
    let message = json!({"role": "assistant", "content": "a"});
    json!({
        "object": "chat.completion",
        "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
        "usage": {
            "prompt_tokens": line.prompt,
            "completion_tokens": line.output,
            "total_tokens": line.prompt.saturating_add(line.output),
            "prompt_tokens_details": {"cached_tokens": line.cached},
        },
    })
}
