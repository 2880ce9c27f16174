//! Configurations: the documented one is accepted, and every mistake is told with path, value and fix.

use penstock_exchange::Config;
use penstock_exchange::config::Kind;

const FULL: &str = r#"{
  "tenant": {"from": [{"jwt": "org_id"}, {"header": "X-Api-Key"}, {"property": ["connection", "uri_san_peer_certificate"]}], "anonymous": "allow"},
  "tenants": {"acme": {"class": "gold", "weight": 4}},
  "models": [{"name": "chat", "tokenizer": "o200k_base", "output": {"expect": 256, "max": 4096},
    "price": {"input": 0.15, "cached": 0.075, "output": 0.60},
    "versions": [{"name": "stable", "weight": 95, "model": "llama-3.1-8b"}, {"name": "canary", "weight": 5, "model": "llama-3.1-8b-r2"}],
    "sticky": [{"header": "x-session-id"}, "tenant"],
    "guard": {"minRequests": 200, "errors": {"confidence": 0.99}, "ttft": {"slowerThanMs": 2000}},
    "pending": {"perReplica": 24000, "ceiling": 400000, "whenFull": "shed"}, "fallback": "chat-small"},
    {"name": "chat-small", "tokenizer": {"like": "o200k_base"}}],
  "limits": [{"name": "tenant-tpm", "per": ["tenant", "model"], "match": {"class": "gold"}, "tokens": 60000, "every": "1m",
    "burst": 60000, "scope": "proxy", "cost": {"input": 1, "cached": 0.1, "output": 4}},
    {"name": "tenant-streams", "per": ["tenant"], "concurrent": 16},
    {"name": "agent-session", "per": [{"header": "x-session-id"}], "session": {"tokens": 200000, "calls": 50, "toolCalls": 100, "wallClock": "10m"}}],
  "waitForBody": "auto"
}"#;

#[test]
fn the_documented_configuration_is_accepted() {
    let config = Config::parse(FULL.as_bytes()).unwrap();
    assert_eq!((config.models.len(), config.tenants.len()), (2, 1));
    assert_eq!(config.model("chat").unwrap().price.cached, 75);
    let Kind::Rate { weights: cost, .. } = config.limits[0].kind else { panic!("a token limit") };
    assert_eq!(cost.cached.0, 100);
    assert_eq!(config.limits[1].kind, Kind::Concurrency { max: 16 });
    assert!(Config::parse(b"").is_ok() && Config::parse(b" {} ").is_ok());
}

#[test]
fn mistakes_are_told_with_path_value_and_fix() {
    for (from, to, says) in [
        (r#""every": "1m""#, r#""every": "1x""#, r#"limits[0].every: "1x" is not a duration; write 30s, 5m, 1h"#),
        (r#""weight": 95"#, r#""weight": -5"#, "models[0].versions[0].weight: "),
        (r#""tokens": 60000, "every""#, r#""tokens": 0, "every""#, "limits[0].tokens: 0 is out of range"),
        (r#""anonymous": "allow""#, r#""anonimous": "allow""#, "tenant.anonimous: unknown field `anonimous`"),
        (r#""anonymous": "allow""#, r#""anonymous": "maybe""#, "tenant.anonymous: unknown variant `maybe`"),
        (r#""tokenizer": "o200k_base""#, r#""tokenizer": "gpt2""#, "models[0].tokenizer"),
        (r#"{"like": "o200k_base"}"#, r#"{"like": "gpt2"}"#, r#"models[1].tokenizer.like: "gpt2""#),
        (r#""name": "chat-small", "tok"#, r#""name": "chat", "tok"#, r#"models[1].name: "chat" is configured twice"#),
        (r#""name": "canary""#, r#""name": "ca nary""#, r#"models[0].versions[1].name: "ca nary" is not a name"#),
        (r#""input": 0.15"#, r#""input": -1"#, "models[0].price.input: -1 is not a price"),
        (r#""waitForBody": "auto""#, r#""waitForBody": "perhaps""#, "waitForBody"),
        (r#""acme": {"#, r#""other": {"#, "tenants.other: the name is reserved"),
        (r#""concurrent": 16"#, r#""concurrent": 0"#, "limits[1].concurrent: 0 admits nobody"),
        (r#""concurrent": 16"#, r#""concurrent": 1, "tokens": 5"#, "limits[1]: tokens, concurrent and session are"),
        (r#""concurrent": 16"#, r#""match": {}"#, "limits[1]: no limit is given"),
        (r#""weight": 4"#, r#""weight": 0"#, "tenants.acme.weight: 0 is not a weight"),
    ] {
        let text = FULL.replacen(from, to, 1);
        assert_ne!(text, FULL, "{from}");
        let error = Config::parse(text.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(says), "{says}\n{error}");
    }
    for bad in ["{", "[]", "nope", "{} {}", "\u{feff}{}"] {
        assert!(Config::parse(bad.as_bytes()).is_err(), "{bad}");
    }
}

#[test]
fn limits_and_prices_out_of_range_are_refused_at_load() {
    for (config, said) in [
        (r#"{"limits":[{"name":"a","tokens":0,"every":"1m"}]}"#, "limits[0].tokens: 0 is out of range"),
        (r#"{"limits":[{"name":"a","tokens":18446744073709551615,"every":"1m"}]}"#, "is out of range"),
        (r#"{"limits":[{"name":"a","tokens":1,"every":"0s"}]}"#, "limits[0].every"),
        (r#"{"limits":[{"name":"a","tokens":1,"every":"9999999999999h"}]}"#, "limits[0]"),
        (r#"{"limits":[{"name":"a","concurrent":0}]}"#, "limits[0].concurrent: 0 admits nobody"),
        (r#"{"limits":[{"name":"a","tokens":1,"every":"1m","cost":{"output":-1}}]}"#, "limits[0].cost.output"),
        (r#"{"models":[{"name":"a","price":{"input":NaN,"output":1}}]}"#, "models[0].price"),
        (r#"{"models":[{"name":"a","price":{"input":-1,"output":1}}]}"#, "models[0].price.input"),
        (r#"{"models":[{"name":"a","price":{"input":1e999,"output":1}}]}"#, "models[0].price"),
        (r#"{"tenants":{"a\u0001b":{}}}"#, "tenants"),
    ] {
        let errors = Config::parse(config.as_bytes()).unwrap_err().to_string();
        assert!(errors.contains(said), "{config}: {errors}");
    }
}
