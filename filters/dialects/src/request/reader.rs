//! Reads a request body as it arrives.

use core::ops::Range;

use crate::dialect::Dialect;
use crate::json::lexer::{Event, Lexer, Visitor};
use crate::json::path::Step::Key;
use crate::json::path::{At, Path};
use crate::json::unreadable::Unreadable;
use crate::request::Request;
use crate::request::draft::Draft;
use crate::sink::PromptSink;

/// How much is read at once.
const PIECE: usize = 64 << 10;

/// The reader of one request. It keeps a bounded state, and never the body.
pub struct RequestReader {
    dialect: Dialect,
    lexer: Lexer,
    path: Path,
    draft: Draft,
}

impl RequestReader {
    /// A reader for one request in `dialect`.
    pub fn new(dialect: Dialect) -> Self {
        Self { dialect, lexer: Lexer::default(), path: Path::default(), draft: Draft::new(dialect.api()) }
    }

    /// Reads the next piece of the body; its texts go to `sink`.
    ///
    /// # Errors
    /// What makes the body unreadable. The reader must not be fed again after that.
    pub fn push(&mut self, bytes: &[u8], sink: &mut impl PromptSink) -> Result<(), Unreadable> {
        let Self { dialect, lexer, path, draft } = self;
        // What is wrong is found out before much more has been read.
        for piece in bytes.chunks(PIECE) {
            lexer.push(piece, &mut Visit { dialect: *dialect, path, draft, sink })?;
            draft.fault()?;
        }
        Ok(())
    }

    /// The body is complete.
    ///
    /// # Errors
    /// What makes the body unreadable.
    pub fn finish(self, sink: &mut impl PromptSink) -> Result<Request, Unreadable> {
        let Self { dialect, mut lexer, mut path, mut draft } = self;
        lexer.finish(&mut Visit { dialect, path: &mut path, draft: &mut draft, sink })?;
        draft.fault()?;
        Ok(draft.finish())
    }
}

struct Visit<'a, S> {
    dialect: Dialect,
    path: &'a mut Path,
    draft: &'a mut Draft,
    sink: &'a mut S,
}

impl<S: PromptSink> Visitor for Visit<'_, S> {
    fn event(&mut self, event: Event<'_>, span: Range<usize>) {
        self.path.follow(&event);
        let at = At { steps: self.path.steps(), event: &event, span: &span };
        if let ([Key(field)], Event::Key(key)) = (at.steps, at.event) {
            self.draft.key(*field, key, &span);
        }
        match event {
            Event::Close => self.draft.parts.close(at.steps),
            Event::Text(_) => {}
            _ => self.draft.value(&span),
        }
        if !self.draft.read(&at, self.sink) {
            self.dialect.read_request(&at, self.draft, self.sink);
        }
        self.path.enter(&event);
    }
}
