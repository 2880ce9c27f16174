//! How requests end, and what they are charged for it.

mod sim;

use penstock_exchange::{Event, Headers, Outcome};
use sim::{Flight, Proxy, SECOND};

/// 3 for the message, "user" 1, "Hi" 1, 3 for the reply.
const PROMPT: u64 = 8;
const CONFIG: &str =
    r#"{"models":[{"name":"chat","output":{"expect":50}}],"limits":[{"name":"all","tokens":100000,"every":"24h"}]}"#;

fn ask(proxy: &mut Proxy, more: &str) -> Flight {
    proxy.chat(&[], &format!(r#"{{"model":"chat","messages":[{{"role":"user","content":"Hi"}}]{more}}}"#))
}

/// Teaches that a token takes 10 ms.
fn teach(proxy: &mut Proxy) {
    for _ in 0..30 {
        let mut flight = ask(proxy, "");
        proxy.now += SECOND;
        proxy.answer(&mut flight, 200, r#"{"usage":{"prompt_tokens":8,"completion_tokens":100}}"#);
    }
}

/// Not streamed, `max_tokens: 900`, and over after so many milliseconds: what it is charged.
fn left_after(millis: u64, learnt: bool, status: Option<&str>) -> (Option<Outcome>, Option<u64>) {
    let mut proxy = Proxy::new(CONFIG);
    if learnt {
        teach(&mut proxy);
    }
    let mut flight = ask(&mut proxy, r#","max_tokens":900"#);
    proxy.now += millis * SECOND / 1000;
    match status {
        None => {
            let details = b"downstream_remote_disconnect".to_vec();
            flight.props.0.insert("response.code_details".into(), details);
        }
        Some(status) => {
            let headers: Headers = vec![(":status".into(), status.into())];
            proxy.tell(&mut flight, Event::ResponseHead { headers: &headers, end: true });
        }
    }
    proxy.close(&mut flight);
    let facts = flight.facts();
    (facts.outcome, facts.used.map(|used| used.prompt.0 + used.completion.0))
}

#[test]
fn what_nobody_waited_for_is_charged_by_the_time_that_it_took() {
    let abandoned = Some(Outcome::Abandoned);
    assert_eq!(left_after(0, true, None), (abandoned, Some(PROMPT)));
    assert_eq!(left_after(3000, true, None), (abandoned, Some(PROMPT + 300)));
    // At most what was reserved.
    assert_eq!(left_after(60_000, true, None), (abandoned, Some(PROMPT + 900)));
    // Nothing was learnt: 50 tokens a second.
    assert_eq!(left_after(3000, false, None), (abandoned, Some(PROMPT + 150)));
    // The proxy gave up; the server has worked as long.
    assert_eq!(left_after(3000, true, Some("504")), (Some(Outcome::UpstreamError), Some(PROMPT + 300)));
    // A server that refused has not.
    assert_eq!(left_after(3000, true, Some("503")), (Some(Outcome::UpstreamError), None));
}

#[test]
fn of_a_stream_that_is_broken_off_what_was_seen_is_charged() {
    let mut proxy = Proxy::new(CONFIG);
    teach(&mut proxy);
    let mut flight = ask(&mut proxy, r#","max_tokens":900,"stream":true"#);
    let headers: Headers =
        vec![(":status".into(), b"200".to_vec()), ("content-type".into(), b"text/event-stream".to_vec())];
    proxy.tell(&mut flight, Event::ResponseHead { headers: &headers, end: false });
    let event = b"data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hello\"}}]}\n\n";
    proxy.tell(&mut flight, Event::ResponseChunk { bytes: event, end: false });
    proxy.now += 5 * SECOND;
    flight.props.0.insert("response.code_details".into(), b"downstream_remote_disconnect".to_vec());
    proxy.close(&mut flight);
    assert_eq!(flight.facts().used.unwrap().completion.0, 1);
}
