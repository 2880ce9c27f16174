//! Answers as servers really send them: what they cost, and what the client sees of them.

mod sim;

use penstock_exchange::Effect;
use sim::Proxy;

const CONFIG: &str = r#"{"models":[{"name":"chat"}]}"#;
const CHAT: &str = r#"{"model":"chat","messages":[{"role":"user","content":"Hello, world"}]}"#;

#[test]
fn servers_are_asked_for_what_can_be_read() {
    let mut proxy = Proxy::new(CONFIG);
    for headers in [&[][..], &[("accept-encoding", "gzip, br")]] {
        let flight = proxy.chat(headers, CHAT);
        let asked = Effect::RequestHeader("accept-encoding", b"identity".to_vec());
        assert!(flight.seen.contains(&asked));
    }
}
