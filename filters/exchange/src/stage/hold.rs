//! Hold: while a version has no server, its requests wait until there is one, as a part of what is pending.
//!
//! A worker knows of each version with a cold start when something was heard of its servers ([`penstock_pending::gate`]). While that is
//! long ago, requests wait for one probe, and where that fails they wait on. How many may, and with how many bytes, is counted for the
//! whole process in permits, as limits of requests at the same time are, so that a worker that dies leaves nothing behind. Tenants share
//! these places as they share a model that is nearly full ([`penstock_pending::fair`]). Where nobody has failed to find a server so far, a
//! request that has no room passes, as if there was no gate.

use penstock_pending::Sum;
use penstock_pending::fair::{self, Holding, Priority};
use penstock_pending::gate::{PROBE, Probe, Ticket};
use penstock_units::{Fingerprint, Nanos, Tokens};

use super::admit::weight;
use super::pending;
use super::stop::Stop;
use crate::config::{ColdStart, Config};
use crate::facts::Held;
use crate::flow::Flow;
use crate::identity::header;
use crate::keys::Realm;
use crate::limits::concurrency;
use crate::places::Places;
use crate::port::{Call, CallAnswer, CallId, CallMessage, Effect, Level};
use crate::refusal::Refusal;
use crate::response::Response;
use crate::want::Want;
use crate::world::World;

/// Bytes of bodies are counted in pieces of this size.
const PIECE: u64 = 1 << 10;

/// What is remembered of a request.
#[derive(Default)]
pub struct State {
    /// The gate that it has passed, or waits at.
    gate: Option<usize>,
    /// What is remembered of one that waits, or has waited.
    wait: Option<Box<Wait>>,
}

struct Wait {
    /// Its place in the queue, for as long as it waits.
    ticket: Option<Ticket>,
    since: Nanos,
    /// How many pieces of its body it has permits for.
    pieces: u32,
    /// The probe that it has sent.
    probe: Option<(CallId, Probe)>,
}

/// What becomes of a request that waits.
pub enum Next {
    /// It waits on.
    Stay,
    /// It goes on.
    Go,
    /// It is refused.
    Refuse(Box<Refusal>),
}

/// Passes the gate of the version that was drawn, or waits at it.
///
/// # Errors
/// [`Stop::Wait`]; [`Stop::Refuse`] where there is no server, and no room to wait for one.
pub fn run(id: u32, state: &mut State, flow: &mut Flow, world: &mut World<'_>) -> Result<(), Stop> {
    if flow.config.gates == 0 {
        return Ok(());
    }
    let config = flow.config.clone();
    let model = flow.model(&config);
    let Some(cold) = model.and_then(|model| model.cold_start(flow.facts.version.as_deref())) else { return Ok(()) };
    state.gate = Some(cold.gate);
    let Some(gate) = world.worker.gates.get_mut(cold.gate) else { return Ok(()) };
    if gate.is_open(world.now) {
        return Ok(());
    }
    if !flow.body.holds_headers() {
        tell_that_nothing_waits(world);
        return Ok(());
    }
    let Some(pieces) = take(cold, flow, world) else {
        let is_shut = world.worker.gates.get(cold.gate).is_some_and(|gate| gate.is_shut());
        return if is_shut {
            Err(refuse(id, Refusal::no_server_to_wait_for(&flow.facts.model), flow, world))
        } else {
            Ok(())
        };
    };
    let Some(gate) = world.worker.gates.get_mut(cold.gate) else { return Ok(()) };
    state.wait = Some(Box::new(Wait { ticket: Some(gate.enter(id)), since: world.now, pieces, probe: None }));
    flow.facts.held = Some(Box::new(Held { waits: true, ..Held::default() }));
    world.out.extend([Effect::Publish(flow.facts.encode()), Effect::Pause, Effect::Ticks(true)]);
    Err(Stop::Wait(probe(state, cold, flow, world)))
}

/// Time has passed, more of the body has come, or the gate has opened.
pub fn look(state: &mut State, flow: &mut Flow, world: &mut World<'_>) -> Next {
    let config = flow.config.clone();
    let Some(cold) = cold_start(state, flow, &config) else { return Next::Stay };
    // Those that go are told in their order, and this one may be among them.
    if wake(cold.gate, flow, world) {
        return Next::Stay;
    }
    let (Some(wait), Some(gate)) = (state.wait.as_deref_mut(), world.worker.gates.get_mut(cold.gate)) else {
        return Next::Stay;
    };
    if wait.ticket.is_some_and(|ticket| gate.has_gone(ticket)) {
        go(state, flow, world);
        return Next::Go;
    }
    let is_shut = gate.is_shut();
    let waited = world.now.saturating_sub(wait.since);
    if !grow(wait, cold, flow, world) && is_shut {
        go(state, flow, world);
        return Next::Refuse(Box::new(Refusal::no_server_to_wait_for(&flow.facts.model)));
    }
    if waited >= cold.hold {
        go(state, flow, world);
        return Next::Refuse(Box::new(Refusal::no_server_came(&flow.facts.model, waited)));
    }
    let call = probe(state, cold, flow, world);
    world.out.extend(call.map(Effect::Call));
    Next::Stay
}

/// The refusal of a request for want of a server, with which it is in flight no longer. What it would have been is counted.
pub fn refuse(id: u32, refusal: Refusal, flow: &Flow, world: &mut World<'_>) -> Stop {
    let is_demand = pending::wanted(flow.served_by(), Want::Backend, flow, world);
    if let Some(landed) = pending::done(id, world).filter(|_| !is_demand) {
        world.worker.ledger.refused(landed);
    }
    refusal.into()
}

/// It is decided.
fn go(state: &mut State, flow: &mut Flow, world: &mut World<'_>) {
    leave(state, flow, world);
    if let Some(held) = &mut flow.facts.held {
        held.waits = false;
    }
}

/// Whether it waits, or has waited.
pub fn has_waited(state: &State) -> bool {
    state.wait.is_some()
}

/// It waits no longer, as it is decided, or over. Harmless for one that never did.
pub fn leave(state: &mut State, flow: &mut Flow, world: &mut World<'_>) {
    let Some(wait) = state.wait.as_deref_mut() else { return };
    let Some(ticket) = wait.ticket.take() else { return };
    let Wait { since, pieces, .. } = *wait;
    if let Some(gate) = state.gate.and_then(|at| world.worker.gates.get_mut(at)) {
        gate.leave(ticket);
    }
    let [requests, bytes] = keys(flow, world);
    let mut books = world.worker.books(world.now, world.store);
    concurrency::give_back(requests, 1, &mut books);
    concurrency::give_back(bytes, pieces, &mut books);
    world.worker.places.leave(&Places::name(flow.served_by()), flow.tenant_label(), pieces);
    world.worker.tell_load(world.now, world.store);
    if let Some(held) = &mut flow.facts.held {
        held.ms = world.now.saturating_sub(since).to_millis();
    }
    world.out.push(Effect::Ticks(false));
}

/// Whether this is the probe that the request has sent; then what follows from the answer is done. It may be over by then.
pub fn answered(
    state: &mut State,
    flow: &Flow,
    id: CallId,
    answer: Option<CallAnswer<'_>>,
    world: &mut World<'_>,
) -> bool {
    let sent = state.wait.as_deref_mut().and_then(|wait| wait.probe.take_if(|(asked, _)| *asked == id));
    let Some((_, probe)) = sent else { return false };
    let config = flow.config.clone();
    let Some(cold) = cold_start(state, flow, &config) else { return true };
    let Some(gate) = world.worker.gates.get_mut(cold.gate) else { return true };
    let name = || named(flow);
    let status = match answer {
        Some(CallAnswer::Http { headers, .. }) => header(headers, ":status").and_then(status),
        Some(CallAnswer::NoCluster) => {
            // What cannot be probed is not held.
            gate.heard(world.now);
            let text = format!(
                "coldStart of {}: the proxy has no cluster {:?}, so that requests do not wait for a server; write the name of one, \
                 in Istio outbound|PORT||HOST",
                name(),
                cold.cluster
            );
            tell_once(text, world);
            wake(cold.gate, flow, world);
            return true;
        }
        Some(CallAnswer::Grpc(_)) | None => None,
    };
    match status.filter(|status| *status < 500) {
        Some(status) => {
            gate.heard(world.now);
            if status >= 400 {
                let text = format!(
                    "coldStart of {}: {:?} is answered {status}, which is taken for a server that is there; write a path that it knows",
                    name(),
                    cold.probe
                );
                tell_once(text, world);
            }
            wake(cold.gate, flow, world);
        }
        None if gate.failed(probe, world.now) => {
            let text = format!(
                "{} has no server: its requests wait, for up to {} s",
                name(),
                cold.hold.to_millis().to_seconds_ceil()
            );
            world.out.push(Effect::Log(Level::Info, text));
        }
        None => {}
    }
    true
}

/// The head of an answer is here: something is heard of the servers, or the proxy says that it has none.
pub fn heard(state: &State, flow: &Flow, response: &Response, world: &mut World<'_>) {
    // Also where the headers had to go on before it was known for which model.
    if flow.config.gates > 0 && response.want(world.properties) == Some(Want::Backend) {
        world.out.push(Refusal::no_server_again());
        if let Some(gate) = state.gate.and_then(|at| world.worker.gates.get_mut(at)) {
            gate.shut();
        }
    } else if let Some(gate) = state.gate.and_then(|at| world.worker.gates.get_mut(at))
        && response.shows_server()
    {
        gate.heard(world.now);
    }
}

/// More of an answer is here: a server that works on it is there, however long it takes to answer a probe.
pub fn hears(state: &State, response: &Response, world: &mut World<'_>) {
    if let Some(gate) = state.gate.and_then(|at| world.worker.gates.get_mut(at)).filter(|_| response.shows_server()) {
        gate.heard(world.now);
    }
}

/// Where the gate has opened, those that wait at it are told. Whether any are.
fn wake(at: usize, flow: &Flow, world: &mut World<'_>) -> bool {
    let Some(gate) = world.worker.gates.get_mut(at) else { return false };
    let was_shut = gate.is_shut();
    let gone = gate.let_go(world.now);
    if gone.is_empty() {
        return false;
    }
    if was_shut {
        let text = format!("{} has a server again: {} requests go on", named(flow), gone.len());
        world.out.push(Effect::Log(Level::Info, text));
    }
    world.out.push(Effect::Wake(gone));
    true
}

/// The probe that is to be sent now, if one is.
fn probe(state: &mut State, cold: &ColdStart, flow: &mut Flow, world: &mut World<'_>) -> Option<Box<Call>> {
    let wait = state.wait.as_deref_mut()?;
    let probe = world.worker.gates.get_mut(cold.gate)?.probe(world.now)?;
    let id = flow.call_id();
    wait.probe = Some((id, probe));
    // In Istio's names the host comes last.
    let authority = cold.cluster.rsplit('|').next().unwrap_or_default().to_owned();
    let headers = vec![
        (":method", "GET".to_owned()),
        (":path", cold.probe.clone()),
        (":authority", authority),
        ("user-agent", "penstock".to_owned()),
    ];
    let message = CallMessage::Http { headers, body: Vec::new() };
    Some(Box::new(Call { id, hold: false, cluster: cold.cluster.clone(), timeout: PROBE, message }))
}

/// How the requests of this one's version wait.
fn cold_start<'c>(state: &State, flow: &Flow, config: &'c Config) -> Option<&'c ColdStart> {
    state.gate?;
    flow.model(config)?.cold_start(flow.facts.version.as_deref())
}

/// Takes permits for a request and for what is here of its body: for how many pieces. `None` where there is no room.
fn take(cold: &ColdStart, flow: &Flow, world: &mut World<'_>) -> Option<u32> {
    let [requests, bytes] = keys(flow, world);
    let pieces = pieces(flow);
    if !has_share(cold, flow, [1, u64::from(pieces)], world) {
        return None;
    }
    let mut books = world.worker.books(world.now, world.store);
    concurrency::add(requests, 1, cold.max_held, &mut books).ok().flatten()?;
    let room = concurrency::add(bytes, pieces, room_of(cold), &mut books).ok().flatten();
    if room.is_none() {
        concurrency::give_back(requests, 1, &mut books);
    }
    room?;
    world.worker.places.add(&Places::name(flow.served_by()), flow.tenant_label(), 1, pieces);
    world.worker.tell_load(world.now, world.store);
    Some(pieces)
}

/// Whether the tenant may have so many more places, and pieces of bodies, by what each tenant has. Where none has a name, all are one, and
/// share nothing.
fn has_share(cold: &ColdStart, flow: &Flow, [places, pieces]: [u64; 2], world: &mut World<'_>) -> bool {
    let config = &flow.config;
    if config.tenants.is_empty() {
        return true;
    }
    let tenant = flow.tenant_label();
    let mut held = world.worker.loads(&Places::name(flow.served_by()), world.now, world.store);
    let own = held.remove(tenant).unwrap_or_default();
    let priority = config.tenant(tenant).map_or(Priority::Normal, |tenant| tenant.priority);
    let fits = |most: u64, more: u64, of: fn(&Sum) -> Tokens| {
        let holding =
            |tenant: &str, sum: &Sum| Holding { weight: weight(config, tenant), tokens: of(sum), is_backlogged: false };
        let others: Vec<Holding> = held.iter().map(|(tenant, sum)| holding(tenant, sum)).collect();
        fair::admits(Tokens(most), Tokens(more), holding(tenant, &own), &others, priority)
    };
    fits(cold.max_held, places, |sum| Tokens(sum.requests)) && fits(room_of(cold), pieces, |sum| sum.prefill)
}

/// Takes permits for what has come of its body since. `false` where there is no room.
fn grow(wait: &mut Wait, cold: &ColdStart, flow: &Flow, world: &mut World<'_>) -> bool {
    let more = pieces(flow).saturating_sub(wait.pieces);
    if more == 0 {
        return true;
    }
    if !has_share(cold, flow, [0, u64::from(more)], world) {
        return false;
    }
    let [_, bytes] = keys(flow, world);
    let mut books = world.worker.books(world.now, world.store);
    let has_room = concurrency::add(bytes, more, room_of(cold), &mut books).is_ok_and(|taken| taken.is_some());
    if has_room {
        wait.pieces = wait.pieces.saturating_add(more);
        world.worker.places.add(&Places::name(flow.served_by()), flow.tenant_label(), 0, more);
    }
    has_room
}

fn pieces(flow: &Flow) -> u32 {
    u32::try_from((flow.body.bytes as u64).div_ceil(PIECE)).unwrap_or(u32::MAX)
}

fn room_of(cold: &ColdStart) -> u64 {
    cold.max_held_bytes / PIECE
}

/// Under which the permits of a version are counted: of requests, and of pieces of their bodies.
fn keys(flow: &Flow, world: &World<'_>) -> [Fingerprint; 2] {
    let [model, version] = flow.served_by().map(str::as_bytes);
    let key = |what: &[u8]| Realm::Configured.mark(world.worker.secret.fingerprint([what, model, version]));
    [key(b"held"), key(b"held bytes")]
}

fn named(flow: &Flow) -> String {
    flow.served_by().join(" ")
}

fn status(value: &[u8]) -> Option<u16> {
    core::str::from_utf8(value).ok()?.parse().ok()
}

fn tell_that_nothing_waits(world: &mut World<'_>) {
    let text = "headers do not wait for the body here, so that coldStart holds no request: a version without a server answers 503. Set \
                allow_on_headers_stop_iteration (Envoy 1.35 or later)";
    if !core::mem::replace(&mut world.worker.told_of_unheld, true) {
        world.out.push(Effect::Log(Level::Warn, text.to_owned()));
    }
}

/// Says what is wrong with a cold start, the first time that something is.
fn tell_once(text: String, world: &mut World<'_>) {
    if !core::mem::replace(&mut world.worker.told_of_probe, true) {
        world.out.push(Effect::Log(Level::Warn, text));
    }
}
