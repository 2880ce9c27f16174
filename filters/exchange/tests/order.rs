//! Which refusal comes first, where several apply: 401 and 403, 404, 400, 413, 429, 503.

mod sim;

use sim::Proxy;

const CONFIG: &str = r#"{"tenant":{"from":[{"jwt":"org"}],"anonymous":"deny"},"tenants":{"late":{"suspended":true},"acme":{}},
    "unknownModel":"refuse","models":[{"name":"chat","output":{"expect":90},"pending":{"ceiling":100}},{"name":"gone","suspended":true}],
    "limits":[{"name":"tpm","per":["tenant"],"tokens":60,"every":"1h"}]}"#;

/// What a request by this tenant is answered.
fn status(proxy: &mut Proxy, tenant: &str, body: &str) -> Option<u32> {
    let mut flight = proxy.open();
    let claim = "metadata.filter_metadata.envoy.filters.http.jwt_authn.jwt_payload.org";
    if !tenant.is_empty() {
        flight.props.0.insert(claim.to_owned(), tenant.as_bytes().to_vec());
    }
    proxy.send(&mut flight, body);
    let status = flight.reply().map(|(status, ..)| status);
    // Stays in flight where it went.
    assert_eq!(status.is_none(), flight.went());
    status
}

#[test]
fn the_first_reason_is_told() {
    let chat = |model: &str, max: u64| format!(r#"{{"model":"{model}","max_tokens":{max},"messages":[]}}"#);
    let mut proxy = Proxy::new(CONFIG);
    // Who asks comes before all that is asked.
    for body in ["{", &chat("made-up", 1), &chat("gone", 1), &chat("chat", 5000)] {
        assert_eq!(status(&mut proxy, "", body), Some(401));
        assert_eq!(status(&mut proxy, "late", body), Some(403));
    }
    assert_eq!(status(&mut proxy, "acme", "{"), Some(400));
    assert_eq!(
        status(&mut proxy, "acme", &chat("gone", 5000)),
        Some(503),
        "a suspended model, whatever is asked of it"
    );
    assert_eq!(status(&mut proxy, "acme", &chat("chat", 5000)), Some(413));
    // A full model: what a limit refuses it refuses first, as waiting for room would be in vain.
    assert_eq!(status(&mut proxy, "other", &chat("chat", 45)), None);
    for _ in 0..20 {
        status(&mut proxy, "one-of-many", &chat("chat", 1));
    }
    assert_eq!(status(&mut proxy, "acme", &chat("chat", 5000)), Some(413));
    assert_eq!(status(&mut proxy, "one-of-many", &chat("chat", 57)), Some(429));
    assert_eq!(status(&mut proxy, "acme", &chat("chat", 40)), Some(503));
}

/// A request that a limit can never hold is told so by whichever limit it is: to come back would be in vain.
#[test]
fn what_never_fits_is_told_before_what_does_not_fit_now() {
    let config = r#"{"models":[{"name":"chat"}],"limits":[{"name":"one","concurrent":1},{"name":"spent","tokens":10,"every":"1h","mode":"observe"},
        {"name":"small","tokens":100,"every":"1h"}]}"#;
    let mut proxy = Proxy::new(config);
    let chat = |max: u64| format!(r#"{{"model":"chat","max_tokens":{max},"messages":[]}}"#);
    assert_eq!(status(&mut proxy, "a", &chat(20)), None);
    assert_eq!(status(&mut proxy, "a", &chat(20)), Some(429));
    assert_eq!(status(&mut proxy, "a", &chat(5000)), Some(413));
}
