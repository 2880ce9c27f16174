//! What is shipped, on the chain: the ScaledObjects of `istio/autoscaling` and the rules of `istio/monitoring`, every time divided by 20, in what
//! docs/autoscale.md tells of. Pages of metrics stand for gateways.

use std::collections::BTreeMap;
use std::time::Duration;

use penstock_cluster::kubernetes::Kubernetes;
use penstock_cluster::process::eventually;
use penstock_cluster::scaling::{Exporter, JOB, Options, Record, Scaling, deployment, shipped};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::stage::{Stage, run};

/// The versions of the shipped set.
const VERSIONS: [(&str, &str); 3] = [("chat", "stable"), ("chat", "canary"), ("chat-small", "stable")];

/// Each gateway is scraped by two jobs, as where a Prometheus scrapes all pods that are annotated as well.
fn scraped_twice(gateways: usize) -> Options {
    Options { gateways, jobs: vec![JOB.to_owned(), "pods".to_owned()], ..Options::default() }
}

/// Woken by what was refused for want of a replica, and walked down to the end; at once, and not twice; while a gateway is dark; while a model is
/// gone. Each on a version of its own, at the same time.
#[test]
fn replicas_follow_each_version_s_own_demand() {
    run(scraped_twice(2), async |Stage { place, kubernetes, scaling }| {
        let gateways = &scaling.exporters;
        gateways.iter().for_each(quiet);
        // Three quarters of what arrives come by the gateway that is going to be dark, and all that waits.
        arrives_for(&gateways[0], "chat", "stable", 6.3);
        arrives_for(&gateways[1], "chat", "stable", 2.1);
        gateways[0].pending("chat", "stable", 60_000.0, 20_000.0);
        scaling.load_rules(shipped(place, "istio/monitoring")?).await?;
        let mut objects = shipped(place, "istio/autoscaling")?;
        // The canary alone may go to 0.
        named(&mut objects, "chat-canary")["spec"]["minReplicaCount"] = json!(0);
        deploy(kubernetes, scaling, objects).await?;
        let scaling = &*scaling;
        tokio::try_join!(to_zero_and_back(scaling), while_a_gateway_is_dark(scaling), while_a_model_is_gone(scaling))?;
        Ok(())
    });
}

async fn to_zero_and_back(scaling: &Scaling) -> Result<(), String> {
    let gateway = &scaling.exporters[1];
    let has = |replicas: i32| move |record: &Record| record.replicas("chat-canary") == replicas;
    scaling.until("an idle canary goes", 30, has(0)).await?;
    // It has no replica: what is admitted is answered with 503, and is never pending.
    arrives(gateway, "chat", "canary", "prompt", 200.0);
    scaling.until("what was refused wakes it", 30, has(1)).await?;
    gateway.pending("chat", "canary", 96_000.0, 0.0);
    scaling.until("96,000 tokens are 4 replicas' of 12,000 a second, in 2 s", 30, has(4)).await?;
    gateway.pending("chat", "canary", 0.0, 0.0);
    arrives(gateway, "chat", "canary", "prompt", 0.0);
    scaling.until("it goes again", 180, has(0)).await?;
    expect(scaling, "chat-canary", &[1, 0, 1, 4, 3, 2, 1, 0])
}

async fn while_a_gateway_is_dark(scaling: &Scaling) -> Result<(), String> {
    let gateway = &scaling.exporters[0];
    scaling.until("9 replicas", 30, |record| record.replicas("chat-stable") == 9).await?;
    gateway.dark(true);
    // As much longer than the window of the HPA, which would hold for 30 s by itself.
    sleep(Duration::from_secs(45)).await;
    stays(scaling, "chat-stable", &[1, 9])?;
    fires(scaling, "PenstockGatewayDark", "pod", "gateway-0").await?;
    // Its counters have risen meanwhile.
    gateway.dark(false);
    sleep(Duration::from_secs(5)).await;
    stays(scaling, "chat-stable", &[1, 9])
}

async fn while_a_model_is_gone(scaling: &Scaling) -> Result<(), String> {
    scaling.exporters[1].pending("chat-small", "stable", 120_000.0, 24_000.0);
    scaling.until("3 replicas", 30, |record| record.replicas("chat-small-stable") == 3).await?;
    scaling.exporters.iter().for_each(|gateway| gateway.forget(&[("model", "chat-small")]));
    // The window of the query and that of the HPA are over by then, and KEDA has no answer.
    sleep(Duration::from_secs(75)).await;
    expect(scaling, "chat-small-stable", &[1, 3])?;
    fires(scaling, "PenstockModelMissing", "model", "chat-small").await
}

/// A Prometheus that starts anew changes nothing. One that stays away raises what is below `fallback.replicas`, and nothing else.
#[test]
fn a_prometheus_that_is_away_takes_nobody_and_raises_nobody_further_than_it_says() {
    run(scraped_twice(1), async |Stage { place, kubernetes, scaling }| {
        let gateway = &scaling.exporters[0];
        quiet(gateway);
        // Twice as many were over 90 % of the ceiling of 400,000. What arrives is less than what waits, and rises on; what waits asks for twice the
        // work that arrives, 8.96, until it has stood.
        gateway.pending("chat", "stable", 300_000.0, 40_000.0);
        arrives_for(gateway, "chat", "stable", 6.4);
        // Here nothing waits: its counters alone make replicas, more than the fallback has.
        arrives_for(gateway, "chat", "canary", 2.4);
        scaling.load_rules(shipped(place, "istio/monitoring")?).await?;
        let objects = shipped(place, "istio/autoscaling")?;
        deploy(kubernetes, scaling, objects).await?;
        scaling.until("13 replicas", 30, |record| record.replicas("chat-stable") == 13).await?;
        scaling.until("3 of the canary", 30, |record| record.replicas("chat-canary") == 3).await?;
        sleep(Duration::from_secs(18)).await;
        let near = firing(scaling, "PenstockNearCeiling").await?;
        if !near.is_empty() {
            return Err(format!("one gateway counts as two: {near:?}"));
        }
        // 30 s of real time.
        scaling.prometheus.stop().await?;
        sleep(Duration::from_millis(1_500)).await;
        scaling.prometheus.resume().await?;
        sleep(Duration::from_secs(4)).await;
        expect(scaling, "chat-stable", &[1, 9, 13])?;
        stays(scaling, "chat-canary", &[1, 3])?;
        expect(scaling, "chat-small-stable", &[1])?;
        scaling.prometheus.stop().await?;
        scaling.until("the fallback", 60, |record| record.replicas("chat-small-stable") == 2).await?;
        sleep(Duration::from_secs(5)).await;
        expect(scaling, "chat-stable", &[1, 9, 13])?;
        stays(scaling, "chat-canary", &[1, 3])?;
        expect(scaling, "chat-small-stable", &[1, 2])?;
        // The counters have risen meanwhile, and rise on: they are no burst.
        scaling.prometheus.resume().await?;
        sleep(Duration::from_secs(5)).await;
        expect(scaling, "chat-stable", &[1, 9, 13])?;
        stays(scaling, "chat-canary", &[1, 3])
    });
}

/// A gateway's page as it is from the first tick on: everything is there, at 0.
fn quiet(gateway: &Exporter) {
    for (model, version) in VERSIONS {
        gateway.pending(model, version, 0.0, 0.0);
        for kind in ["prompt", "cached", "expected"] {
            arrives(gateway, model, version, kind, 0.0);
        }
        gateway.rise("penstock_refused_demand_tokens_total", &[("model", model), ("reason", "shed")], 0.0);
    }
}

fn arrives(gateway: &Exporter, model: &str, version: &str, kind: &str, per_second: f64) {
    let labels = [("model", model), ("version", version), ("kind", kind)];
    gateway.rise("penstock_admitted_tokens_total", &labels, per_second);
}

/// What arrives at a version that so many replicas are wanted for: at 12,000 prompt tokens and 1,800 generated ones a second each, of whose
/// time 0.7 are spoken for. Half of it is prompts, a quarter of which was cached.
fn arrives_for(gateway: &Exporter, model: &str, version: &str, replicas: f64) {
    let half = replicas * 0.7 / 2.0;
    let prompt = half * 12_000.0 / 0.75;
    for (kind, per_second) in [("prompt", prompt), ("cached", prompt / 4.0), ("expected", half * 1_800.0)] {
        arrives(gateway, model, version, kind, per_second);
    }
}

/// The Deployments of these ScaledObjects, and once there is an answer to all that they ask, they.
async fn deploy(kubernetes: &Kubernetes, scaling: &Scaling, objects: Vec<Value>) -> Result<(), String> {
    let names = objects.iter().filter_map(|object| object["spec"]["scaleTargetRef"]["name"].as_str());
    let deployments = names.map(|name| deployment(name, None)).collect();
    scaling.apply(kubernetes, deployments).await?;
    // With fewer samples than their window has room for, rates of counters that rise are too low.
    let is_there = async || {
        let found = scaling.prometheus.query("count(count_over_time(penstock_admitted_tokens_total[4s]) >= 4)").await?;
        let wanted = VERSIONS.len() * 3 * scaling.exporters.len() * 2;
        if found == [wanted as f64] { Ok(()) } else { Err(format!("{found:?} series of {wanted}")) }
    };
    eventually("four scrapes of each gateway", 30, is_there).await?;
    scaling.apply(kubernetes, objects).await
}

fn named<'a>(objects: &'a mut [Value], name: &str) -> &'a mut Value {
    objects.iter_mut().find(|object| object["metadata"]["name"] == name).expect("it is shipped")
}

/// What became of a Deployment's replicas, from the beginning until now.
fn expect(scaling: &Scaling, name: &str, wanted: &[i32]) -> Result<(), String> {
    let walked: Vec<i32> = scaling.record.of(name).iter().map(|step| step.replicas).collect();
    if walked == wanted { Ok(()) } else { Err(format!("{name} went {walked:?}, and not {wanted:?}")) }
}

/// As [`expect`], where counters decide: a scrape that came late may be worth one replica more, and is not worth one less.
fn stays(scaling: &Scaling, name: &str, wanted: &[i32]) -> Result<(), String> {
    let walked: Vec<i32> = scaling.record.of(name).iter().map(|step| step.replicas).collect();
    let more: Vec<i32> = wanted.iter().copied().chain(wanted.last().map(|last| last + 1)).collect();
    if walked == wanted || walked == more { Ok(()) } else { Err(format!("{name} went {walked:?}, and not {wanted:?}")) }
}

async fn firing(scaling: &Scaling, alert: &str) -> Result<Vec<BTreeMap<String, String>>, String> {
    let all = scaling.prometheus.firing().await?;
    Ok(all.into_iter().filter(|labels| labels.get("alertname").is_some_and(|name| name == alert)).collect())
}

async fn fires(scaling: &Scaling, alert: &str, label: &str, value: &str) -> Result<(), String> {
    let all = firing(scaling, alert).await?;
    let is_it = all.iter().any(|labels| labels.get(label).is_some_and(|own| own == value));
    if is_it { Ok(()) } else { Err(format!("no {alert} fires with {label}={value}: {all:?}")) }
}
