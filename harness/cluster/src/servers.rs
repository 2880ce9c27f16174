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
        let of_host: Vec<&Server> = servers.iter().filter(|server| server.model == host).collect();
        service_entry(host, &of_host)
    };
    hosts.into_iter().map(entry).collect()
}

/// The objects that make the servers backends of HTTPRoutes: of each version the Service `MODEL-VERSION`, which a route is looked up by. The
/// API server takes no EndpointSlice on loopback, so the endpoints come from a ServiceEntry for the same host.
pub fn services(servers: &[Server]) -> Vec<Value> {
    let service = |server: &Server| {
        let name = format!("{}-{}", server.model, server.version);
        let service = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "llm"},
            "spec": {"clusterIP": "None", "ports": [{"name": "http", "port": 8000}]},
        });
        [service, service_entry(&name, &[server])]
    };
    servers.iter().flat_map(service).collect()
}

fn service_entry(host: &str, servers: &[&Server]) -> Value {
    let endpoint = |server: &&Server| {
        let port = server.server.address().port();
        json!({"address": "127.0.0.1", "ports": {"http": port}, "labels": {"version": server.version}})
    };
    let endpoints: Vec<Value> = servers.iter().map(endpoint).collect();
    json!({
        "apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry", "metadata": {"name": host, "namespace": "llm"},
        "spec": {
            "hosts": [format!("{host}.llm.svc.cluster.local")], "location": "MESH_INTERNAL", "resolution": "STATIC",
            "ports": [{"number": 8000, "name": "http", "protocol": "HTTP"}], "endpoints": endpoints,
        },
    })
}
