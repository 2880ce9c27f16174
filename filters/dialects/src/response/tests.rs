use crate::dialect::Dialect;
use crate::response::quality::{Finish, Quality};
use crate::response::reader::{Reading, ResponseReader};
use crate::response::usage::{USAGE_MAX, Usage};
use crate::sink::CompletionSink;

#[derive(Default, Debug, PartialEq)]
struct Texts {
    of: Vec<String>,
    ends: usize,
}

impl CompletionSink for Texts {
    fn part(&mut self, choice: u32, text: &str) {
        let choice = choice as usize;
        if self.of.len() <= choice {
            self.of.resize(choice + 1, String::new());
        }
        self.of[choice].push_str(text);
    }
    fn end(&mut self) {
        self.ends += 1;
    }
}

fn read(dialect: Dialect, body: &str, size: usize) -> (ResponseReader, Texts) {
    let mut reader = ResponseReader::new(dialect, true);
    let mut texts = Texts::default();
    for piece in body.as_bytes().chunks(size) {
        reader.push(piece, &mut texts);
    }
    (reader, texts)
}

#[test]
fn reads_a_whole_response() {
    let body = r#"{"choices":[{"message":{"role":"assistant","content":"{\"a\":1}"}}],"usage":{"prompt_tokens":9,
        "completion_tokens":4,"prompt_tokens_details":{"cached_tokens":8},"completion_tokens_details":{"reasoning_tokens":2}}}"#;
    for size in [1, 5, 1000] {
        let (mut reader, texts) = read(Dialect::Chat, body, size);
        let usage = Usage { prompt: 9, cached: 8, cache_creation: 0, completion: 4, reasoning: 2 };
        assert_eq!(reader.usage(), Some(usage));
        assert_eq!(texts, Texts { of: vec![r#"{"a":1}"#.to_owned()], ends: 1 });
        assert_eq!(reader.quality(), Quality::default());
    }
}

#[test]
fn reads_a_stream_at_any_split() {
    let body = "\u{feff}: hi\r\n\r\ndata: {\"choices\":[{\"delta\":{\"content\":\"He\"}}],\"usage\":null}\r\n\r\n\
        data: {\"choices\":[{\"delta\":\ndata: {\"content\":\"llo\"}}]}\n\ndata: not json\n\n\
        data: {\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":18446744073709551615}}\n\ndata: [DONE]\n\n";
    for size in 1..body.len() {
        let (mut reader, texts) = read(Dialect::Chat, body, size);
        let usage = reader.usage().unwrap();
        assert_eq!((usage.prompt, usage.completion), (3, 0), "size {size}");
        assert_eq!(texts, Texts { of: vec!["Hello".to_owned()], ends: 2 }, "size {size}");
        assert!(reader.quality().malformed_json_output && !reader.failed());
    }
}

#[test]
fn choices_are_kept_apart_wherever_their_index_stands() {
    let body = "data: {\"choices\":[{\"index\":1,\"delta\":{\"content\":\"b\"}},{\"delta\":{\"content\":\"a\"},\"index\":0}]}\n\n\
        data: {\"choices\":[{\"delta\":{\"content\":\"B\"},\"index\":1,\"finish_reason\":\"length\"}]}\n\n\
        data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
    for size in 1..body.len() {
        let (mut reader, texts) = read(Dialect::Chat, body, size);
        assert_eq!(texts, Texts { of: vec!["a".to_owned(), "bB".to_owned()], ends: 3 }, "size {size}");
        assert_eq!(reader.quality().finish, Some(Finish::Length));
    }
}

#[test]
fn tool_calls_are_counted_and_their_arguments_checked() {
    let call = |name: &str, arguments: &str| {
        let (name, arguments) = (serde_json::json!(name), serde_json::json!(arguments));
        format!(
            "data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"tool_calls\":[{{\"index\":0,\"function\":{{\"name\":{name},\"arguments\":{arguments}}}}}]}}}}]}}\n\n"
        )
    };
    let more = |arguments: &str| call("", arguments);
    let good = [call("f", "{\"a\""), more(":1}"), call("g", "")].concat();
    let (mut reader, _) = read(Dialect::Chat, &good, 7);
    let quality = reader.quality();
    assert_eq!((quality.tool_calls, quality.malformed_tool_args, quality.empty), (2, false, false));
    for bad in [[call("f", "{\"a\""), call("g", "{}")].concat(), call("f", "{]"), call("f", "{} {}")] {
        assert!(read(Dialect::Chat, &bad, 5).0.quality().malformed_tool_args, "{bad}");
    }
}

#[test]
fn errors_in_the_body_are_failures() {
    for (dialect, body) in [
        (Dialect::Chat, "data: {\"error\":{\"message\":\"x\",\"code\":500}}\n\n"),
        (Dialect::Chat, "data: {\"object\":\"error\",\"message\":\"x\"}\n\n"),
        (Dialect::Responses, "event: error\ndata: {\"type\":\"error\",\"code\":\"server_error\"}\n\n"),
        (
            Dialect::Responses,
            "data: {\"type\":\"response.failed\",\"response\":{\"status\":\"failed\",\"error\":{\"code\":\"x\"}}}\n\n",
        ),
        (Dialect::Messages, "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\"}}\n\n"),
    ] {
        for size in [1, 9, 500] {
            assert!(read(dialect, body, size).0.failed(), "{body}");
        }
    }
    let fine = r#"{"object":"response","status":"completed","error":null,"output":[]}"#;
    assert!(!read(Dialect::Responses, fine, 9).0.failed());
}

#[test]
fn an_event_of_a_megabyte_is_counted_without_being_held() {
    let body = format!("data: {{\"choices\":[{{\"delta\":{{\"content\":\"{}\"}}}}]}}\n\n", "y".repeat(1 << 20));
    let (mut reader, texts) = read(Dialect::Chat, &body, 1000);
    assert_eq!(texts.of[0].len(), 1 << 20);
    assert!(!reader.quality().empty && size_of::<ResponseReader>() < 1024);
}

#[test]
fn events_are_known_by_their_names_where_their_type_comes_last() {
    let event = |name: &str, data: &str| format!("event: {name}\ndata: {data}\n\n");
    let body = [
        event(
            "response.output_item.added",
            r#"{"item":{"name":"f","type":"function_call"},"type":"response.output_item.added"}"#,
        ),
        event(
            "response.function_call_arguments.delta",
            r#"{"delta":"{\"a\"","type":"response.function_call_arguments.delta"}"#,
        ),
        event(
            "response.function_call_arguments.delta",
            r#"{"delta":":1}","type":"response.function_call_arguments.delta"}"#,
        ),
        event("response.output_text.delta", r#"{"delta":"Hi","type":"response.output_text.delta"}"#),
    ]
    .concat();
    for size in 1..body.len() {
        let (mut reader, _) = read(Dialect::Responses, &body, size);
        let quality = reader.quality();
        assert!(quality.tool_calls == 1 && !quality.malformed_tool_args, "{size}: {quality:?}");
    }
}

#[test]
fn what_a_response_is_is_seen_from_its_bytes() {
    use Reading::{Empty, Read, Unread};
    let answer = r#"{"choices":[{"message":{"content":"Hi"}}]}"#;
    let chunk = "data: {\"choices\":[{\"delta\":{\"content\":\"Hi\"}}]}\n\n";
    for (body, so_far, reading) in [
        (answer.to_owned(), Read, Read),
        (format!("\u{feff}\r\n {answer}\n"), Read, Read),
        (chunk.to_owned(), Read, Read),
        (format!("\u{feff}\n\n{chunk}"), Read, Read),
        (format!(": wait\n\nretry: 9\nid: 1\nevent: x\n{chunk}data: [DONE]\n\n"), Read, Read),
        (format!("{chunk}data: 7\n\ndata: null\n\ndata: {{}}\n\ndata: [DONE]"), Read, Read),
        (format!("data: [DONE]\n\n{chunk}data: {{\"choices\":["), Read, Read),
        ("data: {\"choices\":[]}\n\n".to_owned(), Read, Read),
        ("{ }\n".to_owned(), Read, Read),
        // Nothing at all.
        (String::new(), Empty, Empty),
        ("data: {}\n\n".to_owned(), Empty, Empty),
        (" \r\n\u{feff}".to_owned(), Empty, Empty),
        (": ping\n\nevent: x\ndata:\n\ndata: [DONE]\n\n".to_owned(), Empty, Empty),
        // One good event does not make up for what stands beside it.
        (format!("data: nonsense\n\n{chunk}"), Unread, Unread),
        (format!("{chunk}data: {{\"choices\":[\n\n"), Unread, Unread),
        (format!("{chunk}data: {{'text':'Hi'}}\n\ndata: [DONE]\n\n"), Unread, Unread),
        (format!("{chunk}data: Hi all"), Unread, Unread),
        (format!("{chunk}data: <b>Hi</b>\n\n"), Unread, Unread),
        (format!("{}{chunk}", chunk.trim_end().to_owned() + "\n"), Unread, Unread),
        (format!("{chunk}{answer}\n{answer}\n"), Unread, Unread),
        (format!("id: 1\nx: y\n{chunk}"), Unread, Unread),
        // Neither of both, or broken, or something else.
        ("<html>Hi</html>".to_owned(), Unread, Unread),
        ("event of the day".to_owned(), Unread, Unread),
        ("\u{1f}\u{8b}".to_owned(), Unread, Unread),
        ("\"Hi\"".to_owned(), Unread, Unread),
        ("data: Hi\n\n".to_owned(), Unread, Unread),
        ("data: [Done: Hi]\n\n".to_owned(), Unread, Unread),
        ("data: {\"reply\":\"Hi\"}\n\n".to_owned(), Unread, Unread),
        (format!("{answer}{answer}"), Unread, Unread),
        (answer.replace(':', ""), Unread, Unread),
        (format!("[{answer}]"), Read, Unread),
        ("{\"reply\":\"Hi\"}".to_owned(), Read, Unread),
        (answer.trim_end_matches('}').to_owned(), Read, Unread),
        ("data: {\"reply\":\"Hi".to_owned(), Empty, Unread),
    ] {
        for size in 1..=body.len().max(1) {
            let (reader, texts) = read(Dialect::Chat, &body, size);
            assert_eq!((reader.reading(false), reader.reading(true)), (so_far, reading), "{body:?} {size}");
            assert!(
                reading != Read || body.contains("[]") || body.contains("{ }") || texts.of == ["Hi"],
                "{body:?} {size}"
            );
        }
    }
}

#[test]
fn a_long_text_beside_a_known_one_may_be_generated_too() {
    use Reading::{Read, Unread};
    let words = "one two three four ".repeat(5);
    let chat = |beside: &str| (Dialect::Chat, format!(r#"{{"choices":[{{"delta":{{"content":"Hi",{beside}}}}}]}}"#));
    let whole = |beside: &str| (Dialect::Chat, format!(r#"{{"choices":[{{"message":{{"content":"Hi",{beside}}}}}]}}"#));
    let messages = |beside: &str| (Dialect::Messages, format!(r#"{{"delta":{{"text":"Hi",{beside}}}}}"#));
    for ((dialect, document), reading) in [
        (chat(&format!(r#""thoughts":"{words}""#)), Unread),
        (chat(&format!(r#""x":{{"y":["{words}"]}}"#)), Unread),
        (chat(&format!(r#""reasoning":{{"text":"{words}"}}"#)), Unread),
        (whole(&format!(r#""thoughts":"{words}""#)), Unread),
        (messages(&format!(r#""thoughts":"{words}""#)), Unread),
        ((Dialect::Responses, format!(r#"{{"type":"x.delta","delta":{{"text":"{words}"}}}}"#)), Unread),
        // Names, signatures, media, and what is quoted.
        (chat(r#""thoughts":"Hm""#), Read),
        (chat(&format!(r#""thought_id":"{words}","role":"{words}""#)), Read),
        (chat(&format!(r#""reasoning_details":[{{"type":"x","signature":"{words}","data":"{words}"}}]"#)), Read),
        (whole(&format!(r#""annotations":[{{"url_citation":{{"title":"{words}","url":"{words}"}}}}]"#)), Read),
        (messages(&format!(r#""citation":{{"cited_text":"{words}"}}"#)), Read),
    ] {
        // What came before in the stream makes no difference.
        for body in [document.clone(), format!("data: {document}\n\ndata: {document}\n\n")] {
            for size in [1, 7, 1000] {
                assert_eq!(read(dialect, &body, size).0.reading(true), reading, "{dialect:?} {body}");
            }
        }
    }
}

#[test]
fn a_long_text_at_a_place_that_nobody_knows_may_be_the_answer() {
    use Reading::{Read, Unread};
    let words = "one two three four ".repeat(5);
    let short = "one two three four ".repeat(3);
    let answer = |text: &str| {
        [
            (Dialect::Chat, format!(r#"{{"status":"success","answer":"{text}"}}"#)),
            (Dialect::Chat, format!(r#"{{"type":"text","value":"{text}"}}"#)),
            (Dialect::Chat, format!(r#"{{"model":"m","message":{{"content":"{text}"}},"stop_reason":"stop"}}"#)),
            (
                Dialect::Chat,
                format!(r#"{{"choices":[{{"messages":[{{"content":"{text}"}}],"finish_reason":"stop"}}]}}"#),
            ),
            (Dialect::Chat, format!(r#"{{"choices":[{{"delta":{{"function":{{"parameters":"{text}"}}}}}}]}}"#)),
            (Dialect::Chat, format!(r#"{{"choices":[],"usage":{{"completion_tokens":0}},"response":"{text}"}}"#)),
            (Dialect::Chat, format!(r#"{{"type":"message","content":[{{"type":"text","text":"{text}"}}]}}"#)),
            (Dialect::Chat, format!(r#"{{"type":"x","output":[{{"content":[{{"text":"{text}"}}]}}]}}"#)),
            (Dialect::Completions, format!(r#"{{"status":"success","message":"{text}"}}"#)),
            (Dialect::Messages, format!(r#"{{"type":"message","completion":"{text}"}}"#)),
            (Dialect::Messages, format!(r#"{{"choices":[{{"message":{{"content":"{text}"}}}}]}}"#)),
            (Dialect::Messages, format!(r#"{{"message":{{"usage":{{"output_tokens":1}}}},"x":{{"y":["{text}"]}}}}"#)),
            (Dialect::Responses, format!(r#"{{"status":"completed","output_text":"{text}"}}"#)),
            (Dialect::Responses, format!(r#"{{"choices":[{{"message":{{"content":"{text}"}}}}]}}"#)),
            (Dialect::Responses, format!(r#"{{"type":"response.completed","response":{{"text":"{text}"}}}}"#)),
        ]
    };
    let known = answer(&words)
        .into_iter()
        .zip(answer(&short))
        .flat_map(|((dialect, long), (_, short))| [(dialect, long, Unread), (dialect, short, Read)]);
    let about = [
        (Dialect::Chat, format!(r#"{{"object":"error","message":"{words}","type":"x","code":400}}"#)),
        (Dialect::Chat, format!(r#"{{"error":{{"message":"{words}","more":["{words}"]}}}}"#)),
        (Dialect::Chat, format!(r#"{{"id":"{words}","model":"{words}","request_id":"{words}","choices":[]}}"#)),
        (Dialect::Chat, format!(r#"{{"choices":[{{"message":{{"audio":{{"data":"{words}"}}}}}}]}}"#)),
        (Dialect::Chat, format!(r#"{{"choices":[{{"message":{{"content":"Hi"}}}}],"x":"{words}"}}"#)),
        (Dialect::Chat, format!(r#"{{"x":"{words}","choices":[{{"message":{{"content":"Hi"}}}}]}}"#)),
        (Dialect::Chat, format!(r#"{{"choices":[],"x":"{words}","usage":{{"completion_tokens":7}}}}"#)),
        (
            Dialect::Embeddings,
            format!(r#"{{"object":"list","data":[{{"embedding":"{words}"}}],"usage":{{"prompt_tokens":7}}}}"#),
        ),
        (
            Dialect::Messages,
            format!(r#"{{"type":"x","content_block":{{"type":"redacted_thinking","data":"{words}"}}}}"#),
        ),
        (Dialect::Responses, format!(r#"{{"status":"queued","instructions":"{words}","metadata":{{"a":"{words}"}}}}"#)),
        (
            Dialect::Responses,
            format!(
                r#"{{"type":"response.created","response":{{"tools":[{{"description":"{words}"}}],"user":"{words}"}}}}"#
            ),
        ),
    ];
    for (dialect, document, reading) in known.chain(about.into_iter().map(|(dialect, it)| (dialect, it, Read))) {
        for body in [document.clone(), format!("data: {document}\n\n")] {
            for size in [1, 7, 1000] {
                assert_eq!(read(dialect, &body, size).0.reading(true), reading, "{dialect:?} {body}");
            }
        }
    }
    // In pieces.
    let delta = "data: {\"choices\":[{\"delta\":{\"words\":\" one\"}}],\"system_fingerprint\":\"fp_1234567\"}\n\n";
    assert_eq!(read(Dialect::Chat, &delta.repeat(16), 9).0.reading(true), Read);
    assert_eq!(read(Dialect::Chat, &delta.repeat(17), 9).0.reading(true), Unread);
    assert!(size_of::<ResponseReader>() < 1024);
}

#[test]
fn a_later_report_takes_nothing_back() {
    let chat = |reports: &[&str]| -> String {
        reports.iter().map(|usage| format!("data: {{\"choices\":[],\"usage\":{usage}}}\n\n")).collect()
    };
    let messages = |start: &str, delta: &str| {
        format!(
            "data: {{\"type\":\"message_start\",\"message\":{{\"usage\":{start}}}}}\n\ndata: {{\"type\":\"message_delta\",\"usage\":{delta}}}\n\n"
        )
    };
    let real = r#"{"prompt_tokens":40,"completion_tokens":77,"prompt_tokens_details":{"cached_tokens":8}}"#;
    let zeros = r#"{"prompt_tokens":0,"completion_tokens":0,"prompt_tokens_details":{"cached_tokens":0}}"#;
    for (dialect, body, prompt, cached, completion) in [
        (Dialect::Chat, chat(&[real, zeros]), 40, 8, 77),
        (Dialect::Chat, chat(&[zeros, real, "null"]), 40, 8, 77),
        (Dialect::Chat, chat(&[r#"{"prompt_tokens":40,"completion_tokens":1}"#, real]), 40, 8, 77),
        (Dialect::Chat, chat(&[real, r#"{"prompt_tokens":-1,"completion_tokens":NaN}"#]), 40, 8, 77),
        (Dialect::Chat, chat(&[r#"{"prompt_tokens":40}"#, r#"{"completion_tokens":77}"#]), 40, 0, 77),
        (Dialect::Chat, chat(&[r#"{"prompt_tokens":16777216,"completion_tokens":16777217}"#]), USAGE_MAX, 0, 0),
        (Dialect::Chat, chat(&[r#"{"prompt_tokens":"40","completion_tokens":0.5}"#]), 0, 0, 0),
        (Dialect::Messages, messages(r#"{"input_tokens":25,"output_tokens":1}"#, r#"{"output_tokens":15}"#), 25, 0, 15),
        (Dialect::Messages, messages(r#"{"input_tokens":0,"output_tokens":0}"#, r#"{"output_tokens":15}"#), 0, 0, 15),
        // It is told again, and more of it was cached than was known at first.
        (
            Dialect::Messages,
            messages(
                r#"{"input_tokens":1000,"output_tokens":1}"#,
                r#"{"input_tokens":200,"cache_read_input_tokens":800,"output_tokens":15}"#,
            ),
            1000,
            800,
            15,
        ),
        (
            Dialect::Messages,
            messages(
                r#"{"input_tokens":200,"cache_read_input_tokens":800,"output_tokens":1}"#,
                r#"{"input_tokens":200,"output_tokens":15}"#,
            ),
            1000,
            800,
            15,
        ),
    ] {
        for size in [1, 7, 1000] {
            let usage = read(dialect, &body, size).0.usage().unwrap_or_default();
            assert_eq!((usage.prompt, usage.cached, usage.completion), (prompt, cached, completion), "{body}");
        }
    }
}

/// Every place where a text may stand, streamed and not; what is to be counted of it.
#[test]
fn every_text_is_counted_once() {
    let chat = |delta: &str| format!("{{\"choices\":[{{\"index\":0,\"delta\":{{{delta}}}}}]}}");
    let choice = |choice: &str| format!("{{\"choices\":[{{{choice}}}]}}");
    let thought = "a thought that is longer than the others ".repeat(20);
    let longer = format!("{thought}!");
    let twice = |first: &str, second: &str| {
        chat(&format!("\"reasoning_content\":{},\"reasoning\":{}", serde_json::json!(first), serde_json::json!(second)))
    };
    for (dialect, event, text) in [
        (Dialect::Chat, chat(r#""content":"Hi""#), "Hi"),
        (Dialect::Chat, chat(r#""content":"Hi","reasoning":null,"refusal":"""#), "Hi"),
        (Dialect::Chat, chat(r#""content":[{"type":"thinking","thinking":[{"type":"text","text":"a"}]},{"type":"text","text":"b"}]"#), "ab"),
        (Dialect::Chat, chat(r#""content":[{"type":"thinking","thinking":"a"}],"thinking":"b""#), "ab"),
        (Dialect::Chat, chat(r#""refusal":"no","audio":{"transcript":"said","data":"AAAA"}"#), "nosaid"),
        (Dialect::Chat, chat(r#""function_call":{"name":"f","arguments":"{\"a\":1}"}"#), "f{\"a\":1}"),
        (Dialect::Chat, chat(r#""function_call":{"arguments":{"a":"b","c":12}}"#), "abc12"),
        (Dialect::Chat, chat(r#""tool_calls":[{"index":0,"function":{"name":"f","arguments":"{}"}},{"function":{"name":"f","arguments":"{}"}}]"#), "f{}f{}"),
        (Dialect::Chat, chat(r#""content":["a",{"text":"b"}],"reasoning_text":"c""#), "abc"),
        (Dialect::Chat, chat(r#""content":{"type":"text","text":"Hi"}"#), "Hi"),
        (Dialect::Chat, chat(r#""tool_calls":[{"custom":{"name":"f","input":"x"}}]"#), "fx"),
        // The same under two names, and what is not the same.
        (Dialect::Chat, chat(r#""reasoning_content":"think","reasoning":"think""#), "think"),
        (Dialect::Chat, chat(r#""reasoning":"think","content":"think""#), "thinkthink"),
        (Dialect::Chat, chat(r#""reasoning":"th\u00efnk","reasoning_content":"th\u00efnk","reasoning_details":[{"type":"reasoning.text","text":"th\u00efnk"}]"#), "thïnk"),
        (Dialect::Chat, chat(r#""reasoning_content":"think","thinking_blocks":[{"thinking":"think","signature":"x"}]"#), "think"),
        (Dialect::Chat, chat(r#""reasoning":"think","reasoning_content":"thinker""#), "thinker"),
        (Dialect::Chat, chat(r#""reasoning":"think","reasoning_content":"thing""#), "thinkthing"),
        (Dialect::Chat, chat(r#""reasoning":"","reasoning_content":"think""#), "think"),
        (Dialect::Chat, twice(&thought, &thought), &thought),
        (Dialect::Chat, twice(&thought, &longer), &longer),
        (Dialect::Chat, chat(r#""function_call":{"name":"f","arguments":"{}"},"tool_calls":[{"function":{"name":"f","arguments":"{}"}},{"function":{"name":"g","arguments":"{}"}}]"#), "f{}g{}"),
        (Dialect::Chat, choice(r#""text":"Hi","index":0"#), "Hi"),
        (Dialect::Completions, choice(r#""text":"Hi""#), "Hi"),
        (Dialect::Completions, choice(r#""delta":{"content":"Hi"}"#), "Hi"),
        (Dialect::Messages, r#"{"type":"content_block_start","content_block":{"type":"tool_use","name":"f","input":{"a":1}}}"#.to_owned(), "fa1"),
        (Dialect::Messages, r#"{"type":"content_block_delta","delta":{"type":"text_delta","text":"Hi"}}"#.to_owned(), "Hi"),
        (Dialect::Messages, r#"{"type":"content_block_delta","delta":{"type":"compaction_delta","content":"Hi"}}"#.to_owned(), "Hi"),
        (Dialect::Messages, r#"{"type":"message_start","message":{"role":"assistant","content":[{"type":"text","text":"Hi"}]}}"#.to_owned(), "Hi"),
        (Dialect::Messages, r#"{"type":"message","content":"Hi"}"#.to_owned(), "Hi"),
        (Dialect::Messages, r#"{"type":"message_start","message":{"content":"Hi"}}"#.to_owned(), "Hi"),
        (Dialect::Responses, r#"{"type":"response.completed","response":{"output":[{"type":"message","content":"Hi"}]}}"#.to_owned(), "Hi"),
        (Dialect::Responses, r#"{"type":"response.audio.transcript.delta","delta":"Hi"}"#.to_owned(), "Hi"),
        (Dialect::Responses, r#"{"type":"response.audio.delta","delta":"AAAA"}"#.to_owned(), ""),
        (Dialect::Responses, r#"{"type":"response.custom_tool_call_input.delta","delta":"Hi"}"#.to_owned(), "Hi"),
        (Dialect::Responses, r#"{"type":"response.code_interpreter_call_code.delta","delta":"Hi"}"#.to_owned(), "Hi"),
        (Dialect::Responses, r#"{"type":"response.mcp_call_arguments.delta","delta":"{}"}"#.to_owned(), "{}"),
        (Dialect::Responses, r#"{"type":"response.completed","response":{"output":[{"type":"message","content":[{"type":"output_text","text":"Hi"}]},{"type":"custom_tool_call","name":"f","input":"x"}]}}"#.to_owned(), "Hifx"),
    ] {
        let stream = format!("data: {event}\n\n");
        for size in 1..stream.len() {
            let (reader, texts) = read(dialect, &stream, size);
            assert_eq!((texts.of.concat().as_str(), reader.reading(true)), (text, Reading::Read), "{stream} {size}");
        }
        if dialect == Dialect::Chat {
            let (_, texts) = read(dialect, &event.replace("delta", "message"), 9);
            assert_eq!(texts.of.concat(), text, "{event}");
            // Each delta is one of its own.
            let (_, texts) = read(dialect, &stream.repeat(3), 9);
            assert_eq!(texts.of.concat(), text.repeat(3), "{event}");
        }
    }
    // What the end repeats is known.
    let delta = r#"data: {"type":"response.output_text.delta","delta":"Hi"}"#;
    let end = r#"data: {"type":"response.completed","response":{"output":[{"content":[{"text":"Hi"}]}]}}"#;
    assert_eq!(read(Dialect::Responses, &format!("{delta}\n\n{end}\n\n"), 9).1.of.concat(), "Hi");
    // So is what the end of a part and of an item repeats; where no delta came, it is read there.
    let added = r#"{"type":"response.output_item.added","item":{"type":"message"}}"#;
    let (part, deltas) = (
        r#"{"type":"response.content_part.added","part":{"type":"output_text","text":""}}"#,
        r#"{"type":"response.output_text.delta","delta":"Hi"}"#,
    );
    let done = [
        r#"{"type":"response.output_text.done","text":"Hi"}"#,
        r#"{"type":"response.content_part.done","part":{"type":"output_text","text":"Hi"}}"#,
        r#"{"type":"response.output_item.done","item":{"type":"message","content":[{"type":"output_text","text":"Hi"}]}}"#,
        r#"{"type":"response.completed","response":{"output":[{"content":[{"text":"Hi"}]}]}}"#,
    ];
    let [call, named] = ["added", "done"].map(|when| {
        let item = r#"{"type":"function_call","name":"f","arguments":"{}"}"#;
        let item = if when == "added" { item.replace("{}", "") } else { item.to_owned() };
        format!(r#"{{"type":"response.output_item.{when}","item":{item}}}"#)
    });
    let arguments = r#"{"type":"response.function_call_arguments.done","arguments":"{}"}"#;
    for (events, text) in [
        (vec![added, part, deltas, done[0], done[1], done[2], done[3]], "Hi"),
        (vec![added, part, deltas, done[0], done[1], done[2], added, part, done[0], done[1], done[2]], "HiHi"),
        (vec![added, part, deltas, done[0], part, done[0], done[2], added, done[2], done[3]], "HiHiHi"),
        (vec![done[0]], "Hi"),
        (vec![done[1], done[2]], "Hi"),
        (vec![added, done[2], done[3]], "Hi"),
        (vec![done[3]], "Hi"),
        (vec![&call, arguments, &named], "f{}"),
        (vec![&call, &named], "f{}"),
        (vec![&named], "f{}"),
        // Items that do not say when they begin, and two at once.
        (vec![done[2], done[2], &named, &named, done[3]], "HiHif{}f{}"),
        (vec![added, deltas, done[2], done[2], added, deltas, done[2]], "HiHiHi"),
        (vec![added, added, deltas, deltas, done[2], done[2], done[2]], "HiHiHi"),
        (
            vec![
                r#"{"type":"response.reasoning_summary_text.done","text":"Hi"}"#,
                r#"{"type":"response.refusal.done","refusal":"no"}"#,
            ],
            "Hi",
        ),
        (vec![r#"{"type":"response.audio.done","data":"AAAA"}"#], ""),
    ] {
        let parsed = |event: &&str| serde_json::from_str::<serde_json::Value>(event).unwrap();
        let named =
            |event: &&str| format!("event: {}\ndata: {}\n\n", parsed(event)["type"].as_str().unwrap(), parsed(event));
        let as_given = events.iter().map(|event| format!("data: {event}\n\n")).collect::<String>();
        // The kind of an event stands behind what it carries, and perhaps before it too.
        let sorted = events.iter().map(|event| format!("data: {}\n\n", parsed(event))).collect();
        for stream in [as_given, sorted, events.iter().map(named).collect()] {
            // A name may stand behind its arguments.
            let letters = |text: &str| text.chars().collect::<std::collections::BinaryHeap<_>>().into_sorted_vec();
            assert_eq!(letters(&read(Dialect::Responses, &stream, 9).1.of.concat()), letters(text), "{stream}");
        }
    }
    // Of a stream's content it is known from the second event on.
    let both = "data: {\"choices\":[{\"delta\":{\"content\":\"a\"},\"text\":\"a\"}]}\n\n";
    assert_eq!(read(Dialect::Chat, &both.repeat(3), 9).1.of.concat(), "aaaa");
}

/// A name without data is no event's, and of two the last one counts.
#[test]
fn the_name_of_no_event_is_not_that_of_the_next_one() {
    let name = "response.reasoning_text.delta";
    for before in ["event: ping\n\n", "event: ping\r\r", "event: ping\nid: 1\n\n: wait\n\n", "event: ping\n"] {
        let stream = format!("{before}event: {name}\ndata: {{\"delta\":\"{{\"}}\n\n{before}data: [DONE]\n\n");
        for size in 1..stream.len() {
            let (mut reader, texts) = read(Dialect::Responses, &stream, size);
            // What is only thought need not be JSON.
            assert_eq!((texts.of.concat().as_str(), reader.quality().malformed_json_output), ("{", false), "{stream}");
        }
    }
}

/// The kind of an event is cut at the same place however it comes, also within a character.
#[test]
fn a_long_kind_is_the_same_however_it_is_cut() {
    for letters in 40..52 {
        let kind = format!("{}é{}.done", "x".repeat(letters), "y".repeat(9));
        let stream = format!("data: {{\"type\":\"{kind}\",\"text\":\"Hi\"}}\n\n");
        for size in 1..stream.len() {
            assert_eq!(read(Dialect::Responses, &stream, size).1.of.concat(), "", "{stream} {size}");
        }
    }
}
