//! The chain itself: what is set on a gateway's page arrives as replicas, and is taken back.

use penstock_cluster::process::eventually;
use penstock_cluster::scaling::{Options, Prometheus, condition, deployment, shipped};
use serde_json::{Value, json};

use crate::stage::{Stage, run};

#[test]
fn replicas_follow_a_gauge_up_and_down() {
    run(Options::default(), async |Stage { kubernetes, scaling, .. }| {
        scaling.exporters[0].pending("chat", "stable", 0.0, 0.0);
        scaling.apply(kubernetes, vec![deployment("chat-stable", None), scaled_object()]).await?;
        scaling.until("1 replica", 30, |record| record.replicas("chat-stable") == 1).await?;
        scaling.exporters[0].pending("chat", "stable", 60_000.0, 20_000.0);
        scaling.until("4 replicas", 30, |record| record.replicas("chat-stable") == 4).await?;
        // Without a series nobody knows anything, and nothing is done.
        scaling.exporters[0].dark(true);
        eventually("it is dark", 10, || is_down(&scaling.prometheus)).await?;
        scaling.exporters[0].dark(false);
        scaling.exporters[0].pending("chat", "stable", 1_000.0, 0.0);
        scaling.until("1 replica", 60, |record| record.replicas("chat-stable") == 1).await?;
        let walked: Vec<i32> = scaling.record.of("chat-stable").iter().map(|step| step.replicas).collect();
        assert_eq!(walked, [1, 4, 3, 2, 1]);
        Ok(())
    });
}

#[test]
fn what_is_shipped_is_taken() {
    run(Options::default(), async |Stage { place, kubernetes, scaling }| {
        let mut objects = shipped(place, "istio/autoscaling")?;
        let names: Vec<String> =
            objects.iter().filter_map(|object| object["metadata"]["name"].as_str()).map(str::to_owned).collect();
        assert!(names.len() >= 3, "{names:?}");
        objects.extend(names.iter().map(|name| deployment(name, None)));
        scaling.apply(kubernetes, objects).await?;
        scaling.load_rules(shipped(place, "istio/monitoring")?).await?;
        for name in &names {
            let kubernetes = &*kubernetes;
            eventually(name, 30, || async move {
                match condition(kubernetes, name, "Ready").await?.as_str() {
                    "True" => Ok(()),
                    other => Err(format!("Ready is {other}")),
                }
            })
            .await?;
        }
        Ok(())
    });
}

async fn is_down(prometheus: &Prometheus) -> Result<(), String> {
    match prometheus.query("up == 0").await?.len() {
        1 => Ok(()),
        other => Err(format!("{other} are down")),
    }
}

/// 20,000 tokens a replica, in one step up, and down one by one; in a cluster's own time.
fn scaled_object() -> Value {
    let one_by_one = json!({
        "stabilizationWindowSeconds": 60, "policies": [{"type": "Pods", "value": 1, "periodSeconds": 60}],
    });
    let at_once = json!({
        "stabilizationWindowSeconds": 0, "policies": [{"type": "Pods", "value": 8, "periodSeconds": 15}],
    });
    json!({
        "apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "metadata": {"name": "chat-stable", "namespace": "llm"},
        "spec": {
            "scaleTargetRef": {"name": "chat-stable"}, "minReplicaCount": 1, "maxReplicaCount": 8, "pollingInterval": 5,
            "advanced": {"horizontalPodAutoscalerConfig": {"behavior": {"scaleUp": at_once, "scaleDown": one_by_one}}},
            "triggers": [{"type": "prometheus", "metricType": "AverageValue", "metadata": {
                "serverAddress": "http://prometheus-operated.monitoring.svc.cluster.local:9090",
                "query": "sum(penstock_pending_tokens{model=\"chat\",version=\"stable\"})", "threshold": "20000",
                "ignoreNullValues": "false",
            }}],
        },
    })
}
