//! What stands for the kubelet: starts what pods are made of, says that they are ready, and ends them.
//!
//! A pod that has a node (`spec.nodeName` of its template: there is no scheduler) goes as on a real one: it is marked, ended, and deleted when
//! its containers have. One that has none is deleted by the API server at once.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Client, ResourceExt};
use serde_json::json;
use tokio::task::JoinHandle;

use crate::watch::{Change, follow};

/// What the pods are made of. Pods are known by their names.
pub trait Containers: Send + Sync + 'static {
    /// Starts a pod's; done when they are ready. It is not polled any more when the pod goes before that.
    fn start(&self, pod: &str) -> impl Future<Output = ()> + Send;
    /// Ends a pod's; done when they have ended. A pod that has no node is gone already.
    fn stop(&self, pod: &str) -> impl Future<Output = ()> + Send;
}

/// Containers that are nothing but ready after a while.
#[derive(Clone, Copy, Debug)]
pub struct ReadyAfter(pub Duration);

impl Containers for ReadyAfter {
    async fn start(&self, _pod: &str) {
        tokio::time::sleep(self.0).await;
    }

    async fn stop(&self, _pod: &str) {}
}

/// Runs the pods of a namespace until it is dropped.
#[derive(Debug)]
pub struct Kubelet {
    task: JoinHandle<()>,
}

impl Kubelet {
    /// Begins with the pods that there are.
    pub fn start(client: Client, namespace: &str, containers: impl Containers) -> Self {
        let mut pods =
            Pods { api: Api::namespaced(client, namespace), containers: Arc::new(containers), running: HashMap::new() };
        Self { task: tokio::spawn(async move { follow(pods.api.clone(), |change| pods.see(change)).await }) }
    }
}

impl Drop for Kubelet {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Pods<C> {
    api: Api<Pod>,
    containers: Arc<C>,
    /// By uid: what starts a pod's containers; `None` once they are ended.
    running: HashMap<String, Option<JoinHandle<()>>>,
}

/// What a kubelet has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Todo {
    Start,
    Stop,
    Nothing,
}

/// What is to do about a pod: `known` says whether it was started, and then whether it still runs.
fn todo(known: Option<bool>, is_leaving: bool) -> Todo {
    match (known, is_leaving) {
        (None, false) => Todo::Start,
        (None | Some(true), true) => Todo::Stop,
        (Some(_), false) | (Some(false), true) => Todo::Nothing,
    }
}

impl<C: Containers> Pods<C> {
    fn see(&mut self, change: Change<Pod>) {
        let (pod, is_gone) = match change {
            Change::Is(pod) => (pod, false),
            Change::Gone(pod) => (pod, true),
        };
        let (name, uid) = (pod.name_any(), pod.uid().unwrap_or_default());
        let known = self.running.get(&uid).map(Option::is_some);
        let is_leaving = is_gone || pod.metadata.deletion_timestamp.is_some();
        match todo(known, is_leaving) {
            Todo::Nothing => {}
            Todo::Start => {
                let (api, containers) = (self.api.clone(), Arc::clone(&self.containers));
                let started = async move {
                    containers.start(&name).await;
                    ready(&api, &name).await;
                };
                self.running.insert(uid.clone(), Some(tokio::spawn(started)));
            }
            Todo::Stop => {
                if let Some(starting) = self.running.insert(uid.clone(), None).flatten() {
                    starting.abort();
                }
                let (api, containers, uid) = (self.api.clone(), Arc::clone(&self.containers), uid.clone());
                tokio::spawn(async move {
                    containers.stop(&name).await;
                    if !is_gone {
                        delete(&api, &name, uid).await;
                    }
                });
            }
        }
        if is_gone {
            self.running.remove(&uid);
        }
    }
}

/// Says that a pod is ready. Nothing is lost where it is gone already.
async fn ready(api: &Api<Pod>, name: &str) {
    let conditions = ["Ready", "ContainersReady"].map(|kind| json!({"type": kind, "status": "True"}));
    let status = json!({"status": {"phase": "Running", "conditions": conditions}});
    let _ = api.patch_status(name, &PatchParams::default(), &Patch::Strategic(status)).await;
}

/// Deletes a pod that has ended, and not another one of its name.
async fn delete(api: &Api<Pod>, name: &str, uid: String) {
    let same = Preconditions { uid: Some(uid), resource_version: None };
    let parameters =
        DeleteParams { grace_period_seconds: Some(0), preconditions: Some(same), ..DeleteParams::default() };
    let _ = api.delete(name, &parameters).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_is_started_once_and_ended_once() {
        assert_eq!(todo(None, false), Todo::Start);
        assert_eq!(todo(Some(true), false), Todo::Nothing);
        assert_eq!(todo(Some(true), true), Todo::Stop);
        assert_eq!(todo(Some(false), true), Todo::Nothing);
        assert_eq!(todo(Some(false), false), Todo::Nothing);
        // It went while nobody looked: what it left has to be ended.
        assert_eq!(todo(None, true), Todo::Stop);
    }
}
