//! See `docs/security.md`: another name for the model, a model that is not theirs, a borrowed identity.

use std::time::{Duration, Instant};

use penstock_tests::{PATIENCE, until_metrics};
use reqwest::Method;
use serde_json::{Value, json};

use super::stage::Stage;

/// The SHA-256 of `sk-acme-1`, `sk-acme-2`, `sk-globex` and `sk-late`.
const ACME: [&str; 2] = [
    "sha256:819685611e044dc4918e558945f580790befd0786cc2fb36e3417477ed704a3d",
    "sha256:e13ec0cb85b1e9b4c68f9ab2eb9abeed3376e468aa136fcfbac7c29ca02d6a08",
];
const GLOBEX: &str = "sha256:486e1dad908597991e4425462823f650cfc9ded21de30af03481f0a489f983db";
const LATE: &str = "sha256:c2f51d30c8f85f980af795da4d8a53dd899d4dd8e32101f3d9948ee98cd288d3";

fn body(model: &str) -> Value {
    json!({"model": model, "max_tokens": 2, "messages": [{"role": "user", "content": "hello"}]})
}

/// The status, and what the refusal is called in the dialect.
async fn chat(stage: &Stage, headers: &[(&str, &str)], model: &str) -> (u16, String) {
    let answer = stage.chat(headers, &body(model)).await;
    let status = answer.status().as_u16();
    let text: Value = answer.json().await.unwrap_or_default();
    (status, text["error"]["code"].as_str().unwrap_or_default().to_owned())
}

fn refused(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

/// A version's own name, a LoRA's, other spellings: nothing leads to a server but what is configured, whatever the dialect.
#[tokio::test(flavor = "multi_thread")]
async fn another_name_for_the_model() {
    let config = |unknown: &str| {
        json!({
            "unknownModel": unknown,
            "models": [
                {"name": "chat", "aliases": ["gpt-4o", "claude-*"],
                    "versions": [{"name": "stable", "weight": 1, "model": "llama-8b"}, {"name": "canary", "weight": 0, "model": "llama-8b-r2"}]},
                {"name": "old", "aliases": ["older", "ancient-*"], "suspended": true},
            ],
            "limits": [{"name": "chat-tpm", "match": {"model": "chat"}, "tokens": 30, "every": "24h"},
                {"name": "other-tpm", "match": {"tenant": "unnamed"}, "tokens": 65, "every": "24h"}],
        })
    };
    let Some(stage) = Stage::start(&config("refuse")).await else { return };
    for name in [
        "llama-8b",
        "llama-8b-r2",
        "llama-8b:lora",
        "my-lora",
        "Chat",
        "CHAT",
        "chat ",
        " chat",
        "chat\u{0}",
        "gpt-4o-mini",
        "*",
        "",
    ] {
        assert_eq!(chat(&stage, &[], name).await, refused(404, "model_not_found"), "{name:?}");
    }
    for name in ["old", "older", "ancient-1"] {
        assert_eq!(chat(&stage, &[], name).await.0, 503, "{name}");
    }
    let headers = [("anthropic-version", "2023-06-01")];
    for (name, status, kind) in [("llama-8b", 404, "not_found_error"), ("older", 503, "overloaded_error")] {
        let answer = stage.send(Method::POST, "/v1/messages", &headers, body(name).to_string()).await;
        assert_eq!(answer.status().as_u16(), status);
        let text: Value = answer.json().await.unwrap();
        assert_eq!((&text["type"], &text["error"]["type"]), (&json!("error"), &json!(kind)));
    }
    let embedding = json!({"model": "llama-8b", "input": "hello"}).to_string();
    assert_eq!(stage.send(Method::POST, "/v1/embeddings", &[], embedding).await.status(), 404);
    assert_eq!(stage.arrived(), 0);
    // All names of a model draw on one budget, of three requests.
    for (name, status) in [("gpt-4o", 200), ("claude-haiku", 200), ("chat", 200), ("claude-opus", 429), ("gpt-4o", 429)]
    {
        assert_eq!(chat(&stage, &[], name).await.0, status, "{name}");
    }
    until_metrics(&stage.envoy, |metrics| {
        let ok = [("outcome", "ok"), ("model", "chat"), ("version", "stable")];
        metrics.sum("penstock_requests_total", &ok) == 3.0
            && metrics.sum("penstock_refused_total", &[("reason", "model"), ("model", "other")]) >= 14.0
    })
    .await;

    // Where other names pass, they are counted and limited, and a version's name is none of them.
    for (unknown, would) in [("pass", None), ("observe", Some("model"))] {
        let stage = Stage::start(&config(unknown)).await.expect("it was there");
        assert_eq!(chat(&stage, &[], "llama-8b").await.0, 404);
        for _ in 0..6 {
            let answer = stage.chat(&[], &body("my-lora")).await;
            assert_eq!(answer.status(), 200);
            assert_eq!(answer.headers().get("x-penstock-would").map(|would| would.to_str().unwrap()), would);
        }
        let answer = stage.chat(&[], &body("their-lora")).await;
        assert_eq!(answer.status(), 429);
        assert_eq!(answer.headers()["x-penstock-limit"], "other-tpm");
        until_metrics(&stage.envoy, |metrics| {
            metrics.sum("penstock_requests_total", &[("outcome", "ok"), ("model", "other")]) == 6.0
        })
        .await;
    }
}

/// What a tenant may not use is answered like what is not there, by any of its names, and does not take over when a model is full.
#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_is_not_theirs() {
    let config = json!({
        "tenant": {"from": [{"apiKey": {"header": "authorization"}}]},
        "classes": {"gold": {"models": ["chat"]}},
        "tenants": {
            "acme": {"class": "gold", "apiKeys": ACME},
            "globex": {"class": "gold", "models": ["big"], "apiKeys": [GLOBEX]},
            "late": {"apiKeys": [LATE]},
        },
        "models": [
            {"name": "chat", "pending": {"ceiling": 15, "whenFull": "fallback"}, "fallback": "big"},
            {"name": "big", "aliases": ["huge-*"]},
            {"name": "small"},
        ],
    });
    let Some(stage) = Stage::start(&config).await else { return };
    let [acme, globex, free] = ["Bearer sk-acme-1", "Bearer sk-globex", "Bearer sk-late"];
    for (key, model, status) in [
        (acme, "big", 404),
        (acme, "huge-1", 404),
        (acme, "small", 404),
        (globex, "chat", 404),
        (globex, "small", 404),
        (globex, "big", 200),
        (globex, "huge-1", 200),
        (free, "small", 200),
        (acme, "chat", 200),
    ] {
        let (seen, code) = chat(&stage, &[("authorization", key)], model).await;
        assert_eq!(seen, status, "{key} {model}");
        assert!(status != 404 || code == "model_not_found");
    }
    assert_eq!(stage.arrived(), 4);
    // While somebody fills the model, another serves those who may use it.
    let script = json!({"tokens": 2, "ttft_ms": 5000}).to_string();
    let slow = stage.client.post(format!("{}/v1/chat/completions", stage.envoy.url())).json(&body("chat"));
    let slow = tokio::spawn(slow.header("authorization", free).header("x-model-server", script).send());
    let deadline = Instant::now() + PATIENCE;
    while stage.server.requests().len() < 5 {
        assert!(Instant::now() < deadline, "the request does not arrive");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(chat(&stage, &[("authorization", acme)], "chat").await, refused(503, "overloaded"));
    let answer = stage.chat(&[("authorization", free)], &body("chat")).await;
    assert_eq!((answer.status().as_u16(), answer.headers()["x-penstock-fallback"].to_str().unwrap()), (200, "big"));
    assert_eq!(slow.await.expect("a task").expect("an answer").status(), 200);
    let mut said = Vec::new();
    for model in ["big", "made-up"] {
        let answer = stage.chat(&[("authorization", acme)], &body(model)).await;
        said.push(answer.text().await.unwrap().replace(model, ""));
    }
    assert_eq!(said[0], said[1], "one cannot be told from the other");
}

/// A name in a header is no name; a key is its owner's, however it is sent; and one that is made up is nobody new.
#[tokio::test(flavor = "multi_thread")]
async fn a_borrowed_identity() {
    let config = json!({
        "tenant": {
            "from": [{"jwt": "org_id"}, {"apiKey": {"header": "authorization"}}, {"header": "x-api-key"}],
            "anonymous": "allow",
        },
        "tenants": {
            "acme": {"apiKeys": ACME},
            "globex": {"apiKeys": [GLOBEX]},
            "late": {"suspended": true, "apiKeys": [LATE]},
        },
        "models": [{"name": "chat"}],
        "limits": [
            {"name": "acme", "match": {"tenant": "acme"}, "tokens": 200, "every": "24h"},
            {"name": "strangers", "match": {"tenant": "unnamed"}, "tokens": 50, "every": "24h"},
        ],
    });
    let Some(stage) = Stage::start(&config).await else { return };
    let tenant = |headers: &'static [(&'static str, &'static str)]| {
        let stage = &stage;
        async move {
            let status = chat(stage, headers, "chat").await.0;
            if status == 200 { Ok(stage.last().header("x-penstock-tenant").unwrap().to_owned()) } else { Err(status) }
        }
    };
    let acme = Ok("acme".to_owned());
    assert_eq!(tenant(&[("authorization", "Bearer sk-acme-1")]).await, acme);
    assert_eq!(tenant(&[("authorization", "bearer sk-acme-2")]).await, acme);
    assert_eq!(tenant(&[("authorization", "BEARER  sk-acme-2")]).await, acme);
    assert_eq!(tenant(&[("authorization", "sk-acme-1")]).await, acme);
    // What is claimed besides neither adds nor takes anything.
    assert_eq!(
        tenant(&[("authorization", "Bearer sk-acme-1"), ("x-api-key", "globex"), ("x-penstock-tenant", "globex")])
            .await,
        acme
    );
    assert_eq!(tenant(&[("authorization", "Bearer sk-late"), ("x-api-key", "acme")]).await, Err(403));
    // Five strangers share one budget, whatever they call themselves.
    let acme_by_name = tenant(&[("x-api-key", "acme")]).await.unwrap();
    assert!(acme_by_name.starts_with("h-"), "{acme_by_name}");
    assert!(tenant(&[("x-api-key", "late")]).await.unwrap().starts_with("h-"));
    assert!(tenant(&[("x-api-key", "sk-globex")]).await.unwrap().starts_with("h-"));
    assert_eq!(tenant(&[("x-penstock-tenant", "acme"), ("x-tenant", "acme")]).await, Ok("anonymous".to_owned()));
    assert!(tenant(&[("x-api-key", "unnamed")]).await.unwrap().starts_with("h-"));
    assert_eq!(tenant(&[("x-api-key", "another")]).await, Err(429));
    assert_eq!(tenant(&[]).await, Err(429));
    assert_eq!(tenant(&[("authorization", "Bearer sk-globex")]).await, Ok("globex".to_owned()));
    let arrived = stage.arrived();
    for key in [
        "Bearer sk-made-up",
        "Bearer acme",
        "acme",
        "Basic sk-acme-1",
        "Bearer SK-ACME-1",
        "Bearer sk-acme-1 sk-globex",
        "Bearer Bearer sk-acme-1",
        "Bearer",
        "Bearersk-acme-1",
        ACME[0],
    ] {
        let headers = [("authorization", key), ("x-api-key", "me")];
        assert_eq!(chat(&stage, &headers, "chat").await, refused(401, "invalid_api_key"), "{key}");
    }
    for i in 0..50 {
        let key = format!("Bearer sk-{i}");
        assert_eq!(chat(&stage, &[("authorization", &key)], "chat").await.0, 401);
    }
    assert_eq!(stage.arrived(), arrived);
    until_metrics(&stage.envoy, |metrics| {
        metrics.sum("penstock_requests_total", &[("outcome", "ok"), ("tenant", "acme")]) == 5.0
            && metrics.sum("penstock_requests_total", &[("outcome", "ok"), ("tenant", "other")]) == 5.0
            && metrics.sum("penstock_requests_total", &[("outcome", "denied"), ("tenant", "other")]) == 60.0
    })
    .await;
}

/// Whoever says nothing is refused where somebody is asked, and that is seen before it is enforced.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_where_somebody_is_asked() {
    let config = |mode: &str| {
        json!({
            "tenant": {"from": [{"apiKey": {"header": "authorization"}}], "mode": mode},
            "tenants": {"acme": {"apiKeys": ACME}, "late": {"suspended": true, "apiKeys": [LATE]}},
            "models": [{"name": "chat"}],
        })
    };
    let Some(stage) = Stage::start(&config("enforce")).await else { return };
    type Headers = &'static [(&'static str, &'static str)];
    let cases: [(Headers, u16, &str); 3] = [
        (&[], 401, "identity"),
        (&[("authorization", "Bearer made-up")], 401, "identity"),
        (&[("authorization", "Bearer sk-late")], 403, "suspended"),
    ];
    for (headers, status, _) in cases {
        assert_eq!(chat(&stage, headers, "chat").await.0, status, "{headers:?}");
    }
    let stage = Stage::start(&config("observe")).await.expect("it was there");
    for (headers, _, would) in cases {
        let answer = stage.chat(headers, &body("chat")).await;
        assert_eq!((answer.status().as_u16(), answer.headers()["x-penstock-would"].to_str().unwrap()), (200, would));
    }
    until_metrics(&stage.envoy, |metrics| {
        metrics.sum("penstock_observed_total", &[("reason", "identity")]) == 2.0
            && metrics.sum("penstock_observed_total", &[("reason", "suspended")]) == 1.0
    })
    .await;
}

/// One tenant's session cannot be used up by another that sends its id.
#[tokio::test(flavor = "multi_thread")]
async fn another_tenants_session() {
    let config = json!({
        "tenant": {"from": [{"apiKey": {"header": "authorization"}}], "anonymous": "allow"},
        "tenants": {"acme": {"apiKeys": ACME}, "globex": {"apiKeys": [GLOBEX]}},
        "models": [{"name": "chat"}],
        "limits": [{"name": "agent", "per": [{"header": "x-session-id"}], "session": {"calls": 3}}],
    });
    let Some(stage) = Stage::start(&config).await else { return };
    for key in [Some("Bearer sk-globex"), None, Some("Bearer sk-acme-1")] {
        let headers: Vec<(&str, &str)> =
            key.map(|key| ("authorization", key)).into_iter().chain([("x-session-id", "s")]).collect();
        for status in [200, 200, 200, 429] {
            assert_eq!(chat(&stage, &headers, "chat").await.0, status, "{key:?}");
        }
    }
}
