//! What happens to limits and ceilings while many ask at once, while answers take long, and while it is found out whether headers may wait.

use std::time::{Duration, Instant};

use futures_util::{StreamExt, future::join_all};
use penstock_harness::envoy::{Chain, Envoy, Gateway};
use penstock_harness::model_server::{ModelServer, Options};
use penstock_tests::{PATIENCE, checkout, find_envoy, module, until_metrics};
use reqwest::{Body, Client, StatusCode};
use serde_json::{Value, json};

use super::stage::{MANAGER, Stage};

/// What a model server is asked for by a header, of which the filters know nothing.
fn script(script: &Value) -> [(&'static str, String); 1] {
    [("x-model-server", script.to_string())]
}

fn chat(max: u64) -> Value {
    json!({"model": "chat", "max_tokens": max, "messages": [{"role": "user", "content": "hello"}]})
}

fn streamed(max: u64) -> Value {
    json!({"model": "chat", "stream": true, "max_tokens": max, "messages": [{"role": "user", "content": "hello"}]})
}

/// What is only observed goes on, is told, and is not charged to the limit that would have refused it.
#[tokio::test(flavor = "multi_thread")]
async fn a_limit_is_seen_before_it_is_enforced() {
    let config = json!({
        "models": [{"name": "chat", "output": {"max": 10}}],
        "limits": [
            {"name": "tight", "tokens": 20, "every": "24h", "mode": "observe"},
            {"name": "wide", "tokens": 60, "every": "24h"},
        ],
    });
    let Some(stage) = Stage::start(&config).await else { return };
    let script = script(&json!({"tokens": 10}));
    let headers = [(script[0].0, script[0].1.as_str())];
    let mut would = Vec::new();
    for _ in 0..3 {
        let answer = stage.chat(&headers, &chat(10)).await;
        assert_eq!(answer.status(), 200);
        would.push(answer.headers().get("x-penstock-would").map(|would| would.to_str().unwrap().to_owned()));
        answer.bytes().await.expect("a body");
    }
    let limited = Some("limited; limit=tight".to_owned());
    assert_eq!(would, [None, limited.clone(), limited]);
    let answer = stage.chat(&headers, &chat(10)).await;
    assert_eq!((answer.status().as_u16(), answer.headers()["x-penstock-limit"].to_str().unwrap()), (429, "wide"));
    until_metrics(&stage.envoy, |metrics| {
        let tight = [("reason", "limited"), ("limit", "tight")];
        let wide = [("reason", "limited"), ("limit", "wide"), ("model", "chat"), ("tenant", "other")];
        metrics.sum("penstock_observed_total", &tight) >= 2.0 && metrics.sum("penstock_refused_total", &wide) == 1.0
    })
    .await;
}

/// Gauges say how a limit stands, whichever worker served whom, and return to the truth.
#[tokio::test(flavor = "multi_thread")]
async fn a_limit_is_seen_before_it_binds() {
    let config = json!({
        "tenant": {"from": [{"header": "x-tenant", "trusted": true}]},
        "tenants": {"acme": {}},
        "models": [{"name": "chat"}],
        "limits": [{"name": "tpm", "per": ["tenant", "model"], "tokens": 1000, "every": "24h"}],
    });
    let Some(stage) = Stage::start(&config).await else { return };
    for _ in 0..4 {
        let script = script(&json!({"tokens": 192}));
        let client = Client::new();
        let answer = client.post(format!("{}/v1/chat/completions", stage.envoy.url())).json(&chat(192));
        let answer =
            answer.header(script[0].0, &script[0].1).header("x-tenant", "acme").send().await.expect("an answer");
        assert_eq!(answer.status(), 200);
        answer.bytes().await.expect("a body");
    }
    stage.chat(&[("x-tenant", "nobody-knows")], &chat(10)).await;
    until_metrics(&stage.envoy, |metrics| {
        let of = |name: &str, tenant: &str| metrics.sum(name, &[("limit", "tpm"), ("tenant", tenant)]);
        of("penstock_limit_used_tokens", "acme") == 800.0
            && of("penstock_limit_size_tokens", "acme") == 1000.0
            && of("penstock_limit_debt_tokens", "acme") == 0.0
    })
    .await;
    let of_others =
        |metrics: &penstock_harness::envoy::Metrics| metrics.select("penstock_limit_size_tokens", &[]).count();
    assert_eq!(of_others(&stage.metrics().await), 1, "who has no name has no gauge");
}

/// Callers that no limit would admit do not take a model from those who are below their share.
#[tokio::test(flavor = "multi_thread")]
async fn wanting_without_paying() {
    let config = json!({
        "tenant": {"from": [{"header": "x-tenant", "trusted": true}, {"header": "x-api-key"}]},
        "tenants": {"busy": {}, "honest": {}},
        "models": [{"name": "chat", "output": {"expect": 600}, "pending": {"ceiling": 1000}}],
        "limits": [{"name": "tpm", "per": ["tenant"], "tokens": 5000, "every": "24h"}],
    });
    let Some(stage) = Stage::start(&config).await else { return };
    // One tenant holds six tenths of the ceiling.
    let slow = script(&json!({"tokens": 600, "inter_token_ms": 100}));
    let busy = stage.chat(&[("x-tenant", "busy"), (slow[0].0, &slow[0].1)], &streamed(600)).await;
    assert_eq!(busy.status(), 200);
    let greedy = json!({"model": "chat", "n": 1_000_000, "max_tokens": 600, "messages": []});
    for round in 0..10 {
        let attacks = (0..64).map(|i| {
            let (stage, greedy) = (&stage, &greedy);
            async move { stage.chat(&[("x-api-key", &format!("made-up-{round}-{i}"))], greedy).await.status() }
        });
        let refused = join_all(attacks).await;
        assert!(refused.iter().all(|status| status.is_client_error() || status.is_server_error()), "{refused:?}");
        let answer = stage.chat(&[("x-tenant", "honest")], &chat(50)).await;
        assert_eq!(answer.status(), 200, "round {round}: {:?}", answer.text().await);
    }
    drop(busy);
}

/// Reservations that are given back while a bucket has filled up again do not lift it above what a full one holds.
#[tokio::test(flavor = "multi_thread")]
async fn a_refund_beyond_what_a_full_bucket_holds() {
    let config = json!({
        "models": [{"name": "chat"}],
        "limits": [{"name": "tpm", "tokens": 1000, "every": "2s"}],
    });
    let Some(stage) = Stage::start(&config).await else { return };
    // Each reserves nearly all of it and uses almost nothing, and all end at about the same time.
    let mut slow = Vec::new();
    for i in 0..4u64 {
        let script = script(&json!({"tokens": 2, "ttft_ms": 0, "inter_token_ms": 2200 * (4 - i)}));
        let answer = stage.chat(&[(script[0].0, &script[0].1)], &streamed(980)).await;
        assert_eq!(answer.status(), 200, "{i}");
        slow.push(answer);
        tokio::time::sleep(Duration::from_millis(2200)).await;
    }
    for answer in slow {
        answer.bytes().await.expect("a whole stream");
    }
    let began = Instant::now();
    let script = script(&json!({"tokens": 92}));
    let burst = (0..60).map(|_| {
        let (stage, script) = (&stage, &script);
        async move { stage.chat(&[(script[0].0, &script[0].1)], &chat(92)).await.status() == StatusCode::OK }
    });
    let admitted = join_all(burst).await.into_iter().filter(|ok| *ok).count() as u64;
    // A hundred tokens each: what a full bucket holds, and what comes in meanwhile.
    let most = (1000 + began.elapsed().as_millis() as u64 / 2) / 100 + 1;
    assert!(admitted <= most, "{admitted} requests of 100 tokens, at most {most}");
}

/// An answer that nobody waited for was worked on all the same, for as long as it took.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_nobody_waits_for() {
    let config = json!({"models": [{"name": "chat"}], "limits": [{"name": "tpm", "tokens": 100_000, "every": "24h"}]});
    let Some(stage) = Stage::start(&config).await else { return };
    let script = script(&json!({"tokens": 500, "inter_token_ms": 20, "ttft_ms": 0}));
    let client = Client::builder().timeout(Duration::from_secs(2)).build().expect("a client");
    for _ in 0..3 {
        let request = client.post(format!("{}/v1/chat/completions", stage.envoy.url())).json(&chat(5000));
        let answer = request.header(script[0].0, &script[0].1).send().await;
        assert!(answer.is_err(), "it was to take 10 s");
    }
    until_metrics(&stage.envoy, |metrics| {
        metrics.sum("penstock_requests_total", &[("outcome", "abandoned")]) == 3.0
            && metrics.sum("penstock_tokens_total", &[("kind", "completion")]) >= 3.0 * 90.0
    })
    .await;
}

/// What the proxy gave up on before the first token, with a 504 or, where a stream had begun, by breaking it off: the server has worked for as
/// long as that took.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_the_proxy_gave_up_on() {
    let config = json!({"models": [{"name": "chat"}], "limits": [{"name": "tpm", "tokens": 100_000, "every": "24h"}]});
    let change = |gateway: Gateway| {
        let route = json!({"cluster": "stable", "timeout": "1.5s"});
        let hosts = json!([{"name": "all", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": route}]}]);
        gateway.set(&format!("{MANAGER}/route_config/virtual_hosts"), hosts)
    };
    let Some(stage) = Stage::start_as(&config, change).await else { return };
    let script = script(&json!({"tokens": 500, "ttft_ms": 60_000}));
    for (body, status) in [(chat(5000), 504), (streamed(5000), 200)] {
        for _ in 0..3 {
            let answer = stage.chat(&[(script[0].0, &script[0].1)], &body).await;
            assert_eq!(answer.status(), status);
            assert_eq!(answer.bytes().await.is_err(), status == 200, "it is broken off");
        }
    }
    until_metrics(&stage.envoy, |metrics| {
        metrics.sum("penstock_requests_total", &[("outcome", "upstream_error")]) == 6.0
            && (6.0 * 60.0..6.0 * 500.0).contains(&metrics.sum("penstock_tokens_total", &[("kind", "completion")]))
    })
    .await;
}

/// What Envoy's router is told by headers of a client is told to nobody: no further runs for one charge, and no 504 at will, also where Envoy
/// takes the client for an internal one.
#[tokio::test(flavor = "multi_thread")]
async fn orders_to_the_proxy() {
    let config = json!({"models": [{"name": "chat"}], "limits": [{"name": "tpm", "tokens": 100_000, "every": "24h"}]});
    for is_internal in [false, true] {
        let change = |gateway: Gateway| if is_internal { gateway.trusts_local_clients() } else { gateway };
        let Some(stage) = Stage::start_as(&config, change).await else { return };
        let failing = script(&json!({"status": 500}));
        let headers = [
            (failing[0].0, failing[0].1.as_str()),
            ("x-envoy-retry-on", "5xx,retriable-status-codes"),
            ("x-envoy-retriable-status-codes", "500"),
            ("x-envoy-max-retries", "5"),
        ];
        let answer = stage.chat(&headers, &chat(5)).await;
        assert_eq!((answer.status().as_u16(), stage.arrived()), (500, 1), "internal: {is_internal}");
        let slow = script(&json!({"tokens": 3, "ttft_ms": 800}));
        for order in [
            "x-envoy-upstream-rq-timeout-ms",
            "x-envoy-upstream-rq-per-try-timeout-ms",
            "x-envoy-upstream-stream-duration-ms",
            "x-envoy-expected-rq-timeout-ms",
        ] {
            let headers = [
                (slow[0].0, slow[0].1.as_str()),
                (order, "50"),
                ("x-envoy-upstream-rq-timeout-alt-response", "true"),
                ("x-envoy-hedge-on-per-try-timeout", "true"),
            ];
            let before = stage.arrived();
            let answer = stage.chat(&headers, &chat(5)).await;
            assert_eq!(
                (answer.status().as_u16(), stage.arrived() - before),
                (200, 1),
                "{order}, internal: {is_internal}"
            );
            answer.bytes().await.expect("a whole answer");
        }
    }
}

/// Who was refused a moment ago is read before it is counted.
#[tokio::test(flavor = "multi_thread")]
async fn work_before_the_check() {
    let config = json!({
        "models": [{"name": "chat"}, {"name": "gone", "suspended": true}],
        "limits": [{"name": "tpm", "tokens": 100, "every": "24h"}],
    });
    let Some(stage) = Stage::start(&config).await else { return };
    let script = script(&json!({"tokens": 300}));
    let hello = json!({"model": "chat", "messages": [{"role": "user", "content": "hello"}]});
    let debtor = stage.chat(&[(script[0].0, &script[0].1)], &hello).await;
    assert_eq!(debtor.status(), 200);
    debtor.bytes().await.expect("a body");
    let text = "a-b_c.d ".repeat(300_000);
    for model in ["chat", "gone", "made-up"] {
        let body = json!({"messages": [{"role": "user", "content": text}], "model": model});
        for _ in 0..3 {
            let answer = stage.chat(&[], &body).await;
            assert!(!answer.status().is_success());
        }
    }
    // What the log says of them: not counted, but for the first that each worker refused.
    let deadline = Instant::now() + PATIENCE;
    let refused = loop {
        let facts = stage.envoy.access_log().lines().filter_map(facts).collect::<Vec<Value>>();
        let refused: Vec<Value> = facts.into_iter().filter(|facts| !facts["refused"].is_null()).collect();
        if refused.len() >= 9 {
            break refused;
        }
        // The proxy writes its log from time to time.
        assert!(Instant::now() < deadline, "{}", stage.envoy.access_log());
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    let counted = refused.iter().filter(|facts| facts["promptTokens"].as_u64() > Some(0)).count();
    assert!(refused.len() == 9 && counted <= 2, "{counted} of {}", stage.envoy.access_log());
}

/// The facts in a line of the access log, which are JSON in JSON.
fn facts(line: &str) -> Option<Value> {
    let line: Value = serde_json::from_str(line).ok()?;
    serde_json::from_str(line["penstock"].as_str()?).ok()
}

/// A limit of requests at the same time holds while a configuration is replaced: those under the old one count.
#[tokio::test(flavor = "multi_thread")]
async fn a_concurrency_limit_while_configurations_overlap() {
    let binary = match find_envoy() {
        Ok(binary) => binary,
        Err(reason) => return penstock_tests::skipped(&reason),
    };
    module("penstock");
    let server = ModelServer::start(Options::default()).await.expect("a free port");
    let rendered = |output: u64| {
        let config = json!({
            "models": [{"name": "chat", "output": {"max": output}}],
            "limits": [{"name": "two", "concurrent": 2}],
        });
        let gateway = Gateway::load(&checkout(), "gateway.yaml").expect("gateway.yaml");
        let gateway = gateway.cluster("stable", server.address()).cluster("canary", server.address());
        gateway.chain(Chain::One).plugin_config(&config).render_replaceable()
    };
    let envoy = Envoy::start(&binary, &rendered(400), 2).await.expect("Envoy starts");
    let client = Client::builder().pool_max_idle_per_host(0).build().expect("a client");
    let send = |script: Value, body: Value| {
        let request = client.post(format!("{}/v1/chat/completions", envoy.url())).json(&body);
        request.header("x-model-server", script.to_string()).send()
    };
    let mut open = Vec::new();
    for _ in 0..2 {
        let script = json!({"tokens": 300, "inter_token_ms": 100, "ttft_ms": 0});
        let mut events = send(script, streamed(300)).await.expect("an answer").bytes_stream();
        events.next().await.expect("an event").expect("bytes");
        open.push(events);
    }
    envoy.replace_listeners(&rendered(7).listeners.expect("listeners")).expect("replaced");
    // The new configuration is in force when it has said so; until then, and from then on, there is no room.
    let said = |log: &str| log.matches("configured 1 models").count();
    let deadline = Instant::now() + PATIENCE;
    let before = said(&envoy.log());
    while said(&envoy.log()) < before + 2 && Instant::now() < deadline {
        assert_eq!(send(json!({}), chat(5)).await.expect("an answer").status(), 429);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    for _ in 0..10 {
        assert_eq!(send(json!({}), chat(5)).await.expect("an answer").status(), 429);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    drop(open);
    let deadline = Instant::now() + PATIENCE;
    while send(json!({}), chat(5)).await.expect("an answer").status() != 200 {
        assert!(Instant::now() < deadline, "what has ended still counts");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// A client that sends headers, then nothing for long, then its body at once, over and over, changes nothing for others: their headers wait,
/// a version is drawn and the model is renamed.
#[tokio::test(flavor = "multi_thread")]
async fn switching_header_waiting_off() {
    for (wait, may_wait) in [(json!("auto"), true), (json!(true), true), (json!("auto"), false)] {
        let config = json!({
            "waitForBody": wait,
            "models": [{"name": "chat", "versions": [{"name": "stable", "weight": 1, "model": "llama"}]}],
        });
        let Some(stage) = Stage::start_as(&config, |gateway| gateway.headers_may_wait(may_wait)).await else { return };
        let name = format!("{wait}, may_wait {may_wait}");
        let url = format!("{}/v1/chat/completions", stage.envoy.url());
        for client in [
            Client::builder().http2_prior_knowledge().build().expect("a client"),
            Client::builder().http1_only().build().expect("a client"),
        ] {
            for _ in 0..4 {
                let late = futures_util::stream::once(async {
                    tokio::time::sleep(Duration::from_millis(1300)).await;
                    Ok::<_, std::io::Error>(chat(5).to_string().into_bytes())
                });
                let answer = client.post(&url).body(Body::wrap_stream(late)).send().await.expect("an answer");
                assert_eq!(answer.status(), 200, "{name}");
                answer.bytes().await.expect("a body");
            }
        }
        if may_wait {
            for honest in [Client::builder().http2_prior_knowledge(), Client::builder().http1_only()] {
                let honest = honest.build().expect("a client");
                for i in 0..6 {
                    let answer = honest.post(&url).json(&chat(5)).send().await.expect("an answer");
                    assert_eq!(answer.headers()["x-penstock-version"], "stable", "{name}: {i}");
                    answer.bytes().await.expect("a body");
                    let seen = stage.last();
                    let sent: Value = serde_json::from_str(seen.body.as_deref().unwrap_or_default()).expect("JSON");
                    assert_eq!(sent["model"], "llama", "{name}: {i}");
                }
            }
        }
        // Who asks first whether to send a body at all is told to, by the proxy.
        let answer = expecting(&stage, &chat(5).to_string()).await;
        assert!(answer.contains("HTTP/1.1 200"), "{name}: {answer}");
        if may_wait {
            assert!(!stage.envoy.log().contains("does not let headers wait"), "{name}: {}", stage.envoy.log());
        }
    }
}

/// Where the proxy passes `expect: 100-continue` on, no 100 can come while headers wait for the body: the client is told at once, and nothing
/// goes to a server that the body would not have led to.
#[tokio::test(flavor = "multi_thread")]
async fn who_expects_a_word_that_cannot_come() {
    let config = json!({"waitForBody": true, "models": [{"name": "chat"}]});
    let change = |gateway: Gateway| gateway.set(&format!("{MANAGER}/proxy_100_continue"), json!(true));
    let Some(stage) = Stage::start_as(&config, change).await else { return };
    // At once: within a second beside what a request takes here, the best of three, as the machine may be busy.
    let (mut refused, mut served) = (Duration::MAX, Duration::MAX);
    for number in 0..3 {
        let began = Instant::now();
        let answer = expecting(&stage, &chat(5).to_string()).await;
        refused = refused.min(began.elapsed());
        assert!(answer.starts_with("HTTP/1.1 417") && answer.contains("proxy_100_continue"), "{answer}");
        assert_eq!(stage.arrived(), number);
        let began = Instant::now();
        assert_eq!(stage.chat(&[], &chat(5)).await.status(), 200);
        served = served.min(began.elapsed());
    }
    println!("refused in {refused:?}; a request is answered in {served:?}");
    assert!(refused < served + Duration::from_secs(1), "{refused:?}, beside {served:?}");
}

/// Sends a request with `expect: 100-continue`, and its body when it is told to go on; all that came back.
async fn expecting(stage: &Stage, body: &str) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let address = stage.envoy.url().replace("http://", "");
    let mut stream = tokio::net::TcpStream::connect(&address).await.expect("Envoy listens");
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: models\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
         expect: 100-continue\r\nconnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.expect("written");
    let mut all = Vec::new();
    let mut piece = [0; 4096];
    while !all.windows(4).any(|bytes| bytes == b"\r\n\r\n") {
        let read = tokio::time::timeout(PATIENCE, stream.read(&mut piece)).await;
        let read = read.expect("it is told to go on").expect("read");
        assert!(read > 0, "closed: {}", String::from_utf8_lossy(&all));
        all.extend_from_slice(&piece[..read]);
    }
    if !all.starts_with(b"HTTP/1.1 100") {
        return String::from_utf8_lossy(&all).into_owned();
    }
    stream.write_all(body.as_bytes()).await.expect("written");
    stream.read_to_end(&mut all).await.expect("read");
    String::from_utf8_lossy(&all).into_owned()
}
