//! What the sets do where something is not as it should be: each fault is told.

use penstock_cluster::gateway::{self, Gateway};
use penstock_cluster::objects;
use penstock_cluster::process::{eventually, page};
use penstock_cluster::registry;
use penstock_harness::envoy::Metrics;
use penstock_harness::model_server::Options;
use serde_json::{Value, json};

use crate::stage::{PATIENCE_SECONDS, Set, Stage, configure, push, remote_code, run, shipped};

#[test]
fn without_the_envoy_filter_headers_do_not_wait_and_it_is_told() {
    run(async |base| {
        for set in Set::BOTH {
            let mut objects = shipped(base, set, "stage");
            objects.retain(|object| object["kind"] != "EnvoyFilter");
            let stage = Stage::with(base, objects, Options { ttft_ms: 200, ..Options::default() }).await;
            stage.until("counted all the same", "chat", |answer| answer.has("x-penstock-prompt-tokens")).await;
            // The verdict takes requests on several connections; each of these opens one.
            for _ in 0..8 {
                stage.chat("chat", &[("connection", "close")]).await.expect("an answer");
            }
            stage
                .until_metrics("it is told", |metrics| {
                    metrics.select("penstock_headers_wait", &[]).any(|sample| sample.value == 0.0)
                })
                .await;
            served_by_the_default_route(&stage).await;
            flights_are_in_their_own_series(&stage).await;
        }
    });
}

/// There is no model to route on, so that the last route serves all, and says which version that was.
async fn served_by_the_default_route(stage: &Stage) {
    let chat = stage.chat("chat", &[]).await.expect("an answer");
    assert_eq!((chat.status, chat.header("x-served-by")), (200, "chat-stable"), "{chat:?}");
    let small = stage.chat("chat-small", &[]).await.expect("an answer");
    assert_eq!((small.status, small.header("x-served-by")), (200, "chat-stable"), "{small:?}");
    for answer in [chat, small] {
        assert_eq!(answer.header("x-penstock-version"), "stable", "{answer:?}");
    }
}

async fn flights_are_in_their_own_series(stage: &Stage) {
    let slow = [("x-model-server", r#"{"ttft_ms":4000}"#)];
    let flight = stage.chat("chat-small", &slow);
    // Which version serves it is not known.
    let own = [("model", "chat-small"), ("version", "default")];
    let seen = stage.until_metrics("the flight", |metrics| metrics.sum("penstock_pending_requests", &own) == 1.0);
    let (answer, metrics) = tokio::join!(flight, seen);
    assert_eq!(answer.expect("an answer").status, 200);
    assert_eq!(metrics.sum("penstock_pending_requests", &[("model", "chat")]), 0.0);
}

#[test]
fn a_selector_that_matches_nothing_leaves_no_count_and_no_series() {
    run(async |base| {
        for set in Set::BOTH {
            let mut objects = shipped(base, set, "stage");
            for plugin in objects::of_kind(&mut objects, set.kind()) {
                plugin["spec"]["selector"] = json!({"matchLabels": {"istio": "another"}});
            }
            let stage = Stage::with(base, objects, Options::default()).await;
            let answer = stage.until("the default route", "chat", |answer| answer.status == 200).await;
            // Which version served is told by its route, whoever is in the chain.
            let told: Vec<&str> =
                answer.headers.keys().map(|name| name.as_str()).filter(|name| name.contains("penstock")).collect();
            assert_eq!(told, ["x-penstock-version"]);
            let metrics = stage.gateway.metrics().await.expect("metrics");
            assert_eq!(metrics.select("penstock_streams_total", &[]).count(), 0);
        }
    });
}

#[test]
fn a_module_that_cannot_be_fetched_does_what_the_strategy_says_until_it_is_there() {
    run(async |base| {
        for set in Set::BOTH {
            for (strategy, status) in [("FAIL_RELOAD", 403), ("FAIL_CLOSE", 403), ("FAIL_OPEN", 200)] {
                let name = format!("absent-{}-{}", set.kind().to_lowercase(), strategy.to_lowercase());
                let mut objects = shipped(base, set, "stage");
                let image = |object: &mut Value, to: &str| objects::replace(object, "127.0.0.1:5000/stage:1", to);
                let address = format!("{}/{name}:1", registry::ADDRESS);
                objects.iter_mut().for_each(|object| image(object, &address));
                fail(&mut objects, set, strategy);
                let mut stage = Stage::with(base, objects, Options::default()).await;
                let answer = stage.until(strategy, "chat", |answer| answer.status == status).await;
                assert!(!answer.has("x-penstock-prompt-tokens"), "{answer:?}");
                assert!(
                    stage.gateway.log().contains("wasm fetch failed") || stage.gateway.log().contains("cannot fetch")
                );
                // The registry has it again: nothing tries by itself, a change of the EnvoyFilter does.
                push(base, &name);
                let mut objects = stage.objects.clone();
                for code in remote_code(&mut objects) {
                    code["http_uri"]["timeout"] = json!("31s");
                }
                base.kubernetes.apply(&objects).await.expect("applied");
                stage.objects = objects;
                stage.until_in_force().await;
            }
        }
    });
}

/// Sets what holds where the module does not run, in both places, which call one of the strategies by different names.
fn fail(objects: &mut [Value], set: Set, strategy: &str) {
    let envoys = if strategy == "FAIL_CLOSE" { "FAIL_CLOSED" } else { strategy };
    for plugin in objects::of_kind(objects, set.kind()) {
        match set {
            Set::WasmPlugin => plugin["spec"]["failStrategy"] = json!(strategy),
            Set::TrafficExtension | Set::GatewayApi | Set::Argo => {
                plugin["spec"]["wasm"]["failStrategy"] = json!(strategy)
            }
        }
    }
    for filter in objects::of_kind(objects, "EnvoyFilter") {
        for patch in filter["spec"]["configPatches"].as_array_mut().into_iter().flatten() {
            if let Some(policy) = patch.pointer_mut("/patch/value/typed_config/config/failure_policy") {
                *policy = json!(envoys);
            }
        }
    }
}

#[test]
fn a_mistake_in_the_configuration_keeps_the_old_one_and_stops_a_new_gateway() {
    run(async |base| {
        for set in Set::BOTH {
            let mut stage = Stage::up(base, set).await;
            stage.until_in_force().await;
            let right = stage.objects.clone();
            let mut wrong = right.clone();
            configure(&mut wrong, set, |config| config["limits"][0]["every"] = json!("1x"));
            base.kubernetes.apply(&wrong).await.expect("the schemas cannot tell");
            let told = r#"limits[0].every"#;
            until_logged(&stage, told).await;
            let answer = stage.chat("chat", &[]).await.expect("an answer");
            assert!(answer.status == 200 && answer.has("x-penstock-prompt-tokens"), "the old one holds: {answer:?}");
            restart(&mut stage).await;
            let refused = stage.until("a new gateway serves nothing", "chat", |answer| answer.status >= 500).await;
            assert_eq!(refused.status, 500, "{refused:?}");
            assert!(stage.gateway.log().contains(told), "it says why");
            // As docs/troubleshoot.md says: probes see nothing of it.
            page(&stage.gateway.ready_url()).await.expect("ready all the while");
            base.kubernetes.apply(&right).await.expect("applied");
            stage.until_in_force().await;
        }
    });
}

async fn until_logged(stage: &Stage, text: &str) {
    let logged = eventually(text, PATIENCE_SECONDS, || async {
        if stage.gateway.log().contains(text) { Ok(()) } else { Err("the log does not say so".to_owned()) }
    });
    logged.await.unwrap_or_else(|message| panic!("{message}"));
}

async fn restart(stage: &mut Stage) {
    stage.gateway.terminate(30).await.expect("it ends");
    let next = gateway::Options { name: "gateway-1".to_owned(), ..gateway::Options::default() };
    stage.gateway =
        Gateway::start(&stage.base.place, &stage.base.mesh, next).await.unwrap_or_else(|message| panic!("{message}"));
}

#[test]
fn both_plugins_at_once_count_twice_and_it_shows() {
    run(async |base| {
        let mut objects = shipped(base, Set::WasmPlugin, "stage");
        let other = shipped(base, Set::TrafficExtension, "stage");
        objects.extend(other.into_iter().filter(|object| object["kind"] == "TrafficExtension"));
        let stage = Stage::with(base, objects, Options::default()).await;
        stage.until_in_force().await;
        for _ in 0..10 {
            assert_eq!(stage.chat("chat-small", &[]).await.expect("an answer").status, 200);
        }
        let prompts = stage.server("chat-small", "stable").totals().prompt_tokens as f64;
        let counted = [("model", "chat-small"), ("kind", "prompt")];
        let all = |metrics: &Metrics| metrics.sum("penstock_tokens_total", &counted) >= 2.0 * prompts;
        let metrics = stage.until_metrics("all are counted", all).await;
        assert_eq!(metrics.sum("penstock_tokens_total", &counted), 2.0 * prompts);
        assert!(metrics.sum("penstock_streams_total", &[("handling", "again")]) >= 10.0);
        assert!(stage.gateway.log().contains("two Penstock filters"), "the log says what to do");
    });
}
