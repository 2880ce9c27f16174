//! Argo Rollouts' controller.

use std::process::Command;

use super::prometheus;
use crate::kubernetes::Kubernetes;
use crate::place::Place;
use crate::process::{Process, page};

const HEALTH_PORT: u16 = 8094;
const METRICS_PORT: u16 = 8093;
const START_SECONDS_MAX: u64 = 60;

/// The controller, running.
#[derive(Debug)]
pub struct Rollouts {
    _controller: Process,
}

impl Rollouts {
    /// Starts it, with the kinds that are its own.
    ///
    /// # Errors
    /// When it does not come up; with the end of its log.
    pub async fn start(place: &Place, kubernetes: &Kubernetes) -> Result<Self, String> {
        kubernetes.define(&place.crds("rollout-crds")?).await?;
        let mut command = Command::new(place.file("argo-rollouts")?);
        command.arg(format!("--kubeconfig={}", Kubernetes::kubeconfig().display()));
        command.arg(format!("--healthzPort={HEALTH_PORT}")).arg(format!("--metricsPort={METRICS_PORT}"));
        command.args(["--leader-elect=false", "--qps=200", "--burst=400"]);
        // Prometheus answers for whatever name a manifest has, as for KEDA.
        command.env("HTTP_PROXY", format!("http://{}", prometheus::ADDRESS)).env("NO_PROXY", "127.0.0.1,localhost");
        let mut controller = Process::start("argo-rollouts", &mut command)?;
        let health = format!("http://127.0.0.1:{HEALTH_PORT}/healthz");
        controller.until("healthy", START_SECONDS_MAX, || page(&health)).await?;
        Ok(Self { _controller: controller })
    }
}
