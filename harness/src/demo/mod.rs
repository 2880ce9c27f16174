//! `penstock demo`: Envoy with the filters, two model servers, tenants that behave and tenants that do not.
//!
//! The configuration is `envoy/gateway.yaml`, as it is shipped. Beside the traffic, the same request goes again and again to Envoy with
//! and without the filters, in turn, so that what the filters add is measured in the same run and under the same load.

mod latency;
mod report;
mod traffic;

use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use crate::envoy::{self, Envoy, Gateway, Metrics};
use crate::model_server::{self, ModelServer};
use report::{Peak, Report};
use traffic::Traffic;

/// How often the metrics are read, and the table is drawn.
const SAMPLE: Duration = Duration::from_millis(250);
/// How long requests may take to end, and gauges to settle, after the traffic has stopped.
const DRAIN: Duration = Duration::from_secs(15);
const WORKERS: u32 = 2;

/// What the demo is asked for.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Seconds of traffic.
    #[arg(long, default_value_t = 20)]
    pub seconds: u64,
    /// Print nothing but one JSON object at the end.
    #[arg(long)]
    pub json: bool,
}

/// Runs the demo from inside a checkout whose filters have been built.
///
/// # Errors
/// When the filters or Envoy are missing or do not start; the message says what to do.
pub async fn run(options: Options) -> Result<(), String> {
    let stage = Stage::start().await?;
    let started = Instant::now();
    let until = started + Duration::from_secs(options.seconds);
    let traffic = Arc::new(Traffic::new(stage.envoy.url()));
    let load = tokio::spawn(Arc::clone(&traffic).run(until));
    let probes = tokio::spawn(latency::measure(stage.envoy.url(), stage.url_without(), until));

    let mut screen = Screen::new(&options);
    let mut peak = Peak::default();
    let mut next = started;
    while next < until {
        next += SAMPLE;
        sleep_until(next).await;
        let metrics = stage.envoy.metrics().await?;
        peak.see(&metrics);
        screen.draw(&report::table(&metrics, started.elapsed()));
    }
    load.await.map_err(|error| format!("the traffic failed: {error}"))?;
    let latency = probes.await.map_err(|error| format!("the probes failed: {error}"))??;
    let metrics = stage.settle(&mut peak).await?;
    screen.draw(&report::table(&metrics, started.elapsed()));
    let report = Report::new(options.seconds, &metrics, &peak, &latency, &traffic.tally(), &stage.totals());
    println!("{}", if options.json { report.json() } else { report.text() });
    Ok(())
}

/// Everything that runs during the demo.
struct Stage {
    envoy: Envoy,
    stable: ModelServer,
    canary: ModelServer,
}

impl Stage {
    async fn start() -> Result<Self, String> {
        let checkout = envoy::checkout()?;
        let binary =
            envoy::find(&checkout).ok_or("there is no Envoy; run `cargo xtask tools` or set PENSTOCK_ENVOY")?;
        let module = checkout.join("dist/penstock.wasm");
        if !module.is_file() {
            return Err("dist/penstock.wasm is not there; run `cargo xtask build`".to_owned());
        }
        let (stable, canary) = (server("stable", 1).await?, server("canary", 2).await?);
        let gateway = Gateway::load(&checkout, "gateway.yaml")?;
        let gateway = gateway.cluster("stable", stable.address()).cluster("canary", canary.address());
        let envoy = Envoy::start(&binary, &gateway.and_listener_without("plain").render(), WORKERS).await?;
        Ok(Self { envoy, stable, canary })
    }

    fn url_without(&self) -> String {
        self.envoy.url_of("plain").unwrap_or_default()
    }

    /// Waits until nothing is pending any more, or for as long as that may take; the metrics at the end.
    async fn settle(&self, peak: &mut Peak) -> Result<Metrics, String> {
        let deadline = Instant::now() + DRAIN;
        // The counters move when a stream is logged, the gauges with the next heartbeat: one beat more than "nothing in flight".
        sleep(Duration::from_secs(1)).await;
        loop {
            let metrics = self.envoy.metrics().await?;
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

async fn server(name: &str, seed: u64) -> Result<ModelServer, String> {
    let options = model_server::Options {
        name: name.to_owned(),
        ttft_ms: 60,
        inter_token_ms: 8,
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
