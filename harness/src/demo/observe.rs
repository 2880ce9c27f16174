//! One run of the demo: traffic and probes side by side, looked at all the while; and a canary that fails.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::latency;
use super::options::Options;
use super::report::{self, Peak, Report};
use super::roll_back;
use super::screen::Screen;
use super::stage::Stage;
use super::traffic::Traffic;

/// How often the metrics are read, and the table is drawn.
const SAMPLE: Duration = Duration::from_millis(250);

/// Runs the demo from inside a checkout whose filters have been built; what came of it.
///
/// # Errors
/// When the filters are missing, or something does not start; the message says what to do.
pub async fn observe(options: &Options) -> Result<Report, String> {
    let stage = Stage::start(options.sandbox).await?;
    let started = Instant::now();
    let until = started + Duration::from_secs(options.seconds);
    let traffic = Arc::new(Traffic::new(stage.proxy.url()));
    let load = tokio::spawn(Arc::clone(&traffic).run(until));
    let probes = tokio::spawn(latency::measure(stage.proxy.url(), stage.proxy.url_without(), until));

    let mut screen = Screen::new(options.json);
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
    let table = report::table(&metrics, started.elapsed());
    screen.draw(&format!("{table}and now the canary begins to fail\n"));
    // What is reported of the traffic ends here.
    let (name, tally, servers) = (stage.proxy.name(), traffic.tally(), stage.totals());
    let roll_back = roll_back::play(&stage.proxy.url()).await?;
    Ok(Report::new((name, options.seconds), &metrics, &peak, &latency, &tally, &servers, roll_back))
}
