//! From no replica to one: the requests that wait for it are what starts it, and it answers them.

use std::time::{Duration, Instant};

use penstock_cluster::closed_loop::{
    DEPLOYMENT, Front, HOST, MODEL, URL, VERSION, configure, ready, scaled_object, set,
};
use penstock_cluster::process::eventually;
use penstock_cluster::scaling::{self, condition, deployment};
use penstock_harness::envoy::Metrics;
use penstock_harness::model_server;
use serde_json::{Value, json};

use crate::stage::{Stage, run};

/// What a request goes to, as Envoy calls it: the subset that the DestinationRule has for the version.
const CLUSTER: &str = "outbound|8000|stable|chat.llm.svc.cluster.local";
/// How long a replica loads.
const COLD_START: Duration = Duration::from_secs(3);
/// Callers, of whom one streams.
const CALLERS: usize = 3;
const PATIENCE_SECONDS: u64 = 60;

const OWN: [(&str, &str); 2] = [("model", MODEL), ("version", VERSION)];

#[test]
fn requests_that_wait_for_a_server_start_one_and_are_answered_by_it() {
    let options = scaling::Options { gateways: 0, ..scaling::Options::default() };
    run(options, async |Stage { place, kubernetes, scaling }| {
        let mut objects = set(place)?;
        configure(&mut objects, |model| {
            for version in
                model["versions"].as_array_mut().into_iter().flatten().filter(|version| version["name"] == VERSION)
            {
                version["coldStart"] = json!({"cluster": CLUSTER, "hold": "60s"});
            }
        });
        let load_ms = COLD_START.as_millis() as u64;
        let servers = model_server::Options { load_ms, ttft_ms: 5, ..model_server::Options::default() };
        let front = Front::start(place, kubernetes, scaling, objects, servers).await?;
        let mut none = deployment(DEPLOYMENT, Some("node-0"));
        none["spec"]["replicas"] = json!(0);
        scaling.apply(kubernetes, vec![none]).await?;
        eventually("the module is in force", PATIENCE_SECONDS, refuses_what_it_does_not_know).await?;
        eventually("the route is there, and has no server", PATIENCE_SECONDS, has_no_server).await?;
        let series = async || match scaling.prometheus.query(&rates()).await?.as_slice() {
            [3.0] => Ok(()),
            other => Err(format!("rates of {other:?} counters")),
        };
        eventually("two scrapes", PATIENCE_SECONDS, series).await?;
        let mut wanted = scaled_object(place)?;
        wanted["spec"]["minReplicaCount"] = json!(0);
        scaling.apply(kubernetes, vec![wanted]).await?;
        eventually("the ScaledObject", PATIENCE_SECONDS, || ready(kubernetes)).await?;
        let active = async |wanted: &str| match condition(kubernetes, DEPLOYMENT, "Active").await? {
            is if is == wanted => Ok(()),
            is => Err(format!("Active is {is}")),
        };
        eventually("KEDA has nothing to do", PATIENCE_SECONDS, || active("False")).await?;
        assert_eq!((scaling.record.replicas(DEPLOYMENT), front.fleet.running()), (0, 0));

        let asked = Instant::now();
        let callers: Vec<_> = (0..CALLERS).map(|number| tokio::spawn(ask(number))).collect();
        let held = async || {
            let metrics = front.gateway.metrics().await?;
            let waiting = metrics.sum("penstock_pending_requests", &OWN);
            let waited = metrics.sum("penstock_oldest_wait_milliseconds", &OWN);
            let is_so = waiting == CALLERS as f64 && waited > 0.0;
            if is_so { Ok(metrics) } else { Err(format!("{waiting} are pending, for {waited} ms")) }
        };
        let metrics = eventually("all of them wait", PATIENCE_SECONDS, held).await?;
        assert_eq!(front.fleet.serving(), 0, "for a server");
        let prompts = metrics.sum("penstock_pending_tokens", &with("phase", "prefill"));
        assert!(prompts > 0.0, "{metrics:?}");
        assert_eq!(metrics.sum("penstock_admitted_tokens_total", &with("kind", "prompt")), prompts);
        scaling.until("KEDA starts a replica", PATIENCE_SECONDS, |record| record.replicas(DEPLOYMENT) == 1).await?;
        let started = asked.elapsed();

        let mut pods = Vec::new();
        for caller in callers {
            pods.push(caller.await.map_err(|error| error.to_string())??);
        }
        let answered = asked.elapsed();
        assert!(answered >= COLD_START, "{answered:?}");
        println!(
            "asked of no server: a replica was wanted after {started:?}, and all were answered after {answered:?}"
        );
        eventually("it is active", PATIENCE_SECONDS, || active("True")).await?;
        let steps: Vec<i32> = scaling.record.of(DEPLOYMENT).iter().map(|step| step.replicas).collect();
        assert_eq!((steps.as_slice(), front.fleet.running()), ([0, 1].as_slice(), 1));
        pods.dedup();
        assert_eq!(pods.len(), 1, "{pods:?}");
        let seen = front.fleet.requests();
        assert_eq!(seen.len(), CALLERS, "none is lost, and none is asked twice: {seen:?}");
        assert!(seen.iter().all(|one| one.done && !one.client_gone && one.status == 200), "{seen:?}");

        let counted = async || {
            let metrics = front.gateway.metrics().await?;
            let ok = metrics.sum("penstock_requests_total", &with("outcome", "ok"));
            let left = metrics.sum("penstock_pending_tokens", &OWN);
            if (ok, left) == (CALLERS as f64, 0.0) {
                Ok(metrics)
            } else {
                Err(format!("{ok} are ok, {left} tokens pending"))
            }
        };
        let metrics = eventually("each is counted once", PATIENCE_SECONDS, counted).await?;
        let read: u64 = seen.iter().map(|one| one.prompt_tokens).sum();
        assert_eq!(metrics.sum("penstock_tokens_total", &with("kind", "prompt")), read as f64);
        assert_eq!(refused(&metrics), 0.0, "nobody was refused for want of a server");
        told_in_the_access_log(&front).await?;
        let began = Instant::now();
        ask(CALLERS).await?;
        assert!(began.elapsed() < COLD_START, "who comes now waits for nobody: {:?}", began.elapsed());
        Ok(())
    });
}

/// What the version's query needs before it answers.
fn rates() -> String {
    format!(
        "count(count by (kind) (rate(penstock_admitted_tokens_total{{model=\"{MODEL}\",version=\"{VERSION}\"}}[3s])))"
    )
}

/// The filter itself answers for a model that nobody configured.
async fn refuses_what_it_does_not_know() -> Result<(), String> {
    let answer = post("no-such-model", false, "nobody").await?;
    let (status, body) = (answer.status(), answer.text().await.map_err(|error| error.to_string())?);
    if status == 404 && body.contains("model_not_found") { Ok(()) } else { Err(format!("{status}: {body}")) }
}

/// Without a route the gateway answers 404. The filter lets this path pass, and nobody waits there.
async fn has_no_server() -> Result<(), String> {
    let request = reqwest::Client::new().get("http://127.0.0.1/health").header("host", HOST);
    let status = request.send().await.map_err(|error| error.to_string())?.status();
    if status == 503 { Ok(()) } else { Err(status.to_string()) }
}

async fn post(model: &str, stream: bool, tenant: &str) -> Result<reqwest::Response, String> {
    let body = json!({"model": model, "max_tokens": 8, "stream": stream, "messages": [{"role": "user", "content": "Say hello."}]});
    let request = reqwest::Client::new().post(URL).header("host", HOST).header("x-api-key", tenant).json(&body);
    request.send().await.map_err(|error| error.to_string())
}

/// One request of a caller of its own, sent once; which pod has answered it.
async fn ask(number: usize) -> Result<String, String> {
    let stream = number == 0;
    let answer = post(MODEL, stream, &format!("caller-{number}")).await?;
    let (status, headers) = (answer.status(), answer.headers().clone());
    let body = answer.text().await.map_err(|error| format!("{number}: {error}"))?;
    let is_whole = if stream { body.ends_with("data: [DONE]\n\n") } else { body.contains("\"usage\"") };
    let header = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if status != 200 || !is_whole || header("x-penstock-version") != VERSION {
        return Err(format!("{number}: {status} {headers:?} {body}"));
    }
    Ok(header("x-served-by").to_owned())
}

fn with<'a>(name: &'a str, value: &'a str) -> Vec<(&'a str, &'a str)> {
    [OWN.as_slice(), &[(name, value)]].concat()
}

fn refused(metrics: &Metrics) -> f64 {
    metrics.sum("penstock_refused_demand_tokens_total", &[("model", MODEL)])
}

/// The line of each says how long it waited, and that it went on.
async fn told_in_the_access_log(front: &Front) -> Result<(), String> {
    let waited = |line: &str| {
        let line: Value = serde_json::from_str(line).ok()?;
        let facts: Value = serde_json::from_str(line["penstock"].as_str()?).ok()?;
        (facts["held"]["waits"] != true).then_some(facts["held"]["ms"].as_u64()?)
    };
    let told = async || {
        let all: Vec<u64> = front.gateway.log().lines().filter_map(waited).collect();
        if all.len() == CALLERS { Ok(all) } else { Err(format!("{all:?}")) }
    };
    let all = eventually("the access log", PATIENCE_SECONDS, told).await?;
    // All were asked within a moment, while the replica took so long to load.
    if all.iter().all(|ms| u128::from(*ms) >= COLD_START.as_millis()) {
        Ok(())
    } else {
        Err(format!("held for {all:?} ms"))
    }
}
