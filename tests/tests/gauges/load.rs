//! Streams that begin at a steady rate, whatever becomes of those before.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use reqwest::{Client, RequestBuilder};
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What each stream asks for and gets, so that what is expected of it is known.
pub const TOKENS: u64 = 100;
const TTFT_MS: u64 = 1000;
const INTER_TOKEN_MS: u64 = 50;
/// How long each takes.
pub const STREAM: Duration = Duration::from_millis(TTFT_MS + TOKENS * INTER_TOKEN_MS);
/// Some forty are in flight, and in a tick one or two begin.
const EVERY: Duration = Duration::from_millis(150);

/// How a request ended, as its client saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// With all of its stream.
    Whole,
    /// In the midst of it.
    Broken,
    /// With another status.
    Refused(u16),
    /// With a connection that was not taken, or that broke before there was an answer.
    Unanswered,
}

/// One request, as its client saw it.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    pub began: Instant,
    pub ended: Instant,
    pub ending: Ending,
}

/// A load that goes on until it is told to end.
pub struct Load {
    is_over: Arc<AtomicBool>,
    sending: JoinHandle<Vec<JoinHandle<Request>>>,
}

impl Load {
    /// Begins; each request goes to where the gateway is by then.
    pub fn start(url: watch::Receiver<String>) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let over = Arc::clone(&is_over);
        let sending = tokio::spawn(async move {
            let mut open = Vec::new();
            let mut turns = tokio::time::interval(EVERY);
            while !over.load(Ordering::Relaxed) {
                turns.tick().await;
                // Prompts differ, so that a wrong one among them shows.
                let request = request(&url.borrow(), 5 + open.len() * 7 % 60, TOKENS, &[]);
                open.push(tokio::spawn(follow(request)));
            }
            open
        });
        Self { is_over, sending }
    }

    /// Sends no more; what became of all, once the last is over.
    pub async fn end(self) -> Vec<Request> {
        self.is_over.store(true, Ordering::Relaxed);
        let mut requests = Vec::new();
        for request in self.sending.await.expect("a task") {
            requests.push(request.await.expect("a task"));
        }
        requests
    }
}

/// A stream of so many tokens for a prompt of about so many words, on a connection of its own, so that all workers get some.
pub fn request(url: &str, words: usize, tokens: u64, headers: &[(&str, &str)]) -> RequestBuilder {
    let client = Client::builder().pool_max_idle_per_host(0).build().expect("a client");
    let content = "word ".repeat(words);
    let body = json!({"model": "chat", "stream": true, "max_tokens": tokens, "messages": [{"role": "user", "content": content}]});
    let script = json!({"ttft_ms": TTFT_MS, "inter_token_ms": INTER_TOKEN_MS, "tokens": tokens}).to_string();
    let request = client.post(format!("{url}/v1/chat/completions")).json(&body).header("x-model-server", script);
    headers.iter().fold(request, |request, (name, value)| request.header(*name, *value))
}

/// Reads the answer to its end.
pub async fn follow(request: RequestBuilder) -> Request {
    let began = Instant::now();
    let ending = ending(request).await;
    Request { began, ended: Instant::now(), ending }
}

async fn ending(request: RequestBuilder) -> Ending {
    let Ok(answer) = request.send().await else { return Ending::Unanswered };
    let status = answer.status().as_u16();
    if status != 200 {
        return Ending::Refused(status);
    }
    let mut pieces = answer.bytes_stream();
    let mut text = Vec::new();
    while let Some(piece) = pieces.next().await {
        match piece {
            Ok(piece) => text.extend_from_slice(&piece),
            Err(_) => return Ending::Broken,
        }
    }
    if text.ends_with(b"data: [DONE]\n\n") { Ending::Whole } else { Ending::Broken }
}
