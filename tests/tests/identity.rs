//! Who is billed, by the configurations in `envoy/`: a token that is really signed, keys that Envoy knows, and what clients claim besides.

use std::path::PathBuf;
use std::process::Stdio;

use penstock_harness::envoy::{Envoy, Gateway, Metrics};
use penstock_harness::model_server::{ModelServer, Options};
use penstock_tests::{checkout, find_envoy, find_python, module, need, until_metrics};
use reqwest::Client;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

const JWKS: &str = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config/http_filters/0/typed_config/providers/\
                    identity/local_jwks/inline_string";
const PAYLOAD: &str = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config/http_filters/0/typed_config/providers/\
                       identity/payload_in_metadata";

#[tokio::test(flavor = "multi_thread")]
async fn the_claim_of_a_verified_token_is_the_tenant() {
    let (envoy, python) = (need!(find_envoy()), need!(find_python()));
    let claims = |org: &str| json!({"iss": "https://identity.example", "aud": "models", "sub": "u", "org_id": org, "exp": 4_000_000_000u64});
    let expired =
        json!({"iss": "https://identity.example", "aud": "models", "org_id": "acme", "exp": 1_000_000_000u64});
    let nobody = json!({"iss": "https://identity.example", "aud": "models", "exp": 4_000_000_000u64});
    let issued = issue(&python, &json!([claims("acme"), claims("unlisted"), expired, nobody])).await;
    let stage = Stage::start(&envoy, "jwt.yaml", |gateway| gateway.set(JWKS, json!(issued["jwks"].to_string()))).await;
    let bearer = |token: &Value| format!("Bearer {}", token.as_str().unwrap());

    let spoofed = [("x-penstock-tenant", "globex"), ("x-penstock-model", "free"), ("x-org", "globex")];
    for (token, tenant) in [(&issued["tokens"][0], "acme"), (&issued["tokens"][1], "h-")] {
        let token = bearer(token);
        let headers = [&[("authorization", token.as_str())], spoofed.as_slice()].concat();
        assert_eq!(stage.send(&headers).await, 200);
        let seen = stage.server.requests().pop().unwrap();
        assert!(seen.header("x-penstock-tenant").unwrap().starts_with(tenant), "{seen:?}");
        assert_eq!((seen.header("x-penstock-model"), seen.header("authorization")), (Some("chat"), None));
    }
    for (token, why) in
        [(&issued["forged"][0], "forged"), (&issued["tokens"][2], "expired"), (&issued["tokens"][3], "no claim")]
    {
        assert_eq!(stage.send(&[("authorization", &bearer(token))]).await, 401, "{why}");
    }
    assert_eq!(stage.send(&spoofed).await, 401, "no token");
    assert_eq!(stage.server.totals().requests, 2);
    stage.only_acme_has_a_label().await;
}

/// What a client claims beside its token neither adds to it nor takes it away, under Envoy's key of the claims and under Istio's.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_claimed_beside_a_token_changes_nothing() {
    let (envoy, python) = (need!(find_envoy()), need!(find_python()));
    let claims = |org: &str| json!({"iss": "https://identity.example", "aud": "models", "sub": "u", "org_id": org, "exp": 4_000_000_000u64});
    let issued = issue(&python, &json!([claims("acme"), claims("late"), claims("unlisted")])).await;
    let config = json!({
        "tenant": {"from": [{"header": "x-api-key"}, {"jwt": "org_id"}], "anonymous": "deny"},
        "tenants": {"acme": {"models": ["chat"]}, "late": {"suspended": true}},
        "models": [{"name": "chat"}],
    });
    for payload in ["jwt_payload", "payload"] {
        let change = |gateway: Gateway| {
            let gateway = gateway.set(JWKS, json!(issued["jwks"].to_string()));
            gateway.set(PAYLOAD, json!(payload)).plugin_config(&config)
        };
        let stage = Stage::start(&envoy, "jwt.yaml", change).await;
        for (token, status, tenant) in [(0, 200, "acme"), (1, 403, ""), (2, 200, "h-")] {
            let bearer = format!("Bearer {}", issued["tokens"][token].as_str().unwrap());
            for claimed in [None, Some("acme"), Some("late"), Some("made-up")] {
                let token = ("authorization", bearer.as_str());
                let headers: Vec<_> = claimed.map(|name| ("x-api-key", name)).into_iter().chain([token]).collect();
                assert_eq!(stage.send(&headers).await, status, "{payload} {tenant} {claimed:?}");
                if status == 200 {
                    let seen = stage.server.requests().pop().unwrap();
                    assert!(seen.header("x-penstock-tenant").unwrap().starts_with(tenant), "{seen:?}");
                }
            }
        }
        assert_eq!(stage.send(&[("x-api-key", "acme")]).await, 401);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_client_of_a_known_key_is_the_tenant() {
    let envoy = need!(find_envoy());
    let stage = Stage::start(&envoy, "api-keys.yaml", |gateway| gateway).await;
    for (headers, tenant) in [
        ([("authorization", "Bearer sk-acme-example"), ("x-client-id", "globex")], "acme"),
        ([("x-api-key", "sk-globex-example"), ("x-client-id", "acme")], "h-"),
    ] {
        assert_eq!(stage.send(&headers).await, 200);
        let seen = stage.server.requests().pop().unwrap();
        assert!(seen.header("x-penstock-tenant").unwrap().starts_with(tenant), "{seen:?}");
        assert_eq!((seen.header("authorization"), seen.header("x-api-key")), (None, None), "the key goes no further");
    }
    assert_eq!(stage.send(&[("x-api-key", "sk-other")]).await, 401);
    assert_eq!(stage.send(&[("x-client-id", "acme")]).await, 401);
    assert_eq!(stage.server.totals().requests, 2);
    stage.only_acme_has_a_label().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_name_in_a_clients_certificate_is_the_tenant() {
    let (envoy, python) = (need!(find_envoy()), need!(find_python()));
    const URIS: [&str; 2] = ["spiffe://cluster.local/ns/agents/sa/acme", "spiffe://cluster.local/ns/agents/sa/other"];
    let directory = std::env::temp_dir().join(format!("penstock-mtls-{}", std::process::id()));
    let script = |arguments: Vec<String>| {
        let mut python = Command::new(&python);
        python.arg(checkout().join("tests/tests/clients/mtls.py")).args(arguments);
        async move { String::from_utf8(python.output().await.expect("Python runs").stdout).expect("text").trim().to_owned() }
    };
    let at = directory.display().to_string();
    script([&["issue".to_owned(), at.clone()], URIS.map(str::to_owned).as_slice()].concat()).await;
    let file = |name: &str| json!({"filename": directory.join(name)});
    let tls = json!({
        "require_client_certificate": true,
        "common_tls_context": {
            "tls_certificates": [{"certificate_chain": file("server.pem"), "private_key": file("server.key")}],
            "validation_context": {"trusted_ca": file("ca.pem")},
        },
    });
    let config = json!({
        "tenant": {"from": [{"property": ["connection", "uri_san_peer_certificate"]}], "anonymous": "deny"},
        "tenants": {URIS[0]: {}},
        "models": [{"name": "chat"}],
    });
    let change = |gateway: Gateway| gateway.tls(&tls).plugin_config(&config);
    let stage = Stage::start(&envoy, "mesh.yaml", change).await;
    let url = stage.envoy.url().replace("http://127.0.0.1", "https://localhost");
    for (client, tenant) in [("0", URIS[0]), ("1", "h-")] {
        assert_eq!(script(vec!["call".into(), url.clone(), at.clone(), client.into()]).await, "200");
        let seen = stage.server.requests().pop().unwrap();
        assert!(seen.header("x-penstock-tenant").unwrap().starts_with(tenant), "{seen:?}");
    }
    let without = script(vec!["call".into(), url, at]).await;
    assert!(without.starts_with("refused"), "{without}");
    assert_eq!(stage.server.totals().requests, 2);
    // A directory that stays behind in /tmp harms nobody.
    let _ = std::fs::remove_dir_all(directory);
}

struct Stage {
    envoy: Envoy,
    server: ModelServer,
}

impl Stage {
    async fn start(binary: &std::path::Path, file: &str, change: impl FnOnce(Gateway) -> Gateway) -> Self {
        module("penstock");
        let options = Options { ttft_ms: 0, inter_token_ms: 0, ..Options::default() };
        let server = ModelServer::start(options).await.expect("a free port");
        let gateway = Gateway::load(&checkout(), file).expect(file).cluster("models", server.address());
        let envoy = Envoy::start(binary, &change(gateway).render(), 1).await.expect("Envoy starts");
        Self { envoy, server }
    }

    async fn send(&self, headers: &[(&str, &str)]) -> u16 {
        let body = json!({"model": "chat", "max_tokens": 3, "messages": [{"role": "user", "content": "Hi"}]});
        let request = Client::new().post(format!("{}/v1/chat/completions", self.envoy.url())).json(&body);
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        request.send().await.expect("an answer").status().as_u16()
    }

    async fn only_acme_has_a_label(&self) {
        let is_one = |metrics: &Metrics, tenant| {
            metrics.sum("penstock_requests_total", &[("outcome", "ok"), ("tenant", tenant)]) == 1.0
        };
        until_metrics(&self.envoy, |metrics| is_one(metrics, "acme") && is_one(metrics, "other")).await;
    }
}

async fn issue(python: &PathBuf, claims: &Value) -> Value {
    let mut child = Command::new(python)
        .arg(checkout().join("tests/tests/clients/jwt_issue.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("Python runs");
    child.stdin.take().unwrap().write_all(claims.to_string().as_bytes()).await.expect("Python reads");
    let output = child.wait_with_output().await.expect("Python ends");
    assert!(output.status.success());
    serde_json::from_slice(&output.stdout).expect("tokens")
}
