//! `penstock simulate` computes what KEDA and the HPA do. Here the same script of what is pending goes through that arithmetic and through the real
//! ones, every time divided by 20, and the same replicas come out.

use std::time::Duration;

use penstock_cluster::scaling::{Options, deployment, shipped};
use penstock_simulate::{Autoscaler, Behavior, Demand, SECOND};
use serde_json::json;
use tokio::time::sleep;

use crate::stage::{Stage, run};

/// From which second on, in a cluster's own time, so many tokens are pending. A replica may have 48,000: 3 are wanted, 7, still 7 as a tenth more is
/// left alone, 2, 5, and none.
const SCRIPT: [(u64, f64); 6] =
    [(0, 140_000.0), (100, 330_000.0), (150, 365_000.0), (200, 96_000.0), (800, 230_000.0), (900, 0.0)];
const SECONDS: u64 = 1_400;
/// Shorter than shipped, for the sake of a short test; the rest is as it is shipped.
const WINDOW: u32 = 300;
const PERIOD: u32 = 60;
/// How far apart a step may be, in a cluster's own time: a scrape (20 s), a poll (20 s), and a machine with other things to do.
const APART_SECONDS: u64 = 120;

#[test]
fn the_simulation_does_what_keda_and_the_hpa_do() {
    let (max, target) = (8, 48_000.0);
    let wanted = simulated(max, target);
    let replicas: Vec<i32> = wanted.iter().map(|(_, replicas)| *replicas).collect();
    assert_eq!(replicas, [3, 7, 6, 5, 4, 3, 2, 5, 4, 3, 2, 1]);
    let options = Options::default();
    let times = u64::from(options.times);
    run(options, async |Stage { place, kubernetes, scaling }| {
        let name = "chat-small-stable";
        let gateway = &scaling.exporters[0];
        gateway.pending("chat-small", "stable", 0.0, 0.0);
        let mut objects = shipped(place, "istio/autoscaling")?;
        objects.retain(|object| object["metadata"]["name"] == name);
        let spec = &mut objects[0]["spec"];
        let threshold = spec["triggers"][0]["metadata"]["threshold"].as_str().and_then(|text| text.parse().ok());
        if spec["maxReplicaCount"] != max || threshold != Some(target) {
            return Err(format!("what is shipped is something else: {spec:#}"));
        }
        let down = &mut spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]["scaleDown"];
        down["stabilizationWindowSeconds"] = json!(WINDOW);
        down["policies"][0]["periodSeconds"] = json!(PERIOD);
        // The query holds the most of the window that was shipped, where there is nothing.
        objects.push(deployment(name, None));
        scaling.apply(kubernetes, objects).await?;
        scaling.until("1 replica", 30, |record| record.replicas(name) == 1).await?;
        // The HPA looks for the first time once it has a value.
        sleep(Duration::from_secs(5)).await;
        let (began, known) = (scaling.record.now(), scaling.record.of(name).len());
        for (number, (at, tokens)) in SCRIPT.into_iter().enumerate() {
            gateway.pending("chat-small", "stable", tokens, 0.0);
            // The real ones may come later, the last one too.
            let until = SCRIPT.get(number + 1).map_or(SECONDS + APART_SECONDS, |(next, _)| *next);
            sleep(Duration::from_millis((until - at) * 1_000 / times)).await;
        }
        let steps = scaling.record.of(name);
        let real: Vec<(u64, i32)> = steps[known..]
            .iter()
            .map(|step| ((step.at - began).as_secs_f64() * times as f64, step.replicas))
            .map(|(at, replicas)| (at.round() as u64, replicas))
            .collect();
        let went: Vec<i32> = real.iter().map(|(_, replicas)| *replicas).collect();
        if went != replicas {
            return Err(format!("the real ones went {real:?}, the simulated ones {wanted:?}"));
        }
        let apart = real.iter().zip(&wanted).map(|((real, _), (simulated, _))| real.abs_diff(*simulated)).max();
        println!("{apart:?} s apart at most: {real:?} and {wanted:?}");
        if apart.is_none_or(|apart| apart > APART_SECONDS) {
            return Err(format!("{apart:?} s apart: the real ones went {real:?}, the simulated ones {wanted:?}"));
        }
        Ok(())
    });
}

/// Each change of the number of replicas, and when.
fn simulated(max: u32, target: f64) -> Vec<(u64, i32)> {
    let mut autoscaler = Autoscaler::new(Behavior::one_step(max, WINDOW, PERIOD), 1, max, 0);
    let (mut current, mut changes) = (1, Vec::new());
    for now in 0..SECONDS {
        let pending = SCRIPT.iter().rev().find(|(from, _)| *from <= now).map_or(0.0, |(_, tokens)| *tokens);
        let demands = [Demand { value: Some(pending), target }];
        let mut next = current;
        if now % 5 == 0 {
            next = autoscaler.poll(now * SECOND, next, &demands);
        }
        if now % 15 == 0 {
            next = autoscaler.sync(now * SECOND, next, &demands);
        }
        if next != current {
            changes.push((now, i32::try_from(next).expect("few")));
        }
        current = next;
    }
    changes
}
