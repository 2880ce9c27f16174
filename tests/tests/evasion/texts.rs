//! What a body may hide: numbers and keys that are read differently, texts that nobody counts, work that outlives its answer, prompts that
//! fit nowhere. Each attack is tried beside its honest form, and nothing of what is refused reaches the model server.

use reqwest::Method;
use serde_json::{Value, json};

use super::stage::Stage;

const CHAT: &str = "/v1/chat/completions";
const RESPONSES: &str = "/v1/responses";
const MESSAGES: &str = "/v1/messages";

impl Stage {
    /// Sends this body; the status, the error that it was refused with, and the answer's headers.
    async fn ask(&self, path: &str, body: &str) -> (u16, Value, reqwest::header::HeaderMap) {
        let answer = self.send(Method::POST, path, &[], body).await;
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        let body: Value = answer.json().await.unwrap_or_default();
        (status, body["error"].clone(), headers)
    }

    /// Each of these is refused with this status, in the form of its API, and nothing of it arrives.
    async fn refuses<'a>(&self, status: u16, bodies: impl IntoIterator<Item = (&'a str, String)>) {
        let before = self.arrived();
        for (path, body) in bodies {
            let (found, error, _) = self.ask(path, &body).await;
            let shown: String = body.chars().take(200).collect();
            assert_eq!(found, status, "{path} {shown}: {error}");
            assert!(error["message"].as_str().is_some_and(|message| !message.is_empty()), "{shown}: {error}");
        }
        assert_eq!(self.arrived(), before);
    }

    /// What is left of the only limit, before anything but this is charged.
    async fn left(&self, path: &str, body: &str) -> u64 {
        let (status, error, headers) = self.ask(path, body).await;
        assert_eq!(status, 200, "{body}: {error}");
        headers["x-ratelimit-remaining-tokens"].to_str().unwrap().parse().unwrap()
    }
}

fn config(more: &Value) -> Value {
    let mut config = json!({
        "models": [{"name": "chat", "output": {"expect": 10, "max": 500}}],
        "limits": [{"name": "tpm", "tokens": 2000, "every": "24h"}],
    });
    for (key, value) in more.as_object().into_iter().flatten() {
        config[key] = value.clone();
    }
    config
}

/// A small ceiling beside a large one reserves the large one, and no server may read more than is configured.
#[tokio::test(flavor = "multi_thread")]
async fn two_ceilings() {
    let Some(stage) = Stage::start(&config(&json!({}))).await else { return };
    for ceilings in [
        r#""max_tokens":1,"max_completion_tokens":4096"#,
        r#""max_completion_tokens":4096,"max_tokens":1"#,
        r#""max_completion_tokens":1,"max_tokens":4096"#,
        r#""max_tokens":1,"max_completion_tokens":4.096e3"#,
        r#""max_tokens":1,"max_completion_tokens":-1"#,
        r#""max_tokens":1,"n_predict":4096"#,
        r#""max_tokens":1,"m\u0061x_completion_tokens":4096"#,
    ] {
        let body = format!(r#"{{"model":"chat",{ceilings},"messages":[{{"role":"user","content":"hello"}}]}}"#);
        let (status, error, headers) = stage.ask(CHAT, &body).await;
        assert_eq!(status, 200, "{ceilings}: {error}");
        assert_eq!(headers["x-penstock-max-tokens"], "500", "{ceilings}");
    }
    let seen = stage.last().body.expect("a text");
    assert!(seen.contains(r#""max_tokens":1,"#) && seen.contains("500") && !seen.contains("4096"), "{seen}");

    // Where nothing is configured that could be written, the larger one is what has to fit.
    let unbounded = json!({"models": [{"name": "chat"}], "limits": [{"name": "tpm", "tokens": 2000, "every": "24h"}]});
    let Some(stage) = Stage::start(&unbounded).await else { return };
    let large = |ceilings: &str| {
        let body = format!(r#"{{"model":"chat",{ceilings},"messages":[{{"role":"user","content":"hello"}}]}}"#);
        (CHAT, body)
    };
    stage
        .refuses(
            413,
            [
                large(r#""max_tokens":1,"max_completion_tokens":4096"#),
                large(r#""max_completion_tokens":1,"max_tokens":4096"#),
                large(r#""max_tokens":1,"n_predict":4096"#),
            ],
        )
        .await;
}

/// Numbers and keys of which two servers make two things are no way to say one thing here and another there.
#[tokio::test(flavor = "multi_thread")]
async fn odd_numbers_and_keys() {
    let Some(stage) = Stage::start(&config(&json!({}))).await else { return };
    let numbers = [
        format!("{}4096", "0".repeat(70)),
        format!("1.{}", "0".repeat(70)),
        "1.5".to_owned(),
        "1e30".to_owned(),
        "9223372036854775808".to_owned(),
        "NaN".to_owned(),
        "-Infinity".to_owned(),
        "\"4096\"".to_owned(),
        "[4096]".to_owned(),
    ];
    let fields = ["max_tokens", "max_completion_tokens", "n_predict", "n", "best_of", "min_tokens"];
    let odd = numbers.iter().flat_map(|number| {
        fields.map(|field| (CHAT, format!(r#"{{"model":"chat","messages":[],"{field}":{number}}}"#)))
    });
    stage.refuses(400, odd).await;
    let keys = [
        (CHAT, r#"{"model":"chat","Model":"other","messages":[]}"#),
        (CHAT, r#"{"model":"chat","MODEL":"other","messages":[]}"#),
        (CHAT, r#"{"model":"chat","model":"chat","messages":[]}"#),
        (CHAT, r#"{"model":"chat","m\u006fdel":"other","messages":[]}"#),
        (CHAT, r#"{"model":"chat","\u004dodel":"other","messages":[]}"#),
        (CHAT, r#"{"model":"chat","max_tokens":1,"Max_tokens":4096,"messages":[]}"#),
        (CHAT, "{\"model\":\"chat\",\"max_tokens\":1,\"max_to\u{212a}en\u{17f}\":4096,\"messages\":[]}"),
        (CHAT, r#"{"model":"chat","max_tokens":1,"max_tokens":4096,"messages":[]}"#),
        (CHAT, r#"{"model":"chat","messages":[{"role":"user","content":"long"}],"messages":[]}"#),
        (CHAT, r#"{"model":"chat","messages":[],"Messages":[{"role":"user","content":"long"}]}"#),
        (CHAT, r#"{"model":"chat","messages":[],"stream":false,"Stream":true}"#),
        (CHAT, r#"{"model":"chat","messages":[],"N":64}"#),
        (RESPONSES, r#"{"model":"chat","input":"x","Max_Output_Tokens":4096}"#),
        (RESPONSES, r#"{"model":"chat","input":"x","Background":true}"#),
        (MESSAGES, r#"{"model":"chat","max_tokens":1,"MAX_TOKENS":4096,"messages":[]}"#),
        ("/v1/completions", r#"{"model":"chat","prompt":"x","Prompt":"long"}"#),
        ("/v1/embeddings", r#"{"model":"chat","input":"x","INPUT":"long"}"#),
    ];
    stage.refuses(400, keys.map(|(path, body)| (path, body.to_owned()))).await;
    // Nothing of all that was charged, and what is only written oddly goes on.
    let honest = r#"{"model":"chat","max_tokens":1e3,"n":1.0,"messages":[{"role":"user","content":"hello"}]}"#;
    assert_eq!(stage.left(CHAT, honest).await, 2000 - 500 - 8);
    for set in ["null", "-1", "512.0"] {
        let body = format!(r#"{{"model":"chat","max_tokens":{set},"messages":[{{"role":"user","content":"hello"}}]}}"#);
        assert_eq!(stage.ask(CHAT, &body).await.0, 200, "{set}");
    }
}

/// A text counts wherever it stands: each of these is 2,500 tokens, which the limit never holds.
#[tokio::test(flavor = "multi_thread")]
async fn text_that_is_not_counted() {
    let Some(stage) = Stage::start(&config(&json!({"background": "reserve"}))).await else { return };
    let text = "a long text ".repeat(850);
    let hidden = [
        (CHAT, r#"{"model":"chat","messages":[{"role":"user","content":["TEXT"]}]}"#),
        (CHAT, r#"{"model":"chat","messages":[{"role":"user","content":{"text":"TEXT"}}]}"#),
        (CHAT, r#"{"model":"chat","messages":[{"role":"user","content":"TEXT","content":"short"}]}"#),
        (CHAT, r#"{"model":"chat","messages":[{"role":"user","content":[{"type":"refusal","refusal":"TEXT"}]}]}"#),
        (CHAT, r#"{"model":"chat","messages":[{"role":"user","content":[{"type":"TEXT"}]}]}"#),
        (CHAT, r#"{"model":"chat","messages":[{"role":"assistant","refusal":"TEXT"}]}"#),
        (CHAT, r#"{"model":"chat","messages":[{"role":"assistant","thinking":"TEXT"}]}"#),
        (CHAT, r#"{"model":"chat","messages":[{"role":"tool","tool_call_id":"TEXT","content":"x"}]}"#),
        (CHAT, r#"{"model":"chat","messages":[{"role":"assistant","function_call":{"name":"f","arguments":"TEXT"}}]}"#),
        (
            CHAT,
            r#"{"model":"chat","messages":[{"role":"assistant","tool_calls":[{"function":{"arguments":{"a":"TEXT"}}}]}]}"#,
        ),
        (CHAT, r#"{"model":"chat","messages":[],"functions":[{"name":"f","description":"TEXT"}]}"#),
        (
            CHAT,
            r#"{"model":"chat","messages":[],"tools":[{"function":{"name":"f","parameters":{"$defs":{"x":"TEXT"}}}}]}"#,
        ),
        (CHAT, r#"{"model":"chat","messages":[],"tools":[{"function":{"description":"TEXT","description":"x"}}]}"#),
        (CHAT, r#"{"model":"chat","messages":[],"documents":[{"title":"t","text":"TEXT"}]}"#),
        (
            CHAT,
            r#"{"model":"chat","messages":[],"response_format":{"type":"json_schema","json_schema":{"schema":{"title":"TEXT"}}}}"#,
        ),
        (CHAT, r#"{"model":"chat","messages":[],"chat_template":"TEXT"}"#),
        (CHAT, r#"{"model":"chat","messages":[],"chat_template_kwargs":{"system":"TEXT"}}"#),
        (CHAT, r#"{"model":"chat","messages":[],"prediction":{"type":"content","content":"TEXT"}}"#),
        (CHAT, r#"{"model":"chat","messages":[],"a_new_field":{"deep":["TEXT"]}}"#),
        (RESPONSES, r#"{"model":"chat","input":[{"role":"user","content":["TEXT"]}]}"#),
        (RESPONSES, r#"{"model":"chat","input":[{"type":"code_interpreter_call","code":"TEXT"}]}"#),
        (RESPONSES, r#"{"model":"chat","input":[{"type":"reasoning","encrypted_content":"TEXT"}]}"#),
        (RESPONSES, r#"{"model":"chat","prompt":{"id":"p","variables":{"x":"TEXT"}}}"#),
        (
            RESPONSES,
            r#"{"model":"chat","input":"x","text":{"format":{"type":"json_schema","schema":{"title":"TEXT"}}}}"#,
        ),
        (MESSAGES, r#"{"model":"chat","max_tokens":9,"messages":[{"role":"user","content":["TEXT"]}]}"#),
        (
            MESSAGES,
            r#"{"model":"chat","max_tokens":9,"messages":[{"role":"user","content":[{"type":"document","source":{"data":"TEXT","media_type":"text/plain","type":"text"}}]}]}"#,
        ),
        (
            MESSAGES,
            r#"{"model":"chat","max_tokens":9,"messages":[{"role":"user","content":[{"type":"document","source":{"type":"content","content":"TEXT"}}]}]}"#,
        ),
        ("/v1/completions", r#"{"model":"chat","prompt":"x","messages":[{"role":"user","content":"TEXT"}]}"#),
        ("/v1/embeddings", r#"{"model":"chat","input":"x","messages":[{"role":"user","content":"TEXT"}]}"#),
    ];
    stage.refuses(413, hidden.map(|(path, body)| (path, body.replace("TEXT", &text)))).await;
    // Media count by their length: a document, two minutes of sound, 2,000 vectors.
    let media = [
        (
            CHAT,
            r#"{"model":"chat","messages":[{"role":"user","content":[{"type":"file","file":{"file_data":"DATA"}}]}]}"#,
        ),
        (
            CHAT,
            r#"{"model":"chat","messages":[{"role":"user","content":[{"type":"input_audio","input_audio":{"data":"DATADATA"}}]}]}"#,
        ),
        ("/v1/completions", r#"{"model":"chat","prompt":"x","prompt_embeds":[VECTORS]}"#),
    ];
    let (data, vectors) = ("QUJD".repeat(150_000), vec!["\"QUJD\""; 2_000].join(","));
    let media = media.map(|(path, body)| (path, body.replace("DATA", &data).replace("VECTORS", &vectors)));
    stage.refuses(413, media).await;
    // What is no text is free as before: 8 tokens.
    let honest = r#"{"model":"chat","user":"u","metadata":{"a":"b"},"messages":[{"role":"user","content":"hello"}]}"#;
    let (status, _, headers) = stage.ask(CHAT, honest).await;
    assert_eq!((status, headers["x-penstock-prompt-tokens"].to_str().unwrap()), (200, "8"));
}

/// What is no text costs by its size, wherever it stands; what has no size in the request is refused, unless it has a price.
#[tokio::test(flavor = "multi_thread")]
async fn parts_without_a_price() {
    let parts = [
        (CHAT, r#"{"type":"file","file":{"filename":"a.pdf","file_data":"data:application/pdf;base64,DATA"}}"#),
        (CHAT, r#"{"type":"video_url","video_url":{"url":"data:video/mp4;base64,DATA"}}"#),
        (RESPONSES, r#"{"type":"input_file","filename":"a.pdf","file_data":"DATA"}"#),
        (
            MESSAGES,
            r#"{"type":"tool_result","tool_use_id":"t","content":[{"type":"document","source":{"type":"base64","media_type":"application/pdf","data":"DATA"}}]}"#,
        ),
    ];
    let named = [
        (CHAT, r#"{"type":"file","file":{"file_id":"file-1"}}"#),
        (CHAT, r#"{"type":"video_url","video_url":{"url":"https://example.com/film.mp4"}}"#),
        (RESPONSES, r#"{"type":"input_file","file_url":"https://example.com/a.pdf"}"#),
        (MESSAGES, r#"{"type":"document","source":{"type":"url","url":"https://example.com/a.pdf"}}"#),
    ];
    let body = |path: &str, part: &str, size: usize| {
        let key = if path == RESPONSES { "input" } else { "messages" };
        let part = part.replace("DATA", &"AAAA".repeat(size / 4));
        format!(r#"{{"model":"chat","{key}":[{{"role":"user","content":[{part}]}}]}}"#)
    };
    let limits = json!([{"name": "tpm", "tokens": 1_000_000, "every": "24h"}]);
    let Some(stage) = Stage::start(&config(&json!({"limits": limits}))).await else { return };
    for (path, part) in parts {
        let mut costs = Vec::new();
        for size in [1_000, 400_000] {
            let (status, error, headers) = stage.ask(path, &body(path, part, size)).await;
            assert_eq!((status, headers["x-penstock-estimated"].to_str().unwrap()), (200, "true"), "{part}: {error}");
            costs.push(headers["x-penstock-prompt-tokens"].to_str().unwrap().parse::<u64>().unwrap());
        }
        assert!(costs[0] > 250 && costs[1] > 5 * costs[0], "{part}: {costs:?}");
    }
    stage.refuses(400, named.map(|(path, part)| (path, body(path, part, 0)))).await;

    let models =
        json!([{"name": "chat", "output": {"expect": 10, "max": 500}, "media": {"file": 5000, "video": 7000}}]);
    let Some(stage) = Stage::start(&config(&json!({"models": models, "limits": limits}))).await else { return };
    for (path, part) in named {
        let (status, _, headers) = stage.ask(path, &body(path, part, 0)).await;
        let tokens: u64 = headers["x-penstock-prompt-tokens"].to_str().unwrap().parse().unwrap();
        assert!(status == 200 && (5007..=7007).contains(&tokens), "{part}: {tokens}");
    }
}

/// An answer that is worked on after its response is refused, or charged in full.
#[tokio::test(flavor = "multi_thread")]
async fn work_that_outlives_the_answer() {
    let Some(stage) = Stage::start(&config(&json!({}))).await else { return };
    let later = [
        r#"{"model":"chat","input":"hello","background":true}"#,
        r#"{"model":"chat","input":"hello","background":true,"stream":true}"#,
        r#"{"model":"chat","input":"hello","b\u0061ckground":true}"#,
        r#"{"model":"chat","input":"hello","background":"true"}"#,
        r#"{"model":"chat","input":"hello","background":1}"#,
        r#"{"model":"chat","input":"hello","background":false,"background":true}"#,
    ];
    stage.refuses(400, later.map(|body| (RESPONSES, body.to_owned()))).await;
    let honest = r#"{"model":"chat","input":"hello","background":false,"max_output_tokens":100}"#;
    assert!(stage.left(RESPONSES, honest).await >= 1880);

    // The model server knows nothing of it and answers at once; what it then reports is what is charged.
    let Some(stage) = Stage::start(&config(&json!({"background": "reserve"}))).await else { return };
    let later = r#"{"model":"chat","input":"hello","background":true,"max_output_tokens":100}"#;
    assert!((1880..=1895).contains(&stage.left(RESPONSES, later).await));
}

/// A request that names no model is charged where it goes.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_without_a_model() {
    let Some(stage) = Stage::start(&config(&json!({}))).await else { return };
    let unnamed = [
        (RESPONSES, r#"{"prompt":{"id":"pmpt_1"}}"#),
        (RESPONSES, r#"{"input":"hello"}"#),
        (CHAT, r#"{"messages":[]}"#),
        (CHAT, r#"{"model":null,"messages":[]}"#),
        (CHAT, r#"{}"#),
    ];
    stage.refuses(400, unnamed.map(|(path, body)| (path, body.to_owned()))).await;
    let large = "hello ".repeat(3000);
    let Some(stage) = Stage::start(&config(&json!({"defaultModel": "chat"}))).await else { return };
    let limited = [
        (RESPONSES, format!(r#"{{"input":"{large}"}}"#)),
        (CHAT, format!(r#"{{"messages":[{{"content":"{large}"}}]}}"#)),
    ];
    stage.refuses(413, limited).await;
    // With `*` the Responses API may leave the model to its server, under the limits; nothing else may.
    let models = json!([{"name": "chat"}, {"name": "*", "output": {"expect": 10, "max": 500}}]);
    let Some(stage) = Stage::start(&config(&json!({"models": models}))).await else { return };
    stage.refuses(413, [(RESPONSES, format!(r#"{{"input":"{large}"}}"#))]).await;
    let others = [(CHAT, r#"{"messages":[]}"#), (CHAT, "{}"), (RESPONSES, "{}")];
    stage.refuses(400, others.map(|(path, body)| (path, body.to_owned()))).await;
    for (n, body) in [r#"{"prompt":{"id":"pmpt_1"}}"#, r#"{"input":"hello"}"#].into_iter().enumerate() {
        let (_, _, headers) = stage.ask(RESPONSES, body).await;
        assert!(headers.contains_key("x-penstock-prompt-tokens"), "{body}");
        assert_eq!(stage.arrived(), n as u64 + 1, "{body}");
    }
}

/// A prompt that no server could take is refused with its count.
#[tokio::test(flavor = "multi_thread")]
async fn a_prompt_that_is_too_long() {
    let models = json!([{"name": "chat", "output": {"expect": 10, "context": 100}}]);
    let Some(stage) = Stage::start(&config(&json!({"models": models}))).await else { return };
    let words = "word ".repeat(150);
    let chat = format!(r#"{{"model":"chat","messages":[{{"role":"user","content":"{words}"}}]}}"#);
    let (status, error, _) = stage.ask(CHAT, &chat).await;
    assert_eq!((status, error["code"].as_str()), (400, Some("context_length_exceeded")));
    let messages = format!(r#"{{"model":"chat","max_tokens":9,"messages":[{{"role":"user","content":"{words}"}}]}}"#);
    let (status, error, _) = stage.ask(MESSAGES, &messages).await;
    assert_eq!((status, error["type"].as_str()), (400, Some("invalid_request_error")));
    assert!(error["message"].as_str().unwrap().starts_with("prompt is too long: 158 tokens > 100 maximum"));
    assert_eq!(stage.arrived(), 0);
    let short = r#"{"model":"chat","max_tokens":9,"messages":[{"role":"user","content":"hello"}]}"#;
    assert_eq!(stage.ask(CHAT, short).await.0, 200);
}
