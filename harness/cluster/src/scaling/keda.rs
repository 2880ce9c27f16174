//! KEDA's operator and its metrics adapter, which the API server asks for external metrics.

use std::path::Path;
use std::process::Command;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::prometheus;
use crate::kubernetes::{Kubernetes, namespace};
use crate::place::Place;
use crate::process::{Process, eventually, listens, page};

const NAMESPACE: &str = "keda";
/// The Service in whose name the adapter answers.
const SERVICE: &str = "keda-metrics";
const ADAPTER_PORT: u16 = 6444;
const OPERATOR: &str = "127.0.0.1:9666";
const OPERATOR_HEALTH: &str = "127.0.0.1:8091";
const START_SECONDS_MAX: u64 = 60;

/// Both of them, running.
#[derive(Debug)]
pub struct Keda {
    operator: Process,
    _adapter: Process,
}

impl Keda {
    /// Starts both, and waits until the API server serves external metrics by them.
    ///
    /// # Errors
    /// When one of them does not come up; with the end of its log.
    pub async fn start(place: &Place, kubernetes: &Kubernetes) -> Result<Self, String> {
        // Without one of them the operator ends after two minutes.
        kubernetes.define(&place.crds("keda-crds")?).await?;
        kubernetes.apply(&[namespace(NAMESPACE)]).await?;
        let authority = kubernetes.authority();
        // The operator looks for `tls.crt`, and both for `ca.crt` beside it.
        authority.issue("tls", &["localhost", "127.0.0.1", &format!("{SERVICE}.{NAMESPACE}.svc")])?;
        let directory = authority.directory();
        let mut operator = Process::start("keda-operator", &mut operator(place, directory)?)?;
        let mut adapter = Process::start("keda-adapter", &mut adapter(place, directory)?)?;
        let health = format!("http://{OPERATOR_HEALTH}/readyz");
        operator.until("ready", START_SECONDS_MAX, || page(&health)).await?;
        adapter.until("listens", START_SECONDS_MAX, || listens(ADAPTER_PORT)).await?;
        kubernetes.apply(&objects(&authority.pem())).await?;
        let served = || async {
            let path = http::Request::get("/apis/external.metrics.k8s.io/v1beta1").body(Vec::new());
            let path = path.map_err(|error| error.to_string())?;
            kubernetes.client().request_text(path).await.map_err(|error| error.to_string())
        };
        adapter.until("is asked for external metrics", START_SECONDS_MAX, served).await?;
        Ok(Self { operator, _adapter: adapter })
    }

    /// Ends the operator as a node that fails does, and starts another one.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn replace_operator(&mut self, place: &Place, kubernetes: &Kubernetes) -> Result<(), String> {
        self.operator.kill();
        self.operator = Process::start("keda-operator", &mut operator(place, kubernetes.authority().directory())?)?;
        let health = format!("http://{OPERATOR_HEALTH}/readyz");
        eventually("the operator is back", START_SECONDS_MAX, || page(&health)).await.map(drop)
    }
}

fn operator(place: &Place, certificates: &Path) -> Result<Command, String> {
    let mut command = Command::new(place.file("keda-operator")?);
    command.arg(format!("--cert-dir={}", certificates.display()));
    command.arg(format!("--metrics-service-bind-address={OPERATOR}"));
    command.arg(format!("--health-probe-bind-address={OPERATOR_HEALTH}"));
    command.args(["--metrics-bind-address=127.0.0.1:8090", "--zap-encoder=console", "--zap-log-level=info"]);
    command.args(["--kube-api-qps=200", "--kube-api-burst=400"]);
    common(&mut command);
    // Prometheus answers for whatever name a manifest has: the operator takes it for its proxy, and it takes absolute URIs.
    command.env("HTTP_PROXY", format!("http://{}", prometheus::ADDRESS)).env("NO_PROXY", "127.0.0.1,localhost");
    Ok(command)
}

fn adapter(place: &Place, certificates: &Path) -> Result<Command, String> {
    let mut command = Command::new(place.file("keda-adapter")?);
    let kubeconfig = Kubernetes::kubeconfig();
    for flag in ["lister-kubeconfig", "authentication-kubeconfig", "authorization-kubeconfig"] {
        command.arg(format!("--{flag}={}", kubeconfig.display()));
    }
    for (flag, file) in [("cert-dir", ""), ("tls-cert-file", "tls.crt"), ("tls-private-key-file", "tls.key")] {
        command.arg(format!("--{flag}={}", certificates.join(file).display()));
    }
    command.arg(format!("--secure-port={ADAPTER_PORT}")).arg(format!("--metrics-service-address={OPERATOR}"));
    command.args(["--bind-address=127.0.0.1", "--port=8092"]);
    common(&mut command);
    Ok(command)
}

fn common(command: &mut Command) {
    command.arg(format!("--kubeconfig={}", Kubernetes::kubeconfig().display()));
    command.envs([
        ("KUBECONFIG", Kubernetes::kubeconfig().display().to_string().as_str()),
        ("WATCH_NAMESPACE", ""),
        ("POD_NAMESPACE", NAMESPACE),
        ("KEDA_CLUSTER_OBJECT_NAMESPACE", NAMESPACE),
        ("OPERATOR_NAME", "keda-operator"),
    ]);
}

/// How the API server finds the adapter: endpoints may not be on loopback, but a name may lead there.
fn objects(authority: &str) -> [Value; 2] {
    [
        json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": SERVICE, "namespace": NAMESPACE},
            "spec": {"type": "ExternalName", "externalName": "localhost"},
        }),
        json!({
            "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
            "metadata": {"name": "v1beta1.external.metrics.k8s.io"},
            "spec": {
                "group": "external.metrics.k8s.io", "version": "v1beta1", "groupPriorityMinimum": 100, "versionPriority": 100,
                "service": {"name": SERVICE, "namespace": NAMESPACE, "port": ADAPTER_PORT}, "caBundle": STANDARD.encode(authority),
            },
        }),
    ]
}
