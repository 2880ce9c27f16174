//! `scope: mesh` by `envoy/mesh.yaml`: two Envoys, Limitador's engine, a real Redis.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use penstock_harness::envoy::{Chain, Envoy, Gateway};
use penstock_harness::model_server::{ModelServer, Options};
use penstock_tests::rate_limit::{DOMAIN, Redis, Service};
use penstock_tests::{PATIENCE, checkout, find_envoy, module, need};
use reqwest::Client;
use serde_json::{Value, json};

/// What every request reserves and uses.
const COST: u64 = 10;
const WINDOW: u64 = 3600;
/// What nobody waits for is over after this time, however busy the machine is.
const AT_ONCE: Duration = Duration::from_secs(5);

/// Two Envoys walk into one budget from both sides: together they admit what it holds, and not a token more.
#[tokio::test(flavor = "multi_thread")]
async fn two_envoys_share_one_budget() {
    const BUDGET: u64 = 2005;
    let stage = need!(Stage::start(BUDGET, "closed", "10s").await);
    let mut tasks = Vec::new();
    for (i, envoy) in stage.envoys.iter().enumerate() {
        for n in 0..150 {
            tasks.push(tokio::spawn(send(stage.clients[n % 8].clone(), envoy.url(), if i == 0 { 0 } else { 5 })));
        }
    }
    let statuses = collect(tasks).await;
    let mut ok = statuses.get(&200).copied().unwrap_or(0);
    assert_eq!(statuses.keys().filter(|status| !matches!(status, 200 | 429)).count(), 0, "{statuses:?}");
    assert!(ok * COST <= BUDGET, "{ok} were admitted");
    // In the storm somebody was refused while a lease was on its way; whoever comes now gets it.
    for envoy in &stage.envoys {
        let mut refused = 0;
        while refused < 5 {
            match send(stage.clients[0].clone(), envoy.url(), 0).await {
                200 => ok += 1,
                _ => refused += 1,
            }
        }
    }
    assert!(ok * COST <= BUDGET, "{ok} were admitted");
    // What is left in each proxy is less than a request.
    assert!((ok + 2) * COST >= BUDGET, "only {ok} were admitted");
    assert_eq!(stage.server.totals().requests, ok);
    // Another caller has another budget.
    assert_eq!(send_as(&stage.clients[0], &stage.envoys[1].url(), "someone else").await, 200);
}

/// Steady load: how often the service is asked, and what waiting for it costs next to a limit of the proxy alone.
#[tokio::test(flavor = "multi_thread")]
async fn most_requests_do_not_wait_for_the_service() {
    const REQUESTS: usize = 1000;
    let stage = need!(Stage::start(COST * 4 * REQUESTS as u64, "closed", "10s").await);
    let local = stage.envoy_of(|config| config["limits"][0]["scope"] = json!("proxy")).await;
    let (mut mesh_ms, mut local_ms) = (Vec::new(), Vec::new());
    // In turns, so that both meet the same machine.
    for _ in 0..REQUESTS {
        for (envoy, times) in [(&stage.envoys[0], &mut mesh_ms), (&local, &mut local_ms)] {
            let began = Instant::now();
            assert_eq!(send(stage.clients[0].clone(), envoy.url(), 0).await, 200);
            times.push(began.elapsed().as_secs_f64() * 1000.0);
        }
    }
    let calls = stage.service.calls();
    let at = |times: &mut Vec<f64>, quantile: f64| {
        times.sort_by(f64::total_cmp);
        times[(quantile * (times.len() - 1) as f64) as usize]
    };
    println!(
        "{calls} round trips for {REQUESTS} requests; ms p50 and p99 with scope mesh {:.2} {:.2}, with scope proxy {:.2} {:.2}",
        at(&mut mesh_ms, 0.5),
        at(&mut mesh_ms, 0.99),
        at(&mut local_ms, 0.5),
        at(&mut local_ms, 0.99),
    );
    assert!(calls <= 50, "{calls} round trips for {REQUESTS} requests");
}

/// A service that is too slow is one that does not answer: each policy, and back to normal when it is fast again.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_service_leaves_the_decision_to_the_policy() {
    for (policy, first, admitted) in [("open", 200, 20), ("closed", 503, 0), ("local", 200, 10)] {
        let stage = need!(Stage::start(10 * COST, policy, "200ms").await);
        // Who waited for its answer would take four times the bound below.
        stage.service.slow_down(4 * AT_ONCE);
        let url = stage.envoys[0].url();
        let began = Instant::now();
        assert_eq!(send(stage.clients[0].clone(), url.clone(), 0).await, first, "{policy}");
        assert!(began.elapsed() < AT_ONCE, "{policy}: it waited for {:?}", began.elapsed());
        let mut statuses = vec![first];
        for _ in 1..20 {
            statuses.push(send(stage.clients[0].clone(), url.clone(), 0).await);
        }
        let ok = statuses.iter().filter(|status| **status == 200).count();
        // Every second it is asked again, if only that many of them go by within these twenty.
        let (calls, seconds) = (stage.service.calls(), began.elapsed().as_secs());
        assert!(ok == admitted && calls <= 2 + seconds, "{policy}: {statuses:?}, {calls} calls in {seconds} s");
        stage.service.slow_down(Duration::ZERO);
        tokio::time::sleep(Duration::from_millis(1100)).await;
        let before = stage.service.calls();
        send(stage.clients[0].clone(), url, 0).await;
        assert!(stage.service.calls() > before, "{policy}: it is not asked any more");
    }
}

/// A service that restarts: while it is not there each policy holds, at once, and afterwards it goes on from where it was.
#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_restarts_leaves_the_decision_to_the_policy_and_counts_on() {
    for (policy, admitted) in [("open", 20), ("closed", 0), ("local", 10)] {
        let mut stage = need!(Stage::start(10 * COST, policy, "10s").await);
        let url = stage.envoys[0].url();
        for _ in 0..2 {
            assert_eq!(send(stage.clients[0].clone(), url.clone(), 0).await, 200, "{policy}");
        }
        let before = stage.service.calls();
        stage.service.stop();
        let mut ok = 0;
        for _ in 0..20 {
            let began = Instant::now();
            ok += usize::from(send(stage.clients[0].clone(), url.clone(), 0).await == 200);
            assert!(began.elapsed() < AT_ONCE, "{policy}: it waited for {:?}", began.elapsed());
        }
        assert_eq!((ok, stage.service.calls()), (admitted, before), "{policy}");
        let address = stage.service.address();
        stage.service =
            Service::start_at(address, &stage.redis, "shared", 10 * COST, WINDOW).await.expect("the address");
        // It is left alone for a second, and then Envoy may have to find out that it is there again. The first that it is asked for counts.
        let deadline = Instant::now() + PATIENCE;
        let mut ok = loop {
            let status = send(stage.clients[0].clone(), url.clone(), 0).await;
            if stage.service.calls() > 0 {
                break usize::from(status == 200);
            }
            assert!(Instant::now() < deadline, "{policy}: it is not asked any more");
            tokio::time::sleep(Duration::from_millis(200)).await;
        };
        for _ in 1..20 {
            ok += usize::from(send(stage.clients[0].clone(), url.clone(), 0).await == 200);
        }
        assert_eq!(ok, 8, "{policy}: two of ten were used before");
    }
}

/// Redis dies in the middle and comes back with what it had: over all no more is admitted than the budget holds.
#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_was_away_counts_nothing_twice() {
    const BUDGET: u64 = 100 * COST;
    let mut stage = need!(Stage::start(BUDGET, "closed", "2s").await);
    let mut ok = 0;
    let mut round = async |stage: &Stage, requests: usize| {
        let mut refused = 0;
        for n in 0..requests {
            match send(stage.clients[0].clone(), stage.envoys[n % 2].url(), 0).await {
                200 => ok += 1,
                429 | 503 => refused += 1,
                other => panic!("{other}"),
            }
        }
        (ok, refused)
    };
    round(&stage, 30).await;
    stage.redis.kill();
    // What is leased is still spent; then nothing can be asked.
    let (_, refused) = round(&stage, 60).await;
    assert!(refused > 30, "{refused} were refused while Redis was away");
    stage.redis.restart().expect("redis-server");
    let deadline = Instant::now() + PATIENCE;
    loop {
        let (ok, refused) = round(&stage, 40).await;
        assert!(ok as u64 * COST <= BUDGET, "{ok} were admitted");
        // All the budget is used but for leases whose answers were lost.
        if refused == 40 && ok >= 80 {
            return;
        }
        assert!(Instant::now() < deadline, "{ok} were admitted");
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

struct Stage {
    envoys: Vec<Envoy>,
    server: ModelServer,
    service: Service,
    redis: Redis,
    clients: Vec<Client>,
    config: Value,
}

impl Stage {
    async fn start(budget: u64, on_error: &str, timeout: &str) -> Result<Self, String> {
        module("penstock");
        let envoy = find_envoy()?;
        let redis = Redis::start()?;
        let service = Service::start(&redis, "shared", budget, WINDOW).await?;
        let options = Options { ttft_ms: 0, inter_token_ms: 0, ..Options::default() };
        let server = ModelServer::start(options).await.expect("a free port");
        let config = json!({
            "tenant": {"from": [{"header": "x-api-key"}]},
            "models": [{"name": "chat"}],
            "mesh": {"service": "ratelimit", "domain": DOMAIN, "timeout": timeout, "onError": on_error, "salt": "s"},
            "limits": [{"name": "shared", "per": ["tenant"], "tokens": budget, "every": "1h", "scope": "mesh"}],
        });
        let clients = (0..8).map(|_| Client::new()).collect();
        let mut stage = Self { envoys: Vec::new(), server, service, redis, clients, config };
        // In one of them the limits are a filter of their own, which decides at the headers.
        for chain in [Chain::One, Chain::RowInOneVm] {
            let rendered = stage.gateway(&stage.config).chain(chain).render();
            stage.envoys.push(Envoy::start(&envoy, &rendered, 2).await?);
        }
        Ok(stage)
    }

    fn gateway(&self, config: &Value) -> Gateway {
        let gateway = Gateway::load(&checkout(), "mesh.yaml").expect("mesh.yaml");
        let gateway = gateway.cluster("models", self.server.address()).cluster("ratelimit", self.service.address());
        gateway.plugin_config(config)
    }

    async fn envoy_of(&self, change: impl FnOnce(&mut Value)) -> Envoy {
        let mut config = self.config.clone();
        change(&mut config);
        let envoy = find_envoy().expect("it was there");
        Envoy::start(&envoy, &self.gateway(&config).render(), 2).await.expect("Envoy starts")
    }
}

async fn collect(tasks: Vec<tokio::task::JoinHandle<u16>>) -> BTreeMap<u16, u64> {
    let mut statuses = BTreeMap::new();
    for task in tasks {
        *statuses.entry(task.await.expect("a task")).or_insert(0) += 1;
    }
    statuses
}

async fn send(client: Client, url: String, after_ms: u64) -> u16 {
    tokio::time::sleep(Duration::from_millis(after_ms)).await;
    send_as(&client, &url, "one").await
}

/// A request of 8 + 2 tokens.
async fn send_as(client: &Client, url: &str, tenant: &str) -> u16 {
    let body = json!({"model": "chat", "max_tokens": 2, "messages": [{"role": "user", "content": "hello"}]});
    let request = client.post(format!("{url}/v1/chat/completions")).json(&body).header("x-api-key", tenant);
    let answer = request.header("x-model-server", r#"{"tokens":2}"#).send().await.expect("an answer");
    let status = answer.status().as_u16();
    let _ = answer.bytes().await;
    status
}
