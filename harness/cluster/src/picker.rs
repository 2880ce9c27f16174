//! An endpoint picker: that of the Gateway API Inference Extension, as its chart deploys it for a pool.

use std::process::Command;

use penstock_harness::envoy::Metrics;
use serde_json::{Value, json};

use crate::kubernetes::Kubernetes;
use crate::place::Place;
use crate::process::{Process, page};

/// Where gateways ask it.
const PORT: u16 = 9002;
const HEALTH_PORT: u16 = 9003;
const METRICS_PORT: u16 = 9004;
const START_SECONDS_MAX: u64 = 60;

/// What the chart configures: less queue, less of the cache in use, and the prefix in the cache.
const CONFIG: &str = "\
apiVersion: inference.networking.x-k8s.io/v1alpha1
kind: EndpointPickerConfig
plugins:
- type: queue-scorer
- type: kv-cache-utilization-scorer
- type: prefix-cache-scorer
- type: metrics-data-source
- type: core-metrics-extractor
schedulingProfiles:
- name: default
  plugins:
  - {pluginRef: queue-scorer, weight: 2}
  - {pluginRef: kv-cache-utilization-scorer, weight: 2}
  - {pluginRef: prefix-cache-scorer, weight: 3}
";

/// A running picker.
#[derive(Debug)]
pub struct Picker {
    _process: Process,
}

impl Picker {
    /// Starts it for a pool of the namespace `llm`, and waits until it says what it measures.
    ///
    /// # Errors
    /// When it does not come up; with the end of its log.
    pub async fn start(place: &Place, pool: &str) -> Result<Self, String> {
        let mut command = Command::new(place.file("epp")?);
        command.env("KUBECONFIG", Kubernetes::kubeconfig());
        command.args(["--pool-name", pool, "--pool-namespace", "llm", "--config-text", CONFIG]);
        for (name, port) in [("grpc", PORT), ("grpc-health", HEALTH_PORT), ("metrics", METRICS_PORT)] {
            command.arg(format!("--{name}-port={port}"));
        }
        command.args(["--metrics-endpoint-auth=false", "--tracing=false"]);
        let mut process = Process::start("epp", &mut command)?;
        let metrics = metrics_url();
        process.until("measures", START_SECONDS_MAX, || page(&metrics)).await?;
        Ok(Self { _process: process })
    }

    /// Its metrics.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn metrics(&self) -> Result<Metrics, String> {
        Ok(Metrics::parse(&page(&metrics_url()).await?))
    }
}

fn metrics_url() -> String {
    format!("http://127.0.0.1:{METRICS_PORT}/metrics")
}

/// The pool, and the objects by which gateways find its picker: as the extension's chart makes them for Istio, and the picker's endpoint.
pub fn objects(pool: &str, labels: &Value, port: u16) -> Vec<Value> {
    let name = format!("{pool}-epp");
    let host = format!("{name}.llm.svc.cluster.local");
    vec![
        json!({
            "apiVersion": "inference.networking.k8s.io/v1", "kind": "InferencePool", "metadata": {"name": pool, "namespace": "llm"},
            "spec": {
                "selector": {"matchLabels": labels}, "targetPorts": [{"number": port}],
                "endpointPickerRef": {"name": name, "port": {"number": PORT}, "failureMode": "FailClose"},
            },
        }),
        json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "llm"},
            "spec": {"clusterIP": "None", "ports": [{"name": "grpc-ext-proc", "port": PORT, "appProtocol": "http2"}]},
        }),
        json!({
            "apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry", "metadata": {"name": name, "namespace": "llm"},
            "spec": {
                "hosts": [host], "location": "MESH_INTERNAL", "resolution": "STATIC",
                "ports": [{"number": PORT, "name": "grpc-ext-proc", "protocol": "GRPC"}], "endpoints": [{"address": "127.0.0.1"}],
            },
        }),
        json!({
            "apiVersion": "networking.istio.io/v1", "kind": "DestinationRule", "metadata": {"name": name, "namespace": "llm"},
            "spec": {"host": host, "trafficPolicy": {"tls": {"mode": "SIMPLE", "insecureSkipVerify": true}}},
        }),
    ]
}
