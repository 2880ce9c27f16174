//! Who a request is from: which sources lead to a name, and what everybody else is.

mod sim;

use penstock_exchange::{Config, Metric, Plugin, Worker};
use sim::{Flight, Proxy};

const CHAT: &str = r#"{"model":"chat","max_tokens":10,"messages":[{"role":"user","content":"Hello, world"}]}"#;
const ANSWER: &str = r#"{"usage":{"prompt_tokens":10,"completion_tokens":10}}"#;
/// Of `sk-acme-1`, `sk-acme-2` and `sk-globex`.
const KEYS: [&str; 3] = [
    "sha256:819685611e044dc4918e558945f580790befd0786cc2fb36e3417477ed704a3d",
    "sha256:e13ec0cb85b1e9b4c68f9ab2eb9abeed3376e468aa136fcfbac7c29ca02d6a08",
    "sha256:486e1dad908597991e4425462823f650cfc9ded21de30af03481f0a489f983db",
];
const CLAIM: &str = "metadata.filter_metadata.envoy.filters.http.jwt_authn.";

/// A request with these headers and properties.
fn ask(proxy: &mut Proxy, headers: &[(&str, &str)], properties: &[(&str, &str)]) -> Flight {
    let mut flight = proxy.open();
    for (name, value) in properties {
        flight.props.0.insert((*name).to_owned(), value.as_bytes().to_vec());
    }
    proxy.send_with(&mut flight, headers, CHAT);
    flight
}

/// The tenant that a request was served for, or the status that it was refused with.
fn who(proxy: &mut Proxy, headers: &[(&str, &str)], properties: &[(&str, &str)]) -> Result<String, u32> {
    let flight = ask(proxy, headers, properties);
    flight.reply().map_or_else(|| Ok(flight.facts().tenant), |(status, ..)| Err(status))
}

fn config(from: &str, more: &str) -> String {
    let [one, two, other] = KEYS;
    format!(
        r#"{{"tenant":{{"from":[{from}]{more}}},"models":[{{"name":"chat"}}],
            "tenants":{{"acme":{{"apiKeys":["{one}","{two}"]}},"globex":{{"apiKeys":["{other}"]}}}}}}"#
    )
}

#[test]
fn only_verified_sources_lead_to_a_name() {
    let jwt = format!("{CLAIM}payload.org_id");
    let own = format!("{CLAIM}jwt_payload.org_id");
    let from = r#"{"header":"x-plain"},{"jwt":"org_id"},{"property":["connection","uri_san_peer_certificate"]},
        {"property":["request","host"]},{"header":"x-tenant","trusted":true},{"apiKey":{"header":"authorization"}}"#;
    let mut proxy = Proxy::new(&config(from, ""));
    let acme = Ok("acme".to_owned());
    for property in [jwt.as_str(), own.as_str(), "connection.uri_san_peer_certificate"] {
        assert_eq!(who(&mut proxy, &[], &[(property, "acme")]), acme, "{property}");
    }
    assert_eq!(who(&mut proxy, &[("x-tenant", "acme")], &[]), acme);
    // A name that anybody can write down is somebody else's.
    for (headers, properties) in [
        (&[("x-plain", "acme")][..], &[][..]),
        (&[], &[("request.host", "acme")]),
        (&[("x-tenant", "Acme")], &[]),
        (&[("x-tenant", "acme ")], &[]),
        (&[], &[(jwt.as_str(), "other")]),
    ] {
        assert!(who(&mut proxy, headers, properties).unwrap().starts_with("h-"), "{headers:?} {properties:?}");
    }
    assert_eq!(who(&mut proxy, &[], &[]), Err(401), "whoever says nothing is refused where somebody is asked");
    assert_eq!(who(&mut proxy, &[("x-plain", "")], &[]), Err(401));
    // No claim takes a verified identity away.
    assert_eq!(who(&mut proxy, &[("x-plain", "globex")], &[(jwt.as_str(), "acme")]), acme);
}

#[test]
fn the_same_text_from_another_source_is_somebody_else() {
    let jwt = format!("{CLAIM}payload.org_id");
    let from = r#"{"jwt":"org_id"},{"header":"x-tenant","trusted":true},{"header":"x-plain"},{"header":"x-other"}"#;
    let config = format!(r#"{{"tenant":{{"from":[{from}]}},"models":[{{"name":"chat"}}]}}"#);
    let mut proxy = Proxy::new(&config);
    let mut seen = vec![who(&mut proxy, &[], &[(jwt.as_str(), "x")]).unwrap()];
    for header in ["x-tenant", "x-plain", "x-other"] {
        let tenant = who(&mut proxy, &[(header, "x")], &[]).unwrap();
        assert_eq!(who(&mut proxy, &[(header, "x")], &[]), Ok(tenant.clone()));
        assert!(!seen.contains(&tenant), "{header}");
        seen.push(tenant);
    }
}

#[test]
fn a_key_is_known_by_its_hash_and_an_unknown_one_is_nobody_new() {
    let from = r#"{"apiKey":{"header":"authorization"}},{"apiKey":{"header":"x-api-key"}},{"jwt":"org_id"},{"header":"x-plain"}"#;
    let jwt = format!("{CLAIM}payload.org_id");
    for anonymous in [r#","anonymous":"allow""#, r#","anonymous":"deny""#, ""] {
        let mut proxy = Proxy::new(&config(from, anonymous));
        for (header, key, tenant) in [
            ("authorization", "Bearer sk-acme-1", "acme"),
            ("authorization", "bearer sk-acme-2", "acme"),
            ("authorization", "BEARER   sk-acme-2", "acme"),
            ("authorization", "sk-acme-1", "acme"),
            ("x-api-key", "sk-acme-1", "acme"),
            ("x-api-key", "sk-globex", "globex"),
        ] {
            assert_eq!(who(&mut proxy, &[(header, key)], &[]), Ok(tenant.to_owned()), "{key}");
        }
        for key in [
            "sk-acme-3",
            "Bearer",
            "Bearer ",
            "Basic sk-acme-1",
            "acme",
            KEYS[0],
            "Bearersk-acme-1",
            "Bearer Bearer sk-acme-1",
            "SK-ACME-1",
        ] {
            let flight = ask(&mut proxy, &[("authorization", key), ("x-plain", "me")], &[]);
            let (status, _, body) = flight.reply().unwrap();
            assert_eq!((status, body["error"]["code"].as_str()), (401, Some("invalid_api_key")), "{key}");
            let labels = ["other", "other", "identity", "none"].map(str::to_owned).to_vec();
            assert_eq!(flight.counted(Metric::Refused), [(labels, 1)]);
        }
        // What another source has verified counts, whatever else is sent along.
        let headers = [("authorization", "Bearer token"), ("x-api-key", "sk-globex")];
        assert_eq!(who(&mut proxy, &headers, &[]), Ok("globex".to_owned()));
        assert_eq!(who(&mut proxy, &[("authorization", "Bearer token")], &[(&jwt, "acme")]), Ok("acme".to_owned()));
        assert!(who(&mut proxy, &[("authorization", "Bearer token")], &[(&jwt, "else")]).unwrap().starts_with("h-"));
        assert!(who(&mut proxy, &[("x-plain", "me")], &[]).unwrap().starts_with("h-"));
    }
}

#[test]
fn who_may_not_ask_is_seen_before_it_is_refused() {
    let [key, ..] = KEYS;
    let config = |mode: &str| {
        format!(
            r#"{{"tenant":{{"from":[{{"apiKey":{{"header":"authorization"}}}}],"mode":"{mode}"}},"models":[{{"name":"chat"}}],
                "tenants":{{"late":{{"apiKeys":["{key}"],"suspended":true}}}}}}"#
        )
    };
    let cases = [
        (None, 401, "identity", "anonymous"),
        (Some("nobodys"), 401, "identity", "anonymous"),
        (Some("sk-acme-1"), 403, "suspended", "late"),
    ];
    for (key, status, would, tenant) in cases {
        let headers: Vec<(&str, &str)> = key.iter().map(|key| ("authorization", *key)).collect();
        assert_eq!(who(&mut Proxy::new(&config("enforce")), &headers, &[]), Err(status));
        let mut proxy = Proxy::new(&config("observe"));
        let mut flight = ask(&mut proxy, &headers, &[]);
        assert!(flight.went(), "{key:?}");
        proxy.answer(&mut flight, 200, ANSWER);
        assert_eq!(flight.response_header("x-penstock-would").as_deref(), Some(would));
        assert_eq!((flight.facts().would.as_deref(), flight.facts().tenant.as_str()), (Some(would), tenant));
        assert_eq!(flight.counted(Metric::Observed).len(), 1);
    }
}

#[test]
fn a_limit_is_for_one_tenant_or_for_whoever_has_no_name() {
    let config = r#"{"tenant":{"from":[{"header":"x-tenant","trusted":true}],"anonymous":"allow"},"models":[{"name":"chat"}],
        "tenants":{"acme":{},"globex":{}},
        "limits":[{"name":"acme","match":{"tenant":"acme"},"tokens":25,"every":"1h"},
            {"name":"rest","match":{"tenant":"unnamed"},"tokens":45,"every":"1h"}]}"#;
    let mut proxy = Proxy::new(config);
    for (headers, limit) in [
        (&[("x-tenant", "acme")][..], None),
        (&[("x-tenant", "acme")], Some("acme")),
        (&[("x-tenant", "globex")], None),
        (&[("x-tenant", "globex")], None),
        (&[("x-tenant", "globex")], None),
        (&[("x-tenant", "one")], None),
        (&[("x-tenant", "two")], None),
        (&[("x-tenant", "unnamed")], Some("rest")),
        (&[], Some("rest")),
    ] {
        let flight = ask(&mut proxy, headers, &[]);
        let refused = flight.reply().map(|(_, headers, _)| headers["x-penstock-limit"].clone());
        assert_eq!(refused.as_deref(), limit, "{headers:?}");
    }
}

#[test]
fn mistakes_are_told_with_their_fix() {
    let [key, ..] = KEYS;
    for (config, said) in [
        (
            r#"{"tenant":{"from":[{"header":"x-api-key"}]},"tenants":{"late-payer":{"suspended":true}}}"#.to_owned(),
            "trusted: true",
        ),
        (
            r#"{"tenant":{"from":[{"header":"x-api-key"}]},"tenants":{"late-payer":{}}}"#.to_owned(),
            "tenants.late-payer: no source of tenant.from can tell who this is for certain; give the tenant apiKeys",
        ),
        (r#"{"tenants":{"acme":{}}}"#.to_owned(), "trusted: true"),
        (r#"{"tenant":{"from":[{"property":["request","host"]}]},"tenants":{"acme":{}}}"#.to_owned(), "tenants.acme: "),
        (
            r#"{"tenant":{"from":[{"property":["connection","subject_local_certificate"]}]},"tenants":{"acme":{}}}"#
                .to_owned(),
            "tenants.acme: ",
        ),
        (format!(r#"{{"tenants":{{"acme":{{"apiKeys":["{key}"]}}}}}}"#), "no source of tenant.from reads keys"),
        (
            r#"{"tenant":{"from":[{"apiKey":{"header":"authorization"}}]}}"#.to_owned(),
            "no tenant has a key; write apiKeys",
        ),
        (
            format!(
                r#"{{"tenant":{{"from":[{{"apiKey":{{"header":"a"}}}}]}},"tenants":{{"a":{{"apiKeys":["{key}"]}},"b":{{}}}}}}"#
            ),
            "tenants.b: no source",
        ),
        (
            format!(
                r#"{{"tenant":{{"from":[{{"apiKey":{{"header":"a"}}}}]}},"tenants":{{"a":{{"apiKeys":["{key}"]}},"b":{{"apiKeys":["{key}"]}}}}}}"#
            ),
            r#"tenants.b.apiKeys: a key is also one of "a""#,
        ),
        (r#"{"tenant":{"from":[{"jwt":"a","header":"b"}]}}"#.to_owned(), "tenant.from[0]: write one of"),
        (r#"{"tenant":{"from":[{}]}}"#.to_owned(), "tenant.from[0]: write one of"),
        (r#"{"tenant":{"from":[{"jwt":"a","trusted":true}]}}"#.to_owned(), "tenant.from[0].trusted: only a header"),
        (r#"{"tenant":{"from":[{"header":"a b","trusted":true}]}}"#.to_owned(), "tenant.from[0].header: "),
        (r#"{"tenant":{"from":["tenant"]}}"#.to_owned(), "tenant.from[0]"),
        (
            r#"{"limits":[{"name":"a","match":{"tenant":"acme"},"tokens":1,"every":"1m"}]}"#.to_owned(),
            r#"limits[0].match.tenant: "acme" is not a configured tenant"#,
        ),
        (
            r#"{"tenant":{"from":[{"jwt":"a"}]},"tenants":{"unnamed":{}}}"#.to_owned(),
            "tenants.unnamed: the name is reserved",
        ),
        (r#"{"tenant":{"from":[{"jwt":"a"}]},"tenants":{"h-0123456789abcdef":{}}}"#.to_owned(), "the name is reserved"),
    ] {
        let errors = Config::parse(config.as_bytes()).unwrap_err().to_string();
        assert!(errors.contains(said), "{config}: {errors}");
    }
    for wrong in
        ["", "sha256:", "sk-secret", &KEYS[0][7..], &KEYS[0].to_uppercase(), &KEYS[0][..70], &format!("{}0", KEYS[0])]
    {
        let text = format!(
            r#"{{"tenant":{{"from":[{{"apiKey":{{"header":"a"}}}}]}},"tenants":{{"acme":{{"apiKeys":["{wrong}"]}}}}}}"#
        );
        let errors = Config::parse(text.as_bytes()).unwrap_err().to_string();
        assert!(errors.contains("tenants.acme.apiKeys[0]: not a hash; write sha256:"), "{wrong}: {errors}");
        assert!(
            wrong.is_empty() || wrong == "sha256:" || !errors.contains(wrong),
            "what may be a key is not told: {errors}"
        );
    }
    let said =
        |text: &str| Config::parse(text.as_bytes()).unwrap().notices.join("\n").contains("tenant.anonymous is not set");
    assert!(said(r#"{"tenant":{"from":[{"jwt":"a"}]}}"#));
    assert!(!said(r#"{"tenant":{"from":[{"jwt":"a"}],"anonymous":"deny"}}"#) && !said("{}"));
}

#[test]
fn who_writes_another_header_is_to_meet_a_limit_without_it() {
    let is_told = |limits: &str| {
        let text = format!(
            r#"{{"tenant":{{"from":[{{"header":"x-tenant","trusted":true}}]}},"tenants":{{"acme":{{}}}},"models":[{{"name":"chat"}}],
            "limits":[{limits}]}}"#
        );
        Config::parse(text.as_bytes()).unwrap().notices.concat().contains("each value of the header x-team")
    };
    let rate = r#""tokens":60,"every":"1m""#;
    let teams = format!(r#"{{"name":"team","per":["tenant",{{"header":"x-team"}}],{rate}}}"#);
    let with = |more: &str| format!(r#"{teams},{{"name":"all",{more}}}"#);
    for (told, limits) in [
        (true, teams.clone()),
        (true, with(&format!(r#""per":[{{"header":"x-user"}}],{rate}"#))),
        (true, with(&format!(r#""match":{{"model":"chat"}},{rate}"#))),
        (true, with(&format!(r#""match":{{"tenant":"acme"}},{rate}"#))),
        (true, with(&format!(r#""mode":"observe",{rate}"#))),
        (false, with(&format!(r#""per":["tenant","model"],{rate}"#))),
        (false, with(r#""concurrent":16"#)),
        (false, teams.replace(r#"{"header":"x-team"}"#, r#"{"jwt":"team"}"#)),
        (false, teams.replace(rate, r#""session":{"calls":2}"#)),
        (false, teams.replace(rate, &format!(r#""mode":"observe",{rate}"#))),
    ] {
        assert_eq!(is_told(&limits), told, "{limits}");
    }
}

#[test]
fn who_makes_up_tenants_is_to_meet_a_limit_of_all() {
    let is_told = |from: &str, limits: &str| {
        let text = format!(
            r#"{{"tenant":{{"from":[{from}],"anonymous":"allow"}},"models":[{{"name":"chat"}}],"limits":[{limits}]}}"#
        );
        Config::parse(text.as_bytes()).unwrap().notices.concat().contains("make up tenants")
    };
    let (plain, verified) = (r#"{"header":"x-api-key"}"#, r#"{"jwt":"org"},{"header":"x-tenant","trusted":true}"#);
    let each = r#"{"name":"tpm","per":["tenant","model"],"tokens":60,"every":"1m"}"#;
    let with = |more: &str| format!(r#"{each},{{"name":"all",{more}}}"#);
    let rate = r#""tokens":600,"every":"1m""#;
    for (told, from, limits) in [
        (true, plain, each.to_owned()),
        // Made-up sessions and tenants, one model of several, what only observes and named tenants bound nobody else.
        (true, plain, with(&format!(r#""match":{{"tenant":"unnamed"}},"per":["tenant"],{rate}"#))),
        (true, plain, with(&format!(r#""match":{{"model":"chat"}},{rate}"#))),
        (true, plain, with(&format!(r#""match":{{"class":"gold"}},{rate}"#))),
        (true, plain, with(&format!(r#""mode":"observe",{rate}"#))),
        (true, plain, with(r#""per":[{"header":"x-session"}],"session":{"calls":2}"#)),
        (true, plain, r#"{"name":"streams","per":["tenant"],"concurrent":2}"#.to_owned()),
        (false, plain, with(&format!(r#""match":{{"tenant":"unnamed"}},{rate}"#))),
        (false, plain, with(&format!(r#""per":["model"],{rate}"#))),
        (false, plain, with(r#""concurrent":16"#)),
        (
            false,
            plain,
            with(rate).replace(each, r#"{"name":"gold","per":["tenant"],"match":{"class":"gold"},"concurrent":1}"#),
        ),
        (false, plain, String::new()),
        // Nobody makes these up, and all who have none are one.
        (false, verified, each.to_owned()),
        (false, "", each.to_owned()),
    ] {
        assert_eq!(is_told(from, &limits), told, "{from} {limits}");
    }
}

/// What one process draws for a hundred tenants.
fn drawn(entropy: [u64; 3], header: &str) -> Vec<Option<String>> {
    let config = r#"{"tenant":{"from":[{"header":"x-tenant","trusted":true},{"header":"x-plain"}]},"tenants":{"t-1":{},"t-2":{}},
        "models":[{"name":"chat","versions":[{"name":"a","weight":1},{"name":"b","weight":1}],"sticky":["tenant"]}]}"#;
    let mut proxy = Proxy::new(config);
    proxy.store = sim::Map::default();
    let config = Config::parse(config.as_bytes()).unwrap();
    proxy.worker = Worker::new(config, Plugin::Penstock, entropy, &mut proxy.store);
    (0..100).map(|i| ask(&mut proxy, &[(header, &format!("t-{i}"))], &[]).facts().version).collect()
}

#[test]
fn a_tenant_has_the_same_version_on_every_proxy() {
    for header in ["x-tenant", "x-plain"] {
        let one = drawn([1, 2, 3], header);
        assert_eq!(one, drawn([4, 5, 6], header));
        let share = one.iter().filter(|version| version.as_deref() == Some("a")).count();
        assert!((30..70).contains(&share), "{share}");
    }
}

#[test]
fn a_session_belongs_to_its_tenant() {
    let config = r#"{"tenant":{"from":[{"header":"x-tenant","trusted":true}],"anonymous":"allow"},"models":[{"name":"chat"}],
        "tenants":{"acme":{}},
        "limits":[{"name":"agent","per":[{"header":"x-session-id"}],"session":{"calls":2}}]}"#;
    let mut proxy = Proxy::new(config);
    for tenant in ["thief", "acme", "another"] {
        for went in [true, true, false] {
            let flight = ask(&mut proxy, &[("x-tenant", tenant), ("x-session-id", "s")], &[]);
            assert_eq!(flight.went(), went, "{tenant}");
        }
    }
    assert!(ask(&mut proxy, &[("x-session-id", "s")], &[]).went());
}

#[test]
fn what_a_class_expects_is_not_one_tenants_to_say() {
    let config = r#"{"tenant":{"from":[{"header":"x-tenant","trusted":true}],"anonymous":"allow"},
        "models":[{"name":"chat","output":{"expect":50}}],
        "tenants":{"a":{"class":"gold"},"b":{"class":"gold"},"liar":{"class":"gold"},"new":{"class":"gold"}}}"#;
    let open = r#"{"model":"chat","messages":[{"role":"user","content":"Hello, world"}]}"#;
    let mut proxy = Proxy::new(config);
    let expected =
        |proxy: &mut Proxy, tenant: &str| proxy.chat(&[("x-tenant", tenant)], open).facts().expected_output.0;
    let answers = |proxy: &mut Proxy, tenant: &str, tokens: u64, times: u64| {
        for _ in 0..times {
            let mut flight = proxy.chat(&[("x-tenant", tenant)], open);
            proxy.answer(
                &mut flight,
                200,
                &format!(r#"{{"usage":{{"prompt_tokens":10,"completion_tokens":{tokens}}}}}"#),
            );
        }
    };
    answers(&mut proxy, "liar", 4000, 500);
    assert_eq!(expected(&mut proxy, "new"), 50, "one voice is not believed");
    answers(&mut proxy, "a", 100, 40);
    answers(&mut proxy, "b", 200, 40);
    answers(&mut proxy, "liar", 4000, 500);
    assert!((100..=128).contains(&expected(&mut proxy, "a")));
    assert!((200..=256).contains(&expected(&mut proxy, "b")));
    assert!((200..=256).contains(&expected(&mut proxy, "new")), "the one in the middle");
    assert!(expected(&mut proxy, "liar") >= 4000, "its own is its own");
    // Strangers have no class, and are one.
    answers(&mut proxy, "made-up", 700, 40);
    assert!((700..=900).contains(&expected(&mut proxy, "made-up-too")));
    assert!((200..=256).contains(&expected(&mut proxy, "new")));
}

/// Limits that all callers pay into, that each pays for itself, and that are the prober's own.
#[test]
fn a_tenant_that_probes_pays_from_its_own_budget_alone() {
    let [one, _, other] = KEYS;
    let config = |probe: bool| {
        format!(
            r#"{{"tenant":{{"from":[{{"apiKey":{{"header":"authorization"}}}}]}},"models":[{{"name":"chat"}}],
                "tenants":{{"acme":{{"apiKeys":["{one}"],"probe":{probe}}},"globex":{{"apiKeys":["{other}"]}}}},
                "limits":[{{"name":"all","tokens":60,"every":"1h"}},{{"name":"per-model","per":["model"],"concurrent":1}},
                {{"name":"each","per":["tenant"],"tokens":100,"every":"1h"}},
                {{"name":"own","match":{{"tenant":"acme"}},"tokens":120,"every":"1h"}}]}}"#
        )
    };
    let [acme, globex] = ["Bearer sk-acme-1", "Bearer sk-globex"].map(|key| [("authorization", key)]);
    // How many requests of both are admitted, of 20 tokens each; none is ever over.
    let admitted = |probe: bool| {
        let mut proxy = Proxy::new(&config(probe));
        let probes = (0..9).take_while(|_| who(&mut proxy, &acme, &[]).is_ok()).count();
        (probes, (0..9).take_while(|_| who(&mut proxy, &globex, &[]).is_ok()).count())
    };
    assert_eq!(admitted(false), (1, 0), "one permit for all");
    let (probes, others) = admitted(true);
    assert!((4..=5).contains(&probes), "{probes} fit into its own 100");
    assert_eq!(others, 1, "of which nobody else pays anything");
}
