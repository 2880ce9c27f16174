//! What a request costs whatever it looks like: work that outlives its answer, requests without a model, prompts that are too long.

mod sim;

use penstock_exchange::{Effect, Event, Headers, Metric};
use sim::{Flight, Proxy};

/// Sends a request to this path, with a body in one piece.
fn send(proxy: &mut Proxy, path: &str, body: &str) -> Flight {
    let mut flight = proxy.open();
    let headers: Headers = vec![(":method".into(), b"POST".to_vec()), (":path".into(), path.as_bytes().to_vec())];
    proxy.tell(&mut flight, Event::RequestHead { headers: &headers, end: false });
    flight.props.1 = body.as_bytes().to_vec();
    proxy.tell(&mut flight, Event::RequestChunk { bytes: body.as_bytes(), end: true });
    flight
}

const LATER: &str = r#"{"model":"chat","input":"hello","background":true,"max_output_tokens":300}"#;
const QUEUED: &str = r#"{"id":"r","status":"queued","output":[],"usage":null}"#;

#[test]
fn work_that_outlives_its_answer_is_refused_unless_it_is_allowed() {
    let mut proxy = Proxy::new(r#"{"models":[{"name":"chat"}]}"#);
    let refused = send(&mut proxy, "/v1/responses", LATER);
    let (status, _, body) = refused.reply().unwrap();
    assert_eq!((status, body["error"]["param"].as_str()), (400, Some("background")));
    assert!(body["error"]["message"].as_str().unwrap().contains("background: reserve"));
    assert_eq!(refused.counted(Metric::Refused)[0].0[2], "background");
    // Other APIs do not know the key.
    assert!(proxy.chat(&[], r#"{"model":"chat","messages":[],"background":true}"#).went());
}

#[test]
fn work_that_outlives_its_answer_stays_charged() {
    let mut proxy = Proxy::new(r#"{"models":[{"name":"chat","output":{"expect":50}}],"background":"reserve"}"#);
    let completed = r#"{"status":"completed","usage":{"input_tokens":9,"output_tokens":4}}"#;
    for (body, status, answer, completion) in [
        (LATER, 200, QUEUED, Some(300)),
        (&LATER.replace(r#","max_output_tokens":300"#, ""), 200, QUEUED, Some(50)),
        (LATER, 200, "not JSON", Some(300)),
        (LATER, 200, r#"{"status":"in_progress","usage":{"input_tokens":9,"output_tokens":0}}"#, Some(300)),
        // Some servers work at once all the same.
        (LATER, 200, completed, Some(4)),
        // Or have failed before they began.
        (LATER, 200, r#"{"status":"failed","error":{"code":"x"}}"#, None),
        (LATER, 200, r#"{"status":"failed","usage":{"input_tokens":9,"output_tokens":4}}"#, Some(4)),
        (LATER, 400, "{}", None),
        (LATER, 503, "{}", None),
        (&LATER.replace("true", "false"), 200, QUEUED, Some(0)),
    ] {
        let mut flight = send(&mut proxy, "/v1/responses", body);
        proxy.answer(&mut flight, status, answer);
        let used = flight.facts().used.map(|used| used.completion.0);
        assert_eq!(used, completion, "{body} {status} {answer}");
    }
    // The client left before anything came.
    let mut flight = send(&mut proxy, "/v1/responses", LATER);
    proxy.close(&mut flight);
    assert_eq!(flight.facts().used.unwrap().completion.0, 300);
}

#[test]
fn a_request_without_a_model_goes_to_the_default() {
    const TEMPLATE: &str = r#"{"prompt":{"id":"pmpt_1"},"input":"hello"}"#;
    const CHAT: &str = r#"{"messages":[]}"#;
    let (chat, responses) = ("/v1/chat/completions", "/v1/responses");
    let of = |config: &str, path: &str, body: &str| {
        let mut proxy = Proxy::new(config);
        let flight = send(&mut proxy, path, body);
        let edits = flight.seen.iter().any(|effect| matches!(effect, Effect::Splice(_)));
        flight.went().then(|| (flight.facts().model, edits))
    };
    let named = r#"{"models":[{"name":"chat"},{"name":"small"}],"defaultModel":"small"}"#;
    let both = r#"{"models":[{"name":"chat"},{"name":"*"}],"defaultModel":"chat"}"#;
    let any = r#"{"models":[{"name":"chat"},{"name":"*"}]}"#;
    let none = r#"{"models":[{"name":"chat"}]}"#;
    for (config, path, body, model) in [
        (named, responses, TEMPLATE, Some("small")),
        (named, chat, CHAT, Some("small")),
        (both, responses, TEMPLATE, Some("chat")),
        (any, responses, TEMPLATE, Some("*")),
        (any, chat, CHAT, None),
        (none, responses, TEMPLATE, None),
        (none, chat, CHAT, None),
        (named, chat, "{}", None),
    ] {
        assert_eq!(of(config, path, body), model.map(|model| (model.to_owned(), false)), "{config} {body}");
    }
    // The server chooses what it calls the model, unless a version says it.
    let version =
        r#"{"models":[{"name":"chat","versions":[{"name":"v","weight":1,"model":"llama"}]}],"defaultModel":"chat"}"#;
    assert_eq!(of(version, chat, CHAT), Some(("chat".to_owned(), true)));
}

/// What the answer says of a prompt of so many words, or that it went.
fn words(config: &str, path: &str, body: &str, words: usize) -> Option<(u32, serde_json::Value)> {
    let mut proxy = Proxy::new(config);
    let flight = send(&mut proxy, path, &body.replace("TEXT", &"word ".repeat(words)));
    flight.reply().map(|(status, _, body)| (status, body["error"].clone()))
}

/// A document without data costs what the configuration says, or is refused with the key that opens the door; one with data by its size.
#[test]
fn what_is_only_named_has_a_price_or_is_refused() {
    const PLAIN: &str = r#"{"models":[{"name":"m","output":{"max":100,"context":4000}}]}"#;
    const PRICED: &str = r#"{"models":[{"name":"m","media":{"image":50,"audio":100,"video":200,"file":300}}]}"#;
    let part = |part: &str| format!(r#"{{"model":"m","messages":[{{"role":"user","content":[{part}]}}]}}"#);
    let (image, file) = (r#"{"image_url":"https://x"}"#, r#"{"type":"file","file":{"file_id":"f"}}"#);
    let (audio, video) = (r#"{"audio_url":"https://x"}"#, r#"{"video_url":"https://x"}"#);
    for (key, named) in [("file", file), ("audio", audio), ("video", video)] {
        let (status, _, body) = Proxy::new(PLAIN).chat(&[], &part(named)).reply().expect("a refusal");
        let message = body["error"]["message"].as_str().unwrap();
        assert!(status == 400 && message.contains(&format!("models[].media.{key}")), "{status} {message}");
    }
    let count = |config: &str, body: &str| {
        let facts = Proxy::new(config).chat(&[], body).facts();
        assert!(facts.estimated, "{body}");
        facts.prompt_tokens.0
    };
    for (named, price) in [(image, 50), (audio, 100), (video, 200), (file, 300)] {
        assert_eq!(count(PRICED, &part(named)), 7 + price, "{named}");
    }
    // For models that nobody has configured there is no price to be set.
    for (named, price) in [(image, 765), (audio, 1920), (video, 15_780), (file, 3000)] {
        assert_eq!(count("{}", &part(named)), 7 + price, "{named}");
    }
    // 90,000 bytes may be far beyond the context or not at all, and are neither refused nor answered with one token.
    let data = part(&r#"{"type":"file","file":{"file_data":"DATA"}}"#.replace("DATA", &"A".repeat(120_000)));
    let facts = Proxy::new(PLAIN).chat(&[], &data).facts();
    assert_eq!((facts.prompt_tokens.0, facts.estimated, facts.expected_output.0), (7 + 11_250, true, 100));
}

#[test]
fn a_prompt_that_is_longer_than_the_context_is_refused() {
    const EXACT: &str = r#"{"models":[{"name":"m","output":{"context":100}}]}"#;
    const LIKE: &str = r#"{"models":[{"name":"m","tokenizer":{"like":"o200k_base"},"output":{"context":100}}]}"#;
    const CHAT: &str = r#"{"model":"m","messages":[{"role":"user","content":"TEXT"}]}"#;
    let chat = "/v1/chat/completions";
    // A word is a token, and so is the last blank; role and framing are 7.
    assert_eq!(words(EXACT, chat, CHAT, 92), None);
    let (status, error) = words(EXACT, chat, CHAT, 93).unwrap();
    assert_eq!((status, error["code"].as_str()), (400, Some("context_length_exceeded")));
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("100 tokens") && message.contains("101 tokens"), "{message}");
    // An estimate has to be beyond its error.
    assert_eq!(words(LIKE, chat, CHAT, 150), None);
    assert_eq!(words(LIKE, chat, CHAT, 250).unwrap().0, 400);
    let tools = CHAT.replace("}]}", r#"}],"tools":[{"function":{"name":"f"}}]}"#);
    assert_eq!(words(EXACT, chat, &tools, 120), None);
    assert_eq!(words(EXACT, chat, &tools, 250).unwrap().0, 400);

    // Of Anthropic's messages only the framing is not known.
    let messages = r#"{"model":"m","max_tokens":5,"messages":[{"role":"user","content":"TEXT"}]}"#;
    assert_eq!(words(EXACT, "/v1/messages", messages, 98), None);
    let (status, error) = words(EXACT, "/v1/messages", messages, 110).unwrap();
    assert_eq!((status, error["type"].as_str()), (400, Some("invalid_request_error")));
    assert_eq!(error["message"], "prompt is too long: 118 tokens > 100 maximum");

    // Each prompt has its own context, and one that is to be cut is never too long.
    let one = r#"{"model":"m","prompt":"TEXT"}"#;
    let three = r#"{"model":"m","prompt":["TEXT","TEXT","TEXT"]}"#;
    assert_eq!(words(EXACT, "/v1/completions", one, 150).unwrap().1["param"], "prompt");
    assert_eq!(words(EXACT, "/v1/completions", three, 90), None);
    assert_eq!(words(EXACT, "/v1/completions", three, 150).unwrap().0, 400);
    assert_eq!(words(EXACT, "/v1/embeddings", r#"{"model":"m","input":"TEXT"}"#, 150).unwrap().0, 400);
    let cut = r#"{"model":"m","input":"TEXT","truncation":"auto"}"#;
    assert_eq!(words(EXACT, "/v1/responses", cut, 500), None);
    assert_eq!(words(EXACT, "/v1/responses", &cut.replace("auto", "disabled"), 500).unwrap().0, 400);
}

#[test]
fn a_fallback_that_takes_less_than_the_prompt_has_no_room() {
    let config = r#"{"models":[{"name":"m","pending":{"ceiling":10,"whenFull":"fallback"},"fallback":"small"},
        {"name":"small","output":{"context":50}}]}"#;
    let mut proxy = Proxy::new(config);
    let mut chat = |words: usize| {
        let body = r#"{"model":"m","messages":[{"role":"user","content":"TEXT"}]}"#;
        proxy.chat(&[], &body.replace("TEXT", &"word ".repeat(words)))
    };
    assert_eq!(chat(1).facts().model, "m");
    assert_eq!(chat(20).facts().model, "small");
    assert_eq!(chat(60).reply().unwrap().0, 503);
}
