//! What a response reports: the usage, the texts that were generated, how it ended.

mod reader;

use reader::{Reader, Visit};

use crate::json::Lexer;
use crate::sse::{Lines, Piece};
use crate::{CompletionSink, Dialect, Quality};

/// No usage that a server reports is believed beyond this many tokens.
pub const USAGE_MAX: u64 = 1 << 24;

/// Tokens as the model server reports them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// All prompt tokens: cached ones and those that were written to a cache included, also where the dialect counts these apart.
    pub prompt: u64,
    /// Those of them that the server had cached.
    pub cached: u64,
    /// Those of them that were written to a cache.
    pub cache_creation: u64,
    /// All generated tokens, reasoning included.
    pub completion: u64,
    /// Those of them that were reasoning.
    pub reasoning: u64,
}

/// How the body is framed.
enum Framing {
    Json,
    Events(Lines),
}

/// Reads a response body as it arrives.
///
/// It keeps less than 4 KiB, whatever comes. A response that is not what it should be is the server's affair: it is passed on, and what
/// could not be read is not reported.
pub struct ResponseReader {
    framing: Framing,
    lexer: Lexer,
    reader: Reader,
    unreadable: bool,
}

impl ResponseReader {
    /// A reader for the response to a request in `dialect`; `event_stream` says whether the response's content type is
    /// `text/event-stream`, `json_output` whether the request asked for JSON.
    pub fn new(dialect: Dialect, event_stream: bool, json_output: bool) -> Self {
        Self {
            framing: if event_stream { Framing::Events(Lines::default()) } else { Framing::Json },
            lexer: Lexer::default(),
            reader: Reader::new(dialect, event_stream, json_output),
            unreadable: false,
        }
    }

    /// Reads the next piece of the body; what was generated goes to `sink`.
    pub fn push(&mut self, bytes: &[u8], sink: &mut impl CompletionSink) {
        let Self { framing, lexer, reader, unreadable } = self;
        let mut visit = Visit { reader, sink };
        match framing {
            Framing::Json => *unreadable = *unreadable || lexer.push(bytes, &mut visit).is_err(),
            Framing::Events(lines) => lines.push(bytes, &mut |piece| match piece {
                Piece::Data(data) => {
                    *unreadable = *unreadable || lexer.push(data, &mut visit).is_err();
                }
                Piece::Name(name) => visit.reader.name(name),
                Piece::End => {
                    visit.reader.end_event();
                    lexer.reset();
                    *unreadable = false;
                }
            }),
        }
    }

    /// The usage that was reported so far.
    pub fn usage(&self) -> Option<Usage> {
        self.reader.usage()
    }

    /// Whether that is final: reported after it was known how the answer ended. Parts of streams report what they have so far.
    pub fn is_settled(&self) -> bool {
        self.reader.is_settled
    }

    /// Whether the server reported an error in the body, as it must in a stream whose headers have gone.
    pub fn failed(&self) -> bool {
        self.reader.failed
    }

    /// What the structure tells. To be called at the end.
    pub fn quality(&mut self) -> Quality {
        self.reader.quality()
    }
}

#[cfg(test)]
mod tests;
