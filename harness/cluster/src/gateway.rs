//! A gateway: Istio's agent with a stock Envoy, as in a pod of the chart `gateway`.

use std::fs;
use std::path::Path;
use std::process::Command;

use penstock_harness::envoy::Metrics;
use serde_json::{Value, json};

use crate::istiod::{DISCOVERY, Mesh};
use crate::place::{DIRECTORY, Place};
use crate::process::{Process, page};
use crate::registry;

const START_SECONDS_MAX: u64 = 90;

/// How a gateway differs from the others.
#[derive(Clone, Debug)]
pub struct Options {
    /// The pod's name.
    pub name: String,
    /// The pod's labels, which Gateway, EnvoyFilter, Telemetry and plugins select.
    pub labels: Value,
    /// Is added to the usual ports 15000, 15020, 15021 and 15090: gateways share an address here.
    pub port_offset: u16,
    /// Environment variables of the pod, as Helm's values for a gateway have them.
    pub env: Vec<(String, String)>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            name: "gateway-0".to_owned(),
            labels: json!({"istio": "ingressgateway"}),
            port_offset: 0,
            env: Vec::new(),
        }
    }
}

/// A running gateway.
#[derive(Debug)]
pub struct Gateway {
    process: Process,
    options: Options,
}

impl Gateway {
    /// Starts it and waits until it says that it is ready, which does not say that it has a module.
    ///
    /// # Errors
    /// When it does not come up; with the end of its log.
    pub async fn start(place: &Place, mesh: &Mesh, options: Options) -> Result<Self, String> {
        let template = place.file("envoy_bootstrap.json")?;
        let directory = Path::new(DIRECTORY).join(&options.name);
        fs::create_dir_all(&directory).map_err(|error| format!("{}: {error}", directory.display()))?;
        let port = |usual: u16| (usual + options.port_offset).to_string();
        let config = json!({
            "discoveryAddress": DISCOVERY, "controlPlaneAuthPolicy": "NONE", "binaryPath": place.envoy, "serviceCluster": "gateway",
            "configPath": directory.join("proxy"), "proxyBootstrapTemplatePath": template, "concurrency": 2,
            "proxyAdminPort": 15000 + options.port_offset, "statusPort": 15020 + options.port_offset,
            "drainDuration": "5s", "terminationDrainDuration": "1s",
        });
        let mut command = Command::new(place.file("pilot-agent")?);
        // Its sockets are in the directory where it runs.
        command.current_dir(&directory);
        command.args(["proxy", "router", "--domain", "istio-ingress.svc.cluster.local"]);
        command.arg("--meshConfig").arg(mesh.write()?).arg("--templateFile").arg(&template);
        command.args(["--proxyLogLevel=info", "--log_output_level=default:info,wasm:debug"]);
        command.envs([
            ("POD_NAME", options.name.as_str()),
            ("POD_NAMESPACE", "istio-ingress"),
            ("INSTANCE_IP", "127.0.0.1"),
            ("ISTIO_META_CLUSTER_ID", "Kubernetes"),
            ("ISTIO_META_MESH_ID", "cluster.local"),
            ("ISTIO_META_WORKLOAD_NAME", "gateway"),
            ("ISTIO_METAJSON_LABELS", &options.labels.to_string()),
            ("TRUST_DOMAIN", "cluster.local"),
            ("PROXY_CONFIG", &config.to_string()),
            ("ENVOY_STATUS_PORT", &port(15021)),
            ("ENVOY_PROMETHEUS_PORT", &port(15090)),
            // Nobody signs certificates here.
            ("FILE_MOUNTED_CERTS", "true"),
            ("CA_PROVIDER", "none"),
            ("XDS_AUTH_PROVIDER", ""),
            ("PEER_METADATA_DISCOVERY", "false"),
            ("WASM_INSECURE_REGISTRIES", registry::ADDRESS),
            // A test of a failed fetch should not wait for five of them.
            ("WASM_HTTP_REQUEST_MAX_RETRIES", "2"),
        ]);
        command.envs(options.env.iter().map(|(name, value)| (name, value)));
        let process = Process::start(&options.name, &mut command)?;
        let mut gateway = Self { process, options };
        let ready = gateway.ready_url();
        gateway.process.until("ready", START_SECONDS_MAX, || page(&ready)).await?;
        Ok(gateway)
    }

    /// What the readiness probe of the pod asks.
    pub fn ready_url(&self) -> String {
        format!("http://127.0.0.1:{}/healthz/ready", self.port(15021))
    }

    fn port(&self, usual: u16) -> u16 {
        usual + self.options.port_offset
    }

    /// The body of a page of Envoy's admin interface.
    ///
    /// # Errors
    /// When it does not answer with 200.
    pub async fn admin(&self, path: &str) -> Result<String, String> {
        page(&format!("http://127.0.0.1:{}{path}", self.port(15000))).await
    }

    /// The metrics as Prometheus has them of a pod with Istio's annotations: the agent's and Envoy's in one.
    ///
    /// # Errors
    /// When the agent does not answer.
    pub async fn metrics(&self) -> Result<Metrics, String> {
        Ok(Metrics::parse(&page(&format!("http://127.0.0.1:{}/stats/prometheus", self.port(15020))).await?))
    }

    /// Where Prometheus scrapes Envoy: the port `http-envoy-prom` of the pod.
    pub fn envoy_metrics(&self) -> String {
        format!("127.0.0.1:{}", self.port(15090))
    }

    /// The pod's name.
    pub fn name(&self) -> &str {
        &self.options.name
    }

    /// What the agent and Envoy printed so far, the access log among it.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Asks it to end, as Kubernetes does: SIGTERM to the agent.
    pub fn ask_to_end(&self) {
        self.process.ask_to_end();
    }

    /// Waits until it has ended.
    ///
    /// # Errors
    /// When it is still there after so many seconds.
    pub async fn ended(&mut self, seconds: u64) -> Result<(), String> {
        self.process.ended(seconds).await
    }

    /// Ends it as Kubernetes does: SIGTERM, and time to drain.
    ///
    /// # Errors
    /// When it is still there after so many seconds.
    pub async fn terminate(&mut self, seconds: u64) -> Result<(), String> {
        self.process.terminate(seconds).await
    }
}
