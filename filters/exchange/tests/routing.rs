//! Which versions a request may get: by rules on what is known of it, copies of it, and where the weights are the route's.

mod sim;

use penstock_exchange::{Config, Effect, Event, Headers, Metric, Plugin};
use sim::{Flight, Proxy, SECOND};

const TENANTS: &str = r#""tenant":{"from":[{"header":"x-key","trusted":true}],"anonymous":"allow"},
    "tenants":{"acme":{"class":"gold"},"initech":{"class":"bronze"}}"#;

fn header(flight: &Flight, name: &str) -> Option<String> {
    flight.seen.iter().find_map(|effect| match effect {
        Effect::RequestHeader(known, value) if *known == name => Some(String::from_utf8(value.clone()).unwrap()),
        _ => None,
    })
}

fn version(flight: &Flight) -> String {
    header(flight, "x-penstock-version").unwrap()
}

fn chat(words: usize, more: &str) -> String {
    format!(r#"{{"model":"chat",{more}"messages":[{{"role":"user","content":"{}"}}]}}"#, "word ".repeat(words))
}

#[test]
fn the_first_rule_that_holds_says_which_versions_serve() {
    let mut proxy = Proxy::new(&format!(
        r#"{{{TENANTS},"models":[{{"name":"chat","sticky":[{{"header":"x-session"}}],"versions":[{{"name":"a","weight":60}},{{"name":"b","weight":20}},
            {{"name":"long","weight":0}},{{"name":"eyes","weight":0}},{{"name":"c","weight":20}}],"rules":[
            {{"name":"images","when":{{"images":true}},"versions":["eyes"]}},
            {{"name":"long-prompts","when":{{"promptTokensFrom":1000}},"versions":["long"]}},
            {{"name":"tools","when":{{"tools":true,"promptTokensBelow":100}},"versions":["b"]}},
            {{"name":"acme","when":{{"tenants":["acme"]}},"versions":["b","c"]}},
            {{"name":"bronze","when":{{"class":"bronze"}},"versions":["long","eyes"]}}]}}]}}"#
    ));
    let image = r#"{"model":"chat","messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"https://x/y.png"}}]}]}"#;
    let tools = r#""tools":[{"type":"function","function":{"name":"f"}}],"#;
    for (key, body, expected, rule) in [
        ("acme", image.to_owned(), "eyes", "images"),
        ("acme", chat(1000, ""), "long", "long-prompts"),
        ("acme", chat(1000, tools), "long", "long-prompts"),
        ("acme", chat(1, tools), "b", "tools"),
    ] {
        let flight = proxy.chat(&[("x-key", key)], &body);
        assert_eq!((version(&flight).as_str(), flight.facts().chosen_by.as_deref()), (expected, Some(rule)));
    }
    let mut spread = |key: &str, body: &str| {
        let mut hits = std::collections::BTreeMap::<String, u32>::new();
        for i in 0..400 {
            let session = format!("s-{i}");
            let mut ask = || version(&proxy.chat(&[("x-key", key), ("x-session", &session)], body));
            let drawn = ask();
            assert_eq!(ask(), drawn);
            *hits.entry(drawn).or_default() += 1;
        }
        hits.into_iter().collect::<Vec<_>>()
    };
    let names = |hits: &[(String, u32)]| hits.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    // Equal weights, and equal parts where there are none; whom no rule is for, all versions with a weight serve.
    for (key, body, versions) in [
        ("acme", chat(1, ""), vec!["b", "c"]),
        ("initech", chat(1, ""), vec!["eyes", "long"]),
        ("stranger", chat(500, tools), vec!["a", "b", "c"]),
    ] {
        let hits = spread(key, &body);
        assert_eq!(names(&hits), versions, "{key}");
        if let [(_, one), (_, other)] = hits.as_slice() {
            assert!(one.abs_diff(*other) < 80, "{hits:?}");
        }
    }
}

#[test]
fn what_is_left_of_a_budget_is_known_to_rules() {
    let mut proxy = Proxy::new(
        r#"{"models":[{"name":"chat","output":{"expect":1},"versions":[{"name":"large","weight":1},{"name":"small","weight":0}],
            "rules":[{"name":"frugal","when":{"budgetBelowPercent":50},"versions":["small"]}]}],
            "limits":[{"name":"tpm","tokens":100,"every":"1h"}]}"#,
    );
    let drawn: Vec<String> = (0..8).map(|_| version(&proxy.chat(&[], &chat(1, r#""max_tokens":2,"#)))).collect();
    // Each is charged 11 tokens: with the fifth 45 are left.
    assert_eq!(drawn, ["large", "large", "large", "large", "small", "small", "small", "small"]);
    // Where nothing is charged nothing is known of it.
    let mut free = Proxy::new(
        r#"{"models":[{"name":"chat","versions":[{"name":"large","weight":1},{"name":"small","weight":0}],
            "rules":[{"name":"frugal","when":{"budgetBelowPercent":50},"versions":["small"]}]}]}"#,
    );
    assert_eq!(version(&free.chat(&[], &chat(1, ""))), "large");
}

#[test]
fn the_cheapest_with_room_is_preferred() {
    let config = |bounds: &str| {
        format!(
            r#"{{"models":[{{"name":"chat","output":{{"expect":40}},"price":{{"input":1,"output":1}},"versions":[{{"name":"dear","weight":50}},
            {{"name":"cheap","weight":50,"price":{{"input":0.1,"output":0.1}},"bounds":{bounds}}}],
            "rules":[{{"name":"thrift","prefer":"cheapest"}}]}}]}}"#
        )
    };
    let mut proxy = Proxy::new(&config(r#"{"pendingTokens":120}"#));
    // Each is 9 tokens of prompt and 40 of answer.
    let mut flights: Vec<Flight> = (0..4).map(|_| proxy.chat(&[], &chat(1, ""))).collect();
    assert_eq!(flights.iter().map(version).collect::<Vec<_>>(), ["cheap", "cheap", "dear", "dear"]);
    // Another worker knows of it with the next heartbeat, and what is over makes room.
    proxy.tick();
    let store = core::mem::take(&mut proxy.store);
    let mut beside = Proxy::beside(&config(r#"{"pendingTokens":120}"#), store, 9);
    assert_eq!(version(&beside.chat(&[], &chat(1, ""))), "dear");
    proxy.store = core::mem::take(&mut beside.store);
    proxy.answer(&mut flights[0], 200, r#"{"usage":{"prompt_tokens":1000000,"completion_tokens":0}}"#);
    assert_eq!(version(&proxy.chat(&[], &chat(1, ""))), "cheap");
    // The cost is that of the version.
    let costs = flights[0].counted(Metric::Cost);
    assert_eq!((costs[0].0[1].as_str(), costs[0].1), ("cheap", 100_000));
    // One whose oldest request has waited for too long is not in time.
    let mut proxy = Proxy::new(&config(r#"{"oldestWaitMs":2000}"#));
    let mut first = proxy.chat(&[], &chat(1, ""));
    assert_eq!(version(&first), "cheap");
    proxy.now += SECOND;
    assert_eq!(version(&proxy.chat(&[], &chat(1, ""))), "cheap");
    proxy.now += 2 * SECOND;
    assert_eq!(version(&proxy.chat(&[], &chat(1, ""))), "dear");
    proxy.close(&mut first);
}

/// A rule may weigh the models that this one falls back to. The request is counted anew for each, and goes by that one's limits.
#[test]
fn the_cheapest_may_be_another_model() {
    let config = |rule: &str, small: &str| {
        format!(
            r#"{{{TENANTS},"models":[
            {{"name":"chat","output":{{"expect":40}},"price":{{"input":1,"output":1}},"sticky":[{{"header":"x-session"}}],"fallback":"small",
                "versions":[{{"name":"a","weight":50}},{{"name":"b","weight":50}},{{"name":"spare","weight":0,"price":{{"input":0.1,"output":0.1}}}}],
                "override":{{"header":"x-version","tenants":["acme"]}},"rules":[{{"name":"thrift","prefer":"cheapest"{rule}}}]}},
            {{"name":"small","output":{{"expect":40,"context":200}},"price":{{"input":0.5,"output":0.5}},"fallback":"tiny","breaker":{{}}{small}}},
            {{"name":"tiny","output":{{"expect":400}},"price":{{"input":0.1,"output":0.1}}}}],
            "limits":[{{"name":"of-small","match":{{"model":"small"}},"tokens":150,"every":"1h"}}]}}"#
        )
    };
    let ask = |proxy: &mut Proxy, headers: &[(&str, &str)], words: usize| {
        let facts = proxy.chat(headers, &chat(words, "")).facts();
        (facts.model, facts.version.unwrap_or_default())
    };
    let small = ("small".to_owned(), String::new());
    // 49 tokens at half the price. With tiny there are 409, which at a tenth are 40.9 of the first.
    let mut proxy = Proxy::new(&config(r#","fallbacks":true"#, ""));
    let mut flight = proxy.chat(&[("x-session", "s")], &chat(1, ""));
    proxy.answer(&mut flight, 200, r#"{"usage":{"prompt_tokens":9,"completion_tokens":40}}"#);
    assert_eq!(flight.facts().chosen_by.as_deref(), Some("fallback"));
    assert_eq!(header(&flight, "x-penstock-model").as_deref(), Some("small"));
    assert_eq!(flight.response_header("x-penstock-fallback").as_deref(), Some("small"));
    for _ in 0..2 {
        assert_eq!(ask(&mut proxy, &[("x-session", "s")], 1), small);
    }
    // Its limit is spent, and the next is less dear than the own versions.
    assert_eq!(ask(&mut proxy, &[("x-session", "s")], 1).0, "tiny");
    // What it does not take it does not serve; who has chosen has what was chosen, and who may not choose has not.
    let mut proxy = Proxy::new(&config(r#","fallbacks":true"#, ""));
    assert_eq!(ask(&mut proxy, &[], 300).0, "tiny");
    assert_eq!(ask(&mut proxy, &[("x-key", "acme"), ("x-version", "spare")], 1).1, "spare");
    assert_eq!(ask(&mut proxy, &[("x-key", "initech"), ("x-version", "spare")], 1), small);
    // A rule that does not say so weighs versions alone, and whoever sticks to one has it; a version that costs less than other models serves.
    let mut proxy = Proxy::new(&config("", ""));
    let own = ask(&mut proxy, &[("x-session", "s")], 1);
    assert_eq!((own.0.as_str(), ask(&mut proxy, &[("x-session", "s")], 1)), ("chat", own.clone()));
    let mut proxy = Proxy::new(&config(r#","fallbacks":true,"versions":["spare"]"#, ""));
    assert_eq!(ask(&mut proxy, &[], 1).1, "spare");
    // One without room for a second is passed by, and so is one that is suspended.
    for small in [r#","pending":{"ceiling":60}"#, r#","suspended":true"#] {
        let mut proxy = Proxy::new(&config(r#","fallbacks":true"#, small));
        ask(&mut proxy, &[], 1);
        assert_eq!(ask(&mut proxy, &[], 1).0, "tiny");
    }
}

/// A version whose first tokens come late is not preferred for a while, on all workers; where all are beyond their bounds, a model behind it serves.
#[test]
fn who_begins_late_is_not_preferred() {
    let config = r#"{"models":[{"name":"chat","price":{"input":1,"output":1},"fallback":"small","versions":[{"name":"dear","weight":50},
        {"name":"cheap","weight":50,"price":{"input":0.1,"output":0.1},"bounds":{"ttftMs":2000}}],
        "rules":[{"name":"late","when":{"promptTokensFrom":500},"versions":["cheap"],"prefer":"cheapest","fallbacks":true},{"name":"thrift","prefer":"cheapest"}]},
        {"name":"small","price":{"input":5,"output":5}}]}"#;
    let mut proxy = Proxy::new(config);
    let ask = |proxy: &mut Proxy, waits: u64, words: usize| {
        let mut flight = proxy.chat(&[], &chat(words, r#""stream":true,"#));
        proxy.now += waits;
        let headers: Headers =
            vec![(":status".to_owned(), b"200".to_vec()), ("content-type".to_owned(), b"text/event-stream".to_vec())];
        proxy.tell(&mut flight, Event::ResponseHead { headers: &headers, end: false });
        let piece = b"data: {\"choices\":[{\"delta\":{\"content\":\"Hi\"}}]}\n\n";
        proxy.tell(&mut flight, Event::ResponseChunk { bytes: piece, end: true });
        proxy.close(&mut flight);
        (flight.facts().model.clone(), flight.facts().version.clone())
    };
    let by = |model: &str, version: Option<&str>| (model.to_owned(), version.map(str::to_owned));
    for _ in 0..4 {
        assert_eq!(ask(&mut proxy, SECOND, 1), by("chat", Some("cheap")));
    }
    // Half of them have to be late.
    for _ in 0..4 {
        assert_eq!(ask(&mut proxy, 2 * SECOND + 1, 1), by("chat", Some("cheap")));
    }
    proxy.tick();
    assert_eq!(ask(&mut proxy, 3 * SECOND, 1), by("chat", Some("cheap")));
    for _ in 0..5 {
        ask(&mut proxy, 3 * SECOND, 1);
    }
    proxy.tick();
    assert_eq!(ask(&mut proxy, 0, 1), by("chat", Some("dear")));
    assert_eq!(ask(&mut proxy, 0, 600), by("small", None));
    let store = core::mem::take(&mut proxy.store);
    let mut beside = Proxy::beside(config, store, 9);
    beside.now = proxy.now;
    beside.tick();
    assert_eq!(ask(&mut beside, 0, 1), by("chat", Some("dear")));
    // It is tried again, and goes on once it is in time.
    beside.now += 2 * SECOND;
    for _ in 0..3 {
        assert_eq!(ask(&mut beside, 0, 1), by("chat", Some("cheap")));
        beside.tick();
    }
}

#[test]
fn copies_are_marked_for_the_route() {
    let config = |percent: &str, sticky: &str| {
        format!(
            r#"{{"models":[{{"name":"chat","versions":[{{"name":"stable","weight":90}},{{"name":"canary","weight":10}},{{"name":"next","weight":0}}],
            "shadow":{{"version":"next","percent":{percent}}},"override":{{"header":"x-version","tenants":["*"]}},"sticky":[{sticky}]}}]}}"#
        )
    };
    let mut all = Proxy::new(&config("100", ""));
    let flight = all.chat(&[("x-penstock-shadow", "mine")], &chat(1, ""));
    assert_eq!(
        (header(&flight, "x-penstock-shadow").as_deref(), flight.facts().shadow.as_deref()),
        (Some("next"), Some("next"))
    );
    assert!(flight.seen.contains(&Effect::DropRequestHeader("x-penstock-shadow".into())));
    // Who has chosen the version gets no copy of it.
    assert_eq!(header(&all.chat(&[("x-version", "next")], &chat(1, "")), "x-penstock-shadow"), None);
    let mut some = Proxy::new(&config("12.5", r#"{"header":"x-session"}"#));
    let (mut copied, mut canaries) = (0, 0);
    for i in 0..2000 {
        let session = i.to_string();
        let mut ask = || some.chat(&[("x-session", &session)], &chat(1, ""));
        let (first, second) = (ask(), ask());
        let is_copied = header(&first, "x-penstock-shadow").is_some();
        assert_eq!(header(&second, "x-penstock-shadow").is_some(), is_copied);
        copied += u32::from(is_copied);
        canaries += u32::from(is_copied && version(&first) == "canary");
    }
    // 250 and 25, give or take four deviations.
    assert!(copied.abs_diff(250) < 60 && canaries.abs_diff(25) < 20, "{copied} {canaries}");
}

/// What a route answers: the version that it led to stands in a header, or is known by its cluster.
fn answer(proxy: &mut Proxy, flight: &mut Flight, status: u16, by: &str, details: &str) {
    let mut headers: Headers = vec![(":status".into(), status.to_string().into_bytes())];
    match by.strip_prefix("cluster ") {
        Some(cluster) => {
            flight.props.0.insert("xds.cluster_name".into(), cluster.as_bytes().to_vec());
        }
        None if by.is_empty() => {}
        None => headers.push(("x-penstock-version".into(), by.as_bytes().to_vec())),
    }
    flight.props.0.insert("response.code_details".into(), details.as_bytes().to_vec());
    proxy.tell(flight, Event::ResponseHead { headers: &headers, end: false });
    proxy.tell(flight, Event::ResponseChunk { bytes: br#"{"choices":[{"message":{"content":"Hi"}}]}"#, end: true });
    proxy.close(flight);
}

#[test]
fn where_the_route_draws_callers_come_back() {
    let config = r#"{"models":[{"name":"chat","owns":"pin","sticky":[{"header":"x-session"}],
        "versions":[{"name":"stable","cluster":"chat-stable"},{"name":"canary","cluster":"outbound|80||canary.llm"}]}]}"#;
    let mut proxy = Proxy::new(config);
    let set = |flight: &Flight| header(flight, "x-penstock-version");
    for (session, by, served) in [
        ("one", "canary", "canary"),
        ("two", "cluster outbound|80||canary.llm", "canary"),
        ("three", "cluster chat-stable", "stable"),
    ] {
        let mut first = proxy.chat(&[("x-session", session)], &chat(1, ""));
        assert_eq!((set(&first), first.facts().version), (None, None));
        answer(&mut proxy, &mut first, 200, by, "via_upstream");
        assert_eq!(first.response_header("x-penstock-version").as_deref(), Some(served));
        let counted = first.counted(Metric::Requests);
        assert_eq!(counted[0].0[1].as_str(), served, "{counted:?}");
        // From then on it has its version, whatever the weights are, on every worker.
        let store = core::mem::take(&mut proxy.store);
        let mut beside = Proxy::beside(config, store, 9);
        let mut next = beside.chat(&[("x-session", session)], &chat(1, ""));
        assert_eq!((set(&next).as_deref(), next.facts().chosen_by.as_deref()), (Some(served), Some("pin")));
        // A failure of its own changes nothing.
        answer(&mut beside, &mut next, 500, by, "via_upstream");
        assert_eq!(set(&beside.chat(&[("x-session", session)], &chat(1, ""))).as_deref(), Some(served));
        proxy.store = core::mem::take(&mut beside.store);
    }
    // A version that is gone is forgotten, and the route decides anew.
    let mut gone = proxy.chat(&[("x-session", "one")], &chat(1, ""));
    answer(&mut proxy, &mut gone, 503, "canary", "no_healthy_upstream");
    let mut again = proxy.chat(&[("x-session", "one")], &chat(1, ""));
    assert_eq!(set(&again), None);
    answer(&mut proxy, &mut again, 200, "stable", "via_upstream");
    assert_eq!(set(&proxy.chat(&[("x-session", "one")], &chat(1, ""))).as_deref(), Some("stable"));
    // Without a sticky value each is the route's, and seen all the same.
    let mut nobody = proxy.chat(&[], &chat(1, ""));
    answer(&mut proxy, &mut nobody, 200, "canary", "via_upstream");
    assert_eq!((set(&nobody), nobody.facts().version.as_deref()), (None, Some("canary")));
}

/// Nobody knows the version before its server answers. From then on what is pending is its own, whichever plugin keeps that.
#[test]
fn where_the_route_draws_what_is_pending_goes_to_the_version_that_answers() {
    for plugin in [Plugin::Penstock, Plugin::PendingGauge] {
        let config = r#"{"models":[{"name":"chat","owns":"pin","versions":[{"name":"stable"},{"name":"canary"}]}]}"#;
        let mut proxy = Proxy::with(config, plugin);
        let pending = |proxy: &mut Proxy| {
            let is_it = |metric: Metric, value: u64| metric == Metric::PendingRequests && value > 0;
            let gauges = proxy.gauges().into_iter();
            gauges
                .filter(|((metric, _), value)| is_it(*metric, *value))
                .map(|((_, labels), _)| labels[1].to_string())
                .collect::<Vec<_>>()
        };
        let mut flight = proxy.chat(&[], &chat(1, ""));
        assert_eq!(pending(&mut proxy), ["default"]);
        let headers: Headers =
            vec![(":status".into(), b"200".to_vec()), ("x-penstock-version".into(), b"canary".to_vec())];
        proxy.tell(&mut flight, Event::ResponseHead { headers: &headers, end: false });
        assert_eq!(pending(&mut proxy), ["canary"]);
        proxy.close(&mut flight);
        assert!(pending(&mut proxy).is_empty());
    }
}

#[test]
fn a_version_without_a_route_is_told() {
    let mut proxy = Proxy::new(r#"{"models":[{"name":"chat","versions":[{"name":"v3","weight":1}]}]}"#);
    let mut told = 0;
    for _ in 0..2 {
        let mut flight = proxy.chat(&[], &chat(1, ""));
        answer(&mut proxy, &mut flight, 404, "", "route_not_found");
        assert_eq!(flight.response_header("x-penstock-version").as_deref(), Some("v3"));
        let is_it =
            |effect: &&Effect| matches!(effect, Effect::Log(_, text) if text.contains("no route is for chat v3"));
        told += flight.seen.iter().filter(is_it).count();
    }
    assert_eq!(told, 1);
}

#[test]
fn mistakes_are_told_with_path_value_and_fix() {
    let config = |more: &str| {
        format!(
            r#"{{{TENANTS},"models":[{{"name":"chat","versions":[{{"name":"a","weight":1}},{{"name":"b","weight":0}}],{more}}}]}}"#
        )
    };
    let rule = |text: &str| config(&format!(r#""rules":[{{"name":"r",{text}}}]"#));
    for (config, said) in [
        (rule(r#""versions":["c"]"#), r#"models[0].rules[0].versions[0]: "c" is not a version of this model"#),
        (rule(r#""when":{"tenants":["x"]}"#), r#"models[0].rules[0].when.tenants[0]: "x" is not a configured tenant"#),
        (
            rule(r#""when":{"promptTokensFrom":9,"promptTokensBelow":9}"#),
            "models[0].rules[0].when.promptTokensBelow: no prompt has 9",
        ),
        (rule(r#""when":{"budgetBelowPercent":0}"#), "models[0].rules[0].when.budgetBelowPercent: 0 is out of range"),
        (rule(r#""fallbacks":true"#), "models[0].rules[0].fallbacks: nothing is preferred; write prefer: cheapest"),
        (
            rule(r#""prefer":"cheapest","fallbacks":true"#),
            "models[0].rules[0].fallbacks: the model has no fallback; name one in models[].fallback",
        ),
        (
            config(
                r#""fallback":"chat","rules":[{"name":"r","when":{"budgetBelowPercent":9}},{"name":"s","prefer":"cheapest","fallbacks":true}]"#,
            ),
            "models[0].rules[1].fallbacks: the budget is known only when the model is",
        ),
        (rule(r#""prefer":"dearest""#), "models[0].rules[0].prefer: unknown variant `dearest`"),
        (rule(r#""when":{"colour":1}"#), "models[0].rules[0].when.colour: unknown field"),
        (
            config(r#""shadow":{"version":"c","percent":5}"#),
            r#"models[0].shadow.version: "c" is not a version of this model; add it"#,
        ),
        (
            config(r#""shadow":{"version":"b","percent":0}"#),
            "models[0].shadow.percent: 0 is out of range; write more than 0",
        ),
        (config(r#""shadow":{"version":"b","percent":-3}"#), "models[0].shadow.percent: -3 is out of range"),
        (
            config(r#""owns":"pin""#),
            "models[0].versions[0].weight: under owns: pin the weights are the route's; leave it out",
        ),
        (
            r#"{"models":[{"name":"chat","owns":"pin","versions":[{"name":"a","model":"x"}]}]}"#.to_owned(),
            "models[0].versions[0].model: under owns: pin",
        ),
        (
            r#"{"models":[{"name":"chat","owns":"pin","active":"a","versions":[{"name":"a"}]}]}"#.to_owned(),
            "models[0].active: under owns: pin the route draws",
        ),
        (
            r#"{"models":[{"name":"chat","shadow":{"version":"b","percent":5}}]}"#.to_owned(),
            "models[0].shadow: there is nothing",
        ),
    ] {
        let error = Config::parse(config.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(said), "{said}\n{error}");
    }
}
