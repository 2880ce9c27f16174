//! What was reserved and not used comes back: all of it, and once.

mod sim;

use sim::{Flight, Process, Proxy, SECOND};

const CHAT: &str = r#"{"model":"chat","max_tokens":50,"messages":[{"role":"user","content":"Hello, world"}]}"#;

fn limited(tokens: u64, burst: u64) -> String {
    format!(
        r#"{{"models":[{{"name":"chat"}}],"limits":[{{"name":"tpm","tokens":{tokens},"every":"1m","burst":{burst}}}]}}"#
    )
}

#[test]
fn what_time_has_given_back_is_not_given_back_again() {
    let mut proxy = Proxy::new(&limited(1000, 1000));
    let slow = CHAT.replace(":50", ":980");
    // A slow stream each minute, between which the bucket fills up again.
    let mut flights: Vec<Flight> = Vec::new();
    for _ in 0..10 {
        let flight = proxy.chat(&[], &slow);
        assert!(flight.went());
        flights.push(flight);
        proxy.now += 60 * SECOND;
    }
    // They end one after the other, with next to no use of what was reserved: that was given back long ago.
    let mut admitted = 0;
    for mut flight in flights {
        proxy.answer(&mut flight, 200, r#"{"usage":{"prompt_tokens":10,"completion_tokens":1}}"#);
        admitted += u32::from(proxy.chat(&[], &slow).went());
    }
    assert_eq!(admitted, 1);
}

/// One worker reads the clock first, and writes last.
#[test]
fn who_writes_later_than_it_read_the_clock_gets_its_refund() {
    // Room for two.
    let mut process = Process::new(&limited(60, 121), 2);
    for _ in 0..10 {
        process.now += 200;
        let mut late = process.on(1, |proxy| proxy.chat(&[], CHAT));
        process.now -= 100;
        let mut early = process.on(0, |proxy| proxy.chat(&[], CHAT));
        assert!(late.went() && early.went(), "{:?}", early.reply());
        process.now += 1000;
        process.on(0, |proxy| proxy.answer(&mut early, 500, "no"));
        process.on(1, |proxy| proxy.answer(&mut late, 500, "no"));
    }
}
