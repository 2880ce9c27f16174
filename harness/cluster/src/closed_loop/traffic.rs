//! What clients ask: more and more, then much, then less and less; and what each of them got.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

/// Callers with a budget of their own each.
const TENANTS: u64 = 200;
const SENTENCE: &str = "The water drives the wheel, and the wheel drives the mill. ";
/// What the sentence costs.
const SENTENCE_TOKENS: u64 = 13;

/// How many requests there are in a second, over time.
#[derive(Clone, Copy, Debug)]
pub struct Ramp {
    /// Requests per second at first and at last.
    pub low: f64,
    /// Requests per second at the top.
    pub high: f64,
    /// How long it takes from the one to the other.
    pub rise: Duration,
    /// How long it stays there.
    pub hold: Duration,
    /// How long it takes back.
    pub fall: Duration,
    /// How long it goes on below.
    pub tail: Duration,
}

impl Ramp {
    /// From the first request to the last.
    pub fn length(&self) -> Duration {
        self.rise + self.hold + self.fall + self.tail
    }

    /// Requests per second at this time.
    pub fn at(&self, time: Duration) -> f64 {
        let (rise, hold, fall) = (self.rise.as_secs_f64(), self.hold.as_secs_f64(), self.fall.as_secs_f64());
        let time = time.as_secs_f64();
        let height = if time < rise {
            time / rise
        } else if time < rise + hold {
            1.0
        } else if time < rise + hold + fall {
            (rise + hold + fall - time) / fall
        } else {
            0.0
        };
        self.low + (self.high - self.low) * height
    }
}

/// What a request asks for.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Tokens of the prompt, on average.
    pub prompt: u64,
    /// Tokens of the answer, at most.
    pub answer: u64,
}

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The whole answer came.
    Answered,
    /// The gateway said why not: the error's code.
    Refused(String),
    /// Anything else: what came instead.
    Lost(String),
}

/// What a client makes of an answer.
pub fn outcome(status: u16, body: &str) -> Outcome {
    if status == 200 {
        let is_whole = body.trim_end().ends_with("data: [DONE]");
        return if is_whole { Outcome::Answered } else { Outcome::Lost("the stream broke off".to_owned()) };
    }
    let body: Value = serde_json::from_str(body).unwrap_or_else(|_| json!({"text": body}));
    let code = body.pointer("/error/code").or_else(|| body.pointer("/error/type")).and_then(Value::as_str);
    match code {
        Some(code) if matches!(status, 429 | 503) => Outcome::Refused(code.to_owned()),
        _ => Outcome::Lost(format!("{status}: {body}")),
    }
}

/// What became of all of them.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// How many were sent.
    pub sent: u64,
    /// How many were answered to the end.
    pub answered: u64,
    /// How many were refused, by the error's code.
    pub refused: BTreeMap<String, u64>,
    /// What came of those that were neither.
    pub lost: Vec<String>,
    /// Of each answer: when its first bytes came, and after how long.
    pub first_bytes: Vec<(Duration, Duration)>,
}

/// The clients.
#[derive(Debug)]
pub struct Traffic {
    url: &'static str,
    host: &'static str,
    model: &'static str,
    size: Size,
    client: reqwest::Client,
    began: Instant,
    tally: Mutex<Tally>,
}

impl Traffic {
    /// Sends nothing yet.
    pub fn new(url: &'static str, host: &'static str, model: &'static str, size: Size) -> Arc<Self> {
        let (client, began, tally) = (reqwest::Client::new(), Instant::now(), Mutex::default());
        Arc::new(Self { url, host, model, size, client, began, tally })
    }

    /// Sends what the ramp says whether or not there are answers, then waits for those that are left.
    pub async fn play(self: Arc<Self>, ramp: Ramp) {
        let mut requests = JoinSet::new();
        let mut at = Duration::ZERO;
        let began = Instant::now();
        for number in 0.. {
            at += Duration::from_secs_f64(1.0 / ramp.at(at).max(0.1));
            if at > ramp.length() {
                break;
            }
            sleep_until(began + at).await;
            requests.spawn(Arc::clone(&self).ask(number));
            while requests.try_join_next().is_some() {}
        }
        while requests.join_next().await.is_some() {}
    }

    /// The time since it began, as the tally has it.
    pub fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// What became of them so far.
    pub fn tally(&self) -> Tally {
        self.lock().clone()
    }

    async fn ask(self: Arc<Self>, number: u64) {
        self.lock().sent += 1;
        let outcome = self.exchange(number).await.unwrap_or_else(|error| Outcome::Lost(format!("{error:?}")));
        let mut tally = self.lock();
        match outcome {
            Outcome::Answered => tally.answered += 1,
            Outcome::Refused(code) => *tally.refused.entry(code).or_default() += 1,
            Outcome::Lost(what) => tally.lost.push(format!("request {number}: {what}")),
        }
    }

    async fn exchange(&self, number: u64) -> reqwest::Result<Outcome> {
        let asked = Instant::now();
        let request = self.client.post(self.url).header("host", self.host).json(&self.body(number));
        let mut answer = request.header("x-api-key", format!("tenant-{}", number % TENANTS)).send().await?;
        let (status, mut body) = (answer.status().as_u16(), Vec::new());
        while let Some(chunk) = answer.chunk().await? {
            if body.is_empty() && status == 200 {
                self.lock().first_bytes.push((self.began.elapsed(), asked.elapsed()));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(outcome(status, &String::from_utf8_lossy(&body)))
    }

    /// Prompts differ in length: from half to one and a half of what is usual.
    fn body(&self, number: u64) -> Value {
        let part = 0.5 + (number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as f64 / (1 << 24) as f64;
        let sentences = (self.size.prompt as f64 * part / SENTENCE_TOKENS as f64) as usize;
        json!({
            "model": self.model, "max_tokens": self.size.answer, "stream": true,
            "messages": [{"role": "user", "content": format!("{number}. {}", SENTENCE.repeat(sentences))}],
        })
    }

    fn lock(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ramp_rises_holds_and_falls() {
        let [rise, hold, fall, tail] = [10, 20, 5, 3].map(Duration::from_secs);
        let ramp = Ramp { low: 1.0, high: 5.0, rise, hold, fall, tail };
        let at = |seconds| ramp.at(Duration::from_secs_f64(seconds));
        assert_eq!([0.0, 5.0, 10.0, 29.0, 32.5, 36.0].map(at), [1.0, 3.0, 5.0, 5.0, 3.0, 1.0]);
        assert_eq!(ramp.length(), Duration::from_secs(38));
    }

    #[test]
    fn an_answer_is_whole_or_refused_with_a_reason_or_lost() {
        assert_eq!(outcome(200, "data: {}\n\ndata: [DONE]\n\n"), Outcome::Answered);
        assert!(matches!(outcome(200, "data: {}\n\n"), Outcome::Lost(_)));
        let refused = r#"{"error":{"message":"m","type":"t","code":"overloaded"}}"#;
        assert_eq!(outcome(503, refused), Outcome::Refused("overloaded".to_owned()));
        assert!(matches!(outcome(500, refused), Outcome::Lost(_)));
        assert!(matches!(outcome(503, "no healthy upstream"), Outcome::Lost(_)));
    }
}
