//! Takes the usage chunk out of a stream whose client did not ask for it.
//!
//! OpenAI's `stream_options.include_usage` adds one event before `[DONE]`: `choices` is an empty array and `usage` an
//! object. That event is left out; every other byte passes unchanged. The current event is held until it is complete, at
//! most [`HELD_MAX`] bytes of it: one that is longer cannot be the usage chunk, and is let go.

use core::ops::Range;

use crate::json::{Event, Lexer, Visitor};
use crate::path::Field::{Choices, Usage};
use crate::path::Path;
use crate::path::Step::Key;
use crate::sse::{Lines, Piece};

/// The longest event that is looked at, in bytes.
pub const HELD_MAX: usize = 8192;

/// The filter of one stream.
#[derive(Default)]
pub struct Hide {
    held: Vec<u8>,
    /// The current event is longer than is looked at.
    long: bool,
    /// The current line has something in it.
    in_line: bool,
    /// The byte before was a carriage return, whose line feed belongs to it.
    after_cr: bool,
    /// What ended with that carriage return was left out.
    left_out: bool,
}

impl Hide {
    /// The bytes to forward now.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(bytes.len());
        for &byte in bytes {
            if core::mem::take(&mut self.after_cr) && byte == b'\n' {
                if self.held.is_empty() {
                    // It ends an event that has been dealt with.
                    if !self.left_out {
                        out.push(byte);
                    }
                } else {
                    self.held.push(byte);
                }
                continue;
            }
            self.held.push(byte);
            self.after_cr = byte == b'\r';
            if matches!(byte, b'\r' | b'\n') {
                if !core::mem::take(&mut self.in_line) {
                    self.end_event(&mut out);
                }
            } else {
                self.in_line = true;
            }
            if self.held.len() >= HELD_MAX {
                self.long = true;
                out.append(&mut self.held);
            }
        }
        out
    }

    /// The stream is over: what was held.
    pub fn finish(&mut self) -> Vec<u8> {
        core::mem::take(&mut self.held)
    }

    fn end_event(&mut self, out: &mut Vec<u8>) {
        self.left_out = !core::mem::take(&mut self.long) && is_usage_chunk(&self.held);
        if !self.left_out {
            out.append(&mut self.held);
        }
        self.held.clear();
    }
}

fn is_usage_chunk(event: &[u8]) -> bool {
    let (mut lines, mut lexer, mut look) = (Lines::default(), Lexer::default(), Look::default());
    let mut readable = true;
    lines.push(event, &mut |piece| {
        if let Piece::Data(data) = piece {
            readable = readable && lexer.push(data, &mut look).is_ok();
        }
    });
    readable && lexer.is_done() && look.empty_choices && look.usage
}

#[derive(Default)]
struct Look {
    path: Path,
    empty_choices: bool,
    usage: bool,
}

impl Visitor for Look {
    fn event(&mut self, event: Event<'_>, _: Range<usize>) {
        self.path.follow(&event);
        match (self.path.steps(), &event) {
            ([Key(Choices)], Event::Array) => self.empty_choices = true,
            ([Key(Choices)], Event::Close) => {}
            ([Key(Choices), ..], _) => self.empty_choices = false,
            ([Key(Usage)], Event::Object) => self.usage = true,
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
                event("data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}],\"usage\":null}"),
                event("data: {\"choices\":[{\"delta\":{}}],\"usage\":{\"prompt_tokens\":3}}"),
                event("data: {\"choices\":[],\"prompt_filter_results\":[]}"),
                event("data: not json"),
                event(&format!("data: {{\"choices\":[],\"usage\":{{}},\"x\":\"{}\"}}", "y".repeat(2 * HELD_MAX))),
            ]
            .concat();
            let after = [event("data: [DONE]"), "data: cut".to_owned()].concat();
            let stream = [&before, event(USAGE).as_str(), after.as_str()].concat();
            for size in (1..200).chain([1000, 9000, stream.len()]) {
                let mut hide = Hide::default();
                let mut out: Vec<u8> = stream.as_bytes().chunks(size).flat_map(|piece| hide.push(piece)).collect();
                assert!(hide.held.len() <= HELD_MAX);
                out.extend(hide.finish());
                assert_eq!(String::from_utf8(out).unwrap(), [before.as_str(), &after].concat(), "{end:?} {size}");
            }
        }
    }
}
