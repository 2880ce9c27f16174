//! `scope: mesh` with envoyproxy/ratelimit: two gateways, one budget.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::StreamExt;
use penstock_cluster::gateway::{self, Gateway};
use penstock_cluster::process::eventually;
use penstock_cluster::rate_limit::{self, RateLimit};
use penstock_harness::{model_server, skipped};
use serde_json::json;

use crate::stage::{Answer, Base, HOST, PATIENCE_SECONDS, Set, Stage, configure, run, shipped};

const BUDGET: u64 = 2005;
/// What every request reserves and uses.
const COST: u64 = 10;
/// The service counts what it refuses: the lease that does not fit any more ends the day for all. A lease is at most this part of a budget.
const LEASES: u64 = 16;

/// Together they admit what the budget holds, not a token more, and but for a lease not less.
#[test]
fn two_gateways_share_a_budget_that_a_service_keeps() {
    run(async |base| {
        if let Err(message) = RateLimit::possible() {
            return skipped(&message);
        }
        for set in Set::BOTH {
            wait_for_a_day_that_lasts().await;
            two_gateways_share(base, set).await;
        }
    });
}

async fn two_gateways_share(base: &'static Base, set: Set) {
    let _service =
        RateLimit::start(&base.place, "llm", "shared", BUDGET).await.unwrap_or_else(|message| panic!("{message}"));
    let mut objects = shipped(base, set, "stage");
    configure(&mut objects, set, |config| {
        config["mesh"] = json!({"service": rate_limit::CLUSTER, "domain": "llm", "timeout": "10s", "onError": "closed", "salt": "s"});
        config["limits"] =
            json!([{"name": "shared", "per": ["tenant"], "tokens": BUDGET, "every": "24h", "scope": "mesh"}]);
        config["models"][1]["tokenizer"] = json!("o200k_base");
    });
    objects.extend(rate_limit::objects());
    let stage = Stage::with(base, objects, model_server::Options::default()).await;
    let options = gateway::Options { name: "gateway-1".to_owned(), port_offset: 100, ..gateway::Options::default() };
    let second = Gateway::start(&base.place, &base.mesh, options).await.unwrap_or_else(|message| panic!("{message}"));
    let gateways = [&stage.gateway, &second];
    until_both_count(&gateways).await;

    let mut statuses: BTreeMap<u16, u64> = BTreeMap::new();
    let storm = futures_util::stream::iter(0..300).map(|_| ask("chat-small", "one")).buffer_unordered(16);
    for answer in storm.collect::<Vec<_>>().await {
        *statuses.entry(answer.expect("an answer").status).or_insert(0) += 1;
    }
    assert!(statuses.keys().all(|status| matches!(status, 200 | 429)), "{statuses:?}");
    let mut ok = statuses.get(&200).copied().unwrap_or(0);
    // In the storm somebody was refused while a lease was on its way; whoever comes now gets it.
    let mut refused = 0;
    while refused < 20 {
        match ask("chat-small", "one").await.expect("an answer").status {
            200 => (ok, refused) = (ok + 1, 0),
            _ => refused += 1,
        }
    }
    println!("{ok} requests of {COST} tokens were admitted by a budget of {BUDGET}");
    assert!(ok * COST <= BUDGET, "{ok} were admitted");
    // What is left in each gateway is less than a request.
    assert!((ok + 2) * COST + BUDGET.div_ceil(LEASES) >= BUDGET, "only {ok} were admitted");
    let told = eventually("the metrics of both", PATIENCE_SECONDS, || async {
        let share = [served(gateways[0], "chat-small").await, served(gateways[1], "chat-small").await];
        let is_well = share.iter().sum::<f64>() == ok as f64 && share.iter().all(|share| *share >= 10.0);
        if is_well { Ok(()) } else { Err(format!("{share:?} of {ok}")) }
    });
    told.await.unwrap_or_else(|message| panic!("{message}"));
    let other = ask("chat-small", "someone else").await.expect("an answer");
    assert_eq!(other.status, 200, "another tenant has a budget of its own: {other:?}");
}

/// The service's windows end with the day: a test that goes on into the next one has two budgets.
async fn wait_for_a_day_that_lasts() {
    const DAY: u64 = 86_400;
    const NEEDED: u64 = 180;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_secs();
    let left = DAY - now % DAY;
    if left < NEEDED {
        tokio::time::sleep(Duration::from_secs(left)).await;
    }
}

/// Both gateways listen on the same port: the kernel gives each connection to one of them, and each request has a connection of its own.
pub async fn ask(model: &str, tenant: &str) -> Result<Answer, String> {
    let http = reqwest::Client::builder()
        .pool_max_idle_per_host(0)
        .timeout(Duration::from_secs(30))
        .build()
        .expect("a client");
    let body = json!({"model": model, "max_tokens": 2, "messages": [{"role": "user", "content": "hello"}]});
    let request = http.post("http://127.0.0.1/v1/chat/completions").json(&body).header("host", HOST);
    let request = request.header("x-api-key", tenant).header("x-model-server", r#"{"tokens":2}"#);
    Answer::read(request.send().await.map_err(|error| error.to_string())?).await
}

pub async fn until_both_count(gateways: &[&Gateway; 2]) {
    let counted = eventually("both gateways count", PATIENCE_SECONDS, || async {
        for _ in 0..10 {
            let answer = ask("chat", "somebody").await?;
            if answer.status != 200 || !answer.has("x-penstock-prompt-tokens") {
                return Err(format!("{answer:?}"));
            }
        }
        for gateway in gateways {
            if served(gateway, "chat").await == 0.0 {
                return Err("one has served nothing".to_owned());
            }
        }
        Ok(())
    });
    counted.await.unwrap_or_else(|message| panic!("{message}"));
}

async fn served(gateway: &Gateway, model: &str) -> f64 {
    let ok = [("model", model), ("outcome", "ok")];
    gateway.metrics().await.expect("metrics").sum("penstock_requests_total", &ok)
}
