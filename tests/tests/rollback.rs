//! Canaries on a real Envoy: one that begins to fail is rolled back on all workers, while its callers' streams finish.

use std::time::{Duration, Instant};

use penstock_harness::envoy::{Chain, Envoy, Gateway};
use penstock_harness::model_server::{ModelServer, Options};
use penstock_harness::port::Port;
use penstock_tests::{PATIENCE, checkout, find_envoy, module, need, until_metrics};
use reqwest::{Client, Response};
use serde_json::{Value, json};

const WORKERS: u32 = 4;
const SESSIONS: usize = 120;
const STREAMS: usize = 6;

struct Stage {
    envoy: Envoy,
    _server: ModelServer,
    gateway: Gateway,
    client: Client,
}

impl Stage {
    async fn start(chain: Chain) -> Result<Self, String> {
        module("penstock");
        let binary = find_envoy()?;
        let options = Options { ttft_ms: 0, inter_token_ms: 0, ..Options::default() };
        let server = ModelServer::start(options).await.expect("a free port");
        let gateway = Gateway::load(&checkout(), "gateway.yaml")?.chain(chain).plugin_config(&config(25, "r2"));
        let gateway = gateway.cluster("stable", server.address()).cluster("canary", server.address());
        let envoy = Envoy::start(&binary, &gateway.render_replaceable(), WORKERS).await?;
        Ok(Self {
            envoy,
            _server: server,
            gateway,
            client: Client::builder().pool_max_idle_per_host(0).build().expect("a client"),
        })
    }

    /// Sends a request of a session; `script` is what the server is to do with it.
    async fn send(&self, session: usize, stream: bool, script: Value) -> Response {
        let body = json!({"model": "chat", "stream": stream, "messages": [{"role": "user", "content": "Hi"}]});
        let request = self.client.post(format!("{}/v1/chat/completions", self.envoy.url())).json(&body);
        let request =
            request.header("x-session-id", format!("s{session}")).header("x-model-server", script.to_string());
        request.send().await.expect("an answer")
    }

    /// Gives the gateway another configuration, and waits until it is in force.
    async fn configure(&mut self, config: &Value) {
        let before = self.changed().await;
        self.gateway = self.gateway.clone().plugin_config(config);
        let listeners = self.gateway.render_replaceable().listeners.expect("listeners");
        self.envoy.replace_listeners(&listeners).expect("written");
        let deadline = Instant::now() + PATIENCE;
        while self.changed().await == before {
            assert!(Instant::now() < deadline, "the new configuration is not in force\n{}", self.envoy.log());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn changed(&self) -> u64 {
        let metrics = self.envoy.metrics().await.expect("metrics");
        metrics.sum("penstock_weights_changed_timestamp_seconds", &[("model", "chat")]) as u64
    }
}

fn config(weight: u32, canary: &str) -> Value {
    let versions = json!([
        {"name": "stable", "weight": 100 - weight, "model": "llama"}, {"name": "canary", "weight": weight, "model": canary},
    ]);
    let model = json!({
        "name": "chat", "versions": versions, "sticky": [{"header": "x-session-id"}],
        "guard": {"ttft": {"slowerThanMs": 2000}},
    });
    json!({"tick": "200ms", "models": [model]})
}

fn header(response: &Response, name: &str) -> String {
    response.headers().get(name).map(|value| value.to_str().expect("text").to_owned()).unwrap_or_default()
}

async fn begins_to_fail(chain: Chain) {
    let mut stage = need!(Stage::start(chain).await);
    // While all is well, each session has its version.
    let mut versions = Vec::new();
    for session in 0..SESSIONS {
        let response = stage.send(session, false, json!({"tokens": 2})).await;
        assert_eq!(response.status(), 200);
        versions.push(header(&response, "x-penstock-version"));
    }
    let canaries: Vec<usize> = (0..SESSIONS).filter(|session| versions[*session] == "canary").collect();
    assert!((15..50).contains(&canaries.len()), "{}", canaries.len());
    // Streams of the canary's callers are under way when it begins to fail.
    let mut streams = Vec::new();
    for session in canaries.iter().take(STREAMS) {
        let response = stage.send(*session, true, json!({"tokens": 150, "inter_token_ms": 40})).await;
        assert_eq!((response.status().as_u16(), header(&response, "x-penstock-version").as_str()), (200, "canary"));
        streams.push(tokio::spawn(response.text()));
    }
    let (mut of_canary, mut failed) = (canaries.len() + STREAMS, 0);
    let began = Instant::now();
    for n in 0.. {
        assert!(n < 4000, "not found within 4000 requests\n{}", stage.envoy.log());
        let session = n % SESSIONS;
        let fails = versions[session] == "canary" && n % 5 < 3;
        let script = if fails { json!({"status": 500}) } else { json!({"tokens": 2}) };
        let response = stage.send(session, false, script).await;
        if header(&response, "x-penstock-rolled-back") == "canary" {
            assert_eq!(header(&response, "x-penstock-version"), "stable");
            break;
        }
        of_canary += usize::from(versions[session] == "canary");
        failed += usize::from(fails);
    }
    let took = began.elapsed();
    // What one worker found is known to all of them by two ticks later.
    tokio::time::sleep(Duration::from_millis(600)).await;
    for (session, version) in versions.iter().enumerate() {
        let response = stage.send(session, false, json!({"tokens": 2})).await;
        let moved = if version == "canary" { "canary" } else { "" };
        let seen = [header(&response, "x-penstock-version"), header(&response, "x-penstock-rolled-back")];
        assert_eq!((response.status().as_u16(), seen), (200, ["stable".to_owned(), moved.to_owned()]), "{session}");
    }
    for stream in streams {
        let text = stream.await.expect("a task").expect("to the end");
        assert!(text.ends_with("data: [DONE]\n\n"), "{text}");
    }
    let log = stage.envoy.log();
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("chat canary is rolled back")).collect();
    let [line] = lines.as_slice() else { panic!("once: {lines:?}") };
    let after = line.split(", after ").nth(1).and_then(|rest| rest.split(' ').next()?.parse::<usize>().ok());
    let after = after.unwrap_or_else(|| panic!("{line}"));
    println!("{chain:?}: rolled back after {after} of the canary's requests; {failed} had failed within {took:?}");
    assert!(after <= of_canary && failed >= 5, "{after} of {of_canary}, {failed} failed");
    let state = |metrics: &penstock_harness::envoy::Metrics| {
        metrics.sum("penstock_canary_state", &[("version", "canary")]) as u64
    };
    until_metrics(&stage.envoy, |metrics| state(metrics) == 2).await;
    // Other weights do not bring it back; another canary is another trial.
    stage.configure(&config(50, "r2")).await;
    for session in 0..SESSIONS {
        let response = stage.send(session, false, json!({"tokens": 2})).await;
        assert_eq!(header(&response, "x-penstock-version"), "stable", "{session}");
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    stage.configure(&config(50, "r3")).await;
    let mut served = 0;
    for session in 0..SESSIONS {
        let response = stage.send(session, false, json!({"tokens": 2})).await;
        served += usize::from(header(&response, "x-penstock-version") == "canary");
    }
    assert!((SESSIONS / 3..SESSIONS * 2 / 3).contains(&served), "{served}");
    until_metrics(&stage.envoy, |metrics| state(metrics) == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_that_begins_to_fail_is_rolled_back_while_its_streams_finish() {
    begins_to_fail(Chain::One).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_is_rolled_back_by_plugins_in_a_row() {
    begins_to_fail(Chain::RowInOneVm).await;
}

/// Nothing listens where a request first goes: Envoy sends it once more, to another host, and it is charged once.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_retried_is_charged_once() {
    module("penstock");
    let binary = need!(find_envoy());
    let options = Options { ttft_ms: 0, inter_token_ms: 0, ..Options::default() };
    let server = ModelServer::start(options).await.expect("a free port");
    let gateway = Gateway::load(&checkout(), "gateway.yaml").expect("gateway.yaml").chain(Chain::One);
    let gateway = gateway.plugin_config(&json!({
        "models": [{"name": "chat"}], "limits": [{"name": "credit", "per": ["model"], "session": {"calls": 1000, "tokens": 1_000_000}}],
    }));
    let closed = Port::reserve().expect("a port");
    let host =
        |port: u16| json!({"endpoint": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": port}}}});
    let hosts = json!([{"lb_endpoints": [host(closed.address().port()), host(server.address().port())]}]);
    let gateway = gateway.set("/static_resources/clusters/0/load_assignment/endpoints", hosts);
    let gateway = gateway.set("/static_resources/clusters/0/lb_policy", json!("ROUND_ROBIN"));
    let envoy = Envoy::start(&binary, &gateway.render(), 2).await.expect("Envoy starts");
    let body = json!({"model": "chat", "messages": [{"role": "user", "content": "Hi"}]});
    for n in 1..=20u64 {
        let request = Client::new().post(format!("{}/v1/chat/completions", envoy.url())).json(&body);
        let response = request.header("x-model-server", r#"{"tokens":2}"#).send().await.expect("an answer");
        let left = header(&response, "x-penstock-session-remaining-calls");
        assert_eq!((response.status().as_u16(), left), (200, (1000 - n).to_string()), "{n}");
    }
    assert_eq!(server.totals().requests, 20);
    let metrics = envoy.metrics().await.expect("metrics");
    assert!(metrics.sum("envoy_cluster_upstream_rq_retry", &[]) >= 3.0, "half of them met the closed port");
    until_metrics(&envoy, |metrics| metrics.sum("penstock_requests_total", &[("outcome", "ok")]) as u64 == 20).await;
}
