//! What the sets do where all is as it should be.

use std::time::{Duration, Instant};

use penstock_cluster::keys::Key;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::stage::{HOST, Set, Stage, run, shipped};

/// On a machine with nothing else to do it takes [`UP_SECONDS`]; here three control planes may start at a time, beside whatever else there is.
#[test]
fn up_within_a_bound() {
    const UP_SECONDS: u64 = 15;
    const BUSY: u64 = 6;
    run(async |base| {
        let began = Instant::now();
        let _stage = Stage::up(base, Set::TrafficExtension).await;
        let took = base.took + began.elapsed();
        println!("up in {:.1} s, of which {:.1} for the control plane", took.as_secs_f64(), base.took.as_secs_f64());
        assert!(took.as_secs() < UP_SECONDS * BUSY, "{took:?}");
    });
}

#[test]
fn requests_go_where_their_bodies_say_and_are_counted() {
    run(async |base| {
        for set in Set::BOTH {
            let stage = Stage::up(base, set).await;
            stage.until_in_force().await;
            goes_where_the_body_says(&stage).await;
            metrics_have_labels(&stage).await;
            access_log_tells(&stage, "chat-small").await;
            limits_bind(&stage).await;
            module_is_the_pinned_one(&stage).await;
        }
    });
}

async fn goes_where_the_body_says(stage: &Stage) {
    let small = stage.chat("chat-small", &[]).await.expect("an answer");
    assert_eq!((small.status, small.header("x-served-by")), (200, "chat-small-stable"), "{small:?}");
    assert_eq!(small.header("x-penstock-version"), "stable");
    stage.serves_what_it_says(&[]).await;
}

async fn metrics_have_labels(stage: &Stage) {
    let ok = [("model", "chat"), ("version", "stable"), ("tenant", "other"), ("outcome", "ok")];
    let metrics =
        stage.until_metrics("requests are counted", |metrics| metrics.sum("penstock_requests_total", &ok) > 0.0).await;
    assert_eq!(metrics.sum("penstock_headers_wait", &[]), 1.0);
    assert!(metrics.sum("penstock_streams_total", &[("handling", "counted")]) > 0.0);
    let gauge = [("model", "chat-small"), ("version", "stable"), ("phase", "prefill")];
    assert_eq!(metrics.select("penstock_pending_tokens", &gauge).count(), 1, "a gauge stands at 0");
    // Envoy's own series of the plugin are the only others with its name.
    let is_odd =
        |name: &str| name.contains("penstock_") && !name.starts_with("penstock_") && !name.starts_with("envoy_wasm_");
    assert_eq!(metrics.0.iter().find(|sample| is_odd(&sample.name)), None, "labels are left in a name");
    let log = stage.gateway.log();
    assert!(!log.contains("the host answered status"), "the proxy refused something that the filter asked of it");
}

pub async fn access_log_tells(stage: &Stage, model: &str) {
    let tells = |line: &&str| {
        let line: Value = serde_json::from_str(line).unwrap_or_default();
        let facts: Value = serde_json::from_str(line["penstock"].as_str().unwrap_or_default()).unwrap_or_default();
        facts["model"] == model && facts["promptTokens"].as_u64() > Some(0) && facts["outcome"] == "ok"
    };
    // Envoy writes it with a delay of up to a second.
    let told = penstock_cluster::process::eventually("the access log", 20, || async {
        let log = stage.gateway.log();
        log.lines().find(tells).map(str::to_owned).ok_or_else(|| "no line".to_owned())
    });
    let line = told.await.unwrap_or_else(|message| panic!("{message}"));
    assert!(!line.contains("Say hello"), "{line}");
}

async fn limits_bind(stage: &Stage) {
    let body =
        json!({"model": "chat", "max_tokens": 10, "messages": [{"role": "user", "content": "word ".repeat(25_000)}]});
    let mut statuses = Vec::new();
    for _ in 0..4 {
        let answer = stage.post(&body, &[("x-api-key", "greedy")]).await.expect("an answer");
        if answer.status == 429 {
            assert_eq!(answer.header("x-penstock-limit"), "tenant-tpm", "{answer:?}");
            assert!(answer.has("retry-after"), "{answer:?}");
            assert!(answer.body.contains("rate_limit_exceeded"), "{answer:?}");
        }
        statuses.push(answer.status);
    }
    assert!(statuses.starts_with(&[200, 200]) && statuses.contains(&429), "{statuses:?}");
    let other = stage.chat("chat", &[("x-api-key", "modest")]).await.expect("an answer");
    assert_eq!(other.status, 200, "another tenant has a budget of its own: {other:?}");
}

async fn module_is_the_pinned_one(stage: &Stage) {
    let log = stage.gateway.log();
    assert!(log.contains("oci://127.0.0.1:5000/stage:1"), "the agent fetched the image");
}

#[test]
fn a_verified_token_names_the_tenant() {
    run(async |base| {
        for set in Set::BOTH {
            let key = Key::generate().expect("a key");
            let mut objects = shipped(base, set, "stage");
            objects.push(json!({
                "apiVersion": "security.istio.io/v1", "kind": "RequestAuthentication",
                "metadata": {"name": "callers", "namespace": "istio-ingress"},
                "spec": {
                    "selector": {"matchLabels": {"istio": "ingressgateway"}},
                    "jwtRules": [{"issuer": "https://issuer.example.com", "jwks": key.jwks().to_string()}],
                },
            }));
            let stage = Stage::with(base, objects, Default::default()).await;
            stage.until_in_force().await;
            token_names_the_tenant(&stage, &key).await;
        }
    });
}

async fn token_names_the_tenant(stage: &Stage, key: &Key) {
    let claims =
        json!({"iss": "https://issuer.example.com", "sub": "someone", "org_id": "acme", "exp": 4_000_000_000_u64});
    let bearer = format!("Bearer {}", key.token(&claims).expect("a token"));
    let answer = stage.chat("chat", &[("authorization", &bearer)]).await.expect("an answer");
    assert_eq!(answer.status, 200, "{answer:?}");
    let acme = [("tenant", "acme"), ("outcome", "ok")];
    stage.until_metrics("the tenant's series", |metrics| metrics.sum("penstock_requests_total", &acme) == 1.0).await;
    let other = Key::generate().expect("a key").token(&claims).expect("a token");
    let answer = stage.chat("chat", &[("authorization", &format!("Bearer {other}"))]).await.expect("an answer");
    assert_eq!(answer.status, 401, "signed by somebody else: {answer:?}");
    let metrics = stage.gateway.metrics().await.expect("metrics");
    assert_eq!(metrics.sum("penstock_requests_total", &acme), 1.0);
}

#[test]
fn expect_100_continue_reaches_its_own_server() {
    run(async |base| {
        for set in Set::BOTH {
            let stage = Stage::up(base, set).await;
            stage.until_in_force().await;
            expect_reaches_its_own_server(&stage).await;
        }
    });
}

/// Within a second beside what the same request takes without: the best of three, as the machine may be busy.
async fn expect_reaches_its_own_server(stage: &Stage) {
    let body = r#"{"model":"chat-small","messages":[{"role":"user","content":"Say hello."}]}"#;
    let (mut with, mut without) = (Duration::MAX, Duration::MAX);
    for _ in 0..3 {
        let began = Instant::now();
        let answer = stage.chat("chat-small", &[]).await.expect("an answer");
        without = without.min(began.elapsed());
        assert_eq!(answer.status, 200, "{answer:?}");
        let began = Instant::now();
        let answer = with_expect(body).await.expect("an answer");
        with = with.min(began.elapsed());
        assert!(answer.contains("x-served-by: chat-small-stable"), "{answer}");
    }
    println!("answered in {with:?} with `expect: 100-continue`, in {without:?} without");
    assert!(with < without + Duration::from_secs(1), "{with:?}, without {without:?}");
}

/// Sends what curl sends for large bodies: the body only once the server has said that it wants it.
async fn with_expect(body: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect("127.0.0.1:80").await?;
    let length = body.len();
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: {HOST}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\
         connection: close\r\nexpect: 100-continue\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await?;
    let mut first = [0; 25];
    stream.read_exact(&mut first).await?;
    if first.starts_with(b"HTTP/1.1 100") {
        stream.write_all(body.as_bytes()).await?;
    }
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await?;
    Ok(String::from_utf8_lossy(&[first.as_slice(), &rest].concat()).into_owned())
}
