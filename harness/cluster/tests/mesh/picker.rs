//! A pool with an endpoint picker behind the gateway: Penstock counts and chooses the version, the picker the pod.

use std::net::Ipv4Addr;

use penstock_cluster::keys::Key;
use penstock_cluster::picker::{self, Picker};
use penstock_cluster::process::eventually;
use penstock_harness::envoy::Metrics;
use penstock_harness::model_server::{ModelServer, Options};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::gateway_api::{bearer, up, with_pool};
use crate::stage::{Answer, PATIENCE_SECONDS, Stage, run};

const POOL: &str = "chat-stable";
/// What istiod calls the Service that it makes of the pool: its name and a hash of that.
const SHADOW: &str = "chat-stable-ip-d0cf82bc";
/// By pod, how many requests wait as far as the picker knows.
const QUEUE: &str = "inference_pool_per_pod_queue_size";
/// More than the server does at a time, so that some of them wait.
const WORK: usize = 8;

#[test]
fn what_is_counted_here_is_served_by_the_pod_that_the_picker_chose() {
    run(async |base| {
        let pools = base.place.crds("more-crds").expect("the schemas");
        let is_of_pools = |path: &std::path::PathBuf| path.to_string_lossy().contains("inference.networking");
        let pools: Vec<_> = pools.into_iter().filter(is_of_pools).collect();
        assert!(!pools.is_empty());
        base.kubernetes.define(&pools).await.expect("they are served");
        let servers = pods().await;
        let port = servers[0].address().port();
        let labels = json!({"app": POOL});
        let pods: Vec<Value> = servers.iter().map(|server| pod(server, &labels)).collect();
        let key = Key::generate().expect("a key");
        let mut objects = with_pool(base, &key);
        objects.extend(picker::objects(POOL, &labels, port));
        objects.push(endpoints(&servers));
        objects.extend(pods.iter().map(without_status));
        let stage = up(base, objects).await;
        for pod in &pods {
            base.kubernetes.set_status(pod).await.expect("the pod runs");
        }
        let picker = Picker::start(&base.place, POOL).await.unwrap_or_else(|message| panic!("{message}"));

        let bearer = bearer(&key);
        let is_in_force = |answer: &Answer| answer.status == 200 && answer.has("x-penstock-prompt-tokens");
        stage.until_with("the picker is asked", "chat", &[("authorization", &bearer)], is_in_force).await;
        for (busy, free) in [(0, 1), (1, 0)] {
            let work = occupy(busy, &servers, &picker).await;
            goes_to(&stage, &bearer, free).await;
            work.iter().for_each(|request| request.abort());
        }
        streams_whole(&stage, &bearer).await;
        all_are_counted(&stage, &servers).await;
        base.kubernetes.delete(&pods).await.expect("deleted");
        base.kubernetes.delete(&picker::objects(POOL, &labels, port)).await.expect("deleted");
    });
}

/// Two servers that are pods: with addresses of their own and one port.
async fn pods() -> [ModelServer; 2] {
    let options = |last, port| Options {
        host: Ipv4Addr::new(127, 0, 0, last),
        port,
        name: format!("pod-{}", last - 2),
        ttft_ms: 0,
        inter_token_ms: 0,
        concurrency: 2,
        ..Options::default()
    };
    let first = ModelServer::start(options(2, 0)).await.expect("a free port");
    let second = ModelServer::start(options(3, first.address().port())).await.expect("the same port");
    [first, second]
}

/// A pod that runs and is ready.
fn pod(server: &ModelServer, labels: &Value) -> Value {
    let address = server.address().ip().to_string();
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name(server), "namespace": "llm", "labels": labels},
        "spec": {"containers": [{"name": "server", "image": "model-server"}]},
        "status": {
            "phase": "Running", "podIP": address, "podIPs": [{"ip": address}],
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    })
}

fn name(server: &ModelServer) -> String {
    format!("{POOL}-{}", server.address().ip().to_string().replace('.', "-"))
}

fn without_status(pod: &Value) -> Value {
    let mut pod = pod.clone();
    pod.as_object_mut().expect("an object").remove("status");
    pod
}

/// The pods as endpoints of the pool's Service. The API server takes no EndpointSlice on loopback.
fn endpoints(servers: &[ModelServer; 2]) -> Value {
    let endpoint = |server: &ModelServer| json!({"address": server.address().ip().to_string(), "ports": {"http-0": server.address().port()}});
    json!({
        "apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry", "metadata": {"name": SHADOW, "namespace": "llm"},
        "spec": {
            "hosts": [format!("{SHADOW}.llm.svc.cluster.local")], "location": "MESH_INTERNAL", "resolution": "STATIC",
            "ports": [{"number": 54321, "name": "http-0", "protocol": "HTTP"}],
            "endpoints": servers.iter().map(endpoint).collect::<Vec<_>>(),
        },
    })
}

/// Gives a pod work that did not come through the gateway, until the picker knows that some of it waits.
async fn occupy(pod: usize, servers: &[ModelServer; 2], picker: &Picker) -> Vec<JoinHandle<()>> {
    let url = format!("http://{}/v1/chat/completions", servers[pod].address());
    let body = json!({"model": "m", "messages": [{"role": "user", "content": "hello"}]});
    let send = |_| {
        let request = reqwest::Client::new().post(&url).json(&body).header("x-model-server", r#"{"ttft_ms":600000}"#);
        tokio::spawn(async move { drop(request.send().await) })
    };
    let work: Vec<_> = (0..WORK).map(send).collect();
    let known = eventually("the picker knows who is busy", PATIENCE_SECONDS, async || {
        let metrics = picker.metrics().await?;
        let waiting = [0, 1].map(|pod| {
            let name = name(&servers[pod]);
            metrics
                .0
                .iter()
                .filter(|sample| sample.name == QUEUE && sample.labels.values().any(|label| label.contains(&name)))
                .map(|sample| sample.value)
                .sum::<f64>()
        });
        if waiting[pod] > 0.0 && waiting[1 - pod] == 0.0 { Ok(()) } else { Err(format!("{waiting:?} wait")) }
    });
    known.await.unwrap_or_else(|message| panic!("{message}"));
    work
}

/// Every request for the version goes to this pod. Round robin would send half of them to the other.
async fn goes_to(stage: &Stage, bearer: &str, pod: usize) {
    let mut served = 0;
    for number in 0..60 {
        let session = format!("session-{pod}-{number}");
        let answer = stage.chat("chat", &[("authorization", bearer), ("x-session-id", &session)]).await;
        let answer = answer.expect("an answer");
        assert_eq!(answer.status, 200, "{answer:?}");
        if answer.header("x-penstock-version") == "stable" {
            assert_eq!(answer.header("x-served-by"), format!("pod-{pod}"), "{answer:?}");
            served += 1;
        }
    }
    assert!(served >= 20, "{served} of the version");
}

async fn streams_whole(stage: &Stage, bearer: &str) {
    let body = json!({"model": "chat", "stream": true, "max_tokens": 30, "messages": [{"role": "user", "content": "Say hello."}]});
    let answer = stage.post(&body, &[("authorization", bearer), ("x-model-server", r#"{"tokens":30}"#)]).await;
    let answer = answer.expect("an answer");
    assert!(answer.status == 200 && answer.body.ends_with("data: [DONE]\n\n"), "{answer:?}");
}

/// What the pods were asked by the gateway is what it counted, in requests and in tokens.
async fn all_are_counted(stage: &Stage, servers: &[ModelServer; 2]) {
    let came =
        servers.iter().flat_map(ModelServer::requests).filter(|seen| seen.header("x-penstock-version").is_some());
    let done: Vec<_> = came.filter(|seen| seen.done && !seen.client_gone).collect();
    let tokens: u64 = done.iter().map(|seen| seen.prompt_tokens).sum();
    assert!(!done.is_empty());
    assert!(done.iter().all(|seen| seen.header("x-penstock-version") == Some("stable")));
    let stable = [("model", "chat"), ("version", "stable")];
    let ok = [stable.as_slice(), &[("outcome", "ok")]].concat();
    let prompt = [stable.as_slice(), &[("kind", "prompt")]].concat();
    let all = |metrics: &Metrics| {
        let pending = metrics.sum("penstock_pending_requests", &stable);
        metrics.sum("penstock_requests_total", &ok) >= done.len() as f64 && pending == 0.0
    };
    let metrics = stage.until_metrics("all are counted", all).await;
    assert_eq!(metrics.sum("penstock_requests_total", &ok), done.len() as f64);
    assert_eq!(metrics.sum("penstock_tokens_total", &prompt), tokens as f64);
}
