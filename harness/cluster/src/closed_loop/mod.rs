//! The closed loop: clients → gateway with the real filter → model servers, and back by the gauges → Prometheus → KEDA → HPA → Deployment,
//! whose pods are those servers. A ramp is played, and what becomes of the requests, the backlog and the replicas is written down.
//!
//! A pod is a model server with so much prefill and decode capacity; it takes a while to load, and is an endpoint once it has. A pod that goes
//! is taken out of the endpoints first, and ends its streams. The control plane's times are divided ([`crate::scaling`]); those of the traffic
//! and of the servers are not.

mod fleet;
pub mod plot;
mod report;
mod sample;
mod traffic;

use std::time::Duration;

use penstock_harness::model_server;
use serde_json::{Value, json};

pub use fleet::Fleet;
pub use report::Report;
pub use sample::{Sample, Sampler};
pub use traffic::{Outcome, Ramp, Size, Tally, Traffic};

use crate::gateway::{self, Gateway};
use crate::istiod::{Istiod, Mesh};
use crate::kubernetes::Kubernetes;
use crate::objects;
use crate::place::Place;
use crate::pods::Kubelet;
use crate::process::eventually;
use crate::registry::Registry;
use crate::scaling::{self, Prometheus, Scaling, Target};

/// What is shipped, and applied as it is but for the registry's address and the times; and the model has one version, and no other to turn to.
const SET: &str = "istio/mesh/trafficextension";
const SCALED_OBJECTS: &str = "istio/autoscaling";
/// The model and the version that are asked for, and the Deployment that the version's ScaledObject scales.
const MODEL: &str = "chat";
const VERSION: &str = "stable";
const DEPLOYMENT: &str = "chat-stable";
const HOST: &str = "llm.example.com";
const URL: &str = "http://127.0.0.1/v1/chat/completions";

/// How often all is looked at.
const LOOK: Duration = Duration::from_millis(500);
const PATIENCE_SECONDS: u64 = 60;

/// What a replica can do where the configuration does not say (`models[].replica`), in tokens per second.
const REPLICA: Replica = Replica { prefill: 12_000, decode: 1800 };
/// How much of a replica's time a request takes: its prompt, and its answer.
const PROMPT_SECONDS: f64 = 0.4;
const ANSWER_SECONDS: f64 = 0.1;

/// What is asked for, and how long a replica takes.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How long a replica loads.
    pub cold_start: Duration,
    /// How many requests there are; each is half a second of a replica's time.
    pub ramp: Ramp,
}

/// What a replica can do, in tokens per second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Replica {
    prefill: u64,
    decode: u64,
}

impl Replica {
    fn size(self) -> Size {
        let tokens = |rate: u64, seconds| (rate as f64 * seconds) as u64;
        Size { prompt: tokens(self.prefill, PROMPT_SECONDS), answer: tokens(self.decode, ANSWER_SECONDS) }
    }

    fn servers(self, cold_start: Duration) -> model_server::Options {
        model_server::Options {
            prefill_tokens_per_second: self.prefill,
            decode_tokens_per_second: self.decode,
            load_ms: u64::try_from(cold_start.as_millis()).unwrap_or(u64::MAX),
            // The request's own limit is lower.
            completion_tokens: 8192,
            ttft_ms: 5,
            // As fast as people read: an answer takes seconds, so that there are some under way whenever a pod goes.
            inter_token_ms: 25,
            ..model_server::Options::default()
        }
    }
}

/// Gateway, mesh and model servers, on a [`Kubernetes`] whose chain is [`Scaling`].
pub struct Stage {
    options: Options,
    size: Size,
    fleet: Fleet,
    gateway: Gateway,
    _istiod: Istiod,
    _registry: Registry,
}

impl Stage {
    /// Starts it all, and waits until a first replica answers.
    ///
    /// # Errors
    /// When a part does not come up; with the end of its log.
    pub async fn start(
        place: &Place,
        kubernetes: &Kubernetes,
        scaling: &mut Scaling,
        options: Options,
    ) -> Result<Self, String> {
        let mesh = Mesh::shipped(place)?;
        let registry = Registry::start(place).await?;
        let mut set = objects::kustomization(place, &place.checkout.join(SET))?;
        let replica = one_version(&mut set).unwrap_or(REPLICA);
        registry.serve(place, &mut set)?;
        let fleet = Fleet::new(kubernetes.client(), MODEL, VERSION, replica.servers(options.cold_start));
        kubernetes.apply(&[fleet.service()]).await?;
        kubernetes.apply(&set).await?;
        let istiod = Istiod::start(place, &mesh).await?;
        let gateway = Gateway::start(place, &mesh, gateway::Options::default()).await?;
        scaling.scrape(vec![Target::pod(scaling::JOB, gateway.name(), gateway.envoy_metrics())]).await?;
        scaling.kubelet = Kubelet::start(kubernetes.client(), scaling::NAMESPACE, fleet.clone());
        scaling.apply(kubernetes, vec![scaling::deployment(DEPLOYMENT, Some("node-0"))]).await?;
        let stage = Self { options, size: replica.size(), fleet, gateway, _istiod: istiod, _registry: registry };
        eventually("a first answer", PATIENCE_SECONDS, || stage.first_answer()).await?;
        // Before there are series KEDA would fall back, to more replicas than are wanted.
        eventually("a first scrape", PATIENCE_SECONDS, || scraped(&scaling.prometheus)).await?;
        let mut wanted = scaling::shipped(place, SCALED_OBJECTS)?;
        wanted.retain(|object| object["metadata"]["name"] == DEPLOYMENT);
        scaling.apply(kubernetes, wanted).await?;
        let ready = || async {
            match scaling::condition(kubernetes, DEPLOYMENT, "Ready").await?.as_str() {
                "True" => Ok(()),
                other => Err(format!("Ready is {other}")),
            }
        };
        eventually("the ScaledObject", PATIENCE_SECONDS, ready).await?;
        Ok(stage)
    }

    /// Plays the ramp, and looks on until the replicas are as few again as they were and nothing is pending.
    ///
    /// # Errors
    /// When that does not come, or the gateway does not answer.
    pub async fn play(&self, scaling: &Scaling, mut see: impl FnMut(&Sample)) -> Result<Report, String> {
        let before = scaling.record.replicas(DEPLOYMENT);
        let traffic = Traffic::new(URL, HOST, MODEL, self.size);
        let mut playing = tokio::spawn(std::sync::Arc::clone(&traffic).play(self.options.ramp));
        let (mut sampler, mut samples) = (Sampler::new(MODEL), Vec::new());
        let mut left = PATIENCE_SECONDS * 4;
        let began = scaling.record.now();
        loop {
            tokio::time::sleep(LOOK).await;
            let metrics = self.gateway.metrics().await?;
            let replicas = scaling.record.replicas(DEPLOYMENT);
            let sample = sampler.take(traffic.now(), &metrics, &traffic.tally(), replicas, self.fleet.serving());
            see(&sample);
            samples.push(sample);
            let is_over = playing.is_finished();
            let is_settled =
                replicas <= before && self.fleet.running() <= before as usize && sample.backlog_tokens == 0.0;
            left -= u64::from(is_over);
            if (is_over && is_settled) || left == 0 {
                break;
            }
        }
        (&mut playing).await.map_err(|error| format!("the traffic failed: {error}"))?;
        let pending_at_end = samples.last().map_or(0.0, |sample| sample.backlog_tokens);
        let mut steps = scaling.record.of(DEPLOYMENT);
        // Times as the samples have them: what was there before is there from the beginning.
        steps.iter_mut().for_each(|step| step.at = step.at.saturating_sub(began));
        Ok(Report { tally: traffic.tally(), steps, samples, pending_at_end })
    }

    async fn first_answer(&self) -> Result<(), String> {
        let body = json!({"model": MODEL, "max_tokens": 1, "messages": [{"role": "user", "content": "hello"}]});
        let request = reqwest::Client::new().post(URL).header("host", HOST).json(&body);
        let answer = request.send().await.map_err(|error| error.to_string())?;
        let (status, headers) = (answer.status(), answer.headers());
        // Without the header the filter is not in the chain yet.
        if status == 200 && headers.contains_key("x-penstock-prompt-tokens") {
            Ok(())
        } else {
            Err(format!("{status}: {headers:?}"))
        }
    }
}

async fn scraped(prometheus: &Prometheus) -> Result<(), String> {
    let series = prometheus.query(&format!("penstock_pending_tokens{{model=\"{MODEL}\"}}")).await?;
    if series.is_empty() { Err("no series".to_owned()) } else { Ok(()) }
}

/// Gives the model one version, and nobody to turn to when it is full: what is refused then is refused. What a replica can do, if it says so.
fn one_version(set: &mut [Value]) -> Option<Replica> {
    let found = std::cell::Cell::new(None);
    objects::configure(set, "TrafficExtension", |config| {
        let models = config["models"].as_array_mut().into_iter().flatten();
        for model in models.filter(|model| model["name"] == MODEL) {
            for version in model["versions"].as_array_mut().into_iter().flatten() {
                version["weight"] = json!(if version["name"] == VERSION { 100 } else { 0 });
            }
            model["pending"]["whenFull"] = json!("shed");
            model.as_object_mut().map(|model| model.remove("fallback"));
            let rate = |name| model["replica"][name].as_u64();
            let rates = rate("prefillTokensPerSecond").zip(rate("decodeTokensPerSecond"));
            found.set(rates.map(|(prefill, decode)| Replica { prefill, decode }));
        }
    });
    found.get()
}
