//! Texts that a server sends twice in one choice, under two names: `reasoning` beside `reasoning_content`, `function_call` beside
//! `tool_calls`. They were generated once.

use crate::json::path::Step;
use crate::response::TextKind;

/// How much of a text is kept to compare another one with it, in bytes. Beyond that the two are taken to go on alike.
const KEPT_MAX: usize = 256;

/// Under which name a text stands in a choice.
type Name = (Option<Step>, Option<Step>);

/// The texts of the choice that is being read, a place for each kind of text.
#[derive(Default)]
pub struct Echo {
    places: [Place; 4],
    /// The place of the current text.
    at: usize,
    name: Name,
}

#[derive(Default)]
struct Place {
    /// The name under which such a text came first.
    first: Option<Name>,
    /// What came under it, or the beginning of that.
    text: String,
    /// How long all of that is.
    len: usize,
    /// The name under which another one comes.
    second: Option<Name>,
    /// How much of it was the same.
    matched: usize,
    /// It is another text, or a longer one.
    differs: bool,
}

impl Echo {
    /// The next choice begins.
    pub fn begin_choice(&mut self) {
        for place in self.places.iter_mut().filter(|place| place.first.is_some()) {
            (place.first, place.second) = (None, None);
            place.text.clear();
            (place.len, place.matched, place.differs) = (0, 0, false);
        }
    }

    /// The current text is one of this kind, at this place of a document with choices.
    pub fn at(&mut self, kind: TextKind, steps: &[Step]) {
        self.at = match kind {
            TextKind::Content => 0,
            TextKind::Reasoning => 1,
            TextKind::ToolName => 2,
            TextKind::ToolArguments | TextKind::ToolInput { .. } => 3,
        };
        self.name = (steps.get(2).copied(), steps.get(3).copied());
    }

    /// What of a piece of the current text has not been seen: what has turned out to be no echo after all, and what is new of the piece.
    pub fn fresh<'a>(&'a mut self, part: &'a str) -> [&'a str; 2] {
        let Some(place) = self.places.get_mut(self.at) else { return ["", part] };
        if *place.first.get_or_insert(self.name) == self.name {
            place.keep(part);
            return ["", part];
        }
        if place.second.replace(self.name) != Some(self.name) {
            (place.matched, place.differs) = (0, false);
        }
        place.compare(part)
    }
}

impl Place {
    fn keep(&mut self, part: &str) {
        self.len = self.len.saturating_add(part.len());
        // Only the beginning is of use, and that without a gap.
        if self.len <= KEPT_MAX {
            self.text.push_str(part);
        }
    }

    fn compare<'a>(&'a mut self, part: &'a str) -> [&'a str; 2] {
        if self.differs {
            return ["", part];
        }
        let known = self.text.as_bytes().get(self.matched..).unwrap_or_default();
        if known.iter().zip(part.as_bytes()).any(|(known, byte)| known != byte) {
            self.differs = true;
            return [self.text.get(..self.matched).unwrap_or_default(), part];
        }
        let seen = self.len.saturating_sub(self.matched).min(part.len());
        self.matched = self.matched.saturating_add(seen);
        let more = part.get(seen..).unwrap_or(part);
        self.differs = !more.is_empty();
        ["", more]
    }
}
