//! From a gauge to replicas, on the real chain: what gateways say of themselves → Prometheus → KEDA → HorizontalPodAutoscaler → Deployment →
//! ReplicaSet → pods, which one of ours takes for ready ([`crate::pods`]).
//!
//! [`Scaling::start`] brings up Prometheus, KEDA's operator and adapter, and the three controllers, beside a [`Kubernetes`] that runs. By
//! default gateways are stand-ins ([`Exporter`]): a test sets their series and makes them dark. Everything is [`Options::times`] as fast as in
//! earnest: the HPA's period and window, how far Prometheus looks back, and, by [`faster`], every duration in the ScaledObjects and rules that
//! are applied through [`Scaling::apply`] and [`Scaling::load_rules`]. So a walk down of 20 minutes is one of a minute, with the same numbers of
//! replicas. What cannot be that fast: KEDA polls once a second at most, and a scrape is one every second.
//!
//! A test of the chain is a file of `tests/scaling/`, or of `tests/closed_loop/` where requests go through a gateway. The chain is started once for
//! all tests of a binary, and emptied before each:
//!
//! ```ignore
//! #[test]
//! fn replicas_follow() {
//!     run(Options { gateways: 2, ..Options::default() }, async |Stage { place, kubernetes, scaling }| {
//!         // What gateways say: pending(), set(), rise() for a counter, forget() and dark().
//!         scaling.exporters[0].pending("chat", "stable", 300_000.0, 0.0);
//!         // As shipped, with every time divided; Deployments do not say how many replicas they have.
//!         let mut objects = shipped(place, "istio/autoscaling")?;
//!         objects.push(deployment("chat-stable", None));
//!         scaling.apply(kubernetes, objects).await?;
//!         scaling.load_rules(shipped(place, "istio/monitoring")?).await?;
//!         scaling.until("13 replicas", 30, |record| record.replicas("chat-stable") == 13).await?;
//!         // Prometheus goes and comes back with what it had: also empty(), query() and firing().
//!         scaling.prometheus.stop().await?;
//!         scaling.prometheus.resume().await?;
//!         // Each change of `spec.replicas`, and when it was seen; `record.now()` is the same clock.
//!         let walked: Vec<Step> = scaling.record.of("chat-stable");
//!         Ok(())
//!     });
//! }
//! ```
//!
//! [`condition`] says what a ScaledObject says of itself, and [`Kubernetes::get`] has any other object.

mod controllers;
mod exporter;
pub mod faster;
mod keda;
pub mod prometheus;
mod record;
mod rollouts;

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

pub use controllers::Controllers;
pub use exporter::Exporter;
pub use keda::Keda;
pub use prometheus::{Prometheus, Target};
pub use record::{Record, Step};
pub use rollouts::Rollouts;

use crate::kubernetes::Kubernetes;
use crate::objects;
use crate::place::Place;
use crate::pods::{Kubelet, ReadyAfter};
use crate::process::eventually;

/// Where models run.
pub const NAMESPACE: &str = "llm";
/// The job that operators make of the shipped PodMonitor.
pub const JOB: &str = "istio-ingress/penstock";

/// All that is of the chain, in the order in which it can be deleted: nobody collects what is left over.
const KINDS: [(&str, &str); 5] = [
    ("keda.sh/v1alpha1", "ScaledObject"),
    ("autoscaling/v2", "HorizontalPodAutoscaler"),
    ("apps/v1", "Deployment"),
    ("apps/v1", "ReplicaSet"),
    ("v1", "Pod"),
];

/// How the chain is.
#[derive(Clone, Debug)]
pub struct Options {
    /// By which number every time is divided; 1 for times as they are.
    pub times: u32,
    /// The HPA's tolerance, as a part of its target.
    pub tolerance: f64,
    /// How long a pod takes to become ready. Not divided.
    pub ready_after: Duration,
    /// How often Prometheus scrapes. Not divided.
    pub scrape: Duration,
    /// Stand-ins for gateways: pods `gateway-0`, `gateway-1`, … of `istio-ingress`.
    pub gateways: usize,
    /// The jobs that scrape each of them.
    pub jobs: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            times: 20,
            tolerance: 0.1,
            ready_after: Duration::from_millis(500),
            scrape: Duration::from_secs(1),
            gateways: 1,
            jobs: vec![JOB.to_owned()],
        }
    }
}

/// The running chain.
#[derive(Debug)]
pub struct Scaling {
    /// The stand-ins for gateways.
    pub exporters: Vec<Exporter>,
    /// Who scrapes them.
    pub prometheus: Prometheus,
    /// The operator and the adapter.
    pub keda: Keda,
    /// What became of `spec.replicas`, since the chain was emptied.
    pub record: Record,
    /// Who takes pods for ready; another one may take its place.
    pub kubelet: Kubelet,
    options: Options,
    _controllers: Controllers,
}

impl Scaling {
    /// Starts the chain, with nothing to scale.
    ///
    /// # Errors
    /// When a part does not come up; with the end of its log.
    pub async fn start(place: &Place, kubernetes: &Kubernetes, options: Options) -> Result<Self, String> {
        let exporters = exporters(options.gateways).await?;
        let config = prometheus::Config {
            targets: targets(&exporters, &options.jobs),
            interval: options.scrape,
            rules: Vec::new(),
            times: options.times,
        };
        let sync = Duration::from_secs_f64(faster::SYNC_SECONDS / f64::from(options.times));
        let controllers = Controllers::start(place, sync, options.tolerance, options.times)?;
        let (prometheus, keda) = tokio::try_join!(Prometheus::start(config), Keda::start(place, kubernetes))?;
        let kubelet = Kubelet::start(kubernetes.client(), NAMESPACE, ReadyAfter(options.ready_after));
        let record = Record::start(kubernetes.client(), NAMESPACE);
        Ok(Self { exporters, prometheus, keda, record, kubelet, options, _controllers: controllers })
    }

    /// Deletes all that is scaled, forgets all that was measured, and goes on with so many stand-ins, scraped by these jobs.
    ///
    /// # Errors
    /// When something cannot be deleted, or Prometheus does not come back.
    pub async fn reset(&mut self, kubernetes: &Kubernetes, options: Options) -> Result<(), String> {
        // What cannot be changed without starting anew.
        let fixed = |options: &Options| (options.times, options.tolerance.to_bits());
        if fixed(&options) != fixed(&self.options) {
            return Err("times and tolerance are those of the controllers, which are started once".to_owned());
        }
        for kind in KINDS {
            kubernetes.clear(&[kind], &[NAMESPACE]).await?;
            // KEDA's operator lets a ScaledObject go when it has seen that it is deleted.
            let gone = || async {
                let left = kubernetes.count(kind, NAMESPACE).await?;
                if left == 0 { Ok(()) } else { Err(format!("{left} are left")) }
            };
            eventually(kind.1, 30, gone).await?;
        }
        self.exporters = exporters(options.gateways).await?;
        let config = self.prometheus.config();
        config.targets = targets(&self.exporters, &options.jobs);
        config.interval = options.scrape;
        config.rules = Vec::new();
        self.prometheus.empty().await?;
        self.kubelet = Kubelet::start(kubernetes.client(), NAMESPACE, ReadyAfter(options.ready_after));
        self.record = Record::start(kubernetes.client(), NAMESPACE);
        self.options = options;
        Ok(())
    }

    /// Applies objects, with every time of ScaledObjects divided.
    ///
    /// # Errors
    /// The server's, and where a query cannot be read.
    pub async fn apply(&self, kubernetes: &Kubernetes, mut objects: Vec<Value>) -> Result<(), String> {
        for object in objects::of_kind(&mut objects, "ScaledObject") {
            faster::scaled_object(object, self.options.times)?;
        }
        kubernetes.apply(&objects).await
    }

    /// Lets Prometheus evaluate the PrometheusRules among these objects, with every time divided. It is started anew, and keeps what it has.
    ///
    /// # Errors
    /// When one cannot be read, or Prometheus does not take it.
    pub async fn load_rules(&mut self, mut objects: Vec<Value>) -> Result<(), String> {
        for object in objects::of_kind(&mut objects, "PrometheusRule") {
            let mut spec = object["spec"].take();
            faster::rules(&mut spec, self.options.times)?;
            self.prometheus.config().rules.push(spec);
        }
        self.prometheus.resume().await
    }

    /// Lets Prometheus scrape something else. It is started anew, with nothing in its store.
    ///
    /// # Errors
    /// When it does not come back.
    pub async fn scrape(&mut self, targets: Vec<Target>) -> Result<(), String> {
        self.prometheus.config().targets = targets;
        self.prometheus.empty().await
    }

    /// Waits until the record is as expected.
    ///
    /// # Errors
    /// When it is not in time; with all that is written down of the Deployments.
    pub async fn until(&self, what: &str, seconds: u64, expected: impl Fn(&Record) -> bool) -> Result<(), String> {
        let seen = || async { if expected(&self.record) { Ok(()) } else { Err(format!("{:?}", self.record)) } };
        eventually(what, seconds, seen).await
    }
}

/// ScaledObjects, or whatever else a directory of the checkout renders to.
///
/// # Errors
/// Kustomize's.
pub fn shipped(place: &Place, directory: impl AsRef<Path>) -> Result<Vec<Value>, String> {
    objects::kustomization(place, &place.checkout.join(directory))
}

/// A Deployment that says nothing of replicas, as one that is scaled has to; on a node, or on none.
pub fn deployment(name: &str, node: Option<&str>) -> Value {
    let labels = json!({"app": name});
    let mut pod = json!({"containers": [{"name": "server", "image": "registry.example.com/server:1"}]});
    if let Some(node) = node {
        pod["nodeName"] = json!(node);
    }
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": pod}},
    })
}

/// What a ScaledObject says of itself: `Active`, `Fallback`, `Ready` or `HPAActive`; `Unknown` before it says anything.
///
/// # Errors
/// The server's.
pub async fn condition(kubernetes: &Kubernetes, name: &str, kind: &str) -> Result<String, String> {
    let object = json!({
        "apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "metadata": {"name": name, "namespace": NAMESPACE},
    });
    let found = kubernetes.get(&object).await?.unwrap_or_default();
    let conditions = found["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let condition = conditions.iter().find(|condition| condition["type"] == kind);
    Ok(condition.and_then(|condition| condition["status"].as_str()).unwrap_or("Unknown").to_owned())
}

async fn exporters(number: usize) -> Result<Vec<Exporter>, String> {
    let mut exporters = Vec::new();
    for _ in 0..number {
        exporters.push(Exporter::start().await?);
    }
    Ok(exporters)
}

fn targets(exporters: &[Exporter], jobs: &[String]) -> Vec<Target> {
    let pages =
        jobs.iter().flat_map(|job| exporters.iter().enumerate().map(move |(number, exporter)| (job, number, exporter)));
    let target = |(job, number, exporter): (&String, usize, &Exporter)| {
        Target::pod(job, &format!("gateway-{number}"), exporter.address().to_string())
    };
    pages.map(target).collect()
}
