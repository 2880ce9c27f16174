//! envoyproxy/ratelimit on a Redis, as a mesh has it for limits that all its gateways share.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::place::{DIRECTORY, Place};
use crate::process::{Process, installed, listens, page};

/// What Envoy calls its cluster, once [`objects`] are applied.
pub const CLUSTER: &str = "outbound|8081||ratelimit.llm.svc.cluster.local";
const GRPC_PORT: u16 = 8081;
const HTTP_PORT: u16 = 8082;
const REDIS_PORT: u16 = 6379;
const START_SECONDS_MAX: u64 = 30;

/// A running service.
#[derive(Debug)]
pub struct RateLimit {
    _service: Process,
    _redis: Process,
}

impl RateLimit {
    /// Starts both, for one limit of so many tokens a day for each key. Days are those of UTC.
    ///
    /// # Errors
    /// When one of them does not come up.
    pub async fn start(place: &Place, domain: &str, limit: &str, tokens: u64) -> Result<Self, String> {
        let mut command = Command::new("redis-server");
        let mut redis = Process::start(
            "redis",
            command.args(["--bind", "127.0.0.1", "--save", "", "--port"]).arg(REDIS_PORT.to_string()),
        )?;
        redis.until("listens", START_SECONDS_MAX, || listens(REDIS_PORT)).await?;
        let directory = Path::new(DIRECTORY).join("ratelimit");
        let said = |error: std::io::Error| format!("{}: {error}", directory.display());
        fs::create_dir_all(directory.join("config")).map_err(said)?;
        // JSON is YAML.
        let config = json!({
            "domain": domain,
            "descriptors": [{"key": "limit", "value": limit, "descriptors": [
                {"key": "key", "rate_limit": {"unit": "day", "requests_per_unit": tokens}},
            ]}],
        });
        fs::write(directory.join("config/config.yaml"), config.to_string()).map_err(said)?;
        let mut command = Command::new(place.file("ratelimit")?);
        let loopback = "127.0.0.1".to_owned();
        command.envs([
            ("RUNTIME_ROOT", directory.display().to_string()),
            ("RUNTIME_WATCH_ROOT", "false".to_owned()),
            ("REDIS_SOCKET_TYPE", "tcp".to_owned()),
            ("REDIS_URL", format!("127.0.0.1:{REDIS_PORT}")),
            ("USE_STATSD", "false".to_owned()),
            ("HOST", loopback.clone()),
            ("GRPC_HOST", loopback.clone()),
            ("DEBUG_HOST", loopback),
            ("PORT", HTTP_PORT.to_string()),
            ("GRPC_PORT", GRPC_PORT.to_string()),
        ]);
        let mut service = Process::start("ratelimit", &mut command)?;
        let health = format!("http://127.0.0.1:{HTTP_PORT}/healthcheck");
        service.until("healthy", START_SECONDS_MAX, || page(&health)).await?;
        Ok(Self { _service: service, _redis: redis })
    }

    /// Whether this machine has a Redis.
    ///
    /// # Errors
    /// How to get one.
    pub fn possible() -> Result<(), String> {
        installed("redis-server", "redis-server")
    }
}

/// The object by which gateways find it.
pub fn objects() -> Vec<Value> {
    vec![json!({
        "apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry", "metadata": {"name": "ratelimit", "namespace": "llm"},
        "spec": {
            "hosts": ["ratelimit.llm.svc.cluster.local"], "location": "MESH_INTERNAL", "resolution": "STATIC",
            "ports": [{"number": GRPC_PORT, "name": "grpc", "protocol": "GRPC"}], "endpoints": [{"address": "127.0.0.1"}],
        },
    })]
}
