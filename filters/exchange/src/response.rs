//! The answer, as it passes: what it reports, when its tokens come, and what it came to in the end.

use penstock_dialects::{ResponseReader, UsageFilter};
use penstock_units::{Millis, Nanos, Tokens};

use crate::completion::Completion;
use crate::facts::{Facts, Outcome, Signals, Used};
use crate::flow::Flow;
use crate::identity::header;
use crate::port::{Effect, Headers, Properties};
use crate::world::World;

/// What the proxy answers when it gave up on a server.
const GATEWAY_TIMEOUT: u16 = 504;

/// What is known of one answer.
#[derive(Default)]
pub struct Response {
    /// When the request came.
    pub started: Nanos,
    /// Takes out the usage that was only asked for here.
    pub usage_filter: Option<Box<UsageFilter>>,
    /// It is to be JSON.
    pub json_output: bool,
    status: Option<u16>,
    complete: bool,
    /// It is compressed, although it was asked not to be.
    unreadable: bool,
    reader: Option<Box<(ResponseReader, Completion)>>,
    first_token: Option<Nanos>,
    last_token: Nanos,
}

impl Response {
    /// Its headers are here.
    pub fn head(&mut self, headers: &Headers, end: bool, flow: &Flow, out: &mut Vec<Effect>) {
        let status = header(headers, ":status").and_then(|status| core::str::from_utf8(status).ok()?.parse().ok());
        self.status = status;
        self.complete = end;
        let is_stream = header(headers, "content-type").unwrap_or_default().starts_with(b"text/event-stream");
        let is_plain = header(headers, "content-encoding").is_none_or(|coding| coding == b"identity");
        self.unreadable = !is_plain;
        self.usage_filter = self.usage_filter.take().filter(|_| is_plain && is_stream);
        if self.usage_filter.is_some() {
            out.push(Effect::DropResponseHeader("content-length"));
        }
        let is_answer = flow.facts.refused.is_none() && status.is_some_and(|status| (200..300).contains(&status));
        if let Some(model) = flow.model(&flow.config).filter(|_| is_plain && is_answer) {
            let reader = ResponseReader::new(flow.dialect, is_stream, self.json_output);
            self.reader = Some(Box::new((reader, Completion::new(model.encoding))));
        }
    }

    /// The next bytes of its body are here. Tells the sums of what is in flight what has come.
    pub fn chunk(&mut self, id: u32, bytes: &[u8], end: bool, world: &mut World<'_>) {
        self.complete = end;
        if let Some(filter) = &mut self.usage_filter {
            let mut forward = filter.push(bytes);
            if let (true, Some(forward)) = (end, &mut forward) {
                forward.extend(filter.finish());
            }
            world.out.extend(forward.map(Effect::ResponseBytes));
        }
        let Some(reader) = &mut self.reader else { return };
        let (reader, completion) = reader.as_mut();
        let before = completion.deltas;
        reader.push(bytes, completion);
        let fresh = completion.deltas.saturating_sub(before);
        if fresh > 0 {
            self.first_token.get_or_insert(world.now);
            self.last_token = world.now;
            world.worker.ledger.first_token(id);
            world.worker.ledger.decoded(id, Tokens(fresh));
        }
    }

    /// How a request that was not refused ended. `held`: it never went on.
    pub fn outcome(&self, held: bool, properties: &dyn Properties) -> Outcome {
        match self.status {
            Some(status @ 400..) if status < 500 => Outcome::ClientError,
            Some(500..) => Outcome::UpstreamError,
            Some(_) if self.reader.as_deref().is_some_and(|(reader, _)| reader.failed()) => Outcome::UpstreamError,
            Some(_) if self.complete => Outcome::Ok,
            None if held => Outcome::Abandoned,
            _ if client_left(properties) => Outcome::Abandoned,
            _ => Outcome::UpstreamError,
        }
    }

    /// What the structure told.
    pub fn quality(&mut self) -> Option<Signals> {
        self.reader.as_deref_mut().map(|(reader, _)| reader.quality().into())
    }

    /// What a forwarded request used: what the server says, else what can be known without it. A request that the server failed before its
    /// first token used nothing; one that the client left has been read by then. `by_time`: what may have been generated in the time that
    /// passed, for answers that show nothing of themselves before they are complete, and for those that the proxy gave up on.
    pub fn used(
        &mut self,
        outcome: Outcome,
        facts: &Facts,
        properties: &dyn Properties,
        by_time: impl FnOnce() -> Tokens,
    ) -> Option<Used> {
        let is_accepted = self.status.is_none_or(|status| status < 400);
        if facts.background && is_accepted && !self.is_settled() {
            // A response that says `queued` ends long before the work does.
            return Some(counted(facts, facts.max_output.unwrap_or(facts.expected_output)));
        }
        // A stream shows what is generated, so that one that was left before its first token was at its prompt.
        let is_unseen = || self.proxy_gave_up(properties) || (outcome == Outcome::Abandoned && !facts.stream);
        if outcome != Outcome::Ok && self.first_token.is_none() && is_unseen() {
            let reserved = facts.max_output.unwrap_or(facts.expected_output);
            return Some(counted(facts, by_time().min(reserved)));
        }
        let Some((reader, completion)) = self.reader.as_deref_mut() else {
            let is_unread = self.unreadable && outcome == Outcome::Ok;
            let completion = if is_unread { facts.expected_output } else { Tokens::ZERO };
            return has_worked(outcome, completion).then(|| counted(facts, completion));
        };
        let reported = reader.usage().map(Used::from);
        if let Some(used) = reported.filter(|_| outcome == Outcome::Ok || reader.is_settled()) {
            return Some(used);
        }
        let seen = completion.tokens();
        let used = match reported {
            // What was reported was the state of a part; what was seen may be more.
            Some(part) => Used { completion: part.completion.max(seen), ..part },
            None => counted(facts, seen),
        };
        has_worked(outcome, seen).then_some(used)
    }

    /// Whether the proxy waited no longer for a server that had the request: with a 504, or by breaking off what had begun. A server that
    /// could not be reached in time had nothing of it.
    fn proxy_gave_up(&self, properties: &dyn Properties) -> bool {
        match self.status {
            Some(status) => status == GATEWAY_TIMEOUT || (status < 400 && timed_out(properties)),
            None => false,
        }
    }

    /// Whether usage was reported that is final.
    fn is_settled(&self) -> bool {
        self.reader.as_deref().is_some_and(|(reader, _)| reader.usage().is_some() && reader.is_settled())
    }

    /// From the request's headers to the first token.
    pub fn ttft(&self) -> Option<Millis> {
        self.first_token.map(|at| at.saturating_sub(self.started).to_millis())
    }

    /// From the request's headers to now.
    pub fn duration(&self, now: Nanos) -> Millis {
        now.saturating_sub(self.started).to_millis()
    }

    /// From the first token to the last.
    pub fn decode_time(&self) -> Millis {
        self.last_token.saturating_sub(self.first_token.unwrap_or(self.last_token)).to_millis()
    }
}

fn has_worked(outcome: Outcome, seen: Tokens) -> bool {
    matches!(outcome, Outcome::Ok | Outcome::Abandoned) || seen > Tokens::ZERO
}

fn counted(facts: &Facts, completion: Tokens) -> Used {
    Used { prompt: facts.prompt_tokens, completion, counted: true, ..Used::default() }
}

/// A client of HTTP/1 is gone with its connection; one of HTTP/2 or HTTP/3 resets its stream, which the codec reports.
fn client_left(properties: &dyn Properties) -> bool {
    let details = code_details(properties);
    contains(&details, b"downstream") || [b"http2.", b"http3."].iter().any(|codec| details.starts_with(*codec))
}

/// The proxy's own limits of time: `response_timeout`, `stream_idle_timeout`, `upstream_max_stream_duration_reached` and their like.
fn timed_out(properties: &dyn Properties) -> bool {
    let details = code_details(properties);
    contains(&details, b"timeout") || contains(&details, b"duration")
}

/// In Envoy's words, how the answer came about.
fn code_details(properties: &dyn Properties) -> Vec<u8> {
    properties.get(&["response", "code_details"]).unwrap_or_default()
}

fn contains(details: &[u8], word: &[u8]) -> bool {
    details.windows(word.len()).any(|window| window == word)
}
