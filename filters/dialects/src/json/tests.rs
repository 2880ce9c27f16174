use core::ops::Range;

use crate::json::lexer::{Event, Lexer, Visitor, plain};
use crate::json::unreadable::{Fault, Unreadable};

#[derive(Default)]
struct Log(Vec<String>, String);

impl Visitor for Log {
    fn event(&mut self, event: Event<'_>, span: Range<usize>) {
        match event {
            Event::Text(text) => self.1.push_str(text),
            Event::TextEnd => {
                let text = core::mem::take(&mut self.1);
                self.0.push(format!("text {text:?} {span:?}"));
            }
            event => self.0.push(format!("{event:?} {span:?}")),
        }
    }
}

fn read(pieces: &[&[u8]]) -> Result<Vec<String>, Unreadable> {
    let mut lexer = Lexer::default();
    let mut log = Log::default();
    for piece in pieces {
        lexer.push(piece, &mut log)?;
    }
    lexer.finish(&mut log)?;
    Ok(log.0)
}

#[test]
fn every_split_reads_the_same() {
    let text = "{\"k\\u00e9y\": [1, -2.5e3, true, null, \"a\\n\u{1F600}\\ud83d\\ude00\\ud800é\\\"\"], \"b\":{}}";
    let whole = read(&[text.as_bytes()]).unwrap();
    assert!(whole.iter().any(|e| e.contains("\"a\\n😀😀\u{FFFD}é\\\"\"")), "{whole:?}");
    for cut in 0..=text.len() {
        let (a, b) = text.as_bytes().split_at(cut);
        assert_eq!(read(&[a, b]).unwrap(), whole, "cut at {cut}");
    }
    let bytes: Vec<&[u8]> = text.as_bytes().chunks(1).collect();
    assert_eq!(read(&bytes).unwrap(), whole);
}

#[test]
fn spans_are_where_the_values_stand() {
    let text = r#"{"model" : "gpt","n":12 }"#;
    let events = read(&[text.as_bytes()]).unwrap();
    assert!(events.contains(&"text \"gpt\" 11..16".to_string()), "{events:?}");
    assert!(events.contains(&"Number(\"12\") 21..23".to_string()), "{events:?}");
}

#[test]
fn faults_name_the_place() {
    let fault = |text: &[u8]| read(&[text]).unwrap_err();
    assert_eq!(fault(b"").what, Fault::Empty);
    assert_eq!(fault(b"hello").at, 0);
    assert_eq!(fault(b"{\"a\":1,}").at, 7);
    assert_eq!(fault(b"{\"a\":[1,2").what, Fault::Truncated);
    assert_eq!(fault(b"{} x").what, Fault::Unexpected(b'x'));
    assert_eq!(fault(b"\"\xff\"").what, Fault::NotUtf8);
    assert_eq!(fault(&[b'['; 100_000]).what, Fault::TooDeep);
    assert_eq!(fault(b"[tru]").what, Fault::Unexpected(b't'));
    assert_eq!(fault(b"[1 2]").what, Fault::Unexpected(b'2'));
}

proptest::proptest! {
    /// serde_json is the oracle: what it reads, this lexer reads, with the same strings.
    #[test]
    fn agrees_with_serde_json(text in "[\\[\\]{}:,\" a0-9\\\\untre.-]{0,24}") {
        let ours = read(&[text.as_bytes()]);
        if serde_json::from_str::<serde_json::Value>(&text).is_ok() {
            assert!(ours.is_ok(), "{text:?}: {ours:?}");
        }
    }

    #[test]
    fn any_bytes_do_not_panic(bytes: Vec<u8>, cut in 0usize..64) {
        let (a, b) = bytes.split_at(cut.min(bytes.len()));
        let _ = read(&[a, b]);
    }
}

/// Every place of every byte: what differs from a mark in one bit, and what stands behind one, is none.
#[test]
fn the_end_of_plain_text_is_found_wherever_it_is() {
    for len in 0..20 {
        for at in 0..len {
            for byte in 0..=u8::MAX {
                for around in [b'a', 0, 0x80, 0xff, b'"' ^ 1, b'\\' ^ 1] {
                    let mut text = vec![around; len];
                    text[at] = byte;
                    let naive = text.iter().position(|b| matches!(b, b'"' | b'\\')).unwrap_or(len);
                    assert_eq!(plain(&text), naive, "{text:?}");
                    text[len - 1] = b'"';
                    let naive = text.iter().position(|b| matches!(b, b'"' | b'\\')).unwrap_or(len);
                    assert_eq!(plain(&text), naive, "{text:?}");
                }
            }
        }
    }
}

#[test]
fn what_is_read_in_one_go_is_what_comes_of_single_bytes() {
    for text in [
        r#"{"a":"b","c": "d", "e" : "f" ,"":"","g":["h","i", "j"],"k":{"l":"m"}, "n":1,"o":"p"}"#,
        r#"{"a\n":"b\"","c\u0041":"\ud800","\ud83d\ude00":"é","ü":"é"}"#,
        r#"["a","b", "c"]"#,
        r#""a""#,
        r#""a","b""#,
        r#"["a":"b"]"#,
        r#"{"a","b"}"#,
        r#"{"a": "b","c"}"#,
        r#"{"a":"b",,"c":"d"}"#,
        r#"{"a":  "b",  "c":  "d"}"#,
    ] {
        let bytes: Vec<&[u8]> = text.as_bytes().chunks(1).collect();
        assert_eq!(read(&[text.as_bytes()]), read(&bytes), "{text}");
    }
}
