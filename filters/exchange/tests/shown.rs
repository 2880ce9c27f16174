//! What is seen of limits before they bind.

mod sim;

use penstock_exchange::Metric;
use sim::{Proxy, SECOND};

const CONFIG: &str = r#"{"tenant":{"from":[{"jwt":"org"}]},"tenants":{"acme":{},"globex":{}},"models":[{"name":"chat"},{"name":"code"}],
    "limits":[{"name":"tpm","per":["tenant","model"],"tokens":600,"every":"1m","burst":1000},
        {"name":"all","tokens":100000,"every":"1h"},{"name":"session","per":[{"header":"x-session"}],"tokens":100000,"every":"1h"}]}"#;

fn ask(proxy: &mut Proxy, tenant: &str, model: &str, max: u64, used: u64) {
    let mut flight = proxy.open();
    let claim = "metadata.filter_metadata.envoy.filters.http.jwt_authn.jwt_payload.org";
    flight.props.0.insert(claim.to_owned(), tenant.as_bytes().to_vec());
    proxy.send(&mut flight, &format!(r#"{{"model":"{model}","max_tokens":{max},"messages":[]}}"#));
    assert!(flight.went(), "{:?}", flight.reply());
    let usage = format!(r#"{{"usage":{{"prompt_tokens":1,"completion_tokens":{}}}}}"#, used - 1);
    proxy.answer(&mut flight, 200, &usage);
}

fn shown(proxy: &mut Proxy, limit: &str, tenant: &str) -> Option<[u64; 3]> {
    proxy.now += SECOND / 2;
    let gauges = proxy.gauges();
    let of = |metric| gauges.get(&(metric, vec![limit.to_owned(), tenant.to_owned()])).copied();
    Some([of(Metric::LimitUsed)?, of(Metric::LimitSize)?, of(Metric::LimitDebt)?])
}

#[test]
fn the_fullest_bucket_of_a_named_tenant_is_shown_until_it_is_empty() {
    let mut proxy = Proxy::new(CONFIG);
    assert_eq!(shown(&mut proxy, "tpm", "acme"), None);
    ask(&mut proxy, "acme", "chat", 100, 100);
    ask(&mut proxy, "acme", "code", 800, 800);
    // Ten come back in a second.
    assert_eq!(shown(&mut proxy, "tpm", "acme"), Some([795, 1000, 0]));
    assert_eq!(shown(&mut proxy, "all", "other").unwrap()[1..], [100_000, 0]);
    ask(&mut proxy, "acme", "chat", 100, 3000);
    let [used, size, debt] = shown(&mut proxy, "tpm", "acme").unwrap();
    assert_eq!((used, size), (1000, 1000));
    assert!((2080..2100).contains(&debt), "{debt}");
    // Who has no name makes no series, and neither does what callers make up.
    for i in 0..10 {
        ask(&mut proxy, &format!("made-up-{i}"), "chat", 100, 100);
    }
    let mut limits: Vec<_> = proxy.gauges().into_keys().filter(|(metric, _)| *metric == Metric::LimitUsed).collect();
    assert!(limits.is_empty(), "one worker tells for all, once in a tick");
    proxy.now += SECOND;
    limits = proxy.gauges().into_keys().filter(|(metric, _)| *metric == Metric::LimitUsed).collect();
    limits.sort_by(|a, b| a.1.cmp(&b.1));
    let labels: Vec<_> = limits.into_iter().map(|(_, labels)| labels.join(" ")).collect();
    assert_eq!(labels, ["all other", "tpm acme"]);
    proxy.now += 3600 * SECOND;
    assert_eq!(shown(&mut proxy, "tpm", "acme"), Some([0, 1000, 0]));
}

/// However many buckets there are, the list is bounded, and those that are empty make room.
#[test]
fn empty_buckets_make_room() {
    let tenants: Vec<String> = (0..1500).map(|i| format!(r#""t{i}":{{}}"#)).collect();
    let config = CONFIG.replace(r#""acme":{}"#, &tenants.join(","));
    let mut proxy = Proxy::new(&config);
    for i in 0..1100 {
        ask(&mut proxy, &format!("t{i}"), "chat", 10, 10);
    }
    let known = |proxy: &Proxy| proxy.store.values["penstock/limits-shown"].len();
    let full = known(&proxy);
    ask(&mut proxy, "t1200", "chat", 10, 10);
    assert_eq!(known(&proxy), full);
    proxy.now += 3600 * SECOND;
    // They are said to be empty, and go.
    assert_eq!(shown(&mut proxy, "tpm", "t7"), Some([0, 1000, 0]));
    assert_eq!(known(&proxy), 0);
    // What a worker has noted it notes anew from time to time.
    for _ in 0..120 {
        shown(&mut proxy, "tpm", "t7");
    }
    ask(&mut proxy, "t7", "chat", 10, 10);
    assert_eq!(shown(&mut proxy, "tpm", "t7"), Some([5, 1000, 0]));
}

/// Where headers cannot wait, which version serves one of several models is not known; which model is asked for is.
#[test]
fn what_is_in_flight_undrawn_is_in_its_own_models_series() {
    let models =
        ["chat", "code"].map(|name| format!(r#"{{"name":"{name}","versions":[{{"name":"stable","weight":1}}]}}"#));
    let mut proxy = Proxy::new(&format!(r#"{{"waitForBody":false,"models":[{}]}}"#, models.join(",")));
    let pending = |proxy: &mut Proxy| {
        let mut rows: Vec<_> =
            proxy.gauges().into_iter().filter(|((metric, _), _)| *metric == Metric::PendingRequests).collect();
        rows.sort_by(|one, other| one.0.1.cmp(&other.0.1));
        rows.into_iter().map(|((_, labels), value)| (labels.join("/"), value)).collect::<Vec<_>>()
    };
    let idle = [("chat/stable".to_owned(), 0), ("code/stable".to_owned(), 0)];
    assert_eq!(pending(&mut proxy), idle);
    let mut flight = proxy.open();
    proxy.send(&mut flight, r#"{"model":"code","messages":[]}"#);
    assert!(flight.went());
    proxy.now += SECOND;
    pending(&mut proxy);
    let row = ("code/default".to_owned(), 1);
    assert!(pending(&mut proxy).contains(&row));
    proxy.answer(&mut flight, 200, "{}");
    proxy.now += SECOND;
    pending(&mut proxy);
    assert!(pending(&mut proxy).contains(&("code/default".to_owned(), 0)));
}

/// Two filters that do the same stand in one chain where a plugin and its successor are both applied: each counts and charges.
#[test]
fn a_filter_behind_another_that_counted_says_so() {
    let mut proxy = Proxy::new(r#"{"models":[{"name":"chat"}]}"#);
    let mut first = proxy.chat(&[], r#"{"model":"chat","messages":[]}"#);
    let mut second = proxy.open();
    second.props.0.insert("filter_state.wasm.penstock.exchange".into(), first.facts().encode());
    proxy.send(&mut second, r#"{"model":"chat","messages":[]}"#);
    for flight in [&mut second, &mut first] {
        proxy.answer(flight, 200, "{}");
    }
    let handling = |label: &str| vec![(vec![label.to_owned()], 1)];
    assert_eq!(first.counted(Metric::Streams), handling("counted"));
    assert_eq!(second.counted(Metric::Streams), handling("again"));
    assert!(second.said().iter().any(|line| line.contains("two Penstock filters")), "{:?}", second.said());
}
