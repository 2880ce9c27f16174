//! A canary's fate by Argo Rollouts' own controller: what is shipped for it, on what gateways say of both versions, with a day in seconds.

use penstock_cluster::kubernetes::Kubernetes;
use penstock_cluster::objects;
use penstock_cluster::process::eventually;
use penstock_cluster::scaling::{Exporter, Options, Rollouts, deployment, shipped};
use serde_json::{Value, json};

use crate::stage::{Stage, run};

/// What of the set a roll-out is made of; the rest is for gateways.
const KINDS: [(&str, &str); 4] = [
    ("argoproj.io/v1alpha1", "Rollout"),
    ("argoproj.io/v1alpha1", "AnalysisTemplate"),
    ("networking.istio.io/v1", "VirtualService"),
    ("networking.istio.io/v1", "DestinationRule"),
];
const PATIENCE_SECONDS: u64 = 90;

#[test]
fn a_canary_takes_over_goes_or_waits_for_a_person() {
    run(Options::default(), async |Stage { place, kubernetes, scaling }| {
        let _controller = Rollouts::start(place, kubernetes).await?;
        let mut all = shipped(place, "istio/rollout/argo")?;
        all.retain(|object| KINDS.iter().any(|(_, kind)| object["kind"] == *kind));
        assert_eq!(all.len(), 5, "{all:?}");
        hurry(&mut all);
        let gateway = &scaling.exporters[0];
        serve(gateway, "stable", 100.0, 1.0);
        serve(gateway, "canary", 10.0, 0.0);
        kubernetes.apply(&[image(1)]).await?;
        kubernetes.apply(&all).await?;
        // The first version of all is no canary.
        until(kubernetes, "the first is there", |now| now.phase == "Healthy" && now.is_promoted).await?;
        assert_eq!(weights(kubernetes).await?, [0, 100]);

        // As good as the stable one.
        kubernetes.apply(&[image(2)]).await?;
        let tried = until(kubernetes, "the canary's route is open", |now| now.weights == [100, 0]).await?;
        assert!(!tried.is_promoted && tried.hashes[0] != tried.hashes[1], "{tried:?}");
        let has_taken_over = |now: &Now| now.phase == "Healthy" && now.is_promoted && now.weights == [0, 100];
        let second = until(kubernetes, "it has taken over", has_taken_over).await?;
        assert_eq!(second.hashes[1], tried.hashes[0]);
        // What watched it is told to end as it takes over, and ends a moment later.
        eventually("it was watched, and judged", 20, || async {
            let runs = runs(kubernetes, "Successful").await?;
            if runs == 2 { Ok(()) } else { Err(format!("{runs} of 2")) }
        })
        .await?;

        // One request in ten fails.
        serve(gateway, "canary", 9.0, 1.0);
        kubernetes.apply(&[image(3)]).await?;
        until(kubernetes, "it is tried", |now| now.weights == [100, 0]).await?;
        let is_taken_back = |now: &Now| now.phase == "Degraded" && now.is_aborted && now.weights == [0, 100];
        let aborted = until(kubernetes, "it is taken back", is_taken_back).await?;
        assert_eq!(aborted.hashes[1], second.hashes[1], "the stable one serves");
        assert_eq!(runs(kubernetes, "Failed").await?, 1);

        // Nobody asks it, so nobody knows: it neither takes over nor goes.
        serve(gateway, "canary", 0.0, 0.0);
        let prometheus = &scaling.prometheus;
        eventually("nobody remembers the last one", PATIENCE_SECONDS, || async {
            let all = "sum(increase(penstock_requests_total{version=\"canary\"}[15s])) == 0";
            if prometheus.query(all).await?.is_empty() { Err("its requests are remembered".to_owned()) } else { Ok(()) }
        })
        .await?;
        kubernetes.apply(&[image(4)]).await?;
        until(kubernetes, "it is tried", |now| now.weights == [100, 0]).await?;
        let waits =
            until(kubernetes, "it waits", |now| now.pauses.contains(&"InconclusiveAnalysisRun".to_owned())).await?;
        assert!(waits.phase == "Paused" && !waits.is_promoted && !waits.is_aborted, "{waits:?}");
        assert_eq!(waits.weights, [100, 0]);

        for (version, kind) in KINDS.into_iter().chain([("argoproj.io/v1alpha1", "AnalysisRun")]) {
            kubernetes.clear(&[(version, kind)], &["llm", "istio-ingress"]).await?;
        }
        Ok(())
    });
}

/// What is shipped, in seconds instead of minutes and hours; and a gate that waits for three of them instead of a day.
fn hurry(all: &mut [Value]) {
    for template in objects::of_kind(all, "AnalysisTemplate") {
        let metrics = template["spec"]["metrics"].as_array_mut().expect("metrics");
        for metric in metrics {
            metric["interval"] = json!("1s");
            if metric.get("count").is_some() {
                metric["count"] = json!(3);
                metric["inconclusiveLimit"] = json!(2);
            }
        }
        objects::replace(template, "10m", "10s");
    }
    for rollout in objects::of_kind(all, "Rollout") {
        objects::replace(rollout, "24h", "15s");
    }
}

/// The Deployment that the Rollout takes its template from, with this image.
fn image(number: u32) -> Value {
    let mut deployment = deployment("chat", None);
    deployment["spec"]["template"]["spec"]["containers"][0]["image"] =
        json!(format!("registry.example.com/server:{number}"));
    deployment
}

/// What a gateway says of a version that answers so many requests a second, and fails so many. Each takes less than half a second to its
/// first token, and is 100 tokens long.
fn serve(gateway: &Exporter, version: &str, well: f64, badly: f64) {
    let of = [("model", "chat"), ("version", version)];
    let with = |more: &[(&'static str, &'static str)]| [&of[..], more].concat();
    gateway.rise("penstock_requests_total", &with(&[("tenant", "a"), ("outcome", "ok")]), well);
    gateway.rise("penstock_requests_total", &with(&[("tenant", "a"), ("outcome", "upstream_error")]), badly);
    gateway.rise("penstock_tokens_total", &with(&[("tenant", "a"), ("kind", "completion")]), 100.0 * well);
    gateway.rise("penstock_cost_microdollars_total", &with(&[("tenant", "a")]), 60.0 * well);
    for (le, share) in [("100", 0.5), ("500", 1.0), ("1000", 1.0), ("+Inf", 1.0)] {
        gateway.rise("penstock_ttft_milliseconds_bucket", &with(&[("le", le)]), share * well);
    }
}

/// How it stands.
#[derive(Debug)]
struct Now {
    phase: String,
    is_aborted: bool,
    /// What is newest is what is stable.
    is_promoted: bool,
    pauses: Vec<String>,
    /// Of the canary's route: to the canary, and to the stable one.
    weights: [u64; 2],
    /// Whose pods these are, in the same order.
    hashes: [String; 2],
}

async fn until(kubernetes: &Kubernetes, what: &str, expected: impl Fn(&Now) -> bool) -> Result<Now, String> {
    eventually(what, PATIENCE_SECONDS, || async {
        let now = now(kubernetes).await?;
        if expected(&now) { Ok(now) } else { Err(format!("{now:?}")) }
    })
    .await
}

async fn now(kubernetes: &Kubernetes) -> Result<Now, String> {
    let rollout = get(kubernetes, "argoproj.io/v1alpha1", "Rollout", "llm", "chat").await?;
    let rule = get(kubernetes, "networking.istio.io/v1", "DestinationRule", "llm", "chat").await?;
    let status = &rollout["status"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let pauses = status["pauseConditions"].as_array().into_iter().flatten().map(|one| text(&one["reason"])).collect();
    let subsets = rule["spec"]["subsets"].as_array().cloned().unwrap_or_default();
    let hash = |name: &str| {
        let subset = subsets.iter().find(|subset| subset["name"] == name);
        subset.map_or_else(String::new, |subset| text(&subset["labels"]["rollouts-pod-template-hash"]))
    };
    // It says what it makes of a generation once it has seen it.
    let seen = status["observedGeneration"].as_str().and_then(|seen| seen.parse().ok());
    let is_seen = seen == rollout["metadata"]["generation"].as_u64();
    Ok(Now {
        phase: if is_seen { text(&status["phase"]) } else { String::new() },
        is_aborted: status["abort"] == true,
        is_promoted: status["stableRS"].is_string() && status["stableRS"] == status["currentPodHash"],
        pauses,
        weights: weights(kubernetes).await?,
        hashes: [hash("canary"), hash("stable")],
    })
}

async fn weights(kubernetes: &Kubernetes) -> Result<[u64; 2], String> {
    let service = get(kubernetes, "networking.istio.io/v1", "VirtualService", "istio-ingress", "llm").await?;
    let rules = service["spec"]["http"].as_array().cloned().unwrap_or_default();
    let rule = rules.iter().find(|rule| rule["name"] == "chat-canary").cloned().unwrap_or_default();
    Ok([0, 1].map(|way: usize| rule["route"][way]["weight"].as_u64().unwrap_or_default()))
}

/// How many analyses ended so.
async fn runs(kubernetes: &Kubernetes, phase: &str) -> Result<usize, String> {
    let all = kubernetes.list(("argoproj.io/v1alpha1", "AnalysisRun"), "llm").await?;
    Ok(all.iter().filter(|run| run["status"]["phase"] == phase).count())
}

async fn get(kubernetes: &Kubernetes, version: &str, kind: &str, namespace: &str, name: &str) -> Result<Value, String> {
    let object = json!({"apiVersion": version, "kind": kind, "metadata": {"name": name, "namespace": namespace}});
    kubernetes.get(&object).await?.ok_or_else(|| format!("there is no {kind} {namespace}/{name}"))
}
