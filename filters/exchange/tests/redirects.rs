//! Redirects of servers that the proxy follows.

mod sim;

use penstock_exchange::{Event, Metric, Outcome};
use sim::{Proxy, SECOND};

const CHAT: &str = r#"{"model":"chat","messages":[{"role":"user","content":"Hello, world"}]}"#;

/// A server's redirect that the proxy follows makes two streams of one request. It is charged, counted and answered like one.
#[test]
fn a_second_pass_goes_on_with_the_first() {
    let config = r#"{"models":[{"name":"chat","output":{"max":50},"versions":[{"name":"v1","weight":1,"model":"other-name"}]}],
        "limits":[{"name":"tpm","tokens":1000,"every":"1h"},{"name":"streams","concurrent":1}]}"#;
    let mut proxy = Proxy::new(config);
    for _ in 0..3 {
        let mut first = proxy.chat(&[], CHAT);
        assert!(first.went());
        first.props.0.insert("response.code_details".into(), b"internal_redirect".to_vec());
        proxy.close(&mut first);
        assert_eq!(first.counted(Metric::Requests), []);
        // The place is still held.
        assert!(proxy.chat(&[], CHAT).reply().is_some());
        let mut second = proxy.open();
        second.props.0.extend(first.props.0.drain().filter(|(key, _)| key.starts_with("filter_state")));
        let head = vec![(":method".into(), b"GET".to_vec()), (":path".into(), b"/elsewhere".to_vec())];
        assert_eq!(proxy.tell(&mut second, Event::RequestHead { headers: &head, end: false }), []);
        assert!(!second.exchange.is_holding() && !second.exchange.is_foreign());
        proxy.answer(&mut second, 200, r#"{"usage":{"prompt_tokens":10,"completion_tokens":30}}"#);
        assert_eq!(second.response_header("x-penstock-prompt-tokens").as_deref(), Some("10"));
        assert_eq!(second.response_header("x-penstock-version").as_deref(), Some("v1"));
        assert_eq!(second.counted(Metric::Requests).len(), 1);
        assert_eq!(second.facts().outcome, Some(Outcome::Ok));
    }
    let mut last = proxy.chat(&[], CHAT);
    proxy.answer(&mut last, 200, r#"{"usage":{"prompt_tokens":10,"completion_tokens":30}}"#);
    assert_eq!(last.response_header("x-ratelimit-remaining-tokens").as_deref(), Some("820"));
}

/// Where a configuration ends, what waits under it is settled at once.
#[test]
fn what_waits_when_its_configuration_ends_is_settled() {
    let mut proxy = Proxy::new(r#"{"models":[{"name":"chat"}],"limits":[{"name":"streams","concurrent":1}]}"#);
    let mut flight = proxy.chat(&[], CHAT);
    flight.props.0.insert("response.code_details".into(), b"internal_redirect".to_vec());
    proxy.close(&mut flight);
    assert_eq!(proxy.chat(&[], CHAT).reply().unwrap().0, 429);
    proxy.end();
    assert!(proxy.chat(&[], CHAT).went());
}

/// What waits for a second pass that does not come is settled by a tick, and so is one that a filter in front refused.
#[test]
fn a_second_pass_that_does_not_come_is_settled() {
    let config = r#"{"models":[{"name":"chat"}],"limits":[{"name":"streams","concurrent":1}]}"#;
    let mut proxy = Proxy::new(config);
    let redirect = |proxy: &mut Proxy| {
        let mut flight = proxy.chat(&[], CHAT);
        assert!(flight.went());
        flight.props.0.insert("response.code_details".into(), b"internal_redirect".to_vec());
        proxy.close(&mut flight);
        flight
    };
    let pending = |proxy: &mut Proxy| {
        let gauges = proxy.gauges();
        gauges[&(Metric::PendingRequests, vec!["chat".to_owned(), "default".to_owned()])]
    };
    let lost = redirect(&mut proxy);
    assert_eq!((lost.counted(Metric::Requests), pending(&mut proxy)), (vec![], 1));
    assert_eq!(proxy.chat(&[], CHAT).reply().unwrap().0, 429);
    proxy.now += 6 * SECOND;
    assert_eq!((pending(&mut proxy), pending(&mut proxy)), (0, 0));
    // Its facts are the last that were left for its stream.
    let late = redirect(&mut proxy);
    assert!(late.facts().redirected.is_some() && late.facts().outcome.is_none());
    let mut refused = proxy.open();
    refused.props.0.extend(late.props.0.into_iter().filter(|(key, _)| key.starts_with("filter_state")));
    proxy.close(&mut refused);
    assert_eq!(refused.counted(Metric::Requests).len(), 1);
    assert!(proxy.chat(&[], CHAT).went());
}
