//! What scales model servers is what they are asked for, and nobody gets more of them by asking in vain.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use penstock_harness::envoy::Metrics;
use penstock_tests::until_metrics;
use reqwest::Method;
use serde_json::{Value, json};

use super::stage::Stage;

const TICK: Duration = Duration::from_millis(100);
const ACME: (&str, &str) = ("x-tenant", "acme");

fn config() -> Value {
    json!({
        "tick": "100ms",
        "tenant": {"from": [{"header": "x-tenant", "trusted": true}, {"header": "x-api-key"}]},
        "tenants": {"acme": {}, "rich": {}, "gone": {"suspended": true}},
        "models": [{"name": "chat", "pending": {"ceiling": 1_000_000}}, {"name": "off", "suspended": true}],
        "limits": [
            {"name": "tpm", "per": ["tenant"], "match": {"tenant": "acme"}, "tokens": 200, "every": "24h"},
            {"name": "strangers", "match": {"tenant": "unnamed"}, "tokens": 10, "every": "24h"},
            {"name": "wide", "per": ["tenant"], "match": {"tenant": "rich"}, "tokens": 60_000, "every": "1m"},
        ],
    })
}

fn chat(model: &str, max: u64) -> Value {
    json!({"model": model, "max_tokens": max, "messages": [{"role": "user", "content": "hello"}]})
}

/// What ScaledObjects ask for: admitted tokens of prompts and answers, refused demand, and what is pending.
fn signals(metrics: &Metrics) -> [f64; 4] {
    let admitted = |kind| metrics.sum("penstock_admitted_tokens_total", &[("kind", kind)]);
    let pending = ["penstock_pending_tokens", "penstock_pending_requests", "penstock_pending_cached_tokens"];
    let pending = pending.map(|name| metrics.sum(name, &[])).iter().sum();
    [admitted("prompt"), admitted("expected"), metrics.sum("penstock_refused_demand_tokens_total", &[]), pending]
}

fn series(metrics: &Metrics) -> usize {
    metrics.0.iter().filter(|sample| sample.name.starts_with("penstock_")).count()
}

/// Callers over their budget, suspended ones, strangers with a name a request, models that nobody has, what cannot be read: thousands of them
/// move no signal at any time, and make no series.
#[tokio::test(flavor = "multi_thread")]
async fn scaling_by_being_refused() {
    let Some(stage) = Stage::start(&config()).await else { return };
    for _ in 0..2 {
        let answer = stage.chat(&[ACME, ("x-model-server", r#"{"tokens":92}"#)], &chat("chat", 92)).await;
        assert_eq!(answer.status(), 200);
        answer.bytes().await.expect("a body");
    }
    let paid = [16.0, 184.0, 0.0, 0.0];
    until_metrics(&stage.envoy, |metrics| signals(metrics) == paid).await;
    let mut known = 0;
    for round in 0..40 {
        let attacks = (0..64).map(|i| {
            let (stage, name) = (&stage, format!("made-up-{round}-{i}"));
            async move {
                let key = [("x-api-key", name.as_str())];
                let answer = match i % 6 {
                    0 => stage.chat(&[ACME], &chat("chat", 1_000_000_000)).await,
                    1 => stage.chat(&key, &chat("chat", 92)).await,
                    2 => stage.chat(&[("x-tenant", "rich")], &chat(&name, 92)).await,
                    3 => stage.chat(&[("x-tenant", "gone")], &chat("chat", 92)).await,
                    4 => stage.chat(&[("x-tenant", "rich")], &chat("off", 92)).await,
                    _ => stage.send(Method::POST, "/v1/chat/completions", &key, "{\"model\":").await,
                };
                assert!(answer.status().as_u16() >= 400, "{i}: {}", answer.status());
            }
        });
        join_all(attacks).await;
        let metrics = stage.metrics().await;
        assert_eq!(signals(&metrics), paid, "round {round}");
        // The first round shows each reason for the first time; counters are told with the end of a stream.
        match round {
            0..10 => {}
            10 => known = series(&metrics),
            _ => assert_eq!(series(&metrics), known, "round {round}"),
        }
    }
    tokio::time::sleep(5 * TICK).await;
    assert_eq!(signals(&stage.metrics().await), paid);
    assert_eq!(stage.arrived(), 2);
}

/// Requests that fail for want of capacity cost nothing either, and whoever sends them again and again wants no more than it may have.
#[tokio::test(flavor = "multi_thread")]
async fn scaling_by_trying_again() {
    let Some(stage) = Stage::start(&config()).await else { return };
    const AT_ONCE: usize = 4;
    const ASKED: u64 = 4096;
    let began = Instant::now();
    let mut greedy = chat("chat", ASKED);
    greedy["min_tokens"] = json!(ASKED);
    for _ in 0..100 {
        let fails = [("x-tenant", "rich"), ("x-model-server", r#"{"status":503,"ttft_ms":0}"#)];
        for answer in join_all((0..AT_ONCE).map(|_| stage.chat(&fails, &greedy))).await {
            // A limit where the answer was here before what it had reserved was given back.
            assert!([503, 429].contains(&answer.status().as_u16()), "{}", answer.status());
            answer.bytes().await.expect("a body");
        }
    }
    tokio::time::sleep(5 * TICK).await;
    let [prompt, expected, ..] = signals(&stage.metrics().await);
    let admits = 60_000.0 + 1000.0 * began.elapsed().as_secs_f64();
    // Beside that, what was open at a tick: of 1,638,400 that were asked for. A client may have its answer, and ask again, before the proxy has
    // closed what it asked before.
    let open = (2 * AT_ONCE as u64 * (ASKED + 8)) as f64;
    assert!(prompt + expected <= admits + open, "{prompt} {expected} of {admits}");
    assert!(expected >= 50_000.0, "it may want what it may have: {expected}");
}

/// Requests that their server refuses at once cost nothing, so a budget is no bound for them: they are no demand either.
#[tokio::test(flavor = "multi_thread")]
async fn scaling_by_what_is_never_generated() {
    let Some(stage) = Stage::start(&config()).await else { return };
    const AT_ONCE: usize = 4;
    const ASKED: u64 = 4096;
    let mut greedy = chat("chat", ASKED);
    greedy["min_tokens"] = json!(ASKED);
    for _ in 0..100 {
        let attacks = (0..AT_ONCE)
            .map(|_| stage.chat(&[("x-tenant", "rich"), ("x-model-server", r#"{"status":400,"ttft_ms":0}"#)], &greedy));
        for answer in join_all(attacks).await {
            let (status, said) = (answer.status(), answer.headers().clone());
            let body = answer.text().await.expect("a body");
            assert_eq!(status, 400, "{said:?} {body}");
        }
    }
    tokio::time::sleep(5 * TICK).await;
    let [prompt, expected, refused, pending] = signals(&stage.metrics().await);
    // What was open at a tick, and is taken off what comes: never what all of them asked for, 1,638,400. A client may have its answer, and ask
    // again, before the proxy has closed what it asked before.
    let open = 2 * AT_ONCE as u64;
    assert!(expected <= (open * ASKED) as f64 && prompt <= 8.0 * open as f64, "{prompt} {expected}");
    assert_eq!([refused, pending], [0.0, 0.0]);
    // Answers are told as long as they were, whatever was asked for.
    let honest = [("x-tenant", "rich"), ("x-model-server", r#"{"tokens":100,"ttft_ms":0,"inter_token_ms":0}"#)];
    for _ in 0..AT_ONCE as u64 * ASKED / 100 {
        let answer = stage.chat(&honest, &chat("chat", 100)).await;
        assert_eq!(answer.status(), 200);
        answer.bytes().await.expect("a body");
    }
    tokio::time::sleep(5 * TICK).await;
    let [_, after, ..] = signals(&stage.metrics().await);
    let came = (AT_ONCE as u64 * ASKED / 100 * 100) as f64;
    assert!((came..=came + expected).contains(&after), "{after} for {came}, after {expected}");
}
