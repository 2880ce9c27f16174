//! Scenarios on a real Envoy: `envoy/gateway.yaml`, a scripted model server behind it, and clients that speak HTTP/1.1 by hand.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::chain::Chain;
use super::exchange::{Answer, Exchange, Sent};
use super::format::{Abort, Scenario, Servers, Step, Unreachable};
use super::run::{Executor, run_steps, split};
use super::wire::{Wire, chunk, head};
use crate::envoy::{self, Envoy, Gateway};
use crate::message::{Headers, Seen};

/// Longer waits are for the simulated clock.
const ADVANCE_MAX: Duration = Duration::from_secs(3);
/// Longer headers are refused by Envoy: 60 KiB are all that it takes of them.
const HEADERS_MAX: usize = 32 << 10;
/// How long anything may take that takes milliseconds, where the machine is busy with something else.
const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(5);
/// Tells the scripted server which request it has before it.
const TICKET: &str = "x-scenario-ticket";
/// Sends a request to where there is no server, by [`Unreachable::label`].
const UNREACHABLE: &str = "x-scenario-unreachable";

/// What became of a scenario on Envoy.
pub enum OnEnvoy {
    /// It holds.
    Passed,
    /// It cannot be tried here, for this reason.
    Skipped(String),
}

/// Runs one scenario on a fresh Envoy.
///
/// # Errors
/// When something is not as the scenario says, or Envoy does not start.
pub fn run_on_envoy(scenario: &Scenario, chain: Chain, checkout: &Path, binary: &Path) -> Result<OnEnvoy, String> {
    let steps =
        scenario.all_steps().filter_map(|step| if let Step::Advance(span) = step { Some(span.0) } else { None });
    let bodies = scenario.requests().map(|request| request.body_after.0);
    if let Some(wait) = steps.chain(bodies).max().filter(|wait| *wait > ADVANCE_MAX) {
        return Ok(OnEnvoy::Skipped(format!("it waits {wait:?}, which only the simulated clock can do quickly")));
    }
    let headers = scenario.requests().flat_map(|request| request.headers.values());
    if headers.map(|value| value.0.len()).max().is_some_and(|longest| longest > HEADERS_MAX) {
        return Ok(OnEnvoy::Skipped("Envoy itself refuses headers that are so long".to_owned()));
    }
    let started = EnvoyExecutor::start(scenario, chain, checkout, binary);
    if !scenario.config_refused.is_empty() {
        let error = started.err().ok_or("config_refused: the config was accepted")?;
        let missing: Vec<&String> = scenario.config_refused.iter().filter(|words| !error.contains(*words)).collect();
        return if missing.is_empty() {
            Ok(OnEnvoy::Passed)
        } else {
            Err(format!("config_refused: {missing:?} is not in:\n{error}"))
        };
    }
    let mut executor = started?;
    let outcome = run_steps(scenario, &mut executor).and_then(|()| executor.invariants());
    outcome.map(|()| OnEnvoy::Passed).map_err(|why| format!("{why}\nEnvoy's log:\n{}", executor.complaints()))
}

/// A real Envoy between scripted ends.
struct EnvoyExecutor {
    runtime: tokio::runtime::Runtime,
    envoy: Envoy,
    rendering: Gateway,
    gateway: SocketAddr,
    exchanges: Arc<Exchanges>,
    tickets: Vec<Sent>,
    unfinished: usize,
}

/// What both ends of all requests know, by ticket.
#[derive(Default)]
struct Exchanges {
    by_ticket: Mutex<HashMap<usize, State>>,
    changed: Condvar,
    /// What clusters answer to calls that the plugins make.
    servers: Mutex<BTreeMap<String, Servers>>,
}

#[derive(Clone, Debug, Default)]
struct State {
    client: Seen,
    client_done: bool,
    upstream: Seen,
    /// How many answers were followed to another path.
    followed: usize,
    /// Set when the model server may answer.
    answer: Option<Answer>,
    abort_after: Option<usize>,
}

impl Exchanges {
    fn lock(&self) -> MutexGuard<'_, HashMap<usize, State>> {
        self.by_ticket.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, ticket: usize, change: impl FnOnce(&mut State)) {
        change(self.lock().entry(ticket).or_default());
        self.changed.notify_all();
    }

    /// Waits until the predicate holds; `None` when it does not in time.
    fn wait(&self, ticket: usize, patience: Duration, ready: impl Fn(&State) -> bool) -> Option<State> {
        let state = self.lock();
        let waiting = |states: &mut HashMap<usize, State>| !states.get(&ticket).is_some_and(&ready);
        let (states, timeout) =
            self.changed.wait_timeout_while(state, patience, waiting).unwrap_or_else(PoisonError::into_inner);
        if timeout.timed_out() { None } else { states.get(&ticket).cloned() }
    }
}

impl EnvoyExecutor {
    fn start(scenario: &Scenario, chain: Chain, checkout: &Path, binary: &Path) -> Result<Self, String> {
        let exchanges = Arc::new(Exchanges::default());
        let listener =
            TcpListener::bind("127.0.0.1:0").map_err(|error| format!("no port for the model server: {error}"))?;
        let upstream = listener.local_addr().map_err(|error| error.to_string())?;
        serve(listener, exchanges.clone());
        let filters = match chain {
            Chain::Row => envoy::Chain::Row,
            Chain::RowInOneVm => envoy::Chain::RowInOneVm,
            Chain::One => envoy::Chain::One,
        };
        let gateway = Gateway::load(checkout, "gateway.yaml")?.chain(filters).plugin_config(&scenario.config);
        let mut gateway = gateway.serves_any_version();
        for cluster in ["stable", "canary"] {
            gateway = gateway.cluster(cluster, upstream);
        }
        let place = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config/http_filters";
        for index in 0..chain.plugins().len() {
            let switch = format!("{place}/{index}/typed_config/config/allow_on_headers_stop_iteration");
            gateway = gateway.set(&switch, json!(scenario.wait_for_body));
        }
        if scenario.requests().any(|request| request.upstream.follow.is_some()) {
            gateway = gateway.follows_redirects();
        }
        let config = scenario.config.to_string();
        let is_probed = |name: &str| config.contains(&format!("\"cluster\":\"{name}\""));
        let names = Unreachable::ALL.map(Unreachable::label);
        if names.into_iter().any(is_probed) || scenario.requests().any(|request| request.upstream.unreachable.is_some())
        {
            gateway = gateway.and_without_servers(UNREACHABLE, &names);
        }
        let is_replaced = scenario.all_steps().any(|step| matches!(step, Step::Configure(_)));
        let mut rendered = if is_replaced { gateway.render_replaceable() } else { gateway.render() };
        let mut bootstrap: Value = serde_json::from_str(&rendered.bootstrap).map_err(|error| error.to_string())?;
        // Histograms appear when statistics are flushed, every 5 s by default.
        bootstrap["stats_flush_interval"] = json!("0.200s");
        rendered.bootstrap = bootstrap.to_string();
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| error.to_string())?;
        let workers = u32::try_from(scenario.workers).unwrap_or(u32::MAX);
        let envoy = runtime.block_on(Envoy::start(binary, &rendered, workers))?;
        let address = envoy
            .url()
            .trim_start_matches("http://")
            .parse()
            .map_err(|_| format!("Envoy listens on {:?}", envoy.url()))?;
        let (rendering, gateway, tickets) = (gateway, address, Vec::new());
        Ok(EnvoyExecutor { runtime, envoy, rendering, gateway, exchanges, tickets, unfinished: 0 })
    }

    fn invariants(&self) -> Result<(), String> {
        let log = self.envoy.log();
        let trapped = ["Function: proxy_", "Uncaught RuntimeError", "wasm vm failed", "VM has crashed", "panicked at"];
        match trapped.iter().find(|words| log.contains(**words)) {
            Some(words) => Err(format!("a VM died: the log says {words:?}")),
            None => Ok(()),
        }
    }

    fn complaints(&self) -> String {
        let log = self.envoy.log();
        let lines: Vec<&str> = log
            .lines()
            .filter(|line| ["[warning]", "[error]", "[critical]"].iter().any(|level| line.contains(level)))
            .collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    /// Waits until Envoy has logged and deleted every stream that is over: what they settle has to be settled before the next request.
    fn quiesce(&self) -> Result<(), String> {
        let began = Instant::now();
        loop {
            let stats =
                self.runtime.block_on(self.envoy.admin_get("/stats?filter=http.gateway.downstream_rq_active"))?;
            let active: usize =
                stats.lines().find_map(|line| line.rsplit_once(": ")?.1.trim().parse().ok()).unwrap_or(0);
            if active <= self.unfinished || began.elapsed() > PATIENCE {
                return Ok(());
            }
            std::thread::sleep(POLL);
        }
    }
}

impl Executor for EnvoyExecutor {
    fn open(&mut self, sent: &Sent) -> Result<usize, String> {
        let ticket = self.tickets.len();
        self.tickets.push(sent.clone());
        self.unfinished += 1;
        let abort_after = if let Some(Abort::Events(events)) = sent.abort { Some(events) } else { None };
        self.exchanges.change(ticket, |state| state.abort_after = abort_after);
        let (exchanges, gateway, sent) = (self.exchanges.clone(), self.gateway, sent.clone());
        std::thread::spawn(move || {
            // A connection that breaks is an outcome, not a failure: it is seen as a message without an end.
            let whole = client(gateway, ticket, &sent, &exchanges).unwrap_or(false);
            exchanges.change(ticket, |state| {
                state.client.end = whole;
                state.client.reset = !whole;
                state.client_done = true;
            });
        });
        Ok(ticket)
    }

    fn admitted(&mut self, ticket: usize) -> Result<bool, String> {
        let decided = self
            .exchanges
            .wait(ticket, PATIENCE, |state| state.upstream.end || state.client_done || state.client.headers.is_some());
        decided
            .map(|state| state.upstream.headers.is_some())
            .ok_or_else(|| "stuck: the request is neither forwarded nor answered".to_owned())
    }

    fn finish(&mut self, ticket: usize) -> Result<Exchange, String> {
        let answer = self.tickets[ticket].answer.clone();
        let patience = PATIENCE + answer.delay + answer.every * u32::try_from(answer.pieces.len()).unwrap_or(u32::MAX);
        self.exchanges.change(ticket, |state| state.answer = Some(answer));
        let done = self.exchanges.wait(ticket, patience, |state| state.client_done);
        self.unfinished -= 1;
        let state = done
            .ok_or_else(|| format!("stuck: no answer after {patience:?}; {:?}", self.exchanges.lock().get(&ticket)))?;
        self.quiesce()?;
        Ok(Exchange { client: state.client, upstream: state.upstream })
    }

    fn advance(&mut self, by: Duration) -> Result<(), String> {
        std::thread::sleep(by);
        Ok(())
    }

    fn configure(&mut self, config: &Value) -> Result<(), String> {
        let listeners = self.rendering.clone().plugin_config(config).render_replaceable().listeners.unwrap_or_default();
        let count = |name: &str| {
            let stats = self.runtime.block_on(self.envoy.admin_get("/stats?filter=listener_manager"))?;
            let value = stats.lines().find_map(|line| line.strip_prefix("listener_manager.")?.strip_prefix(name));
            let value = value.and_then(|value| value.strip_prefix(": ")?.trim().parse::<u64>().ok());
            Ok::<_, String>(value.unwrap_or(0))
        };
        let (taken, refused) = (count("lds.update_success")?, count("lds.update_rejected")?);
        self.envoy.replace_listeners(&listeners)?;
        let began = Instant::now();
        loop {
            if count("lds.update_rejected")? > refused {
                return Err(format!("the configuration was refused:\n{}", self.complaints()));
            }
            if count("lds.update_success")? > taken && count("total_listeners_warming")? == 0 {
                // The workers take it up after that, each when it comes to it.
                std::thread::sleep(POLL * 20);
                return Ok(());
            }
            if began.elapsed() > PATIENCE {
                return Err("the configuration is not taken up".to_owned());
            }
            std::thread::sleep(POLL);
        }
    }

    fn servers(&mut self, answers: &BTreeMap<String, Servers>) {
        let mut servers = self.exchanges.servers.lock().unwrap_or_else(PoisonError::into_inner);
        servers.extend(answers.iter().map(|(name, answer)| (name.clone(), *answer)));
    }

    fn metrics(&mut self) -> Result<BTreeMap<String, u64>, String> {
        let metrics = self.runtime.block_on(self.envoy.metrics())?;
        let series = metrics.0.into_iter().filter(|sample| sample.name.starts_with("penstock_")).map(|sample| {
            let labels: Vec<String> = sample.labels.iter().map(|(name, value)| format!("{name}=\"{value}\"")).collect();
            let name = if labels.is_empty() { sample.name } else { format!("{}{{{}}}", sample.name, labels.join(",")) };
            (name, sample.value.round() as u64)
        });
        Ok(series.collect())
    }

    fn patience(&self) -> Duration {
        PATIENCE
    }
}

/// Sends a request and reads the answer. True when the answer came to its end.
fn client(gateway: SocketAddr, ticket: usize, sent: &Sent, exchanges: &Exchanges) -> io::Result<bool> {
    let mut wire = Wire::new(TcpStream::connect(gateway)?)?;
    let number = ticket.to_string();
    let own = [("host", &b"penstock.test"[..]), ("connection", b"close"), (TICKET, number.as_bytes())];
    let nowhere = sent.answer.unreachable.map(|why| (UNREACHABLE, why.label().as_bytes()));
    let headers = own
        .into_iter()
        .chain(nowhere)
        .chain(sent.headers.iter().map(|(name, value)| (name.as_str(), value.as_slice())));
    wire.write(&head(&format!("{} {} HTTP/1.1", sent.method, sent.path), headers))?;
    if let Some(body) = &sent.body {
        std::thread::sleep(sent.body_after);
        let left = if let Some(Abort::Bytes(bytes)) = sent.abort { &body[..bytes.min(body.len())] } else { body };
        for (index, piece) in split(left, sent.chunks).iter().enumerate() {
            if index > 0 {
                std::thread::sleep(POLL);
            }
            // A proxy that has answered already may stop reading; its answer still counts.
            if wire.write(piece).is_err() {
                break;
            }
        }
    }
    if matches!(sent.abort, Some(Abort::Bytes(_))) {
        std::thread::sleep(POLL * 10);
        wire.stream().shutdown(Shutdown::Both)?;
        return Ok(false);
    }
    if let Some(Abort::Waiting(span)) = sent.abort {
        std::thread::sleep(span.0);
        wire.stream().shutdown(Shutdown::Both)?;
        return Ok(false);
    }
    let Some((start, headers)) = wire.read_head()? else { return Ok(false) };
    let status = start.split(' ').nth(1).unwrap_or("0");
    let all = Headers::new([(":status", status.as_bytes())].into_iter().chain(headers.iter()));
    exchanges.change(ticket, |state| state.client.headers = Some(all));
    let enough = match sent.abort {
        Some(Abort::Events(events)) => sent.answer.pieces.iter().take(events).map(Vec::len).sum(),
        _ => usize::MAX,
    };
    let mut received = 0;
    wire.read_body(&headers, true, |piece| {
        received += piece.len();
        exchanges.change(ticket, |state| {
            state.client.body.extend_from_slice(piece);
            state.client.pieces.push(state.client.body.len());
        });
        received < enough
    })
}

/// The scripted model server: one thread per connection, for as long as the process lives.
fn serve(listener: TcpListener, exchanges: Arc<Exchanges>) {
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let exchanges = exchanges.clone();
            std::thread::spawn(move || Wire::new(stream).and_then(|wire| serve_connection(wire, &exchanges)));
        }
    });
}

fn serve_connection(mut wire: Wire, exchanges: &Exchanges) -> io::Result<()> {
    while let Some((start, headers)) = wire.read_head()? {
        let Some(ticket) = headers.text(TICKET).and_then(|ticket| ticket.parse().ok()) else {
            if !answer_call(&mut wire, &headers.text("host").unwrap_or_default(), exchanges)? {
                return Ok(());
            }
            continue;
        };
        let mut line = start.split(' ');
        let pseudo = [(":method", line.next().unwrap_or_default()), (":path", line.next().unwrap_or_default())];
        let all = Headers::new(pseudo.into_iter().map(|(name, value)| (name, value.as_bytes())).chain(headers.iter()));
        exchanges.change(ticket, |state| state.upstream = Seen { headers: Some(all), ..Seen::default() });
        let whole = wire.read_body(&headers, false, |piece| {
            exchanges.change(ticket, |state| {
                state.upstream.body.extend_from_slice(piece);
                state.upstream.pieces.push(state.upstream.body.len());
            });
            true
        });
        exchanges.change(ticket, |state| {
            state.upstream.end = whole.is_ok();
            state.upstream.reset = whole.is_err();
        });
        whole?;
        let Some(state) = exchanges.wait(ticket, PATIENCE * 6, |state| state.answer.is_some()) else { return Ok(()) };
        let Some(answer) = &state.answer else { return Ok(()) };
        let mut passes = std::iter::successors(Some(answer), |answer| answer.followed().map(|(_, next)| next));
        let Some(answer) = passes.nth(state.followed) else { return Ok(()) };
        if answer.follow.is_some() {
            exchanges.change(ticket, |state| state.followed += 1);
        }
        if !respond(&mut wire, answer, state.abort_after)? {
            return Ok(());
        }
    }
    Ok(())
}

/// Answers a call that a plugin makes, which names its cluster as the host. False when the connection must not be used any further.
fn answer_call(wire: &mut Wire, cluster: &str, exchanges: &Exchanges) -> io::Result<bool> {
    let known = exchanges.servers.lock().unwrap_or_else(PoisonError::into_inner).get(cluster).copied();
    match known.unwrap_or(Servers::Status(200)) {
        Servers::Status(status) => {
            wire.write(&head(&format!("HTTP/1.1 {status} Scripted"), [("content-length", &b"0"[..])]))?;
            Ok(true)
        }
        Servers::Silent => {
            wire.stream().set_read_timeout(Some(PATIENCE))?;
            let _ = wire.read_head();
            Ok(false)
        }
    }
}

/// Plays the script. False when the connection must not be used any further.
fn respond(wire: &mut Wire, answer: &Answer, abort_after: Option<usize>) -> io::Result<bool> {
    std::thread::sleep(answer.delay);
    if answer.reset_after == Some(0) {
        return Ok(false);
    }
    let chunked = !answer.headers.iter().any(|(name, _)| name == "content-length");
    let coding = chunked.then_some(("transfer-encoding", &b"chunked"[..]));
    let headers = answer.headers.iter().map(|(name, value)| (name.as_str(), value.as_slice())).chain(coding);
    wire.write(&head(&format!("HTTP/1.1 {} Scripted", answer.status), headers))?;
    for (index, piece) in answer.pieces.iter().enumerate() {
        // Without a pause two pieces may arrive as one.
        std::thread::sleep(answer.every.max(POLL));
        if !piece.is_empty() {
            wire.write(&if chunked { chunk(piece) } else { piece.clone() })?;
        }
        if answer.reset_after == Some(index + 1) {
            std::thread::sleep(POLL);
            return Ok(false);
        }
        if abort_after == Some(index + 1) {
            // The client is about to leave; the proxy then closes this connection.
            wire.stream().set_read_timeout(Some(PATIENCE))?;
            let _ = wire.read_head();
            return Ok(false);
        }
    }
    if chunked {
        wire.write(b"0\r\n\r\n")?;
    }
    Ok(true)
}
