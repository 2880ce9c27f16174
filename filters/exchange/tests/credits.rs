//! Session credits and saturation, with simulated time.

mod sim;

use penstock_exchange::{Config, Effect, Metric, Outcome, Plugin, Worker};
use sim::{Flight, Proxy, SECOND};

const CHAT: &str = r#"{"model":"chat","messages":[{"role":"user","content":"Hello, world"}]}"#;
const USAGE: &str = r#"{"choices":[{"message":{"content":"Hi"}}],"usage":{"prompt_tokens":10,"completion_tokens":20}}"#;

fn session(credit: &str) -> Proxy {
    Proxy::new(&format!(
        r#"{{"tenant":{{"from":[{{"header":"x-api-key","trusted":true}}],"anonymous":"allow"}},"models":[{{"name":"chat","output":{{"expect":50}}}}],
        "limits":[{{"name":"agent","per":["tenant",{{"header":"x-session-id"}}],"session":{credit}}}]}}"#
    ))
}

const AGENT: [(&str, &str); 2] = [("x-api-key", "acme"), ("x-session-id", "one")];

#[test]
fn a_session_winds_down_and_ends() {
    let mut proxy = session(r#"{"tokens":200000,"calls":3,"wallClock":"10m"}"#);
    for left in [2, 1, 0] {
        let mut flight = proxy.chat(&AGENT, CHAT);
        proxy.answer(&mut flight, 200, USAGE);
        assert_eq!(flight.response_header("x-penstock-session-remaining-calls"), Some(left.to_string()));
        assert_eq!(flight.response_header("x-penstock-session-remaining-seconds").as_deref(), Some("600"));
        // 10 + 50 are reserved while the answer is on its way, 30 stay.
        let tokens = 200_000 - 60 - 30 * (2 - left);
        assert_eq!(flight.response_header("x-penstock-session-remaining-tokens"), Some(tokens.to_string()));
        let last = flight.response_header("x-penstock-session-final");
        assert_eq!(last.as_deref(), (left == 0).then_some("true"));
    }
    let (status, headers, body) = proxy.chat(&AGENT, CHAT).reply().unwrap();
    assert_eq!((status, headers["x-penstock-limit"].as_str()), (429, "agent"));
    // No time brings it back, and the SDKs are told so.
    assert!(headers["x-should-retry"] == "false" && !headers.contains_key("retry-after"));
    assert!(body["error"]["message"].as_str().unwrap().contains("all its calls are made"), "{body}");
    proxy.now += 3600 * SECOND;
    assert!(!proxy.chat(&AGENT, CHAT).went());
    // Another session has its own, and a caller without one is none.
    assert!(proxy.chat(&[("x-api-key", "acme"), ("x-session-id", "two")], CHAT).went());
    for _ in 0..5 {
        assert!(proxy.chat(&[("x-api-key", "acme")], CHAT).went());
    }
}

#[test]
fn tokens_tool_calls_and_time_end_it_too() {
    let mut proxy = session(r#"{"tokens":100}"#);
    let mut flight = proxy.chat(&AGENT, CHAT);
    proxy.answer(&mut flight, 200, r#"{"usage":{"prompt_tokens":10,"completion_tokens":85}}"#);
    // 5 are left and the prompt needs 10.
    assert_eq!(proxy.chat(&AGENT, CHAT).reply().unwrap().0, 429);

    let mut proxy = session(r#"{"toolCalls":2}"#);
    let call = r#"{"id":"1","function":{"name":"f","arguments":"{}"}}"#;
    let tools =
        format!(r#"{{"choices":[{{"message":{{"tool_calls":[{call},{call}]}}}}],"usage":{{"prompt_tokens":1}}}}"#);
    let mut flight = proxy.chat(&AGENT, CHAT);
    proxy.answer(&mut flight, 200, &tools);
    assert_eq!(flight.response_header("x-penstock-session-remaining-tool-calls").as_deref(), Some("2"));
    assert_eq!(proxy.chat(&AGENT, CHAT).reply().unwrap().0, 429);

    let mut proxy = session(r#"{"wallClock":"10m"}"#);
    assert!(proxy.chat(&AGENT, CHAT).went());
    proxy.now += 599 * SECOND;
    assert!(proxy.chat(&AGENT, CHAT).went());
    proxy.now += SECOND;
    assert!(!proxy.chat(&AGENT, CHAT).went());
}

#[test]
fn what_failed_or_was_refused_by_another_limit_takes_nothing_from_it() {
    let mut proxy = session(r#"{"calls":2}"#);
    for _ in 0..5 {
        let mut flight = proxy.chat(&AGENT, CHAT);
        assert!(flight.went());
        proxy.answer(&mut flight, 503, "{}");
    }
    let config = r#"{"models":[{"name":"chat"}],"limits":[
        {"name":"agent","per":[{"header":"x-session-id"}],"session":{"calls":2}},
        {"name":"tpm","tokens":300,"every":"1h"}]}"#;
    let mut proxy = Proxy::new(config);
    let large = CHAT.replace("]}", r#"],"max_tokens":900}"#);
    for _ in 0..5 {
        assert_eq!(proxy.chat(&AGENT, &large).reply().unwrap().0, 413);
    }
    for _ in 0..2 {
        assert!(proxy.chat(&AGENT, &CHAT.replace("]}", r#"],"max_tokens":1}"#)).went());
    }
}

#[test]
fn a_million_sessions_and_tenants_do_not_grow_the_memory() {
    let config = r#"{"models":[{"name":"chat"}],"limits":[
        {"name":"agent","per":[{"header":"x-session-id"}],"session":{"calls":2}},
        {"name":"tpm","per":[{"header":"x-session-id"}],"tokens":1000000,"every":"1s"},
        {"name":"streams","per":[{"header":"x-session-id"}],"concurrent":4}]}"#;
    let mut proxy = Proxy::new(config);
    // As many as a debug build does in some seconds; the bound is reached long before.
    let (mut most, mut refused) = (0, 0);
    for i in 0..1_000_000 {
        // A body is parsed only so often; what is under test is the state of the limits.
        if i % 4 == 0 {
            proxy.now += SECOND / 1000;
        }
        let mut flight =
            proxy.chat(&[("x-session-id", &i.to_string())], r#"{"model":"chat","prompt":1,"messages":[]}"#);
        refused += u64::from(!flight.went());
        proxy.answer(&mut flight, 200, r#"{"usage":{"prompt_tokens":3,"completion_tokens":1}}"#);
        if i % 10_000 == 0 {
            most = most.max(proxy.store.values.values().map(Vec::len).sum::<usize>());
        }
    }
    let bytes: usize = proxy.store.values.values().map(Vec::len).sum();
    println!("{bytes} bytes after a million callers, {most} at most");
    // 4,096 pages of 64 accounts of 40 bytes, and next to nothing for buckets that have filled up and places that were left.
    assert!(bytes.max(most) < 4096 * 64 * 40 + (2 << 20), "{bytes}");
    assert_eq!(refused, 0);
}

const FULL: &str = r#"{"tenant":{"from":[{"header":"x-api-key","trusted":true}],"anonymous":"allow"},
    "tenants":{"acme":{"weight":4},"low":{"priority":"low"},"high":{"priority":"high"}},
    "models":[{"name":"chat","output":{"expect":90},"pending":{"ceiling":1000,"whenFull":"shed"}},
        {"name":"big","output":{"expect":90},"pending":{"ceiling":300,"whenFull":"fallback"},"fallback":"small",
         "versions":[{"name":"v","weight":1,"model":"big-r1"}]},
        {"name":"small","output":{"expect":90,"max":95},"pending":{"ceiling":300},"versions":[{"name":"s","weight":1,"model":"small-r1"}]}],
    "limits":[{"name":"tpm","per":["model"],"tokens":100000,"every":"1h"}]}"#;

/// Sends until one is refused.
fn fill(proxy: &mut Proxy, key: &str, body: &str) -> (Vec<Flight>, Flight) {
    let mut flights = Vec::new();
    loop {
        let flight = proxy.chat(&[("x-api-key", key)], body);
        if !flight.went() {
            return (flights, flight);
        }
        flights.push(flight);
        assert!(flights.len() < 1000);
    }
}

#[test]
fn above_the_ceiling_requests_are_shed_and_charged_nothing() {
    let mut proxy = Proxy::new(FULL);
    // 100 tokens each: one tenant alone may hold eight tenths.
    let (mut flights, shed) = fill(&mut proxy, "acme", CHAT);
    assert_eq!(flights.len(), 8);
    let (status, headers, body) = shed.reply().unwrap();
    assert_eq!((status, headers["retry-after"].as_str()), (503, "2"));
    assert!(body["error"]["message"].as_str().unwrap().contains("\"chat\" is saturated"), "{body}");
    let mut shed = shed;
    proxy.close(&mut shed);
    assert_eq!(shed.facts().outcome, Some(Outcome::Shed));
    // Another tenant still gets in, one of low priority does not, one of high priority up to the ceiling.
    assert!(!proxy.chat(&[("x-api-key", "low")], CHAT).went());
    assert!(proxy.chat(&[("x-api-key", "light")], &CHAT.replace("]}", r#"],"max_tokens":10}"#)).went());
    assert!(proxy.chat(&[("x-api-key", "high")], CHAT).went());
    assert!(!proxy.chat(&[("x-api-key", "high")], CHAT).went());
    let mut last = flights.pop().unwrap();
    proxy.answer(&mut last, 200, USAGE);
    proxy.gauges();
    assert!(proxy.chat(&[("x-api-key", "high")], CHAT).went());
    // Eight of 100, of which one gave 70 back, one of 20, two of 100: what was shed was charged nowhere.
    let mut next = proxy.chat(&[("x-api-key", "high")], r#"{"model":"chat","messages":[],"max_tokens":1}"#);
    proxy.answer(&mut next, 200, USAGE);
    let left = 100_000 - (800 - 70 + 20 + 200) - 4;
    assert_eq!(next.response_header("x-ratelimit-remaining-tokens"), Some(left.to_string()));
}

#[test]
fn workers_see_what_others_hold_and_forget_those_that_died() {
    let mut proxy = Proxy::new(FULL);
    let config = || Config::parse(FULL.as_bytes()).unwrap();
    let (flights, _) = fill(&mut proxy, "acme", CHAT);
    let other = Worker::new(config(), Plugin::Penstock, [70, 80, 90], &mut proxy.store);
    let first = std::mem::replace(&mut proxy.worker, other);
    assert!(!proxy.chat(&[("x-api-key", "acme")], CHAT).went(), "the other worker does not know");
    drop((first, flights));
    proxy.now += 4 * SECOND;
    assert!(proxy.chat(&[("x-api-key", "acme")], CHAT).went());
}

#[test]
fn a_full_model_falls_back_to_a_smaller_one_and_then_sheds() {
    let mut proxy = Proxy::new(FULL);
    let big = CHAT.replace("chat", "big");
    let (flights, shed) = fill(&mut proxy, "acme", &big);
    assert_eq!(shed.reply().unwrap().0, 503);
    let models: Vec<String> = flights.iter().map(|flight| flight.facts().model).collect();
    assert_eq!(models, ["big", "big", "small", "small"]);
    let mut fallen = flights.into_iter().nth(2).unwrap();
    let splices = fallen.seen.iter().find_map(|effect| match effect {
        Effect::Splice(splices) => Some(splices.clone()),
        _ => None,
    });
    let sent = String::from_utf8(penstock_dialects::apply(big.as_bytes(), splices.unwrap())).unwrap();
    assert_eq!(sent, big.replace("{\"model\":\"big\"", "{\"max_tokens\":95,\"model\":\"small-r1\""));
    proxy.answer(&mut fallen, 200, USAGE);
    assert_eq!(fallen.response_header("x-penstock-fallback").as_deref(), Some("small"));
    assert_eq!(fallen.counted(Metric::Requests)[0].0[0], "small");
}

#[test]
fn fallbacks_that_lead_nowhere_are_refused_at_load() {
    for (config, said) in [
        (r#"{"models":[{"name":"a","pending":{"whenFull":"fallback"}}]}"#, "models[0].fallback: missing"),
        (
            r#"{"models":[{"name":"a","pending":{"whenFull":"fallback"},"fallback":"b"}]}"#,
            "\"b\" is not a configured model",
        ),
        (r#"{"models":[{"name":"a","pending":{"whenFull":"fallback"},"fallback":"a"}]}"#, "leads back"),
        (r#"{"models":[{"name":"a","media":{"file":0}}]}"#, "models[0].media.file: 0 tokens"),
        (r#"{"models":[{"name":"a","pending":{"ceiling":0}}]}"#, "models[0].pending.ceiling: 0 tokens"),
        (r#"{"limits":[{"name":"s","session":{}}]}"#, "limits[0].session: nothing is limited"),
        (r#"{"limits":[{"name":"s","session":{"calls":0}}]}"#, "limits[0].session.calls: 0 admits nobody"),
    ] {
        let errors = Config::parse(config.as_bytes()).unwrap_err().to_string();
        assert!(errors.contains(said), "{config}: {errors}");
    }
}

/// Two workers, a model that works off 4,000 tokens in a tenth of a second, three tenants that want more than there is, and one that does
/// not: measured are the tokens that each has pending.
#[test]
fn greedy_tenants_get_what_they_weigh_and_a_light_one_is_never_refused() {
    const CONFIG: &str = r#"{"tenant":{"from":[{"header":"x-api-key","trusted":true}],"anonymous":"allow"},
        "tenants":{"four":{"weight":4},"two":{"weight":2},"one":{"weight":1},"light":{}},
        "models":[{"name":"chat","pending":{"ceiling":100000}}]}"#;
    const GREEDY: [(&str, u64); 3] = [("four", 4), ("two", 2), ("one", 1)];
    let mut proxy = Proxy::new(CONFIG);
    let mut other =
        Worker::new(Config::parse(CONFIG.as_bytes()).unwrap(), Plugin::Penstock, [70, 80, 90], &mut proxy.store);
    let mut seed = 1u64;
    let mut draw = |n: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (seed >> 33) % n
    };
    // Who, how much of it is left, at which worker, and the request.
    let mut queue: Vec<(&str, u64, usize, Flight)> = Vec::new();
    let (mut active, mut sums, mut refused) = (0, [0u64; 3], 0);
    for step in 0..1500u64 {
        proxy.now += SECOND / 10;
        for ask in 0..24 {
            let (tenant, output) = match ask {
                0 if step % 3 == 0 => ("light", 500),
                0 => continue,
                // The first has the machine to itself to begin with.
                _ if step < 50 => ("four", 200 + draw(800)),
                _ => (GREEDY[draw(3) as usize].0, 200 + draw(800)),
            };
            if ask % 2 == 0 {
                std::mem::swap(&mut proxy.worker, &mut other);
                active = 1 - active;
            }
            let body = format!(r#"{{"model":"chat","messages":[],"max_tokens":{output}}}"#);
            let mut flight = proxy.chat(&[("x-api-key", tenant)], &body);
            if flight.went() {
                queue.push((tenant, output, active, flight));
            } else {
                assert_ne!(tenant, "light", "refused in step {step}");
                refused += 1;
                proxy.close(&mut flight);
            }
        }
        // Continuous batching: everybody in the queue gets on.
        let each = 4000 / (queue.len() as u64).max(1);
        let mut open = Vec::new();
        for (tenant, left, at, mut flight) in queue {
            if left > each {
                open.push((tenant, left - each, at, flight));
                continue;
            }
            if at != active {
                std::mem::swap(&mut proxy.worker, &mut other);
                active = at;
            }
            proxy.answer(&mut flight, 200, USAGE);
        }
        queue = open;
        if step % 5 == 0 {
            for _ in 0..2 {
                proxy.gauges();
                std::mem::swap(&mut proxy.worker, &mut other);
            }
        }
        if step > 400 {
            for (sum, (name, _)) in sums.iter_mut().zip(GREEDY) {
                *sum += queue
                    .iter()
                    .filter(|(tenant, ..)| *tenant == name)
                    .map(|(.., flight)| flight.facts().expected_output.0)
                    .sum::<u64>();
            }
        }
    }
    let all: u64 = sums.iter().sum();
    for (sum, (name, weight)) in sums.into_iter().zip(GREEDY) {
        let fair = all * weight / 7;
        assert!(sum.abs_diff(fair) * 10 <= fair, "{name} has {sum} pending, fair is {fair}; {refused} were refused");
    }
}

/// A prompt beyond every ceiling is refused for good, and one for which a fallback has room is served there.
#[test]
fn a_prompt_that_never_has_room_is_told_so() {
    let config = |tokens: u64, full: &str| {
        format!(
            r#"{{"models":[{{"name":"chat","output":{{"expect":10}},"pending":{{"ceiling":50,{full}}},
            {{"name":"large","output":{{"expect":10}},"pending":{{"ceiling":90}}}}],
            "limits":[{{"name":"all","tokens":{tokens},"every":"1000h"}}]}}"#
        )
    };
    let long = |tokens: usize| CHAT.replace("Hello, world", &"hello ".repeat(tokens));
    let status = |proxy: &mut Proxy, tokens: usize| proxy.chat(&[], &long(tokens)).reply().map(|(status, ..)| status);
    let mut proxy = Proxy::new(&config(200, r#""whenFull":"shed"}"#));
    let (told, headers, body) = proxy.chat(&[], &long(60)).reply().unwrap();
    assert_eq!((told, headers.get("retry-after")), (413, None), "{body}");
    assert!(body["error"]["message"].as_str().unwrap().contains("no more than 50 may be pending"), "{body}");
    // One that has room, one that has not now, and the first again.
    assert_eq!([30, 30, 60].map(|tokens| status(&mut proxy, tokens)), [None, Some(503), Some(413)]);
    let mut proxy = Proxy::new(&config(4000, r#""whenFull":"fallback"},"fallback":"large""#));
    let served = proxy.chat(&[], &long(60));
    assert!(served.went(), "{:?}", served.reply());
    assert_eq!(served.facts().model, "large");
    assert_eq!([60, 100].map(|tokens| status(&mut proxy, tokens)), [Some(503), Some(413)]);
}

/// Sixty-four names made up on the way, each wanting more than there is, take nothing from a tenant below its share.
#[test]
fn who_could_not_come_in_anyway_takes_no_share() {
    const CONFIG: &str = r#"{"tenant":{"from":[{"header":"x-api-key","trusted":true}],"anonymous":"allow"},"tenants":{"greedy":{},"honest":{}},
        "models":[{"name":"chat","output":{"expect":90},"pending":{"ceiling":1000,"whenFull":"shed"}}],
        "limits":[{"name":"each","per":["tenant"],"tokens":100000,"every":"1h"}]}"#;
    for (attack, body) in [
        ("larger than the ceiling", CHAT.replace("]}", r#"],"max_tokens":1000000}"#)),
        ("larger than the limit", CHAT.replace("]}", r#"],"max_tokens":90,"n":2000}"#)),
        ("many names", CHAT.to_owned()),
    ] {
        let mut proxy = Proxy::new(CONFIG);
        let (_flights, _) = fill(&mut proxy, "greedy", CHAT);
        for i in 0..64 {
            let mut shed = proxy.chat(&[("x-api-key", &format!("made-up-{i}"))], &body);
            assert!(attack == "many names" || !shed.went());
            if !shed.went() {
                proxy.close(&mut shed);
            }
        }
        let small = CHAT.replace("]}", r#"],"max_tokens":10}"#);
        assert!(proxy.chat(&[("x-api-key", "honest")], &small).went(), "{attack}");
    }
}
