//! Cold starts on a real Envoy: a model server that comes when requests already wait for it.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use penstock_harness::envoy::{Chain, Envoy, Gateway};
use penstock_harness::model_server::{ModelServer, Options};
use penstock_harness::port::Port;
use penstock_tests::{checkout, find_envoy, module, need, until_metrics};
use reqwest::Client;
use serde_json::{Value, json};

const WORKERS: u32 = 4;
/// Requests that wait, half of them streams; some of their clients leave.
const REQUESTS: usize = 120;
const LEAVE: usize = 12;
const BUDGET: u64 = 10_000_000;

/// How a cluster is without a server.
#[derive(Clone, Copy, Debug)]
enum Cold {
    /// Nothing listens where its host is.
    Refuses,
    /// It has no host, until one is discovered.
    HasNoHost,
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_starts_twenty_seconds_later_serves_every_request_once() {
    let stage = need!(Stage::start(Cold::Refuses, Chain::One, "120s").await);
    stage.storm(Duration::from_secs(20)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_gets_its_first_host_serves_every_request_once() {
    let stage = need!(Stage::start(Cold::HasNoHost, Chain::RowInOneVm, "120s").await);
    stage.storm(Duration::from_secs(5)).await;
}

/// No server comes: everybody is told so after the hold, and nobody before.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_never_comes_is_told_to_every_client() {
    let stage = need!(Stage::start(Cold::HasNoHost, Chain::One, "3s").await);
    let began = Instant::now();
    let tasks: Vec<_> = (0..REQUESTS).map(|n| tokio::spawn(send(Client::new(), stage.envoy.url(), n))).collect();
    for task in tasks {
        let (status, answer) = task.await.expect("a task").expect("an answer");
        assert_eq!(status, 503, "{answer}");
        assert!(answer.contains("has no server at the moment"), "{answer}");
        assert!(began.elapsed() >= Duration::from_secs(3));
    }
    let no_backend = [("model", "chat"), ("reason", "no_backend")];
    until_metrics(&stage.envoy, |metrics| {
        let sum = |name: &str, labels: &[(&str, &str)]| metrics.sum(name, labels) as usize;
        let expected = sum("penstock_admitted_tokens_total", &[("kind", "prompt")])
            + sum("penstock_admitted_tokens_total", &[("kind", "expected")]);
        sum("penstock_requests_total", &[("outcome", "shed")]) == REQUESTS
            && sum("penstock_pending_requests", &[]) == 0
            && expected > 0
            && sum("penstock_refused_demand_tokens_total", &no_backend) == expected
    })
    .await;
}

struct Stage {
    envoy: Envoy,
    cold: Cold,
    /// Where the server will be.
    port: Port,
    endpoints: PathBuf,
}

impl Stage {
    async fn start(cold: Cold, chain: Chain, hold: &str) -> Result<Self, String> {
        module("penstock");
        let binary = find_envoy()?;
        let port = Port::reserve().expect("a port");
        let address = port.address();
        let endpoints = std::env::temp_dir().join(format!("penstock-cold-{}-{}", std::process::id(), address.port()));
        std::fs::create_dir_all(&endpoints).expect("a directory");
        let endpoints = endpoints.join("endpoints.json");
        let mut gateway = Gateway::load(&checkout(), "gateway.yaml")?.chain(chain).plugin_config(&json!({
            "models": [{"name": "chat", "versions": [{"name": "stable", "weight": 1, "coldStart": {"cluster": "stable", "hold": hold}}]}],
            // Unlike a bucket, a credit gives back to the token, however many requests there were in between.
            "limits": [{"name": "credit", "per": ["model"], "session": {"tokens": BUDGET}}],
        }));
        gateway = gateway.cluster("stable", address).cluster("canary", address);
        if matches!(cold, Cold::HasNoHost) {
            std::fs::write(&endpoints, assignment(None).to_string()).expect("written");
            let source = json!({"path_config_source": {"path": endpoints}, "resource_api_version": "V3"});
            let cluster = json!({"name": "stable", "type": "EDS", "connect_timeout": "1s", "eds_cluster_config": {"eds_config": source}});
            gateway = gateway.set("/static_resources/clusters/0", cluster);
        }
        let envoy = Envoy::start(&binary, &gateway.render(), WORKERS).await?;
        Ok(Self { envoy, cold, port, endpoints })
    }

    /// The server comes.
    async fn warm(&self) -> ModelServer {
        let options =
            Options { port: self.port.address().port(), ttft_ms: 20, inter_token_ms: 1, ..Options::default() };
        let server = ModelServer::start(options).await.expect("the port");
        if matches!(self.cold, Cold::HasNoHost) {
            let next = self.endpoints.with_extension("next");
            std::fs::write(&next, assignment(Some(self.port.address().port())).to_string()).expect("written");
            std::fs::rename(next, &self.endpoints).expect("moved");
        }
        server
    }

    /// Requests come, then after a while the server: none is lost, none is doubled, and what is charged is what was used.
    async fn storm(&self, late: Duration) {
        let began = Instant::now();
        let stay: Vec<_> = (LEAVE..REQUESTS).map(|n| tokio::spawn(send(Client::new(), self.envoy.url(), n))).collect();
        let leave: Vec<_> = (0..LEAVE)
            .map(|n| tokio::spawn(tokio::time::timeout(late / 2, send(Client::new(), self.envoy.url(), n))))
            .collect();
        let version = [("model", "chat"), ("version", "stable")];
        until_metrics(&self.envoy, |metrics| {
            metrics.sum("penstock_pending_requests", &version) as usize == REQUESTS
                && metrics.sum("penstock_pending_tokens", &version) > 0.0
        })
        .await;
        for left in leave {
            assert!(left.await.expect("a task").is_err(), "nobody is answered before there is a server");
        }
        until_metrics(&self.envoy, |metrics| {
            metrics.sum("penstock_pending_requests", &version) as usize == REQUESTS - LEAVE
        })
        .await;
        tokio::time::sleep(late.saturating_sub(began.elapsed())).await;
        let oldest = self.envoy.metrics().await.expect("metrics").sum("penstock_oldest_wait_milliseconds", &version);
        assert!(oldest + 2000.0 >= late.as_millis() as f64, "the oldest has waited for {oldest} ms of {late:?}");
        let server = self.warm().await;
        for task in stay {
            let (status, answer) = task.await.expect("a task").expect("an answer");
            assert_eq!(status, 200, "{answer}");
        }
        let took = began.elapsed();
        let requests = server.requests();
        let bodies: BTreeSet<&str> = requests.iter().filter_map(|seen| seen.body.as_deref()).collect();
        assert_eq!((requests.len(), bodies.len()), (REQUESTS - LEAVE, REQUESTS - LEAVE), "none lost, none doubled");
        println!("{} requests were held and served within {took:.1?}", requests.len());
        let served = REQUESTS - LEAVE;
        until_metrics(&self.envoy, |metrics| {
            let outcome = |outcome: &str| metrics.sum("penstock_requests_total", &[("outcome", outcome)]) as usize;
            metrics.sum("penstock_pending_requests", &[]) == 0.0
                && (outcome("ok"), outcome("abandoned")) == (served, LEAVE)
                && metrics.sum("penstock_refused_demand_tokens_total", &[]) == 0.0
        })
        .await;
        let totals = server.totals();
        let client = Client::new();
        let answer =
            client.post(format!("{}/v1/chat/completions", self.envoy.url())).json(&body(REQUESTS)).send().await;
        let headers = answer.expect("an answer").headers().clone();
        let left: u64 =
            headers["x-penstock-session-remaining-tokens"].to_str().expect("text").parse().expect("a number");
        // What the last one reserves is known by what it reports to have been counted.
        let prompt: u64 = headers["x-penstock-prompt-tokens"].to_str().expect("text").parse().expect("a number");
        let spent = BUDGET - left - prompt - MAX_TOKENS;
        assert_eq!(spent, totals.prompt_tokens + totals.completion_tokens, "every request is charged once");
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // A directory that stays behind in /tmp harms nobody.
        let _ = self.endpoints.parent().map(std::fs::remove_dir_all);
    }
}

const MAX_TOKENS: u64 = 16;

fn body(n: usize) -> Value {
    let messages = json!([{"role": "user", "content": format!("request {n}")}]);
    json!({"model": "chat", "max_tokens": MAX_TOKENS, "stream": n % 2 == 1, "messages": messages})
}

async fn send(client: Client, url: String, n: usize) -> Result<(u16, String), reqwest::Error> {
    let answer = client.post(format!("{url}/v1/chat/completions")).json(&body(n)).send().await?;
    let status = answer.status().as_u16();
    Ok((status, answer.text().await?))
}

/// What is discovered of the cluster.
fn assignment(port: Option<u16>) -> Value {
    let endpoint =
        |port| json!({"endpoint": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": port}}}});
    let endpoints: Vec<Value> = port.into_iter().map(endpoint).collect();
    json!({"resources": [{
        "@type": "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
        "cluster_name": "stable",
        "endpoints": [{"lb_endpoints": endpoints}],
    }]})
}
