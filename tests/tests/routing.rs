//! Which version serves, on a real Envoy: a switch from blue to green with a stream in flight, copies for a shadow, and weights that the
//! route owns.

use std::time::{Duration, Instant};

use penstock_harness::envoy::{Chain, Envoy, Gateway};
use penstock_harness::model_server::{ModelServer, Options};
use penstock_harness::port::Port;
use penstock_tests::{PATIENCE, checkout, find_envoy, module, need};
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};

/// A model server that takes these names, and no other.
async fn server(models: &[&str]) -> ModelServer {
    let models = models.iter().map(|name| (*name).to_owned()).collect();
    let options = Options { models, ttft_ms: 0, inter_token_ms: 0, ..Options::default() };
    ModelServer::start(options).await.expect("a free port")
}

/// Asks in a session: the status, and which version the answer names.
async fn ask(url: String, session: String, script: Value) -> (StatusCode, String) {
    let body =
        json!({"model": "chat", "max_tokens": 9, "stream": true, "messages": [{"role": "user", "content": "hello"}]});
    let request = Client::new().post(format!("{url}/v1/chat/completions")).json(&body);
    let request = request.header("authorization", "Bearer sk-acme-example").header("x-session-id", session);
    let answer = request.header("x-model-server", script.to_string()).send().await.expect("an answer");
    let version = answer.headers().get("x-penstock-version").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let told = (answer.status(), version.to_owned());
    let text = answer.text().await.expect("all of it");
    assert!(told.0 != StatusCode::OK || text.trim_end().ends_with("[DONE]"), "{text}");
    told
}

/// Waits until this is so.
async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so().await {
        assert!(Instant::now() < deadline, "{what} does not come");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_switch_from_blue_to_green_ends_streams_where_they_began() {
    module("penstock");
    let binary = need!(find_envoy());
    let [blue, green] = [server(&["chat"]).await, server(&["chat"]).await];
    let config = |active: &str| {
        // The clusters of the file are called otherwise.
        json!({"waitForBody": true, "models": [{"name": "chat", "versions": [{"name": "stable"}, {"name": "canary"}], "active": active}]})
    };
    let rendered = |active: &str| {
        let gateway = Gateway::load(&checkout(), "gateway.yaml").expect("gateway.yaml");
        let gateway = gateway.cluster("stable", blue.address()).cluster("canary", green.address());
        gateway.chain(Chain::One).plugin_config(&config(active)).render_replaceable()
    };
    let envoy = Envoy::start(&binary, &rendered("stable"), 2).await.expect("Envoy starts");
    let slow = json!({"tokens": 9, "inter_token_ms": 500});
    let streams: Vec<_> = (0..4).map(|i| tokio::spawn(ask(envoy.url(), i.to_string(), slow.clone()))).collect();
    until("the streams", async || blue.requests().len() == 4).await;
    envoy.replace_listeners(&rendered("canary").listeners.expect("listeners")).expect("replaced");
    until("green", async || ask(envoy.url(), "new".into(), json!({"tokens": 1})).await.1 == "canary").await;
    assert!(blue.running() > 0, "the streams were over before the switch");
    for i in 0..20 {
        assert_eq!(ask(envoy.url(), i.to_string(), json!({"tokens": 1})).await, (StatusCode::OK, "canary".to_owned()));
    }
    for stream in streams {
        assert_eq!(stream.await.expect("a task"), (StatusCode::OK, "stable".to_owned()));
    }
    assert!(blue.requests().iter().all(|seen| seen.done && !seen.client_gone));
}

/// The names of the models in what a server was asked for.
fn names(server: &ModelServer) -> Vec<(u16, String)> {
    let name = |body: &str| {
        serde_json::from_str::<Value>(body).expect("JSON")["model"].as_str().unwrap_or_default().to_owned()
    };
    server.requests().iter().map(|seen| (seen.status, name(seen.body.as_deref().expect("a text")))).collect()
}

/// So many sessions that ask once each.
async fn sessions(envoy: &Envoy, n: usize) {
    for i in 0..n {
        assert_eq!(
            ask(envoy.url(), format!("s-{i}"), json!({"tokens": 2})).await,
            (StatusCode::OK, "stable".to_owned())
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_are_charged_to_nobody() {
    module("penstock");
    let binary = need!(find_envoy());
    let [stable, next] = [server(&["chat"]).await, server(&["chat"]).await];
    let gateway = Gateway::load(&checkout(), "shadow.yaml").expect("shadow.yaml");
    let gateway = gateway.cluster("stable", stable.address()).cluster("next", next.address());
    let envoy = Envoy::start(&binary, &gateway.render(), 2).await.expect("Envoy starts");
    sessions(&envoy, 60).await;
    until("the copies", async || next.requests().iter().all(|seen| seen.done)).await;
    let copies = names(&next);
    // A tenth of 60 sessions, by their names, which are the same for ever.
    assert!((1..20).contains(&copies.len()), "{copies:?}");
    assert!(copies.iter().all(|copy| *copy == (200, "chat".to_owned())), "{copies:?}");
    assert_eq!(stable.totals().requests, 60);
    let metrics = envoy.metrics().await.expect("metrics");
    assert_eq!(metrics.sum("penstock_requests_total", &[]), 60.0);
    assert_eq!(metrics.sum("penstock_requests_total", &[("version", "next")]), 0.0);
    assert_eq!(metrics.sum("penstock_tokens_total", &[("kind", "completion")]), 120.0);
    // The same sessions again: the same copies.
    sessions(&envoy, 60).await;
    until("the copies", async || next.requests().len() == 2 * copies.len()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_that_are_measured_have_a_name_of_their_own() {
    let penstock = module("penstock");
    let binary = need!(find_envoy());
    let [stable, next] = [server(&["llama-3.1-8b"]).await, server(&["llama-4-8b"]).await];
    let port = Port::reserve().expect("a port");
    let chain = "/static_resources/listeners/1/filter_chains/0/filters/0/typed_config/http_filters/0/typed_config/config/vm_config/code";
    let gateway = Gateway::load(&checkout(), "shadow-measured.yaml").expect("shadow-measured.yaml");
    let gateway = gateway
        .cluster("stable", stable.address())
        .cluster("next", next.address())
        .cluster("copies", port.address())
        .set("/static_resources/listeners/1/address/socket_address/port_value", json!(port.address().port()))
        .set(chain, json!({"local": {"filename": penstock}}));
    let envoy = Envoy::start(&binary, &gateway.render(), 2).await.expect("Envoy starts");
    sessions(&envoy, 60).await;
    let metrics = || async { envoy.metrics().await.expect("metrics") };
    until("the copies", async || {
        let copies = next.requests();
        let counted = metrics().await.sum("penstock_requests_total", &[("version", "next"), ("outcome", "ok")]);
        !copies.is_empty() && copies.iter().all(|seen| seen.done) && counted == copies.len() as f64
    })
    .await;
    let copies = names(&next);
    assert!(
        (1..20).contains(&copies.len()) && copies.iter().all(|copy| *copy == (200, "llama-4-8b".to_owned())),
        "{copies:?}"
    );
    assert!(names(&stable).iter().all(|asked| *asked == (200, "llama-3.1-8b".to_owned())));
    let metrics = metrics().await;
    assert_eq!(metrics.sum("penstock_requests_total", &[("version", "stable"), ("tenant", "acme")]), 60.0);
    assert_eq!(
        metrics.sum("penstock_requests_total", &[("version", "next"), ("tenant", "other")]),
        copies.len() as f64
    );
    assert_eq!(metrics.sum("penstock_tokens_total", &[("tenant", "acme"), ("kind", "completion")]), 120.0);
    // Both listeners set the gauges to one sum, and nothing is pending any more.
    until("the end", async || {
        let metrics = envoy.metrics().await.expect("metrics");
        metrics.sum("penstock_pending_tokens", &[]) == 0.0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_route_owns_the_weights_sessions_come_back() {
    module("penstock");
    let binary = need!(find_envoy());
    let [stable, canary] = [server(&["chat"]).await, server(&["chat"]).await];
    let weights = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config/route_config/virtual_hosts/0/routes/2/route/weighted_clusters/clusters";
    let rendered = |own: [u32; 2]| {
        let gateway = Gateway::load(&checkout(), "pin.yaml").expect("pin.yaml");
        let gateway = gateway.cluster("stable", stable.address()).cluster("canary", canary.address());
        let clusters = json!([{"name": "stable", "weight": own[0]}, {"name": "canary", "weight": own[1]}]);
        gateway.set(weights, clusters).render_replaceable()
    };
    let envoy = Envoy::start(&binary, &rendered([50, 50]), 2).await.expect("Envoy starts");
    let mut first = Vec::new();
    for i in 0..40 {
        let (status, version) = ask(envoy.url(), format!("s-{i}"), json!({"tokens": 1})).await;
        assert_eq!(status, StatusCode::OK);
        first.push(version);
    }
    for version in ["stable", "canary"] {
        assert!(first.iter().filter(|drawn| *drawn == version).count() > 5, "{first:?}");
    }
    // All weight on stable: whoever is new goes there, and the others stay where they were, whichever worker has them.
    envoy.replace_listeners(&rendered([100, 0]).listeners.expect("listeners")).expect("replaced");
    let mut fresh = 0;
    until("the new weights", async || {
        let mut all = true;
        for _ in 0..20 {
            fresh += 1;
            all &= ask(envoy.url(), format!("fresh-{fresh}"), json!({"tokens": 1})).await.1 == "stable";
        }
        all
    })
    .await;
    for (i, version) in first.iter().enumerate() {
        let told = ask(envoy.url(), format!("s-{i}"), json!({"tokens": 1})).await;
        assert_eq!(told, (StatusCode::OK, version.clone()), "s-{i}");
    }
    let metrics = envoy.metrics().await.expect("metrics");
    for (version, server) in [("stable", &stable), ("canary", &canary)] {
        let counted = metrics.sum("penstock_requests_total", &[("version", version), ("outcome", "ok")]);
        assert_eq!(counted, server.totals().requests as f64, "{version}");
    }
}
