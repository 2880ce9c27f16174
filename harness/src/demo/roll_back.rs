//! The demo's last act: the canary begins to fail, and is rolled back while the streams of its callers go on to their end.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::chart::{self, Line, Panel};

/// Callers that stick to a version: a tenth of them to the canary.
const SESSIONS: usize = 200;
/// How many requests there are at a time, and how long each caller waits after an answer.
const CALLERS: usize = 8;
const PAUSE: Duration = Duration::from_millis(40);
/// Streams that the canary is in the middle of when it begins to fail, and what they take: 6 s.
const STREAMS: usize = 6;
const LONG_STREAM: (u32, u32) = (150, 40);
/// Of ten requests to the canary, so many fail once it has begun.
const FAILING_OF_TEN: usize = 3;
/// How long it may take until it is found.
const PATIENCE: Duration = Duration::from_secs(60);
/// More than the two heartbeats by which all workers know.
const TOLD: Duration = Duration::from_millis(1500);
/// Width of a step in the picture, in seconds.
const STEP: f64 = 0.25;

/// What came of it, as the callers saw it.
#[derive(Clone, Debug, Default)]
pub(super) struct RollBack {
    answers: Vec<Answer>,
    /// In seconds from the first request on.
    began_to_fail: f64,
    moved: Option<f64>,
    told: f64,
    /// Of the canary's streams, how many were under way when it was rolled back, and how many of all came to their end.
    under_way: usize,
    finished: usize,
}

#[derive(Clone, Debug)]
struct Answer {
    at: f64,
    is_canary: bool,
    has_failed: bool,
    /// A caller of the canary whom the roll-back sent to the stable version.
    is_moved: bool,
}

/// Lets all callers ask once, then lets the canary fail until it is rolled back.
///
/// # Errors
/// When a request cannot be sent, or is answered as none of these should be.
pub(super) async fn play(url: &str) -> Result<RollBack, String> {
    let act = Arc::new(Act { url: format!("{url}/v1/chat/completions"), ..Act::default() });
    let began = Instant::now();
    act.all(began, |_| true).await?;
    let canaries: BTreeSet<usize> = act.note(|noted| noted.canaries.clone());
    if canaries.is_empty() {
        return Err(format!("none of {SESSIONS} callers came to the canary"));
    }
    let mut streams = Vec::new();
    for session in canaries.iter().take(STREAMS) {
        let (tokens, inter_token_ms) = LONG_STREAM;
        let script = json!({"status": 200, "ttft_ms": 0, "tokens": tokens, "inter_token_ms": inter_token_ms});
        let response = act.post(*session, true, &script).await?;
        streams.push(tokio::spawn(async move {
            let text = response.text().await;
            (text.is_ok_and(|text| text.ends_with("data: [DONE]\n\n")), began.elapsed().as_secs_f64())
        }));
    }
    let mut result = RollBack { began_to_fail: began.elapsed().as_secs_f64(), ..RollBack::default() };
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        callers.spawn(Arc::clone(&act).call(began));
    }
    while let Some(caller) = callers.join_next().await {
        caller.map_err(|error| format!("a caller: {error}"))??;
    }
    result.moved = act.moved();
    result.told = began.elapsed().as_secs_f64();
    act.all(began, |session| canaries.contains(&session)).await?;
    for stream in streams {
        let (has_ended_well, at) = stream.await.map_err(|error| format!("a stream: {error}"))?;
        result.finished += usize::from(has_ended_well);
        result.under_way += usize::from(result.moved.is_some_and(|moved| moved < at));
    }
    result.answers = act.note(|noted| noted.answers.clone());
    Ok(result)
}

#[derive(Default)]
struct Act {
    url: String,
    client: reqwest::Client,
    number: AtomicUsize,
    noted: Mutex<Noted>,
}

#[derive(Default)]
struct Noted {
    answers: Vec<Answer>,
    /// The sessions that the canary served.
    canaries: BTreeSet<usize>,
}

impl Act {
    /// These sessions, one request each, one after the other; all goes well.
    async fn all(&self, began: Instant, wanted: impl Fn(usize) -> bool) -> Result<(), String> {
        for session in (0..SESSIONS).filter(|session| wanted(*session)) {
            self.ask(session, false, began).await?;
        }
        Ok(())
    }

    /// When the first caller was moved.
    fn moved(&self) -> Option<f64> {
        self.note(|noted| noted.answers.iter().find(|answer| answer.is_moved).map(|answer| answer.at))
    }

    /// One caller among several, until all workers have to know that the canary is rolled back.
    async fn call(self: Arc<Self>, began: Instant) -> Result<(), String> {
        let start = Instant::now();
        let until = |moved: f64| moved + TOLD.as_secs_f64();
        while start.elapsed() < PATIENCE {
            let moved = self.moved();
            if moved.is_some_and(|moved| began.elapsed().as_secs_f64() > until(moved)) {
                break;
            }
            let number = self.number.fetch_add(1, Ordering::Relaxed);
            let (session, round) = (number % SESSIONS, number / SESSIONS);
            // Spread over sessions and rounds, so that nobody is always the one.
            let fails = (session + round) * 7 % 10 < FAILING_OF_TEN;
            let is_canarys = self.note(|noted| noted.canaries.contains(&session));
            self.ask(session, fails && is_canarys && moved.is_none(), began).await?;
            sleep(PAUSE).await;
        }
        Ok(())
    }

    async fn ask(&self, session: usize, fails: bool, began: Instant) -> Result<(), String> {
        let status = if fails { 500 } else { 200 };
        let script = json!({"status": status, "ttft_ms": 0, "tokens": 2, "inter_token_ms": 0});
        let response = self.post(session, false, &script).await?;
        let (is_canary, is_moved) = (is(&response, "x-penstock-version"), is(&response, "x-penstock-rolled-back"));
        let has_failed = response.status().as_u16() == 500;
        // One who was moved in the middle of it meets the server that was to fail.
        if !has_failed && response.status().as_u16() != 200 {
            return Err(format!("a request of the roll-back was answered with {}", response.status()));
        }
        let _ = response.bytes().await;
        let at = began.elapsed().as_secs_f64();
        self.note(|noted| {
            noted.answers.push(Answer { at, is_canary, has_failed, is_moved });
            if is_canary {
                noted.canaries.insert(session);
            }
        });
        Ok(())
    }

    async fn post(&self, session: usize, stream: bool, script: &Value) -> Result<reqwest::Response, String> {
        let messages = json!([{"role": "user", "content": "Is the gate open?"}]);
        let most = if stream { LONG_STREAM.0 } else { 8 };
        let body = json!({"model": "chat", "stream": stream, "max_tokens": most, "messages": messages});
        let request = self.client.post(&self.url).header("x-model-server", script.to_string());
        // A tenant each, so that nobody meets a limit.
        let caller = format!("caller-{session}");
        let request = request.header("x-session-id", &caller).header("x-api-key", &caller);
        request.json(&body).send().await.map_err(|error| format!("a request of the roll-back: {error}"))
    }

    fn note<T>(&self, change: impl FnOnce(&mut Noted) -> T) -> T {
        change(&mut self.noted.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn is(response: &reqwest::Response, header: &str) -> bool {
    response.headers().get(header).is_some_and(|value| value == "canary")
}

impl RollBack {
    /// The canary's answers from the first failure to the first caller who was moved: all, and those that failed.
    fn found_after(&self) -> (usize, usize) {
        let end = self.moved.unwrap_or(f64::INFINITY);
        let between = |answer: &&Answer| answer.is_canary && answer.at > self.began_to_fail && answer.at <= end;
        let found: Vec<&Answer> = self.answers.iter().filter(between).collect();
        (found.len(), found.iter().filter(|answer| answer.has_failed).count())
    }

    /// Answers of the canary after all workers had to know.
    fn afterwards(&self) -> usize {
        self.answers.iter().filter(|answer| answer.is_canary && answer.at > self.told).count()
    }

    pub(super) fn json(&self) -> Value {
        let (after, failed) = self.found_after();
        json!({
            "rolled_back": self.moved.is_some(),
            "after_requests_of_the_canary": after,
            "of_these_failed": failed,
            "after_ms": self.moved.map(|moved| ((moved - self.began_to_fail) * 1000.0).round()),
            "requests_of_the_canary_afterwards": self.afterwards(),
            "streams_of_the_canary": {"under_way": self.under_way, "finished": self.finished},
        })
    }

    pub(super) fn text(&self) -> String {
        let ((after, failed), Self { under_way, finished, .. }) = (self.found_after(), self);
        let Some(moved) = self.moved else {
            return format!("the canary began to fail, and was NOT rolled back: {failed} of {after} requests failed");
        };
        format!(
            "the canary began to fail: rolled back after {after} of its requests ({failed} had failed) in {:.1} s, {} served by it afterwards; \
             {under_way} of its streams were under way, {finished} of {STREAMS} came to their end",
            moved - self.began_to_fail,
            self.afterwards(),
        )
    }

    /// Requests a second by version, and what failed, over time.
    pub(super) fn svg(&self) -> String {
        let last = self.answers.last().map_or(0.0, |answer| answer.at);
        let steps: Vec<f64> = (0..=(last / STEP) as usize).map(|step| step as f64 * STEP).collect();
        let rate = |at: f64, wanted: &dyn Fn(&Answer) -> bool| {
            let within = |answer: &&Answer| answer.at >= at && answer.at < at + STEP && wanted(answer);
            self.answers.iter().filter(within).count() as f64 / STEP
        };
        let stable = |at: &f64| rate(*at, &|answer| !answer.is_canary);
        let canary = |at: &f64| rate(*at, &|answer| answer.is_canary);
        let failed = |at: &f64| rate(*at, &|answer| answer.has_failed);
        let line = |name, colour, value| Line { name, colour, is_stepped: true, value };
        let heading = match self.moved {
            Some(_) => format!("The canary, rolled back after {} of its requests", self.found_after().0),
            None => "The canary, which was not rolled back".to_owned(),
        };
        let panels = [
            Panel { title: "requests a second, stable version", lines: &[line("stable", "#1f77b4", &stable)] },
            Panel {
                title: "requests a second, canary",
                lines: &[line("canary", "#2ca02c", &canary), line("failed", "#d62728", &failed)],
            },
        ];
        chart::svg(&heading, &steps, |at| *at, &panels)
    }
}
