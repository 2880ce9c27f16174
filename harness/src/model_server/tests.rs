//! The server as a client sees it, over a socket.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::*;

async fn server(options: Options) -> ModelServer {
    ModelServer::start(Options { ttft_ms: 0, inter_token_ms: 0, ..options }).await.expect("a free port")
}

fn post(server: &ModelServer, script: &Value, body: &Value) -> reqwest::RequestBuilder {
    reqwest::Client::new()
        .post(format!("http://{}/v1/chat/completions", server.address()))
        .header("x-model-server", script.to_string())
        .body(body.to_string())
}

fn chat(extra: Value) -> Value {
    let mut body = json!({"model": "m", "messages": [{"role": "user", "content": "Wie geht's? 你好 🙂"}]});
    body.as_object_mut().expect("an object").extend(extra.as_object().expect("an object").clone());
    body
}

/// The `data:` lines of a stream, the JSON ones parsed.
fn events(text: &str) -> (Vec<Value>, bool) {
    let data: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
    let done = data.last() == Some(&"[DONE]");
    let chunks = data.iter().filter(|data| **data != "[DONE]");
    (chunks.map(|data| serde_json::from_str(data).expect("JSON")).collect(), done)
}

/// Waits until the server has noticed how its only request ended.
async fn ended(server: &ModelServer) -> Seen {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let last = server.requests().pop().expect("a request");
        if last.done {
            return last;
        }
        assert!(Instant::now() < deadline, "not over after 60 s: {last:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn usage_is_what_tiktoken_says_streamed_and_not() {
    for encoding in [Encoding::O200kBase, Encoding::Cl100kBase] {
        let server = server(Options { encoding, ..Options::default() }).await;
        let body = chat(json!({}));
        let answer: Value = post(&server, &json!({"tokens": 23}), &body).send().await.unwrap().json().await.unwrap();
        let content = answer["choices"][0]["message"]["content"].as_str().unwrap();
        assert_eq!(answer["usage"]["prompt_tokens"], encoding.count_chat(&body));
        assert_eq!(answer["usage"]["completion_tokens"], encoding.count(content));
        assert_eq!(answer["usage"]["completion_tokens"], 23);
        assert_eq!(answer["choices"][0]["finish_reason"], "stop");

        let body = chat(json!({"stream": true, "stream_options": {"include_usage": true}, "max_tokens": 9}));
        let text = post(&server, &json!({"tokens": 23}), &body).send().await.unwrap().text().await.unwrap();
        let (chunks, done) = events(&text);
        assert!(done);
        let content: String =
            chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str()).collect();
        let usage = &chunks.last().unwrap()["usage"];
        assert_eq!(usage["completion_tokens"], encoding.count(&content));
        assert_eq!(usage["completion_tokens"], 9);
        assert_eq!(chunks[chunks.len() - 2]["choices"][0]["finish_reason"], "length");
        assert!(chunks[..chunks.len() - 1].iter().all(|chunk| chunk["usage"].is_null()));
    }
}

#[tokio::test]
async fn no_usage_unless_asked_for() {
    let server = server(Options::default()).await;
    let text = post(&server, &json!({}), &chat(json!({"stream": true}))).send().await.unwrap().text().await.unwrap();
    let (chunks, done) = events(&text);
    assert!(done && chunks.iter().all(|chunk| chunk.get("usage").is_none()));
    let silent: Value =
        post(&server, &json!({"usage": false}), &chat(json!({}))).send().await.unwrap().json().await.unwrap();
    assert!(silent.get("usage").is_none());
}

#[tokio::test]
async fn same_request_same_completion() {
    let server = server(Options::default()).await;
    let text = async |extra: Value| {
        let mut answer: Value = post(&server, &json!({}), &chat(extra)).send().await.unwrap().json().await.unwrap();
        answer["choices"].take()
    };
    let prompt = |text: &str| json!({"messages": [{"role": "user", "content": text}]});
    assert_eq!(text(prompt("a")).await, text(prompt("a")).await);
    // What is not the prompt makes no difference.
    assert_eq!(text(json!({"user": "a"})).await, text(json!({"user": "b"})).await);
    assert_ne!(text(prompt("a")).await, text(prompt("b")).await);
}

#[tokio::test]
async fn a_client_that_leaves_is_noticed() {
    let server = server(Options::default()).await;
    let slow = json!({"tokens": 1000, "inter_token_ms": 5});
    let mut answer = post(&server, &slow, &chat(json!({"stream": true}))).send().await.unwrap();
    answer.chunk().await.unwrap().expect("a first event");
    assert_eq!(server.running(), 1);
    drop(answer);
    let seen = ended(&server).await;
    assert!(seen.client_gone && seen.completion_tokens < 1000, "{seen:?}");
    assert_eq!(server.running(), 0);
    assert_eq!(
        server.totals(),
        Totals {
            requests: 1,
            completed: 0,
            client_gone: 1,
            prompt_tokens: seen.prompt_tokens,
            completion_tokens: seen.completion_tokens,
        }
    );
}

#[tokio::test]
async fn a_scripted_reset_breaks_the_body_after_its_events() {
    let server = server(Options::default()).await;
    let script = json!({"reset_after_events": 3, "inter_token_ms": 1});
    let mut answer = post(&server, &script, &chat(json!({"stream": true}))).send().await.unwrap();
    let mut text = String::new();
    let broken = loop {
        match answer.chunk().await {
            Ok(Some(bytes)) => text.push_str(std::str::from_utf8(&bytes).unwrap()),
            Ok(None) => break false,
            Err(_) => break true,
        }
    };
    assert!(broken);
    assert_eq!(text.matches("data: ").count(), 3);
    assert!(!ended(&server).await.client_gone);

    let whole = post(&server, &script, &chat(json!({}))).send().await.unwrap();
    assert!(whole.text().await.is_err());
}

#[tokio::test]
async fn statuses_models_and_bad_requests() {
    let server = server(Options { models: vec!["m".to_owned()], ..Options::default() }).await;
    for (script, body, status) in [
        (json!({"status": 429}), chat(json!({})), 429),
        (json!({"status": 503}), chat(json!({"stream": true})), 503),
        (json!({"typo": 1}), chat(json!({})), 400),
        (json!({}), chat(json!({"max_tokens": 0})), 400),
        (json!({}), chat(json!({"model": "other"})), 404),
        (json!({}), json!({"model": "m", "messages": []}), 400),
        (json!({}), json!([1]), 400),
    ] {
        let answer = post(&server, &script, &body).send().await.unwrap();
        assert_eq!(answer.status(), status, "{script} {body}");
        assert!(answer.json::<Value>().await.unwrap()["error"]["message"].is_string());
    }
}

#[tokio::test]
async fn beyond_concurrency_requests_wait_and_beyond_the_queue_they_fail() {
    let server = server(Options { concurrency: 1, queue: 1, ..Options::default() }).await;
    // Long enough that the third arrives while the first is served, on a busy machine too.
    let slow = json!({"ttft_ms": 2000, "tokens": 1});
    let status = async || post(&server, &slow, &chat(json!({}))).send().await.unwrap().status().as_u16();
    let began = Instant::now();
    let (a, b, c) = tokio::join!(status(), status(), status());
    let mut statuses = [a, b, c];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 200, 503]);
    assert!(began.elapsed() >= Duration::from_millis(2000));
    let total: u64 = server.requests().iter().map(|seen| u64::from(seen.status == 200)).sum();
    assert_eq!(total, 2);
}

#[tokio::test]
async fn every_request_fails_at_an_error_rate_of_one() {
    let server = server(Options { error_rate: 1.0, ..Options::default() }).await;
    for _ in 0..3 {
        assert_eq!(post(&server, &json!({}), &chat(json!({}))).send().await.unwrap().status(), 500);
    }
}

#[tokio::test]
async fn requests_are_kept_as_they_arrived_and_metrics_have_vllms_names() {
    let server = server(Options { name: "gpu".to_owned(), ..Options::default() }).await;
    let url = format!("http://{}", server.address());
    let client = reqwest::Client::new();
    let raw = client.post(format!("{url}/v1/chat/completions")).header("x-a", "1").body(vec![0xff, 0xfe]);
    assert_eq!(raw.send().await.unwrap().status(), 400);
    post(&server, &json!({"tokens": 4}), &chat(json!({}))).send().await.unwrap().bytes().await.unwrap();

    let seen: Value = client.get(format!("{url}/debug/requests")).send().await.unwrap().json().await.unwrap();
    assert_eq!(seen[0]["body_base64"], "//4=");
    assert!(seen[0]["headers"].as_array().unwrap().contains(&json!(["x-a", "1"])));
    assert_eq!(seen[1]["body"], chat(json!({})).to_string());

    let metrics = client.get(format!("{url}/metrics")).send().await.unwrap().text().await.unwrap();
    for line in [
        "vllm:num_requests_running{model_name=\"gpu\"} 0",
        "vllm:num_requests_waiting{model_name=\"gpu\"} 0",
        "vllm:kv_cache_usage_perc{model_name=\"gpu\"} 0",
        "vllm:generation_tokens_total{model_name=\"gpu\"} 4",
        "vllm:time_to_first_token_seconds_count{model_name=\"gpu\"} 1",
        "vllm:inter_token_latency_seconds_bucket{model_name=\"gpu\",le=\"+Inf\"} 3",
    ] {
        assert!(metrics.lines().any(|have| have == line), "{line} is not in\n{metrics}");
    }
}

#[tokio::test]
async fn nothing_is_served_while_the_model_is_loaded() {
    let server = server(Options { load_ms: 300, ..Options::default() }).await;
    let health =
        async || reqwest::get(format!("http://{}/health", server.address())).await.expect("an answer").status();
    assert_eq!(health().await, 503);
    let early = post(&server, &json!({}), &chat(json!({}))).send().await.expect("an answer");
    assert_eq!(early.status(), 503);
    while !server.is_loaded() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(health().await, 200);
    assert_eq!(post(&server, &json!({}), &chat(json!({}))).send().await.expect("an answer").status(), 200);
}

#[tokio::test]
async fn a_prompt_waits_for_those_before_it() {
    let server = server(Options { prefill_tokens_per_second: 100, ..Options::default() }).await;
    let body = chat(json!({}));
    let takes = Duration::from_secs_f64(Encoding::O200kBase.count_chat(&body) as f64 / 100.0);
    let began = Instant::now();
    let ask = async || {
        let answer = post(&server, &json!({"tokens": 1}), &body).send().await.expect("an answer");
        answer.text().await.map(|_| began.elapsed()).expect("a body")
    };
    let (one, two) = tokio::join!(ask(), ask());
    assert!(one.min(two) >= takes && one.max(two) >= takes * 2, "{one:?} and {two:?} of {takes:?}");
}
