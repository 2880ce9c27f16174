use crate::dialect::Dialect;
use crate::json::unreadable::{Fault, Unreadable};
use crate::request::Request;
use crate::request::image::Image;
use crate::request::reader::RequestReader;
use crate::sink::{Ignore, PromptSink};
use crate::splice::{Splice, apply};

mod parts;
mod texts;

#[derive(Default)]
struct Texts(Vec<String>, String);

impl PromptSink for Texts {
    fn part(&mut self, text: &str) {
        self.1.push_str(text);
    }
    fn end(&mut self) {
        self.0.push(core::mem::take(&mut self.1));
    }
}

fn read(body: &str) -> Result<(Request, Vec<String>), Unreadable> {
    read_in(Dialect::Chat, body)
}

fn read_in(dialect: Dialect, body: &str) -> Result<(Request, Vec<String>), Unreadable> {
    let mut texts = Texts::default();
    let mut reader = RequestReader::new(dialect);
    for piece in body.as_bytes().chunks(7) {
        reader.push(piece, &mut texts)?;
    }
    Ok((reader.finish(&mut texts)?, texts.0))
}

#[test]
fn reads_a_chat_request() {
    let body = r#"{"model":"gpt-4o","stream":true,"stream_options":{"include_usage":true},"max_tokens":16.0,
        "n":2,"messages":[{"role":"system","content":"Be brief."},
        {"role":"user","name":"bob","content":[{"type":"text","text":"Hi"},{"type":"image_url","image_url":{"url":"data:…"}}]},
        {"role":"assistant","content":null,"tool_calls":[{"id":"x","function":{"name":"f","arguments":"{}"}}]}]}"#;
    let (request, texts) = read(body).unwrap();
    assert_eq!(request.model.as_deref(), Some("gpt-4o"));
    assert_eq!(&body[request.model_span.clone().unwrap()], "\"gpt-4o\"");
    assert_eq!(&body[request.ceilings[0].0.clone()], "16.0");
    assert_eq!((request.max_output, request.choices, request.messages, request.names), (Some(16), 2, 3, 1));
    assert!(request.stream && request.include_usage);
    assert_eq!(texts, ["system", "Be brief.", "user", "bob", "Hi", "assistant", "f", "{}"]);
}

#[test]
fn images_and_tools_are_seen_and_are_no_text() {
    // The header of a PNG of 640 by 480.
    let png = "iVBORw0KGgoAAAANSUhEUgAAAoAAAAHgCAIAAAC6s0uzAAAAA3NCSVQICAjb4U/gAAAA";
    let body = format!(
        r#"{{"messages":[{{"role":"user","content":[{{"type":"image_url","image_url":{{"url":"data:image/png;base64,{png}{png}"}}}},
        {{"type":"image_url","image_url":{{"detail":"low","url":"https://x/é.png"}}}}]}}],"tools": [{{"type":"function"}}] }}"#
    );
    let (request, texts) = read(&body).unwrap();
    assert_eq!(texts, ["user"]);
    assert_eq!(
        request.images,
        [
            Image { size: Some((640, 480)), bytes: Some(102), ..Image::default() },
            Image { low: true, ..Image::default() }
        ]
    );
    assert_eq!(&body[request.tools[0].clone()], r#"[{"type":"function"}]"#);
}

#[test]
fn a_key_that_servers_read_differently_is_refused() {
    for (body, what) in [
        (r#"{"model":"a","messages":[],"model":"b"}"#, Fault::Repeated("model")),
        (r#"{"model":"a","messages":[],"m\u006fdel":"a"}"#, Fault::Repeated("model")),
        (r#"{"messages":[{"role":"user","content":"old"}],"messages":[]}"#, Fault::Repeated("messages")),
        (r#"{"tools":[],"tools":[]}"#, Fault::Repeated("tools")),
        (r#"{"n":1,"n":2}"#, Fault::Repeated("n")),
        (r#"{"stream_options":{},"stream_options":null}"#, Fault::Repeated("stream_options")),
        (r#"{"stream_options":{"include_usage":true,"include_usage":false}}"#, Fault::Repeated("include_usage")),
        (r#"{"model":"a","Model":"b"}"#, Fault::Miscased("model")),
        (r#"{"Max_tokens":1}"#, Fault::Miscased("max_tokens")),
        (r#"{"me\u017Fsages":[]}"#, Fault::Miscased("messages")),
    ] {
        assert_eq!(read(body).unwrap_err().what, what, "{body}");
    }
    let other = r#"{"a":1,"a":2,"metadata":{"Model":"x","model":"y","model":"z"},"model":"m"}"#;
    assert_eq!(read(other).unwrap().0.model.as_deref(), Some("m"));
}

#[test]
fn what_is_repeated_below_costs_each_time() {
    let body = r#"{"messages":[{"role":"user","content":"one","content":"two","role":"user"}]}"#;
    assert_eq!(read(body).unwrap().1, ["user", "one", "two", "user"]);
}

#[test]
fn numbers_are_what_every_server_reads() {
    let (long, point) = (format!("{}1", "0".repeat(80)), format!("1.{}", "0".repeat(63)));
    let odd = ["1.5", "1e30", "1e-1", "9223372036854775808", "NaN", "-Infinity", "007", "\"7\"", "[7]", "{}", "true"];
    for odd in odd.into_iter().chain([long.as_str(), point.as_str()]) {
        for field in ["max_tokens", "max_completion_tokens", "n_predict", "n", "best_of", "min_tokens"] {
            let error = read(&format!(r#"{{"{field}":{odd}}}"#)).unwrap_err();
            assert_eq!(error.what, Fault::Number(field), "{odd}");
            assert!(error.to_string().contains(field));
        }
    }
    let value = |text: &str| read(&format!(r#"{{"max_tokens":{text}}}"#)).unwrap().0.max_output;
    assert_eq!(["256.0", "1e3", "0.5e1", "0"].map(value), [Some(256), Some(1000), Some(5), Some(0)]);
    assert_eq!(["null", "-1", "-2.0", "-1e3"].map(value), [None; 4]);
}

/// Applies edits, and checks that they say what they should.
fn edited(body: &str, edits: impl Fn(&Request) -> Vec<Splice>) -> String {
    let (request, _) = read(body).unwrap();
    let out = String::from_utf8(apply(body.as_bytes(), edits(&request))).unwrap();
    let (again, _) = read(&out).unwrap();
    assert_eq!(
        edits(&again).iter().filter(|splice| out[splice.at.clone()].as_bytes() != splice.with).count(),
        0,
        "{out}"
    );
    serde_json::from_str::<serde_json::Value>(&out).unwrap();
    out
}

#[test]
fn the_ceiling_is_lowered_or_set() {
    let ceiling = |body: &str| edited(body, |request| request.with_ceiling(100, Some(("max_tokens", 90))));
    assert_eq!(ceiling(r#"{ "max_tokens" : 5000 ,"n":1}"#), r#"{ "max_tokens" : 100 ,"n":1}"#);
    assert_eq!(ceiling(r#"{"max_tokens":50}"#), r#"{"max_tokens":50}"#);
    assert_eq!(ceiling(r#"{"n":1}"#), r#"{"max_tokens":90,"n":1}"#);
    assert_eq!(ceiling(r#"{"max_tokens":null,"n":1}"#), r#"{"max_tokens":90,"n":1}"#);
    assert_eq!(
        ceiling(r#"{"max_tokens":9,"max_completion_tokens":900}"#),
        r#"{"max_tokens":9,"max_completion_tokens":100}"#
    );
    let beside = r#"{"max_completion_tokens":50,"max_tokens":null}"#;
    assert_eq!(ceiling(beside), beside);
    assert_eq!(ceiling(r#"{"max_tokens":-1}"#), r#"{"max_tokens":100}"#);
    assert_eq!(
        ceiling(r#"{"max_tokens":1,"max_completion_tokens":-1,"n_predict":101}"#),
        r#"{"max_tokens":1,"max_completion_tokens":100,"n_predict":100}"#
    );
    assert_eq!(edited(r#"{"n":1}"#, |request| request.with_ceiling(100, None)), r#"{"n":1}"#);
}

#[test]
fn of_several_ceilings_the_largest_is_what_may_be_generated() {
    for (body, most) in [
        (r#"{"max_tokens":1,"max_completion_tokens":4096}"#, Some(4096)),
        (r#"{"max_completion_tokens":4096,"max_tokens":1}"#, Some(4096)),
        (r#"{"max_completion_tokens":1,"max_tokens":4096}"#, Some(4096)),
        (r#"{"max_tokens":1,"n_predict":4096}"#, Some(4096)),
        (r#"{"max_tokens":7,"max_completion_tokens":null}"#, Some(7)),
        (r#"{"max_tokens":null,"max_completion_tokens":null}"#, None),
        // A server that reads the second one only generates without end.
        (r#"{"max_tokens":1,"max_completion_tokens":-1}"#, None),
        (r#"{"max_tokens":-1}"#, None),
    ] {
        assert_eq!(read(body).unwrap().0.max_output, most, "{body}");
    }
}

#[test]
fn usage_is_asked_for_whatever_was_said() {
    let usage = |body: &str| edited(body, Request::with_usage);
    assert_eq!(usage(r#"{"n":1}"#), r#"{"stream_options":{"include_usage":true},"n":1}"#);
    assert_eq!(usage(r#"{"stream_options":null}"#), r#"{"stream_options":{"include_usage":true}}"#);
    assert_eq!(usage(r#"{"stream_options": { } }"#), r#"{"stream_options": {"include_usage":true } }"#);
    assert_eq!(usage(r#"{"stream_options":{"a":1}}"#), r#"{"stream_options":{"include_usage":true,"a":1}}"#);
    assert_eq!(
        usage(r#"{"stream_options":{"include_usage":false,"a":1}}"#),
        r#"{"stream_options":{"include_usage":true,"a":1}}"#
    );
    let request = |body: &str| read(body).unwrap().0.include_usage;
    assert!(request(r#"{"stream_options":{"include_usage":true}}"#));
    assert!(!request(r#"{"stream_options":{}}"#) && !request(r#"{"stream_options":null}"#));
}

#[test]
fn stream_options_are_there_where_they_have_members() {
    let has = |body: &str| read(body).unwrap().0.has_stream_options();
    assert!(has(r#"{"stream_options":{"a":1}}"#));
    assert!(!has(r#"{"stream_options":{}}"#) && !has(r#"{"stream_options":null}"#) && !has("{}"));
}

#[test]
fn wrong_types_are_named() {
    for (body, what) in [
        (r#"[]"#, "object"),
        (r#"{"model":7}"#, "model"),
        (r#"{"model":["a"]}"#, "model"),
        (r#"{"messages":"hi"}"#, "messages"),
        (r#"{"messages":["hi"]}"#, "messages"),
        (r#"{"stream":"yes"}"#, "stream"),
        (r#"{"max_tokens":"many"}"#, "max_tokens"),
        (r#"{"max_tokens":1.5}"#, "max_tokens"),
        (r#"{"stream_options":7}"#, "stream_options"),
        (r#"{"stream_options":{"include_usage":"yes"}}"#, "include_usage"),
    ] {
        let error = read(body).unwrap_err().to_string();
        assert!(error.contains(what), "{body}: {error}");
    }
}

#[test]
fn what_is_deep_down_is_not_taken_for_the_top() {
    let deep = format!("{}{}{}", r#"{"a":"#.repeat(12), "7", "}".repeat(12));
    let (request, _) = read(&format!(r#"{{"model":"m","messages":[],"tools":[{deep}]}}"#)).unwrap();
    assert_eq!(request.inside, 1);
}

#[test]
fn completions_have_texts_or_tokens() {
    let of = |body: &str| read_in(Dialect::Completions, body).unwrap();
    let (request, texts) =
        of(r#"{"model":"m","prompt":"Once","suffix":"end","max_tokens":9,"n":2,"best_of":5,"min_tokens":3}"#);
    assert_eq!(texts, ["Once", "end"]);
    assert_eq!((request.choices, request.max_output, request.min_output, request.token_ids), (5, Some(9), 3, 0));
    let (request, texts) = of(r#"{"model":"m","prompt":["a","b","c"],"n":2}"#);
    assert_eq!((texts.len(), request.choices), (3, 6));
    let (request, _) = of(r#"{"model":"m","prompt":[1,2,3,4]}"#);
    assert_eq!((request.token_ids, request.choices), (4, 1));
    let (request, _) = of(r#"{"model":"m","prompt":[[1,2],[3,4,5]]}"#);
    assert_eq!((request.token_ids, request.choices), (5, 2));
    let (request, _) = of(r#"{"model":"m","prompt":["a"],"n":9223372036854775807,"best_of":9e18}"#);
    assert_eq!(request.choices, i64::MAX as u64);
    for bad in [r#"{"prompt":{}}"#, r#"{"prompt":[true]}"#, r#"{"prompt":[["a"]]}"#, r#"{"prompt":7}"#] {
        assert!(read_in(Dialect::Completions, bad).unwrap_err().to_string().contains("prompt"), "{bad}");
    }
}

#[test]
fn embeddings_generate_nothing() {
    let (request, texts) = read_in(Dialect::Embeddings, r#"{"model":"e","input":["one","two"]}"#).unwrap();
    assert_eq!(texts, ["one", "two"]);
    assert_eq!((request.with_ceiling(5, None), request.with_usage()), (vec![], vec![]));
    let (request, _) = read_in(Dialect::Embeddings, r#"{"input":[[7,8],[9]]}"#).unwrap();
    assert_eq!(request.token_ids, 3);
}

#[test]
fn responses_have_instructions_and_items() {
    let of = |body: &str| read_in(Dialect::Responses, body).unwrap();
    let (request, texts) =
        of(r#"{"model":"m","instructions":"Be brief.","input":"Hi","max_output_tokens":7,"stream":true}"#);
    assert_eq!(texts, ["Be brief.", "Hi"]);
    assert_eq!(
        (request.messages, request.max_output, request.unseen, request.with_usage().len()),
        (2, Some(7), false, 0)
    );
    let (request, texts) = of(
        r#"{"model":"m","previous_response_id":"resp_1","text":{"format":{"type":"json_schema"}},"input":[
        {"role":"user","content":[{"type":"input_text","text":"look"},{"type":"input_image","image_url":"data:image/gif;base64,R0lGODlhCgAUAAAA","detail":"low"}]},
        {"type":"function_call","name":"f","arguments":"{}","call_id":"c"},
        {"type":"function_call_output","call_id":"c","output":"done"},
        {"type":"reasoning","summary":[{"type":"summary_text","text":"because"}]}]}"#,
    );
    assert_eq!(texts, ["user", "look", "f", "{}", "done", "because"]);
    assert!(request.unseen && request.json_output);
    assert_eq!(
        (request.messages, request.images.as_slice()),
        (4, [Image { low: true, size: Some((10, 20)), bytes: Some(12) }].as_slice())
    );
    let (request, _) = of(r#"{"model":"m","previous_response_id":null,"input":"Hi"}"#);
    assert_eq!(request.with_ceiling(5, Some(("max_output_tokens", 5)))[0].with, b"\"max_output_tokens\":5,");
    assert!(!request.unseen);
}

#[test]
fn anthropic_messages_have_blocks() {
    let body = r#"{"model":"claude","max_tokens":64,"system":[{"type":"text","text":"Be kind."}],"messages":[
        {"role":"user","content":"Hello"},
        {"role":"assistant","content":[{"type":"thinking","thinking":"hm","signature":"AAAA"},{"type":"text","text":"Yes?"},
            {"type":"tool_use","id":"t","name":"get","input":{"city":"Paris","days":3,"deep":{"x":[true,"y"]}}}]},
        {"role":"user","content":[{"type":"tool_result","tool_use_id":"t","content":[{"type":"text","text":"sunny"},
            {"type":"image","source":{"type":"base64","media_type":"image/gif","data":"R0lGODlhCgAUAAAA"}}]},
            {"type":"tool_result","tool_use_id":"u","content":"rain"}]}]}"#;
    let (request, texts) = read_in(Dialect::Messages, body).unwrap();
    let expected = "Be kind.|user|Hello|assistant|hm|Yes?|get|city|Paris|days|3|deep|x|y|user|sunny|rain"
        .split('|')
        .collect::<Vec<_>>();
    assert_eq!(texts, expected);
    assert_eq!((request.max_output, request.messages), (Some(64), 3));
    assert_eq!(request.images, [Image { low: false, size: Some((10, 20)), bytes: Some(12) }]);
    let (_, texts) = read_in(Dialect::Messages, r#"{"system":"S","messages":[]}"#).unwrap();
    assert_eq!(texts, ["S"]);
}

#[test]
fn what_multiplies_the_cost_has_to_be_a_number() {
    for body in [r#"{"n":"64"}"#, r#"{"n":-1}"#, r#"{"min_tokens":"9"}"#, r#"{"n":[2]}"#, r#"{"n":1.5}"#] {
        assert!(matches!(read(body).unwrap_err().what, Fault::Number(_)), "{body}");
    }
    assert_eq!(read(r#"{"n":null,"min_tokens":null}"#).unwrap().0.choices, 1);
    assert!(read_in(Dialect::Completions, r#"{"best_of":"3"}"#).is_err());
}

#[test]
fn documents_and_calls_of_tools_that_are_texts_cost_what_they_are() {
    let document = r#"{"messages":[{"role":"user","content":[
        {"type":"document","source":{"type":"text","media_type":"text/plain","data":"long text"}},
        {"type":"image","source":{"type":"base64","media_type":"image/png","data":"aaaa"}}]}]}"#;
    let (request, texts) = read_in(Dialect::Messages, document).unwrap();
    assert_eq!((texts.as_slice(), request.images.len()), (["user".to_owned(), "long text".to_owned()].as_slice(), 1));
    let data = "A".repeat(4 * 51_200);
    let both = format!(
        r#"{{"messages":[{{"content":[{{"source":{{"type":"base64","media_type":"application/pdf","data":"{data}","url":"https://x"}}}}]}}]}}"#
    );
    let (request, _) = read_in(Dialect::Messages, &both).unwrap();
    assert_eq!((request.media.document_bytes, request.media.named.files), (153_600, 1));
    let call = r#"{"input":[{"type":"custom_tool_call","name":"apply_patch","input":"*** Begin"}]}"#;
    assert_eq!(read_in(Dialect::Responses, call).unwrap().1, ["apply_patch", "*** Begin"]);
    let thought = r#"{"messages":[{"role":"assistant","reasoning_content":"hm","content":"x"}]}"#;
    assert_eq!(read(thought).unwrap().1, ["assistant", "hm", "x"]);
}

#[test]
fn what_is_worked_on_later_is_known() {
    let of = |body: &str| read_in(Dialect::Responses, body).map(|(request, _)| request.background);
    assert_eq!(of(r#"{"background":true}"#), Ok(true));
    assert_eq!(
        (of(r#"{"background":false}"#), of(r#"{"background":null}"#), of("{}")),
        (Ok(false), Ok(false), Ok(false))
    );
    for odd in [r#""true""#, "1", "[true]", "{}"] {
        assert!(matches!(of(&format!(r#"{{"background":{odd}}}"#)).unwrap_err().what, Fault::Mistyped(_)), "{odd}");
    }
}

#[test]
fn a_body_without_a_model_gets_one() {
    let body = r#" { "input":"Hi"}"#;
    let (request, _) = read_in(Dialect::Responses, body).unwrap();
    let splices = [request.with_model("m\"1"), request.with_ceiling(5, Some(("max_output_tokens", 5)))].concat();
    let out = String::from_utf8(apply(body.as_bytes(), splices)).unwrap();
    assert_eq!(out, r#" {"model":"m\"1","max_output_tokens":5, "input":"Hi"}"#);
    assert!(request.has_members && !read("{ }").unwrap().0.has_members);
}

#[test]
fn who_asks_for_a_prompt_to_be_cut_is_known() {
    let of = |body: &str| read(body).unwrap().0.is_cut_to_fit;
    for cut in
        [r#"{"truncation":"auto"}"#, r#"{"truncate_prompt_tokens":-1}"#, r#"{"context_management":{"edits":[]}}"#]
    {
        assert!(of(cut), "{cut}");
    }
    for not in [
        r#"{"truncation":"disabled"}"#,
        r#"{"truncation":null,"truncate_prompt_tokens":null}"#,
        r#"{"context_management":null}"#,
    ] {
        assert!(!of(not), "{not}");
    }
    // Wherever the chunks of the body end.
    for (body, is_cut) in [(r#"{"truncation":"disabled"}"#, false), (r#"{"truncation":"auto"}"#, true)] {
        for at in 0..body.len() {
            let (first, second) = body.as_bytes().split_at(at);
            let mut reader = RequestReader::new(Dialect::Responses);
            reader.push(first, &mut Ignore).unwrap();
            reader.push(second, &mut Ignore).unwrap();
            assert_eq!(reader.finish(&mut Ignore).unwrap().is_cut_to_fit, is_cut, "{body} at {at}");
        }
    }
}

#[test]
fn whom_a_request_belongs_to_is_what_it_says() {
    use crate::request::origin::OriginKey::{Conversation, PreviousResponse, PromptCacheKey, SafetyIdentifier, User};
    let long = "é".repeat(200);
    for (dialect, body, key, said) in [
        (Dialect::Chat, r#"{"user":"al\u0069ce","messages":[{"role":"user","content":"bob"}]}"#, User, Some("alice")),
        (Dialect::Chat, r#"{"messages":[{"user":"bob"}],"x":{"user":"bob"}}"#, User, None),
        (Dialect::Chat, r#"{"user":7,"metadata":{"user_id":"carol"}}"#, User, Some("carol")),
        (Dialect::Chat, r#"{"user":"alice","metadata":{"user_id":"carol"}}"#, User, Some("alice")),
        (Dialect::Chat, r#"{"user":"alice","user":"bob"}"#, User, Some("bob")),
        (Dialect::Chat, r#"{"user":"","safety_identifier":"s"}"#, User, None),
        (Dialect::Chat, r#"{"safety_identifier":"s"}"#, SafetyIdentifier, Some("s")),
        (Dialect::Completions, r#"{"prompt":"x","prompt_cache_key":"p"}"#, PromptCacheKey, Some("p")),
        (Dialect::Chat, r#"{"conversation":"c"}"#, Conversation, None),
        (
            Dialect::Messages,
            r#"{"messages":[],"metadata":{"a":["user_id"],"user_id":"u","b":{"user_id":"no"}}}"#,
            User,
            Some("u"),
        ),
        (Dialect::Responses, r#"{"conversation":"conv_1","input":"x"}"#, Conversation, Some("conv_1")),
        (Dialect::Responses, r#"{"conversation":{"id":"conv_2","x":"no"},"input":"x"}"#, Conversation, Some("conv_2")),
        (Dialect::Responses, r#"{"previous_response_id":"resp_1","input":"x"}"#, PreviousResponse, Some("resp_1")),
        (Dialect::Responses, r#"{"previous_response_id":null,"input":"x"}"#, PreviousResponse, None),
        // Half a character is no matter: it is a value to be compared.
        (Dialect::Chat, &format!(r#"{{"user":"{long}"}}"#), User, Some(&long[..256])),
    ] {
        let (request, _) = read_in(dialect, body).unwrap();
        assert_eq!(request.origin(key), said.map(str::as_bytes), "{body}");
    }
    // What is read of it changes nothing in what it counts for.
    let bytes = |key: &str| read(&format!(r#"{{"{key}":"{}"}}"#, "x".repeat(3000))).unwrap().0.media.text_bytes;
    assert_eq!(bytes("user"), bytes("else"));
}
