//! What was asked and how it ended: sums since the start, and the most recent requests in full.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::body::Bytes;
use axum::http::HeaderMap;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

/// How many requests are kept, and how many bytes of bodies; the older ones are forgotten first.
const REQUESTS_MAX: usize = 256;
const BODY_BYTES_MAX: usize = 64 << 20;

/// Upper bounds of vLLM's histogram of the time to first token, in seconds.
pub(super) const TTFT_BUCKETS: &[f64] = &[
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0,
    160.0, 640.0, 2560.0,
];
/// Upper bounds of vLLM's histogram of the inter-token latency, in seconds.
pub(super) const INTER_TOKEN_BUCKETS: &[f64] =
    &[0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0];

/// One request, as it arrived and as it ended.
#[derive(Clone, Debug, Serialize)]
pub struct Seen {
    /// Number in the order of arrival, from 0.
    pub id: u64,
    /// Path and query.
    pub path: String,
    /// Headers in order; bytes that are not UTF-8 are replaced.
    pub headers: Vec<(String, String)>,
    /// The body, where it is UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// The body in base64, where it is not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body_base64: Option<String>,
    /// Length of the body in bytes.
    pub body_bytes: usize,
    /// Status of the answer; 0 until there is one.
    pub status: u16,
    /// Prompt tokens by tiktoken; 0 where the request was not understood.
    pub prompt_tokens: u64,
    /// Completion tokens that were handed to the connection.
    pub completion_tokens: u64,
    /// The answer is over, one way or the other.
    pub done: bool,
    /// The client went away before the answer was complete.
    pub client_gone: bool,
}

impl Seen {
    /// The first header of this name (in lower case).
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// Sums over all requests.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// Requests that arrived.
    pub requests: u64,
    /// Requests that were answered with 200 to the end.
    pub completed: u64,
    /// Requests whose client went away.
    pub client_gone: u64,
    /// Prompt tokens of the requests that were worked on.
    pub prompt_tokens: u64,
    /// Completion tokens that were generated.
    pub completion_tokens: u64,
}

/// A Prometheus histogram.
#[derive(Clone, Debug, Default)]
pub(super) struct Histogram {
    /// Observations per bucket, not cumulated; the last is above all bounds.
    pub(super) counts: Vec<u64>,
    pub(super) sum: f64,
}

impl Histogram {
    fn observe(&mut self, bounds: &[f64], value: f64) {
        self.counts.resize(bounds.len() + 1, 0);
        let bucket = bounds.iter().position(|bound| value <= *bound).unwrap_or(bounds.len());
        self.counts[bucket] += 1;
        self.sum += value;
    }
}

#[derive(Debug, Default)]
pub(super) struct Ledger(Arc<Mutex<Book>>);

#[derive(Debug, Default)]
struct Book {
    requests: VecDeque<Seen>,
    body_bytes: usize,
    totals: Totals,
    ttft: Histogram,
    inter_token: Histogram,
}

impl Ledger {
    /// Notes a request that just arrived. The entry is closed when the ticket is dropped.
    pub(super) fn open(&self, path: &str, headers: &HeaderMap, body: &Bytes) -> Ticket {
        let text = std::str::from_utf8(body).ok().map(str::to_owned);
        let mut book = lock(&self.0);
        let id = book.totals.requests;
        book.totals.requests += 1;
        book.body_bytes += body.len();
        book.requests.push_back(Seen {
            id,
            path: path.to_owned(),
            headers: headers
                .iter()
                .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
                .collect(),
            body_base64: text.is_none().then(|| STANDARD.encode(body)),
            body: text,
            body_bytes: body.len(),
            status: 0,
            prompt_tokens: 0,
            completion_tokens: 0,
            done: false,
            client_gone: false,
        });
        while book.requests.len() > REQUESTS_MAX || (book.body_bytes > BODY_BYTES_MAX && book.requests.len() > 1) {
            let forgotten = book.requests.pop_front().map_or(0, |seen| seen.body_bytes);
            book.body_bytes -= forgotten;
        }
        Ticket { book: Arc::clone(&self.0), id, finished: false }
    }

    pub(super) fn totals(&self) -> Totals {
        lock(&self.0).totals.clone()
    }

    pub(super) fn requests(&self) -> Vec<Seen> {
        lock(&self.0).requests.iter().cloned().collect()
    }

    pub(super) fn histograms(&self) -> (Histogram, Histogram) {
        let book = lock(&self.0);
        (book.ttft.clone(), book.inter_token.clone())
    }
}

/// The open entry of one request. Dropped before [`Ticket::finish`], it says that the client went away: hyper drops the handler, or the
/// body it was given, as soon as it sees the connection closed.
#[derive(Debug)]
pub(super) struct Ticket {
    book: Arc<Mutex<Book>>,
    id: u64,
    finished: bool,
}

impl Ticket {
    pub(super) fn id(&self) -> u64 {
        self.id
    }

    /// The request was understood and costs this many prompt tokens.
    pub(super) fn prompt(&self, tokens: u64) {
        let mut book = lock(&self.book);
        book.totals.prompt_tokens += tokens;
        book.edit(self.id, |seen| seen.prompt_tokens = tokens);
    }

    /// A token was generated, so many seconds after the one before it or, for the first, after the arrival.
    pub(super) fn token(&self, first: bool, seconds: f64) {
        let mut book = lock(&self.book);
        book.totals.completion_tokens += 1;
        if first {
            book.ttft.observe(TTFT_BUCKETS, seconds);
        } else {
            book.inter_token.observe(INTER_TOKEN_BUCKETS, seconds);
        }
        book.edit(self.id, |seen| seen.completion_tokens += 1);
    }

    /// The answer has begun with this status.
    pub(super) fn status(&self, status: u16) {
        lock(&self.book).edit(self.id, |seen| seen.status = status);
    }

    /// The answer is as complete as it was meant to be.
    pub(super) fn finish(mut self, ok: bool) {
        self.finished = true;
        if ok {
            lock(&self.book).totals.completed += 1;
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let gone = !self.finished;
        let mut book = lock(&self.book);
        book.totals.client_gone += u64::from(gone);
        book.edit(self.id, |seen| {
            seen.done = true;
            seen.client_gone = gone;
        });
    }
}

impl Book {
    fn edit(&mut self, id: u64, change: impl FnOnce(&mut Seen)) {
        // Ids are consecutive, so the entry's place follows from the oldest that is left.
        let Some(oldest) = self.requests.front().map(|seen| seen.id) else { return };
        let place = id.checked_sub(oldest).and_then(|n| usize::try_from(n).ok());
        if let Some(seen) = place.and_then(|n| self.requests.get_mut(n)) {
            change(seen);
        }
    }
}

/// A poisoned lock only means that another request's task panicked; the sums are still the truth.
fn lock(book: &Mutex<Book>) -> MutexGuard<'_, Book> {
    book.lock().unwrap_or_else(PoisonError::into_inner)
}
