//! The tenants of the demo: four habits, each at its own pace.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};

/// One tenant's habit.
struct Tenant {
    /// What tells it apart.
    key: &'static str,
    /// Whether `gateway.yaml` has a key of it, so that it has a name; the others are strangers.
    is_named: bool,
    every_ms: u64,
    /// How often the prompt's sentence is repeated.
    sentences: usize,
    max_tokens: u32,
    stream: bool,
    /// Hangs up after so many chunks.
    abort_after: Option<usize>,
}

const TENANTS: [Tenant; 4] = [
    // Well-behaved, streamed.
    Tenant {
        key: "acme",
        is_named: true,
        every_ms: 150,
        sentences: 8,
        max_tokens: 40,
        stream: true,
        abort_after: None,
    },
    // Asks for more than a minute's budget.
    Tenant {
        key: "initech",
        is_named: true,
        every_ms: 150,
        sentences: 240,
        max_tokens: 60,
        stream: true,
        abort_after: None,
    },
    // Not streamed.
    Tenant {
        key: "globex",
        is_named: false,
        every_ms: 250,
        sentences: 20,
        max_tokens: 24,
        stream: false,
        abort_after: None,
    },
    // Hangs up in the middle.
    Tenant {
        key: "hooli",
        is_named: false,
        every_ms: 300,
        sentences: 10,
        max_tokens: 60,
        stream: true,
        abort_after: Some(5),
    },
];

/// Callers per tenant that stick to a version.
const SESSIONS: u64 = 40;
const SENTENCE: &str = "The water drives the wheel, and the wheel drives the mill. ";

/// What the clients saw.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    /// Requests sent.
    pub(super) sent: u64,
    /// Sum of `x-penstock-prompt-tokens` over the responses that have it and came from a model server.
    pub(super) header_prompt_tokens: u64,
    /// Requests that were sent or read in vain, though nobody hung up.
    pub(super) failed: u64,
}

/// The traffic, and what came of it.
pub(super) struct Traffic {
    url: String,
    client: reqwest::Client,
    number: AtomicU64,
    tally: Mutex<Tally>,
}

impl Traffic {
    pub(super) fn new(url: String) -> Self {
        let (client, number, tally) = (reqwest::Client::new(), AtomicU64::new(0), Mutex::default());
        Self { url: format!("{url}/v1/chat/completions"), client, number, tally }
    }

    /// Sends until the deadline, then waits for what is still in flight.
    pub(super) async fn run(self: Arc<Self>, until: Instant) {
        let mut tenants = JoinSet::new();
        for tenant in &TENANTS {
            tenants.spawn(Arc::clone(&self).tenant(tenant, until));
        }
        while tenants.join_next().await.is_some() {}
    }

    pub(super) fn tally(&self) -> Tally {
        self.note(|tally| tally.clone())
    }

    async fn tenant(self: Arc<Self>, tenant: &'static Tenant, until: Instant) {
        let mut requests = JoinSet::new();
        let mut ticks = interval(Duration::from_millis(tenant.every_ms));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        while ticks.tick().await < until {
            requests.spawn(Arc::clone(&self).request(tenant));
        }
        while requests.join_next().await.is_some() {}
    }

    async fn request(self: Arc<Self>, tenant: &'static Tenant) {
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        self.note(|tally| tally.sent += 1);
        if self.exchange(tenant, number).await.is_err() {
            self.note(|tally| tally.failed += 1);
        }
    }

    async fn exchange(&self, tenant: &Tenant, number: u64) -> reqwest::Result<()> {
        let request = self.client.post(&self.url);
        let request = match tenant.is_named {
            true => request.bearer_auth(format!("sk-{}-example", tenant.key)),
            false => request.header("x-api-key", tenant.key),
        };
        let session = format!("{}-{}", tenant.key, number % SESSIONS);
        let mut answer = request.header("x-session-id", session).json(&body(tenant, number)).send().await?;
        let counted =
            answer.headers().get("x-penstock-prompt-tokens").and_then(|value| value.to_str().ok()?.parse().ok());
        if answer.headers().contains_key("x-served-by") {
            self.note(|tally| tally.header_prompt_tokens += counted.unwrap_or(0));
        }
        let mut chunks = 0;
        while answer.chunk().await?.is_some() {
            chunks += 1;
            if tenant.abort_after.is_some_and(|most| chunks >= most) {
                return Ok(());
            }
        }
        Ok(())
    }

    fn note<T>(&self, change: impl FnOnce(&mut Tally) -> T) -> T {
        change(&mut self.tally.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn body(tenant: &Tenant, number: u64) -> Value {
    let mut body = json!({
        "model": "chat",
        "max_tokens": tenant.max_tokens,
        "messages": [
            {"role": "system", "content": "You are the keeper of a mill."},
            {"role": "user", "content": format!("{number}. {}", SENTENCE.repeat(tenant.sentences))},
        ],
    });
    if tenant.stream {
        body["stream"] = json!(true);
    }
    body
}
