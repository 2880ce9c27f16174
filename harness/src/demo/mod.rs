//! `penstock demo`: Envoy with the filters, two model servers, tenants that behave and tenants that do not.
//!
//! Without an Envoy the filters run in the wasmtime host, behind a small HTTP proxy; the report says so.
//!
//! The configuration is `envoy/gateway.yaml`, as it is shipped. Beside the traffic, the same request goes again and again to Envoy with
//! and without the filters, in turn, so that what the filters add is measured in the same run and under the same load.

mod latency;
mod report;
mod sandbox;
mod traffic;

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use crate::envoy::{self, Envoy, Gateway, Metrics};
use crate::model_server::{self, ModelServer};
use report::Peak;
pub use report::Report;
use sandbox::Sandbox;
use traffic::Traffic;

/// How often the metrics are read, and the table is drawn.
const SAMPLE: Duration = Duration::from_millis(250);
/// How long requests may take to end, and gauges to settle, after the traffic has stopped.
const DRAIN: Duration = Duration::from_secs(15);
const WORKERS: u32 = 2;
/// The listener that has no filters.
const PLAIN: &str = "plain";

/// What the demo is asked for.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Seconds of traffic.
    #[arg(long, default_value_t = 20)]
    pub seconds: u64,
    /// Print nothing but one JSON object at the end.
    #[arg(long)]
    pub json: bool,
    /// Run the filters in the sandbox even where there is an Envoy.
    #[arg(long)]
    pub sandbox: bool,
}

/// Runs the demo from inside a checkout whose filters have been built, and prints what came of it.
///
/// # Errors
/// When the filters are missing, or something does not start; the message says what to do.
pub async fn run(options: Options) -> Result<(), String> {
    let report = observe(&options).await?;
    println!("{}", if options.json { report.json().to_string() } else { report.text() });
    Ok(())
}

/// The demo without its last word.
///
/// # Errors
/// As [`run`].
pub async fn observe(options: &Options) -> Result<Report, String> {
    let stage = Stage::start(options.sandbox).await?;
    let started = Instant::now();
    let until = started + Duration::from_secs(options.seconds);
    let traffic = Arc::new(Traffic::new(stage.proxy.url()));
    let load = tokio::spawn(Arc::clone(&traffic).run(until));
    let probes = tokio::spawn(latency::measure(stage.proxy.url(), stage.proxy.url_without(), until));

    let mut screen = Screen::new(options);
    let mut peak = Peak::default();
    let mut next = started;
    while next < until {
        next += SAMPLE;
        sleep_until(next).await;
        let metrics = stage.proxy.metrics().await?;
        peak.see(&metrics);
        screen.draw(&report::table(&metrics, started.elapsed()));
    }
    load.await.map_err(|error| format!("the traffic failed: {error}"))?;
    let latency = probes.await.map_err(|error| format!("the probes failed: {error}"))??;
    let metrics = stage.settle(&mut peak).await?;
    screen.draw(&report::table(&metrics, started.elapsed()));
    let (name, tally, servers) = (stage.proxy.name(), traffic.tally(), stage.totals());
    Ok(Report::new(name, options.seconds, &metrics, &peak, &latency, &tally, &servers))
}

/// Everything that runs during the demo.
struct Stage {
    proxy: Proxy,
    stable: ModelServer,
    canary: ModelServer,
}

impl Stage {
    async fn start(sandbox: bool) -> Result<Self, String> {
        let checkout = envoy::checkout()?;
        let module = checkout.join("dist/penstock.wasm");
        if !module.is_file() {
            return Err("dist/penstock.wasm is not there; run `cargo xtask build`".to_owned());
        }
        let (stable, canary) = (server("stable", 1).await?, server("canary", 2).await?);
        let servers = BTreeMap::from([("stable", stable.address()), ("canary", canary.address())]);
        let mut gateway = Gateway::load(&checkout, "gateway.yaml")?;
        let binary = envoy::find(&checkout).filter(|_| !sandbox);
        let proxy = if let Some(binary) = binary {
            let gateway = servers.into_iter().fold(gateway, |gateway, (name, address)| gateway.cluster(name, address));
            let config = gateway.and_listener_without(PLAIN).render();
            Proxy::Envoy(Envoy::start(&binary, &config, WORKERS).await?)
        } else {
            if !sandbox {
                eprintln!("There is no Envoy (`cargo xtask tools` installs one): the filters run in the sandbox.");
            }
            Proxy::Sandbox(Sandbox::start(&module, gateway.configuration(), servers).await?)
        };
        Ok(Self { proxy, stable, canary })
    }

    /// Waits until nothing is pending any more, or for as long as that may take; the metrics at the end.
    async fn settle(&self, peak: &mut Peak) -> Result<Metrics, String> {
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

    fn totals(&self) -> [model_server::Totals; 2] {
        [self.stable.totals(), self.canary.totals()]
    }
}

/// What the filters run in.
enum Proxy {
    Envoy(Envoy),
    Sandbox(Sandbox),
}

impl Proxy {
    fn name(&self) -> &'static str {
        match self {
            Self::Envoy(_) => "envoy",
            Self::Sandbox(_) => "sandbox",
        }
    }

    fn url(&self) -> String {
        match self {
            Self::Envoy(envoy) => envoy.url(),
            Self::Sandbox(sandbox) => sandbox.url(),
        }
    }

    fn url_without(&self) -> String {
        match self {
            Self::Envoy(envoy) => envoy.url_of(PLAIN).unwrap_or_default(),
            Self::Sandbox(sandbox) => sandbox.url_without(),
        }
    }

    async fn metrics(&self) -> Result<Metrics, String> {
        match self {
            Self::Envoy(envoy) => envoy.metrics().await,
            Self::Sandbox(sandbox) => Ok(sandbox.metrics()),
        }
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

/// The live table: drawn over itself on a terminal, not at all elsewhere.
struct Screen {
    live: bool,
    lines: usize,
}

impl Screen {
    fn new(options: &Options) -> Self {
        Self { live: !options.json && std::io::stdout().is_terminal(), lines: 0 }
    }

    fn draw(&mut self, table: &str) {
        if !self.live {
            return;
        }
        let mut stdout = std::io::stdout().lock();
        let up = if self.lines > 0 { format!("\x1b[{}A", self.lines) } else { String::new() };
        // A terminal that has gone away is noticed by the final print.
        let _ = write!(stdout, "{up}\x1b[J{table}");
        let _ = stdout.flush();
        self.lines = table.lines().count();
    }
}
