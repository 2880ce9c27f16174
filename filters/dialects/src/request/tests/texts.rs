//! What of a request costs something: texts wherever they stand, and what is judged by its length.

use super::{read, read_in};
use crate::dialect::Dialect;
use crate::json::unreadable::Fault;

/// The texts of a body, and how many bytes of it count by their length.
fn texts_and_bytes(dialect: Dialect, body: &str) -> (Vec<String>, u64) {
    let (request, texts) = read_in(dialect, body).unwrap_or_else(|error| panic!("{body}: {error}"));
    (texts, request.media.text_bytes)
}

#[test]
fn every_text_of_a_prompt_counts_wherever_it_stands() {
    use Dialect::{Chat, Completions, Messages, Responses};
    let long = "a long text ".repeat(200);
    for (dialect, body) in [
        (Chat, r#"{"messages":[{"role":"user","content":"TEXT"}]}"#),
        (Chat, r#"{"messages":[{"role":"user","content":["TEXT"]}]}"#),
        (Chat, r#"{"messages":[{"role":"user","content":[["TEXT"]]}]}"#),
        (Chat, r#"{"messages":[{"role":"user","content":{"text":"TEXT"}}]}"#),
        (Chat, r#"{"messages":[{"role":"user","content":[{"type":"text","text":["TEXT"]}]}]}"#),
        (Chat, r#"{"messages":[{"role":"user","content":[{"type":"refusal","refusal":"TEXT"}]}]}"#),
        (Chat, r#"{"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"alt":"TEXT"}}]}]}"#),
        (Chat, r#"{"messages":[{"role":"assistant","refusal":"TEXT"}]}"#),
        (Chat, r#"{"messages":[{"role":"assistant","thinking":"TEXT"}]}"#),
        (Chat, r#"{"messages":[{"role":"assistant","content":"a","content":"TEXT"}]}"#),
        (Chat, r#"{"messages":[{"role":"assistant","function_call":{"name":"f","arguments":"TEXT"}}]}"#),
        (
            Chat,
            r#"{"messages":[{"role":"assistant","function_call":{"name":"f","arguments":{"prompt_embeds":"TEXT"}}}]}"#,
        ),
        (
            Chat,
            r#"{"messages":[{"role":"assistant","tool_calls":[{"function":{"name":"f","arguments":{"x":{"y":"TEXT"}}}}]}]}"#,
        ),
        (Chat, r#"{"messages":[{"role":"assistant","tool_calls":[{"custom":{"name":"f","input":"TEXT"}}]}]}"#),
        (
            Chat,
            r#"{"messages":[{"a":{"b":{"c":{"d":{"e":{"f":{"g":{"h":{"i":{"j":{"k":{"l":{"m":"TEXT"}}}}}}}}}}}}}]}"#,
        ),
        (
            Chat,
            r#"{"messages":[],"response_format":{"type":"json_schema","json_schema":{"schema":{"description":"TEXT"}}}}"#,
        ),
        (Chat, r#"{"messages":[],"documents":[{"title":"t","text":"TEXT"}]}"#),
        (Chat, r#"{"messages":[],"chat_template":"TEXT"}"#),
        (Chat, r#"{"messages":[],"chat_template_kwargs":{"system":"TEXT"}}"#),
        (Chat, r#"{"messages":[],"prediction":{"type":"content","content":"TEXT"}}"#),
        (Completions, r#"{"prompt":"TEXT"}"#),
        (Completions, r#"{"prompt":["a","TEXT"]}"#),
        (Completions, r#"{"prompt":"a","suffix":"TEXT"}"#),
        (Responses, r#"{"input":"TEXT"}"#),
        (Responses, r#"{"input":[],"instructions":"TEXT"}"#),
        (Responses, r#"{"input":[],"instructions":[{"role":"system","content":"TEXT"}]}"#),
        (Responses, r#"{"input":[{"role":"user","content":["TEXT"]}]}"#),
        (Responses, r#"{"input":[{"role":"user","content":[{"type":"refusal","refusal":"TEXT"}]}]}"#),
        (Responses, r#"{"input":[{"type":"code_interpreter_call","code":"TEXT"}]}"#),
        (Responses, r#"{"input":[{"type":"function_call","arguments":{"image_url":"TEXT"}}]}"#),
        (Responses, r#"{"input":[{"type":"file_search_call","results":[{"text":"TEXT"}]}]}"#),
        (Responses, r#"{"input":[{"type":"function_call_output","output":[{"type":"input_text","text":"TEXT"}]}]}"#),
        (Responses, r#"{"input":[{"type":"mcp_list_tools","tools":[{"description":"TEXT"}]}]}"#),
        (Responses, r#"{"prompt":{"id":"p","variables":{"city":"TEXT"}}}"#),
        (Responses, r#"{"input":"a","text":{"format":{"type":"json_schema","schema":{"x":[{"title":"TEXT"}]}}}}"#),
        (Messages, r#"{"system":"TEXT","messages":[]}"#),
        (Messages, r#"{"system":["TEXT"],"messages":[]}"#),
        (Messages, r#"{"system":[{"type":"text","text":"TEXT"}],"messages":[]}"#),
        (Messages, r#"{"messages":[{"role":"user","content":["TEXT"]}]}"#),
        (Messages, r#"{"messages":[{"role":"user","content":[{"type":"tool_result","content":["TEXT"]}]}]}"#),
        (Messages, r#"{"messages":[{"role":"user","content":[{"type":"document","title":"TEXT"}]}]}"#),
        (Messages, r#"{"messages":[{"role":"user","content":[{"source":{"type":"content","content":"TEXT"}}]}]}"#),
        (Messages, r#"{"messages":[{"role":"user","content":[{"source":{"type":"text","data":"TEXT"}}]}]}"#),
        (
            Messages,
            r#"{"messages":[{"role":"user","content":[{"source":{"data":"TEXT","media_type":"text/plain"}}]}]}"#,
        ),
        (Messages, r#"{"messages":[{"role":"user","content":[{"type":"search_result","source":"TEXT"}]}]}"#),
        (Messages, r#"{"messages":[{"role":"assistant","content":[{"type":"tool_use","input":{"a":["TEXT"]}}]}]}"#),
    ] {
        let (texts, _) = texts_and_bytes(dialect, &body.replace("TEXT", &long));
        assert!(texts.contains(&long), "{dialect:?} {body}: {texts:?}");
    }
}

#[test]
fn what_is_no_text_is_none_as_long_as_it_is_short() {
    use Dialect::{Chat, Messages, Responses};
    let none = [
        (
            Chat,
            r#"{"messages":[{"role":"r","content":[{"type":"WORD","cache_control":{"type":"WORD","ttl":"WORD"}}]}]}"#,
        ),
        (Chat, r#"{"messages":[{"role":"r","tool_call_id":"WORD"}]}"#),
        (Chat, r#"{"messages":[{"role":"r","tool_calls":[{"id":"WORD","type":"WORD"}]}]}"#),
        (Chat, r#"{"messages":[{"role":"r","audio":{"id":"WORD"}}]}"#),
        (Chat, r#"{"messages":[{"role":"r"}],"response_format":{"type":"WORD"}}"#),
        (
            Responses,
            r#"{"input":[{"role":"r","id":"WORD","status":"WORD","call_id":"WORD","encrypted_content":"WORD"}]}"#,
        ),
        (Responses, r#"{"input":[{"role":"r"}],"previous_response_id":"WORD"}"#),
        (Messages, r#"{"messages":[{"role":"r","content":[{"type":"WORD","tool_use_id":"WORD"}]}]}"#),
    ];
    for (dialect, body) in none {
        assert_eq!(
            texts_and_bytes(dialect, &body.replace("WORD", "toolu_01A09q90qw90lq917835lq9")),
            (vec!["r".to_owned()], 0),
            "{body}"
        );
        let (_, bytes) = texts_and_bytes(dialect, &body.replace("WORD", &"long ".repeat(10_000)));
        let floor = if body.contains("response_format") { 0 } else { 48_000 };
        assert!(bytes >= floor, "{body}: {bytes}");
    }
    // What a server signed is as long as it is. Nothing else is free for being called so.
    let signed = r#"{"messages":[{"role":"r","content":[{"type":"thinking","signature":"WORD"}]}]}"#;
    let signature = "A".repeat(9000);
    assert_eq!(texts_and_bytes(Messages, &signed.replace("WORD", &signature)), (vec!["r".to_owned()], 0));
    let unsigned = [
        (Messages, signed.replace("thinking", "text")),
        (Messages, signed.replace(r#""type":"thinking","#, "")),
        (Messages, signed.replace(r#""type":"thinking","#, r#""type":"thinking"},{"#)),
        (Dialect::Chat, signed.to_owned()),
        (Responses, signed.replace("messages", "input")),
    ];
    for (dialect, body) in unsigned {
        let (texts, _) = texts_and_bytes(dialect, &body.replace("WORD", &signature));
        assert!(texts.contains(&signature), "{body}");
    }
}

#[test]
fn ids_are_short_have_no_blanks_and_are_so_many() {
    let of = |id: &str, n: usize| {
        let message = format!(r#"{{"role":"tool","tool_call_id":"{id}","content":"a"}}"#);
        texts_and_bytes(Dialect::Chat, &format!(r#"{{"messages":[{}]}}"#, vec![message; n].join(","))).1
    };
    let (id, words) =
        ("call_abcdefghijklmnopqrstuvwx", "one two three four five six seven eight nine ten eleven twelve t");
    assert_eq!(of(id, 2_000), 0);
    assert_eq!(of(words, 500), 64 * 500 - 1_024);
    assert_eq!(of(&words.replace(' ', "_"), 2_000), 64 * 2_000 - (64 << 10) - 1_024);
}

#[test]
fn unknown_fields_cost_nothing_while_they_are_small() {
    let body = |n: usize| {
        format!(r#"{{"messages":[],"temperature":0.5,"user":"u-1","metadata":{{"a":"{}"}}}}"#, "x".repeat(n))
    };
    assert_eq!(texts_and_bytes(Dialect::Chat, &body(900)).1, 0);
    let bytes = texts_and_bytes(Dialect::Chat, &body(10_000)).1;
    assert!((8_900..9_100).contains(&bytes), "{bytes}");
    for dialect in Dialect::ALL {
        for unknown in [
            format!(r#"{{"x":"{}"}}"#, "y".repeat(9_000)),
            format!(r#"{{"x":[{}7]}}"#, "1234567,".repeat(1_200)),
            format!(r#"{{"x":{{"{}":1}}}}"#, "k".repeat(9_000)),
            format!(r#"{{"x":{{{}"k":1}}}}"#, r#""key":1,"#.repeat(1_700)),
        ] {
            let bytes = texts_and_bytes(*dialect, &unknown).1;
            assert!((7_000..10_000).contains(&bytes), "{dialect:?}: {bytes}");
        }
    }
}

#[test]
fn functions_are_tools_and_both_are_arrays() {
    let (request, _) = read(r#"{"functions":[{"name":"f"}],"tools":[{"x":[1]}]}"#).unwrap();
    assert_eq!(request.tools, [13..27, 36..47]);
    assert!(read(r#"{"tools":null}"#).unwrap().0.tools.is_empty());
    for bad in [r#"{"tools":{"function":{}}}"#, r#"{"functions":"x"}"#] {
        assert!(matches!(read(bad).unwrap_err().what, Fault::Mistyped(_)), "{bad}");
    }
}
