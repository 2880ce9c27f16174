//! Which version a caller gets: by what it says of itself, by its own choice, and by what came before.

mod sim;

use penstock_exchange::{Config, Effect, Event, Headers, Outcome, Plugin};
use serde_json::json;
use sim::{Flight, Map, Proxy};

const VERSIONS: &str = r#"[{"name":"stable","weight":50},{"name":"canary","weight":50}]"#;

fn config(model: &str) -> String {
    format!(
        r#"{{"tenant":{{"from":[{{"header":"x-key","trusted":true}}],"anonymous":"allow"}},"tenants":{{"acme":{{}},"qa":{{}}}},
            "models":[{{"name":"chat","versions":{VERSIONS},{model}}}]}}"#
    )
}

/// A request to this path; its body is read.
fn ask(proxy: &mut Proxy, path: &str, headers: &[(&str, &str)], body: &str) -> Flight {
    let mut all: Headers = vec![(":method".into(), b"POST".to_vec()), (":path".into(), path.as_bytes().to_vec())];
    all.extend(headers.iter().map(|(name, value)| ((*name).into(), value.as_bytes().to_vec())));
    let mut flight = proxy.open();
    proxy.tell(&mut flight, Event::RequestHead { headers: &all, end: false });
    if flight.exchange.is_holding() {
        flight.props.1 = body.as_bytes().to_vec();
        proxy.tell(&mut flight, Event::RequestChunk { bytes: body.as_bytes(), end: true });
    }
    flight
}

fn version(flight: &Flight) -> String {
    let set = flight.seen.iter().find_map(|effect| match effect {
        Effect::RequestHeader("x-penstock-version", value) => Some(String::from_utf8(value.clone()).unwrap()),
        _ => None,
    });
    let set = set.unwrap();
    assert_eq!(flight.facts().version.as_ref(), Some(&set));
    set
}

fn chat(more: &str) -> String {
    format!(r#"{{"model":"chat",{more}"messages":[{{"role":"user","content":"Hi"}}]}}"#)
}

#[test]
fn the_first_source_that_says_something_pins() {
    let sticky = r#""sticky":[{"header":"x-session"},{"cookie":"sid"},{"jwt":"sub"},{"body":"user"},{"body":"safety_identifier"},
        {"body":"prompt_cache_key"},"tenant"]"#;
    let mut proxy = Proxy::new(&config(sticky));
    // Where each name is drawn, by the first source; the others have to agree.
    let drawn: Vec<(String, String)> = (0..40)
        .map(|i| format!("s-{i}"))
        .map(|name| {
            let flight = proxy.chat(&[("x-session", &name), ("cookie", "sid=other"), ("x-key", "acme")], &chat(""));
            (name, version(&flight))
        })
        .collect();
    assert!(["stable", "canary"].iter().all(|version| drawn.iter().filter(|(_, drawn)| drawn == version).count() > 8));
    for (name, expected) in &drawn {
        let said = |key: &str| format!(r#""{key}":"{name}","#);
        let cookie = format!("a=b; xsid=no; sid={name}; sid=second");
        let behind = format!(" sid={name}");
        for (headers, body) in [
            (vec![("cookie", cookie.as_str()), ("x-key", "acme")], chat(r#""user":"other","#)),
            (vec![("cookie", "a=b"), ("cookie", behind.as_str())], chat("")),
            (vec![("x-session", ""), ("x-key", "acme")], chat(&said("user"))),
            (vec![], chat(&format!(r#""safety_identifier":"no",{}"#, said("user")))),
            (vec![], chat(&format!(r#""prompt_cache_key":"no",{}"#, said("safety_identifier")))),
            (vec![("x-key", "acme")], chat(&said("prompt_cache_key"))),
        ] {
            assert_eq!(version(&proxy.chat(&headers, &body)), *expected, "{name} {headers:?} {body}");
        }
        let mut flight = proxy.open();
        let claim = "metadata.filter_metadata.envoy.filters.http.jwt_authn.jwt_payload.sub";
        flight.props.0.insert(claim.into(), name.clone().into_bytes());
        proxy.send_with(&mut flight, &[("x-key", "acme")], chat(r#""user":"other","#));
        assert_eq!(version(&flight), *expected, "{name}");
        let messages = format!(r#"{{"model":"chat","max_tokens":9,"metadata":{{"user_id":"{name}"}},"messages":[]}}"#);
        assert_eq!(version(&ask(&mut proxy, "/v1/messages", &[], &messages)), *expected);
    }
}

#[test]
fn a_caller_has_its_version_on_every_worker_and_proxy_and_after_a_restart() {
    let config = config(r#""sticky":[{"body":"user"},{"header":"x-session"},"tenant"]"#);
    let long = "x".repeat(1 << 20);
    let versions = |mut proxy: Proxy| {
        let mut versions = Vec::new();
        for i in 0..50 {
            versions.push(version(&proxy.chat(&[], &chat(&format!(r#""user":"u{i}","#)))));
            versions.push(version(&proxy.chat(&[("x-session", &format!("{i}{long}"))], &chat(""))));
            versions.push(version(&proxy.chat(&[("x-key", &format!("stranger-{i}"))], &chat(""))));
            versions.push(version(&proxy.chat(&[], &chat(&format!(r#""user":"{i}{long}","#)))));
        }
        versions
    };
    let mut first = Proxy::new(&config);
    let store = core::mem::take(&mut first.store);
    let expected = versions(first);
    // Another worker of the process; another process, which has another secret; a row of plugins.
    assert_eq!(versions(Proxy::beside(&config, store, 9)), expected);
    let mut other = Map::default();
    other.values.insert("penstock/secret".into(), vec![7; 16]);
    assert_eq!(versions(Proxy::beside(&config, other, 10)), expected);
    assert_eq!(versions(Proxy::with(&config, Plugin::CanaryRouter)), expected);
    let canaries = expected.iter().filter(|version| *version == "canary").count();
    assert!((60..140).contains(&canaries), "{canaries}");
}

#[test]
fn a_conversation_goes_on_where_its_last_response_came_from() {
    let config = config(r#""sticky":[{"body":"previous_response_id"},{"body":"user"}]"#);
    let mut proxy = Proxy::new(&config);
    let body = |more: &str| format!(r#"{{"model":"chat",{more}"input":"Hi"}}"#);
    let create = |proxy: &mut Proxy, key: &str, id: &str, stream: bool| {
        let mut flight = ask(proxy, "/v1/responses", &[("x-key", key)], &body(""));
        let answer = json!({"id": id, "object": "response", "status": "completed", "metadata": {"id": "no"}});
        let version = version(&flight);
        if stream {
            let headers = vec![(":status".into(), b"200".to_vec())];
            proxy.tell(&mut flight, Event::ResponseHead { headers: &headers, end: false });
            let begun = json!({"type": "response.created", "response": answer}).to_string();
            let event = format!("event: response.created\ndata: {begun}\n\n");
            // What has come is known before the end, as the next request may come to another worker.
            event.as_bytes().chunks(11).for_each(|bytes| {
                proxy.tell(&mut flight, Event::ResponseChunk { bytes, end: false });
            });
        } else {
            proxy.answer(&mut flight, 200, &answer.to_string());
        }
        version
    };
    let made: Vec<(String, String)> =
        (0..60).map(|i| (format!("resp_{i}"), create(&mut proxy, "acme", &format!("resp_{i}"), i % 2 == 0))).collect();
    let follow = |proxy: &mut Proxy, key: &str, id: &str| {
        let more = format!(r#""previous_response_id":"{id}","user":"somebody","#);
        version(&ask(proxy, "/v1/responses", &[("x-key", key)], &body(&more)))
    };
    for (id, expected) in &made {
        assert_eq!(follow(&mut proxy, "acme", id), *expected, "{id}");
    }
    // Whose it is not, it leads nowhere, nor does one that nobody knows: the next source does.
    let next = follow(&mut proxy, "acme", "resp_unknown");
    assert!(made.iter().all(|(id, _)| follow(&mut proxy, "qa", id) == next));
    // Another worker knows it, and a version without a share is nobody's any more.
    let store = core::mem::take(&mut proxy.store);
    let mut beside = Proxy::beside(&config, store, 9);
    assert!(made.iter().all(|(id, expected)| follow(&mut beside, "acme", id) == *expected));
    let store = core::mem::take(&mut beside.store);
    let mut without = Proxy::beside(&config.replace(r#""canary","weight":50"#, r#""canary","weight":0"#), store, 9);
    assert!(made.iter().all(|(id, _)| follow(&mut without, "acme", id) == "stable"));
}

#[test]
fn who_may_choose_has_what_it_chose() {
    let choose = r#""sticky":["tenant"],"override":{"header":"X-Version","tenants":["qa"]}"#;
    let config = config(choose).replace(r#""canary","weight":50"#, r#""canary","weight":0"#);
    let limit = r#""limits":[{"name":"tpm","per":["tenant"],"tokens":1000,"every":"1h"}],"models""#;
    let mut proxy = Proxy::new(&config.replace(r#""models""#, limit));
    let mut chosen = proxy.chat(&[("x-key", "qa"), ("x-version", "canary")], &chat(""));
    assert_eq!((version(&chosen), chosen.facts().chosen_by.as_deref()), ("canary".into(), Some("override")));
    proxy.answer(&mut chosen, 200, "{}");
    assert_eq!(chosen.response_header("x-penstock-override"), None);
    // Nobody else may, and is told so.
    for key in ["acme", "stranger", ""] {
        for name in ["canary", "nonsense"] {
            let mut other = proxy.chat(&[("x-key", key), ("x-version", name)], &chat(""));
            assert_eq!((version(&other), other.facts().chosen_by), ("stable".into(), None));
            proxy.answer(&mut other, 200, "{}");
            assert_eq!(other.response_header("x-penstock-override").as_deref(), Some("ignored"));
        }
    }
    // A name that there is not is a mistake, and costs nothing.
    let left = |proxy: &mut Proxy| {
        let mut flight = proxy.chat(&[("x-key", "qa")], &chat(""));
        proxy.answer(&mut flight, 500, "{}");
        flight.response_header("x-ratelimit-remaining-tokens")
    };
    let before = left(&mut proxy);
    for (name, said) in [("v3", r#""v3""#), (&"y".repeat(1 << 20), r#""another name""#), ("Canary", r#""Canary""#)] {
        let mut refused = proxy.chat(&[("x-key", "qa"), ("x-version", name)], &chat(""));
        let (status, _, body) = refused.reply().unwrap();
        let message = body["error"]["message"].as_str().unwrap().to_owned();
        assert_eq!(status, 400);
        assert_eq!(message, format!("x-version: the model has no version {said}; it has stable, canary"));
        proxy.close(&mut refused);
        assert_eq!(refused.facts().outcome, Some(Outcome::ClientError));
    }
    assert_eq!(left(&mut proxy), before);
}

#[test]
fn where_headers_cannot_wait_what_they_say_decides() {
    let choose =
        r#""sticky":[{"body":"user"},{"header":"x-session"}],"override":{"header":"x-version","tenants":["*"]}"#;
    let config = config(choose).replacen('{', r#"{"waitForBody":false,"#, 1);
    let mut proxy = Proxy::new(&config);
    let names: Vec<String> = (0..20).map(|i| format!("s-{i}")).collect();
    for name in &names {
        let first = version(&proxy.chat(&[("x-session", name)], &chat(r#""user":"u","#)));
        assert_eq!(version(&proxy.chat(&[("x-session", name)], &chat(r#""user":"v","#))), first);
    }
    assert_eq!(version(&proxy.chat(&[("x-version", "canary")], &chat(""))), "canary");
    let refused = proxy.chat(&[("x-version", "v3")], &chat(""));
    assert_eq!(refused.reply().unwrap().0, 400);
}

#[test]
fn blue_or_green_serves_everybody() {
    for (active, others) in [("blue", "green"), ("green", "blue")] {
        let config = format!(
            r#"{{"models":[{{"name":"chat","versions":[{{"name":"blue"}},{{"name":"green","weight":7}}],"active":"{active}",
                "sticky":[{{"header":"x-session"}}],"override":{{"header":"x-version","tenants":["*"]}}}}]}}"#
        );
        let mut proxy = Proxy::new(&config);
        for i in 0..100 {
            assert_eq!(version(&proxy.chat(&[("x-session", &i.to_string())], &chat(""))), active);
        }
        assert_eq!(version(&proxy.chat(&[("x-version", others)], &chat(""))), others);
    }
}

#[test]
fn mistakes_are_told_with_path_value_and_fix() {
    let versions = |text: &str| format!(r#"{{"models":[{{"name":"chat","versions":{text}}}]}}"#);
    let model = |text: &str| config(text);
    for (config, said) in [
        (
            versions(r#"[{"name":"a","weight":0},{"name":"b","weight":0}]"#),
            "models[0].versions: all weights are 0; give one",
        ),
        (
            versions(r#"[{"name":"a","weight":-5}]"#),
            "models[0].versions[0].weight: invalid type: integer `-5`, expected a weight",
        ),
        (
            versions(r#"[{"name":"a","weight":0.5}]"#),
            "models[0].versions[0].weight: invalid type: floating point `0.5`, expected a weight",
        ),
        (
            versions(r#"[{"name":"a","weight":4294967296}]"#),
            "models[0].versions[0].weight: invalid value: integer `4294967296`",
        ),
        (versions(r#"[{"name":"a","weight":NaN}]"#), "models[0].versions[0].weight"),
        (
            versions(r#"[{"name":"a","weight":1},{"name":"b"}]"#),
            "models[0].versions[1].weight: missing; write the version's share",
        ),
        (
            model(r#""active":"green""#),
            r#"models[0].active: "green" is not a version of this model; use one of versions[].name"#,
        ),
        (model(r#""override":{"header":"x","tenants":[]}"#), "models[0].override.tenants: nobody may choose"),
        (
            model(r#""override":{"header":"x y","tenants":["qa"]}"#),
            r#"models[0].override.header: "x y" is not a header name"#,
        ),
        (
            model(r#""override":{"header":"x","tenants":["nobody"]}"#),
            r#"models[0].override.tenants[0]: "nobody" is not a configured tenant"#,
        ),
        (
            r#"{"models":[{"name":"chat","active":"a"}]}"#.to_owned(),
            "models[0].active: there is nothing to choose from; write versions",
        ),
        (model(r#""sticky":[{"cookie":"a b"}]"#), r#"models[0].sticky[0].cookie: "a b" is not a cookie's name"#),
        (
            model(r#""sticky":[{"body":"messages"}]"#),
            "models[0].sticky[0].body: unknown variant `messages`, expected one of `user`",
        ),
        (
            r#"{"limits":[{"name":"a","per":["tenant",{"body":"user"}],"tokens":1,"every":"1m"}]}"#.to_owned(),
            "limits[0].per[1].body: body is for sticky",
        ),
    ] {
        let error = Config::parse(config.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(said), "{said}\n{error}");
    }
}
