//! Questions, as the page asks them, and their answers.

use penstock_playground::answer;
use serde_json::{Value, json};

const CONFIG: &str = "
tenant: {from: [{header: x-tenant}]}
models:
- name: chat
  price: {input: 2.5, output: 10}
  sticky: [tenant]
  versions: [{name: stable, weight: 90}, {name: canary, weight: 10}]
limits:
- {name: tpm, per: [tenant], tokens: 1000, every: 1m}
";

fn ask(question: &Value) -> Value {
    serde_json::from_slice(&answer(question.to_string().as_bytes())).unwrap()
}

fn request(config: &str, times: u64) -> Value {
    let body = r#"{"model":"chat","max_tokens":200,"messages":[{"role":"user","content":"hello world"}]}"#;
    let request = json!({"path": "/v1/chat/completions", "headers": "x-tenant: acme", "body": body});
    json!({"ask": "request", "config": config, "request": request, "times": times, "every": 0, "answer": 200})
}

#[test]
fn a_request_is_counted_charged_and_refused_as_the_filters_do() {
    let played = ask(&request(CONFIG, 6));
    assert_eq!(played["mistakes"], json!([]));
    // role, two words, three tokens around them and three before the reply.
    assert_eq!(played["counted"]["tokens"], 9);
    assert_eq!(played["counted"]["rest"], 0);
    assert_eq!(played["nanodollars"], 9 * 2_500 + 200 * 10_000);
    let statuses: Vec<&Value> = played["sent"].as_array().unwrap().iter().map(|one| &one["status"]).collect();
    // Each takes 209 of a thousand.
    assert_eq!(statuses, [200, 200, 200, 200, 429, 429].map(|status| json!(status)).iter().collect::<Vec<_>>());
    let refused = &played["sent"][4];
    assert_eq!(refused["limit"], "tpm");
    assert!(refused["message"].as_str().unwrap().contains("tpm"), "{refused}");
    // 836 are used, 209 are wanted: 45 come back in 2.7 s.
    assert_eq!(refused["headers"]["retry-after"], "3");
    assert_eq!(ask(&request(CONFIG, 6)), played, "the same question has the same answer");
}

#[test]
fn mistakes_are_said_where_they_are() {
    let wrong = CONFIG.replace("every: 1m", "every: 1x");
    let played = ask(&request(&wrong, 1));
    let [mistake] = played["mistakes"].as_array().unwrap().as_slice() else { panic!("{played}") };
    assert_eq!((mistake["line"].as_u64(), mistake["path"].as_str()), (Some(9), Some("limits[0].every")));
    let played = ask(&request("limits: [", 1));
    assert!(!played["mistakes"].as_array().unwrap().is_empty(), "{played}");
    for nothing in ["", "{}", "# nothing"] {
        assert_eq!(ask(&request(nothing, 1))["mistakes"], json!([]), "{nothing:?}");
    }
}

#[test]
fn callers_are_split_by_weight_and_keep_their_version() {
    let split = |weights: Value| {
        let mut question = request(CONFIG, 0);
        question["request"]["headers"] = json!("x-tenant: caller-{n}");
        ask(&json!({
            "ask": "split", "config": CONFIG, "request": question["request"], "callers": 1000, "weights": weights
        }))
    };
    let share = |shares: &Value| shares["versions"]["canary"].as_u64().unwrap_or_default();
    let (as_configured, half, none) =
        (split(json!({})), split(json!({"stable": 50, "canary": 50})), split(json!({"stable": 100, "canary": 0})));
    // Four standard deviations.
    assert!(share(&as_configured).abs_diff(100) < 38, "{as_configured}");
    assert!(share(&half).abs_diff(500) < 64, "{half}");
    assert_eq!(share(&none), 0, "{none}");
    assert_eq!(as_configured["refused"], 0, "limits are not in the way");
}

#[test]
fn what_is_not_understood_is_said() {
    for question in ["", "[]", r#"{"ask":"else"}"#, r#"{"ask":"text","tokenizer":"p50k","text":""}"#] {
        let value: Value = serde_json::from_slice(&answer(question.as_bytes())).unwrap();
        assert!(value["error"].is_string(), "{question}: {value}");
    }
}
