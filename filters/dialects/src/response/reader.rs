//! Reads a response body as it arrives.

use core::ops::Range;

use crate::dialect::Dialect;
use crate::json::lexer::{Event, Lexer, Visitor};
use crate::json::path::Path;
use crate::response::quality::{Quality, Quiet};
use crate::response::report::{Report, is_skipped};
use crate::response::usage::Usage;
use crate::sink::CompletionSink;
use crate::sse::{Lines, MARK, Piece};

/// The reader of one response.
///
/// It keeps less than 4 KiB, whatever comes. Whether a response is JSON or a stream of events is seen from its bytes, as servers send either
/// under any type. One that is not what it should be is the server's affair: it is passed on, and [`ResponseReader::reading`] tells.
pub struct ResponseReader {
    form: Form,
    /// Follows the response, as long as it is not known to be JSON.
    lines: Lines,
    document: Document,
}

/// What a response is.
#[derive(Clone, Copy, PartialEq)]
enum Form {
    /// Only white space and a byte order mark have come.
    Blank,
    /// One document.
    Json,
    /// A stream of events, or nothing that is known.
    Events,
}

/// What could be made of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// There is nothing in it, or no event that carries anything.
    Empty,
    /// There is something in it, and it is not known what: it is neither JSON nor a stream of events, or broken, be it in one event only, or
    /// says nothing that an answer says.
    Unread,
    /// It is an answer, as far as it has come.
    Read,
}

/// The response as a whole, or the data of one event.
struct Document {
    dialect: Dialect,
    lexer: Lexer,
    path: Path,
    report: Report,
    unreadable: bool,
    /// Some event carried something else than the mark of the end.
    any: bool,
    /// The current event is that mark, and nothing else.
    is_end: bool,
    /// Some event that is over was something else than that, and no JSON.
    is_broken: bool,
}

impl ResponseReader {
    /// A reader for the response to a request in `dialect`; `json_output` says whether the request asked for JSON.
    pub fn new(dialect: Dialect, json_output: bool) -> Self {
        let document = Document {
            dialect,
            lexer: Lexer::default(),
            path: Path::default(),
            report: Report::new(dialect.api(), json_output),
            unreadable: false,
            any: false,
            is_end: false,
            is_broken: false,
        };
        Self { form: Form::Blank, lines: Lines::default(), document }
    }

    /// Asks for [`ResponseReader::id`].
    pub fn want_id(&mut self) {
        self.document.report.want_id();
    }

    /// What the server calls the answer, by its first [`ORIGIN_BYTES_MAX`](crate::ORIGIN_BYTES_MAX) bytes: `id`, in streams of the
    /// Responses API that of `response`. `None` until it has come, and where it was not asked for.
    pub fn id(&self) -> Option<&[u8]> {
        self.document.report.id()
    }

    /// Reads the next piece of the body; what was generated goes to `sink`.
    pub fn push(&mut self, bytes: &[u8], sink: &mut impl CompletionSink) {
        let bytes = if self.form == Form::Blank { self.look(bytes) } else { bytes };
        let Self { form, lines, document } = self;
        match form {
            Form::Blank => {}
            Form::Json => document.push(bytes, sink),
            Form::Events => lines.push(bytes, &mut |piece| match piece {
                Piece::Data(data) => document.push(data, sink),
                Piece::Name(name) => document.report.event_name(name),
                Piece::NoName => document.report.no_name(),
                Piece::Strange => document.report.breaks(),
                Piece::End => document.end(),
            }),
        }
    }

    /// Skips white space and a byte order mark; behind them it is seen what the response is. Returns what is to be read.
    fn look<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let is_blank = |byte: &u8| byte.is_ascii_whitespace() || MARK.contains(byte);
        let at = bytes.iter().position(|byte| !is_blank(byte)).unwrap_or(bytes.len());
        let (blank, rest) = bytes.split_at_checked(at).unwrap_or((bytes, &[]));
        // In a stream it matters whether a field stands at the beginning of its line.
        self.lines.push(blank, &mut |_| {});
        self.form = match rest.first() {
            None => Form::Blank,
            Some(b'{' | b'[') => Form::Json,
            Some(_) => {
                self.document.report.is_of_stream();
                Form::Events
            }
        };
        rest
    }

    /// Whether the response is JSON, which is known once its first byte has come.
    pub fn is_json(&self) -> bool {
        self.form == Form::Json
    }

    /// What could be made of the response; `complete`: it is over, so that what is not whole by now is broken.
    pub fn reading(&self, complete: bool) -> Reading {
        let Document { lexer, report, unreadable, any, .. } = &self.document;
        let is_pending = !unreadable && !lexer.is_blank() && !lexer.is_done();
        let has_sense = report.is_known() || lexer.is_hollow();
        match self.form {
            Form::Blank => Reading::Empty,
            Form::Json | Form::Events if report.is_strange() => Reading::Unread,
            Form::Json if *unreadable || (complete && (is_pending || !has_sense)) => Reading::Unread,
            Form::Json => Reading::Read,
            // Whatever can be read in it, what stands beside that is not in what was counted.
            Form::Events if self.is_broken() => Reading::Unread,
            Form::Events if report.is_known() => Reading::Read,
            Form::Events if *any || (complete && is_pending) => Reading::Unread,
            Form::Events => Reading::Empty,
        }
    }

    /// Whether something in it is neither JSON nor a line of a stream, whatever the rest is.
    fn is_broken(&self) -> bool {
        let Document { unreadable, is_broken, is_end, .. } = &self.document;
        let is_unreadable = *is_broken || (*unreadable && !is_end);
        is_unreadable || (self.form == Form::Events && self.lines.is_strange())
    }

    /// Whether it has more in it than can be read, beside whatever else: something broken, or a long text at a place that nobody knows.
    pub fn has_more(&self) -> bool {
        self.is_broken() || self.document.report.is_strange()
    }

    /// The usage that was reported so far.
    pub fn usage(&self) -> Option<Usage> {
        self.document.report.usage()
    }

    /// Whether that is what a stream begins with, in which the completion is only a word for there being one.
    pub fn is_opening(&self) -> bool {
        self.document.report.is_opening()
    }

    /// Whether that is final: reported after it was known how the response ended. Parts of streams report what they have so far.
    pub fn is_settled(&self) -> bool {
        self.document.report.is_settled()
    }

    /// Whether more was said in an event behind that, or something that could not be read, so that it is the report of a part.
    pub fn is_followed(&self) -> bool {
        self.document.report.is_followed()
    }

    /// How many tokens the texts at places that nobody knows are, where these are more than words about an answer.
    pub fn strange_tokens(&self) -> u64 {
        self.document.report.strange_tokens()
    }

    /// It is over: what was held goes to `sink`.
    pub fn finish(&mut self, sink: &mut impl CompletionSink) {
        self.document.report.finish(sink);
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
        if self.unreadable {
            return self.is_behind(bytes);
        }
        let Self { dialect, lexer, path, report, .. } = self;
        let before = lexer.at();
        if lexer.push(bytes, &mut Visit { dialect: *dialect, path, report, sink }).is_err() {
            // The mark begins with a bracket, and its word is what cannot be read.
            let bracket = END.len().saturating_add(1);
            let rest = bracket.checked_sub(before).and_then(|at| bytes.get(at..)?.strip_prefix(b"]"));
            self.unreadable = true;
            self.is_end = lexer.at() == bracket && lexer.last_word() == END && rest.is_some();
            self.is_behind(rest.unwrap_or_default());
        }
    }

    /// The event goes on behind what is no JSON.
    #[cold]
    fn is_behind(&mut self, bytes: &[u8]) {
        self.is_end &= bytes.trim_ascii().is_empty();
        self.any |= !self.is_end;
    }

    /// The event is over, and the next one's data is another document.
    fn end(&mut self) {
        self.any |= !self.unreadable && !self.lexer.is_blank() && !self.lexer.is_hollow();
        if self.unreadable || !(self.lexer.is_done() || self.lexer.is_blank()) {
            self.break_off();
        }
        self.report.end_event();
        self.path.rewind();
        self.lexer.reset();
        self.unreadable = false;
    }

    /// The event is over before its document is, or was none.
    #[cold]
    fn break_off(&mut self) {
        let is_broken = if self.unreadable {
            !self.is_end
        } else {
            // A number is known to be whole by what stands behind it.
            self.lexer.finish(&mut Quiet).is_err()
        };
        if is_broken {
            self.is_broken = true;
            self.report.breaks();
        }
    }
}

/// The word in `[DONE]`, with which OpenAI's streams end, and which is no JSON.
const END: &str = "DONE";

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
        if is_skipped(steps) {
            // Nearly all that is skipped comes behind the first text, and no longer matters.
            if !report.has_spoken() {
                report.skip(steps, event);
            }
        } else if !report.read_usage(steps, event) {
            match dialect.generated(steps, report) {
                Some(kind) => report.read_text(kind, steps, event, *sink),
                None => report.read(steps, event, *sink),
            }
        }
        path.enter(&event);
    }
}
