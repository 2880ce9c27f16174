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
            // Only in the API server: the gateway is a process of its own.
            let pod = json!({
                "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "gateway-0", "namespace": "istio-ingress", "labels": {"istio": "ingressgateway"}},
                "spec": {"containers": [{"name": "istio-proxy", "image": "auto"}]},
            });
            base.kubernetes.apply(&[pod]).await.expect("a pod");
            let said =
                istioctl(base, &["analyze", "--all-namespaces", "--output", "json", "--failure-threshold", "Error"]);
            let said: Vec<Value> = serde_json::from_str(&said).unwrap_or_default();
            let faults: Vec<&Value> = said.iter().filter(|message| message["level"] != "Info").collect();
            assert!(faults.is_empty(), "{set:?}: {faults:#?}");
            drop(stage);
        }
    });
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
