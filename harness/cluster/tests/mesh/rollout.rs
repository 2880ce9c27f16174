//! The route of a canary that Argo opens and shuts, by its weights: while it is shut, who is drawn to the canary is served by stable.

use std::collections::BTreeSet;

use penstock_cluster::objects;
use penstock_harness::model_server::Options;
use serde_json::{Value, json};

use crate::stage::{Answer, Base, Set, Stage, configure, run, shipped};

const SESSIONS: usize = 40;

#[test]
fn who_is_drawn_to_a_canary_is_served_while_its_route_is_shut() {
    run(async |base| {
        let stage = Stage::with(base, opened(base, [0, 100]), Options { ttft_ms: 0, ..Options::default() }).await;
        let counted = |answer: &Answer| answer.status == 200 && answer.has("x-penstock-prompt-tokens");
        stage.until("the module is in force", "chat", counted).await;
        assert_eq!(served(&stage).await, BTreeSet::from(["chat-stable".to_owned()]), "before it is tried");
        let drawn = [("version", "canary"), ("outcome", "ok")];
        stage.until_metrics("some are drawn", |metrics| metrics.sum("penstock_requests_total", &drawn) > 5.0).await;

        stage.base.kubernetes.apply(&opened(base, [100, 0])).await.expect("Argo's weights");
        until_some_session(&stage, "chat-canary").await;
        assert_eq!(
            served(&stage).await,
            BTreeSet::from(["chat-canary".to_owned(), "chat-stable".to_owned()]),
            "while it is tried"
        );

        stage.base.kubernetes.apply(&opened(base, [0, 100])).await.expect("Argo's weights");
        until_none(&stage, "chat-canary").await;
        assert_eq!(served(&stage).await, BTreeSet::from(["chat-stable".to_owned()]), "once it is taken back");
    });
}

/// The set as it is shipped, but that anybody may ask, that half are drawn to the canary, and that pods are told apart by what tells them apart
/// here; with the weights that Argo writes.
fn opened(base: &Base, weights: [u32; 2]) -> Vec<Value> {
    let mut all = shipped(base, Set::Argo, "rollout");
    all.retain(|object| {
        let kind = object["kind"].as_str().unwrap_or_default();
        !["Rollout", "AnalysisTemplate", "RequestAuthentication", "AuthorizationPolicy"].contains(&kind)
    });
    configure(&mut all, Set::Argo, |config| {
        config["tenant"]["anonymous"] = json!("allow");
        for version in [0, 1] {
            config["models"][0]["versions"][version]["weight"] = json!(50);
        }
    });
    for rule in objects::of_kind(&mut all, "DestinationRule") {
        for subset in rule["spec"]["subsets"].as_array_mut().expect("subsets") {
            subset["labels"] = json!({"version": subset["name"]});
        }
    }
    for service in objects::of_kind(&mut all, "VirtualService") {
        let rules = service["spec"]["http"].as_array_mut().expect("routes");
        let canary = rules.iter_mut().find(|rule| rule["name"] == "chat-canary").expect("the canary's route");
        for (way, weight) in weights.into_iter().enumerate() {
            canary["route"][way]["weight"] = json!(weight);
        }
    }
    all
}

/// Who serves these sessions.
async fn served(stage: &Stage) -> BTreeSet<String> {
    let mut servers = BTreeSet::new();
    for number in 0..SESSIONS {
        servers.insert(ask(stage, number).await.header("x-served-by").to_owned());
    }
    servers
}

/// What is answered, which is never an error, also while the route is opened or shut.
async fn ask(stage: &Stage, number: usize) -> Answer {
    let session = format!("session-{number}");
    let answer = stage.chat("chat", &[("x-session-id", session.as_str())]).await.expect("an answer");
    assert_eq!(answer.status, 200, "{answer:?}");
    answer
}

async fn until_some_session(stage: &Stage, server: &str) {
    let found = penstock_cluster::process::eventually("the route is open", crate::stage::PATIENCE_SECONDS, || async {
        for number in 0..SESSIONS {
            if ask(stage, number).await.header("x-served-by") == server {
                return Ok(());
            }
        }
        Err(format!("nobody is served by {server}"))
    });
    found.await.unwrap_or_else(|message| panic!("{message}"));
}

async fn until_none(stage: &Stage, server: &str) {
    let found = penstock_cluster::process::eventually("the route is shut", crate::stage::PATIENCE_SECONDS, || async {
        for number in 0..SESSIONS {
            if ask(stage, number).await.header("x-served-by") == server {
                return Err(format!("session {number} is served by {server}"));
            }
        }
        Ok(())
    });
    found.await.unwrap_or_else(|message| panic!("{message}"));
}
