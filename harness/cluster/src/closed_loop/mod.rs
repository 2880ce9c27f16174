//! The closed loop: clients → gateway with the real filter → model servers, and back by the gauges → Prometheus → KEDA → HPA → Deployment,
//! whose pods are those servers. A ramp is played, and what becomes of the requests, the backlog and the replicas is written down.
//!
//! A pod is a model server with so much prefill and decode capacity; it takes a while to load, and is an endpoint once it has. A pod that goes
//! is taken out of the endpoints first, and ends its streams. The control plane's times are divided ([`crate::scaling`]); those of the traffic
//! and of the servers are not.

mod fleet;
mod front;
pub mod plot;
mod report;
mod sample;
mod traffic;

use std::time::Duration;

use penstock_harness::model_server;
use serde_json::{Value, json};

pub use fleet::Fleet;
pub use front::{Front, HOST, MODEL, URL, VERSION, configure, set};
pub use report::Report;
pub use sample::{Sample, Sampler};
pub use traffic::{Outcome, Ramp, Size, Tally, Traffic};

use crate::kubernetes::Kubernetes;
use crate::place::Place;
use crate::process::eventually;
use crate::scaling::{self, Prometheus, Scaling};

/// What is shipped, and applied as it is but for the times.
const SCALED_OBJECTS: &str = "istio/autoscaling";
/// The Deployment that the version's ScaledObject scales; both have this name.
pub const DEPLOYMENT: &str = "chat-stable";

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
    front: Front,
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
        let set = front::set(place)?;
        let replica = replica(&set).unwrap_or(REPLICA);
        let front = Front::start(place, kubernetes, scaling, set, replica.servers(options.cold_start)).await?;
        scaling.apply(kubernetes, vec![scaling::deployment(DEPLOYMENT, Some("node-0"))]).await?;
        let stage = Self { options, size: replica.size(), front };
        eventually("a first answer", PATIENCE_SECONDS, || stage.first_answer()).await?;
        // Before there are series KEDA would fall back, to more replicas than are wanted.
        eventually("a first scrape", PATIENCE_SECONDS, || scraped(&scaling.prometheus)).await?;
        scaling.apply(kubernetes, vec![scaled_object(place)?]).await?;
        eventually("the ScaledObject", PATIENCE_SECONDS, || ready(kubernetes)).await?;
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
            let metrics = self.front.gateway.metrics().await?;
            let replicas = scaling.record.replicas(DEPLOYMENT);
            let sample = sampler.take(traffic.now(), &metrics, &traffic.tally(), replicas, self.front.fleet.serving());
            see(&sample);
            samples.push(sample);
            let is_over = playing.is_finished();
            let is_settled =
                replicas <= before && self.front.fleet.running() <= before as usize && sample.backlog_tokens == 0.0;
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

/// The version's ScaledObject, as it is shipped.
///
/// # Errors
/// Kustomize's, and where there is none.
pub fn scaled_object(place: &Place) -> Result<Value, String> {
    let shipped = scaling::shipped(place, SCALED_OBJECTS)?.into_iter();
    let mut own = shipped.filter(|object| object["metadata"]["name"] == DEPLOYMENT);
    own.next().ok_or_else(|| format!("{SCALED_OBJECTS} has no {DEPLOYMENT}"))
}

/// Whether KEDA has taken the ScaledObject.
///
/// # Errors
/// When it has not, or the API server does not answer.
pub async fn ready(kubernetes: &Kubernetes) -> Result<(), String> {
    match scaling::condition(kubernetes, DEPLOYMENT, "Ready").await?.as_str() {
        "True" => Ok(()),
        other => Err(format!("Ready is {other}")),
    }
}

/// What a replica can do, if the set says so.
fn replica(set: &[Value]) -> Option<Replica> {
    let plugin = set.iter().find(|object| object["kind"] == "TrafficExtension")?;
    let models = plugin.pointer("/spec/wasm/pluginConfig/models")?.as_array()?;
    let model = models.iter().find(|model| model["name"] == MODEL)?;
    let rate = |name| model["replica"][name].as_u64();
    Some(Replica { prefill: rate("prefillTokensPerSecond")?, decode: rate("decodeTokensPerSecond")? })
}
