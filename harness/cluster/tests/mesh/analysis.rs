//! What Istio's own checks say of the sets.

use std::fs;
use std::process::Command;

use penstock_cluster::keys::Key;
use penstock_cluster::kubernetes::Kubernetes;
use penstock_cluster::place::DIRECTORY;
use serde_json::{Value, json};

use crate::gateway_api::{self, LABEL};
use crate::stage::{Base, Set, Stage, run, shipped};

#[test]
fn istioctl_finds_nothing_to_say() {
    run(async |base| {
        if base.place.file("istioctl").is_err() {
            println!("istioctl is built of the newest line only");
            return;
        }
        for set in Set::ALL {
            let is_of_istio = set != Set::GatewayApi;
            let objects = if is_of_istio {
                shipped(base, set, "stage")
            } else {
                gateway_api::set(base, &Key::generate().expect("a key"))
            };
            let path = format!("{DIRECTORY}/set.json");
            let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
            fs::write(&path, list.to_string()).expect("written");
            istioctl(base, &["validate", "-f", &path]);
            let stage = if is_of_istio {
                Stage::with(base, objects, Default::default()).await
            } else {
                gateway_api::up(base, objects).await
            };
            // Only in the API server: the gateway and the model servers are processes without a kubelet.
            let gateway = if is_of_istio { json!({"istio": "ingressgateway"}) } else { json!({LABEL: "llm"}) };
            let name = if is_of_istio { "gateway" } else { "llm-istio" };
            let mut known = vec![pod("istio-ingress", name, &gateway), service(name, &gateway)];
            for server in &stage.servers {
                let labels = json!({"app": server.model, "version": server.version});
                known.push(pod("llm", &format!("{}-{}", server.model, server.version), &labels));
            }
            base.kubernetes.apply(&known).await.expect("pods");
            let said =
                istioctl(base, &["analyze", "--all-namespaces", "--output", "json", "--failure-threshold", "Error"]);
            let said: Vec<Value> = serde_json::from_str(&said).unwrap_or_default();
            // IST0133: that it is an EnvoyFilter, as every one is told.
            // IST0127: it looks for an AuthorizationPolicy's pods by a selector only, and this one has targetRefs.
            let is_blind = |message: &Value| {
                set == Set::GatewayApi
                    && message["code"] == "IST0127"
                    && message["origin"].as_str().is_some_and(|origin| origin.starts_with("AuthorizationPolicy "))
            };
            let is_fault =
                |message: &&Value| message["level"] != "Info" && message["code"] != "IST0133" && !is_blind(message);
            let faults: Vec<&Value> = said.iter().filter(is_fault).collect();
            assert!(faults.is_empty(), "{set:?}: {faults:#?}");
            base.kubernetes.delete(&known).await.expect("deleted");
        }
    });
}

fn pod(namespace: &str, name: &str, labels: &Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "spec": {"containers": [{"name": "server", "image": "registry.example.com/server:1"}]},
    })
}

fn service(name: &str, selector: &Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "istio-ingress"},
        "spec": {"selector": selector, "ports": [{"name": "http", "port": 80, "targetPort": 80}]},
    })
}

/// Runs it; what it printed.
fn istioctl(base: &Base, arguments: &[&str]) -> String {
    let mut command = Command::new(base.place.file("istioctl").expect("istioctl"));
    let output = command.args(arguments).arg("--kubeconfig").arg(Kubernetes::kubeconfig()).output().expect("it runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "istioctl {arguments:?}: {}\n{out}\n{err}", output.status);
    out
}
