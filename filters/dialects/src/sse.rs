//! Server-sent events: which bytes of a stream are data, and where an event ends.
//!
//! Follows the WHATWG HTML standard, section "Server-sent events": lines end in CR, LF or CRLF; an empty line ends
//! an event; a byte order mark at the beginning is skipped; `data` lines of one event are joined by a line feed; comments and other fields carry no data here.

use memchr::memchr2;

/// What the stream consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// Some bytes of the current event's name.
    Name(&'a [u8]),
    /// Some bytes of the current event's data.
    Data(&'a [u8]),
    /// What came of the current event's name is no name.
    NoName,
    /// A line is neither a comment nor a field.
    Strange,
    /// The current event is complete.
    End,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum State {
    /// At the start of a line.
    #[default]
    Start,
    /// So many bytes of the field's name and its colon have matched.
    Field(u8),
    /// Behind that, where one space is skipped.
    Space,
    /// In the value.
    Data,
    /// In a line without data.
    Skip,
}

/// Splits a stream into [`Piece`]s; keeps a few bytes of state, whatever the length of a line.
#[derive(Default)]
pub struct Lines {
    /// How many bytes of a byte order mark have come; once anything else has, all of them.
    mark: usize,
    state: State,
    after_cr: bool,
    has_data: bool,
    has_name: bool,
    /// Which of [`FIELDS`] the current one is.
    field: usize,
    is_strange: bool,
}

const FIELDS: [&[u8]; 4] = [b"data:", b"event:", b"id:", b"retry:"];
const DATA: usize = 0;
const NAME: usize = 1;
/// A byte order mark.
pub const MARK: &[u8] = b"\xef\xbb\xbf";

impl Lines {
    /// Reads the next bytes of the stream.
    pub fn push(&mut self, mut bytes: &[u8], out: &mut impl FnMut(Piece<'_>)) {
        while let Some((&byte, tail)) = bytes.split_first() {
            if let Some(next) = MARK.get(self.mark) {
                if *next == byte {
                    self.mark = self.mark.saturating_add(1);
                    bytes = tail;
                    continue;
                }
                self.mark = MARK.len();
            }
            if core::mem::take(&mut self.after_cr) && byte == b'\n' {
                bytes = tail;
                continue;
            }
            if matches!(self.state, State::Data | State::Skip) && !matches!(byte, b'\r' | b'\n') {
                let end = memchr2(b'\r', b'\n', bytes).unwrap_or(bytes.len());
                let (line, rest) = bytes.split_at_checked(end).unwrap_or((bytes, &[]));
                if self.state == State::Data {
                    out(self.value(line));
                }
                bytes = rest;
                continue;
            }
            bytes = tail;
            if matches!(byte, b'\r' | b'\n') {
                self.after_cr = byte == b'\r';
                self.end_line(out);
                continue;
            }
            match self.state {
                State::Start | State::Field(_) => self.field(byte, out),
                State::Space => {
                    self.state = State::Data;
                    if byte != b' ' {
                        out(self.value(&[byte]));
                    }
                }
                State::Data | State::Skip => {}
            }
        }
    }

    /// Whether some line was neither a comment nor a field, as of something that is no stream of events at all.
    pub fn is_strange(&self) -> bool {
        self.is_strange
    }

    fn field(&mut self, byte: u8, out: &mut impl FnMut(Piece<'_>)) {
        let matched = match self.state {
            State::Field(matched) => matched,
            _ => 0,
        };
        if matched == 0 {
            self.field = match byte {
                b'e' => NAME,
                b'i' => 2,
                b'r' => 3,
                _ => DATA,
            };
        }
        let field = FIELDS.get(self.field).copied().unwrap_or_default();
        if field.get(usize::from(matched)) != Some(&byte) {
            self.state = State::Skip;
            if matched > 0 || byte != b':' {
                self.is_strange = true;
                out(Piece::Strange);
            }
            return;
        }
        let matched = matched.saturating_add(1);
        self.state = State::Field(matched);
        if usize::from(matched) == field.len() {
            if self.field == DATA && core::mem::replace(&mut self.has_data, true) {
                out(Piece::Data(b"\n"));
            }
            // Of several names the last one counts.
            if self.field == NAME && core::mem::replace(&mut self.has_name, true) {
                out(Piece::NoName);
            }
            self.state = if self.field <= NAME { State::Space } else { State::Skip };
        }
    }

    fn value<'a>(&self, bytes: &'a [u8]) -> Piece<'a> {
        if self.field == NAME { Piece::Name(bytes) } else { Piece::Data(bytes) }
    }

    fn end_line(&mut self, out: &mut impl FnMut(Piece<'_>)) {
        let empty = self.state == State::Start;
        self.state = State::Start;
        if empty {
            let has_name = core::mem::take(&mut self.has_name);
            if core::mem::take(&mut self.has_data) {
                out(Piece::End);
            } else if has_name {
                // Without data it is no event.
                out(Piece::NoName);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(stream: &[u8], size: usize) -> Vec<String> {
        let mut lines = Lines::default();
        let mut done = Vec::new();
        let mut current = Vec::new();
        let mut names = Vec::new();
        for piece in stream.chunks(size) {
            lines.push(piece, &mut |piece| match piece {
                Piece::Data(data) => current.extend_from_slice(data),
                Piece::Name(name) => names.extend_from_slice(name),
                Piece::NoName => names.push(b'!'),
                Piece::Strange => {}
                Piece::End => done.push(String::from_utf8(core::mem::take(&mut current)).unwrap()),
            });
        }
        assert_eq!(String::from_utf8(names).unwrap(), "x!y!z", "size {size}");
        done
    }

    #[test]
    fn every_line_ending_at_every_split() {
        let stream = b"event: x\r\n\r\nevent: y\nevent:z\ndata: one\n\ndata:two\r\rid: 7\r\ndata:  three\r\ndata: four\r\n\r\n:c\n\ndata:\n\ndatax: no\n\ndata: open";
        for size in 1..stream.len() {
            assert_eq!(events(stream, size), ["one", "two", " three\nfour", ""], "size {size}");
        }
    }

    #[test]
    fn what_no_stream_has_in_it_is_seen() {
        for (stream, is_strange) in [
            ("", false),
            ("\u{feff}: hi\n\nevent: x\nid: 7\nretry: 9\ndata: a\r\n", false),
            ("<html>", true),
            ("error: no\n", true),
            ("\nidea: x\n", true),
            ("data: x\n\n{}\n", true),
        ] {
            for size in 1..=stream.len().max(1) {
                let mut lines = Lines::default();
                stream.as_bytes().chunks(size).for_each(|piece| lines.push(piece, &mut |_| {}));
                assert_eq!(lines.is_strange(), is_strange, "{stream:?} {size}");
            }
        }
    }
}
