//! Which requests come in by which path: closed by default, opened by name.

mod sim;

use penstock_exchange::{Effect, Event, Headers, Metric, Plugin};
use sim::{Flight, Proxy};

const MODELS: &str = r#""models":[{"name":"chat"}]"#;

fn send(proxy: &mut Proxy, method: &str, path: &str, headers: &[(&str, &str)]) -> Flight {
    let mut flight = proxy.open();
    let pseudo = [(":method", method), (":path", path)];
    let all = pseudo.iter().chain(headers).map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec()));
    let all: Headers = all.collect();
    proxy.tell(&mut flight, Event::RequestHead { headers: &all, end: method == "GET" });
    flight
}

/// The status that a request is refused with; 0 where it passes, 1 where it is read.
fn fate(flight: &Flight) -> u32 {
    flight.reply().map_or(u32::from(flight.exchange.is_holding()), |(status, ..)| status)
}

#[test]
fn what_is_not_understood_and_not_named_is_refused() {
    let upgrade = &[("connection", "keep-alive, Upgrade"), ("upgrade", "websocket")][..];
    let mut proxy = Proxy::new(&format!(
        r#"{{{MODELS},"pathPrefixes":["/openai"],"paths":{{"allow":["/v1/files","/v1/audio/*","/v1/realtime"]}}}}"#
    ));
    for (method, path, headers, expected) in [
        ("POST", "/v1/chat/completions", &[][..], 1),
        ("POST", "/v1/chat/completions?x=/../", &[], 1),
        ("POST", "/openai/v1/messages", &[], 1),
        ("GET", "/version", &[], 0),
        ("GET", "/v1/chat/completions", &[], 0),
        ("HEAD", "/", &[], 0),
        ("OPTIONS", "*", &[], 0),
        ("POST", "/v1/files", &[], 0),
        ("DELETE", "/v1/files?a", &[], 0),
        ("POST", "/v1/audio/speech", &[], 0),
        ("GET", "/v1/realtime", upgrade, 0),
        ("POST", "/v1/audio", &[], 404),
        ("POST", "/v1/audio/../files/x", &[], 404),
        ("POST", "/v1/audio/%2e%2e/chat/completions", &[], 404),
        ("POST", "/invocations", &[], 404),
        ("POST", "/chat/completions", &[], 404),
        ("POST", "//v1/chat/completions", &[], 404),
        ("POST", "/v1/chat/completions;x", &[], 404),
        ("POST", "/V1/chat/completions", &[], 404),
        ("POST", "/v1%2fchat/completions", &[], 404),
        ("POST", "/v1/./chat/completions", &[], 404),
        ("POST", "/v1\\chat\\completions", &[], 404),
        ("POST", "/v1/chat/completions/", &[], 404),
        ("POST", "/v1/chat/completions%00", &[], 404),
        ("POST", "/v1/%2563hat/completions", &[], 404),
        ("POST", "http://other/v1/chat/completions", &[], 404),
        ("PUT", "/v1/chat/completions", &[], 404),
        ("post", "/v1/chat/completions", &[], 404),
        ("GET", "/v1/chat/completions", &[("x-http-method-override", "POST")], 404),
        ("GET", "/v1/responses", upgrade, 404),
        ("POST", "/v1/chat/completions", upgrade, 404),
        ("CONNECT", "/v1/chat/completions", &[(":protocol", "websocket")], 404),
        ("GET", "/ws", &[("connection", "upgrade")], 404),
        ("POST", "/inference.GRPCInferenceService/ModelInfer", &[("content-type", "application/grpc")], 404),
        ("", "", &[], 404),
    ] {
        let flight = send(&mut proxy, method, path, headers);
        assert_eq!(fate(&flight), expected, "{method} {path} {headers:?}");
        if let Some((404, _, body)) = flight.reply() {
            assert!(body["error"]["message"].as_str().unwrap().contains("paths.allow"));
            let labels = ["other", "other", "path", "none"].map(str::to_owned).to_vec();
            assert_eq!(flight.counted(Metric::Refused), [(labels, 1)]);
        }
    }
    let refused = send(&mut proxy, "POST", "/v1/x", &[("anthropic-version", "2023-06-01")]);
    assert_eq!(refused.reply().unwrap().2["error"]["type"], "not_found_error");
}

#[test]
fn other_paths_pass_where_that_is_said_but_nothing_that_reads_like_an_api() {
    let mut proxy = Proxy::new(&format!(r#"{{{MODELS},"paths":{{"other":"pass"}}}}"#));
    for (path, expected) in [
        ("/invocations", 0),
        ("/v1/chat/completions", 1),
        ("/v1/chat/completions/", 404),
        ("/V1/responses", 404),
        ("/v1/embeddings;x", 404),
        ("/v1/completions%", 404),
    ] {
        assert_eq!(fate(&send(&mut proxy, "POST", path, &[])), expected, "{path}");
    }
    // An API's own path is opened to something else by its own name alone.
    let upgrade = &[("upgrade", "websocket")];
    for (allow, expected) in [("/v1/*", 404), ("/v1/responses", 0)] {
        let mut proxy = Proxy::new(&format!(r#"{{{MODELS},"paths":{{"allow":["{allow}"]}}}}"#));
        assert_eq!(fate(&send(&mut proxy, "GET", "/v1/responses", upgrade)), expected, "{allow}");
        assert_eq!(fate(&send(&mut proxy, "POST", "/v1/responses", &[])), 1);
    }
}

#[test]
fn without_a_configuration_everything_passes() {
    let mut proxy = Proxy::new("{}");
    for (method, path, expected) in
        [("POST", "/invocations", 0), ("PUT", "/x", 0), ("POST", "/%", 0), ("POST", "/v1/%63hat/completions", 1)]
    {
        assert_eq!(fate(&send(&mut proxy, method, path, &[])), expected, "{path}");
    }
    assert!(!proxy.worker.config.notices.concat().contains("paths"));
    let told = Proxy::new(&format!("{{{MODELS}}}")).worker.config.notices.concat();
    assert!(told.contains("paths.allow"), "{told}");
}

#[test]
fn who_may_ask_is_asked_on_every_path() {
    let config = r#"{"tenant":{"from":[{"header":"x-api-key","trusted":true}]},"tenants":{"acme":{"suspended":true}},
        "models":[{"name":"chat"}],"paths":{"allow":["/v1/files"],"public":["/health","/v1/files","/docs/*"]}}"#;
    let mut proxy = Proxy::new(config);
    let preflight = &[("access-control-request-method", "POST")][..];
    for (method, path, headers, expected) in [
        ("GET", "/v1/models", &[][..], 401),
        ("GET", "/v1/models", &[("x-api-key", "acme")], 403),
        ("GET", "/version", &[("x-api-key", "else")], 0),
        ("POST", "/invocations", &[], 401),
        ("POST", "/invocations", &[("x-api-key", "else")], 404),
        ("POST", "/v1/chat/completions", preflight, 401),
        ("OPTIONS", "/v1/chat/completions", preflight, 0),
        ("OPTIONS", "/v1/chat/completions", &[], 401),
        ("GET", "/health", &[], 0),
        ("GET", "/health/", &[], 401),
        ("GET", "/docs/a", &[("x-api-key", "acme")], 0),
        ("GET", "/docs/../v1/models", &[], 401),
        // What is public still has to be open.
        ("POST", "/health", &[], 401),
        ("POST", "/v1/files", &[], 0),
    ] {
        assert_eq!(fate(&send(&mut proxy, method, path, headers)), expected, "{method} {path} {headers:?}");
    }
}

#[test]
fn what_is_only_observed_passes_and_is_told() {
    let mut proxy = Proxy::new(&format!(r#"{{{MODELS},"paths":{{"mode":"observe"}}}}"#));
    let mut flight = send(&mut proxy, "POST", "/invocations", &[]);
    assert_eq!(fate(&flight), 0);
    proxy.answer(&mut flight, 200, "{}");
    assert_eq!(flight.response_header("x-penstock-would").as_deref(), Some("path"));
    assert_eq!(flight.facts().would.as_deref(), Some("path"));
    let labels = ["path", "none"].map(str::to_owned).to_vec();
    assert_eq!((flight.counted(Metric::Observed), flight.counted(Metric::Requests)), (vec![(labels, 1)], vec![]));
    // What servers read as an API's path is counted like one.
    let flight = send(&mut proxy, "POST", "/v1/%63hat/completions", &[]);
    assert_eq!(fate(&flight), 1);
    assert_eq!(flight.counted(Metric::Observed).len(), 1);
}

#[test]
fn the_first_plugin_in_a_row_decides() {
    let closed = format!(r#"{{{MODELS},"paths":{{"mode":"observe"}}}}"#);
    let mut first = Proxy::with(&closed, Plugin::TokenCounter);
    let flight = send(&mut first, "POST", "/invocations", &[]);
    let mut second = Proxy::with(&format!("{{{MODELS}}}"), Plugin::TenantBucket);
    let mut next = second.open();
    next.props = flight.props;
    let head = vec![(":method".into(), b"POST".to_vec()), (":path".into(), b"/invocations".to_vec())];
    second.tell(&mut next, Event::RequestHead { headers: &head, end: false });
    assert_eq!((fate(&next), next.seen.len()), (0, 0));
}

#[test]
fn on_a_shared_gateway_the_virtual_host_decides_and_not_the_host_header() {
    let config = format!(r#"{{{MODELS},"hosts":["LLM.example.com"]}}"#);
    for (chosen, asked, ours) in [
        (Some("llm.example.com:80"), "llm.example.com", true),
        (Some("llm.example.com:80"), "anything", true),
        (Some("shop.example.com:80"), "shop.example.com", false),
        // The operator is told that this virtual host has another name.
        (Some("models"), "llm.example.com", true),
        (Some("models"), "else", true),
        (Some("*:80"), "else", true),
        (Some("*.shop.com:80"), "a.shop.com", false),
        (None, "llm.example.com", true),
        (None, "LLM.Example.Com.:8080", true),
        (None, "shop.example.com", false),
        (None, "a@llm.example.com", true),
        (None, "[::1]:80", false),
    ] {
        let mut proxy = Proxy::new(&config);
        let mut flight = proxy.open();
        if let Some(chosen) = chosen {
            flight.props.0.insert("xds.virtual_host_name".into(), chosen.into());
        }
        let head = [(":method", "POST"), (":path", "/invocations"), (":authority", asked), ("x-penstock-version", "x")];
        let head = head.map(|(name, value)| (name.to_owned(), value.as_bytes().to_vec())).to_vec();
        proxy.tell(&mut flight, Event::RequestHead { headers: &head, end: false });
        assert_eq!(fate(&flight), if ours { 404 } else { 0 }, "{chosen:?} {asked}");
        assert!(ours || flight.seen.is_empty(), "it passes untouched");
        let told = flight.seen.iter().any(|effect| matches!(effect, Effect::Log(..)));
        assert_eq!(told, ours && chosen.is_some_and(|name| matches!(name, "models" | "*:80")));
    }
    // Who names virtual hosts leaves nothing open.
    let named = format!(r#"{{{MODELS},"hosts":["models","eg/llm/http/llm_example_com"]}}"#);
    for (chosen, ours) in [("models", true), ("eg/llm/http/llm_example_com", true), ("shop", false), ("*", false)] {
        let mut proxy = Proxy::new(&named);
        let mut flight = proxy.open();
        flight.props.0.insert("xds.virtual_host_name".into(), chosen.into());
        let head = [(":method", "POST"), (":path", "/invocations"), (":authority", "evil")];
        let head = head.map(|(name, value)| (name.to_owned(), value.as_bytes().to_vec())).to_vec();
        proxy.tell(&mut flight, Event::RequestHead { headers: &head, end: false });
        assert_eq!(fate(&flight), if ours { 404 } else { 0 }, "{chosen}");
    }
}

#[test]
fn clients_give_the_proxy_no_orders() {
    let orders = [
        "x-envoy-retry-on",
        "x-envoy-retry-grpc-on",
        "x-envoy-max-retries",
        "x-envoy-retriable-status-codes",
        "x-envoy-retriable-header-names",
        "x-envoy-hedge-on-per-try-timeout",
        "x-envoy-upstream-rq-timeout-ms",
        "x-envoy-upstream-rq-per-try-timeout-ms",
        "x-envoy-upstream-rq-timeout-alt-response",
        "x-envoy-upstream-stream-duration-ms",
        "x-envoy-upstream-alt-stat-name",
        "x-envoy-expected-rq-timeout-ms",
    ];
    let words =
        ["x-envoy-external-address", "x-envoy-original-path", "x-envoy-internal", "x-envoy-decorator-operation"];
    let headers: Vec<_> = orders.iter().chain(&words).map(|name| (*name, "5")).collect();
    let dropped = |flight: &Flight| {
        let names = flight.seen.iter().filter_map(|effect| match effect {
            Effect::DropRequestHeader(name) if name.starts_with("x-envoy-") => Some(name.clone()),
            _ => None,
        });
        names.collect::<Vec<_>>()
    };
    for (method, path, expected) in
        [("POST", "/v1/chat/completions", 1), ("GET", "/version", 0), ("POST", "/rerank", 0)]
    {
        let mut proxy = Proxy::new(&format!(r#"{{{MODELS},"paths":{{"allow":["/rerank"]}}}}"#));
        let flight = send(&mut proxy, method, path, &headers);
        assert_eq!((fate(&flight), dropped(&flight)), (expected, orders.map(str::to_owned).to_vec()), "{path}");
        // A later plugin of the row takes nothing: what is there by then is the proxy's own.
        let mut later = Proxy::with(&format!("{{{MODELS}}}"), Plugin::TenantBucket);
        let mut second = later.open();
        second
            .props
            .0
            .insert("filter_state.wasm.penstock.exchange".into(), br#"{"model":"chat","tenant":"a"}"#.to_vec());
        let all = [(":method", "POST"), (":path", "/v1/chat/completions"), ("x-envoy-retry-on", "5xx")];
        let all: Headers = all.map(|(name, value)| (name.to_owned(), value.as_bytes().to_vec())).to_vec();
        later.tell(&mut second, Event::RequestHead { headers: &all, end: false });
        assert_eq!(dropped(&second), [""; 0]);
    }
}
