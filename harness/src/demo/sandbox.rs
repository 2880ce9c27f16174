//! Where there is no Envoy: a small HTTP proxy around the wasmtime host, so that the same traffic meets the same filters.
//!
//! It is a stand-in for looking at the filters, not for measuring them: a request's body is read whole, and each chunk of an answer is copied.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{Request, StatusCode, request};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use tokio::net::TcpListener;

use crate::envoy::Metrics;
use crate::host::{GuestLog, Host, Module, Options, Plugin, StreamId};
use crate::message::{Headers, Seen};

/// How often the host's clock is set to the real time that passed.
const CLOCK: Duration = Duration::from_millis(20);
/// How long a request may wait for the filters' decision, and how often to look.
const UNDECIDED: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(1);
/// The buffer limit of `envoy/gateway.yaml`.
const BODY_BYTES_MAX: usize = 4 << 20;

/// The host with its two listeners: with the filters and without.
pub(super) struct Sandbox {
    host: Arc<Host>,
    with: SocketAddr,
    without: SocketAddr,
}

impl Sandbox {
    pub(super) async fn start(
        module: &Path,
        configuration: String,
        servers: BTreeMap<&'static str, SocketAddr>,
        workers: usize,
    ) -> Result<Self, String> {
        let plugin = Plugin {
            module: Module::from_file(module)?,
            name: "penstock".to_owned(),
            root_id: "penstock".to_owned(),
            vm_id: "penstock".to_owned(),
            configuration: configuration.into_bytes(),
        };
        let guest_log = GuestLog::Forwarded;
        let options = Options { workers, buffer_limit: BODY_BYTES_MAX, guest_log, ..Options::default() };
        let host = Arc::new(Host::start(&[plugin], &options)?);
        let bridge = |filters| Bridge {
            filters,
            servers: servers.clone(),
            client: reqwest::Client::new(),
            next: AtomicUsize::new(0),
        };
        let (with, without) = (listen(bridge(Some(Arc::clone(&host)))).await, listen(bridge(None)).await);
        tokio::spawn(keep_time(Arc::clone(&host)));
        let address = |result: io::Result<_>| result.map_err(|error| format!("the sandbox cannot listen: {error}"));
        let sandbox = Self { host, with: address(with)?, without: address(without)? };
        log::info!("the sandbox listens on {}, and without filters on {}", sandbox.url(), sandbox.url_without());
        Ok(sandbox)
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.with)
    }

    pub(super) fn url_without(&self) -> String {
        format!("http://{}", self.without)
    }

    pub(super) fn metrics(&self) -> Metrics {
        let series = self.host.metrics().prometheus();
        let lines: Vec<String> = series.iter().map(|(series, value)| format!("{series} {value}")).collect();
        Metrics::parse(&lines.join("\n"))
    }
}

/// Lets the host's time pass as fast as it really does.
async fn keep_time(host: Arc<Host>) {
    let mut last = Instant::now();
    loop {
        tokio::time::sleep(CLOCK).await;
        let now = Instant::now();
        host.advance(now - last);
        last = now;
    }
}

async fn listen(bridge: Bridge) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = listener.local_addr()?;
    let router = Router::new().fallback(forward).with_state(Arc::new(bridge));
    tokio::spawn(async move { axum::serve(listener, router).await });
    Ok(address)
}

/// What connects clients, filters and model servers.
struct Bridge {
    filters: Option<Arc<Host>>,
    servers: BTreeMap<&'static str, SocketAddr>,
    client: reqwest::Client,
    next: AtomicUsize,
}

async fn forward(State(bridge): State<Arc<Bridge>>, request: Request<Body>) -> Response {
    let (parts, body) = request.into_parts();
    let Ok(body) = axum::body::to_bytes(body, BODY_BYTES_MAX).await else {
        return StatusCode::PAYLOAD_TOO_LARGE.into_response();
    };
    let Some(host) = &bridge.filters else {
        let answer = bridge.send("stable", pairs(&parts), body).await;
        return answer.map_or_else(unavailable, |answer| {
            (status(answer.status().as_u16()), Body::from_stream(answer.bytes_stream())).into_response()
        });
    };
    let open = Open::begin(host, &bridge.next, &parts, &body);
    match open.decide().await {
        None => StatusCode::GATEWAY_TIMEOUT.into_response(),
        Some(Decision::Answered(seen)) => respond(&seen, Body::from(seen.body.clone())),
        Some(Decision::Forward(seen)) => {
            let version = seen.header("x-penstock-version").unwrap_or_default();
            let headers =
                seen.headers.iter().flat_map(Headers::iter).map(|(name, value)| (name.to_owned(), value.to_vec()));
            match bridge.send(&version, headers.collect(), seen.body.into()).await {
                Ok(answer) => open.relay(answer),
                Err(error) => unavailable(error),
            }
        }
    }
}

impl Bridge {
    async fn send(
        &self,
        version: &str,
        headers: Vec<(String, Vec<u8>)>,
        body: Bytes,
    ) -> reqwest::Result<reqwest::Response> {
        let server = self.servers.get(version).or_else(|| self.servers.get("stable"));
        let address = server.map_or_else(String::new, SocketAddr::to_string);
        let mut request = self.client.post(format!("http://{address}/v1/chat/completions")).body(body);
        for (name, value) in headers {
            if !hop_by_hop(&name) {
                request = request.header(name, value);
            }
        }
        request.send().await
    }
}

/// A stream of the host; the client has hung up when it is dropped before its end.
struct Open {
    host: Arc<Host>,
    worker: usize,
    stream: StreamId,
}

enum Decision {
    Answered(Seen),
    Forward(Seen),
}

impl Open {
    fn begin(host: &Arc<Host>, next: &AtomicUsize, parts: &request::Parts, body: &[u8]) -> Self {
        let index = next.fetch_add(1, Ordering::Relaxed) % host.workers();
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
        let mut headers = Headers::new([
            (":method", parts.method.as_str()),
            (":path", path),
            (":scheme", "http"),
            (":authority", "sandbox"),
        ]);
        for (name, value) in pairs(parts) {
            headers.add(&name, &value);
        }
        let mut worker = host.worker(index);
        let stream = worker.open(headers, body.is_empty());
        if !body.is_empty() {
            worker.request_body(stream, body, false);
            worker.request_body(stream, b"", true);
        }
        drop(worker);
        Self { host: Arc::clone(host), worker: index, stream }
    }

    async fn decide(&self) -> Option<Decision> {
        let deadline = Instant::now() + UNDECIDED;
        while Instant::now() < deadline {
            let decision = {
                let worker = self.host.worker(self.worker);
                let upstream = worker.upstream(self.stream);
                if worker.finished(self.stream) {
                    Some(Decision::Answered(worker.client(self.stream)))
                } else {
                    upstream.end.then_some(Decision::Forward(upstream))
                }
            };
            if decision.is_some() {
                return decision;
            }
            tokio::time::sleep(LOOK).await;
        }
        None
    }

    /// Lets the server's answer through the filters, chunk by chunk.
    fn relay(self, answer: reqwest::Response) -> Response {
        let mut headers = Headers::new([(":status", answer.status().as_str())]);
        for (name, value) in answer.headers() {
            headers.add(name.as_str(), value.as_bytes());
        }
        let seen = {
            let mut worker = self.host.worker(self.worker);
            worker.response_headers(self.stream, headers, false);
            worker.client(self.stream)
        };
        let chunks = stream::unfold(Some((self, answer, 0)), |state| async move {
            let (open, mut answer, sent) = state?;
            let chunk = answer.chunk().await;
            let seen = {
                let mut worker = open.host.worker(open.worker);
                match &chunk {
                    Ok(Some(bytes)) => worker.response_body(open.stream, bytes, false),
                    Ok(None) => worker.response_body(open.stream, b"", true),
                    Err(_) => worker.upstream_reset(open.stream),
                }
                worker.client(open.stream)
            };
            let length = seen.body.len();
            let news = Bytes::copy_from_slice(seen.body.get(sent..).unwrap_or_default());
            match chunk {
                Ok(Some(_)) => Some((Ok(news), Some((open, answer, length)))),
                Ok(None) => Some((Ok(news), None)),
                Err(error) => Some((Err(io::Error::other(error)), None)),
            }
        });
        respond(&seen, Body::from_stream(chunks))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let mut worker = self.host.worker(self.worker);
        if !worker.finished(self.stream) {
            worker.client_abort(self.stream);
        }
        worker.forget(self.stream);
    }
}

fn respond(seen: &Seen, body: Body) -> Response {
    let mut response = (status(seen.status()), body).into_response();
    for (name, value) in seen.headers.iter().flat_map(Headers::iter) {
        if let (false, Ok(name), Ok(value)) =
            (hop_by_hop(name), name.parse::<axum::http::HeaderName>(), value.try_into())
        {
            response.headers_mut().append(name, value);
        }
    }
    response
}

fn pairs(parts: &request::Parts) -> Vec<(String, Vec<u8>)> {
    parts.headers.iter().map(|(name, value)| (name.to_string(), value.as_bytes().to_vec())).collect()
}

/// Headers that belong to a connection, or to HTTP/2, and are written anew on the other side.
fn hop_by_hop(name: &str) -> bool {
    name.starts_with(':') || ["host", "connection", "content-length", "transfer-encoding"].contains(&name)
}

fn status(code: u16) -> StatusCode {
    StatusCode::from_u16(code).unwrap_or(StatusCode::BAD_GATEWAY)
}

fn unavailable(error: reqwest::Error) -> Response {
    (StatusCode::BAD_GATEWAY, error.to_string()).into_response()
}
