//! What requests go through, and to: a gateway of the mesh, and the pods of one version of a model as its servers.

use penstock_harness::model_server;
use serde_json::{Value, json};

use super::fleet::Fleet;
use crate::gateway::{self, Gateway};
use crate::istiod::{Istiod, Mesh};
use crate::kubernetes::Kubernetes;
use crate::objects;
use crate::place::Place;
use crate::pods::Kubelet;
use crate::registry::Registry;
use crate::scaling::{self, Scaling, Target};

/// The model that is asked for.
pub const MODEL: &str = "chat";
/// Its version.
pub const VERSION: &str = "stable";
/// Whom requests are for.
pub const HOST: &str = "llm.example.com";
/// Where the gateway takes chat completions.
pub const URL: &str = "http://127.0.0.1/v1/chat/completions";
/// What is shipped, and applied as it is but for the registry's address, and but for the split.
const SET: &str = "istio/mesh/trafficextension";

/// The gateway with the filter, which Prometheus scrapes, and the servers that pods are made of.
pub struct Front {
    /// The servers.
    pub fleet: Fleet,
    /// The gateway.
    pub gateway: Gateway,
    _istiod: Istiod,
    _registry: Registry,
}

impl Front {
    /// Starts it all but the pods, beside a [`Kubernetes`] whose chain is [`Scaling`]; the servers are as these options say.
    ///
    /// # Errors
    /// When a part does not come up; with the end of its log.
    pub async fn start(
        place: &Place,
        kubernetes: &Kubernetes,
        scaling: &mut Scaling,
        mut set: Vec<Value>,
        servers: model_server::Options,
    ) -> Result<Self, String> {
        let mesh = Mesh::shipped(place)?;
        let registry = Registry::start(place).await?;
        registry.serve(place, &mut set)?;
        let fleet = Fleet::new(kubernetes.client(), MODEL, VERSION, servers);
        fleet.forget_others(kubernetes).await?;
        kubernetes.apply(&[fleet.service()]).await?;
        kubernetes.apply(&set).await?;
        let istiod = Istiod::start(place, &mesh).await?;
        let gateway = Gateway::start(place, &mesh, gateway::Options::default()).await?;
        scaling.scrape(vec![Target::pod(scaling::JOB, gateway.name(), gateway.envoy_metrics())]).await?;
        scaling.kubelet = Kubelet::start(kubernetes.client(), scaling::NAMESPACE, fleet.clone());
        Ok(Self { fleet, gateway, _istiod: istiod, _registry: registry })
    }
}

/// What [`Front::start`] applies: the model has one version, and nobody to turn to when it is full, so that what is refused then is refused.
///
/// # Errors
/// Kustomize's.
pub fn set(place: &Place) -> Result<Vec<Value>, String> {
    let mut set = objects::kustomization(place, &place.checkout.join(SET))?;
    configure(&mut set, |model| {
        for version in model["versions"].as_array_mut().into_iter().flatten() {
            version["weight"] = json!(if version["name"] == VERSION { 100 } else { 0 });
        }
        model["pending"]["whenFull"] = json!("shed");
        model.as_object_mut().map(|model| model.remove("fallback"));
    });
    Ok(set)
}

/// Changes the model's section of the configuration, wherever the set has it.
pub fn configure(set: &mut [Value], change: impl Fn(&mut Value)) {
    objects::configure(set, "TrafficExtension", |config| {
        let models = config["models"].as_array_mut().into_iter().flatten();
        models.filter(|model| model["name"] == MODEL).for_each(&change);
    });
}
