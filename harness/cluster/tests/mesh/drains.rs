//! A gateway that has to go while it streams, with the drain settings that are shipped; times are divided by ten.

use std::time::{Duration, Instant};

use penstock_cluster::gateway::{self, Gateway};
use penstock_cluster::process::{eventually, page};
use penstock_cluster::{objects, servers};
use penstock_harness::envoy::Metrics;
use penstock_harness::model_server;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::shared_limits::{ask, until_both_count};
use crate::stage::{Base, HOST, PATIENCE_SECONDS, Set, Stage, run, shipped};

const STREAMS: usize = 16;
/// Each takes ten seconds, twice as long as the gateway takes new connections once it has to go.
const TOKENS: u64 = 100;
const DRAIN_SECONDS: u64 = 5;

#[test]
fn a_gateway_that_has_to_go_ends_its_streams_and_the_other_takes_what_comes() {
    run(async |base| {
        let gateway = |name: &str, port_offset| gateway::Options {
            name: name.to_owned(),
            port_offset,
            env: shipped_env(base),
            ..gateway::Options::default()
        };
        let objects = shipped(base, Set::TrafficExtension, "stage");
        let options = model_server::Options { ttft_ms: 0, ..model_server::Options::default() };
        let mut stage = Stage::behind(base, objects, options, servers::objects, gateway("gateway-0", 0)).await;
        let other = Gateway::start(&base.place, &base.mesh, gateway("gateway-1", 100)).await;
        let other = other.unwrap_or_else(|message| panic!("{message}"));
        until_both_count(&[&stage.gateway, &other]).await;

        let streams: Vec<_> = (0..STREAMS).map(|number| tokio::spawn(stream(number))).collect();
        let shares = eventually("all streams are pending", PATIENCE_SECONDS, async || {
            let shares = [pending(&stage.gateway.metrics().await?), pending(&other.metrics().await?)];
            let is_all = shares.iter().sum::<usize>() == STREAMS && !shares.contains(&0);
            if is_all { Ok(shares) } else { Err(format!("{shares:?}")) }
        });
        let shares = shares.await.unwrap_or_else(|message| panic!("{message}"));
        // Connections without a request: the gateway waits for them as well, so that what it counted can still be read at the end.
        let mut idle = Vec::new();
        for _ in 0..STREAMS {
            idle.push(TcpStream::connect("127.0.0.1:80").await.expect("a connection"));
        }

        let asked = Instant::now();
        stage.gateway.ask_to_end();
        let ready = stage.gateway.ready_url();
        let unready = eventually("the pod is no longer ready", PATIENCE_SECONDS, async || match page(&ready).await {
            Ok(_) => Err("it is".to_owned()),
            Err(_) => Ok(()),
        });
        unready.await.unwrap_or_else(|message| panic!("{message}"));
        let unready_after = asked.elapsed();
        assert_eq!(pending(&other.metrics().await.expect("metrics")), shares[1], "the other has what it had");
        let scraped = stage.gateway.metrics().await;
        assert!(scraped.is_err(), "the agent is still there to be scraped: say so in docs/install-istio.md");
        // Whoever connects all the same is served, by either; later by the other alone.
        while asked.elapsed() < Duration::from_secs(DRAIN_SECONDS + 1) {
            serves(&format!("during-{:?}", asked.elapsed())).await;
        }
        let scraped = page(&format!("http://{}/stats/prometheus", stage.gateway.envoy_metrics())).await;
        assert!(scraped.is_err(), "Prometheus sees what it streams: say so in docs/install-istio.md");
        let before = ok(&other.metrics().await.expect("metrics"));
        for number in 0..20 {
            serves(&format!("after-{number}")).await;
        }
        let all_went_there = eventually("the other served them", PATIENCE_SECONDS, async || {
            let now = ok(&other.metrics().await?);
            if now >= before + 20 { Ok(()) } else { Err(format!("{before} to {now}")) }
        });
        all_went_there.await.unwrap_or_else(|message| panic!("{message}"));
        for (number, stream) in streams.into_iter().enumerate() {
            let text = stream.await.expect("a task").unwrap_or_else(|error| panic!("stream {number}: {error}"));
            assert!(text.ends_with("data: [DONE]\n\n"), "stream {number} was cut off: {text}");
        }
        let streamed_after = asked.elapsed();

        let counted = eventually("each is counted and charged once", PATIENCE_SECONDS, async || {
            let both = [own_metrics(&stage.gateway).await?, other.metrics().await?];
            let here = [both.iter().map(ok).sum::<usize>() as u64, both.iter().map(prompts).sum()];
            let totals = stage.servers.iter().map(|server| server.server.totals());
            let there = totals.fold([0, 0], |[n, tokens], one| [n + one.completed, tokens + one.prompt_tokens]);
            let left: usize = both.iter().map(pending).sum();
            if here == there && left == 0 { Ok(here) } else { Err(format!("{here:?}, {there:?}, {left} pending")) }
        });
        let counted = counted.await.unwrap_or_else(|message| panic!("{message}"));
        drop(idle);
        stage.gateway.ended(PATIENCE_SECONDS).await.unwrap_or_else(|message| panic!("{message}"));
        println!(
            "of {STREAMS} streams {} were in the gateway that had to go: unready after {unready_after:?}, all whole after {streamed_after:?}, \
             ended after {:?}; {counted:?} requests and prompt tokens by both sides",
            shares[0],
            asked.elapsed()
        );
    });
}

/// The environment of a gateway as it is shipped, a second for each ten.
fn shipped_env(base: &Base) -> Vec<(String, String)> {
    let values = objects::read(&base.place.checkout.join("istio/mesh/values-gateway.yaml")).expect("the values");
    let env = values[0]["env"].as_object().expect("variables");
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let mut env: Vec<_> = env.iter().map(|(name, value)| (name.clone(), text(value))).collect();
    let least = env.iter_mut().find(|(name, _)| name == "MINIMUM_DRAIN_DURATION").expect("how long it drains");
    let seconds: u64 = least.1.trim_end_matches('s').parse().expect("seconds");
    least.1 = format!("{}ms", seconds * 100);
    env
}

/// A stream of its own caller, on a connection of its own.
async fn stream(number: usize) -> Result<String, String> {
    let client = reqwest::Client::builder().pool_max_idle_per_host(0).build().map_err(|error| error.to_string())?;
    let body = json!({"model": "chat", "stream": true, "max_tokens": TOKENS, "messages": [{"role": "user", "content": "hello"}]});
    let script = json!({"tokens": TOKENS, "ttft_ms": 0, "inter_token_ms": 100}).to_string();
    let request = client.post("http://127.0.0.1/v1/chat/completions").json(&body).header("host", HOST);
    let request = request.header("x-api-key", format!("streamer-{number}")).header("x-model-server", script);
    let answer = request.send().await.map_err(|error| error.to_string())?;
    answer.error_for_status().map_err(|error| error.to_string())?.text().await.map_err(|error| error.to_string())
}

/// A request on a new connection is answered. One that is refused, as a listener that is being closed does, is made again, as every client
/// does that has sent nothing yet.
async fn serves(tenant: &str) {
    let answer = match ask("chat", tenant).await {
        Ok(answer) => answer,
        Err(_) => ask("chat", tenant).await.unwrap_or_else(|error| panic!("{tenant}: {error}")),
    };
    assert_eq!(answer.status, 200, "{tenant}: {answer:?}");
    tokio::time::sleep(Duration::from_millis(50)).await;
}

/// The agent's page of metrics ends when it is asked to end; Envoy's own does not.
async fn own_metrics(gateway: &Gateway) -> Result<Metrics, String> {
    Ok(Metrics::parse(&gateway.admin("/stats/prometheus").await?))
}

fn pending(metrics: &Metrics) -> usize {
    metrics.sum("penstock_pending_requests", &[]) as usize
}

fn ok(metrics: &Metrics) -> usize {
    metrics.sum("penstock_requests_total", &[("outcome", "ok")]) as usize
}

fn prompts(metrics: &Metrics) -> u64 {
    metrics.sum("penstock_tokens_total", &[("kind", "prompt")]) as u64
}
