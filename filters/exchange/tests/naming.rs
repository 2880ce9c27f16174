//! By which names a model is asked for, and what happens to names that lead nowhere.

mod sim;

use penstock_exchange::{Effect, Metric};
use sim::Proxy;

const ANSWER: &str = r#"{"usage":{"prompt_tokens":10,"completion_tokens":10}}"#;

fn chat(model: &str) -> String {
    format!(r#"{{"model":"{model}","max_tokens":10,"messages":[{{"role":"user","content":"Hello, world"}}]}}"#)
}

fn config(unknown: &str) -> String {
    format!(
        r#"{{"unknownModel":"{unknown}","models":[
            {{"name":"chat","aliases":["gpt-4o","claude-*"],"versions":[{{"name":"stable","weight":1,"model":"llama-8"}}]}},
            {{"name":"old","aliases":["older","ancient-*"],"suspended":true}}],
        "limits":[{{"name":"chat-tpm","match":{{"model":"chat"}},"tokens":60,"every":"1h"}},
            {{"name":"all-tpm","tokens":100,"every":"1h"}}]}}"#
    )
}

#[test]
fn a_name_that_leads_nowhere_is_refused_and_charges_nothing() {
    let mut proxy = Proxy::new(&config("refuse"));
    for name in ["who", "llama-8", "llama-8-lora", "Chat", "chat ", "gpt-4o-mini", "*", ""] {
        let flight = proxy.chat(&[], &chat(name));
        let (status, _, body) = flight.reply().unwrap();
        assert_eq!((status, body["error"]["code"].as_str()), (404, Some("model_not_found")), "{name}");
        let message = body["error"]["message"].as_str().unwrap();
        assert!(message.contains("models[].name") && message.contains("models[].aliases"), "{message}");
        let labels = ["other", "other", "model", "none"].map(str::to_owned).to_vec();
        assert_eq!(flight.counted(Metric::Refused), [(labels, 1)]);
    }
    let mut flight = proxy.chat(&[], &chat("chat"));
    proxy.answer(&mut flight, 200, ANSWER);
    assert_eq!(flight.response_header("x-ratelimit-remaining-tokens").as_deref(), Some("40"));
}

#[test]
fn an_alias_is_the_model_for_all_that_is_configured_and_the_request_keeps_it() {
    let mut proxy = Proxy::new(&config("refuse"));
    for (name, status) in [("gpt-4o", None), ("claude-haiku", None), ("chat", None), ("claude-x", Some(429))] {
        let mut flight = proxy.chat(&[], &chat(name));
        assert_eq!(flight.reply().map(|(status, ..)| status), status, "{name}");
        if status.is_none() {
            assert_eq!(flight.facts().model, "chat");
            assert!(flight.seen.iter().any(|effect| matches!(effect, Effect::Splice(_))), "the version renames it");
            proxy.answer(&mut flight, 200, ANSWER);
            assert_eq!(flight.counted(Metric::Requests)[0].0[0], "chat");
        }
    }
    for name in ["old", "older", "ancient-1"] {
        assert_eq!(proxy.chat(&[], &chat(name)).reply().unwrap().0, 503, "{name}");
    }
    let mut plain = Proxy::new(r#"{"models":[{"name":"chat","aliases":["gpt-4o"]}]}"#);
    let flight = plain.chat(&[], &chat("gpt-4o"));
    assert!(flight.went() && !flight.seen.iter().any(|effect| matches!(effect, Effect::Splice(_))));
}

#[test]
fn what_passes_is_counted_and_limited_as_another_model() {
    for (unknown, would) in [("pass", None), ("observe", Some("model"))] {
        let mut proxy = Proxy::new(&config(unknown));
        for went in [true, true, true, true, true, false] {
            let mut flight = proxy.chat(&[], &chat("who"));
            assert_eq!(flight.went(), went);
            if went {
                let facts = flight.facts();
                assert_eq!((facts.model.as_str(), facts.estimated, facts.would.as_deref()), ("*", true, would));
                assert!(facts.prompt_tokens.0 > 0 && flight.counted(Metric::Observed).len() == would.iter().len());
                proxy.answer(&mut flight, 200, ANSWER);
                assert_eq!(flight.counted(Metric::Requests)[0].0[0], "other");
            } else {
                assert_eq!(flight.reply().unwrap().1["x-penstock-limit"], "all-tpm");
            }
        }
        for (name, status) in [("llama-8", 404), ("older", 503)] {
            assert_eq!(proxy.chat(&[], &chat(name)).reply().unwrap().0, status, "{unknown} {name}");
        }
    }
    // A wildcard of one's own is not a way to a version either.
    let mut wild = Proxy::new(
        r#"{"models":[{"name":"chat","versions":[{"name":"a","weight":1,"model":"llama-8"}]},{"name":"*"}]}"#,
    );
    assert!(wild.chat(&[], &chat("who")).went());
    assert_eq!(wild.chat(&[], &chat("llama-8")).reply().unwrap().0, 404);
}

#[test]
fn without_models_everything_is_counted() {
    let mut proxy = Proxy::new(r#"{"limits":[{"name":"tpm","tokens":25,"every":"1h"}]}"#);
    let mut flight = proxy.chat(&[], &chat("any"));
    assert!(flight.went() && flight.facts().estimated);
    proxy.answer(&mut flight, 200, ANSWER);
    assert_eq!(flight.counted(Metric::Requests)[0].0[0], "other");
    assert_eq!(proxy.chat(&[], &chat("else")).reply().unwrap().0, 429);
}

#[test]
fn a_model_that_is_not_theirs_is_as_good_as_none() {
    let config = r#"{"tenant":{"from":[{"header":"x-tenant","trusted":true}],"anonymous":"allow"},
        "classes":{"gold":{"models":["chat","big"]},"none":{"models":[]}},
        "tenants":{"own":{"class":"gold","models":["chat"]},"gold":{"class":"gold"},"all":{"class":"gold","models":["*"]},
            "free":{},"none":{"class":"none"}},
        "models":[{"name":"chat","aliases":["gpt"]},{"name":"big","aliases":["huge-*"]},{"name":"small"},
            {"name":"old","suspended":true},{"name":"*"}]}"#;
    let mut proxy = Proxy::new(config);
    for (tenant, yes, no) in [
        ("own", &["chat", "gpt"][..], &["big", "huge-1", "small", "old", "else"][..]),
        ("gold", &["chat", "big", "gpt", "huge-2"], &["small", "old", "else"]),
        ("all", &["chat", "big", "small", "else"], &[]),
        ("free", &["chat", "big", "small", "else"], &[]),
        ("none", &[], &["chat", "big", "else"]),
        ("stranger", &["chat", "small", "else"], &[]),
    ] {
        for model in yes {
            assert!(proxy.chat(&[("x-tenant", tenant)], &chat(model)).went(), "{tenant} {model}");
        }
        for model in no {
            let refused = proxy.chat(&[("x-tenant", tenant)], &chat(model)).reply().unwrap();
            let mut strict = Proxy::new(r#"{"models":[{"name":"it"}]}"#);
            assert_eq!(refused, strict.chat(&[], &chat(model)).reply().unwrap(), "{tenant} {model}: as an unknown one");
        }
    }
    let errors = |from: &str, to: &str| {
        penstock_exchange::Config::parse(config.replacen(from, to, 1).as_bytes()).unwrap_err().to_string()
    };
    let said = errors(r#""models":["chat"]"#, r#""models":["chat","gpt"]"#);
    assert!(said.contains(r#"tenants.own.models[1]: "gpt" is not a configured model"#), "{said}");
    let said = errors(r#""models":["chat","big"]"#, r#""models":["chat","bog"]"#);
    assert!(said.contains(r#"classes.gold.models[1]: "bog" is not a configured model"#), "{said}");
}

#[test]
fn a_full_model_falls_back_only_to_one_that_is_theirs() {
    let config = r#"{"tenant":{"from":[{"header":"x-tenant","trusted":true}],"anonymous":"allow"},
        "tenants":{"one":{"models":["a"]},"skips":{"models":["a","c"]},"both":{}},
        "models":[{"name":"a","pending":{"ceiling":20,"whenFull":"fallback"},"fallback":"b"},
            {"name":"b","pending":{"ceiling":20,"whenFull":"fallback"},"fallback":"c"},{"name":"c"}]}"#;
    for (tenant, models) in
        [("one", [Some("a"), None]), ("skips", [Some("a"), Some("c")]), ("both", [Some("a"), Some("b")])]
    {
        let mut proxy = Proxy::new(config);
        for model in models {
            let flight = proxy.chat(&[("x-tenant", tenant)], &chat("a"));
            assert_eq!(flight.went().then(|| flight.facts().model).as_deref(), model, "{tenant}");
            if model.is_none() {
                assert_eq!(flight.reply().unwrap().0, 503);
            }
        }
    }
}

/// A tenant that has a list does not get at other models by not saying who it is.
#[test]
fn who_has_no_name_has_a_list_too() {
    let config = |classes: &str| {
        format!(
            r#"{{"tenant":{{"from":[{{"header":"x-tenant","trusted":true}},{{"header":"x-api-key"}}],"anonymous":"allow"}},
            "tenants":{{"acme":{{"models":["chat"]}}}},{classes}"models":[{{"name":"chat"}},{{"name":"big"}},{{"name":"free"}}]}}"#
        )
    };
    let ask = |proxy: &mut Proxy, headers: &[(&str, &str)], model: &str| {
        let flight = proxy.chat(headers, &chat(model));
        flight.reply().map_or(200, |(status, ..)| status)
    };
    let mut closed = Proxy::new(&config(r#""classes":{"unnamed":{"models":["free"]}},"#));
    for headers in [&[][..], &[("x-api-key", "made-up")], &[("x-tenant", "not-listed")]] {
        assert_eq!(ask(&mut closed, headers, "big"), 404);
        assert_eq!(ask(&mut closed, headers, "chat"), 404);
        assert_eq!(ask(&mut closed, headers, "free"), 200);
    }
    assert_eq!(ask(&mut closed, &[("x-tenant", "acme")], "chat"), 200);
    assert_eq!(ask(&mut closed, &[("x-tenant", "acme")], "free"), 404);
    // Without it they may use all, and the log says so.
    let mut open = Proxy::new(&config(""));
    assert_eq!(ask(&mut open, &[("x-api-key", "made-up")], "big"), 200);
    assert!(open.worker.config.notices.iter().any(|notice| notice.contains("classes: {unnamed:")));
    let wrong = r#"{"tenant":{"from":[{"jwt":"org"}]},"tenants":{"acme":{"class":"unnamed"}}}"#;
    let errors = penstock_exchange::Config::parse(wrong.as_bytes()).unwrap_err().to_string();
    assert!(errors.contains("tenants.acme.class"), "{errors}");
}
