//! kube-controller-manager with the three controllers that scaling takes: of Deployments, of ReplicaSets and of HorizontalPodAutoscalers.
//! What is deleted leaves what it owned: the garbage collector is not among them.

use std::process::Command;
use std::time::Duration;

use crate::kubernetes::Kubernetes;
use crate::place::Place;
use crate::process::Process;

/// The HPA's own window where a behaviour says nothing, in seconds.
const DOWNSCALE_SECONDS: u32 = 300;

/// The running controllers.
#[derive(Debug)]
pub struct Controllers {
    _process: Process,
}

impl Controllers {
    /// Starts them. `tolerance` is the part by which a metric may be off its target before the HPA acts.
    ///
    /// # Errors
    /// When they cannot be started.
    pub fn start(place: &Place, sync: Duration, tolerance: f64, times: u32) -> Result<Self, String> {
        let mut command = Command::new(place.file("kube-controller-manager")?);
        command.arg(format!("--kubeconfig={}", Kubernetes::kubeconfig().display()));
        command.args([
            "--controllers=deployment-controller,replicaset-controller,horizontal-pod-autoscaler-controller",
            "--leader-elect=false",
            "--bind-address=127.0.0.1",
            "--secure-port=10257",
            "--kube-api-qps=200",
            "--kube-api-burst=400",
        ]);
        command.arg(format!("--horizontal-pod-autoscaler-sync-period={}ms", sync.as_millis()));
        command.arg(format!("--horizontal-pod-autoscaler-tolerance={tolerance}"));
        let window = DOWNSCALE_SECONDS * 1000 / times;
        command.arg(format!("--horizontal-pod-autoscaler-downscale-stabilization={window}ms"));
        Ok(Self { _process: Process::start("kube-controller-manager", &mut command)? })
    }
}
