//! Everything that runs during the demo: two model servers, and the filters before them.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::proxy::Proxy;
use super::report::{self, Peak};
use crate::envoy::{self, Gateway, Metrics};
use crate::model_server::{self, ModelServer};

/// How long requests may take to end, and gauges to settle, after the traffic has stopped.
const DRAIN: Duration = Duration::from_secs(60);
/// How often the metrics are read meanwhile.
const SAMPLE: Duration = Duration::from_millis(250);

/// Everything that runs during the demo.
pub(super) struct Stage {
    pub(super) proxy: Proxy,
    stable: ModelServer,
    canary: ModelServer,
}

impl Stage {
    pub(super) async fn start(sandbox: bool) -> Result<Self, String> {
        let checkout = envoy::checkout()?;
        let module = checkout.join("dist/penstock.wasm");
        if !module.is_file() {
            return Err("dist/penstock.wasm is not there; run `cargo xtask build`".to_owned());
        }
        let (stable, canary) = (server("stable", 1).await?, server("canary", 2).await?);
        let servers = BTreeMap::from([("stable", stable.address()), ("canary", canary.address())]);
        let gateway = Gateway::load(&checkout, "gateway.yaml")?;
        let binary = envoy::find(&checkout).filter(|_| !sandbox);
        let proxy = if let Some(binary) = binary {
            Proxy::envoy(&binary, gateway, servers).await?
        } else {
            if !sandbox {
                log::warn!("There is no Envoy (`cargo xtask tools` installs one): the filters run in the sandbox.");
            }
            Proxy::sandbox(&module, gateway, servers).await?
        };
        Ok(Self { proxy, stable, canary })
    }

    /// Waits until nothing is pending any more, or for as long as that may take; the metrics at the end.
    pub(super) async fn settle(&self, peak: &mut Peak) -> Result<Metrics, String> {
        let deadline = Instant::now() + DRAIN;
        // The counters move when a stream is logged, the gauges with the next heartbeat: one beat more than "nothing in flight".
        sleep(Duration::from_secs(1)).await;
        loop {
            let metrics = self.proxy.metrics().await?;
            peak.see(&metrics);
            if Instant::now() > deadline || report::pending_total(&metrics) == 0.0 {
                return Ok(metrics);
            }
            sleep(SAMPLE).await;
        }
    }

    pub(super) fn totals(&self) -> [model_server::Totals; 2] {
        [self.stable.totals(), self.canary.totals()]
    }
}

async fn server(name: &str, seed: u64) -> Result<ModelServer, String> {
    let options = model_server::Options {
        name: name.to_owned(),
        ttft_ms: 250,
        inter_token_ms: 15,
        error_rate: 0.01,
        seed,
        ..model_server::Options::default()
    };
    ModelServer::start(options).await.map_err(|error| format!("the model server {name}: {error}"))
}
