//! The truth of gauges, on a real Envoy under load: whatever happens, they say what the model server knows.

#[path = "gauges/load.rs"]
mod load;
#[path = "gauges/oracle.rs"]
mod oracle;
#[path = "gauges/stage.rs"]
mod stage;

use std::fs;
use std::time::{Duration, Instant};

use penstock_harness::envoy::Metrics;
use penstock_tests::{PATIENCE, checkout, until_metrics};

use load::{Ending, Load, Request, STREAM, TOKENS, follow, request};
use oracle::{SLACK, TICK};
use stage::{Module, Stage, config, for_tests};

/// A worker that is silent for so many ticks no longer counts (docs/metrics.md), and the next tick of another one shows it.
const GONE: Duration = TICK.saturating_mul(6 + 1);
/// A VM that trapped is there again in a second.
const RELOADED: Duration = Duration::from_secs(2);

/// A VM that traps takes its streams with it, and what they had pending; those of the other worker go on, and so do those that come.
#[tokio::test(flavor = "multi_thread")]
async fn a_trap_under_load() {
    let Some(mut stage) = Stage::start(Module::ForTests).await else { return };
    let load = Load::start(stage.url());
    stage.watch(STREAM + 8 * TICK).await;
    let trapped = Instant::now();
    let asked = request(&stage.envoy().url(), 10, TOKENS, &[("x-penstock-fault", "trap")]);
    let refused = stage.watch_until(follow(asked)).await.ending;
    assert!(matches!(refused, Ending::Refused(503) | Ending::Unanswered), "{refused:?}");
    stage.watch(GONE + SLACK).await;
    let truthful = Instant::now();
    stage.watch(STREAM).await;
    let requests = stage.watch_until(load.end()).await;
    stage.watch(2 * SLACK).await;

    assert!(stage.envoy().log().contains("a trap was asked for"), "the module did not trap");
    let (broken, whole) = (count(&requests, Ending::Broken), count(&requests, Ending::Whole));
    assert!(broken > 0 && whole > broken, "of {} streams {broken} were in the VM that trapped", requests.len());
    let mut later = requests.iter().filter(|request| request.began > trapped + RELOADED).peekable();
    assert!(later.peek().is_some() && later.all(|request| request.ending == Ending::Whole), "{requests:?}");
    stage.oracle.assert_true(&requests, |at| at < trapped || at > truthful);
    stage.nothing_is_pending().await;
}

/// A worker that does nothing else for five seconds drops out of the sums, and is counted again with its next heartbeat.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_stalled() {
    const STREAMS: usize = 24;
    let Some(stage) = Stage::start(Module::ForTests).await else { return };
    let url = stage.envoy().url();
    let open: Vec<_> = (0..STREAMS).map(|_| tokio::spawn(follow(request(&url, 10, 100_000, &[])))).collect();
    let pending = |metrics: &Metrics| metrics.sum("penstock_pending_requests", &[("model", "chat")]) as usize;
    until_metrics(stage.envoy(), |metrics| pending(metrics) == STREAMS).await;
    let before = connections(&stage).await;
    assert!(before.iter().all(|share| *share > 0) && before.iter().sum::<usize>() == STREAMS, "{before:?}");

    let stalled = tokio::spawn(follow(request(&url, 10, 1, &[("x-penstock-fault", "busy=5000")])));
    let deadline = Instant::now() + PATIENCE;
    let healthy = loop {
        let now = connections(&stage).await;
        if let Some(healthy) = (0..2).find(|worker| now[1 - worker] > before[1 - worker]) {
            break healthy;
        }
        assert!(Instant::now() < deadline, "nobody took the request that stalls");
    };
    while pending(&stage.gauges().await) != before[healthy] {
        assert!(!stalled.is_finished(), "the worker that is stalled does not drop out");
        tokio::time::sleep(TICK / 5).await;
    }
    assert_eq!(stalled.await.expect("a task").ending, Ending::Whole);
    until_metrics(stage.envoy(), |metrics| pending(metrics) == STREAMS).await;
    assert_eq!(stage.servers[0].server.totals().client_gone, 0, "streams were lost");
    open.iter().for_each(|stream| stream.abort());
    stage.nothing_is_pending().await;
}

/// How many connections each of the two workers has.
async fn connections(stage: &Stage) -> [usize; 2] {
    let stats =
        stage.envoy().admin_get("/stats?filter=worker_._downstream_cx_active|worker_.\\.downstream_cx_active").await;
    let stats = stats.expect("statistics");
    ["worker_0", "worker_1"].map(|worker| {
        let line = stats.lines().find(|line| line.contains(worker));
        line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or_else(|| panic!("{stats}"))
    })
}

/// A configuration that takes the place of another: what is in flight under the old one counts until it is over.
#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_that_is_changed_under_load() {
    let Some(mut stage) = Stage::start(Module::Shipped).await else { return };
    let load = Load::start(stage.url());
    stage.watch(STREAM).await;
    stage.configure(&config(&["chat", "code"]));
    stage.watch(STREAM).await;
    until_metrics(stage.envoy(), |metrics| {
        metrics.select("penstock_pending_requests", &[("model", "code")]).count() == 1
    })
    .await;
    let requests = stage.watch_until(load.end()).await;
    stage.watch(2 * SLACK).await;

    assert_eq!(count(&requests, Ending::Whole), requests.len(), "{requests:?}");
    stage.oracle.assert_true(&requests, |_| true);
    stage.nothing_is_pending().await;
    let ok = [("model", "chat"), ("outcome", "ok")];
    let all = requests.len() as f64;
    until_metrics(stage.envoy(), |metrics| metrics.sum("penstock_requests_total", &ok) == all).await;
}

/// A model server that is killed, is away for two seconds, and comes back.
#[tokio::test(flavor = "multi_thread")]
async fn a_model_server_that_is_killed_under_load() {
    let Some(mut stage) = Stage::start(Module::Shipped).await else { return };
    let load = Load::start(stage.url());
    stage.watch(STREAM).await;
    stage.servers[0].kill();
    stage.watch(Duration::from_secs(2)).await;
    stage.start_server().await;
    let back = Instant::now();
    stage.watch(STREAM).await;
    let requests = stage.watch_until(load.end()).await;
    stage.watch(2 * SLACK).await;

    let (broken, refused) = (count(&requests, Ending::Broken), count(&requests, Ending::Refused(503)));
    assert!(broken > 0 && refused > 0, "{requests:?}");
    let mut later = requests.iter().filter(|request| request.began > back).peekable();
    assert!(later.peek().is_some() && later.all(|request| request.ending == Ending::Whole), "{requests:?}");
    stage.oracle.assert_true(&requests, |_| true);
    stage.nothing_is_pending().await;
}

/// A gateway that is killed and started again: its counters begin at 0, and its gauges are true from its first tick on.
#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_restarts_under_load() {
    let Some(mut stage) = Stage::start(Module::Shipped).await else { return };
    let load = Load::start(stage.url());
    stage.watch(STREAM).await;
    stage.kill_gateway();
    stage.start_gateway().await;
    let admitted = [("model", "chat"), ("kind", "prompt")];
    until_metrics(stage.envoy(), |metrics| metrics.select("penstock_admitted_tokens_total", &admitted).count() == 1)
        .await;
    let metrics = stage.envoy().metrics().await.expect("metrics");
    assert_eq!(metrics.sum("penstock_admitted_tokens_total", &admitted), 0.0);
    assert_eq!(metrics.sum("penstock_requests_total", &[]), 0.0);
    // What the servers know by now they do not have from this gateway.
    stage.watch(TICK).await;
    let restarted = Instant::now();
    stage.announce();
    stage.watch(STREAM).await;
    let requests = stage.watch_until(load.end()).await;
    stage.watch(2 * SLACK).await;

    let since: Vec<_> = requests.iter().filter(|request| request.began > restarted).collect();
    assert!(count(&requests, Ending::Broken) > 0, "{requests:?}");
    assert!(!since.is_empty() && since.iter().all(|request| request.ending == Ending::Whole), "{requests:?}");
    stage.oracle.assert_true(&requests, |_| true);
    stage.nothing_is_pending().await;
    let prompts = stage.oracle.prompts_since(restarted) as f64;
    let metrics = stage.envoy().metrics().await.expect("metrics");
    assert_eq!(metrics.sum("penstock_admitted_tokens_total", &admitted), prompts);
    assert_eq!(metrics.sum("penstock_requests_total", &[("outcome", "ok")]), since.len() as f64);
}

/// What is shipped does not know the header that makes the other module fail.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_shipped_has_no_faults() {
    let has_faults = |path: &std::path::Path| {
        let bytes = fs::read(path).expect("a module");
        bytes.windows(20).any(|words| words == b"a trap was asked for")
    };
    let shipped = fs::read_dir(checkout().join("dist")).expect("dist/").map(|entry| entry.expect("an entry").path());
    let shipped: Vec<_> =
        shipped.filter(|path| path.extension().is_some_and(|extension| extension == "wasm")).collect();
    assert!(shipped.len() >= 5 && !shipped.iter().any(|path| has_faults(path)), "{shipped:?}");
    if let Ok(path) = for_tests() {
        assert!(has_faults(&path), "it would not be seen");
    }
    let Some(stage) = Stage::start(Module::Shipped).await else { return };
    for fault in ["trap", "busy=60000"] {
        let asked = follow(request(&stage.envoy().url(), 10, 1, &[("x-penstock-fault", fault)]));
        let ending = tokio::time::timeout(Duration::from_secs(30), asked).await.map(|request| request.ending);
        assert_eq!(ending, Ok(Ending::Whole), "{fault}");
    }
}

fn count(requests: &[Request], ending: Ending) -> usize {
    requests.iter().filter(|request| request.ending == ending).count()
}
