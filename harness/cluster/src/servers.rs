//! Model servers: processes of ours that the mesh takes for pods of a Service.

use std::io;

use penstock_harness::model_server::{ModelServer, Options};
use serde_json::{Value, json};

/// A server of a version of a model.
#[derive(Debug)]
pub struct Server {
    /// The host `MODEL.llm.svc.cluster.local`.
    pub model: &'static str,
    /// The label `version` of its pods.
    pub version: &'static str,
    /// What it was asked.
    pub server: ModelServer,
}

/// The versions of the shipped configuration.
const VERSIONS: [(&str, &str); 3] = [("chat", "stable"), ("chat", "canary"), ("chat-small", "stable")];

/// Starts a server for each version that the shipped configuration has. In `x-served-by` they call themselves `MODEL-VERSION`.
///
/// # Errors
/// When one of them finds no port.
pub async fn start(options: &Options) -> io::Result<Vec<Server>> {
    let mut servers = Vec::new();
    for (model, version) in VERSIONS {
        let server = ModelServer::start(Options { name: format!("{model}-{version}"), ..options.clone() }).await?;
        servers.push(Server { model, version, server });
    }
    Ok(servers)
}

/// The objects that make the servers endpoints of the hosts that the routes name.
pub fn objects(servers: &[Server]) -> Vec<Value> {
    let mut hosts: Vec<&str> = servers.iter().map(|server| server.model).collect();
    hosts.dedup();
    let entry = |host: &str| {
        let of_host = servers.iter().filter(|server| server.model == host);
        let endpoints: Vec<Value> = of_host
            .map(|server| {
                let port = server.server.address().port();
                json!({"address": "127.0.0.1", "ports": {"http": port}, "labels": {"version": server.version}})
            })
            .collect();
        json!({
            "apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry", "metadata": {"name": host, "namespace": "llm"},
            "spec": {
                "hosts": [format!("{host}.llm.svc.cluster.local")], "location": "MESH_INTERNAL", "resolution": "STATIC",
                "ports": [{"number": 8000, "name": "http", "protocol": "HTTP"}], "endpoints": endpoints,
            },
        })
    };
    hosts.into_iter().map(entry).collect()
}
