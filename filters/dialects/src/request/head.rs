//! Short words, and the beginnings of texts that are long.

use crate::json::lexer::Event;

/// How much is kept, in bytes: every word that is known, and of data the first 72 bytes.
const HEAD_MAX: usize = 96;

/// The beginning of a text, as far as it is ASCII.
#[derive(Default)]
pub struct Head(String);

impl Head {
    /// Takes what an event adds to it; a key begins a new one.
    pub fn keep(&mut self, event: &Event<'_>) {
        match event {
            Event::Key(_) => self.0.clear(),
            Event::Text(part) => {
                let room = HEAD_MAX.saturating_sub(self.0.len());
                self.0.extend(part.chars().take_while(char::is_ascii).take(room));
            }
            _ => {}
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn starts_with(&self, start: &str) -> bool {
        self.0.starts_with(start)
    }
}
