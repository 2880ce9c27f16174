//! What Istio's own checks say of the sets.

use std::fs;
use std::process::Command;

use penstock_cluster::kubernetes::Kubernetes;
use penstock_cluster::place::DIRECTORY;
use serde_json::{Value, json};

use crate::stage::{Base, Set, Stage, run, shipped};

#[test]
fn istioctl_finds_nothing_to_say() {
    run(async |base| {
        if base.place.file("istioctl").is_err() {
            println!("istioctl is built of the newest line only");
            return;
        }
        for set in Set::BOTH {
            let path = format!("{DIRECTORY}/set.json");
            let list = json!({"apiVersion": "v1", "kind": "List", "items": shipped(base, set, "stage")});
            fs::write(&path, list.to_string()).expect("written");
            istioctl(base, &["validate", "-f", &path]);
            let stage = Stage::up(base, set).await;
            // Only in the API server: the gateway and the model servers are processes without a kubelet.
            let gateway = json!({"istio": "ingressgateway"});
            let mut known = vec![pod("istio-ingress", "gateway", &gateway), service(&gateway)];
            for server in &stage.servers {
                let labels = json!({"app": server.model, "version": server.version});
                known.push(pod("llm", &format!("{}-{}", server.model, server.version), &labels));
            }
            base.kubernetes.apply(&known).await.expect("pods");
            let said =
                istioctl(base, &["analyze", "--all-namespaces", "--output", "json", "--failure-threshold", "Error"]);
            let said: Vec<Value> = serde_json::from_str(&said).unwrap_or_default();
            // IST0133: that it is an EnvoyFilter, as every one is told.
            let is_fault = |message: &&Value| message["level"] != "Info" && message["code"] != "IST0133";
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

fn service(selector: &Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "gateway", "namespace": "istio-ingress"},
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
