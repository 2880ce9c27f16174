//! Takes out of a stream what is only there because usage was asked for, where the client did not ask.
//!
//! OpenAI's `stream_options.include_usage` adds one event before `[DONE]`: `choices` is an empty array and `usage` an
//! object; other servers leave `choices` out there, or send a null. That event is left out where nothing else is in it than what every chunk begins with; where a server says more in it, an error for
//! example, only its usage is cut out. All other events get `"usage": null`; that member is cut out.
//! Every other byte passes unchanged. The current event is held until it is complete, at
//! most [`UsageFilter::HELD_MAX`] bytes of it: one that is longer cannot be the usage chunk, and is let go.

use core::ops::Range;

use memchr::{memchr2, memchr2_iter};

use crate::json::lexer::{Event, Lexer, Visitor};
use crate::json::path::Field::{Choices, Usage};
use crate::json::path::Path;
use crate::json::path::Step::Key;
use crate::sse::{Lines, MARK, Piece};

/// The filter of one stream.
#[derive(Default)]
pub struct UsageFilter {
    /// The part of the current event that came before.
    held: Vec<u8>,
    /// The current event is longer than is looked at.
    long: bool,
    /// The current line has something in it.
    in_line: bool,
    /// The byte before was a carriage return, whose line feed belongs to it.
    after_cr: bool,
    /// What ended with that carriage return was left out.
    left_out: bool,
    /// Usage objects go, too: the client asked for something that brings them, but only together with what it did not ask for.
    all: bool,
}

impl UsageFilter {
    /// The longest event that is looked at, in bytes.
    pub const HELD_MAX: usize = 8192;

    /// Cuts out all usage, for requests with other stream options. `UsageFilter::default()` leaves what a server sends unasked.
    pub fn all() -> Self {
        Self { all: true, ..Self::default() }
    }

    /// The bytes to forward now; `None` where they are those that came. Events that come whole and stay whole are not copied.
    pub fn push(&mut self, bytes: &[u8]) -> Option<Vec<u8>> {
        let mut out = Out { came: bytes, passed: 0, changed: None };
        // Where the current event begins, as far as it is in these bytes.
        let mut from: usize = 0;
        let mut at: usize = 0;
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            if core::mem::take(&mut self.after_cr) && rest.starts_with(b"\n") {
                at = at.saturating_add(1);
                if from.saturating_add(1) == at && self.held.is_empty() && !self.long {
                    // It ends an event that has been dealt with.
                    out.pass(from..at, self.left_out);
                    from = at;
                }
                continue;
            }
            let Some(length) = memchr2(b'\r', b'\n', rest) else {
                self.in_line = true;
                break;
            };
            self.after_cr = rest.get(length) == Some(&b'\r');
            at = at.saturating_add(length).saturating_add(1);
            if !core::mem::take(&mut self.in_line) && length == 0 {
                self.end_event(from..at, &mut out);
                from = at;
            }
        }
        self.hold(from..bytes.len(), &mut out);
        out.changed
    }

    /// The event goes on behind these bytes.
    fn hold(&mut self, part: Range<usize>, out: &mut Out<'_>) {
        if self.long || self.held.len().saturating_add(part.len()) > Self::HELD_MAX {
            self.long = true;
            out.insert(&mut self.held);
            out.pass(part, false);
        } else if !part.is_empty() {
            self.held.extend_from_slice(out.came.get(part.clone()).unwrap_or_default());
            out.pass(part, true);
        }
    }

    /// The stream is over: what is left to forward. An event that was not ended is one all the same, as some clients read it.
    pub fn finish(&mut self) -> Vec<u8> {
        let mut out = Out { came: &[], passed: 0, changed: None };
        self.end_event(0..0, &mut out);
        out.changed.unwrap_or_default()
    }

    /// The event ends with these bytes.
    fn end_event(&mut self, part: Range<usize>, out: &mut Out<'_>) {
        self.left_out = false;
        let is_whole = self.held.is_empty();
        if core::mem::take(&mut self.long) || self.held.len().saturating_add(part.len()) > Self::HELD_MAX {
            out.insert(&mut self.held);
            return out.pass(part, false);
        }
        let came = out.came.get(part.clone()).unwrap_or_default();
        if is_whole && !says_usage(came) {
            return out.pass(part, false);
        }
        self.held.extend_from_slice(came);
        let look = look(&self.held);
        let was_asked_for = !look.has_choices && look.usage;
        self.left_out = was_asked_for && is_bare(&self.held);
        if self.left_out {
            self.held.clear();
        } else {
            let object = look.object.filter(|_| self.all || was_asked_for);
            match look.null.or(object).and_then(|at| member(&self.held, at)) {
                Some(member) => drop(self.held.drain(member)),
                None if is_whole => {
                    self.held.clear();
                    return out.pass(part, false);
                }
                None => {}
            }
        }
        out.pass(part, true);
        out.insert(&mut self.held);
    }
}

/// What goes on of the bytes that came, which are only copied once it is something else than they are.
struct Out<'a> {
    came: &'a [u8],
    /// So many of them have been dealt with.
    passed: usize,
    /// What goes on instead.
    changed: Option<Vec<u8>>,
}

impl Out<'_> {
    /// The next bytes that came go on, or are `left_out`.
    fn pass(&mut self, part: Range<usize>, left_out: bool) {
        let end = part.end;
        if left_out && !part.is_empty() {
            self.change();
        } else if let Some(changed) = &mut self.changed {
            changed.extend_from_slice(self.came.get(part).unwrap_or_default());
        }
        self.passed = end;
    }

    /// These bytes go on here, which did not come now.
    fn insert(&mut self, bytes: &mut Vec<u8>) {
        if !bytes.is_empty() {
            self.change().append(bytes);
        }
    }

    fn change(&mut self) -> &mut Vec<u8> {
        let (came, passed) = (self.came, self.passed);
        self.changed.get_or_insert_with(|| came.get(..passed).unwrap_or_default().to_vec())
    }
}

/// Whether an event may say something of usage. Most say nothing. A key that is written with escapes is one that could be missed.
fn says_usage(event: &[u8]) -> bool {
    let says = |at: usize| event.get(at..).is_some_and(|rest| rest.starts_with(b"usage") || rest.starts_with(b"\\u"));
    memchr2_iter(b'u', b'\\', event).any(says)
}

/// What an event says of usage.
fn look(event: &[u8]) -> Look {
    let mut look = Look::default();
    if !says_usage(event) {
        return look;
    }
    let (mut lines, mut lexer, mut readable) = (Lines::default(), Lexer::default(), true);
    lines.push(event, &mut |piece| {
        if let Piece::Data(data) = piece {
            readable = readable && lexer.push(data, &mut look).is_ok();
        }
    });
    if readable && lexer.is_done() { look } else { Look::default() }
}

/// The lines of an event that have something in them, and where each begins.
fn lines(event: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let mark = if event.starts_with(MARK) { MARK.len() } else { 0 };
    let mut at = mark;
    let lines = event.get(mark..).unwrap_or_default().split(|b| matches!(b, b'\r' | b'\n')).map(move |line| {
        let from = at;
        at = at.saturating_add(line.len()).saturating_add(1);
        (from, line)
    });
    lines.filter(|(_, line)| !line.is_empty())
}

/// The data of a line, and where it begins, where the line is one of data at this place.
fn data((at, line): (usize, &[u8])) -> Option<(usize, &[u8])> {
    let value = line.strip_prefix(b"data:")?;
    let value = value.strip_prefix(b" ").unwrap_or(value);
    Some((at.saturating_add(line.len()).saturating_sub(value.len()), value))
}

/// Where in the event the member at `at` of its data stands, with the comma before or behind it.
fn member(event: &[u8], at: Range<usize>) -> Option<Range<usize>> {
    let mut all = lines(event);
    let first = data(all.next()?);
    if let (Some((from, line)), None) = (first, all.next()) {
        let cut = with_comma(line, at)?;
        return Some(from.checked_add(cut.start)?..from.checked_add(cut.end)?);
    }
    // The data is in several lines, or among others: which part of it stands where.
    let (mut whole, mut parts): (Vec<u8>, Vec<(usize, usize)>) = Default::default();
    for (from, line) in lines(event).filter_map(data) {
        if !parts.is_empty() {
            whole.push(b'\n');
        }
        parts.push((whole.len(), from));
        whole.extend_from_slice(line);
    }
    let place = |at: usize| {
        let (within, from) = parts.iter().rev().find(|(within, _)| *within <= at)?;
        from.checked_add(at.checked_sub(*within)?)
    };
    let cut = with_comma(&whole, at)?;
    Some(place(cut.start)?..place(cut.end.checked_sub(1)?)?.checked_add(1)?)
}

/// The member at `at` with the comma that it no longer needs.
fn with_comma(data: &[u8], at: Range<usize>) -> Option<Range<usize>> {
    let head = data.get(..at.start)?.trim_ascii_end();
    if let Some(head) = head.strip_suffix(b",") {
        return Some(head.len()..at.end);
    }
    let tail = data.get(at.end..)?.trim_ascii_start();
    match tail.strip_prefix(b",") {
        Some(rest) => Some(at.start..data.len().checked_sub(rest.len())?),
        None => Some(at),
    }
}

/// Whether nothing is in a usage chunk but the usage, and what every chunk begins with.
fn is_bare(event: &[u8]) -> bool {
    let mut bare = Bare { path: Path::default(), is_envelope: false, has_more: event.starts_with(MARK) };
    let (mut lexer, mut is_first) = (Lexer::default(), true);
    for line in lines(event) {
        // What an event without a name is called anyway.
        if matches!(line.1, b"event: message" | b"event:message") {
            continue;
        }
        // Comments, other names and numbers of events are the client's.
        let Some((_, line)) = data(line) else { return false };
        let joint: &[u8] = if core::mem::take(&mut is_first) { b"" } else { b"\n" };
        if lexer.push(joint, &mut bare).and_then(|()| lexer.push(line, &mut bare)).is_err() {
            return false;
        }
    }
    !bare.has_more
}

/// Looks for what is more than usage.
struct Bare {
    path: Path,
    /// The current member is one of what every chunk begins with.
    is_envelope: bool,
    has_more: bool,
}

impl Visitor for Bare {
    fn event(&mut self, event: Event<'_>, _: Range<usize>) {
        self.path.follow(&event);
        self.has_more |= match (self.path.steps(), &event) {
            ([Key(Usage), ..] | [], _) | ([Key(Choices)], Event::Key(_) | Event::Array | Event::Close) => false,
            // A member that is null is none.
            ([_], Event::Null) => false,
            ([_], Event::Key(key)) => {
                // OpenAI API reference, "The chat completion chunk object"; `obfuscation` is padding.
                self.is_envelope = matches!(
                    *key,
                    "id" | "object" | "created" | "model" | "system_fingerprint" | "service_tier" | "obfuscation"
                );
                false
            }
            ([Key(Choices), ..], _) | (_, Event::Object | Event::Array) => true,
            _ => !self.is_envelope,
        };
        self.path.enter(&event);
    }
}

#[derive(Default)]
struct Look {
    path: Path,
    /// There are choices: an array that is not empty, or what is no array.
    has_choices: bool,
    usage: bool,
    /// The key `usage`, which may be that of a null.
    key: Option<usize>,
    /// The member whose value is null, in the event's data.
    null: Option<Range<usize>>,
    /// As above, of an object.
    object: Option<Range<usize>>,
}

impl Visitor for Look {
    fn event(&mut self, event: Event<'_>, span: Range<usize>) {
        self.path.follow(&event);
        match (self.path.steps(), &event) {
            ([Key(Choices)], Event::Array | Event::Null) => self.has_choices = false,
            ([Key(Choices)], Event::Key(_) | Event::Close) => {}
            ([Key(Choices), ..], _) => self.has_choices = true,
            ([Key(Usage)], Event::Key(_)) => self.key = Some(span.start),
            ([Key(Usage)], Event::Null) => self.null = self.key.map(|start| start..span.end),
            ([Key(Usage)], Event::Object) => self.usage = true,
            ([Key(Usage)], Event::Close) if self.usage => self.object = self.key.map(|start| start..span.end),
            _ => {}
        }
        self.path.enter(&event);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const USAGE: &str = "data: {\"id\":\"x\",\"choices\": [ ],\"usage\":{\"prompt_tokens\":3}}";

    #[test]
    fn leaves_out_the_usage_chunk_and_nothing_else() {
        for end in ["\n", "\r\n", "\r"] {
            let event = |text: &str| format!("{text}{end}{end}");
            let before = [
                event(": comment"),
                event(
                    "data: {\"choices\":[{\"delta\":{\"content\":\"\\\"usage\\\":null\"}}],\"other\":{\"usage\":null}}",
                ),
                event("data: {\"choices\":[{\"delta\":{}}],\"usage\":{\"prompt_tokens\":3}}"),
                event("data: {\"choices\":[],\"prompt_filter_results\":[]}"),
                event("data: not json"),
                event(&format!(
                    "data: {{\"choices\":[],\"usage\":{{}},\"x\":\"{}\"}}",
                    "y".repeat(2 * UsageFilter::HELD_MAX)
                )),
            ]
            .concat();
            let after = [event("data: [DONE]"), "data: cut".to_owned()].concat();
            let stream = [&before, event(USAGE).as_str(), after.as_str()].concat();
            for size in (1..200).chain([1000, 9000, stream.len()]) {
                let mut filter = UsageFilter::default();
                let mut out: Vec<u8> = Vec::new();
                for piece in stream.as_bytes().chunks(size) {
                    let forward = filter.push(piece);
                    assert_ne!(forward.as_deref(), Some(piece));
                    out.extend(forward.unwrap_or_else(|| piece.to_vec()));
                }

                assert!(filter.held.len() <= UsageFilter::HELD_MAX);
                out.extend(filter.finish());
                assert_eq!(String::from_utf8(out).unwrap(), [before.as_str(), &after].concat(), "{end:?} {size}");
            }
        }
    }

    #[test]
    fn cuts_out_the_nulls() {
        for (before, after) in [
            (r#"{"choices":[{}],"usage":null}"#, r#"{"choices":[{}]}"#),
            (r#"{"usage": null , "choices":[{}]}"#, r#"{ "choices":[{}]}"#),
            (r#"{"a":1 , "usage" : null,"choices":[{}]}"#, r#"{"a":1 ,"choices":[{}]}"#),
            (r#"{"usage":null}"#, "{}"),
            (r#"{"\u0075sage":null,"b":"x"}"#, r#"{"b":"x"}"#),
            (r#"{"usage":null"#, r#"{"usage":null"#),
            (r#"{"usage":{},"b":null,"choices":7}"#, r#"{"usage":{},"b":null,"choices":7}"#),
        ] {
            for end in ["\n\n", "\r\n\r\n"] {
                for field in ["data: ", "data:"] {
                    let mut filter = UsageFilter::default();
                    let event = format!("{field}{before}{end}");
                    let mut out = filter.push(event.as_bytes()).unwrap_or(event.into_bytes());
                    out.extend(filter.finish());
                    assert_eq!(String::from_utf8(out).unwrap(), format!("{field}{after}{end}"));
                }
            }
        }
        // vLLM's `continuous_usage_stats` only works where usage was asked for.
        let event = "data: {\"choices\":[{}],\"usage\":{\"prompt_tokens\":3,\"x\":{}},\"id\":7}\n\n";
        assert_eq!(UsageFilter::default().push(event.as_bytes()), None);
        let cut = UsageFilter::all().push(event.as_bytes()).unwrap();
        assert_eq!(String::from_utf8(cut).unwrap(), "data: {\"choices\":[{}],\"id\":7}\n\n");
    }

    #[test]
    fn whole_events_that_stay_whole_are_not_copied() {
        let event = "data: {\"choices\":[{\"delta\":{\"content\":\"Hi\"}}]}\r\n\r\n";
        let mut filter = UsageFilter::default();
        assert_eq!(filter.push(event.repeat(9).as_bytes()), None);
        assert_eq!(filter.held.capacity(), 0);
    }

    /// What goes on of an event, however it is cut.
    fn shown(event: &str) -> String {
        let mut all: Option<String> = None;
        for size in 1..=event.len() {
            let mut filter = UsageFilter::default();
            let mut out = Vec::new();
            for piece in event.as_bytes().chunks(size) {
                out.extend(filter.push(piece).unwrap_or_else(|| piece.to_vec()));
            }
            out.extend(filter.finish());
            let out = String::from_utf8(out).unwrap();
            assert_eq!(*all.get_or_insert_with(|| out.clone()), out, "{event:?} {size}");
        }
        all.unwrap_or_default()
    }

    #[test]
    fn only_usage_is_cut_out_of_a_chunk_that_says_more() {
        let usage = r#""usage":{"prompt_tokens":40,"completion_tokens":5}"#;
        for (before, after) in [
            (format!(r#"{{"choices":[],{usage},"error":{{"code":7}}}}"#), r#"{"choices":[],"error":{"code":7}}"#),
            (format!(r#"{{{usage} , "choices":[],"x_cost":0.1}}"#), r#"{ "choices":[],"x_cost":0.1}"#),
            (format!(r#"{{"choices":[],"model":{{"name":"m"}},{usage}}}"#), r#"{"choices":[],"model":{"name":"m"}}"#),
            (format!(r#"{{"choices":[{{}}],"choices":[],{usage}}}"#), r#"{"choices":[{}],"choices":[]}"#),
        ] {
            for end in ["\n\n", "\r\n\r\n", "\r\r", "\n", ""] {
                assert_eq!(shown(&format!("data: {before}{end}")), format!("data: {after}{end}"));
            }
        }
        for choices in ["", "\"choices\":null,", "\"choices\":[],"] {
            // What is null is nothing, and so is the name that an event has anyway.
            for before in ["", "event: message\n", "event:message\r"] {
                let chunk = format!("{before}data: {{\"id\":\"x\",{choices}\"error\":null,{usage}}}\n\n");
                assert_eq!(shown(&chunk), "", "{chunk}");
            }
            assert_eq!(
                shown(&format!("event: x\ndata: {{{choices}\"a\":\"\",{usage}}}\n\n")),
                format!("event: x\ndata: {{{choices}\"a\":\"\"}}\n\n")
            );
        }
        for choices in ["[{}]", "[null]", "{}", "\"\"", "true"] {
            let chunk = format!("data: {{\"choices\":{choices},{usage}}}\n\n");
            assert_eq!(shown(&chunk), chunk);
        }
        let envelope = r#""id":"x","object":"chat.completion.chunk","created":1,"model":"m","system_fingerprint":null,"service_tier":"default","obfuscation":"ab""#;
        for end in ["\n\n", "\r\n\r\n", "\n", ""] {
            assert_eq!(shown(&format!("data:{{{envelope},\"choices\":[],{usage}}}{end}")), "");
            assert_eq!(shown(&format!("data:{{{envelope},\ndata: \"choices\":[],\ndata:{usage}}}{end}")), "");
        }
    }

    #[test]
    fn what_stands_beside_the_data_is_the_clients() {
        for (before, after) in [
            (": wait\ndata: {\"choices\":[],\"usage\":{}}\n\n", ": wait\ndata: {\"choices\":[]}\n\n"),
            ("id: 7\r\ndata:{\"usage\":{},\"choices\":[]}\r\n\r\n", "id: 7\r\ndata:{\"choices\":[]}\r\n\r\n"),
            ("\u{feff}data: {\"choices\":[],\"usage\":{}}\n\n", "\u{feff}data: {\"choices\":[]}\n\n"),
            ("data: {\"usage\":\ndata: null}\n\n", "data: {}\n\n"),
            (
                "data: {\"a\":1,\r\ndata:\"usage\" :\r\ndata: null\r\ndata: }\r\n\r\n",
                "data: {\"a\":1\r\ndata: }\r\n\r\n",
            ),
            ("data: {\ndata: \"usage\":null\nevent: x\ndata: ,\"a\":1}\n\n", "data: {\ndata: \"a\":1}\n\n"),
        ] {
            assert_eq!(shown(before), after);
        }
    }
}
