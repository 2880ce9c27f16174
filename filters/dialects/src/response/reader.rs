//! Reads a response body as it arrives.

use core::ops::Range;

use crate::dialect::Dialect;
use crate::json::lexer::{Event, Lexer, Visitor};
use crate::json::path::Path;
use crate::response::quality::Quality;
use crate::response::report::{Report, is_skipped};
use crate::response::usage::Usage;
use crate::sink::CompletionSink;
use crate::sse::{Lines, Piece};

/// The reader of one response.
///
/// It keeps less than 4 KiB, whatever comes. A response that is not what it should be is the server's affair: it is passed on, and what
/// could not be read is not reported.
pub struct ResponseReader {
    /// Where the response is a stream of events.
    lines: Option<Lines>,
    document: Document,
}

/// The response as a whole, or the data of one event.
struct Document {
    dialect: Dialect,
    lexer: Lexer,
    path: Path,
    report: Report,
    unreadable: bool,
}

impl ResponseReader {
    /// A reader for the response to a request in `dialect`; `event_stream` says whether the response's content type is
    /// `text/event-stream`, `json_output` whether the request asked for JSON.
    pub fn new(dialect: Dialect, event_stream: bool, json_output: bool) -> Self {
        let document = Document {
            dialect,
            lexer: Lexer::default(),
            path: Path::default(),
            report: Report::new(dialect.api(), event_stream, json_output),
            unreadable: false,
        };
        Self { lines: event_stream.then(Lines::default), document }
    }

    /// Reads the next piece of the body; what was generated goes to `sink`.
    pub fn push(&mut self, bytes: &[u8], sink: &mut impl CompletionSink) {
        let Self { lines, document } = self;
        match lines {
            None => document.push(bytes, sink),
            Some(lines) => lines.push(bytes, &mut |piece| match piece {
                Piece::Data(data) => document.push(data, sink),
                Piece::Name(name) => document.report.event_name(name),
                Piece::End => document.end(),
            }),
        }
    }

    /// The usage that was reported so far.
    pub fn usage(&self) -> Option<Usage> {
        self.document.report.usage()
    }

    /// Whether that is final: reported after it was known how the response ended. Parts of streams report what they have so far.
    pub fn is_settled(&self) -> bool {
        self.document.report.is_settled()
    }

    /// Whether the server reported an error in the body, as it must in a stream whose headers have gone.
    pub fn failed(&self) -> bool {
        self.document.report.failed()
    }

    /// What the structure says of the quality. To be called at the end.
    pub fn quality(&mut self) -> Quality {
        self.document.report.quality()
    }
}

impl Document {
    fn push(&mut self, bytes: &[u8], sink: &mut impl CompletionSink) {
        let Self { dialect, lexer, path, report, unreadable } = self;
        *unreadable = *unreadable || lexer.push(bytes, &mut Visit { dialect: *dialect, path, report, sink }).is_err();
    }

    /// The event is over, and the next one's data is another document.
    fn end(&mut self) {
        self.report.end_event();
        self.path = Path::default();
        self.lexer.reset();
        self.unreadable = false;
    }
}

struct Visit<'a, S> {
    dialect: Dialect,
    path: &'a mut Path,
    report: &'a mut Report,
    sink: &'a mut S,
}

impl<S: CompletionSink> Visitor for Visit<'_, S> {
    fn event(&mut self, event: Event<'_>, _: Range<usize>) {
        let Self { dialect, path, report, sink } = self;
        path.follow(&event);
        let steps = path.steps();
        if !is_skipped(steps) && !report.read_usage(steps, event) {
            match dialect.generated(steps, report) {
                Some(kind) => report.read_text(kind, event, *sink),
                None => report.read(steps, event, *sink),
            }
        }
        path.enter(&event);
    }
}
