//! The set of the Gateway API: `targetRefs` in the place of selectors, HTTPRoutes in that of a VirtualService, callers with tokens.

use penstock_cluster::gateway;
use penstock_cluster::keys::Key;
use penstock_cluster::{objects, servers};
use penstock_harness::model_server;
use serde_json::{Value, json};

use crate::serves::access_log_tells;
use crate::stage::{Answer, Base, Set, Stage, run, shipped};

/// What Istio calls the Service and labels the pods that it makes of the Gateway `llm`.
const SERVICE: &str = "llm-istio.istio-ingress.svc.cluster.local";
pub const LABEL: &str = "gateway.networking.k8s.io/gateway-name";

#[test]
fn routes_by_header_serve_callers_with_tokens() {
    run(async |base| {
        let key = Key::generate().expect("a key");
        let stage = up(base, set(base, &key)).await;
        let bearer = bearer(&key);
        stage.until_with("the module is in force", "chat", &[("authorization", &bearer)], is_in_force).await;
        stage.serves_what_it_says(&[("authorization", &bearer)]).await;
        strangers_are_refused(&stage).await;
        let acme = [("model", "chat"), ("version", "canary"), ("tenant", "acme"), ("outcome", "ok")];
        let metrics = stage
            .until_metrics("the tenant's series", |metrics| metrics.sum("penstock_requests_total", &acme) > 0.0)
            .await;
        assert_eq!(metrics.sum("penstock_headers_wait", &[]), 1.0);
        assert_eq!(metrics.sum("penstock_streams_total", &[("handling", "again")]), 0.0);
        access_log_tells(&stage, "chat").await;
    });
}

/// What holds without the EnvoyFilter is less than what is shipped, and told.
#[test]
fn an_envoy_filter_for_another_gateway_leaves_headers_that_cannot_wait_and_it_is_told() {
    run(async |base| {
        let key = Key::generate().expect("a key");
        let mut objects = set(base, &key);
        for filter in objects::of_kind(&mut objects, "EnvoyFilter") {
            filter["spec"]["targetRefs"][0]["name"] = json!("another");
        }
        let stage = up(base, objects).await;
        let bearer = bearer(&key);
        let is_counted = |answer: &Answer| answer.status == 200 && answer.has("x-penstock-prompt-tokens");
        stage.until_with("counted all the same", "chat", &[("authorization", &bearer)], is_counted).await;
        // The verdict takes requests on several connections; each of these opens one.
        for _ in 0..8 {
            let headers = [("authorization", bearer.as_str()), ("connection", "close")];
            let answer = stage.chat("chat", &headers).await.expect("an answer");
            assert_eq!(answer.status, 200, "{answer:?}");
        }
        stage
            .until_metrics("it is told", |metrics| {
                metrics.select("penstock_headers_wait", &[]).any(|sample| sample.value == 0.0)
            })
            .await;
        // There is one model, whose version is drawn before the body.
        stage.serves_what_it_says(&[("authorization", &bearer)]).await;
    });
}

#[test]
fn a_plugin_for_another_gateway_leaves_no_count_and_no_series() {
    run(async |base| {
        let key = Key::generate().expect("a key");
        let mut objects = set(base, &key);
        for plugin in objects::of_kind(&mut objects, Set::GatewayApi.kind()) {
            plugin["spec"]["targetRefs"][0]["name"] = json!("another");
        }
        let stage = up(base, objects).await;
        let bearer = bearer(&key);
        let is_served = |answer: &Answer| answer.status == 200;
        let answer = stage.until_with("served", "chat", &[("authorization", &bearer)], is_served).await;
        assert!(!answer.has("x-penstock-prompt-tokens"), "{answer:?}");
        let metrics = stage.gateway.metrics().await.expect("metrics");
        assert_eq!(metrics.select("penstock_streams_total", &[]).count(), 0);
    });
}

/// The set as it is shipped, but for two things: tokens are signed by this key, and there is no pool with a picker behind the gateway.
pub fn set(base: &Base, key: &Key) -> Vec<Value> {
    let mut objects = with_pool(base, key);
    for route in objects::of_kind(&mut objects, "HTTPRoute") {
        let backend = &mut route["spec"]["rules"][0]["backendRefs"][0];
        if backend["kind"] == "InferencePool" {
            *backend = json!({"name": backend["name"], "namespace": backend["namespace"], "port": 8000});
        }
    }
    objects
}

/// The set as it is shipped, but that tokens are signed by this key.
pub fn with_pool(base: &Base, key: &Key) -> Vec<Value> {
    let mut objects = shipped(base, Set::GatewayApi, "stage");
    let is_of_others = |version: &str| version.starts_with("keda.sh/") || version.starts_with("monitoring.coreos.com/");
    objects.retain(|object| object["apiVersion"].as_str().is_some_and(|version| !is_of_others(version)));
    for authentication in objects::of_kind(&mut objects, "RequestAuthentication") {
        let rule = &mut authentication["spec"]["jwtRules"][0];
        assert!(rule["jwksUri"].is_string(), "{rule}");
        *rule = json!({"issuer": rule["issuer"], "jwks": key.jwks().to_string()});
    }
    objects.push(json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass", "metadata": {"name": "istio"},
        "spec": {"controllerName": "istio.io/gateway-controller"},
    }));
    objects
}

pub async fn up(base: &'static Base, objects: Vec<Value>) -> Stage {
    let options = gateway::Options { labels: json!({LABEL: "llm"}), ..gateway::Options::default() };
    Stage::behind(base, objects, model_server::Options::default(), endpoints, options).await
}

/// Those of the model servers, and that of the gateway: its listeners are those of the Gateway whose Service has its address.
fn endpoints(servers: &[servers::Server]) -> Vec<Value> {
    let mut objects = servers::services(servers);
    objects.push(json!({
        "apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry", "metadata": {"name": "llm-istio", "namespace": "istio-ingress"},
        "spec": {
            "hosts": [SERVICE], "location": "MESH_INTERNAL", "resolution": "STATIC",
            "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}], "endpoints": [{"address": "127.0.0.1", "ports": {"http": 80}}],
        },
    }));
    objects
}

pub fn bearer(key: &Key) -> String {
    let claims =
        json!({"iss": "https://issuer.example.com", "sub": "someone", "org_id": "acme", "exp": 4_000_000_000_u64});
    format!("Bearer {}", key.token(&claims).expect("a token"))
}

fn is_in_force(answer: &Answer) -> bool {
    answer.status == 200 && answer.has("x-penstock-prompt-tokens") && answer.has("x-penstock-version")
}

async fn strangers_are_refused(stage: &Stage) {
    let nobody = stage.chat("chat", &[]).await.expect("an answer");
    assert!(nobody.status == 403 && !nobody.has("x-penstock-prompt-tokens"), "{nobody:?}");
    let forged = bearer(&Key::generate().expect("a key"));
    let forged = stage.chat("chat", &[("authorization", &forged)]).await.expect("an answer");
    assert_eq!(forged.status, 401, "signed by somebody else: {forged:?}");
}
