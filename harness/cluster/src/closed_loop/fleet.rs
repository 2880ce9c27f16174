//! The pods of a Deployment as model servers, and as endpoints of the mesh.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kube::Client;
use kube::api::{Api, DeleteParams, DynamicObject, GroupVersionKind, Patch, PatchParams};
use kube::discovery::ApiResource;
use penstock_harness::model_server::{Alone, Options, Seen};
use serde_json::{Value, json};

use crate::kubernetes::Kubernetes;
use crate::pods::Containers;
use crate::process::eventually;
use crate::scaling::NAMESPACE;

/// What makes a pod an endpoint.
const ENTRIES: (&str, &str) = ("networking.istio.io/v1", "WorkloadEntry");
/// How long a pod that goes still serves, so that every gateway has heard of it: what a `preStop` hook that sleeps is for.
const LINGER: Duration = Duration::from_secs(2);
/// How long a stream may take that was begun before.
const STREAMS_SECONDS_MAX: u64 = 120;

/// Model servers of one version of a model.
#[derive(Clone)]
pub struct Fleet {
    model: &'static str,
    version: &'static str,
    options: Options,
    entries: Api<DynamicObject>,
    servers: Arc<Mutex<BTreeMap<String, Server>>>,
}

struct Server {
    /// It can end as a process does: with all its connections.
    process: Alone,
    is_serving: bool,
}

impl Fleet {
    /// No servers yet; each is as these options say.
    pub fn new(client: Client, model: &'static str, version: &'static str, options: Options) -> Self {
        let kind = GroupVersionKind::gvk("networking.istio.io", "v1", "WorkloadEntry");
        let entries = Api::namespaced_with(client, NAMESPACE, &ApiResource::from_gvk(&kind));
        Self { model, version, options, entries, servers: Arc::default() }
    }

    /// The host whose endpoints they are.
    pub fn service(&self) -> Value {
        json!({
            "apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry",
            "metadata": {"name": self.model, "namespace": NAMESPACE},
            "spec": {
                "hosts": [format!("{}.{NAMESPACE}.svc.cluster.local", self.model)], "location": "MESH_INTERNAL",
                "resolution": "STATIC", "ports": [{"number": 8000, "name": "http", "protocol": "HTTP"}],
                "workloadSelector": {"labels": {"app": self.model}},
            },
        })
    }

    /// What all of them were asked for, oldest first: those that are gone told nothing.
    pub fn requests(&self) -> Vec<Seen> {
        self.lock().values().flat_map(|server| server.process.server.requests()).collect()
    }

    /// Deletes the endpoints that another fleet has left behind: its pods are gone, and nobody was there to see it.
    ///
    /// # Errors
    /// The API server's.
    pub async fn forget_others(&self, kubernetes: &Kubernetes) -> Result<(), String> {
        kubernetes.clear(&[ENTRIES], &[NAMESPACE]).await
    }

    /// How many are ready and not about to go.
    pub fn serving(&self) -> usize {
        self.lock().values().filter(|server| server.is_serving).count()
    }

    /// How many there are at all: those that load and those that still end their streams too.
    pub fn running(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Server>> {
        self.servers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn load(&self, pod: &str) -> Result<(), String> {
        let options = Options { name: pod.to_owned(), ..self.options.clone() };
        let said = |error: &dyn std::fmt::Display| format!("{pod}: {error}");
        let process = Alone::start(options).await.map_err(|error| said(&error))?;
        let port = process.server.address().port();
        self.lock().insert(pod.to_owned(), Server { process, is_serving: false });
        let loaded = || async {
            let is_loaded = self.lock().get(pod).is_none_or(|server| server.process.server.is_loaded());
            if is_loaded { Ok(()) } else { Err("it loads".to_owned()) }
        };
        eventually(pod, self.options.load_ms / 1000 + 30, loaded).await?;
        let labels = json!({"app": self.model, "version": self.version});
        let entry = json!({
            "apiVersion": "networking.istio.io/v1", "kind": "WorkloadEntry",
            "metadata": {"name": pod, "namespace": NAMESPACE, "labels": labels},
            "spec": {"address": "127.0.0.1", "ports": {"http": port}, "labels": labels},
        });
        let applied = self.entries.patch(pod, &PatchParams::apply("penstock"), &Patch::Apply(entry)).await;
        applied.map_err(|error| said(&error))?;
        if let Some(server) = self.lock().get_mut(pod) {
            server.is_serving = true;
        }
        Ok(())
    }
}

impl Containers for Fleet {
    async fn start(&self, pod: &str) {
        if let Err(message) = self.load(pod).await {
            // It never becomes ready, and whoever waits for it says so.
            eprintln!("{message}");
        }
    }

    /// First it is no endpoint any more, then it ends its streams, then it is gone.
    async fn stop(&self, pod: &str) {
        if let Some(server) = self.lock().get_mut(pod) {
            server.is_serving = false;
        }
        // One that never became an endpoint has none to delete.
        let _ = self.entries.delete(pod, &DeleteParams::default()).await;
        tokio::time::sleep(LINGER).await;
        let idle = || async {
            let running = self.lock().get(pod).map_or(0, |server| server.process.server.running());
            if running == 0 { Ok(()) } else { Err(format!("{running} streams are left")) }
        };
        if let Err(message) = eventually(pod, STREAMS_SECONDS_MAX, idle).await {
            eprintln!("{message}");
        }
        self.lock().remove(pod);
    }
}
