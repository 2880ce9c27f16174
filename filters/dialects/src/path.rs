//! A request's path, read once: as it is written, and in the form that all servers would make of it.
//!
//! Servers differ in what they undo before they look a path up: escapes, doubled slashes, dots, `;parameters` (RFC 3986, 6.2.2 and 3.3),
//! backslashes, the case of letters. A path that some of them would take for an API's own is only that when it is written exactly so.

/// A path in its normal form: unescaped once, with single slashes, without dots, parameters and a slash at its end, in lower case.
///
/// `None` where it has none: it does not begin with a slash, an escape is broken or hides another one, or there are bytes in it that end a
/// path for some servers.
pub fn normal(path: &[u8]) -> Option<String> {
    let path = unescaped(without_query(path))?;
    if !path.starts_with(['/', '\\']) || path.contains(is_ambiguous) {
        return None;
    }
    let mut segments: Vec<&str> = Vec::new();
    for segment in path.split(['/', '\\']) {
        match segment.split(';').next().unwrap_or_default().trim_matches(' ') {
            "" | "." => {}
            ".." => drop(segments.pop()),
            segment => segments.push(segment),
        }
    }
    let mut out = String::with_capacity(path.len());
    for segment in segments {
        out.push('/');
        out.push_str(segment);
    }
    out.make_ascii_lowercase();
    Some(if out.is_empty() { "/".to_owned() } else { out })
}

/// A path without what follows the first question mark.
pub fn without_query(path: &[u8]) -> &[u8] {
    path.split(|byte| *byte == b'?').next().unwrap_or_default()
}

/// What no path can have in it and be read alike everywhere: control characters, and what begins an escape, a query or a fragment.
fn is_ambiguous(c: char) -> bool {
    c.is_ascii_control() || matches!(c, '%' | '?' | '#')
}

/// The escapes undone; `None` where one is broken, or what comes out is not UTF-8.
pub fn unescaped(path: &[u8]) -> Option<String> {
    let mut out = Vec::with_capacity(path.len());
    let mut rest = path.iter();
    while let Some(byte) = rest.next() {
        let byte = if *byte == b'%' {
            let mut digit = || char::from(*rest.next()?).to_digit(16);
            let (high, low) = (digit()?, digit()?);
            u8::try_from(high << 4 | low).ok()?
        } else {
            *byte
        };
        out.push(byte);
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_servers_undo_is_undone() {
        for (path, expected) in [
            ("/v1/chat/completions", Some("/v1/chat/completions")),
            ("/v1/chat/completions?x=%", Some("/v1/chat/completions")),
            ("//v1///chat/completions/", Some("/v1/chat/completions")),
            ("/v1/./chat/../chat/completions/.", Some("/v1/chat/completions")),
            ("/v1/x%2f..%2Fchat/completions", Some("/v1/chat/completions")),
            ("/V1/Chat/Completions;jsessionid=1", Some("/v1/chat/completions")),
            ("/v1;a/chat;b=c/completions%3bd", Some("/v1/chat/completions")),
            ("\\v1\\chat%5ccompletions", Some("/v1/chat/completions")),
            ("/v1/%63hat/completions%20", Some("/v1/chat/completions")),
            ("/v1/x/..;/chat/completions", Some("/v1/chat/completions")),
            ("/../../v1", Some("/v1")),
            ("/", Some("/")),
            ("/..", Some("/")),
            ("/%C3%A9", Some("/é")),
            ("", None),
            ("*", None),
            ("v1/chat/completions", None),
            ("http://host/v1/chat/completions", None),
            ("/v1/chat%", None),
            ("/v1/chat%2", None),
            ("/v1/chat%zz", None),
            ("/v1/chat%00/completions", None),
            ("/v1/chat/completions%0a", None),
            ("/v1/chat/completions\t", None),
            ("/v1/%2563hat/completions", None),
            ("/v1/chat/completions%3f", None),
            ("/v1/chat/completions%23x", None),
            ("/v1/chat/completions#x", None),
            ("/v1/%c0%afchat", None),
        ] {
            assert_eq!(normal(path.as_bytes()).as_deref(), expected, "{path}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_can_be_read(path in prop::collection::vec(any::<u8>(), 0..64)) {
            if let Some(form) = normal(&path) {
                prop_assert_eq!(normal(form.as_bytes()), Some(form));
            }
        }

        #[test]
        fn a_normal_form_is_its_own(path in "/[a-zA-Z%2fF5cC3b.;/\\\\ ]{0,40}") {
            if let Some(form) = normal(path.as_bytes()) {
                prop_assert!(form.starts_with('/') && !form.contains("//") && !form.contains(['%', ';', '\\', '?']));
                prop_assert_eq!(normal(form.as_bytes()), Some(form));
            }
        }
    }
}
