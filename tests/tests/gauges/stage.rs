//! A gateway of two workers, model servers that can be killed, and an eye on both.

use std::fs;
use std::path::PathBuf;
use std::pin::pin;
use std::time::{Duration, Instant};

use penstock_harness::envoy::{Chain, Envoy, Gateway, Metrics, Rendered};
use penstock_harness::model_server::{Alone, Options};
use penstock_tests::{checkout, find_envoy, module, skipped, until_metrics};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::oracle::{Oracle, TICK};

const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Which module runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Module {
    /// What is shipped.
    Shipped,
    /// The one that does wrong when it is asked to.
    ForTests,
}

/// All of it.
pub struct Stage {
    binary: PathBuf,
    gateway: Gateway,
    envoy: Option<Envoy>,
    pub servers: Vec<Alone>,
    url: watch::Sender<String>,
    pub oracle: Oracle,
}

impl Stage {
    /// Starts it; `None` where something is missing, which is told.
    pub async fn start(which: Module) -> Option<Self> {
        let binary = find_envoy().inspect_err(|reason| skipped(reason)).ok()?;
        let path = match which {
            Module::Shipped => module("penstock"),
            Module::ForTests => for_tests().inspect_err(|reason| skipped(reason)).ok()?,
        };
        let server = start_server(0).await;
        let address = server.server.address();
        let gateway = Gateway::load(&checkout(), "gateway.yaml").expect("gateway.yaml");
        let gateway = gateway.cluster("stable", address).cluster("canary", address);
        let gateway = gateway.chain(Chain::One).module(&path).plugin_config(&config(&["chat"]));
        let (url, _) = watch::channel(String::new());
        let mut stage = Self { binary, gateway, envoy: None, servers: vec![server], url, oracle: Oracle::default() };
        stage.start_gateway().await;
        stage.announce();
        Some(stage)
    }

    /// A gateway, in place of the one before, which is killed. Nobody knows of it yet.
    pub async fn start_gateway(&mut self) {
        self.envoy = None;
        let rendered: Rendered = self.gateway.render_replaceable();
        self.envoy = Some(Envoy::start(&self.binary, &rendered, 2).await.expect("Envoy starts"));
    }

    /// From now on requests go to the gateway that runs.
    pub fn announce(&self) {
        self.url.send_replace(self.envoy().url());
    }

    /// Kills the gateway.
    pub fn kill_gateway(&mut self) {
        self.envoy = None;
    }

    /// A server in the place of the last, which has been killed.
    pub async fn start_server(&mut self) {
        let port = self.servers.last().expect("a server").server.address().port();
        self.servers.push(start_server(port).await);
    }

    /// Gives the gateway this configuration.
    pub fn configure(&mut self, config: &Value) {
        self.gateway = self.gateway.clone().plugin_config(config);
        let listeners = self.gateway.render_replaceable().listeners.expect("listeners");
        self.envoy().replace_listeners(&listeners).expect("written");
    }

    pub fn envoy(&self) -> &Envoy {
        self.envoy.as_ref().expect("a gateway")
    }

    /// Where the gateway is.
    pub fn url(&self) -> watch::Receiver<String> {
        self.url.subscribe()
    }

    /// The gauges.
    pub async fn gauges(&self) -> Metrics {
        let text = self.envoy().admin_get("/stats/prometheus?filter=penstock_pending").await;
        Metrics::parse(&text.expect("the gauges"))
    }

    /// Watches servers and gauges until something is over; what came of it.
    pub async fn watch_until<T>(&mut self, over: impl Future<Output = T>) -> T {
        let mut over = pin!(over);
        loop {
            self.oracle.ask(self.servers.iter().map(|server| &server.server));
            if self.envoy.is_some() {
                let before = Instant::now();
                let gauges = self.gauges().await;
                self.oracle.read(before, &gauges);
            }
            if let Ok(done) = tokio::time::timeout(LOOK_EVERY, over.as_mut()).await {
                return done;
            }
        }
    }

    /// Watches for so long.
    pub async fn watch(&mut self, span: Duration) {
        self.watch_until(tokio::time::sleep(span)).await;
    }

    /// At the end all gauges are 0, and stay there.
    pub async fn nothing_is_pending(&self) {
        let pending = |metrics: &Metrics| {
            ["penstock_pending_requests", "penstock_pending_tokens", "penstock_pending_cached_tokens"]
                .map(|name| metrics.sum(name, &[]))
        };
        until_metrics(self.envoy(), |metrics| pending(metrics) == [0.0; 3]).await;
        tokio::time::sleep(3 * TICK).await;
        assert_eq!(pending(&self.gauges().await), [0.0; 3]);
    }
}

async fn start_server(port: u16) -> Alone {
    Alone::start(Options { port, ..Options::default() }).await.expect("the port")
}

/// These models, of one version each.
pub fn config(models: &[&str]) -> Value {
    let models = models.iter().map(|name| json!({"name": name, "versions": [{"name": "stable", "weight": 1}]}));
    let tick = format!("{}ms", TICK.as_millis());
    json!({"tick": tick, "waitForBody": true, "models": models.collect::<Vec<_>>()})
}

/// The module with faults; where it is missing, or older than what it is to be a variant of, the reason to skip.
///
/// # Errors
/// Then.
pub fn for_tests() -> Result<PathBuf, String> {
    let path = checkout().join("target/for-tests/penstock.wasm");
    let made = |path: &PathBuf| fs::metadata(path).and_then(|file| file.modified());
    if made(&path).is_ok_and(|faulty| made(&module("penstock")).is_ok_and(|shipped| shipped <= faulty)) {
        Ok(path)
    } else {
        Err("target/for-tests/penstock.wasm is not there, or out of date; run `cargo xtask build --for-tests`"
            .to_owned())
    }
}
