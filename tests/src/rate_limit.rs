//! A rate limit service on a real Redis: Limitador's engine behind `envoy.service.ratelimit.v3`.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_response::{Code, DescriptorStatus};
use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_service_server::{
    RateLimitService, RateLimitServiceServer,
};
use envoy_types::pb::envoy::service::ratelimit::v3::{RateLimitRequest, RateLimitResponse};
use limitador::AsyncRateLimiter;
use limitador::limit::{Limit, Namespace};
use limitador::storage::redis::AsyncRedisStorage;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::Mutex;
use tonic::{Request, Response, Status};

use crate::PATIENCE;

/// The domain that the service knows.
pub const DOMAIN: &str = "penstock";

/// A Redis that keeps what it was told over a restart.
#[derive(Debug)]
pub struct Redis {
    port: u16,
    directory: PathBuf,
    child: Child,
}

impl Redis {
    /// Starts one on a free port.
    ///
    /// # Errors
    /// When there is no `redis-server`, or it does not answer.
    pub fn start() -> Result<Self, String> {
        // Redis cannot choose a port by itself, and one that was free may be taken by the time it listens.
        let mut why = String::new();
        for _ in 0..5 {
            let port = std::net::TcpListener::bind(("127.0.0.1", 0)).and_then(|listener| listener.local_addr());
            let port = port.map_err(|error| format!("no free port: {error}"))?.port();
            let directory = std::env::temp_dir().join(format!("penstock-redis-{}-{port}", std::process::id()));
            std::fs::create_dir_all(&directory).map_err(|error| format!("{}: {error}", directory.display()))?;
            match Self::run(port, &directory) {
                Ok(child) => return Ok(Self { port, directory, child }),
                Err(error) => why = error,
            }
        }
        Err(why)
    }

    fn run(port: u16, directory: &std::path::Path) -> Result<Child, String> {
        let mut child = Command::new("redis-server")
            .args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "yes", "--appendfsync", "always", "--port"])
            .arg(port.to_string())
            .arg("--dir")
            .arg(directory)
            .stdout(Stdio::null())
            .spawn()
            .map_err(|error| format!("there is no redis-server ({error}); on Debian: apt-get install redis-server"))?;
        let deadline = Instant::now() + PATIENCE;
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            if let Ok(Some(status)) = child.try_wait() {
                return Err(format!("redis-server ended with {status}"));
            }
            if Instant::now() > deadline {
                let _ = child.kill();
                return Err("redis-server does not listen".to_owned());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(child)
    }

    /// Kills it.
    pub fn kill(&mut self) {
        // One that is gone already is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Starts it again, with what it had.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn restart(&mut self) -> Result<(), String> {
        self.child = Self::run(self.port, &self.directory)?;
        Ok(())
    }

    fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
        // A directory that stays behind in /tmp harms nobody.
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// The service.
#[derive(Debug)]
pub struct Service {
    address: SocketAddr,
    shared: Arc<Shared>,
    /// Of its own, so that with it every connection ends.
    runtime: Option<Runtime>,
}

#[derive(Debug, Default)]
struct Shared {
    calls: AtomicU64,
    delay_ms: AtomicU64,
}

impl Service {
    /// Serves one limit, of so many hits in so many seconds for each key.
    ///
    /// # Errors
    /// When Redis does not answer.
    pub async fn start(redis: &Redis, limit: &str, hits: u64, seconds: u64) -> Result<Self, String> {
        Self::start_at(SocketAddr::from(([127, 0, 0, 1], 0)), redis, limit, hits, seconds).await
    }

    /// As [`Service::start`], at an address: where one was that has stopped.
    ///
    /// # Errors
    /// When Redis does not answer, or the address is taken.
    pub async fn start_at(
        address: SocketAddr,
        redis: &Redis,
        limit: &str,
        hits: u64,
        seconds: u64,
    ) -> Result<Self, String> {
        let (url, limit) = (redis.url(), limit.to_owned());
        let runtime = Runtime::new().map_err(|error| format!("the rate limit service: {error}"))?;
        let serving = runtime.spawn(async move { Self::serve(address, &url, &limit, hits, seconds).await });
        let (address, shared) = serving.await.map_err(|error| format!("the rate limit service: {error}"))??;
        Ok(Self { address, shared, runtime: Some(runtime) })
    }

    async fn serve(
        address: SocketAddr,
        redis: &str,
        limit: &str,
        hits: u64,
        seconds: u64,
    ) -> Result<(SocketAddr, Arc<Shared>), String> {
        let text = |error: &dyn std::fmt::Display| format!("the rate limit service: {error}");
        let storage = AsyncRedisStorage::new(redis).await.map_err(|error| text(&error))?;
        let limiter = AsyncRateLimiter::new_with_storage(Box::new(storage));
        let hits = i64::try_from(hits).map_err(|error| text(&error))?;
        limiter.add_limit(Limit::new(DOMAIN, hits, seconds, [format!("limit == \"{limit}\"")], ["key"]));
        let listener = TcpListener::bind(address).await.map_err(|error| text(&error))?;
        let address = listener.local_addr().map_err(|error| text(&error))?;
        let shared = Arc::new(Shared::default());
        let engine = Engine { limiter: Mutex::new(limiter), seconds, shared: Arc::clone(&shared) };
        let incoming = tonic::transport::server::TcpIncoming::from(listener);
        let server = tonic::transport::Server::builder().add_service(RateLimitServiceServer::new(engine));
        tokio::spawn(async move { drop(server.serve_with_incoming(incoming).await) });
        Ok((address, shared))
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How often it was asked.
    pub fn calls(&self) -> u64 {
        self.shared.calls.load(Ordering::SeqCst)
    }

    /// Stops listening, and breaks its connections.
    pub fn stop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }

    /// Answers this much later from now on.
    pub fn slow_down(&self, by: Duration) {
        self.shared.delay_ms.store(by.as_millis() as u64, Ordering::SeqCst);
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.stop();
    }
}

struct Engine {
    /// Limitador's Redis storage checks first and counts afterwards, so that calls at the same time could both pass. One at a time is exact.
    limiter: Mutex<AsyncRateLimiter>,
    seconds: u64,
    shared: Arc<Shared>,
}

#[tonic::async_trait]
impl RateLimitService for Engine {
    async fn should_rate_limit(
        &self,
        request: Request<RateLimitRequest>,
    ) -> Result<Response<RateLimitResponse>, Status> {
        self.shared.calls.fetch_add(1, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(self.shared.delay_ms.load(Ordering::SeqCst))).await;
        let request = request.into_inner();
        let entries = request.descriptors.into_iter().flat_map(|descriptor| descriptor.entries);
        let values: HashMap<String, String> = entries.map(|entry| (entry.key, entry.value)).collect();
        let hits = i64::from(request.hits_addend);
        let limiter = self.limiter.lock().await;
        let domain = Namespace::from(request.domain);
        let checked = limiter.check_rate_limited_and_update(&domain, &values, hits, true).await;
        let checked = checked.map_err(|error| Status::unavailable(error.to_string()))?;
        let left = checked.counters.iter().filter_map(|counter| counter.remaining()).min().unwrap_or(0);
        let ends = checked.counters.iter().filter_map(|counter| counter.expires_in()).min();
        let ends = ends.unwrap_or(Duration::from_secs(self.seconds));
        let code = if checked.limited { Code::OverLimit } else { Code::Ok } as i32;
        let status = DescriptorStatus {
            code,
            limit_remaining: u32::try_from(left).unwrap_or(0),
            duration_until_reset: Some(envoy_types::pb::google::protobuf::Duration {
                seconds: ends.as_secs() as i64,
                nanos: ends.subsec_nanos() as i32,
            }),
            ..DescriptorStatus::default()
        };
        Ok(Response::new(RateLimitResponse {
            overall_code: code,
            statuses: vec![status],
            ..RateLimitResponse::default()
        }))
    }
}
