//! The packages that applications use, through a real Envoy with every stage at work: what they give is what they give without Penstock.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;

use penstock_harness::envoy::{Chain, Envoy, Gateway};
use penstock_harness::model_server::{ModelServer, Options};
use penstock_tests::{
    checkout, find_envoy, find_node_clients, find_openai_suite, find_python, module, need, until_metrics,
};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_is_the_answer_without_the_filters() {
    let (envoy, python, packages) = (need!(find_envoy()), need!(find_python()), need!(find_node_clients()));
    module("penstock");
    let clients = checkout().join("tests/tests/clients");
    let mut python = Command::new(python);
    python.arg(clients.join("answers.py"));
    let mut node = Command::new("node");
    node.arg(clients.join("answers.cjs")).env("NODE_PATH", packages);
    let calls = calls();
    for (name, mut client, times) in [("Python", python, 2), ("Node.js", node, 1)] {
        // Each server gives its requests numbers, which are in the answers: both get the same requests in the same order.
        let (bare, behind) = (server().await, server().await);
        let gateway = Gateway::load(&checkout(), "gateway.yaml").expect("gateway.yaml");
        let gateway = gateway.cluster("stable", behind.address()).cluster("canary", behind.address());
        let rendered = gateway.chain(Chain::One).plugin_config(&config()).render();
        let envoy = Envoy::start(&envoy, &rendered, 2).await.expect("Envoy starts");
        let without = answers(&mut client, &format!("http://{}", bare.address()), &calls).await;
        let with = answers(&mut client, &envoy.url(), &calls).await;
        let of_client: Vec<&Value> = calls.iter().filter(|call| times == 2 || call["sdk"] == "openai").collect();
        assert_eq!((with.len(), without.len()), (of_client.len() * times, of_client.len() * times), "{name}");
        for (i, (with, without)) in with.iter().zip(&without).enumerate() {
            assert_eq!(with, without, "{name}: {}", of_client[i % of_client.len()]);
        }
        // The filters did work meanwhile: what they counted is what the server used.
        let totals = behind.totals();
        let name = "penstock_tokens_total";
        let (prompt, completion) = (totals.prompt_tokens as f64, totals.completion_tokens as f64);
        until_metrics(&envoy, |metrics| metrics.sum(name, &[("kind", "prompt")]) == prompt).await;
        until_metrics(&envoy, |metrics| metrics.sum(name, &[("kind", "completion")]) == completion).await;
        until_metrics(&envoy, |metrics| metrics.sum("penstock_requests_total", &[("outcome", "ok")]) > 0.0).await;
        assert!(totals.completion_tokens > 0);
    }
}

/// The tests that the openai package brings for itself, of the APIs that are read here and of some that pass, end through Penstock as they
/// do without: with all parameters, on every path, sync and async.
#[tokio::test(flavor = "multi_thread")]
async fn the_openai_packages_own_tests_end_as_they_do_without() {
    let (envoy, (python, source)) = (need!(find_envoy()), need!(find_openai_suite()));
    module("penstock");
    let (bare, behind) = (server().await, server().await);
    // They name models that nobody has, or none, and ask for work that outlives its answer.
    let config = json!({
        "models": [{"name": "*"}, {"name": "chat"}], "defaultModel": "chat", "background": "reserve", "paths": {"other": "pass"},
        "countEndpoints": "forward",
    });
    let gateway = Gateway::load(&checkout(), "gateway.yaml").expect("gateway.yaml");
    let gateway = gateway.cluster("stable", behind.address()).cluster("canary", behind.address());
    let rendered = gateway.chain(Chain::One).plugin_config(&config).render();
    let envoy = Envoy::start(&envoy, &rendered, 2).await.expect("Envoy starts");
    let without = own_tests(&python, &source, &format!("http://{}", bare.address())).await;
    let with = own_tests(&python, &source, &envoy.url()).await;
    let passed = without.values().filter(|outcome| *outcome == "PASSED").count();
    assert!(passed >= 100, "{passed} of {} pass without Penstock", without.len());
    let differs = |test: &&String| with.get(*test) != without.get(*test);
    let different: Vec<_> = without.keys().filter(differs).map(|test| (test, &without[test], with.get(test))).collect();
    assert!(
        different.is_empty() && with.len() == without.len(),
        "{} of {}: {different:#?}",
        different.len(),
        without.len()
    );
}

/// How each of the package's own tests ended against this server.
async fn own_tests(python: &Path, source: &Path, url: &str) -> BTreeMap<String, String> {
    const TESTS: [&str; 9] = [
        "chat",
        "responses",
        "audio",
        "test_completions.py",
        "test_embeddings.py",
        "test_models.py",
        "test_moderations.py",
        "test_images.py",
        "test_batches.py",
    ];
    let mut pytest = Command::new(python);
    pytest.args(["-m", "pytest", "-q", "-p", "no:cacheprovider", "-o", "addopts=", "-n", "4", "--tb=no", "-rA"]);
    pytest.args(TESTS.map(|test| format!("tests/api_resources/{test}"))).current_dir(source);
    let output = pytest.env("TEST_API_BASE_URL", format!("{url}/v1")).output().await.expect("pytest runs");
    let text = String::from_utf8_lossy(&output.stdout);
    let ended = text.lines().filter_map(|line| {
        let (outcome, test) = line.split_once(' ')?;
        let test = test.split(" - ").next()?;
        let is_one = ["PASSED", "FAILED", "ERROR", "SKIPPED"].contains(&outcome) && test.starts_with("tests/");
        is_one.then(|| (test.to_owned(), outcome.to_owned()))
    });
    let ended: BTreeMap<String, String> = ended.collect();
    assert!(!ended.is_empty(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    ended
}

/// A client under a limit gets the error that its package has for it, whatever the API.
#[tokio::test(flavor = "multi_thread")]
async fn refusals_are_the_errors_of_each_package() {
    let (envoy, python) = (need!(find_envoy()), need!(find_python()));
    module("penstock");
    let server = server().await;
    let mut config = config();
    config["limits"] = json!([{"name": "tiny", "tokens": 1, "every": "1h", "burst": 100_000}]);
    let gateway = Gateway::load(&checkout(), "gateway.yaml").expect("gateway.yaml");
    let gateway = gateway.cluster("stable", server.address()).cluster("canary", server.address());
    let envoy =
        Envoy::start(&envoy, &gateway.chain(Chain::One).plugin_config(&config).render(), 2).await.expect("Envoy");
    let large = "word ".repeat(99_000);
    let calls = [
        ("openai", "completions.create", json!({"prompt": large, "max_tokens": 5})),
        (
            "openai",
            "chat.completions.create",
            json!({"messages": [{"role": "user", "content": large}], "max_tokens": 5}),
        ),
        ("openai", "responses.create", json!({"input": large, "max_output_tokens": 16})),
        ("openai", "embeddings.create", json!({"input": large})),
        ("anthropic", "messages.create", json!({"messages": [{"role": "user", "content": large}], "max_tokens": 5})),
    ];
    let calls: Vec<Value> = calls
        .into_iter()
        .map(|(sdk, method, mut arguments)| {
            arguments["model"] = json!("chat");
            json!({"sdk": sdk, "method": method, "arguments": arguments})
        })
        .collect();
    let mut client = Command::new(python);
    client.arg(checkout().join("tests/tests/clients/answers.py"));
    let answers = answers(&mut client, &envoy.url(), &calls).await;
    assert!(answers[0].get("error").is_none(), "the first is admitted: {}", answers[0]);
    for (i, answer) in answers.iter().enumerate().skip(1) {
        assert_eq!((&answer["error"], &answer["status"]), (&json!("RateLimitError"), &json!(429)), "{i}: {answer}");
        // openai gives the error object, anthropic the whole body.
        let error = answer["body"].get("error").unwrap_or(&answer["body"]);
        assert!(error["message"].as_str().is_some_and(|message| message.contains("\"tiny\"")), "{answer}");
        if calls[i % calls.len()]["sdk"] == "anthropic" {
            assert_eq!((&answer["body"]["type"], &error["type"]), (&json!("error"), &json!("rate_limit_error")));
        } else {
            assert_eq!(error["code"], "rate_limit_exceeded");
        }
    }
    assert_eq!(server.totals().requests, 1);
}

async fn server() -> ModelServer {
    let options = Options { models: vec!["chat".to_owned()], ttft_ms: 1, inter_token_ms: 0, ..Options::default() };
    ModelServer::start(options).await.expect("a free port")
}

fn config() -> Value {
    json!({
        "tenant": {"from": [{"header": "x-api-key"}], "anonymous": "allow"},
        "models": [{
            "name": "chat", "output": {"max": 4096}, "price": {"input": 1, "output": 2},
            "versions": [{"name": "stable", "weight": 70}, {"name": "canary", "weight": 30}],
        }],
        "limits": [
            {"name": "tpm", "per": ["tenant", "model"], "tokens": 100_000_000, "every": "1m"},
            {"name": "streams", "per": ["tenant"], "concurrent": 16},
        ],
    })
}

/// What applications ask: each API, in one piece and streamed, with and without usage, cut short, and what fails.
fn calls() -> Vec<Value> {
    let messages = json!([
        {"role": "system", "content": "You are a helpful assistant."},
        {"role": "user", "content": "Wie geht's? 你好,世界 🙂 \u{2028} \"quoted\" \\ back"},
    ]);
    let user = json!([{"role": "user", "content": [{"type": "text", "text": "Hello there."}]}]);
    let tools = json!([{"type": "function", "function": {"name": "weather", "description": "The weather of a place",
        "parameters": {"type": "object", "properties": {"place": {"type": "string"}}}}}]);
    let items = json!([{"role": "user", "content": [{"type": "input_text", "text": "Hello there."}]}]);
    let failing = json!({"x-model-server": json!({"status": 500}).to_string()});
    let silent = json!({"x-model-server": json!({"usage": false}).to_string()});
    let chat = "chat.completions.create";
    let mut calls = Vec::new();
    for (sdk, method, arguments) in [
        ("openai", chat, json!({"messages": messages})),
        ("openai", chat, json!({"messages": messages, "max_tokens": 5, "temperature": 0.5, "seed": 7})),
        ("openai", chat, json!({"messages": user, "tools": tools, "max_completion_tokens": 9000})),
        ("openai", chat, json!({"messages": user, "stream_options": {"include_usage": true}, "stream": true})),
        (
            "openai",
            chat,
            json!({"messages": user, "response_format": {"type": "json_object"}, "extra_headers": silent}),
        ),
        ("openai", chat, json!({"messages": user, "extra_headers": failing})),
        ("openai", chat, json!({"messages": []})),
        ("openai", "completions.create", json!({"prompt": "Once upon a time", "max_tokens": 20})),
        ("openai", "completions.create", json!({"prompt": [1, 2, 3, 400], "max_tokens": 3})),
        ("openai", "responses.create", json!({"input": "Hello there.", "instructions": "Be brief."})),
        ("openai", "responses.create", json!({"input": items, "max_output_tokens": 16})),
        ("openai", "responses.create", json!({"input": items, "extra_headers": failing})),
        ("openai", "embeddings.create", json!({"input": ["one", "two words"]})),
        ("openai", "embeddings.create", json!({"input": "one", "encoding_format": "float"})),
        ("openai", "models.list", json!({})),
        ("anthropic", "messages.create", json!({"messages": user, "system": "Be brief.", "max_tokens": 1000})),
        ("anthropic", "messages.create", json!({"messages": user, "max_tokens": 5})),
        ("anthropic", "messages.create", json!({"messages": user, "max_tokens": 5, "extra_headers": failing})),
    ] {
        let has_stream = !matches!(method, "embeddings.create" | "models.list") && arguments.get("stream").is_none();
        let mut arguments = arguments;
        if method != "models.list" {
            arguments["model"] = json!("chat");
        }
        let mut streamed = arguments.clone();
        streamed["stream"] = json!(true);
        calls.push(json!({"sdk": sdk, "method": method, "arguments": arguments}));
        if has_stream {
            calls.push(json!({"sdk": sdk, "method": method, "arguments": streamed}));
        }
    }
    calls
}

/// What the client gives for these calls against this server.
async fn answers(client: &mut Command, base_url: &str, calls: &[Value]) -> Vec<Value> {
    let mut child = client.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true).spawn().expect("it runs");
    let mut stdin = child.stdin.take().expect("a pipe");
    let plan = json!({"base_url": base_url, "calls": calls});
    stdin.write_all(plan.to_string().as_bytes()).await.expect("it reads the plan");
    drop(stdin);
    let output = child.wait_with_output().await.expect("it ends");
    assert!(output.status.success(), "the client failed");
    serde_json::from_slice(&output.stdout).expect("answers")
}
