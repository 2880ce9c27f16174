//! The server: its routes, and the handle that a test holds.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use axum::serve::ListenerExt;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::api::Api;
use super::capacity::Capacity;
use super::ledger::{Ledger, Seen, Totals};
use super::options::Options;
use super::pace::Pace;
use super::shared::Shared;
use super::{completion, embeddings, metrics};

/// The largest request body that is read; more is answered with 413.
const BODY_BYTES_MAX: usize = 64 << 20;

/// A running model server; it stops accepting connections when dropped.
#[derive(Debug)]
pub struct ModelServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<io::Result<()>>,
}

impl ModelServer {
    /// Listens and serves in the background of the current tokio runtime.
    ///
    /// # Errors
    /// When the port is taken.
    pub async fn start(options: Options) -> io::Result<Self> {
        let listener = TcpListener::bind((options.host, options.port)).await?;
        let address = listener.local_addr()?;
        // The vocabulary is built here rather than inside the first request, whose time to first token would otherwise be a lie.
        let encoding = options.encoding;
        tokio::task::spawn_blocking(move || encoding.count("warm")).await?;
        let shared = Arc::new(Shared {
            capacity: Capacity::new(options.concurrency, options.queue),
            pace: Arc::new(Pace::new(options.prefill_tokens_per_second, options.decode_tokens_per_second)),
            ledger: Ledger::default(),
            loaded: Instant::now() + Duration::from_millis(options.load_ms),
            options,
        });
        let router = router(Arc::clone(&shared));
        // Tokens are small writes: with Nagle's algorithm they would wait for each other's acknowledgement.
        let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
        log::info!("{} listens on http://{address}", shared.options.name);
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

    /// Whether the model is loaded; before that nothing is served.
    pub fn is_loaded(&self) -> bool {
        self.shared.is_loaded()
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

fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/v1/chat/completions", serve(Api::Chat))
        .route("/v1/completions", serve(Api::Completions))
        .route("/v1/responses", serve(Api::Responses))
        .route("/v1/messages", serve(Api::Messages))
        .route("/v1/embeddings", post(embeddings::embeddings))
        .route("/v1/models", get(models))
        .route("/health", get(health))
        .route("/metrics", get(prometheus))
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

async fn health(State(shared): State<Arc<Shared>>) -> StatusCode {
    if shared.is_loaded() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
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

async fn prometheus(State(shared): State<Arc<Shared>>) -> Response {
    let text = metrics::render(shared.label(), &shared.capacity, &shared.ledger);
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response()
}

async fn debug_requests(State(shared): State<Arc<Shared>>) -> Response {
    axum::Json(shared.ledger.requests()).into_response()
}
