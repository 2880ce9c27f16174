//! istiod, against the API server.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::kubernetes::Kubernetes;
use crate::objects;
use crate::place::{DIRECTORY, Place};
use crate::process::{Process, page};

/// Where gateways find it, without TLS.
pub const DISCOVERY: &str = "127.0.0.1:15010";
const START_SECONDS_MAX: u64 = 60;

/// A running istiod.
#[derive(Debug)]
pub struct Istiod {
    process: Process,
}

/// What Helm would give to the chart `istiod`: the repository's values, and what there is no Helm for here.
#[derive(Clone, Debug)]
pub struct Mesh {
    /// Values of the chart.
    values: Value,
}

impl Mesh {
    /// Reads the values that the repository ships.
    ///
    /// # Errors
    /// When the file is not there.
    pub fn shipped(place: &Place) -> Result<Self, String> {
        let mut values = objects::read(&place.checkout.join("istio/mesh/values-istiod.yaml"))?;
        Ok(Self { values: values.pop().unwrap_or_default() })
    }

    /// Changes a value of the chart.
    #[must_use]
    pub fn with(mut self, pointer: &str, value: Value) -> Self {
        if let Some(place) = self.values.pointer_mut(pointer) {
            *place = value;
        }
        self
    }

    /// Writes the mesh's configuration, for istiod and the agents.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self) -> Result<PathBuf, String> {
        let path = Path::new(DIRECTORY).join("mesh.json");
        let mut mesh = self.values["meshConfig"].clone();
        if !mesh.is_object() {
            mesh = json!({});
        }
        mesh["rootNamespace"] = json!("istio-system");
        mesh["trustDomain"] = json!("cluster.local");
        // Nobody signs certificates here: with automatic mTLS clusters would wait for theirs.
        mesh["enableAutoMtls"] = json!(false);
        fs::write(&path, mesh.to_string()).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(path)
    }
}

impl Istiod {
    /// Starts it and waits until it is ready.
    ///
    /// # Errors
    /// When it does not come up; with the end of its log.
    pub async fn start(place: &Place, mesh: &Mesh) -> Result<Self, String> {
        let mut command = Command::new(place.file("pilot-discovery")?);
        command
            .arg("discovery")
            .arg("--kubeconfig")
            .arg(Kubernetes::kubeconfig())
            .arg("--meshConfig")
            .arg(mesh.write()?);
        command.args(["--networksConfig", "/nonexistent", "--registries=Kubernetes", "-n", "istio-system"]);
        command.args(["--httpAddr", "127.0.0.1:15008", "--httpsAddr=", "--grpcAddr", DISCOVERY, "--secureGRPCAddr="]);
        command.args([
            "--monitoringAddr",
            "127.0.0.1:15014",
            "--ctrlz_port",
            "0",
            "--log_output_level",
            "default:info",
        ]);
        command.envs([
            ("POD_NAME", "istiod-0"),
            ("POD_NAMESPACE", "istio-system"),
            ("CLUSTER_ID", "Kubernetes"),
            // There are no certificates, and no webhooks that would need them.
            ("ENABLE_CA_SERVER", "false"),
            ("PILOT_CERT_PROVIDER", "none"),
            ("INJECTION_WEBHOOK_CONFIG_NAME", ""),
            ("VALIDATION_WEBHOOK_CONFIG_NAME", ""),
            // These filters are Istio's own build of Envoy's.
            ("PILOT_ENABLE_METADATA_EXCHANGE", "false"),
            ("PILOT_ENABLE_ALPN_FILTER", "false"),
            // It would make Deployments of gateways.
            ("PILOT_ENABLE_GATEWAY_API_DEPLOYMENT_CONTROLLER", "false"),
            // Pools of endpoints, once their schemas are there.
            ("ENABLE_GATEWAY_API_INFERENCE_EXTENSION", "true"),
            // Tests wait for every push.
            ("PILOT_DEBOUNCE_AFTER", "50ms"),
        ]);
        for (name, value) in mesh.values["env"].as_object().into_iter().flatten() {
            command.env(name, value.as_str().map_or_else(|| value.to_string(), str::to_owned));
        }
        let mut process = Process::start("istiod", &mut command)?;
        process.until("ready", START_SECONDS_MAX, || page("http://127.0.0.1:15008/ready")).await?;
        Ok(Self { process })
    }

    /// What it printed so far.
    pub fn log(&self) -> String {
        self.process.log()
    }
}
