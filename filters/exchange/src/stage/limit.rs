//! Limit: charges all limits of a request or none, asks the service of those that all proxies share, and settles when it is over.

use penstock_bucket::Refusal as BucketRefusal;
use penstock_bucket::credit::Allowance;
use penstock_units::{Nanos, Tokens};

use super::order::Stage;
use super::stop::{self, Stop};
use crate::config::{Mode, Policy};
use crate::facts::{Facts, Used};
use crate::flow::Flow;
use crate::json::decimal;
use crate::limits::mesh::{self, Next};
use crate::limits::rls::{self, LeaseRequest};
use crate::limits::{self, Admitted, Applicant, Charge, RateLimitStatus, Refused};
use crate::metrics::Metric;
use crate::port::{Call, CallAnswer, CallId, CallMessage, Effect, Level};
use crate::refusal::Refusal;
use crate::world::World;

/// How often a service is asked for one request: others may keep taking what was leased for it.
const CALLS_MAX: u8 = 8;

/// What is remembered of a request.
#[derive(Default)]
pub struct State {
    /// What was taken, to be settled.
    charges: Vec<Charge>,
    /// How the caller stands under the limit that binds.
    status: Option<RateLimitStatus>,
    /// What is left of the session's credit.
    allowance: Option<Box<Allowance>>,
    /// What a service was asked for.
    asked: Option<(CallId, Box<LeaseRequest>)>,
    /// What was asked for and not answered in time.
    unanswered: Vec<(CallId, Box<LeaseRequest>)>,
    /// How often one was asked.
    calls: u8,
}

/// Charges the limits.
///
/// # Errors
/// [`Stop::Refuse`], or [`Stop::Wait`] where a service is to be asked first; nothing is charged then.
pub fn run(state: &mut State, flow: &mut Flow, world: &mut World<'_>) -> Result<(), Stop> {
    let secret = world.worker.secret;
    let by = Applicant { secret: &secret, caller: &flow.caller, facts: &flow.facts };
    let mut books = world.worker.books(world.now, world.store);
    let charged = limits::charge(&flow.config, by, state.calls < CALLS_MAX, &mut books);
    remember(state, flow, charged, world)
}

/// Takes the permits of a request whose server is only asked for a count, which are held until it is over. Of its tokens nothing is charged.
///
/// # Errors
/// [`Stop::Refuse`] where there is none left.
pub fn hold(state: &mut State, flow: &mut Flow, world: &mut World<'_>) -> Result<(), Stop> {
    if !world.worker.plugin.owns(Stage::Limit) {
        return Ok(());
    }
    let secret = world.worker.secret;
    let by = Applicant { secret: &secret, caller: &flow.caller, facts: &flow.facts };
    let mut books = world.worker.books(world.now, world.store);
    let held = limits::hold(&flow.config, by, &mut books);
    remember(state, flow, held, world)
}

/// Keeps what was taken, and says what would have been refused.
fn remember(
    state: &mut State,
    flow: &mut Flow,
    charged: Result<Admitted, Refused>,
    world: &mut World<'_>,
) -> Result<(), Stop> {
    match charged {
        Ok(Admitted { charges, status, allowance, observed, retries }) => {
            (state.charges, state.status, state.allowance) = (charges, status, allowance);
            if flow.config.asks_budget {
                flow.facts.budget_left = state.status.as_ref().map(RateLimitStatus::percent);
            }
            for refused in observed {
                stop::refuse(Mode::Observe, refusal(&refused), flow, world)?;
            }
            if retries > 0 {
                let series = world.worker.series.id(Metric::SharedContention, &[]);
                world.out.push(Effect::Count(series, retries));
            }
            Ok(())
        }
        Err(Refused::Ask(request)) => Err(ask(state, flow, request)),
        Err(Refused::Contended) if flow.config.contended == Policy::Pass => {
            world.out.push(Effect::Log(Level::Warn, "limits were not charged: shared state is contended".into()));
            Ok(())
        }
        Err(refused) => Err(refuse(state, refused).into()),
    }
}

/// Whether the limits would admit the request as they stand.
///
/// # Errors
/// [`Stop::Refuse`] where they would not. What is not decided here, by a service or another plugin, is no refusal.
pub fn would_admit(state: &mut State, flow: &Flow, world: &mut World<'_>) -> Result<(), Stop> {
    attempt(state, flow, &flow.facts, world)
}

/// Whether the limits admit anything at all of this caller, before it is known what the request costs.
///
/// # Errors
/// [`Stop::Refuse`] where they do not.
pub fn might_admit(state: &mut State, flow: &Flow, world: &mut World<'_>) -> Result<(), Stop> {
    let least = Facts {
        prompt_tokens: Tokens(1),
        max_output: Some(Tokens::ZERO),
        expected_output: Tokens::ZERO,
        ..flow.facts.clone()
    };
    attempt(state, flow, &least, world)
}

/// Looks whether the limits admit these facts, and leaves them as they were.
fn attempt(state: &mut State, flow: &Flow, facts: &Facts, world: &mut World<'_>) -> Result<(), Stop> {
    // A plugin that answers what a prompt costs asks the limits of the one that would have charged it.
    if !world.worker.plugin.owns(Stage::Limit) && !flow.is_count {
        return Ok(());
    }
    let secret = world.worker.secret;
    let by = Applicant { secret: &secret, caller: &flow.caller, facts };
    let mut books = world.worker.books(world.now, world.store);
    match limits::look(&flow.config, by, &mut books) {
        Ok(()) | Err(Refused::Ask(_) | Refused::Contended) => Ok(()),
        Err(refused) => Err(refuse(state, refused).into()),
    }
}

/// What the client is told, and how it stands under the limit that refuses.
fn refuse(state: &mut State, refused: Refused) -> Refusal {
    let refusal = refusal(&refused);
    if let Refused::Rate { status, .. } = refused {
        state.status = Some(status);
    }
    refusal
}

fn refusal(refused: &Refused) -> Refusal {
    match refused {
        Refused::Rate { status, cost, refusal } => match *refusal {
            BucketRefusal::Never { burst } => Refusal::never_fits(&status.limit, *cost, burst),
            BucketRefusal::NotYet { wait } => Refusal::limited(status, *cost, wait),
        },
        Refused::Concurrency { limit, max } => Refusal::too_many_at_once(limit, *max),
        Refused::Session { limit, exhausted } => Refusal::session_over(limit, *exhausted),
        Refused::Unavailable { limit } => Refusal::unavailable(limit),
        Refused::Ask(request) => Refusal::contended(Some(&request.limit)),
        Refused::Contended => Refusal::contended(None),
    }
}

/// Asks the service of a limit that all proxies share.
fn ask(state: &mut State, flow: &mut Flow, request: Box<LeaseRequest>) -> Stop {
    if state.calls >= CALLS_MAX {
        return refusal(&Refused::Ask(request)).into();
    }
    let id = flow.call_id();
    let call = Call {
        id,
        hold: true,
        cluster: request.service.cluster.clone(),
        timeout: request.service.timeout,
        message: CallMessage::Grpc { service: rls::SERVICE, method: rls::METHOD, message: request.encode() },
    };
    state.calls = state.calls.saturating_add(1);
    state.asked = Some((id, request));
    Stop::Wait(Some(Box::new(call)))
}

/// The service has answered, or not: takes that to the books. Then the limits are to be charged again.
///
/// # Errors
/// [`Stop::Wait`] where it is asked again, for less.
pub fn answered(
    state: &mut State,
    flow: &mut Flow,
    answer: Option<CallAnswer<'_>>,
    world: &mut World<'_>,
) -> Result<(), Stop> {
    let Some((id, request)) = state.asked.take() else { return Ok(()) };
    let limit = request.limit.clone();
    let message = message(answer);
    if message.is_none() {
        state.unanswered.push((id, request.clone()));
    }
    match mesh::answered(*request, message, world.now, world.store) {
        Next::Retry => {}
        Next::Ask(request) => return Err(ask(state, flow, request)),
        Next::Unanswered => {
            let text = format!("the service of limit {limit:?} does not answer; mesh.onError holds for a second");
            world.out.push(Effect::Log(Level::Warn, text));
        }
    }
    Ok(())
}

/// A service has answered when nobody waited for it any more. What it grants is this proxy's all the same: the service has counted it.
pub fn late(state: &mut State, id: CallId, answer: Option<CallAnswer<'_>>, world: &mut World<'_>) {
    let Some(message) = message(answer) else { return };
    let is_it = |call: &mut (CallId, Box<LeaseRequest>)| call.0 == id;
    let unanswered = |calls: &mut Vec<_>| calls.extract_if(.., is_it).next();
    if let Some((_, request)) = state.asked.take_if(is_it).or_else(|| unanswered(&mut state.unanswered)) {
        mesh::answered(*request, Some(message), world.now, world.store);
    }
}

fn message(answer: Option<CallAnswer<'_>>) -> Option<&[u8]> {
    match answer {
        Some(CallAnswer::Grpc(message)) => Some(message),
        Some(CallAnswer::Http { .. } | CallAnswer::NoCluster) | None => None,
    }
}

/// Whether this is the call that the limits wait for.
pub fn awaits(state: &State, id: CallId) -> bool {
    state.asked.as_ref().is_some_and(|(asked, _)| *asked == id)
}

/// What the client is told.
pub fn response_headers(state: &State, flow: &Flow, world: &mut World<'_>) {
    if let Some(status) = state.status.as_ref().filter(|_| world.worker.plugin.owns(Stage::Limit)) {
        for (name, value) in [
            ("x-ratelimit-limit-tokens", decimal(status.burst.0)),
            ("x-ratelimit-remaining-tokens", decimal(status.remaining.0)),
            ("x-ratelimit-reset-tokens", seconds(status.reset)),
        ] {
            world.out.push(Effect::ResponseHeader(name, value.into_bytes()));
        }
    }
    let is_firm = flow.facts.max_output.is_some();
    for (name, value) in state.allowance.iter().flat_map(|left| session(left, is_firm)) {
        world.out.push(Effect::ResponseHeader(name, value));
    }
}

/// The end: corrects what was charged to what was used.
pub fn settle(state: &mut State, used: Option<Used>, tool_calls: u32, world: &mut World<'_>) {
    let charges = core::mem::take(&mut state.charges);
    if charges.is_empty() {
        return;
    }
    let mut books = world.worker.books(world.now, world.store);
    if limits::settle(&charges, used, tool_calls, &mut books) > 0 {
        world.out.push(Effect::Log(Level::Warn, "limits were not settled: shared state is contended".into()));
    }
}

/// What is left of a session's credit. Where nothing is left for another call, this is the last; tokens that are reserved for an answer whose
/// length is a guess may come back.
fn session(left: &Allowance, is_firm: bool) -> impl Iterator<Item = (&'static str, Vec<u8>)> {
    let Allowance { tokens, calls, tool_calls, wall_clock } = *left;
    let tokens = tokens.map(|tokens| tokens.0);
    let headers = [
        ("x-penstock-session-remaining-tokens", tokens),
        ("x-penstock-session-remaining-calls", calls),
        ("x-penstock-session-remaining-tool-calls", tool_calls),
        ("x-penstock-session-remaining-seconds", wall_clock.map(|left| left.0 / Nanos::SECOND.0)),
    ];
    let is_last = [tokens.filter(|_| is_firm), calls, tool_calls].contains(&Some(0));
    let told = headers.into_iter().filter_map(|(name, value)| Some((name, decimal(value?).into_bytes())));
    told.chain(is_last.then(|| ("x-penstock-session-final", b"true".to_vec())))
}

/// A duration in the form that OpenAI's `x-ratelimit-reset-*` headers have: `820ms`, `7.5s`.
fn seconds(duration: Nanos) -> String {
    let ms = duration.to_millis_ceil().0;
    if ms < 1000 {
        return [&decimal(ms), "ms"].concat();
    }
    let text = format!("{}.{:03}", ms / 1000, ms % 1000);
    format!("{}s", text.trim_end_matches('0').trim_end_matches('.'))
}
