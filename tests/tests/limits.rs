//! Limits under concurrency: eight workers on threads of their own in the sandbox, four on a real Envoy, and what a change of the
//! configuration does to requests in flight.

use std::time::{Duration, Instant};

use penstock_benches::stages::{self, Answer, crossings};
use penstock_benches::{admission, streams};
use penstock_harness::envoy::{Chain, Envoy, Gateway};
use penstock_harness::host::{Headers, Module};
use penstock_harness::model_server::{ModelServer, Options};
use penstock_tests::{PATIENCE, checkout, find_envoy, module};
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};

/// Fuel for the whole life of a tiny request, and for charging three limits.
const REQUEST_MAX: u64 = 71_800;
const THREE_LIMITS_MAX: u64 = 11_200;
/// How often a tiny request calls the host, and how often the host has room made in the module's memory for it.
const HOST_CALLS_MAX: u64 = 36;
const ROOMS_MAX: u64 = 8;
/// Memory of a worker for 10,000 tenants, in bytes.
const TENANTS_MAX: usize = 2 << 20;

#[test]
fn admission_costs_no_more_than_it_did() {
    let figures = admission::measure(&module("penstock")).expect("figures");
    println!("{figures:?}");
    assert!(figures.fuel_of_a_request <= REQUEST_MAX, "{figures:?}, at most {REQUEST_MAX}");
    assert!(figures.fuel_of_three_limits <= THREE_LIMITS_MAX, "{figures:?}, at most {THREE_LIMITS_MAX}");
    assert!(figures.tenants_bytes <= TENANTS_MAX, "{figures:?}, at most {TENANTS_MAX}");
}

#[test]
fn a_request_calls_the_host_no_more_often_than_it_did() {
    let callbacks = stages::measure(&module("penstock"), Answer::Json).expect("figures");
    let (host_calls, rooms) = crossings(&callbacks);
    assert!(host_calls <= HOST_CALLS_MAX, "{host_calls}, at most {HOST_CALLS_MAX}: {callbacks:#?}");
    assert!(rooms <= ROOMS_MAX, "{rooms}, at most {ROOMS_MAX}: {callbacks:#?}");
}

/// Splitmix64.
struct Draw(u64);

impl Draw {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }
}

/// Eight workers race for one budget, with requests of all sizes of which many fail, are abandoned, or use less than was reserved. Time
/// stands still, so that what is spent in the end is known: never more than the budget, and less only by what the next request was short of.
#[test]
fn eight_workers_spend_one_budget_and_not_a_token_more() {
    const BUDGET: u64 = 20_000;
    const LARGEST: u64 = 120;
    const PLACES: u64 = 5;
    let module = Module::from_file(&module("penstock")).expect("penstock.wasm");
    for seed in 0..3 {
        let config = json!({
            "models": [{"name": "chat"}],
            // The second refuses now and then, and then the first has to be given back.
            "limits": [
                {"name": "budget", "tokens": BUDGET, "every": "1h"},
                {"name": "places", "per": [{"header": "x-key"}], "concurrent": PLACES},
            ],
        });
        let host = streams::host(&module, &config.to_string(), 8).expect("it starts");
        let used: u64 = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..8)
                .map(|index| {
                    let host = &host;
                    scope.spawn(move || spend(host, index, Draw(seed * 8 + index as u64), LARGEST))
                })
                .collect();
            workers.into_iter().map(|worker| worker.join().expect("no panic")).sum()
        });
        assert!(used <= BUDGET, "seed {seed}: {used} of {BUDGET}");
        assert!(used + LARGEST > BUDGET, "seed {seed}: {used} of {BUDGET}");
        // All places were left again: each key has all of them. For that there has to be something in the budget.
        host.advance(Duration::from_secs(30));
        let mut worker = host.worker(0);
        for key in 0..4 {
            let refusals: Vec<String> = (0..=PLACES).map(|_| ask(&mut worker, key, 1).1).collect();
            let (last, first) = refusals.split_last().expect("six");
            assert!(first.iter().all(String::is_empty) && last == "places", "seed {seed}: key {key}: {refusals:?}");
        }
        assert!(worker.failures().is_empty(), "{:?}", worker.failures());
    }
}

/// Sends until the budget has refused a hundred small requests in a row; what the upstream said was used.
fn spend(host: &penstock_harness::host::Host, index: usize, mut draw: Draw, largest: u64) -> u64 {
    let (mut used, mut refused) = (0, 0);
    let mut open: Vec<(u64, u64)> = Vec::new();
    while refused < 100 {
        let mut worker = host.worker(index);
        // The largest request is the prompt's 3 tokens and the answer.
        let output = 1 + draw.below(if refused > 0 { 1 } else { largest - 3 });
        match ask(&mut worker, draw.below(4), output) {
            (id, refusal) if refusal.is_empty() => open.push((id, output)),
            (_, refusal) if refusal == "budget" && open.is_empty() => refused += 1,
            _ => {}
        }
        if open.len() > draw.below(4) as usize {
            let (id, output) = open.swap_remove(draw.below(open.len() as u64) as usize);
            let usage =
                |completion: u64| json!({"usage": {"prompt_tokens": 3, "completion_tokens": completion}}).to_string();
            let ok = |status: &str| Headers::new([(":status", status), ("content-type", "application/json")]);
            match draw.below(4) {
                0 => {
                    worker.response_headers(id, ok("500"), false);
                    worker.response_body(id, b"{}", true);
                }
                1 => worker.upstream_reset(id),
                _ => {
                    let completion = 1 + draw.below(output);
                    worker.response_headers(id, ok("200"), false);
                    worker.response_body(id, usage(completion).as_bytes(), true);
                    used += 3 + completion;
                    refused = 0;
                }
            }
            worker.forget(id);
        }
    }
    used
}

/// Asks for so many tokens of output: the stream, and the limit that refused it.
fn ask(worker: &mut penstock_harness::host::Worker, key: u64, output: u64) -> (u64, String) {
    let mut headers = streams::chat();
    headers.add("x-key", key.to_string().as_bytes());
    let id = worker.open(headers, false);
    let body = json!({"model": "chat", "messages": [], "max_tokens": output});
    worker.request_body(id, body.to_string().as_bytes(), true);
    let refusal = worker.client(id).header("x-penstock-limit").unwrap_or_default();
    if !refusal.is_empty() {
        worker.forget(id);
    }
    (id, refusal)
}

/// A hundred clients at once on four workers: as many get in as there is budget for, whatever the order.
#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_at_once_do_not_walk_through_on_envoy() {
    let Some(binary) = envoy() else { return };
    // Every request costs 8 + 92.
    let config = |budget: u64| {
        json!({
            "tenant": {"from": [{"header": "x-api-key"}]},
            "models": [{"name": "chat"}],
            "limits": [
                {"name": "tpm", "per": ["tenant"], "tokens": budget, "every": "24h"},
                {"name": "places", "per": ["tenant"], "concurrent": 1000},
            ],
        })
    };
    let server = server().await;
    let envoy = Envoy::start(&binary, &gateway(&config(3750), &server).render(), 4).await.expect("Envoy starts");
    for tenant in ["one", "two"] {
        let answers = (0..100).map(|_| tokio::spawn(send(envoy.url(), tenant, json!({"tokens": 92, "ttft_ms": 300}))));
        let mut ok = 0;
        for answer in answers.collect::<Vec<_>>() {
            let (status, limit, _) = answer.await.expect("a task");
            ok += u64::from(status == StatusCode::OK);
            assert!(
                status == StatusCode::OK || (status == StatusCode::TOO_MANY_REQUESTS && limit == "tpm"),
                "{status} {limit}"
            );
        }
        assert_eq!(ok, 37, "{tenant}");
    }
    assert_eq!(server.totals().requests, 74);
}

/// A configuration that is replaced while a request is in flight: the next request sees the new one, the old one settles where it was
/// charged, and what was spent before counts.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_the_configuration_takes_effect_and_loses_no_settlement() {
    let Some(binary) = envoy() else { return };
    let server = server().await;
    let config = |tokens: u64, suspended: bool| {
        json!({
            "tenant": {"from": [{"header": "x-api-key", "trusted": true}]},
            "tenants": {"late": {"suspended": suspended}},
            "models": [{"name": "chat"}],
            "limits": [{"name": "tpm", "tokens": tokens, "every": "24h"}],
        })
    };
    let rendered = |tokens, suspended| gateway(&config(tokens, suspended), &server).render_replaceable();
    let envoy = Envoy::start(&binary, &rendered(1000, false), 2).await.expect("Envoy starts");
    // Reserves 100 of 1000 and uses 28.
    let slow = tokio::spawn(send(envoy.url(), "a", json!({"tokens": 20, "ttft_ms": 10_000})));
    let deadline = Instant::now() + PATIENCE;
    while server.requests().is_empty() {
        assert!(Instant::now() < deadline, "the request does not arrive");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    envoy.replace_listeners(&rendered(500, true).listeners.expect("listeners")).expect("replaced");
    let deadline = Instant::now() + PATIENCE;
    loop {
        let (status, _, limit) = send(envoy.url(), "b", json!({"status": 500})).await;
        if limit == Some(500) {
            break;
        }
        assert!(Instant::now() < deadline, "the new configuration is not in force: {status} {limit:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(send(envoy.url(), "late", json!({})).await.0, StatusCode::FORBIDDEN);
    let (status, _, limit) = slow.await.expect("a task");
    assert_eq!((status, limit), (StatusCode::OK, Some(1000)));
    // Half of what a bucket of 1000 was short of is what the bucket of 500 is short of: its state is an instant.
    let (_, _, remaining) = send_for(envoy.url(), "b", json!({"status": 500}), "x-ratelimit-remaining-tokens").await;
    let remaining = remaining.expect("a limit");
    assert!((380..=388).contains(&remaining), "{remaining}");
}

/// Who comes back when the refusal says is admitted, on a clock that nobody simulates. Being late does no harm.
#[tokio::test(flavor = "multi_thread")]
async fn who_comes_back_when_told_is_admitted_on_envoy() {
    let Some(binary) = envoy() else { return };
    let server = server().await;
    // Each takes all of it: 100 tokens, which are there again after 5 s.
    let config = json!({"models": [{"name": "chat"}], "limits": [{"name": "tpm", "tokens": 100, "every": "5s"}]});
    let envoy = Envoy::start(&binary, &gateway(&config, &server).render(), 2).await.expect("Envoy starts");
    let script = || json!({"tokens": 92});
    // Two that are more than 5 s apart are both admitted, however seldom that is.
    let deadline = Instant::now() + PATIENCE;
    let told = loop {
        let (status, _, told) = send_for(envoy.url(), "a", script(), "retry-after-ms").await;
        if status == StatusCode::TOO_MANY_REQUESTS {
            break told.expect("a time");
        }
        assert_eq!(status, StatusCode::OK);
        assert!(Instant::now() < deadline, "nobody is refused");
    };
    assert!((1..=5000).contains(&told), "{told}");
    tokio::time::sleep(Duration::from_millis(told)).await;
    let (status, ..) = send(envoy.url(), "a", script()).await;
    assert_eq!(status, StatusCode::OK, "after {told} ms");
}

fn envoy() -> Option<std::path::PathBuf> {
    module("penstock");
    find_envoy().map_err(|reason| penstock_tests::skipped(&reason)).ok()
}

async fn server() -> ModelServer {
    let options = Options { ttft_ms: 0, inter_token_ms: 0, ..Options::default() };
    ModelServer::start(options).await.expect("a free port")
}

fn gateway(config: &Value, server: &ModelServer) -> Gateway {
    let gateway = Gateway::load(&checkout(), "gateway.yaml").expect("gateway.yaml");
    let gateway = gateway.cluster("stable", server.address()).cluster("canary", server.address());
    gateway.chain(Chain::One).plugin_config(config)
}

/// A request for 92 tokens: the status, the limit that refused, and what the limit holds.
async fn send(url: String, tenant: &'static str, script: Value) -> (StatusCode, String, Option<u64>) {
    send_for(url, tenant, script, "x-ratelimit-limit-tokens").await
}

async fn send_for(url: String, tenant: &'static str, script: Value, header: &str) -> (StatusCode, String, Option<u64>) {
    let body = json!({"model": "chat", "max_tokens": 92, "messages": [{"role": "user", "content": "hello"}]});
    let request = Client::new().post(format!("{url}/v1/chat/completions")).json(&body);
    let request = request.header("x-api-key", tenant).header("x-model-server", script.to_string());
    let answer = request.send().await.expect("an answer");
    let text =
        |name: &str| answer.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let (status, limit, number) = (answer.status(), text("x-penstock-limit"), text(header).parse().ok());
    let _ = answer.bytes().await;
    (status, limit, number)
}
