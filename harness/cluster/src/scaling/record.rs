//! How many replicas Deployments were told to have, and when.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::api::apps::v1::Deployment;
use kube::{Api, Client, ResourceExt};
use tokio::task::JoinHandle;

use crate::watch::{Change, follow};

/// From when on a Deployment had how many.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// Since the record began.
    pub at: Duration,
    /// `spec.replicas`.
    pub replicas: i32,
}

/// Writes down every change of `spec.replicas` in a namespace until it is dropped.
#[derive(Debug)]
pub struct Record {
    began: Instant,
    steps: Arc<Mutex<BTreeMap<String, Vec<Step>>>>,
    task: JoinHandle<()>,
}

impl Record {
    /// Begins with what there is.
    pub fn start(client: Client, namespace: &str) -> Self {
        let began = Instant::now();
        let steps: Arc<Mutex<BTreeMap<String, Vec<Step>>>> = Arc::default();
        let (api, written) = (Api::<Deployment>::namespaced(client, namespace), Arc::clone(&steps));
        let task = tokio::spawn(async move {
            follow(api, |change| {
                let Change::Is(deployment) = change else { return };
                let replicas = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or_default();
                let mut steps = written.lock().unwrap_or_else(PoisonError::into_inner);
                let steps = steps.entry(deployment.name_any()).or_default();
                if steps.last().is_none_or(|last| last.replicas != replicas) {
                    steps.push(Step { at: began.elapsed(), replicas });
                }
            })
            .await;
        });
        Self { began, steps, task }
    }

    /// The time, as the record has it.
    pub fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// What is written down of a Deployment; empty before it is there.
    pub fn of(&self, deployment: &str) -> Vec<Step> {
        self.steps.lock().unwrap_or_else(PoisonError::into_inner).get(deployment).cloned().unwrap_or_default()
    }

    /// How many a Deployment has now; 0 before it is there.
    pub fn replicas(&self, deployment: &str) -> i32 {
        self.of(deployment).last().map_or(0, |step| step.replicas)
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        self.task.abort();
    }
}
