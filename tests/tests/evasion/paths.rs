//! Other paths, other hosts, other passes: see `docs/security.md`.

use std::process::Stdio;

use penstock_harness::envoy::{Chain, Gateway};
use penstock_tests::{PATIENCE, checkout, find_python, need, until_metrics};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::recorder::Recorder;
use super::stage::{MANAGER, Stage};

const BODY: &str = r#"{"model":"chat","max_tokens":10,"messages":[{"role":"user","content":"hello"}]}"#;

/// A gateway in front of a server that takes any path, with every route open to upgrades; without Envoy's own care for paths unless that is
/// wanted.
async fn stage(config: &Value, recorder: &Recorder, chain: Chain, normalize: bool) -> Option<Stage> {
    let route = json!({"cluster": "stable", "timeout": "0s", "upgrade_configs": [{"upgrade_type": "websocket"}]});
    let hosts = json!([{"name": "all", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": route}]}]);
    let change = |gateway: Gateway| {
        let gateway = gateway.cluster("stable", recorder.address()).chain(chain).plugin_config(config);
        let gateway = gateway.set(&format!("{MANAGER}/route_config/virtual_hosts"), hosts).follows_redirects();
        let window = json!({"allow_connect": true});
        let gateway = gateway.set(&format!("{MANAGER}/http2_protocol_options"), window);
        if normalize {
            return gateway;
        }
        let gateway = gateway.set(&format!("{MANAGER}/normalize_path"), json!(false));
        let gateway = gateway.set(&format!("{MANAGER}/merge_slashes"), json!(false));
        gateway.set(&format!("{MANAGER}/path_with_escaped_slashes_action"), json!("KEEP_UNCHANGED"))
    };
    Stage::start_as(config, change).await
}

/// Sends a request byte for byte, which no client does; the status, and all that came.
async fn raw(stage: &Stage, method: &str, path: &str, headers: &[(&str, &str)]) -> (u16, String) {
    let address = stage.envoy.url().trim_start_matches("http://").to_owned();
    let mut wire = TcpStream::connect(address).await.expect("Envoy listens");
    let mut head = format!("{method} {path} HTTP/1.1\r\ncontent-length: {}\r\n", BODY.len());
    if !headers.iter().any(|(name, _)| *name == "host") {
        head += "host: llm.example.com\r\n";
    }
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    wire.write_all(format!("{head}\r\n{BODY}").as_bytes()).await.expect("sent");
    let (mut answer, mut piece) = (Vec::new(), [0; 4096]);
    let read = async {
        loop {
            let text = String::from_utf8_lossy(&answer).into_owned();
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
                if length.is_none_or(|length| body.len() >= length) {
                    return text;
                }
            }
            let size = wire.read(&mut piece).await.unwrap_or(0);
            if size == 0 {
                return text;
            }
            answer.extend_from_slice(&piece[..size]);
        }
    };
    let text = tokio::time::timeout(PATIENCE, read).await.expect("it does not hang");
    (text.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0), text)
}

type Headers = &'static [(&'static str, &'static str)];

/// Ways to the chat that is counted at `/v1/chat/completions`, and to other work of a model server.
const WAYS: &[(&str, &str, Headers)] = &[
    ("POST", "/invocations", &[]),
    ("POST", "/chat/completions", &[]),
    ("POST", "//v1/chat/completions", &[]),
    ("POST", "/v1//chat/completions", &[]),
    ("POST", "/v1/chat/completions/", &[]),
    ("POST", "/v1/chat/completions;x", &[]),
    ("POST", "/v1;x=y/chat/completions", &[]),
    ("POST", "/V1/chat/completions", &[]),
    ("POST", "/v1/Chat/Completions", &[]),
    ("POST", "/v1%2fchat%2fcompletions", &[]),
    ("POST", "/v1/%63hat/completions", &[]),
    ("POST", "/v1/%2563hat/completions", &[]),
    ("POST", "/v1/./chat/completions", &[]),
    ("POST", "/v1/x/../chat/completions", &[]),
    ("POST", "/v1/audio/..%2fchat/completions", &[]),
    ("POST", "/v1/audio/..;/chat/completions", &[]),
    ("POST", "/v1/audio/%2e%2e/chat/completions", &[]),
    ("POST", "/v1\\chat\\completions", &[]),
    ("POST", "/v1/chat/completions%00", &[]),
    ("POST", "/v1/chat/completions%20", &[]),
    ("POST", "/v1/chat/completions%3f", &[]),
    ("POST", "/v1/chat/completions%", &[]),
    ("POST", "http://llm.example.com//v1/chat/completions", &[]),
    ("PUT", "/v1/chat/completions", &[]),
    ("PATCH", "/v1/chat/completions", &[]),
    ("GET", "/v1/chat/completions", &[("x-http-method-override", "POST")]),
    ("POST", "/v1/batches", &[]),
    ("POST", "/v1/rerank", &[]),
    ("POST", "/score", &[]),
    ("POST", "/v1/audio", &[]),
    ("POST", "/v2/models/chat/infer", &[]),
    ("POST", "/inference.GRPCInferenceService/ModelInfer", &[("content-type", "application/grpc"), ("te", "trailers")]),
    ("GET", "/v1/realtime", &[("connection", "upgrade"), ("upgrade", "websocket")]),
    ("GET", "/v1/responses", &[("connection", "Upgrade"), ("upgrade", "WebSocket")]),
    ("GET", "/v1/audio", &[("connection", "upgrade"), ("upgrade", "websocket")]),
    ("POST", "/v1/chat/completions", &[("connection", "upgrade"), ("upgrade", "websocket")]),
];

#[tokio::test(flavor = "multi_thread")]
async fn another_path_is_no_way_around() {
    let config = json!({"models": [{"name": "chat"}], "paths": {"allow": ["/v1/audio/*", "/tokenize"]}});
    for (chain, normalize) in [(Chain::One, false), (Chain::One, true), (Chain::Row, false)] {
        let recorder = Recorder::start(None).await;
        let Some(stage) = stage(&config, &recorder, chain, normalize).await else { return };
        for (method, path, headers) in WAYS {
            let (status, answer) = raw(&stage, method, path, headers).await;
            // What Envoy itself makes normal is the API's own path by then, and counted.
            let counted = answer.contains("x-penstock-prompt-tokens: 8");
            assert!(
                counted || matches!(status, 400 | 404) || answer.contains("grpc-status"),
                "{method} {path}: {answer}"
            );
            assert!(!counted || normalize, "{method} {path} is understood: {answer}");
            assert_eq!(recorder.take().is_empty(), !counted, "{method} {path} arrived");
        }
        for path in ["/v1/audio/speech", "/tokenize"] {
            assert_eq!(raw(&stage, "POST", path, &[]).await.0, 200, "{path}");
        }
        assert_eq!(raw(&stage, "GET", "/version", &[]).await.0, 200);
        assert_eq!(recorder.take().len(), 3);
        let (status, answer) = raw(&stage, "POST", "/invocations", &[("anthropic-version", "2023-06-01")]).await;
        assert!(status == 404 && answer.contains("paths.allow") && answer.contains("not_found_error"), "{answer}");
    }
}

/// Over HTTP/2, where nothing has to be a path, and a websocket is a `CONNECT`.
#[tokio::test(flavor = "multi_thread")]
async fn another_path_over_http2_is_no_way_around() {
    let recorder = Recorder::start(None).await;
    let config = json!({"models": [{"name": "chat"}]});
    let Some(stage) = stage(&config, &recorder, Chain::One, false).await else { return };
    let address = stage.envoy.url().trim_start_matches("http://").to_owned();
    for (method, path, protocol) in [
        ("POST", "//v1/chat/completions", None),
        ("POST", "/V1/chat/completions", None),
        ("POST", "/v1/chat/completions;x", None),
        ("POST", "/v1/%63hat/completions", None),
        ("POST", "/invocations", None),
        ("CONNECT", "/v1/realtime", Some("websocket")),
        ("CONNECT", "/v1/chat/completions", Some("websocket")),
    ] {
        let wire = TcpStream::connect(&address).await.expect("Envoy listens");
        let (client, connection) = h2::client::handshake(wire).await.expect("HTTP/2");
        tokio::spawn(connection);
        let mut client = client.ready().await.expect("a stream");
        // The server's settings say whether there is such a thing as an extended CONNECT.
        for _ in 0..200 {
            if client.is_extended_connect_protocol_enabled() {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        let uri = format!("http://llm.example.com{path}");
        let mut request = http::Request::builder().method(method).uri(uri).body(()).expect("a request");
        if let Some(protocol) = protocol {
            request.extensions_mut().insert(h2::ext::Protocol::from_static(protocol));
        }
        let (answer, mut body) = client.send_request(request, protocol.is_some()).expect("sent");
        if protocol.is_none() {
            body.send_data(BODY.as_bytes().to_vec().into(), true).expect("sent");
        }
        let answer = tokio::time::timeout(PATIENCE, answer).await.expect("it does not hang").expect("an answer");
        assert_eq!(answer.status(), 404, "{method} {path}");
        assert_eq!(recorder.take(), [] as [String; 0], "{method} {path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_ask_is_asked_on_every_path() {
    let recorder = Recorder::start(None).await;
    let config = json!({
        "tenant": {"from": [{"header": "x-client", "trusted": true}]},
        "tenants": {"late-payer": {"suspended": true}, "acme": {}},
        "models": [{"name": "chat"}],
        "paths": {"allow": ["/v1/files"], "public": ["/health"]},
    });
    let Some(stage) = stage(&config, &recorder, Chain::One, true).await else { return };
    let preflight = ("access-control-request-method", "POST");
    for (method, path, headers, expected) in [
        ("GET", "/version", &[][..], 401),
        ("GET", "/version", &[("x-client", "late-payer")], 403),
        ("GET", "/version", &[("x-client", "acme")], 200),
        ("GET", "/v1/models", &[("x-client", "late-payer")], 403),
        ("POST", "/v1/files", &[("x-client", "late-payer")], 403),
        ("POST", "/v1/files", &[], 401),
        ("POST", "/v1/files", &[("x-client", "acme")], 200),
        ("POST", "/v1/messages/count_tokens", &[("x-client", "late-payer")], 403),
        ("OPTIONS", "/v1/chat/completions", &[], 401),
        ("OPTIONS", "/v1/chat/completions", &[preflight], 200),
        ("GET", "/health", &[("x-client", "late-payer")], 200),
        ("GET", "/health/../version", &[], 401),
        ("POST", "/v1/chat/completions", &[preflight], 401),
    ] {
        assert_eq!(raw(&stage, method, path, headers).await.0, expected, "{method} {path} {headers:?}");
    }
    assert_eq!(recorder.take().len(), 4);
}

/// What goes to other hosts passes, and no `Host` header makes the models' host another one.
#[tokio::test(flavor = "multi_thread")]
async fn another_host_is_no_way_in() {
    let recorder = Recorder::start(None).await;
    let config = json!({"models": [{"name": "chat"}], "hosts": ["llm.example.com"]});
    let host = |name: &str, domains: Value| json!({"name": name, "domains": domains, "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "stable"}}]});
    let hosts = json!([
        host("llm.example.com:80", json!(["llm.example.com", "llm.example.com:*", "*.llm.example.com", "[::1]"])),
        host("shop.example.com:80", json!(["shop.example.com", "shop.example.com:*"])),
    ]);
    let change = |gateway: Gateway| {
        gateway.cluster("stable", recorder.address()).set(&format!("{MANAGER}/route_config/virtual_hosts"), hosts)
    };
    let Some(stage) = Stage::start_as(&config, change).await else { return };
    for (host, expected) in [
        ("llm.example.com", 404),
        ("LLM.Example.COM", 404),
        ("llm.example.com:8080", 404),
        ("tenant.llm.example.com", 404),
        ("[::1]", 404),
        ("llm.example.com.", 404),
        ("nobody.example.com", 404),
        ("shop.example.com", 200),
        ("shop.example.com:80", 200),
    ] {
        let (status, answer) = raw(&stage, "POST", "/invocations", &[("host", host)]).await;
        assert_eq!(status, expected, "{host}: {answer}");
        assert_eq!(recorder.take().len(), usize::from(expected == 200), "{host}");
    }
    let (_, answer) = raw(&stage, "POST", "/v1/chat/completions", &[("host", "shop.example.com")]).await;
    assert!(!answer.contains("x-penstock"), "{answer}");
    assert_eq!(recorder.take().len(), 1);
    // A virtual host of a free name that serves every host is taken for ours, before anybody asked it for the host that is named.
    let hosts = json!([host("models", json!(["*"])), host("shop.example.com", json!(["shop.example.com"]))]);
    let change = |gateway: Gateway| {
        gateway.cluster("stable", recorder.address()).set(&format!("{MANAGER}/route_config/virtual_hosts"), hosts)
    };
    let Some(stage) = Stage::start_as(&config, change).await else { return };
    for (host, expected) in
        [("evil", 404), ("evil.example.com", 404), ("llm.example.com", 404), ("shop.example.com", 200)]
    {
        let (status, answer) = raw(&stage, "POST", "/invocations", &[("host", host)]).await;
        assert_eq!(status, expected, "{host}: {answer}");
        assert_eq!(recorder.take().len(), usize::from(expected == 200), "{host}");
    }
    // So are its requests counted.
    let (_, answer) = raw(&stage, "POST", "/v1/chat/completions", &[("host", "evil")]).await;
    assert!(answer.contains("x-penstock-prompt-tokens: 8"), "{answer}");
}

/// A server's redirect that Envoy follows: one request, and so is its charge, whatever the path of the second pass.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_pass_is_one_request() {
    for (chain, location) in
        [(Chain::One, "/v1/chat/completions?again"), (Chain::One, "/elsewhere?again"), (Chain::Row, "/elsewhere?again")]
    {
        let recorder = Recorder::start(Some(format!("http://llm.example.com{location}"))).await;
        let config = json!({
            "models": [{"name": "chat", "output": {"max": 10}, "versions": [{"name": "stable", "weight": 1, "model": "real"}]}],
            "limits": [{"name": "all", "tokens": 60, "every": "100h"}, {"name": "streams", "concurrent": 1}],
        });
        let Some(stage) = stage(&config, &recorder, chain, true).await else { return };
        let mut left = Vec::new();
        // Whatever a client says of a pass that it made up is not heard.
        let forged = [("x-envoy-original-url", "http://llm.example.com/v1/models"), ("x-penstock-version", "stable")];
        for _ in 0..5 {
            let (status, answer) = raw(&stage, "POST", "/v1/chat/completions", &forged).await;
            assert_eq!(status, 200, "{location}: {answer}");
            assert!(answer.contains("x-penstock-prompt-tokens: 8") && answer.contains("x-penstock-version: stable"));
            let remaining = answer.lines().find_map(|line| line.strip_prefix("x-ratelimit-remaining-tokens: "));
            left.push(remaining.map(str::to_owned).expect("under a limit"));
        }
        assert_eq!(left, ["42", "33", "24", "15", "6"], "{chain:?} {location}");
        assert_eq!(raw(&stage, "POST", "/v1/chat/completions", &[]).await.0, 429);
        let seen = recorder.take();
        assert_eq!(seen.len(), 10);
        assert!(seen.iter().all(|request| request.contains(r#""model":"real""#)), "{seen:?}");
        until_metrics(&stage.envoy, |metrics| {
            let requests = |outcome| metrics.sum("penstock_requests_total", &[("outcome", outcome)]);
            requests("ok") == 5.0 && requests("upstream_error") == 0.0 && requests("limited") == 1.0
        })
        .await;
        until_metrics(&stage.envoy, |metrics| metrics.sum("penstock_pending_requests", &[]) == 0.0).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_would_be_closed_is_seen_first() {
    let recorder = Recorder::start(None).await;
    let config = json!({"models": [{"name": "chat"}], "paths": {"mode": "observe"}});
    let Some(stage) = stage(&config, &recorder, Chain::Row, true).await else { return };
    let (status, answer) = raw(&stage, "POST", "/invocations", &[]).await;
    assert!(status == 200 && answer.contains("x-penstock-would: path"), "{answer}");
    until_metrics(&stage.envoy, |metrics| metrics.sum("penstock_observed_total", &[("reason", "path")]) == 1.0).await;
}

/// The official packages' own calls, answered without a server.
#[tokio::test(flavor = "multi_thread")]
async fn counts_and_models_are_what_the_packages_expect() {
    let python = need!(find_python());
    let config = json!({"models": [{"name": "chat", "versions": [{"name": "v1", "weight": 1, "model": "real"}]}, {"name": "small"}]});
    let Some(stage) = Stage::start(&config).await else { return };
    let script = checkout().join("tests/tests/clients/counts.py");
    let mut call = tokio::process::Command::new(python);
    call.arg(script).arg(stage.envoy.url()).stderr(Stdio::inherit());
    let output = call.output().await.expect("Python runs");
    let told: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(told["models"], json!(["chat", "small"]));
    assert_eq!(told["anthropic_models"], json!(["chat", "small"]));
    assert_eq!(told["model"], json!("chat"));
    assert_eq!(told["unknown"], json!("NotFoundError"));
    assert_eq!(told["count_tokens"], json!(8));
    assert!(told["input_tokens"].as_u64().is_some_and(|tokens| tokens > 0), "{told}");
    assert_eq!(stage.arrived(), 0);
    let answer = stage.send(Method::POST, "/v1/messages/count_tokens", &[], BODY).await;
    assert_eq!(answer.headers()["x-penstock-estimated"], "true");
}

/// The files that users copy care for paths themselves.
#[test]
fn the_shipped_files_make_paths_normal() {
    for file in ["gateway.yaml", "jwt.yaml", "api-keys.yaml", "mesh.yaml"] {
        let text = std::fs::read_to_string(checkout().join("envoy").join(file)).expect(file);
        for key in
            ["normalize_path: true", "merge_slashes: true", "path_with_escaped_slashes_action: UNESCAPE_AND_FORWARD"]
        {
            assert!(text.contains(key), "{file} lacks {key}");
        }
    }
}
