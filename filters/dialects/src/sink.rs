//! Where texts go as they are read.

use crate::json::lexer::Event;

/// Where the texts of a request go, in document order.
///
/// One text (a role, a content string, the arguments of a tool call) is any number of [`PromptSink::part`] calls
/// followed by one [`PromptSink::end`]. Texts are tokenized separately, so the boundary matters.
pub trait PromptSink {
    /// The next piece of the current text. Pieces are never split inside a character.
    fn part(&mut self, text: &str);
    /// The current text is complete.
    fn end(&mut self);
}

/// A text that costs tokens.
pub fn text(event: &Event<'_>, sink: &mut impl PromptSink) {
    match event {
        Event::Text(part) => sink.part(part),
        Event::TextEnd => sink.end(),
        _ => {}
    }
}

/// Where the texts of a response go as they are generated.
pub trait CompletionSink {
    /// The next piece of what is generated for one of the choices, from 0 on.
    fn part(&mut self, choice: u32, text: &str);
    /// A delta is complete: in a stream the text of one event, otherwise a whole text.
    fn end(&mut self);
}

/// Forgets every text. For those who are only after the fields.
pub struct Ignore;

impl PromptSink for Ignore {
    fn part(&mut self, _: &str) {}
    fn end(&mut self) {}
}

impl CompletionSink for Ignore {
    fn part(&mut self, _: u32, _: &str) {}
    fn end(&mut self) {}
}
