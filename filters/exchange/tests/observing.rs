//! `mode: observe`: what would be refused goes on, is told and counted, and is not charged.

mod sim;

use penstock_exchange::Metric;
use sim::Proxy;

const CHAT: &str = r#"{"model":"chat","max_tokens":10,"messages":[{"role":"user","content":"Hello, world"}]}"#;
const ANSWER: &str = r#"{"usage":{"prompt_tokens":10,"completion_tokens":10}}"#;

#[test]
fn a_limit_that_observes_is_not_charged_what_it_would_have_refused() {
    let config = |mode: &str| {
        format!(
            r#"{{"models":[{{"name":"chat"}}],
            "limits":[{{"name":"seen","tokens":30,"every":"1h","mode":"{mode}"}},{{"name":"held","tokens":50,"every":"1h"}}]}}"#
        )
    };
    let mut proxy = Proxy::new(&config("observe"));
    for would in [None, Some("limited; limit=seen")] {
        let mut flight = proxy.chat(&[], CHAT);
        assert!(flight.went());
        assert_eq!(flight.facts().would.as_deref(), would);
        let counted = flight.counted(Metric::Observed);
        assert_eq!(counted.len(), usize::from(would.is_some()));
        proxy.answer(&mut flight, 200, ANSWER);
        assert_eq!(flight.response_header("x-penstock-would").as_deref(), would);
        // The limit that is tightest is told, and that is the one that holds.
        assert!(flight.response_header("x-ratelimit-remaining-tokens").is_some());
    }
    let refused = proxy.chat(&[], CHAT);
    let (status, headers, _) = refused.reply().unwrap();
    assert_eq!((status, headers["x-penstock-limit"].as_str()), (429, "held"));
    let labels = ["chat", "other", "limited", "held"].map(str::to_owned).to_vec();
    assert_eq!(refused.counted(Metric::Refused), [(labels, 1)]);
    let mut enforced = Proxy::new(&config("enforce"));
    assert!(enforced.chat(&[], CHAT).went());
    assert_eq!(enforced.chat(&[], CHAT).reply().unwrap().0, 429);
}

#[test]
fn a_ceiling_that_observes_sheds_nothing_and_makes_nobody_wait() {
    let config = r#"{"models":[{"name":"chat","pending":{"ceiling":30,"mode":"observe"}}]}"#;
    let mut proxy = Proxy::new(config);
    assert_eq!(proxy.chat(&[], CHAT).facts().would, None);
    let second = proxy.chat(&[], CHAT);
    assert!(second.went());
    assert_eq!(second.facts().would.as_deref(), Some("shed"));
    assert!(!proxy.store.values.contains_key("penstock/wants/chat"));
}

/// However many tenants want a model, those that have no row of their own in its list weigh what they weigh, and no more with time.
#[test]
fn many_who_wait_weigh_what_they_weigh() {
    let tenants: Vec<String> = (0..1000).map(|i| format!(r#""t{i}":{{}}"#)).collect();
    let config = format!(
        r#"{{"tenant":{{"from":[{{"jwt":"org"}}]}},"tenants":{{{}}},"models":[{{"name":"chat","output":{{"expect":800}},"pending":{{"ceiling":1000}}}}]}}"#,
        tenants.join(",")
    );
    let mut proxy = Proxy::new(&config);
    let body = CHAT.replace("10,", "800,");
    let ask = |proxy: &mut Proxy, tenant: &str| {
        let mut flight = proxy.open();
        let claim = "metadata.filter_metadata.envoy.filters.http.jwt_authn.jwt_payload.org";
        flight.props.0.insert(claim.to_owned(), tenant.as_bytes().to_vec());
        proxy.send(&mut flight, &body);
        flight
    };
    let full = ask(&mut proxy, "t0");
    assert!(full.went());
    for round in 0..3 {
        for i in 1..1000 {
            let flight = ask(&mut proxy, &format!("t{i}"));
            assert!(!flight.went(), "{round} {i} {:?}", flight.facts());
        }
        let page = &proxy.store.values["penstock/wants/chat"];
        let weights: u32 =
            page.chunks_exact(20).map(|entry| u32::from_le_bytes(entry[8..12].try_into().unwrap())).sum();
        assert!((999..=1001).contains(&weights), "{round}: {weights}");
    }
}
