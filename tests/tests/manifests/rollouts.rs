//! What has to agree between a roll-out, the routes that it opens, what it is judged by, and the configuration.

use std::collections::BTreeSet;

use serde_json::Value;

use super::checks::{Problems, model_named};
use super::set::{Document, Set, list, names};

/// Every Rollout and Canary.
pub fn rollouts(set: &Set) -> Problems {
    let mut problems = Problems::new();
    for rollout in set.of_kind("Rollout") {
        argo(set, rollout, &mut |what| problems.push(format!("{}: {what}", rollout.title())));
    }
    for canary in set.of_kind("Canary") {
        flagger(set, canary, &mut |what| problems.push(format!("{}: {what}", canary.title())));
    }
    problems
}

fn argo(set: &Set, rollout: &Document, complain: &mut impl FnMut(String)) {
    let canary = &rollout.value["spec"]["strategy"]["canary"];
    let istio = &canary["trafficRouting"]["istio"];
    let (stable, tried) =
        (&istio["destinationRule"]["stableSubsetName"], &istio["destinationRule"]["canarySubsetName"]);
    // The route that is opened is of the canary alone: Penstock draws, so there is nothing to split.
    for name in list(&istio["virtualService"]["routes"]) {
        let rules = set.of_kind("VirtualService").filter(|service| {
            let meta = &service.value["metadata"];
            let full = format!("{}.{}", text(&meta["name"]), text(&meta["namespace"]));
            istio["virtualService"]["name"] == *full
        });
        let rule = rules.flat_map(|service| list(&service.value["spec"]["http"])).find(|rule| rule["name"] == *name);
        let Some(rule) = rule else {
            complain(format!("there is no route {name}"));
            continue;
        };
        if rule["match"][0]["headers"]["x-penstock-version"]["exact"] != *tried {
            complain(format!("{name} is not the route of {tried}"));
        }
        let ways: Vec<_> = list(&rule["route"])
            .iter()
            .map(|way| {
                (
                    &way["destination"]["subset"],
                    &way["weight"],
                    &way["headers"]["response"]["set"]["x-penstock-version"],
                )
            })
            .collect();
        let shut = [(tried, &Value::from(0), tried), (stable, &Value::from(100), stable)];
        if ways != shut {
            complain(format!("{name} is not shut, or does not name who serves: {ways:?}"));
        }
    }
    let same_place = |rule: &&Document| {
        rule.value["metadata"]["name"] == istio["destinationRule"]["name"]
            && rule.value["metadata"]["namespace"] == rollout.value["metadata"]["namespace"]
    };
    match set.of_kind("DestinationRule").find(same_place) {
        Some(rule) if list(&rule.value["spec"]["subsets"]).iter().any(|own| own["labels"] != serde_json::json!({})) => {
            complain("its subsets have labels that Argo's pods may not have".into());
        }
        Some(_) => {}
        None => complain(format!("there is no DestinationRule {} beside it", istio["destinationRule"]["name"])),
    }
    let weights: Vec<_> = list(&canary["steps"]).iter().filter_map(|step| step.get("setWeight")).collect();
    if weights != [100] {
        complain(format!("weights are {weights:?}: the route is of the canary alone"));
    }
    let analyses = list(&canary["steps"]).iter().map(|step| &step["analysis"]).chain([&canary["analysis"]]);
    for analysis in analyses.filter(|analysis| !analysis.is_null()) {
        arguments(set, rollout, analysis, complain);
        judged(set, analysis, tried, stable, complain);
    }
}

/// Every argument that its templates ask for is given, or has a value; and none is given that they do not ask for.
fn arguments(set: &Set, rollout: &Document, analysis: &Value, complain: &mut impl FnMut(String)) {
    let given = names(&analysis["args"]);
    for own in list(&analysis["templates"]) {
        let is_it = |template: &&Document| {
            template.value["metadata"]["name"] == own["templateName"]
                && template.value["metadata"]["namespace"] == rollout.value["metadata"]["namespace"]
        };
        let Some(template) = set.of_kind("AnalysisTemplate").find(is_it) else {
            complain(format!("there is no AnalysisTemplate {}", own["templateName"]));
            continue;
        };
        let all = list(&template.value["spec"]["args"]);
        let needed: BTreeSet<_> =
            all.iter().filter(|one| one["value"].is_null()).map(|one| text(&one["name"]).to_owned()).collect();
        let known: BTreeSet<_> = names(&template.value["spec"]["args"]);
        if !needed.is_subset(&given) || !given.is_subset(&known) {
            complain(format!("{} takes {known:?}, needs {needed:?}, and is given {given:?}", own["templateName"]));
        }
        let spec = template.value["spec"]["metrics"].to_string();
        for unused in known.iter().filter(|name| !spec.contains(&format!("{{{{args.{name}}}}}"))) {
            complain(format!("{} does not use {unused}", own["templateName"]));
        }
    }
}

/// It is judged as the versions that the configuration has.
fn judged(set: &Set, analysis: &Value, tried: &Value, stable: &Value, complain: &mut impl FnMut(String)) {
    let argument = |name: &str| {
        list(&analysis["args"]).iter().find(|one| one["name"] == name).map_or(&Value::Null, |one| &one["value"])
    };
    same_versions(set, argument("model"), argument("version"), tried, complain);
    if !argument("stable").is_null() && argument("stable") != stable {
        complain(format!("it is compared with {}, and stable is {stable}", argument("stable")));
    }
}

/// The model has two versions, and the second one is tried.
fn same_versions(set: &Set, model: &Value, judged: &Value, tried: &Value, complain: &mut impl FnMut(String)) {
    let model = model_named(set, text(model));
    let versions: Vec<_> = list(&model["versions"]).iter().map(|version| &version["name"]).collect();
    if judged != tried || versions.len() != 2 || versions[1] != tried {
        complain(format!("{tried} is tried, {judged} judged, and configured are {versions:?}"));
    }
    if list(&model["versions"]).iter().any(|version| version["model"] != model["versions"][0]["model"]) {
        complain("versions have names of their own, which the other one's servers do not know".into());
    }
}

fn flagger(set: &Set, canary: &Document, complain: &mut impl FnMut(String)) {
    let spec = &canary.value["spec"];
    let tried = &spec["analysis"]["match"][0]["headers"]["x-penstock-version"]["exact"];
    if spec["service"]["delegation"] != true || spec["analysis"]["maxWeight"].is_u64() {
        complain("it splits, which Penstock does".into());
    }
    let (own, place) = (&canary.value["metadata"]["name"], &canary.value["metadata"]["namespace"]);
    let rules: Vec<_> =
        set.of_kind("VirtualService").flat_map(|service| list(&service.value["spec"]["http"])).collect();
    if !rules.iter().any(|rule| rule["delegate"]["name"] == *own && rule["delegate"]["namespace"] == *place) {
        complain("no route leads to its VirtualService".into());
    }
    for metric in list(&spec["analysis"]["metrics"]) {
        let known = set.of_kind("MetricTemplate").find(|template| {
            let meta = &template.value["metadata"];
            meta["name"] == metric["templateRef"]["name"] && meta["namespace"] == metric["templateRef"]["namespace"]
        });
        let variables = &metric["templateVariables"];
        match known {
            Some(template) => {
                let query = text(&template.value["spec"]["query"]);
                let asked = query.split("{{ variables.").skip(1).filter_map(|rest| rest.split(" }}").next());
                for missing in asked.filter(|name| !variables[name].is_string()) {
                    complain(format!("{} is not told {missing}", metric["name"]));
                }
            }
            None => complain(format!("there is no MetricTemplate {}", metric["templateRef"]["name"])),
        }
        same_versions(set, &variables["model"], &variables["version"], tried, complain);
        if metric["thresholdRange"].as_object().is_none_or(serde_json::Map::is_empty) {
            complain(format!("{} has no bound", metric["name"]));
        }
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("")
}
