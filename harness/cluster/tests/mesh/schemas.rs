//! Whether the API server takes what is shipped as it stands there: every field known to the schemas of whoever reads it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use penstock_cluster::kubernetes::namespace;
use penstock_cluster::objects;

use crate::stage::run;

#[test]
fn every_object_that_is_shipped_is_accepted() {
    run(async |base| {
        for more in ["keda-crds", "rollout-crds", "more-crds"] {
            let more = base.place.crds(more).expect("the schemas");
            base.kubernetes.define(&more).await.expect("they are served");
        }
        let sets = kustomizations(&base.place.checkout.join("istio"));
        assert!(sets.len() >= 4, "{sets:?}");
        let read = |set: PathBuf| (objects::kustomization(&base.place, &set), set);
        let mut shipped: Vec<_> = sets.into_iter().map(read).collect();
        let envoy_gateway = base.place.checkout.join("envoy/envoy-gateway/penstock.yaml");
        shipped.push((objects::read(&envoy_gateway), envoy_gateway));
        for (objects, set) in shipped {
            let objects = objects.unwrap_or_else(|message| panic!("{message}"));
            assert!(!objects.is_empty(), "{}", set.display());
            let names = objects.iter().filter_map(|object| object["metadata"]["namespace"].as_str());
            for name in names.collect::<BTreeSet<_>>() {
                base.kubernetes.apply(&[namespace(name)]).await.expect("a namespace");
            }
            let applied = base.kubernetes.apply(&objects).await;
            applied.unwrap_or_else(|message| panic!("{}: {message}", set.display()));
            base.kubernetes.delete(&objects).await.expect("deleted");
        }
    });
}

#[test]
fn a_field_that_no_schema_has_is_refused() {
    run(async |base| {
        let set = base.place.checkout.join("istio/mesh/trafficextension");
        let mut objects = objects::kustomization(&base.place, &set).expect("the set");
        for extension in objects::of_kind(&mut objects, "TrafficExtension") {
            extension["spec"]["wasm"]["pluginname"] = extension["spec"]["wasm"]["pluginName"].take();
        }
        let refused = base.kubernetes.apply(&objects).await.expect_err("an unknown field");
        assert!(refused.contains("pluginname"), "{refused}");
    });
}

/// The directories below this one that have a list of objects.
fn kustomizations(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).expect("a directory").map(|entry| entry.expect("an entry").path());
    let mut found: Vec<PathBuf> = entries.filter(|path| path.is_dir()).flat_map(|path| kustomizations(&path)).collect();
    found.extend(directory.join("kustomization.yaml").is_file().then(|| directory.to_owned()));
    found.sort();
    found
}
