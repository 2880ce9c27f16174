//! Answers as servers really send them: what they cost, and what the client sees of them.

mod sim;

use penstock_exchange::{Effect, Event, Headers, Outcome};
use sim::{Flight, Proxy};

/// What output to expect is less than what clients allow here.
const CONFIG: &str = r#"{"models":[{"name":"chat","output":{"expect":50}}]}"#;
/// Ten tokens in an API's chat, with 500 allowed.
const PROMPT: u64 = 10;
const MOST: u64 = 500;

/// What became of one answer.
struct Got {
    outcome: Outcome,
    /// Prompt and completion, where anything was charged.
    used: Option<(u64, u64)>,
    body: String,
    flight: Flight,
}

/// Asks for an answer, in a stream or not, and sends it in pieces of this size.
fn answer_in(pieces: usize, path: &str, stream: bool, head: &[(&str, &str)], body: &[u8]) -> Got {
    let mut proxy = Proxy::new(CONFIG);
    let mut flight = proxy.open();
    let headers: Headers = vec![(":method".into(), b"POST".to_vec()), (":path".into(), path.into())];
    let ask = format!(
        r#"{{"model":"chat","messages":[{{"role":"user","content":"Hello, world"}}],"input":"Hello, world","max_tokens":{MOST},"max_output_tokens":{MOST},"stream":{stream}}}"#
    );
    let ask = match path {
        "/v1/responses" => ask.replacen(r#""messages":[{"role":"user","content":"Hello, world"}],"#, "", 1),
        _ => ask.replacen(r#""input":"Hello, world","#, "", 1),
    };
    proxy.tell(&mut flight, Event::RequestHead { headers: &headers, end: false });
    proxy.tell(&mut flight, Event::RequestChunk { bytes: ask.as_bytes(), end: true });
    let status = [(":status", "200")];
    let head = status.iter().filter(|_| head.iter().all(|(name, _)| *name != ":status")).chain(head);
    let head: Headers = head.map(|(name, value)| ((*name).into(), value.as_bytes().to_vec())).collect();
    proxy.tell(&mut flight, Event::ResponseHead { headers: &head, end: body.is_empty() });
    let mut got = Vec::new();
    let count = body.chunks(pieces).count();
    for (index, piece) in body.chunks(pieces).enumerate() {
        let effects = proxy.tell(&mut flight, Event::ResponseChunk { bytes: piece, end: index + 1 == count });
        let forward = effects.into_iter().find_map(|effect| match effect {
            Effect::ResponseBytes(bytes) => Some(bytes),
            _ => None,
        });
        got.extend(forward.unwrap_or_else(|| piece.to_vec()));
    }
    proxy.close(&mut flight);
    let facts = flight.facts();
    let used = facts.used.map(|used| (used.prompt.0, used.completion.0));
    Got { outcome: facts.outcome.unwrap(), used, body: String::from_utf8_lossy(&got).into_owned(), flight }
}

/// The same in pieces of several sizes, of which all are the same.
fn answer(path: &str, stream: bool, head: &[(&str, &str)], body: &[u8]) -> Got {
    let mut last: Option<Got> = None;
    for pieces in [1, 7, 64, usize::MAX] {
        let got = answer_in(pieces, path, stream, head, body);
        if let Some(last) = &last {
            assert_eq!((last.used, last.outcome, &last.body), (got.used, got.outcome, &got.body), "{pieces}");
        }
        last = Some(got);
    }
    last.unwrap()
}

fn chat(stream: bool, head: &[(&str, &str)], body: &str) -> Got {
    answer("/v1/chat/completions", stream, head, body.as_bytes())
}

const DELTA: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"one two\"}}]}\n\n";
const USAGE: &str = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":40,\"completion_tokens\":77}}\n\n";
const DONE: &str = "data: [DONE]\n\n";

#[test]
fn what_goes_beyond_the_reservation_unreported_is_charged_as_it_was_read() {
    let most = usize::try_from(MOST).unwrap();
    let long = |words: usize| DELTA.replace("one two", &"hello ".repeat(words));
    // Its server ignored the ceiling, and said nothing of it.
    let got = chat(true, &[], &(long(most + 100) + DONE));
    assert!(got.used.is_some_and(|(prompt, seen)| prompt == PROMPT && seen >= MOST + 100), "{:?}", got.used);
    let got = chat(true, &[], &(long(7) + DONE));
    assert!(got.used.is_some_and(|(_, seen)| (7..=8).contains(&seen)), "{:?}", got.used);
}

#[test]
fn a_long_text_under_an_unknown_name_keeps_the_reservation_unless_usage_is_reported() {
    let strange = DELTA.replace("\"content\"", &format!("\"thoughts\":\"{}\",\"content\"", "hm ".repeat(40)));
    assert_eq!(chat(true, &[], &(strange.clone() + DONE)).used, Some((PROMPT, MOST)));
    assert_eq!(chat(true, &[], &(strange + USAGE + DONE)).used, Some((40, 77)));
}

#[test]
fn servers_are_asked_for_what_can_be_read() {
    let mut proxy = Proxy::new(CONFIG);
    for headers in [&[][..], &[("accept-encoding", "gzip, br")]] {
        let flight = proxy.chat(headers, r#"{"model":"chat","messages":[]}"#);
        let asked = Effect::RequestHeader("accept-encoding", b"identity".to_vec());
        assert!(flight.seen.contains(&asked));
    }
}

#[test]
fn a_stream_is_one_under_any_type() {
    let stream = [DELTA, USAGE, DONE].concat();
    for kind in
        ["application/json", "text/plain", "TEXT/EVENT-STREAM; charset=utf-8", "text/event-stream", "nonsense", ""]
    {
        for (start, asked) in [("", true), ("\u{feff}\r\n\r\n: wait\n\n", true), ("", false)] {
            let head = [("content-type", kind), ("content-length", "999")];
            let body = format!("{start}{stream}");
            let got = chat(asked, &head[usize::from(kind.is_empty())..], &body);
            assert_eq!((got.used, got.outcome), (Some((40, 77)), Outcome::Ok), "{kind}");
            let seen = if asked { [start, DELTA, DONE].concat() } else { body };
            assert_eq!(got.body, seen, "{kind}");
            let drops = got.flight.seen.contains(&Effect::DropResponseHeader("content-length"));
            assert_eq!(drops, asked, "the length is not known before it is known what is taken out");
        }
    }
    let json = r#"{"choices":[{"message":{"content":"one"}}],"usage":{"prompt_tokens":40,"completion_tokens":77}}"#;
    for start in ["", "\u{feff}", "\r\n \n\n"] {
        let body = format!("{start}{json}\n\n");
        for stream in [true, false] {
            let got = chat(stream, &[("content-type", "text/event-stream")], &body);
            assert_eq!((got.used, got.body), (Some((40, 77)), body.clone()), "{start:?}");
        }
    }
}

#[test]
fn what_cannot_be_read_stays_reserved() {
    let json = r#"{"choices":[{"message":{"content":"one two three"}}]}"#;
    let gzip = "\u{1f}\u{8b}nobody knows";
    for (coding, body) in [
        ("identity", "<html>one two</html>"),
        ("identity", "one two"),
        ("identity", gzip),
        ("identity", r#"{"reply":"one two"}"#),
        ("identity", r#"["one two"]"#),
        ("identity", json.trim_end_matches('}')),
        ("identity", &json.replace(':', "=")),
        ("identity", &format!("{json}\n{json}")),
        ("identity", "data: one two\n\ndata: [DONE]\n\n"),
        ("identity", "data: {\"reply\":\"one two\"}\n\n"),
        ("gzip", gzip),
        ("gzip, identity", json),
        ("br", DELTA),
    ] {
        for stream in [true, false] {
            let got = chat(stream, &[("content-encoding", coding)], body);
            assert_eq!((got.used, got.outcome), (Some((PROMPT, MOST)), Outcome::Ok), "{coding} {body}");
            let used = got.flight.facts().used.unwrap();
            assert!(used.reserved && used.counted);
            assert_eq!(got.body, body);
        }
    }
    // What was reported stands, also in what is broken.
    let broken = r#"{"usage":{"prompt_tokens":40,"completion_tokens":77},"choices":["#;
    assert_eq!(chat(false, &[], broken).used, Some((40, 77)));
    assert_eq!(chat(false, &[("content-encoding", "Identity")], json).used, Some((PROMPT, 3)));
}

#[test]
fn one_good_event_does_not_hide_the_others() {
    let words = "one two three four five ".repeat(20);
    let broken = [
        format!("data: {{\"choices\":[{{\"delta\":{{\"content\":\"?{words}\"}}}}]}}\n\n"),
        format!("data: {{'text':'{words}'}}\n\n"),
        format!("data: {words}\n\n"),
        format!("{words}\n\n"),
        format!("{{\"text\":\"{words}\"}}\n{{\"text\":\"{words}\"}}\n"),
        format!("data: {{\"choices\":[{{\"x\":\"{words}\"\n\n"),
    ];
    for broken in &broken {
        // No text is in UTF-8 that has this byte in it.
        let broken: Vec<u8> = broken.bytes().map(|byte| if byte == b'?' { 0xff } else { byte }).collect();
        for (good, before, behind) in [
            ("data: {\"choices\":[]}\n\n", (PROMPT, MOST), (PROMPT, MOST)),
            (DELTA, (PROMPT, MOST), (PROMPT, MOST)),
            // What comes behind a report is not in it.
            (USAGE, (40, MOST), (40, 77)),
            ("data: {\"error\":{\"code\":0}}\n\n", (PROMPT, MOST), (PROMPT, MOST)),
            (
                "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":40,\"completion_tokens\":0}}\n\n",
                (40, MOST),
                (40, MOST),
            ),
        ] {
            for (parts, used) in [([good.as_bytes(), &broken], before), ([&broken, good.as_bytes()], behind)] {
                let body = [b": wait\n\n", parts.concat().as_slice(), DONE.as_bytes()].concat();
                let got = answer("/v1/chat/completions", true, &[], &body);
                assert_eq!(got.used, Some(used), "{}", String::from_utf8_lossy(&body));
            }
        }
    }
    // What was seen is more than a report that is too short for it.
    let long = DELTA.repeat(100);
    let body = [&long, "data: x\n\n", "data: {\"choices\":[],\"usage\":{\"completion_tokens\":2}}\n\n"].concat();
    assert_eq!(chat(true, &[], &body).used, Some((PROMPT, MOST)));
}

#[test]
fn an_answer_at_a_place_that_nobody_knows_stays_reserved() {
    let words = "one two three four ".repeat(5);
    for (path, body) in [
        ("/v1/chat/completions", format!(r#"{{"status":"success","answer":"{words}"}}"#)),
        ("/v1/chat/completions", format!("data: {{\"choices\":[{{\"delta\":{{\"said\":\"{words}\"}}}}]}}\n\n{DONE}")),
        ("/v1/messages", format!(r#"{{"type":"message","completion":"{words}","stop_reason":"end_turn"}}"#)),
        ("/v1/responses", format!(r#"{{"status":"completed","output_text":"{words}"}}"#)),
    ] {
        let got = answer(path, true, &[], body.as_bytes());
        let completion = got.used.map(|(_, completion)| completion);
        assert_eq!((completion, got.outcome), (Some(MOST), Outcome::Ok), "{body}");
    }
    let reported =
        format!(r#"{{"status":"success","answer":"{words}","usage":{{"prompt_tokens":40,"completion_tokens":7}}}}"#);
    assert_eq!(chat(false, &[], &reported).used, Some((40, 7)));
    let text = format!(r#"{{"type":"message","content":"{words}"}}"#);
    assert_eq!(answer("/v1/messages", false, &[], text.as_bytes()).used.map(|used| used.1 < MOST), Some(true));
}

#[test]
fn what_cannot_be_read_teaches_nothing_and_costs_the_same_where_the_client_leaves() {
    let ask = r#"{"model":"chat","messages":[{"role":"user","content":"Hello, world"}]}"#;
    let head: Headers = vec![(":status".into(), b"200".to_vec()), ("content-encoding".into(), b"gzip".to_vec())];
    let mut proxy = Proxy::new(CONFIG);
    for end in [true, false].into_iter().cycle().take(60) {
        let mut flight = proxy.chat(&[], ask);
        proxy.tell(&mut flight, Event::ResponseHead { headers: &head, end: false });
        proxy.tell(&mut flight, Event::ResponseChunk { bytes: b"compressed", end });
        if !end {
            flight.props.0.insert("response.code_details".into(), b"downstream_remote_disconnect".to_vec());
        }
        proxy.close(&mut flight);
        // What was expected from the beginning on.
        assert_eq!(flight.facts().used.unwrap().completion.0, 50);
    }
}

#[test]
fn an_error_in_the_usage_chunk_reaches_the_client() {
    for more in [r#""error":{"message":"overloaded","code":503}"#, r#""x_server":{"took":3}"#, r#""choices":[],"x":[]"#]
    {
        let chunk =
            format!("data: {{\"choices\":[],{more},\"usage\":{{\"prompt_tokens\":40,\"completion_tokens\":5}}}}\n\n");
        let left = format!("data: {{\"choices\":[],{more}}}\n\n");
        let got = chat(true, &[], &[DELTA, &chunk, DONE].concat());
        let outcome = if more.contains("error") { Outcome::UpstreamError } else { Outcome::Ok };
        assert_eq!((got.used, got.outcome), (Some((40, 5)), outcome), "{more}");
        assert_eq!(got.body, [DELTA, &left, DONE].concat());
        // Also of one that has brought no text.
        assert_eq!(chat(true, &[], &chunk).used, Some((40, 5)));
    }
}

#[test]
fn what_cannot_be_true_is_not_believed() {
    let text = r#"{"choices":[{"message":{"content":"one two"}}],"usage":USAGE}"#;
    for (usage, used) in [
        (r#"{"prompt_tokens":40,"completion_tokens":77}"#, (40, 77)),
        (r#"{"prompt_tokens":0,"completion_tokens":0}"#, (PROMPT, 2)),
        (r#"{"prompt_tokens":-40,"completion_tokens":-77}"#, (PROMPT, 2)),
        (r#"{"prompt_tokens":NaN,"completion_tokens":Infinity}"#, (PROMPT, 2)),
        (r#"{"prompt_tokens":4e18,"completion_tokens":1e300}"#, (PROMPT, 2)),
        (r#"{"prompt_tokens":40}"#, (40, 2)),
        (r#"{"completion_tokens":77}"#, (PROMPT, 77)),
        (r#"{"total_tokens":117}"#, (PROMPT, 2)),
        ("{}", (PROMPT, 2)),
        ("null", (PROMPT, 2)),
    ] {
        let got = chat(false, &[], &text.replace("USAGE", usage));
        assert_eq!((got.used, got.outcome), (Some(used), Outcome::Ok), "{usage}");
        let counted = got.flight.facts().used.unwrap().counted;
        assert_eq!(counted, used != (40, 77), "{usage}");
        let event = format!("data: {{\"choices\":[],\"usage\":{usage}}}\n\n");
        assert_eq!(chat(true, &[], &[DELTA, &event, DONE].concat()).used, Some(used), "{usage}");
        // Real usage, and then this.
        assert_eq!(chat(true, &[], &[DELTA, USAGE, &event, DONE].concat()).used, Some((40, 77)), "{usage}");
    }
    let long = format!(r#"{{"choices":[{{"message":{{"content":"{}"}}}}],"usage":USAGE}}"#, "one ".repeat(100));
    for (reported, charged) in [(1, 101), (12, 101), (13, 13), (90, 90), (800, 800)] {
        let usage = format!(r#"{{"prompt_tokens":40,"completion_tokens":{reported}}}"#);
        assert_eq!(chat(false, &[], &long.replace("USAGE", &usage)).used, Some((40, charged)));
    }
    // More of it cached than there is.
    let cached = r#"{"prompt_tokens":40,"completion_tokens":2,"prompt_tokens_details":{"cached_tokens":4000}}"#;
    let used = chat(false, &[], &text.replace("USAGE", cached)).flight.facts().used.unwrap();
    assert_eq!((used.prompt.0, used.cached.0), (40, 40));
}

#[test]
fn what_an_answer_begins_with_is_no_report_of_it() {
    let start = |input: u64, output: u64| {
        format!(
            "event: message_start\ndata: {{\"type\":\"message_start\",\"message\":{{\"usage\":{{\"input_tokens\":{input},\"output_tokens\":{output}}}}}}}\n\n"
        )
    };
    let delta = "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\" one\"}}\n\n";
    let end = |usage: &str| {
        format!(
            "event: message_delta\ndata: {{\"type\":\"message_delta\",\"delta\":{{\"stop_reason\":\"end_turn\"}}{usage}}}\n\n"
        )
    };
    let stop = "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n".to_owned();
    for (input, output, deltas, last, used) in [
        (25, 1, 70, stop.clone(), (25, 70)),
        (25, 1, 5, String::new(), (25, 5)),
        (25, 1, 5, end(""), (25, 5)),
        (25, 1, 0, stop.clone(), (25, 1)),
        (0, 0, 5, end(",\"usage\":{\"output_tokens\":15}"), (PROMPT, 15)),
        (25, 1, 5, end(",\"usage\":{\"output_tokens\":15}"), (25, 15)),
        (25, 1, 5, end(",\"usage\":{\"output_tokens\":0}"), (25, 5)),
        (25, 8, 60, end(",\"usage\":{\"input_tokens\":0,\"output_tokens\":0}"), (25, 60)),
    ] {
        let body = [start(input, output), delta.repeat(deltas), last].concat();
        let got = answer("/v1/messages", true, &[], body.as_bytes());
        assert_eq!((got.used, got.outcome), (Some(used), Outcome::Ok), "{body}");
    }
}

#[test]
fn calls_of_functions_are_counted() {
    let name =
        "data: {\"choices\":[{\"index\":0,\"delta\":{\"function_call\":{\"name\":\"now\",\"arguments\":\"\"}}}]}\n\n";
    let more = "data: {\"choices\":[{\"index\":0,\"delta\":{\"function_call\":{\"arguments\":\" one\"}}}]}\n\n";
    let got = chat(true, &[], &[name, &more.repeat(9), DONE].concat());
    assert_eq!((got.used, got.flight.facts().quality.unwrap().tool_calls), (Some((PROMPT, 10)), 1));
}

#[test]
fn a_success_that_is_none_is_an_error_and_costs_what_it_reports() {
    let usage = r#""usage":{"input_tokens":40,"output_tokens":5}"#;
    let words = "one two three four ".repeat(5);
    for (path, body, used) in [
        ("/v1/chat/completions", String::new(), None),
        ("/v1/chat/completions", " \r\n".to_owned(), None),
        ("/v1/chat/completions", ": wait\n\n: wait\n\n".to_owned(), None),
        ("/v1/chat/completions", DONE.to_owned(), None),
        ("/v1/chat/completions", r#"{"error":{"message":"no","code":500}}"#.to_owned(), None),
        ("/v1/chat/completions", r#"{"error":"no"}"#.to_owned(), None),
        ("/v1/chat/completions", r#"{"error":{"message":"no"#.to_owned(), None),
        ("/v1/chat/completions", r#"{"object":"error","message":"no"}"#.to_owned(), None),
        ("/v1/chat/completions", "data: {\"error\":{\"message\":\"no\"}}\n\n".to_owned(), None),
        ("/v1/chat/completions", r#"{"error":{},"object":"x"}"#.to_owned(), None),
        ("/v1/chat/completions", format!(r#"{{"error":{{"code":0}},{usage}}}"#), Some((40, 5))),
        ("/v1/chat/completions", format!("{DELTA}data: {{\"error\":{{\"code\":0}}}}\n\n"), Some((PROMPT, 2))),
        // Zeros are no report.
        (
            "/v1/chat/completions",
            r#"{"error":"no","usage":{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0}}"#.to_owned(),
            None,
        ),
        ("/v1/messages", r#"{"type":"error","error":"no","usage":{"output_tokens":-1}}"#.to_owned(), None),
        // What stands beside the error is no part of it.
        ("/v1/chat/completions", format!(r#"{{"error":{{"code":0}},"text":"{words}"}}"#), Some((PROMPT, MOST))),
        (
            "/v1/chat/completions",
            format!(r#"{{"text":"{words}","error":"no","object":"error"}}"#),
            Some((PROMPT, MOST)),
        ),
        ("/v1/chat/completions", format!(r#"{{"error":{{"message":"{words}"}},"text":"short"}}"#), None),
        ("/v1/messages", r#"{"type":"error","error":{"type":"overloaded_error"}}"#.to_owned(), None),
        (
            "/v1/responses",
            r#"{"object":"response","status":"failed","error":{"code":"x"},"output":[]}"#.to_owned(),
            None,
        ),
        ("/v1/responses", format!(r#"{{"object":"response","status":"failed",{usage},"output":[]}}"#), Some((40, 5))),
        (
            "/v1/responses",
            format!("data: {{\"type\":\"response.failed\",\"response\":{{\"status\":\"failed\",{usage}}}}}\n\n"),
            Some((40, 5)),
        ),
    ] {
        for coding in ["identity", "gzip"].into_iter().take(if body.is_empty() { 2 } else { 1 }) {
            let got = answer(path, true, &[("content-encoding", coding)], body.as_bytes());
            assert_eq!((got.used, got.outcome), (used, Outcome::UpstreamError), "{body}");
            assert_eq!(got.body, body);
        }
    }
    // An error of which nothing is said is none beside an answer.
    for body in [format!("{DELTA}data: {{\"error\":{{}}}}\n\n"), format!(r#"{{"error":{{}},{usage}}}"#)] {
        assert_eq!(chat(true, &[], &body).outcome, Outcome::Ok, "{body}");
    }
    // These are answers, if short ones.
    for body in [
        "{}",
        r#"{"error":null,"choices":[{"message":{"content":""},"finish_reason":"stop"}]}"#,
        r#"{"error":"","choices":[{"message":{"content":""}}]}"#,
        r#"{"error":{},"choices":[{"message":{"content":""},"finish_reason":"stop"}]}"#,
        "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n",
    ] {
        let got = chat(true, &[], body);
        assert_eq!((got.used, got.outcome), (Some((PROMPT, 0)), Outcome::Ok), "{body}");
    }
}
