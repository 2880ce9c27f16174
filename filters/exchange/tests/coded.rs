//! Requests that come compressed: what is read of them, what goes on, and what is refused.

mod sim;

use penstock_exchange::{Effect, Event, Headers, Plugin, apply};
use sim::{Flight, Proxy, SECOND};

const CONFIG: &str =
    r#"{"models":[{"name":"chat","output":{"max":5}}],"limits":[{"name":"tpm","tokens":1000,"every":"1h"}]}"#;
const CHAT: &str = r#"{"model":"chat","messages":[{"role":"user","content":"Hello, world"}]}"#;
/// As `gzip` makes it of this.
const GZIP: &str = "1f8b0800000000000003ab56cacd4f49cd51b2524ace482c51d251ca4d2d2e4e4c4f2d56b28aae562acacf49054a9516a71601a592f3f34a52f34a80021ea93939f93a0ae5f94539294ab5b1b500e22ef7a246000000";
const GZIP_HEAD: [(&str, &str); 2] = [("content-encoding", "GZIP"), ("content-length", "83")];
const ZSTD: [(&str, &str); 1] = [("content-encoding", "zstd")];

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.chars().map(|c| c.to_digit(16).unwrap() as u8).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

/// A frame that holds a text as it is, in blocks of up to 128 KiB.
fn zstd(text: &str) -> Vec<u8> {
    let mut out = vec![0x28, 0xb5, 0x2f, 0xfd, 0, 10 << 3];
    let blocks = text.as_bytes().chunks(128 << 10);
    let last = blocks.len() - 1;
    for (i, block) in blocks.enumerate() {
        out.extend(&((block.len() as u32) << 3 | u32::from(i == last)).to_le_bytes()[..3]);
        out.extend(block);
    }
    out
}

fn send(proxy: &mut Proxy, headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Flight {
    let mut flight = proxy.open();
    proxy.send_with(&mut flight, headers, body);
    flight
}

/// What the server gets: its body, and the names and values of the headers that were set or dropped last.
fn sent(flight: &Flight, came: &[u8]) -> (Vec<u8>, Option<String>, bool) {
    let (mut body, mut length, mut is_named) = (came.to_vec(), None, true);
    for effect in &flight.seen {
        match effect {
            Effect::RequestBody(bytes) => body.clone_from(bytes),
            Effect::Splice(splices) => body = apply(&body, splices.clone()),
            Effect::RequestHeader("content-length", value) => length = Some(String::from_utf8(value.clone()).unwrap()),
            Effect::DropRequestHeader(name) if name == "content-length" => length = None,
            Effect::DropRequestHeader(name) if name == "content-encoding" => is_named = false,
            _ => {}
        }
    }
    (body, length, is_named)
}

fn status(flight: &Flight) -> Option<u32> {
    flight.reply().map(|(status, ..)| status)
}

/// The same text costs the same however it comes, whatever is in it.
#[test]
fn what_is_beside_the_texts_costs_the_same_compressed() {
    let tool =
        format!(r#"{{"type":"function","function":{{"name":"f","description":"{}"}}}}"#, "look here ".repeat(900));
    let image =
        format!(r#"{{"type":"image_url","image_url":{{"url":"data:image/jpeg;base64,{}"}}}}"#, "QUJD".repeat(20_000));
    let file =
        format!(r#"{{"type":"file","file":{{"file_data":"data:application/pdf;base64,{}"}}}}"#, "QUJD".repeat(20_000));
    let with = |part: &str, more: &str| {
        format!(
            r#"{{"model":"chat","messages":[{{"role":"user","content":[{{"type":"text","text":"hello"}}{part}]}}]{more}}}"#
        )
    };
    for body in [
        with("", &format!(r#","tools":[{tool},{tool}]"#)),
        with(&format!(",{image}"), ""),
        with(&format!(",{file}"), ""),
    ] {
        let config = CONFIG.replace(":1000,", ":1000000,");
        let (mut plain, mut coded) = (Proxy::new(&config), Proxy::new(&config));
        let (plain, coded) = (send(&mut plain, &[], &body), send(&mut coded, &ZSTD, zstd(&body)));
        assert!(plain.went() && coded.went(), "{:?} {:?}", plain.reply(), coded.reply());
        assert!(plain.facts().prompt_tokens.0 > 500, "{}", plain.facts().prompt_tokens);
        assert_eq!(coded.facts().prompt_tokens, plain.facts().prompt_tokens);
    }
}

/// A few bytes ask for no more work than a hundred times as many would.
#[test]
fn little_becomes_not_much() {
    for (blanks, status_expected) in [(1, None), (3, Some(413))] {
        let mut out = vec![0x28, 0xb5, 0x2f, 0xfd, 0, 10 << 3];
        for _ in 0..blanks {
            // One byte, 100,000 times.
            out.extend(&(100_000u32 << 3 | 1 << 1).to_le_bytes()[..3]);
            out.push(b' ');
        }
        out.extend(&((CHAT.len() as u32) << 3 | 1).to_le_bytes()[..3]);
        out.extend(CHAT.as_bytes());
        let flight = send(&mut Proxy::new(CONFIG), &ZSTD, out);
        assert_eq!(status(&flight), status_expected, "{:?}", flight.reply());
    }
}

#[test]
fn what_was_decoded_goes_on_with_its_edits_and_its_length() {
    let mut proxy = Proxy::new(CONFIG);
    let mut plain = proxy.chat(&[("content-length", "71")], CHAT);
    let expected = sent(&plain, CHAT.as_bytes());
    assert!(expected.0.len() > CHAT.len());
    proxy.close(&mut plain);
    let length = |bytes: &[u8]| bytes.len().to_string();
    for (coding, bytes) in [("GZIP", unhex(GZIP)), ("x-gzip", unhex(GZIP)), ("ZStd", zstd(CHAT))] {
        let head = [("content-length", &*length(&bytes)), ("content-encoding", coding)];
        let mut flight = send(&mut proxy, &head, &bytes);
        assert!(flight.went(), "{coding}: {:?}", flight.reply());
        let got = sent(&flight, &bytes);
        assert_eq!(got, (expected.0.clone(), Some(length(&expected.0)), false), "{coding}");
        assert_eq!(flight.facts().prompt_tokens, plain.facts().prompt_tokens, "{coding}");
        assert_eq!(flight.facts().prompt_hash, plain.facts().prompt_hash, "{coding}");
        proxy.close(&mut flight);
        // Without a length there is none to tell.
        let flight = send(&mut proxy, &[("content-encoding", coding)], &bytes);
        assert_eq!(sent(&flight, &bytes), (expected.0.clone(), None, false), "{coding}");
    }
}

#[test]
fn in_pieces_it_is_the_same() {
    let mut proxy = Proxy::new(CONFIG);
    let whole = send(&mut proxy, &GZIP_HEAD, unhex(GZIP));
    let mut flight = proxy.open();
    let head = [(":method", "POST"), (":path", "/v1/chat/completions"), GZIP_HEAD[0], GZIP_HEAD[1]];
    let head: Headers = head.map(|(name, value)| (name.to_owned(), value.into())).into();
    proxy.tell(&mut flight, Event::RequestHead { headers: &head, end: false });
    let bytes = unhex(GZIP);
    let last = bytes.len() - 1;
    for (i, byte) in bytes.iter().enumerate() {
        flight.props.1.push(*byte);
        let effects = proxy.tell(&mut flight, Event::RequestChunk { bytes: &[*byte], end: i == last });
        assert_eq!(effects.contains(&Effect::Resume), i == last);
        assert_eq!(effects.iter().any(|effect| matches!(effect, Effect::RequestBody(_))), i == last);
    }
    assert_eq!(sent(&flight, &bytes), sent(&whole, &bytes));
    assert_eq!(flight.facts().prompt_tokens, whole.facts().prompt_tokens);
}

#[test]
fn other_codings_are_told_which_there_are() {
    let mut proxy = Proxy::new(CONFIG);
    for coding in ["br", "deflate", "compress", "gzip, zstd", "gzip,", "identity, gzip", "", "aws-chunked"] {
        for path in ["/v1/chat/completions", "/v1/messages"] {
            let mut flight = proxy.open();
            let head = [(":method", "POST"), (":path", path), ("content-encoding", coding)];
            let head: Headers = head.map(|(name, value)| (name.to_owned(), value.into())).into();
            proxy.tell(&mut flight, Event::RequestHead { headers: &head, end: false });
            let (status, headers, body) = flight.reply().unwrap();
            assert_eq!((status, &*headers["accept-encoding"]), (415, "gzip, zstd"), "{coding}");
            assert_eq!(body["type"] == "error", path == "/v1/messages");
            assert!(!flight.went());
        }
    }
    let twice = [GZIP_HEAD[0], GZIP_HEAD[0]];
    assert_eq!(status(&send(&mut proxy, &twice, unhex(GZIP))), Some(415));
    for identity in ["identity", "Identity"] {
        let flight = send(&mut proxy, &[("content-encoding", identity)], CHAT);
        assert!(flight.went() && !flight.seen.iter().any(|effect| matches!(effect, Effect::RequestBody(_))));
    }
}

#[test]
fn what_cannot_be_decoded_is_refused_and_charged_nothing() {
    let config = CONFIG.replacen('{', r#"{"decodedBytesMax":1000,"#, 1);
    let mut proxy = Proxy::new(&config);
    let gzip = unhex(GZIP);
    let long = CHAT.replace("world", &"x".repeat(1000));
    for (head, body, expected) in [
        (&GZIP_HEAD[..], CHAT.as_bytes().to_vec(), 400),
        (&ZSTD, gzip.clone(), 400),
        (&GZIP_HEAD, gzip[..50].to_vec(), 400),
        (&GZIP_HEAD, [&gzip[..], b"\n"].concat(), 400),
        (&GZIP_HEAD, [&gzip[..], &gzip].concat(), 400),
        (&ZSTD, [zstd(CHAT), zstd(CHAT)].concat(), 400),
        (&ZSTD, Vec::new(), 400),
        (&ZSTD, zstd("[]"), 400),
        (&ZSTD, zstd(&CHAT.replace("chat", "chat\",\"model\":\"chat")), 400),
        (&ZSTD, zstd(&long), 413),
    ] {
        let mut flight = send(&mut proxy, head, &body);
        assert_eq!(status(&flight), Some(expected), "{head:?} {:?}", flight.reply());
        assert!(!flight.seen.iter().any(|effect| matches!(effect, Effect::RequestBody(_) | Effect::Resume)));
        proxy.close(&mut flight);
    }
    let mut probe = proxy.chat(&[], CHAT);
    proxy.answer(&mut probe, 200, r#"{"usage":{"prompt_tokens":10,"completion_tokens":0}}"#);
    assert_eq!(probe.response_header("x-ratelimit-remaining-tokens").as_deref(), Some("985"));
}

/// `unreadable: pass` lets go what nobody understands here, as it came; what was decoded goes on decoded.
#[test]
fn what_passes_unread_is_as_it_came() {
    let mut proxy = Proxy::new(r#"{"models":[{"name":"chat"}],"unreadable":"pass"}"#);
    for (coding, body) in [("br", CHAT.as_bytes()), ("gzip", b"no gzip"), ("zstd", &zstd(CHAT)[..20])] {
        let flight = send(&mut proxy, &[("content-encoding", coding), ("content-length", "7")], body);
        assert!(flight.went(), "{coding}");
        assert_eq!(sent(&flight, body), (body.to_vec(), None, true), "{coding}");
    }
    let body = zstd("no JSON");
    let flight = send(&mut proxy, &[("content-encoding", "zstd"), ("content-length", "7")], &body);
    assert!(flight.went());
    assert_eq!(sent(&flight, &body), (b"no JSON".to_vec(), Some("7".to_owned()), false));
}

/// Where headers do not wait, they go without `content-encoding`: from then on the body is decoded, or refused.
#[test]
fn where_headers_do_not_wait_they_promise_what_then_comes() {
    for unreadable in ["refuse", "pass"] {
        let more = format!(r#"{{"waitForBody":false,"unreadable":"{unreadable}","#);
        let mut proxy = Proxy::new(&CONFIG.replacen('{', &more, 1));
        let plain = proxy.chat(&[("content-length", "71")], CHAT);
        let expected = (sent(&plain, CHAT.as_bytes()).0, None, false);
        let flight = send(&mut proxy, &GZIP_HEAD, unhex(GZIP));
        assert!(flight.went());
        assert_eq!(sent(&flight, &unhex(GZIP)), expected);
        assert_eq!(flight.facts().prompt_tokens, plain.facts().prompt_tokens);
        for body in [&b"no gzip"[..], &unhex(GZIP)[..60]] {
            let flight = send(&mut proxy, &GZIP_HEAD, body);
            assert_eq!(status(&flight), Some(400), "{unreadable}");
            assert!(!flight.went());
        }
        // Decoded, it can pass.
        let flight = send(&mut proxy, &ZSTD, zstd("no JSON"));
        assert_eq!(flight.went(), unreadable == "pass");
        if flight.went() {
            assert_eq!(sent(&flight, b""), (b"no JSON".to_vec(), None, false));
        }
        let flight = send(&mut proxy, &[("content-encoding", "br")], CHAT);
        assert_eq!(status(&flight), (unreadable == "refuse").then_some(415));
        assert!(sent(&flight, b"").2);
    }
}

/// Headers that were held and are let go as no body comes promise the same.
#[test]
fn headers_that_are_let_go_early_promise_it_too() {
    let mut proxy = Proxy::new(CONFIG);
    let mut flight = proxy.open();
    let head = [(":method", "POST"), (":path", "/v1/chat/completions"), GZIP_HEAD[0], GZIP_HEAD[1]];
    let head: Headers = head.map(|(name, value)| (name.to_owned(), value.into())).into();
    proxy.tell(&mut flight, Event::RequestHead { headers: &head, end: false });
    let bytes = unhex(GZIP);
    assert!(sent(&flight, &bytes).2);
    proxy.now += SECOND;
    proxy.tell(&mut flight, Event::Tick);
    proxy.tell(&mut flight, Event::Tick);
    assert!(flight.went());
    assert_eq!(sent(&flight, &bytes), (bytes.clone(), None, false));
    flight.props.1.clone_from(&bytes);
    proxy.tell(&mut flight, Event::RequestChunk { bytes: &bytes, end: true });
    let (body, length, is_named) = sent(&flight, &bytes);
    assert!(body.ends_with(&CHAT.as_bytes()[1..]) && length.is_none() && !is_named);
}

#[test]
fn trailers_end_it_where_it_can_still_be_replaced() {
    for (wait, expected) in [("true", None), ("false", Some(400))] {
        let mut proxy =
            Proxy::new(&CONFIG.replacen('{', &format!(r#"{{"waitForBody":{wait},"unreadable":"pass","#), 1));
        let mut flight = proxy.open();
        let head = [(":method", "POST"), (":path", "/v1/chat/completions"), GZIP_HEAD[0]];
        let head: Headers = head.map(|(name, value)| (name.to_owned(), value.into())).into();
        proxy.tell(&mut flight, Event::RequestHead { headers: &head, end: false });
        flight.props.1 = unhex(GZIP);
        proxy.tell(&mut flight, Event::RequestChunk { bytes: &unhex(GZIP), end: false });
        proxy.tell(&mut flight, Event::RequestTrailers);
        assert_eq!((status(&flight), flight.went()), (expected, expected.is_none()));
        if flight.went() {
            assert_eq!(sent(&flight, b"").0.len(), CHAT.len() + r#","max_tokens":5"#.len());
        }
    }
}

/// While a service is asked the proxy has what was decoded, and the worker nothing of it.
#[test]
fn it_is_handed_over_before_a_service_is_asked() {
    let config = r#"{"models":[{"name":"chat"}],"mesh":{"service":"rls"},
        "limits":[{"name":"all","tokens":1000,"every":"1h","scope":"mesh"}]}"#;
    let flight = send(&mut Proxy::new(config), &ZSTD, zstd(CHAT));
    let at = |found: fn(&Effect) -> bool| flight.seen.iter().position(found);
    let body = at(|effect| matches!(effect, Effect::RequestBody(bytes) if bytes == CHAT.as_bytes()));
    assert!(body.is_some() && body < at(|effect| matches!(effect, Effect::Call(_))), "{:?}", flight.seen);
    assert!(flight.exchange.is_holding());
}

/// Who was refused a moment ago has a large body read before it is counted, however short it came.
#[test]
fn who_was_refused_has_it_counted_the_same() {
    let text = CHAT.replace("world", &"lorem ipsum ".repeat(3000));
    let limit = r#"{"models":[{"name":"chat"}],"limits":[{"name":"tpm","tokens":100,"every":"1h"}]}"#;
    let mut proxy = Proxy::new(&limit.replace("100", "30000"));
    let first = send(&mut proxy, &ZSTD, zstd(&text));
    let huge = CHAT.replace("world", &"lorem ipsum ".repeat(20_000));
    assert_eq!(status(&send(&mut proxy, &ZSTD, zstd(&huge))), Some(413));
    for text in [text, CHAT.to_owned()] {
        let plain = Proxy::new(limit).chat(&[], &text).facts().prompt_tokens;
        let again = send(&mut proxy, &ZSTD, zstd(&text));
        assert_eq!(again.facts().prompt_tokens, plain, "{:?}", again.reply());
    }
    assert!(first.went());
}

/// The first plugin in a row decodes; those behind it see what it made of it.
#[test]
fn a_plugin_by_itself_decodes_too() {
    for plugin in [Plugin::TokenCounter, Plugin::TenantBucket, Plugin::CanaryRouter, Plugin::PendingGauge] {
        let mut proxy = Proxy::with(CONFIG, plugin);
        let flight = send(&mut proxy, &GZIP_HEAD, unhex(GZIP));
        let (body, length, is_named) = sent(&flight, b"");
        assert!(flight.went() && body.ends_with(&CHAT.as_bytes()[1..]) && !is_named, "{plugin:?}");
        assert_eq!(length, Some(body.len().to_string()), "{plugin:?}");
    }
}

#[test]
fn what_is_none_of_ours_is_left_alone() {
    let mut proxy = Proxy::new(&CONFIG.replacen('{', r#"{"paths":{"allow":["/v1/files"]},"#, 1));
    let mut flight = proxy.open();
    let head = [(":method", "POST"), (":path", "/v1/files"), ("content-encoding", "br")];
    let head: Headers = head.map(|(name, value)| (name.to_owned(), value.into())).into();
    proxy.tell(&mut flight, Event::RequestHead { headers: &head, end: false });
    assert!(sent(&flight, b"").2 && flight.reply().is_none() && !flight.exchange.is_holding());
}
