//! What a response reports: the usage, and the texts that were generated.

use core::ops::Range;

use crate::ask::whole;
use crate::json::{Event, Lexer, Visitor};
use crate::path::Field::{
    Arguments, CachedTokens, Choices, CompletionTokens, CompletionTokensDetails, Content, Delta, Function, Message,
    Name, PromptTokens, PromptTokensDetails, Reasoning, ReasoningContent, ReasoningTokens, Refusal, Text, ToolCalls,
    Usage as UsageKey,
};
use crate::path::Path;
use crate::path::Step::{Item, Key};
use crate::sse::{Lines, Piece};
use crate::{Dialect, Sink};

/// No usage that a server reports is believed beyond this many tokens.
pub const USAGE_MAX: u64 = 1 << 24;

/// Tokens as the model server reports them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// All prompt tokens, cached ones included.
    pub prompt: u64,
    /// Those of them that the server had cached.
    pub cached: u64,
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
pub struct Answer {
    framing: Framing,
    lexer: Lexer,
    reader: Reader,
    unreadable: bool,
}

impl Answer {
    /// A reader for the response to a request in `dialect`; `event_stream` says whether the response's content type
    /// is `text/event-stream`.
    pub fn new(_dialect: Dialect, event_stream: bool) -> Self {
        let framing = if event_stream { Framing::Events(Lines::default()) } else { Framing::Json };
        Self { framing, lexer: Lexer::default(), reader: Reader::default(), unreadable: false }
    }

    /// Reads the next piece of the body; what was generated goes to `sink`, one text for each delta.
    ///
    /// A response that is not what it should be is the server's affair: it is passed on, and what could not be read
    /// is not reported.
    pub fn push(&mut self, bytes: &[u8], sink: &mut impl Sink) {
        let Self { framing, lexer, reader, unreadable } = self;
        let mut visit = Visit { reader, sink };
        match framing {
            Framing::Json => *unreadable = *unreadable || lexer.push(bytes, &mut visit).is_err(),
            Framing::Events(lines) => lines.push(bytes, &mut |piece| match piece {
                Piece::Data(data) => {
                    *unreadable = *unreadable || lexer.push(data, &mut visit).is_err();
                }
                Piece::End => {
                    visit.reader.path = Path::default();
                    lexer.reset();
                    *unreadable = false;
                }
            }),
        }
    }

    /// The usage that was reported so far.
    pub fn usage(&self) -> Option<Usage> {
        self.reader.seen.then_some(self.reader.usage)
    }
}

#[derive(Default)]
struct Reader {
    path: Path,
    usage: Usage,
    seen: bool,
}

struct Visit<'a, S> {
    reader: &'a mut Reader,
    sink: &'a mut S,
}

impl<S: Sink> Visitor for Visit<'_, S> {
    fn event(&mut self, event: Event<'_>, _: Range<usize>) {
        self.reader.path.follow(&event);
        self.reader.read(&event, self.sink);
        self.reader.path.enter(&event);
    }
}

impl Reader {
    fn read(&mut self, event: &Event<'_>, sink: &mut impl Sink) {
        match (self.path.steps(), event) {
            ([Key(UsageKey), field @ ..], Event::Number(word)) => {
                let value = whole(word).unwrap_or(0).min(USAGE_MAX);
                let usage = &mut self.usage;
                let slot = match field {
                    [Key(PromptTokens)] => &mut usage.prompt,
                    [Key(CompletionTokens)] => &mut usage.completion,
                    [Key(PromptTokensDetails), Key(CachedTokens)] => &mut usage.cached,
                    [Key(CompletionTokensDetails), Key(ReasoningTokens)] => &mut usage.reasoning,
                    _ => return,
                };
                *slot = value;
                self.seen = true;
            }
            (
                [Key(Choices), Item, Key(Message | Delta), Key(Content | ReasoningContent | Reasoning | Refusal)]
                | [Key(Choices), Item, Key(Text)]
                | [Key(Choices), Item, Key(Message | Delta), Key(ToolCalls), Item, Key(Function), Key(Name | Arguments)],
                event,
            ) => match event {
                Event::Text(part) => sink.part(part),
                Event::TextEnd => sink.end(),
                _ => {}
            },
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Count {
        text: String,
        ends: usize,
    }

    impl Sink for Count {
        fn part(&mut self, text: &str) {
            self.text.push_str(text);
        }
        fn end(&mut self) {
            self.ends += 1;
        }
        fn restart(&mut self) {}
    }

    fn read(body: &str, stream: bool, size: usize) -> (Option<Usage>, String, usize) {
        let mut answer = Answer::new(Dialect::OpenAiChat, stream);
        let mut count = Count::default();
        for piece in body.as_bytes().chunks(size) {
            answer.push(piece, &mut count);
        }
        (answer.usage(), count.text, count.ends)
    }

    #[test]
    fn reads_a_whole_answer() {
        let body = r#"{"choices":[{"message":{"role":"assistant","content":"Hello"}}],"usage":{"prompt_tokens":9,
            "completion_tokens":4,"prompt_tokens_details":{"cached_tokens":8},"completion_tokens_details":{"reasoning_tokens":2}}}"#;
        let usage = Usage { prompt: 9, cached: 8, completion: 4, reasoning: 2 };
        for size in [1, 5, 1000] {
            assert_eq!(read(body, false, size), (Some(usage), "Hello".to_string(), 1));
        }
    }

    #[test]
    fn reads_a_stream_at_any_split() {
        let body = ": hi\r\n\r\ndata: {\"choices\":[{\"delta\":{\"content\":\"He\"}}],\"usage\":null}\r\n\r\n\
            data: {\"choices\":[{\"delta\":\ndata: {\"content\":\"llo\"}}]}\n\ndata: not json\n\n\
            data: {\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":18446744073709551615}}\n\ndata: [DONE]\n\n";
        for size in 1..body.len() {
            let (usage, text, ends) = read(body, true, size);
            let usage = usage.unwrap();
            assert_eq!((usage.prompt, usage.completion), (3, USAGE_MAX), "size {size}");
            assert_eq!((text.as_str(), ends), ("Hello", 2), "size {size}");
        }
    }
}
