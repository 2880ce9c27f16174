//! A stand-in for a GPU server: the APIs of OpenAI and Anthropic in front of a made-up model.
//!
//! What is true about it is what a proxy can be checked against: `usage` is counted with tiktoken and is exact for the text that was sent
//! and received; time to first token, inter-token time, concurrency and queue are what the options say; every request is kept for
//! inspection, together with whether its client stayed until the end. What is not true is the text: it is a string of common words.
//!
//! ```no_run
//! # async fn example() -> std::io::Result<()> {
//! use penstock_harness::model_server::{ModelServer, Options};
//!
//! let server = ModelServer::start(Options { ttft_ms: 5, ..Options::default() }).await?;
//! println!("{}", server.address());
//! # Ok(())
//! # }
//! ```

mod api;
mod capacity;
mod completion;
mod count;
mod ledger;
mod metrics;
mod script;
mod text;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use axum::serve::ListenerExt;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

pub use count::Encoding;
pub use ledger::{Seen, Totals};
pub use script::Script;

use api::{Api, embeddings};
use axum::body::Bytes;
use axum::http::{HeaderMap, Uri};
use capacity::Capacity;
use ledger::Ledger;

/// The largest request body that is read; more is answered with 413.
const BODY_BYTES_MAX: usize = 64 << 20;

/// How the model server behaves. Every request can deviate from it with the header `x-model-server`, see [`Script`].
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Port to listen on, on 127.0.0.1 (0: any free one).
    #[arg(long, default_value_t = 0)]
    pub port: u16,
    /// What this server calls itself in `x-served-by` and in the label `model_name`.
    #[arg(long, default_value = "model-server")]
    pub name: String,
    /// A model that is served; repeat for several. Without any, every model name is accepted.
    #[arg(long = "model")]
    pub models: Vec<String>,
    /// Encoding that `usage` is counted with.
    #[arg(long, value_enum, default_value_t = Encoding::O200kBase)]
    pub encoding: Encoding,
    /// Milliseconds until the first token.
    #[arg(long, default_value_t = 20)]
    pub ttft_ms: u64,
    /// Milliseconds between two tokens.
    #[arg(long, default_value_t = 2)]
    pub inter_token_ms: u64,
    /// The longest completion the model would write if the request set no limit, in tokens.
    #[arg(long, default_value_t = 64)]
    pub completion_tokens: u32,
    /// Share of requests that fail with 500, from 0 to 1.
    #[arg(long, default_value_t = 0.0)]
    pub error_rate: f64,
    /// Requests that are worked on at the same time.
    #[arg(long, default_value_t = 256)]
    pub concurrency: usize,
    /// Requests that may wait for their turn; one more is answered with 503.
    #[arg(long, default_value_t = 1024)]
    pub queue: usize,
    /// Seed of completion lengths, texts and errors: the same prompt and seed give the same completion.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            port: 0,
            name: "model-server".to_owned(),
            models: Vec::new(),
            encoding: Encoding::O200kBase,
            ttft_ms: 20,
            inter_token_ms: 2,
            completion_tokens: 64,
            error_rate: 0.0,
            concurrency: 256,
            queue: 1024,
            seed: 0,
        }
    }
}

/// A running model server; it stops accepting connections when dropped.
#[derive(Debug)]
pub struct ModelServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<io::Result<()>>,
}

impl ModelServer {
    /// Listens on 127.0.0.1 and serves in the background of the current tokio runtime.
    ///
    /// # Errors
    /// When the port is taken.
    pub async fn start(options: Options) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", options.port)).await?;
        let address = listener.local_addr()?;
        // The vocabulary is built here rather than inside the first request, whose time to first token would otherwise be a lie.
        let encoding = options.encoding;
        tokio::task::spawn_blocking(move || encoding.count("warm")).await?;
        let shared = Arc::new(Shared {
            capacity: Capacity::new(options.concurrency, options.queue),
            ledger: Ledger::default(),
            options,
        });
        let router = router(Arc::clone(&shared));
        // Tokens are small writes: with Nagle's algorithm they would wait for each other's acknowledgement.
        let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
        let accepting = tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(Self { address, shared, accepting })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sums over everything that was served so far.
    pub fn totals(&self) -> Totals {
        self.shared.ledger.totals()
    }

    /// The most recent requests, oldest first; the same as `GET /debug/requests`.
    pub fn requests(&self) -> Vec<Seen> {
        self.shared.ledger.requests()
    }

    /// Requests that are being worked on at this moment.
    pub fn running(&self) -> usize {
        self.shared.capacity.running()
    }
}

impl Drop for ModelServer {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// `penstock model-server`: serves until it is interrupted.
///
/// # Errors
/// When the port is taken.
pub async fn run(options: Options) -> io::Result<()> {
    let name = options.name.clone();
    let server = ModelServer::start(options).await?;
    println!("{name} listens on http://{}", server.address());
    tokio::signal::ctrl_c().await
}

/// What all handlers share.
#[derive(Debug)]
struct Shared {
    options: Options,
    capacity: Capacity,
    ledger: Ledger,
}

impl Shared {
    /// The value of the label `model_name`.
    fn label(&self) -> &str {
        self.options.models.first().unwrap_or(&self.options.name)
    }
}

fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/v1/chat/completions", serve(Api::Chat))
        .route("/v1/completions", serve(Api::Completions))
        .route("/v1/responses", serve(Api::Responses))
        .route("/v1/messages", serve(Api::Messages))
        .route("/v1/embeddings", post(embeddings))
        .route("/v1/models", get(models))
        .route("/health", get(|| async { StatusCode::OK }))
        .route("/metrics", get(metrics))
        .route("/debug/requests", get(debug_requests))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(shared)
}

/// The handler of an API that generates.
fn serve(api: Api) -> MethodRouter<Arc<Shared>> {
    post(move |shared: State<Arc<Shared>>, uri: Uri, headers: HeaderMap, body: Bytes| {
        completion::complete(api, shared, uri, headers, body)
    })
}

async fn models(State(shared): State<Arc<Shared>>) -> Response {
    let names = if shared.options.models.is_empty() {
        std::slice::from_ref(&shared.options.name)
    } else {
        &shared.options.models
    };
    let data: Vec<_> =
        names.iter().map(|id| json!({"id": id, "object": "model", "created": 0, "owned_by": "penstock"})).collect();
    axum::Json(json!({"object": "list", "data": data})).into_response()
}

async fn metrics(State(shared): State<Arc<Shared>>) -> Response {
    let text = metrics::render(shared.label(), &shared.capacity, &shared.ledger);
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response()
}

async fn debug_requests(State(shared): State<Arc<Shared>>) -> Response {
    axum::Json(shared.ledger.requests()).into_response()
}

#[cfg(test)]
mod tests;
