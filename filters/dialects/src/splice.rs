//! Edits of a body that leave every other byte as it was.

use core::ops::Range;

/// Puts `with` in the place of the bytes at `at`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Splice {
    /// Which bytes of the original body to replace.
    pub at: Range<usize>,
    /// What to put there.
    pub with: Vec<u8>,
}

/// The body with all splices applied. They must not overlap; one that does, or that lies outside of the body, is left
/// out together with nothing else.
pub fn apply(body: &[u8], mut splices: Vec<Splice>) -> Vec<u8> {
    splices.sort_by_key(|splice| splice.at.start);
    let grown: usize = splices.iter().map(|splice| splice.with.len()).sum();
    let mut out = Vec::with_capacity(body.len().saturating_add(grown));
    let mut from = 0usize;
    for Splice { at, with } in splices {
        if let (Some(kept), Some(_)) = (body.get(from..at.start), body.get(at.clone())) {
            out.extend_from_slice(kept);
            out.extend_from_slice(&with);
            from = at.end;
        }
    }
    out.extend_from_slice(body.get(from..).unwrap_or_default());
    out
}

/// `text` as a JSON string, quotes included.
pub fn quoted(text: &str) -> Vec<u8> {
    let mut out = vec![b'"'];
    for c in text.chars() {
        match c {
            '"' => out.extend_from_slice(b"\\\""),
            '\\' => out.extend_from_slice(b"\\\\"),
            c if u32::from(c) < 0x20 => {
                out.extend_from_slice(format!("\\u{:04x}", u32::from(c)).as_bytes());
            }
            c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    out.push(b'"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaves_the_rest_alone() {
        let body = br#"{ "model" : "a" , "x":1}"#;
        let splices = vec![
            Splice { at: 22..23, with: b"22".to_vec() },
            Splice { at: 12..15, with: quoted("lo\"ng\n") },
            Splice { at: 13..14, with: b"overlap".to_vec() },
            Splice { at: 90..91, with: b"outside".to_vec() },
        ];
        let text = String::from_utf8(apply(body, splices)).unwrap();
        assert_eq!(text, r#"{ "model" : "lo\"ng\u000a" , "x":22}"#);
    }
}
