//! What is replaced while requests are served: none of them is lost, all are counted, and budgets stay what they were.

use std::cell::Cell;
use std::fs;
use std::time::Duration;

use penstock_cluster::objects;
use penstock_cluster::place::DIRECTORY;
use penstock_cluster::process::eventually;
use penstock_harness::envoy::Metrics;
use penstock_harness::model_server::Options;
use serde_json::{Value, json};

use crate::stage::{Answer, Base, PATIENCE_SECONDS, Set, Stage, configure, pin, push_file, run, shipped};

/// Callers at a time, and the fewest requests of each; they go on until what is replaced is in force.
const CALLERS: usize = 4;
const REQUESTS_MIN: usize = 10;
/// Before and after it is in force: it is not in all workers at once.
const MARGIN: Duration = Duration::from_secs(1);

#[test]
fn a_configuration_is_replaced_under_load() {
    run(async |base| {
        for set in Set::BOTH {
            let stage = Stage::with(base, lasting(base, set), slow()).await;
            let mut next = stage.objects.clone();
            configure(&mut next, set, |config| config["models"][1]["output"]["max"] = json!(77));
            while_it_is_replaced(&stage, &next, async || {
                let is_new = |answer: &Answer| answer.header("x-penstock-max-tokens") == "77";
                stage.until("the new configuration", "chat-small", is_new).await;
            })
            .await;
        }
    });
}

#[test]
fn a_module_is_replaced_under_load() {
    run(async |base| {
        // The same code with one more section, which says nothing: a module with a digest of its own.
        let other = format!("{DIRECTORY}/other.wasm");
        let mut bytes = fs::read(base.place.checkout.join("dist/penstock.wasm")).expect("the module");
        bytes.extend_from_slice(b"\x00\x06\x05other");
        fs::write(&other, bytes).expect("written");
        let digest = push_file(base, other.as_ref(), "other");
        for set in Set::BOTH {
            let stage = Stage::with(base, lasting(base, set), slow()).await;
            let mut next = stage.objects.clone();
            next.iter_mut()
                .for_each(|object| objects::replace(object, "127.0.0.1:5000/stage:1", "127.0.0.1:5000/other:1"));
            pin(&mut next, set, &digest);
            while_it_is_replaced(&stage, &next, async || {
                // The agent hands on where it keeps a module, under the digest of its image.
                // It is there where as many VMs have said that they are configured as at the beginning: until then the old one serves.
                let loaded = eventually("the new module", PATIENCE_SECONDS, async || {
                    let dump = stage.gateway.admin("/config_dump?include_eds").await?;
                    let log = stage.gateway.log();
                    let configured = |log: &str| log.matches("wasm log penstock penstock: configured ").count();
                    let (before, after) = log.split_once("fetching image other from").ok_or("not fetched")?;
                    let is_there = configured(after) >= configured(before) && configured(before) > 0;
                    if is_there && !dump.contains(r#""error_state""#) { Ok(()) } else { Err("not loaded".to_owned()) }
                });
                loaded.await.unwrap_or_else(|message| panic!("{message}"));
                stage.until_in_force().await;
            })
            .await;
        }
    });
}

/// The set, with budgets that do not fill up again while a test is slow.
fn lasting(base: &Base, set: Set) -> Vec<Value> {
    let mut objects = shipped(base, set, "stage");
    configure(&mut objects, set, |config| config["limits"][0]["every"] = json!("10h"));
    objects
}

/// Answers that take a while, so that there are always some under way.
fn slow() -> Options {
    Options { ttft_ms: 100, ..Options::default() }
}

/// Sends requests, applies these objects while they are under way, and waits for what shows that they are in force.
async fn while_it_is_replaced(stage: &Stage, next: &[Value], in_force: impl AsyncFnOnce()) {
    stage.until_in_force().await;
    let large =
        json!({"model": "chat", "max_tokens": 10, "messages": [{"role": "user", "content": "word ".repeat(50_000)}]});
    let spender = [("x-api-key", "spender")];
    let spent = stage.post(&large, &spender).await.expect("an answer");
    assert_eq!(spent.status, 200, "{spent:?}");
    let counted = |metrics: &Metrics| metrics.sum("penstock_streams_total", &[("handling", "counted")]);
    let before = counted(&stage.gateway.metrics().await.expect("metrics"));
    let is_over = Cell::new(false);
    let load = futures_util::future::join_all((0..CALLERS).map(|caller| ask(stage, caller, &is_over)));
    let replace = async {
        tokio::time::sleep(MARGIN).await;
        stage.base.kubernetes.apply(next).await.expect("applied");
        in_force().await;
        tokio::time::sleep(MARGIN).await;
        is_over.set(true);
    };
    let (sent, ()) = tokio::join!(load, replace);
    let all = sent.iter().sum::<usize>() as f64;
    let what = format!("all {all} are counted, after {before}");
    stage.until_metrics(&what, |metrics| counted(metrics) - before >= all).await;
    stage
        .until_metrics("what was in flight is over", |metrics| {
            metrics.sum("penstock_pending_requests", &[]) == 0.0 && metrics.sum("penstock_pending_tokens", &[]) == 0.0
        })
        .await;
    let refused = stage.post(&large, &spender).await.expect("an answer");
    assert_eq!((refused.status, refused.header("x-penstock-limit")), (429, "tenant-tpm"), "the budget is as it was");
}

/// One after the other until it is over; how many.
async fn ask(stage: &Stage, caller: usize, is_over: &Cell<bool>) -> usize {
    let mut sent = 0;
    while sent < REQUESTS_MIN || !is_over.get() {
        let key = format!("caller-{caller}-{sent}");
        let answer = stage.chat("chat-small", &[("x-api-key", &key)]).await;
        let answer = answer.unwrap_or_else(|error| panic!("request {sent} of {caller}: {error}"));
        assert_eq!(answer.status, 200, "request {sent} of {caller}: {answer:?}");
        assert!(answer.has("x-penstock-prompt-tokens"), "request {sent} of {caller} was not counted: {answer:?}");
        sent += 1;
    }
    sent
}
