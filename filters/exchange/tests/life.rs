//! A request's life, with simulated time: what is promised to users, without a proxy.

mod sim;

use penstock_exchange::{Effect, Event, Metric, Outcome, Plugin, Worker};
use penstock_units::Tokens;
use sim::{Flight, Proxy, SECOND};

const CHAT: &str = r#"{"model":"chat","messages":[{"role":"user","content":"Hello, world"}]}"#;
/// 3 for the message, "user" 1, "Hello, world" 3, 3 for the reply.
const PROMPT: u64 = 10;
const USAGE: &str = r#"{"choices":[{"message":{"content":"Hi"}}],"usage":{"prompt_tokens":10,"completion_tokens":20}}"#;

fn limited(tokens: u64, burst: u64) -> String {
    format!(
        r#"{{"tenant":{{"from":[{{"header":"x-api-key","trusted":true}}],"anonymous":"allow"}},"tenants":{{"acme":{{"class":"gold"}}}},
        "models":[{{"name":"chat","output":{{"expect":50}},"price":{{"input":1,"output":2}}}}],
        "limits":[{{"name":"tpm","per":["tenant"],"tokens":{tokens},"every":"1m","burst":{burst}}}]}}"#
    )
}

#[test]
fn counts_before_it_lets_go() {
    let mut proxy = Proxy::new(&limited(6000, 1000));
    let mut flight = proxy.chat(&[("x-api-key", "acme")], CHAT);
    assert!(flight.went());
    assert_eq!(flight.facts().prompt_tokens.0, PROMPT);
    proxy.answer(&mut flight, 200, USAGE);
    assert_eq!(flight.response_header("x-penstock-prompt-tokens").as_deref(), Some("10"));
    assert_eq!(flight.facts().outcome, Some(Outcome::Ok));
    let labels = |last: &str| vec!["chat".into(), "default".into(), "acme".into(), last.to_owned()];
    assert_eq!(flight.counted(Metric::Requests), [(labels("ok"), 1)]);
    assert_eq!(flight.counted(Metric::Tokens), [(labels("prompt"), 10), (labels("completion"), 20)]);
    assert_eq!(flight.counted(Metric::Cost), [(labels("")[..3].to_vec(), 50)]);
}

#[test]
fn a_tokenizer_that_is_only_alike_is_learnt_from_reported_usage() {
    let config = r#"{"models":[{"name":"chat","tokenizer":{"like":"o200k_base"}}]}"#;
    let mut proxy = Proxy::new(config);
    let ask = |words: usize| CHAT.replace("Hello, world", &"word ".repeat(words));
    let first = proxy.chat(&[], &ask(100)).facts();
    assert!(first.estimated && first.prompt_tokens.0.abs_diff(107) <= 2, "{first:?}");
    // The server's tokenizer makes 3 tokens of two, and its template costs 20.
    let real = |words: u64| words * 3 / 2 + 20;
    for words in [10u64, 200, 50, 400, 30, 120, 80, 300] {
        let mut flight = proxy.chat(&[], &ask(words as usize));
        let usage = format!(r#"{{"usage":{{"prompt_tokens":{},"completion_tokens":1}}}}"#, real(words));
        proxy.answer(&mut flight, 200, &usage);
    }
    // Another worker of the same process knows it too.
    let heir = Worker::new((*proxy.worker.config).clone(), Plugin::Penstock, [70, 80, 90], &mut proxy.store);
    proxy.worker = heir;
    let learnt = proxy.chat(&[], &ask(150)).facts();
    assert!(learnt.prompt_tokens.0.abs_diff(real(150)) < real(150) / 20, "{learnt:?}");
}

#[test]
fn places_are_held_until_the_end_and_die_with_their_worker() {
    let config = r#"{"models":[{"name":"chat"}],"limits":[{"name":"streams","per":[{"header":"x-team"}],"concurrent":2},
        {"name":"tpm","tokens":1500,"every":"1h"}]}"#;
    let mut proxy = Proxy::new(config);
    let mut one = proxy.chat(&[("x-team", "a")], CHAT);
    let mut two = proxy.chat(&[("x-team", "a")], CHAT);
    let refused = proxy.chat(&[("x-team", "a")], CHAT);
    let (status, headers, _) = refused.reply().unwrap();
    assert_eq!((status, headers["x-penstock-limit"].as_str(), headers["retry-after"].as_str()), (429, "streams", "1"));
    assert!(proxy.chat(&[("x-team", "b")], CHAT).went());
    // A refusal by a later limit gives the place back.
    let large = CHAT.replace("]}", r#"],"max_tokens":900}"#);
    assert!(!proxy.chat(&[("x-team", "c")], &large).went());
    proxy.answer(&mut one, 200, USAGE);
    assert!(proxy.chat(&[("x-team", "a")], CHAT).went());
    // As long as the worker beats, its places are held.
    for _ in 0..20 {
        proxy.now += SECOND;
        proxy.gauges();
    }
    assert!(!proxy.chat(&[("x-team", "a")], CHAT).went());
    // It dies; after a silence its places are free.
    proxy.worker = Worker::new((*proxy.worker.config).clone(), Plugin::Penstock, [70, 80, 90], &mut proxy.store);
    assert!(!proxy.chat(&[("x-team", "a")], CHAT).went());
    proxy.now += 4 * SECOND;
    assert!(proxy.chat(&[("x-team", "a")], CHAT).went());
    proxy.close(&mut two);
}

#[test]
fn the_output_to_expect_is_learnt() {
    let mut proxy = Proxy::new(&limited(1_000_000, 1_000_000));
    assert_eq!(proxy.chat(&[], CHAT).facts().expected_output.0, 50);
    for _ in 0..40 {
        let mut flight = proxy.chat(&[], CHAT);
        proxy.answer(&mut flight, 200, r#"{"usage":{"prompt_tokens":10,"completion_tokens":700}}"#);
    }
    let learnt = proxy.chat(&[], CHAT).facts().expected_output.0;
    assert!((700..=900).contains(&learnt), "{learnt}");
    // A client's own ceiling bounds it, and is what is reserved.
    let facts = proxy.chat(&[], &CHAT.replace("]}", r#"],"max_tokens":30,"n":2}"#)).facts();
    assert_eq!((facts.expected_output.0, facts.max_output), (60, Some(Tokens(60))));
}

#[test]
fn tenants_and_models_can_be_suspended() {
    let config = r#"{"tenant":{"from":[{"header":"x-api-key","trusted":true}],"anonymous":"allow"},"tenants":{"acme":{"suspended":true}},
        "models":[{"name":"chat"},{"name":"old","suspended":true}]}"#;
    let mut proxy = Proxy::new(config);
    assert_eq!(proxy.chat(&[("x-api-key", "acme")], CHAT).reply().unwrap().0, 403);
    assert!(proxy.chat(&[("x-api-key", "else")], CHAT).went());
    assert_eq!(proxy.chat(&[], &CHAT.replace("chat", "old")).reply().unwrap().0, 503);
}

#[test]
fn usage_is_asked_for_and_hidden_from_who_did_not_ask() {
    let mut proxy = Proxy::new(r#"{"models":[{"name":"chat","output":{"max":100}}]}"#);
    let head = vec![(":status".into(), b"200".to_vec()), ("content-type".into(), b"text/event-stream".to_vec())];
    let text = "data: {\"choices\":[{\"delta\":{\"content\":\"one\"}}]}\n\n";
    let usage = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":10,\"completion_tokens\":20}}\n\n";
    let done = "data: [DONE]\n\n";
    let stream = [text, usage, done].concat();
    for (asks, seen) in [("", [text, done].concat()), (r#","stream_options":{"include_usage":true}"#, stream.clone())] {
        let body = CHAT.replace("]}", &format!(r#"],"stream":true,"max_tokens":9{asks}}}"#));
        let mut flight = proxy.chat(&[], &body);
        let sent = flight.seen.iter().find_map(|effect| match effect {
            Effect::Splice(splices) => Some(penstock_dialects::apply(body.as_bytes(), splices.clone())),
            _ => None,
        });
        let sent: serde_json::Value = serde_json::from_slice(&sent.unwrap_or(body.into_bytes())).unwrap();
        assert_eq!((sent["stream_options"]["include_usage"].as_bool(), &sent["max_tokens"]), (Some(true), &9.into()));
        proxy.tell(&mut flight, Event::ResponseHead { headers: &head, end: false });
        let mut got = Vec::new();
        let pieces: Vec<&[u8]> = stream.as_bytes().chunks(11).collect();
        for (i, piece) in pieces.iter().enumerate() {
            let effects = proxy.tell(&mut flight, Event::ResponseChunk { bytes: piece, end: i + 1 == pieces.len() });
            let bytes = effects.into_iter().find_map(|effect| match effect {
                Effect::ResponseBytes(bytes) => Some(bytes),
                _ => None,
            });
            got.extend(bytes.unwrap_or_else(|| piece.to_vec()));
        }
        proxy.close(&mut flight);
        assert_eq!(String::from_utf8(got).unwrap(), seen);
        assert_eq!(flight.facts().used.unwrap().completion.0, 20);
        assert_eq!(flight.response_header("x-penstock-max-tokens"), None);
    }
    let mut flight = proxy.chat(&[], CHAT);
    proxy.answer(&mut flight, 200, USAGE);
    assert_eq!(flight.response_header("x-penstock-max-tokens").as_deref(), Some("100"));
}

#[test]
fn tools_images_and_long_texts_are_estimated() {
    let mut proxy = Proxy::new(r#"{"models":[{"name":"chat"}],"countBytesMax":1000}"#);
    let tools = r#"],"tools":[{"type":"function","function":{"name":"now","description":"The time."}}]}"#;
    let facts = proxy.chat(&[], &CHAT.replace("]}", tools)).facts();
    // 7 for the function, "now:The time" 3, 12 for the end.
    assert_eq!((facts.prompt_tokens.0, facts.estimated), (PROMPT + 22, true));
    let image = r#"[{"type":"text","text":"Hello, world"},{"type":"image_url","image_url":{"url":"https://x","detail":"low"}}]"#;
    let facts = proxy.chat(&[], &CHAT.replace("\"Hello, world\"", image)).facts();
    assert_eq!((facts.prompt_tokens.0, facts.estimated), (PROMPT + 85, true));
    let facts = proxy.chat(&[], &CHAT.replace("Hello, world", &"word ".repeat(1000))).facts();
    assert!(facts.estimated && facts.prompt_tokens.0.abs_diff(1007) < 20, "{facts:?}");
}

#[test]
fn costs_below_a_millionth_add_up() {
    let mut proxy = Proxy::new(r#"{"models":[{"name":"chat","price":{"input":0.01,"output":0}}]}"#);
    let mut micro = 0;
    for _ in 0..100 {
        let mut flight = proxy.chat(&[], CHAT);
        proxy.answer(&mut flight, 200, USAGE);
        micro += flight.counted(Metric::Cost).iter().map(|(_, by)| by).sum::<u64>();
    }
    // 100 requests of 10 tokens at a hundredth of a millionth each.
    assert_eq!(micro, 10);
}

#[test]
fn reserves_then_settles_to_what_was_used() {
    let mut proxy = Proxy::new(&limited(60, 100));
    let mut first = proxy.chat(&[], CHAT);
    assert!(first.went());
    // 60 of 100 are reserved: a second one at the same time is refused, although nothing has been used yet.
    let refused = proxy.chat(&[], CHAT);
    let (status, headers, body) = refused.reply().unwrap();
    assert_eq!((status, headers["x-penstock-limit"].as_str()), (429, "tpm"));
    // 60 more are wanted and 40 are there; one comes every second.
    assert_eq!((headers["retry-after"].as_str(), headers["retry-after-ms"].as_str()), ("20", "20000"));
    assert_eq!(body["error"]["code"], "rate_limit_exceeded");
    assert_eq!(refused.facts().limit.as_deref(), Some("tpm"));
    // It used 30; so 70 are left, and the next one fits.
    proxy.answer(&mut first, 200, USAGE);
    assert!(proxy.chat(&[], CHAT).went());
}

#[test]
fn a_retry_after_the_named_time_is_admitted() {
    let mut proxy = Proxy::new(&limited(60, 100));
    proxy.chat(&[], CHAT);
    proxy.now += 20 * SECOND - 1_000_000;
    assert!(!proxy.chat(&[], CHAT).went());
    proxy.now += 1_000_000;
    assert!(proxy.chat(&[], CHAT).went());
}

#[test]
fn every_end_settles() {
    let remaining = |end: &dyn Fn(&mut Proxy, &mut sim::Flight)| {
        let mut proxy = Proxy::new(&limited(60, 1000));
        let mut flight = proxy.chat(&[], CHAT);
        end(&mut proxy, &mut flight);
        proxy.close(&mut flight);
        let mut probe = proxy.chat(&[], CHAT);
        proxy.answer(&mut probe, 200, USAGE);
        let left: u64 = probe.response_header("x-ratelimit-remaining-tokens").unwrap().parse().unwrap();
        (1000 - 60 - left, flight.facts().outcome.unwrap())
    };
    assert_eq!(remaining(&|proxy, flight| proxy.answer(flight, 200, USAGE)), (30, Outcome::Ok));
    // Upstream failed: nothing was used.
    assert_eq!(remaining(&|proxy, flight| proxy.answer(flight, 500, "oops")), (0, Outcome::UpstreamError));
    assert_eq!(remaining(&|proxy, flight| proxy.answer(flight, 400, "no")), (0, Outcome::ClientError));
    assert_eq!(remaining(&|_, _| ()), (0, Outcome::UpstreamError));
    // The client left before the answer: the prompt has been read by then.
    let left = |_: &mut Proxy, flight: &mut sim::Flight| {
        flight.props.0.insert("response.code_details".into(), b"downstream_remote_disconnect".to_vec());
    };
    assert_eq!(remaining(&left), (10, Outcome::Abandoned));
    // It left in mid-stream, and the server reports no usage: what was streamed is counted.
    let cut = |proxy: &mut Proxy, flight: &mut sim::Flight| {
        let headers = vec![(":status".into(), b"200".to_vec()), ("content-type".into(), b"text/event-stream".to_vec())];
        proxy.tell(flight, Event::ResponseHead { headers: &headers, end: false });
        let event = b"data: {\"choices\":[{\"delta\":{\"content\":\"one two\"}}]}\n\n";
        proxy.tell(flight, Event::ResponseChunk { bytes: event, end: false });
        left(proxy, flight);
    };
    assert_eq!(remaining(&cut), (12, Outcome::Abandoned));
}

#[test]
fn debt_is_carried() {
    let mut proxy = Proxy::new(&limited(60, 100));
    let mut flight = proxy.chat(&[], CHAT);
    let huge = r#"{"usage":{"prompt_tokens":10,"completion_tokens":290}}"#;
    proxy.answer(&mut flight, 200, huge);
    // 300 of 100 are used: 200 in debt, and 11 are needed.
    let body = CHAT.replace("]}", r#"],"max_tokens":1}"#);
    let refused = proxy.chat(&[], &body);
    assert_eq!(refused.reply().unwrap().1["retry-after"], "211");
    proxy.now += 211 * SECOND;
    assert!(proxy.chat(&[], &body).went());
}

#[test]
fn all_limits_or_none() {
    let config = r#"{"models":[{"name":"chat","output":{"expect":0}}],"limits":[
        {"name":"wide","tokens":100,"every":"1h"},
        {"name":"narrow","per":[{"header":"x-team"}],"tokens":15,"every":"1h"}]}"#;
    let mut proxy = Proxy::new(config);
    assert!(proxy.chat(&[("x-team", "a")], CHAT).went());
    for _ in 0..50 {
        let refused = proxy.chat(&[("x-team", "a")], CHAT);
        assert_eq!(refused.reply().unwrap().1["x-penstock-limit"], "narrow");
    }
    // The refused ones spent nothing of `wide`: nine more teams still fit into it.
    for team in 0..9 {
        assert!(proxy.chat(&[("x-team", &format!("t{team}"))], CHAT).went(), "team {team}");
    }
    assert_eq!(proxy.chat(&[("x-team", "z")], CHAT).reply().unwrap().1["x-penstock-limit"], "wide");
}

#[test]
fn what_never_fits_is_told_so() {
    let mut proxy = Proxy::new(&limited(60, 100));
    let refused = proxy.chat(&[], &CHAT.replace("]}", r#"],"max_tokens":91}"#));
    let (status, headers, _) = refused.reply().unwrap();
    assert_eq!(status, 413);
    assert!(!headers.contains_key("retry-after"));
    // A guess at the output does not make a request impossible.
    let mut proxy = Proxy::new(&limited(60, 20));
    assert!(proxy.chat(&[], CHAT).went());
}

#[test]
fn unreadable_requests_are_refused_and_charge_nothing() {
    let mut proxy = Proxy::new(&limited(60, 100));
    for body in ["", "nope", "{\"model\":\"chat\"", "{}", "[]", "{\"model\":7}", "{\"model\":\"chat\",\"messages\":7}"]
    {
        let flight = proxy.chat(&[], body);
        let (status, _, reply) = flight.reply().unwrap();
        assert_eq!(status, 400, "{body}");
        assert!(reply["error"]["message"].as_str().unwrap().len() > 10);
    }
    assert_eq!(proxy.chat(&[], &"[".repeat(100_000)).reply().unwrap().0, 400);
    let many = format!(r#"{{"model":"chat","messages":[],"x":[{}0]}}"#, "0,".repeat(600_000));
    let (status, _, reply) = proxy.chat(&[], &many).reply().unwrap();
    assert!(status == 400 && reply["error"]["message"].as_str().unwrap().contains("524288 keys and values"), "{reply}");
    assert_eq!(proxy.chat(&[("content-encoding", "gzip")], CHAT).reply().unwrap().0, 400);
    let mut probe = proxy.chat(&[], CHAT);
    proxy.answer(&mut probe, 200, USAGE);
    assert_eq!(probe.response_header("x-ratelimit-remaining-tokens").as_deref(), Some("40"));
    let mut lenient = Proxy::new(r#"{"models":[{"name":"chat"}],"unreadable":"pass"}"#);
    assert!(lenient.chat(&[], "nope").went());
    // As many values as a request may have.
    assert!(lenient.chat(&[], &many.replace(&"0,".repeat(100_000), "")).went());
}

#[test]
fn other_paths_pass_untouched() {
    let mut proxy = Proxy::new(&limited(60, 100));
    let mut flight = proxy.open();
    let headers = vec![(":method".into(), b"GET".to_vec()), (":path".into(), b"/version".to_vec())];
    let effects = proxy.tell(&mut flight, Event::RequestHead { headers: &headers, end: true });
    assert_eq!(effects, []);
    proxy.close(&mut flight);
    assert!(matches!(flight.seen[..], [Effect::Count(_, 1)]), "{:?}", flight.seen);
    assert_eq!(flight.counted(Metric::Streams), [(vec!["passed".to_owned()], 1)]);
}

#[test]
fn identity_is_hashed_named_or_demanded() {
    let mut proxy = Proxy::new(&limited(6000, 1000));
    let named = proxy.chat(&[("x-api-key", "acme"), ("x-penstock-tenant", "boss")], CHAT);
    assert_eq!((named.facts().tenant.as_str(), named.facts().class.as_deref()), ("acme", Some("gold")));
    assert!(named.seen.contains(&Effect::DropRequestHeader("x-penstock-tenant".into())));
    let hashed = proxy.chat(&[("x-api-key", "sk-secret")], CHAT).facts().tenant;
    assert!(hashed.starts_with("h-") && !hashed.contains("secret"));
    assert_eq!(proxy.chat(&[("x-api-key", "sk-secret")], CHAT).facts().tenant, hashed);
    assert_eq!(proxy.chat(&[], CHAT).facts().tenant, "anonymous");
    let mut strict = Proxy::new(
        r#"{"tenant":{"from":[{"header":"x-api-key","trusted":true}],"anonymous":"deny"},"models":[{"name":"chat"}]}"#,
    );
    assert_eq!(strict.chat(&[], CHAT).reply().unwrap().0, 401);
}

const SPLIT: &str = r#"{"models":[{"name":"chat","versions":[{"name":"stable","weight":80,"model":"llama"},
    {"name":"canary","weight":20,"model":"llama-r2"}],"sticky":[{"header":"x-session-id"}]}]}"#;

#[test]
fn the_draw_is_sticky_and_rewrites_the_model_only() {
    let mut proxy = Proxy::new(SPLIT);
    let mut canaries = 0;
    for session in 0..500 {
        let session = format!("s{session}");
        let flight = proxy.chat(&[("x-session-id", &session)], CHAT);
        let version = flight.facts().version.unwrap();
        assert_eq!(proxy.chat(&[("x-session-id", &session)], CHAT).facts().version.unwrap(), version);
        canaries += usize::from(version == "canary");
        let splice = flight.seen.iter().find_map(|effect| match effect {
            Effect::Splice(splices) => Some(penstock_dialects::apply(CHAT.as_bytes(), splices.clone())),
            _ => None,
        });
        let model = if version == "canary" { "\"llama-r2\"" } else { "\"llama\"" };
        assert_eq!(String::from_utf8(splice.unwrap()).unwrap(), CHAT.replace("\"chat\"", model));
    }
    // 4 sigma of a binomial around 100 of 500.
    assert!((64..=136).contains(&canaries), "{canaries}");
}

#[test]
fn pending_rises_falls_and_survives_the_dead() {
    let mut proxy = Proxy::new(SPLIT);
    let pending = |proxy: &mut Proxy, phase: &str| {
        let gauges = proxy.gauges();
        let sum = |(metric, labels): &(Metric, Vec<String>)| *metric == Metric::PendingTokens && labels[2] == phase;
        gauges.iter().filter(|(key, _)| sum(key)).map(|(_, value)| value).sum::<u64>()
    };
    assert_eq!(pending(&mut proxy, "prefill"), 0);
    let mut one = proxy.chat(&[], CHAT);
    let mut two = proxy.chat(&[], &CHAT.replace("]}", r#"],"max_tokens":5}"#));
    assert_eq!((pending(&mut proxy, "prefill"), pending(&mut proxy, "decode")), (2 * PROMPT, 256 + 5));
    proxy.answer(&mut one, 200, USAGE);
    assert_eq!((pending(&mut proxy, "prefill"), pending(&mut proxy, "decode")), (PROMPT, 5));
    // Another worker starts over the same store, and this one dies with a request in flight.
    let config = (*proxy.worker.config).clone();
    let heir = Worker::new(config, Plugin::Penstock, [70, 80, 90], &mut proxy.store);
    let dead = std::mem::replace(&mut proxy.worker, heir);
    assert_eq!(pending(&mut proxy, "prefill"), PROMPT, "its last beat still counts");
    proxy.now += 4 * SECOND;
    assert_eq!(pending(&mut proxy, "prefill"), 0, "it is silent for too long");
    // It was only slow.
    proxy.worker = dead;
    assert_eq!(pending(&mut proxy, "prefill"), PROMPT);
    proxy.close(&mut two);
    assert_eq!(pending(&mut proxy, "prefill"), 0);
}

#[test]
fn gauges_of_a_removed_model_go_to_zero() {
    let mut proxy = Proxy::new(SPLIT);
    let _flight = proxy.chat(&[], CHAT);
    assert!(proxy.gauges().values().any(|value| *value > 0));
    let next = penstock_exchange::Config::parse(br#"{"models":[{"name":"new"}]}"#).unwrap();
    proxy.worker = Worker::new(next, Plugin::Penstock, [70, 80, 90], &mut proxy.store);
    proxy.now += 4 * SECOND;
    let gauges = proxy.gauges();
    assert_eq!(gauges.len(), 21, "three series with seven gauges each");
    assert!(gauges.values().all(|value| *value == 0));
}

#[test]
fn contention_closes_unless_configured() {
    let mut proxy = Proxy::new(&limited(60, 100));
    proxy.store.busy = true;
    assert_eq!(proxy.chat(&[], CHAT).reply().unwrap().0, 503);
    let mut open = Proxy::new(&limited(60, 100).replacen('{', r#"{"contended":"pass","#, 1));
    open.store.busy = true;
    assert!(open.chat(&[], CHAT).went());
}

#[test]
fn a_row_of_plugins_says_what_the_all_in_one_says() {
    let config = limited(60, 100)
        .replace(r#""output":{"expect":50}"#, r#""output":{"expect":50},"versions":[{"name":"v1","weight":1}]"#);
    let mut whole = Proxy::new(&config);
    let mut whole_flight = whole.chat(&[("x-api-key", "acme")], CHAT);
    whole.answer(&mut whole_flight, 200, USAGE);

    let mut row = [Plugin::TokenCounter, Plugin::TenantBucket, Plugin::CanaryRouter, Plugin::PendingGauge]
        .map(|s| Proxy::with(&config, s));
    let mut props = sim::Props::default();
    let mut flights = Vec::new();
    let head = vec![
        (":method".into(), b"POST".to_vec()),
        (":path".into(), b"/v1/chat/completions".to_vec()),
        ("x-api-key".into(), b"acme".to_vec()),
    ];
    for proxy in &mut row {
        let mut flight = proxy.open();
        flight.props = std::mem::take(&mut props);
        proxy.tell(&mut flight, Event::RequestHead { headers: &head, end: false });
        if flight.exchange.is_holding() {
            proxy.tell(&mut flight, Event::RequestChunk { bytes: CHAT.as_bytes(), end: true });
        }
        assert!(flight.went());
        props = std::mem::take(&mut flight.props);
        flights.push(flight);
    }
    for (proxy, flight) in row.iter_mut().zip(&mut flights).rev() {
        flight.props = std::mem::take(&mut props);
        let headers = vec![(":status".into(), b"200".to_vec()), ("content-type".into(), b"application/json".to_vec())];
        proxy.tell(flight, Event::ResponseHead { headers: &headers, end: false });
        proxy.tell(flight, Event::ResponseChunk { bytes: USAGE.as_bytes(), end: true });
        props = std::mem::take(&mut flight.props);
    }
    for (proxy, flight) in row.iter_mut().zip(&mut flights) {
        flight.props = std::mem::take(&mut props);
        proxy.close(flight);
        props = std::mem::take(&mut flight.props);
    }
    let sorted = |mut said: Vec<String>| {
        said.sort();
        said
    };
    assert_eq!(sorted(flights.iter().flat_map(Flight::said).collect()), sorted(whole_flight.said()));
}

#[test]
fn clocks_that_jump_and_usage_beyond_reason_break_no_limit() {
    let mut proxy = Proxy::new(&limited(6000, 1000));
    let ask = CHAT.replace("]}", r#"],"max_tokens":100}"#);
    let remaining =
        |flight: &sim::Flight| flight.response_header("x-ratelimit-remaining-tokens").unwrap().parse::<u64>().unwrap();
    let spend = |proxy: &mut Proxy| {
        let mut flight = proxy.chat(&[("x-api-key", "acme")], &ask);
        assert!(flight.went());
        proxy.answer(&mut flight, 200, r#"{"usage":{"prompt_tokens":10,"completion_tokens":100}}"#);
        remaining(&flight)
    };
    assert_eq!(spend(&mut proxy), 890);
    // Back by an hour: nothing is refilled and nothing is taken, and time goes on.
    proxy.now -= 3600 * SECOND;
    assert_eq!(spend(&mut proxy), 780);
    proxy.now += SECOND / 2;
    assert_eq!(spend(&mut proxy), 720);
    let config = (*proxy.worker.config).clone();
    proxy.worker = Worker::new(config, Plugin::Penstock, [70, 80, 90], &mut proxy.store);
    assert_eq!(spend(&mut proxy), 610);
    // Forward by an hour: full, and no more than full.
    proxy.now += 3600 * SECOND;
    assert_eq!(spend(&mut proxy), 890);
    // Usage that no server can mean is cut, negative and fractional usage is none; the debt is bounded and the next tenant unharmed.
    for usage in ["18446744073709551615", "-5", "1e300", "0.5", "99999999999999999999999999", "null", "\"7\""] {
        let mut proxy = Proxy::new(&limited(6000, 1000));
        let mut flight = proxy.chat(&[("x-api-key", "acme")], &ask);
        let body = format!(
            r#"{{"choices":[{{"message":{{"content":"Hi"}}}}],"usage":{{"prompt_tokens":{usage},"completion_tokens":{usage}}}}}"#
        );
        proxy.answer(&mut flight, 200, &body);
        let used = flight.facts().used.unwrap();
        assert!(used.prompt.0 <= 1 << 24 && used.completion.0 <= 1 << 24, "{usage}: {used:?}");
        // The longest debt: 2 * 2^24 tokens at 100 a second.
        proxy.now += 340_000 * SECOND;
        assert!(proxy.chat(&[("x-api-key", "acme")], &ask).went(), "{usage}");
        assert!(proxy.chat(&[("x-api-key", "other")], &ask).went(), "{usage}");
    }
}

#[test]
fn tenants_with_strange_names_are_hashed_and_apart() {
    let mut proxy = Proxy::new(&limited(6000, 100));
    let long = "x".repeat(10_240);
    let longer = format!("{long}y");
    let names = [long.as_str(), &longer, "a\u{1}b\nc", "a\u{1}b\nd", "\u{7f}", "other", "anonymous", "h-0"];
    let ask = CHAT.replace("]}", r#"],"max_tokens":90}"#);
    let mut seen = Vec::new();
    for name in names {
        let mut flight = proxy.chat(&[("x-api-key", name)], &ask);
        assert!(flight.went(), "{name:?} has a bucket of its own");
        let tenant = flight.facts().tenant;
        assert!(tenant.starts_with("h-") && tenant.len() == 18 && !seen.contains(&tenant), "{tenant}");
        seen.push(tenant);
        proxy.answer(&mut flight, 200, USAGE);
        assert_eq!(flight.counted(Metric::Requests)[0].0[2], "other");
    }
}

#[test]
fn what_a_part_of_a_stream_reports_is_not_what_was_used() {
    let start =
        "data: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":10,\"output_tokens\":1}}}\n\n";
    let delta = "data: {\"type\":\"content_block_delta\",\"delta\":{\"type\":\"text_delta\",\"text\":\"one two three four five\"}}\n\n";
    let end = "data: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":7}}\n\n";
    let fail = "data: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\"}}\n\n";
    let head = vec![(":status".into(), b"200".to_vec()), ("content-type".into(), b"text/event-stream".to_vec())];
    for (events, complete, completion) in [
        ([start, delta, end].concat(), true, Some(7)),
        ([start, delta, end].concat(), false, Some(7)),
        ([start, delta].concat(), false, Some(5)),
        ([start, delta, fail].concat(), true, Some(5)),
        ([start, fail].concat(), true, None),
    ] {
        let mut proxy = Proxy::new(&limited(1_000_000, 1_000_000));
        let mut flight = proxy.open();
        let headers = vec![(":method".into(), b"POST".to_vec()), (":path".into(), b"/v1/messages".to_vec())];
        let body = CHAT.replace("]}", r#"],"max_tokens":900,"stream":true}"#);
        proxy.tell(&mut flight, Event::RequestHead { headers: &headers, end: false });
        proxy.tell(&mut flight, Event::RequestChunk { bytes: body.as_bytes(), end: true });
        proxy.tell(&mut flight, Event::ResponseHead { headers: &head, end: false });
        proxy.tell(&mut flight, Event::ResponseChunk { bytes: events.as_bytes(), end: complete });
        if !complete {
            flight.props.0.insert("response.code_details".into(), b"downstream_remote_disconnect".to_vec());
        }
        proxy.close(&mut flight);
        assert_eq!(flight.facts().used.map(|used| used.completion.0), completion, "{events}");
    }
}

#[test]
fn tools_do_not_spoil_what_is_learnt_of_a_tokenizer() {
    let mut proxy = Proxy::new(r#"{"models":[{"name":"chat","tokenizer":{"like":"o200k_base"}}]}"#);
    let words = |n: usize| CHAT.replace("Hello, world", &"word ".repeat(n));
    let tools = format!(
        r#"],"tools":[{{"type":"function","function":{{"name":"f","description":"{}"}}}}]}}"#,
        "long ".repeat(500)
    );
    let with_tools = proxy.chat(&[], &words(100).replace("]}", &tools)).facts().prompt_tokens.0;
    assert!(with_tools > 550, "{with_tools}");
    for n in [50, 100, 200, 80] {
        let mut flight = proxy.chat(&[], &words(n).replace("]}", &tools));
        let usage = format!(r#"{{"usage":{{"prompt_tokens":{},"completion_tokens":1}}}}"#, n + 600);
        proxy.answer(&mut flight, 200, &usage);
    }
    let plain = proxy.chat(&[], &words(100)).facts().prompt_tokens.0;
    assert!((100..=115).contains(&plain), "{plain}");
}
