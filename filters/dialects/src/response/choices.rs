//! Which of several choices a text belongs to, which may become known only after the text.

use crate::sink::CompletionSink;

/// How much of a text is held until it is known whose it is, in bytes.
const HELD_MAX: usize = 1024;

/// Passes texts on, each to its choice.
pub struct Choices {
    /// There may be several, each with its index.
    are_indexed: bool,
    /// The choice that is being read, once it is known.
    current: Option<u32>,
    held: String,
}

impl Choices {
    pub fn new(are_indexed: bool) -> Self {
        Self { are_indexed, current: None, held: String::new() }
    }

    /// The next choice begins.
    pub fn begin(&mut self) {
        self.current = None;
    }

    /// Whether the current choice is the first, or may be.
    pub fn is_first(&self) -> bool {
        self.current.unwrap_or(0) == 0
    }

    /// A piece of a text.
    pub fn part(&mut self, part: &str, sink: &mut impl CompletionSink) {
        match self.current {
            None if self.are_indexed && self.held.len().saturating_add(part.len()) <= HELD_MAX => {
                self.held.push_str(part);
            }
            None if self.are_indexed => {
                self.is(0, sink);
                sink.part(0, part);
            }
            current => sink.part(current.unwrap_or(0), part),
        }
    }

    /// The text is complete.
    pub fn end(&mut self, sink: &mut impl CompletionSink) {
        // Until it is known whose it is, nothing of it has been passed on.
        if self.held.is_empty() {
            sink.end();
        }
    }

    /// It is known now which choice the current one is. Once it is, that stands.
    pub fn is(&mut self, index: u32, sink: &mut impl CompletionSink) {
        let current = *self.current.get_or_insert(index);
        if !self.held.is_empty() {
            sink.part(current, &self.held);
            sink.end();
            self.held.clear();
        }
    }
}
