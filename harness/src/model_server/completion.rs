//! Generating an answer, streamed and not, whatever the API: when, how much, and how it can go wrong.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Uri, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{self, StreamExt};
use serde_json::Value;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, sleep_until};

use super::answer::{Answer, Usage};
use super::api::Api;
use super::ledger::Ticket;
use super::options::Options;
use super::pace::Generating;
use super::refusal::refuse;
use super::script::Script;
use super::shared::Shared;
use super::text::{Words, hash};

pub(super) async fn complete(
    api: Api,
    State(shared): State<Arc<Shared>>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let ticket = shared.ledger.open(&uri.to_string(), &headers, &body);
    match Completion::plan(api, &shared, ticket, &headers, &body).await {
        Ok(completion) if completion.stream => completion.streamed(),
        Ok(completion) => completion.whole().await,
        Err(refused) => refused,
    }
}

/// One completion that is going to be written: everything about it is decided, nothing has been sent.
struct Completion {
    shared: Arc<Shared>,
    ticket: Ticket,
    // Held for as long as the completion lives: this is the slot on the GPU.
    _slot: OwnedSemaphorePermit,
    generating: Generating,
    script: Script,
    arrived: Instant,
    stream: bool,
    words: Words,
    answer: Answer,
}

/// Why a request is refused: status and message.
type Refused = (u16, String);

impl Completion {
    async fn plan(
        api: Api,
        shared: &Arc<Shared>,
        ticket: Ticket,
        headers: &HeaderMap,
        body: &Bytes,
    ) -> Result<Self, Response> {
        let arrived = Instant::now();
        let (script, asked) = match Asked::read(api, shared, headers, body) {
            Ok(read) => read,
            Err((status, message)) => return Err(refuse(api, shared, ticket, status, &message)),
        };
        if !shared.is_loaded() {
            return Err(refuse(api, shared, ticket, 503, "The model is being loaded."));
        }
        let Ok(slot) = shared.capacity.enter().await else {
            return Err(refuse(api, shared, ticket, 503, "The queue is full."));
        };
        let Asked { request, model, limit } = asked;
        let options = &shared.options;
        let draw = hash(options.seed, api.prompt(&request).as_bytes());
        let stream = request["stream"] == true;
        let include_usage = request["stream_options"]["include_usage"] == true;

        // Counting a long prompt takes milliseconds, and tiktoken panics on some inputs: neither may hold up other requests.
        let encoding = options.encoding;
        let Ok(prompt) = tokio::task::spawn_blocking(move || api.count(encoding, &request) as u64).await else {
            return Err(refuse(api, shared, ticket, 500, "tiktoken cannot count this prompt."));
        };
        if let Some(status) = failure(&script, options, ticket.id()) {
            sleep_until(arrived + Duration::from_millis(script.ttft_ms.unwrap_or(options.ttft_ms))).await;
            return Err(refuse(api, shared, ticket, status, "The model failed."));
        }

        // Only what is worked on counts as used: a request that failed reports no usage.
        ticket.prompt(prompt);
        let cached = script.cached_tokens.unwrap_or(0);
        shared.pace.read(prompt.saturating_sub(cached)).await;
        let natural = script.tokens.unwrap_or_else(|| natural_length(draw, options.completion_tokens));
        let usage = Usage {
            reported: script.usage != Some(false),
            prompt,
            cached,
            completion: natural.min(limit),
            reasoning: script.reasoning_tokens.unwrap_or(0),
        };
        let (number, cut) = (ticket.id(), natural > limit);
        let answer = Answer { api, number, model, include_usage, usage, cut, text: String::new() };
        let (shared, words, generating) = (Arc::clone(shared), Words::new(draw), shared.pace.generate());
        Ok(Self { shared, ticket, _slot: slot, generating, script, arrived, stream, words, answer })
    }

    fn streamed(self) -> Response {
        self.ticket.status(200);
        let headers = [
            (header::CONTENT_TYPE.as_str(), "text/event-stream; charset=utf-8".to_owned()),
            ("x-served-by", self.shared.options.name.clone()),
        ];
        let reset_after = self.script.reset_after_events;
        let events = stream::unfold(Some((self, 0u32, None)), move |state| async move {
            let (mut completion, index, last) = state?;
            if reset_after == Some(index) {
                let error = break_off().await;
                completion.ticket.finish(false);
                return Some((Err(error), None));
            }
            match completion.event(index, last).await {
                Some((bytes, at)) => Some((Ok(bytes), Some((completion, index + 1, Some(at))))),
                None => {
                    completion.ticket.finish(true);
                    None
                }
            }
        });
        (headers, Body::from_stream(events)).into_response()
    }

    /// The events with this index: what opens the stream, then a token each, then what closes it.
    async fn event(&mut self, index: u32, last: Option<Instant>) -> Option<(Bytes, Instant)> {
        let opening = u32::from(self.answer.api.has_opening());
        if index < opening {
            sleep_until(self.first_token_at()).await;
            return Some((self.answer.opening(), self.arrived));
        }
        let last = last.unwrap_or(self.arrived);
        let token = index - opening;
        if token < self.answer.usage.completion {
            sleep_until(if token > 0 { last + self.inter_token() } else { self.first_token_at() }).await;
            let now = Instant::now();
            self.ticket.token(token == 0, (now - last).as_secs_f64());
            let word = self.words.next()?;
            self.answer.text.push_str(&word);
            return Some((self.answer.delta(&word), now));
        }
        let closing = self.answer.closing();
        closing.get((token - self.answer.usage.completion) as usize).map(|bytes| (bytes.clone(), last))
    }

    async fn whole(mut self) -> Response {
        sleep_until(self.first_token_at()).await;
        let mut last = self.arrived;
        for index in 0..self.answer.usage.completion {
            if index > 0 {
                sleep_until(last.max(self.first_token_at()) + self.inter_token()).await;
            }
            let now = Instant::now();
            self.ticket.token(index == 0, (now - last).as_secs_f64());
            last = now;
            self.answer.text.extend(self.words.next());
        }
        let answer = self.answer.whole();
        self.ticket.status(200);
        let served_by = [("x-served-by", self.shared.options.name.clone())];
        if self.script.reset_after_events.is_some() {
            let half = Bytes::from(answer.to_string()).split_to(20);
            let halves = stream::once(async { Ok(half) }).chain(stream::once(async { Err(break_off().await) }));
            let broken = Body::from_stream(halves);
            self.ticket.finish(false);
            return (served_by, [(header::CONTENT_TYPE, "application/json")], broken).into_response();
        }
        self.ticket.finish(true);
        (served_by, axum::Json(answer)).into_response()
    }

    fn first_token_at(&self) -> Instant {
        self.arrived + Duration::from_millis(self.script.ttft_ms.unwrap_or(self.shared.options.ttft_ms))
    }

    fn inter_token(&self) -> Duration {
        let alone = self.script.inter_token_ms.unwrap_or(self.shared.options.inter_token_ms);
        self.generating.inter_token(Duration::from_millis(alone))
    }
}

/// A request that was understood.
struct Asked {
    request: Value,
    model: String,
    /// The request's own limit on the completion, in tokens.
    limit: u32,
}

impl Asked {
    /// Reads what is asked, or says why it is refused before it takes a place in the queue.
    fn read(api: Api, shared: &Shared, headers: &HeaderMap, body: &Bytes) -> Result<(Script, Self), Refused> {
        let script = Script::from_headers(headers).map_err(|message| (400, message))?;
        let request: Value =
            serde_json::from_slice(body).map_err(|error| (400, format!("The body is not JSON: {error}.")))?;
        let limit = api.check(&request).map_err(|message| (400, message))?;
        let model = request["model"].as_str().unwrap_or_default().to_owned();
        let models = &shared.options.models;
        if !models.is_empty() && !models.contains(&model) {
            return Err((404, format!("The model `{model}` does not exist.")));
        }
        Ok((script, Self { request, model, limit }))
    }
}

/// The status that the script or a draw by the error rate makes this request fail with.
fn failure(script: &Script, options: &Options, number: u64) -> Option<u16> {
    let failed = chance(hash(options.seed, &number.to_le_bytes())) < options.error_rate;
    script.status.or(failed.then_some(500)).filter(|status| *status != 200)
}

/// Between half of `max` and `max`, but at least 1.
fn natural_length(draw: u64, max: u32) -> u32 {
    let half = max / 2;
    let spread = u64::from(max - half) + 1;
    (half + (draw % spread) as u32).max(1)
}

/// A number from 0 to below 1.
fn chance(draw: u64) -> f64 {
    (draw >> 11) as f64 / (1u64 << 53) as f64
}

/// Ends a body in the middle: hyper gives up the connection when a body fails. What it has not flushed by then would be lost, so it gets
/// the time to do so.
async fn break_off() -> io::Error {
    tokio::time::sleep(Duration::from_millis(2)).await;
    io::Error::other("reset as scripted")
}
