//! A resumable JSON lexer: bytes in, events out, a fixed amount of state.
//!
//! Strings are handed on as slices of the input where they have no escapes, so reading costs one pass and no copy.
//! Nesting is bounded by [`DEPTH_MAX`]; keys, numbers and literals are cut at [`SCRATCH_MAX`] bytes (a longer key is
//! reported as the empty key, which no reader looks for).

use core::ops::Range;

use crate::json::unreadable::{DEPTH_MAX, Fault, SCRATCH_MAX, Unreadable};

/// One lexical event.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Event<'a> {
    /// `{`
    Object,
    /// `[`
    Array,
    /// `}` or `]`
    Close,
    /// An object's key, unescaped.
    Key(&'a str),
    /// A piece of a string value, unescaped.
    Text(&'a str),
    /// The end of a string value.
    TextEnd,
    /// A number, as written.
    Number(&'a str),
    /// `true` or `false`
    Bool(bool),
    /// `null`
    Null,
}

/// Receives the events. `span` is where in the body the key or value stands (quotes included); for [`Event::Text`]
/// and [`Event::TextEnd`] it starts at the opening quote of the string.
pub trait Visitor {
    /// One event.
    fn event(&mut self, event: Event<'_>, span: Range<usize>);
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Value,
    ItemOrClose,
    KeyOrClose,
    Key,
    Colon,
    After,
    Text,
    Escape,
    Unicode(u8),
    Number,
    Literal,
    Done,
}

/// How many bytes of a string's text come before a quotation mark or a backslash. Eight at a time: a byte of a word is zero where taking one
/// from it borrows (Warren, "Hacker's Delight", 6-1); the lowest such byte is one for certain.
pub(super) fn plain(input: &[u8]) -> usize {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const QUOTES: u64 = u64::from_ne_bytes([b'"'; 8]);
    const SLASHES: u64 = u64::from_ne_bytes([b'\\'; 8]);
    let zeros = |word: u64| word.wrapping_sub(ONES) & !word & (ONES << 7);
    let (words, tail) = input.as_chunks::<8>();
    let mut at = 0usize;
    for word in words {
        let word = u64::from_le_bytes(*word);
        let found = zeros(word ^ QUOTES) | zeros(word ^ SLASHES);
        if found != 0 {
            return at.saturating_add((found.trailing_zeros() / 8) as usize);
        }
        at = at.saturating_add(8);
    }
    at.saturating_add(tail.iter().position(|byte| matches!(byte, b'"' | b'\\')).unwrap_or(tail.len()))
}

/// The lexer. Feed it with [`Lexer::push`], close it with [`Lexer::finish`].
pub struct Lexer {
    state: State,
    in_key: bool,
    is_hollow: bool,
    depth: usize,
    objects: [u64; DEPTH_MAX / 64],
    at: usize,
    start: usize,
    scratch: String,
    cut: bool,
    partial: [u8; 4],
    partial_len: usize,
    unit: u16,
    high: u16,
}

impl Default for Lexer {
    fn default() -> Self {
        Self {
            state: State::Value,
            in_key: false,
            is_hollow: false,
            depth: 0,
            objects: [0; DEPTH_MAX / 64],
            at: 0,
            start: 0,
            scratch: String::new(),
            cut: false,
            partial: [0; 4],
            partial_len: 0,
            unit: 0,
            high: 0,
        }
    }
}

impl Lexer {
    /// Ready for another document, keeping its buffers.
    pub fn reset(&mut self) {
        let scratch = core::mem::take(&mut self.scratch);
        *self = Self { scratch, ..Self::default() };
        self.scratch.clear();
    }

    /// How many bytes of the document have been read.
    pub fn at(&self) -> usize {
        self.at
    }

    /// Whether nothing but white space has come.
    pub fn is_blank(&self) -> bool {
        self.state == State::Value && self.depth == 0
    }

    /// Whether the document is an object with nothing in it.
    pub fn is_hollow(&self) -> bool {
        self.is_hollow
    }

    /// The number or literal that came last, where none or nothing else of a word has come since.
    pub fn last_word(&self) -> &str {
        &self.scratch
    }

    /// Whether a whole document has been read.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Reads the next piece of the document.
    ///
    /// # Errors
    /// What makes the document unreadable. The lexer must not be fed again after that.
    pub fn push(&mut self, input: &[u8], visitor: &mut impl Visitor) -> Result<(), Unreadable> {
        let read = self.read(input, visitor);
        if read.is_err() && !self.in_key && matches!(self.state, State::Text | State::Escape | State::Unicode(_)) {
            // What was read of a text does not depend on how it was cut.
            self.flush(0, visitor);
        }
        read
    }

    fn read(&mut self, input: &[u8], visitor: &mut impl Visitor) -> Result<(), Unreadable> {
        let mut rest = input;
        while let Some((&byte, tail)) = rest.split_first() {
            if self.state == State::Text {
                rest = self.text(rest, visitor)?;
                continue;
            }
            if self.step(byte, visitor)? {
                rest = tail;
                self.at = self.at.saturating_add(1);
            }
        }
        Ok(())
    }

    /// The document is over.
    ///
    /// # Errors
    /// [`Fault::Empty`] or [`Fault::Truncated`] where it was not.
    pub fn finish(&mut self, visitor: &mut impl Visitor) -> Result<(), Unreadable> {
        if self.depth == 0 && matches!(self.state, State::Number | State::Literal) {
            self.word(visitor)?;
        }
        match self.state {
            State::Done => Ok(()),
            State::Value if self.depth == 0 => self.fault(Fault::Empty),
            _ => self.fault(Fault::Truncated),
        }
    }

    fn fault<T>(&self, what: Fault) -> Result<T, Unreadable> {
        Err(Unreadable { at: self.at, what })
    }

    /// Takes one byte outside of plain string text. `false` means that the byte ended a word and must be read again.
    fn step(&mut self, byte: u8, visitor: &mut impl Visitor) -> Result<bool, Unreadable> {
        match self.state {
            State::Escape => self.escape(byte, visitor)?,
            State::Unicode(left) => self.unicode(byte, left, visitor)?,
            State::Number | State::Literal => {
                if byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.') {
                    self.keep(char::from(byte));
                } else {
                    self.word(visitor)?;
                    return Ok(false);
                }
            }
            _ if matches!(byte, b' ' | b'\t' | b'\r' | b'\n') => {}
            State::Value => self.value(byte, visitor)?,
            State::ItemOrClose if byte == b']' => self.close(visitor),
            State::ItemOrClose => self.value(byte, visitor)?,
            State::KeyOrClose if byte == b'}' => {
                self.is_hollow |= self.depth == 1;
                self.close(visitor);
            }
            State::KeyOrClose | State::Key => match byte {
                b'"' => self.open_text(true),
                _ => return self.fault(Fault::Unexpected(byte)),
            },
            State::Colon => match byte {
                b':' => self.state = State::Value,
                _ => return self.fault(Fault::Unexpected(byte)),
            },
            State::After => match (byte, self.in_object()) {
                (b',', true) => self.state = State::Key,
                (b',', false) => self.state = State::Value,
                (b'}', true) | (b']', false) => self.close(visitor),
                _ => return self.fault(Fault::Unexpected(byte)),
            },
            State::Text | State::Done => return self.fault(Fault::Unexpected(byte)),
        }
        Ok(true)
    }

    fn value(&mut self, byte: u8, visitor: &mut impl Visitor) -> Result<(), Unreadable> {
        match byte {
            b'"' => self.open_text(false),
            b'{' => {
                visitor.event(Event::Object, self.here());
                self.open(true)?;
                self.state = State::KeyOrClose;
            }
            b'[' => {
                visitor.event(Event::Array, self.here());
                self.open(false)?;
                self.state = State::ItemOrClose;
            }
            b'-' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => {
                self.state = if byte == b'-' || byte.is_ascii_digit() { State::Number } else { State::Literal };
                self.start = self.at;
                self.scratch.clear();
                self.cut = false;
                self.keep(char::from(byte));
            }
            _ => return self.fault(Fault::Unexpected(byte)),
        }
        Ok(())
    }

    fn here(&self) -> Range<usize> {
        self.at..self.at.saturating_add(1)
    }

    fn open(&mut self, object: bool) -> Result<(), Unreadable> {
        let Some(word) = self.objects.get_mut(self.depth / 64) else {
            return self.fault(Fault::TooDeep);
        };
        let bit = 1u64 << (self.depth % 64);
        if object {
            *word |= bit;
        } else {
            *word &= !bit;
        }
        self.depth = self.depth.saturating_add(1);
        Ok(())
    }

    fn in_object(&self) -> bool {
        let level = self.depth.saturating_sub(1);
        self.objects.get(level / 64).is_some_and(|word| word & (1u64 << (level % 64)) != 0)
    }

    fn close(&mut self, visitor: &mut impl Visitor) {
        visitor.event(Event::Close, self.here());
        self.depth = self.depth.saturating_sub(1);
        self.after();
    }

    fn after(&mut self) {
        self.state = if self.depth == 0 { State::Done } else { State::After };
    }

    /// A number or a literal is complete.
    fn word(&mut self, visitor: &mut impl Visitor) -> Result<(), Unreadable> {
        let event = match (self.state, self.scratch.as_str()) {
            (_, "true") => Event::Bool(true),
            (_, "false") => Event::Bool(false),
            (_, "null") => Event::Null,
            (State::Number, word) if word.parse::<f64>().is_ok() || self.cut => Event::Number(word),
            (_, word @ ("NaN" | "Infinity" | "-Infinity")) => Event::Number(word),
            (_, word) => {
                let byte = word.bytes().next().unwrap_or(b' ');
                return Err(Unreadable { at: self.start, what: Fault::Unexpected(byte) });
            }
        };
        visitor.event(event, self.start..self.at);
        self.after();
        Ok(())
    }

    fn keep(&mut self, c: char) {
        if self.scratch.len() < SCRATCH_MAX {
            self.scratch.push(c);
        } else {
            self.cut = true;
        }
    }

    fn open_text(&mut self, in_key: bool) {
        self.state = State::Text;
        self.in_key = in_key;
        self.start = self.at;
        self.scratch.clear();
        self.cut = false;
        self.high = 0;
    }

    /// Reads string text up to the closing quote, an escape or the end of the input; returns what is left.
    fn text<'a>(&mut self, input: &'a [u8], visitor: &mut impl Visitor) -> Result<&'a [u8], Unreadable> {
        if self.partial_len > 0 {
            return self.complete_char(input, visitor);
        }
        let (run, rest) = input.split_at_checked(plain(input)).unwrap_or((input, &[]));
        match core::str::from_utf8(run) {
            Ok(key) if self.in_key && self.is_whole(key, rest) => {
                // As nearly all keys are: all of it is here, and nothing in it is escaped.
                self.at = self.at.saturating_add(run.len());
                visitor.event(Event::Key(key), self.start..self.at.saturating_add(1));
                self.at = self.at.saturating_add(1);
                self.state = State::Colon;
                return Ok(self.skip_to_text(b':', false, rest.get(1..).unwrap_or_default()));
            }
            Ok(run) => self.emit(run, visitor),
            Err(error) => {
                let (valid, tail) = run.split_at_checked(error.valid_up_to()).unwrap_or((run, &[]));
                let at_the_end = error.error_len().is_none() && rest.is_empty();
                self.emit(core::str::from_utf8(valid).unwrap_or_default(), visitor);
                if !at_the_end {
                    self.at = self.at.saturating_add(error.valid_up_to());
                    return self.fault(Fault::NotUtf8);
                }
                for (slot, byte) in self.partial.iter_mut().zip(tail) {
                    *slot = *byte;
                }
                self.partial_len = tail.len().min(self.partial.len());
            }
        }
        self.at = self.at.saturating_add(run.len());
        let Some((&byte, rest)) = rest.split_first() else {
            return Ok(rest);
        };
        let is_over = byte == b'"';
        if is_over {
            self.end_text(visitor);
        } else {
            self.state = State::Escape;
        }
        self.at = self.at.saturating_add(1);
        let is_followed = is_over && self.state == State::After && self.in_object();
        Ok(if is_followed { self.skip_to_text(b',', true, rest) } else { rest })
    }

    /// Begins the next string where it follows right behind `sign`, or behind it and a space, as it mostly does: what is left then. Byte by
    /// byte the same would come of it.
    fn skip_to_text<'a>(&mut self, sign: u8, in_key: bool, rest: &'a [u8]) -> &'a [u8] {
        let (before, rest) = match rest {
            [first, b'"', rest @ ..] if *first == sign => (1, rest),
            [first, b' ', b'"', rest @ ..] if *first == sign => (2, rest),
            _ => return rest,
        };
        self.at = self.at.saturating_add(before);
        self.open_text(in_key);
        self.at = self.at.saturating_add(1);
        rest
    }

    /// Whether this is all of the key that is being read, with its quotation mark behind it.
    fn is_whole(&self, key: &str, rest: &[u8]) -> bool {
        rest.first() == Some(&b'"')
            && self.scratch.is_empty()
            && !self.cut
            && self.high == 0
            && key.len() <= SCRATCH_MAX
    }

    /// A character was cut by the end of the previous piece: takes one more of its bytes.
    fn complete_char<'a>(&mut self, input: &'a [u8], visitor: &mut impl Visitor) -> Result<&'a [u8], Unreadable> {
        let Some((&byte, rest)) = input.split_first() else {
            return Ok(input);
        };
        let Some(slot) = self.partial.get_mut(self.partial_len) else {
            return self.fault(Fault::NotUtf8);
        };
        *slot = byte;
        self.partial_len = self.partial_len.saturating_add(1);
        self.at = self.at.saturating_add(1);
        let bytes = self.partial;
        match core::str::from_utf8(bytes.get(..self.partial_len).unwrap_or_default()) {
            Ok(text) => {
                self.partial_len = 0;
                self.emit(text, visitor);
                Ok(rest)
            }
            Err(error) if error.error_len().is_none() => Ok(rest),
            Err(_) => {
                // Where the character begins, as is reported of one that was not cut.
                self.at = self.at.saturating_sub(self.partial_len);
                self.fault(Fault::NotUtf8)
            }
        }
    }

    /// Hands on a run of plain text, or gathers it where it belongs to a key or stands between escapes.
    fn emit(&mut self, run: &str, visitor: &mut impl Visitor) {
        if run.is_empty() {
            return;
        }
        self.lone_surrogate();
        if self.in_key {
            if self.scratch.len().saturating_add(run.len()) <= SCRATCH_MAX {
                self.scratch.push_str(run);
            } else {
                self.cut = true;
            }
        } else if !self.scratch.is_empty() && run.len() < SCRATCH_MAX {
            self.scratch.push_str(run);
            self.flush(SCRATCH_MAX, visitor);
        } else {
            self.flush(0, visitor);
            visitor.event(Event::Text(run), self.start..self.at);
        }
    }

    /// Hands on gathered text once it is longer than `keep` bytes.
    fn flush(&mut self, keep: usize, visitor: &mut impl Visitor) {
        if self.scratch.len() > keep {
            visitor.event(Event::Text(&self.scratch), self.start..self.at);
            self.scratch.clear();
        }
    }

    fn end_text(&mut self, visitor: &mut impl Visitor) {
        self.lone_surrogate();
        let span = self.start..self.at.saturating_add(1);
        if self.in_key {
            let key = if self.cut { "" } else { self.scratch.as_str() };
            visitor.event(Event::Key(key), span);
            self.state = State::Colon;
        } else {
            self.flush(0, visitor);
            visitor.event(Event::TextEnd, span);
            self.after();
        }
    }

    fn escape(&mut self, byte: u8, visitor: &mut impl Visitor) -> Result<(), Unreadable> {
        let c = match byte {
            b'"' | b'\\' | b'/' => char::from(byte),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                self.unit = 0;
                self.state = State::Unicode(4);
                return Ok(());
            }
            _ => return self.fault(Fault::Unexpected(byte)),
        };
        self.lone_surrogate();
        self.unescaped(c, visitor);
        Ok(())
    }

    fn unicode(&mut self, byte: u8, left: u8, visitor: &mut impl Visitor) -> Result<(), Unreadable> {
        let Some(digit) = char::from(byte).to_digit(16) else {
            return self.fault(Fault::Unexpected(byte));
        };
        self.unit = (self.unit << 4) | digit as u16;
        if left > 1 {
            self.state = State::Unicode(left.saturating_sub(1));
            return Ok(());
        }
        let unit = self.unit;
        match unit {
            0xD800..=0xDBFF => {
                self.lone_surrogate();
                self.high = unit;
                self.state = State::Text;
            }
            0xDC00..=0xDFFF if self.high != 0 => {
                let pair = char::decode_utf16([self.high, unit]).next();
                self.high = 0;
                let c = pair.and_then(Result::ok).unwrap_or(char::REPLACEMENT_CHARACTER);
                self.unescaped(c, visitor);
            }
            _ => {
                self.lone_surrogate();
                let c = char::from_u32(u32::from(unit)).unwrap_or(char::REPLACEMENT_CHARACTER);
                self.unescaped(c, visitor);
            }
        }
        Ok(())
    }

    /// A high surrogate without its low half stands for nothing; U+FFFD takes its place.
    fn lone_surrogate(&mut self) {
        if self.high != 0 {
            self.high = 0;
            self.scratch.push(char::REPLACEMENT_CHARACTER);
        }
    }

    fn unescaped(&mut self, c: char, visitor: &mut impl Visitor) {
        self.state = State::Text;
        if self.in_key {
            self.keep(c);
        } else {
            self.scratch.push(c);
            self.flush(SCRATCH_MAX, visitor);
        }
    }
}
