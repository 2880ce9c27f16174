//! The answer, as it passes: what it reports, when its tokens come, and what it came to in the end.

use penstock_dialects::{Reading, ResponseReader, SHORTER_MAX, UsageFilter};
use penstock_units::{Millis, Nanos, Tokens};

use crate::completion::Completion;
use crate::facts::{Facts, Outcome, Signals, Used};
use crate::finished::reason;
use crate::flow::Flow;
use crate::identity::header;
use crate::port::{Effect, Headers, Properties};
use crate::stage::Stage;
use crate::want::Want;
use crate::world::World;

/// What the proxy answers when it gave up on a server.
const GATEWAY_TIMEOUT: u16 = 504;
/// A server's own want of room.
const TOO_MANY_REQUESTS: u16 = 429;

/// Over how many pieces of a stream its pace is measured: at most, and at least.
const PACED_MAX: u64 = 128;
const PACED_MIN: u64 = 8;

/// What it answers when it has no route.
const NOT_FOUND: u16 = 404;
/// What it answers when it has no server.
const SERVICE_UNAVAILABLE: u16 = 503;

/// What is known of one answer.
#[derive(Default)]
pub struct Response {
    /// When the request came.
    pub started: Nanos,
    /// Takes out the usage that was only asked for here.
    pub usage_filter: Option<Box<UsageFilter>>,
    /// It is to be JSON.
    pub json_output: bool,
    /// What its server calls it is to be known.
    pub wants_id: bool,
    /// In so many choices of it the prompt is to be repeated.
    pub echoes: u64,
    status: Option<u16>,
    complete: bool,
    /// The server has accepted the request.
    is_answer: bool,
    /// It is compressed, although it was asked not to be.
    is_coded: bool,
    /// Some of its body has come.
    has_body: bool,
    reader: Option<Box<(ResponseReader, Completion)>>,
    first_token: Option<Nanos>,
    last_token: Nanos,
    /// How many of its first pieces came until when, and with the first of them.
    paced: (u64, Nanos),
    begun: u64,
    /// Why it ended, as it is counted.
    pub reason: Option<usize>,
}

impl Response {
    /// Its headers are here.
    pub fn head(&mut self, headers: &Headers, end: bool, flow: &Flow, out: &mut Vec<Effect>) {
        let status = header(headers, ":status").and_then(|status| core::str::from_utf8(status).ok()?.parse().ok());
        self.status = status;
        self.complete = end;
        self.is_answer = flow.facts.refused.is_none() && status.is_some_and(|status| (200..300).contains(&status));
        self.is_coded = header(headers, "content-encoding").is_some_and(has_coding);
        let reads = self.is_answer && !self.is_coded;
        if let Some(model) = flow.model(&flow.config).filter(|_| reads) {
            let mut reader = ResponseReader::new(flow.dialect, self.json_output);
            if self.wants_id {
                reader.want_id();
            }
            self.reader = Some(Box::new((reader, Completion::new(model.encoding))));
        }
        // What is a stream is seen from its bytes only, when the headers have gone.
        self.usage_filter = self.usage_filter.take().filter(|_| reads);
        if self.usage_filter.is_some() {
            out.push(Effect::DropResponseHeader("content-length"));
        }
    }

    /// The next bytes of its body are here. Tells the sums of what is in flight what has come.
    pub fn chunk(&mut self, id: u32, bytes: &[u8], end: bool, world: &mut World<'_>) {
        self.complete = end;
        self.has_body |= !bytes.is_empty();
        self.read(id, bytes, world);
        self.forward(bytes, end, world.out);
    }

    fn read(&mut self, id: u32, bytes: &[u8], world: &mut World<'_>) {
        let Some(reader) = &mut self.reader else { return };
        let (reader, completion) = reader.as_mut();
        let before = completion.deltas;
        reader.push(bytes, completion);
        let fresh = completion.deltas.saturating_sub(before);
        if fresh > 0 {
            if self.first_token.is_none() {
                self.first_token = Some(world.now);
                self.begun = completion.deltas;
                // What is not streamed comes at once, whenever it was generated.
                let host = if reader.is_json() { None } else { host(world) };
                world.worker.ledger.first_token(id, host);
            }
            self.last_token = world.now;
            if completion.deltas <= PACED_MAX {
                self.paced = (completion.deltas, world.now);
            }
            world.worker.ledger.decoded(id, Tokens(fresh));
        }
    }

    /// Leaves out of what goes on the usage that was only asked for here.
    fn forward(&mut self, bytes: &[u8], end: bool, out: &mut Vec<Effect>) {
        let Some(filter) = &mut self.usage_filter else { return };
        let forward = if self.reader.as_deref().is_some_and(|(reader, _)| reader.is_json()) {
            let held = filter.finish();
            self.usage_filter = None;
            (!held.is_empty()).then(|| [held.as_slice(), bytes].concat())
        } else {
            let mut forward = filter.push(bytes);
            if let (true, Some(forward)) = (end, &mut forward) {
                forward.extend(filter.finish());
            }
            forward
        };
        out.extend(forward.map(Effect::ResponseBytes));
    }

    /// What its server calls it, once that has come, where it is to be known.
    pub fn id(&self) -> Option<&[u8]> {
        self.reader.as_deref().and_then(|(reader, _)| reader.id())
    }

    /// How a request that was not refused ended. `held`: it never went on.
    pub fn outcome(&self, held: bool, properties: &dyn Properties) -> Outcome {
        match self.status {
            Some(status @ 400..) if status < 500 => Outcome::ClientError,
            Some(500..) => Outcome::UpstreamError,
            Some(_) if self.reports_failure() || (self.complete && self.is_empty()) => Outcome::UpstreamError,
            Some(_) if self.complete => Outcome::Ok,
            None if held => Outcome::Abandoned,
            _ if client_left(properties) => Outcome::Abandoned,
            _ => Outcome::UpstreamError,
        }
    }

    /// Its status.
    pub fn status(&self) -> Option<u16> {
        self.status
    }

    /// Whether its server would not have the request, however many servers there were.
    pub fn is_refusal(&self) -> bool {
        self.status.is_some_and(|status| (400..500).contains(&status) && status != TOO_MANY_REQUESTS)
    }

    /// What the answer says was wanting, where it is the proxy's own.
    pub fn want(&self, properties: &dyn Properties) -> Option<Want> {
        let is_unavailable = self.status == Some(SERVICE_UNAVAILABLE);
        is_unavailable.then(|| code_details(properties)).and_then(|details| Want::of(&details))
    }

    /// Whether the proxy has no route for the request.
    pub fn lacks_route(&self, properties: &dyn Properties) -> bool {
        self.status == Some(NOT_FOUND) && code_details(properties) == b"route_not_found"
    }

    /// Whether a server has answered, and not the proxy in its place.
    pub fn shows_server(&self) -> bool {
        self.status.is_some_and(|status| !matches!(status, SERVICE_UNAVAILABLE | GATEWAY_TIMEOUT))
    }

    /// What the structure told.
    pub fn quality(&mut self) -> Option<Signals> {
        let (reader, _) = self.reader.as_deref_mut()?;
        let quality = reader.quality();
        self.reason = Some(reason(&quality));
        Some(quality.into())
    }

    /// What a forwarded request used: what the server says, else what can be known without it. A request that the server failed before its
    /// first token used nothing, unless usage was reported or more was in the answer than the failure; one that the client left has been
    /// read by then; an answer that is not understood may be as long as what was reserved for it. `by_time`: what may have been generated in
    /// the time that passed, for answers that show nothing of themselves before they are complete, and for those that the proxy gave up on.
    pub fn used(
        &mut self,
        outcome: Outcome,
        facts: &Facts,
        properties: &dyn Properties,
        by_time: impl FnOnce() -> Tokens,
    ) -> Option<Used> {
        if let Some((reader, completion)) = self.reader.as_deref_mut() {
            reader.finish(completion);
        }
        let reserved = facts.max_output.unwrap_or(facts.expected_output);
        let is_accepted = self.status.is_none_or(|status| status < 400);
        if facts.background && is_accepted && !self.is_settled() && !self.reports_failure() {
            // A response that says `queued` ends long before the work does.
            return Some(kept(facts, reserved));
        }
        let is_unread = self.is_unread() && !self.is_only_failure();
        // A stream shows what is generated, so that one that was left before its first token was at its prompt.
        let is_unseen = || self.proxy_gave_up(properties) || (outcome == Outcome::Abandoned && !facts.stream);
        if outcome != Outcome::Ok && !is_unread && self.first_token.is_none() && is_unseen() {
            let timed = by_time().min(reserved);
            let Some((reader, completion)) = self.reader.as_deref_mut() else { return Some(counted(facts, timed)) };
            let own = counted(facts, timed.max(completion.tokens()));
            let is_part = reader.is_opening() || !reader.is_settled();
            let least = own.completion.min(Tokens(1));
            return Some(reader.usage().map_or(own, |usage| believed(usage.into(), own, least, facts, is_part)));
        }
        let Some((reader, completion)) = self.reader.as_deref_mut() else {
            let has_worked = has_worked(outcome);
            return if is_unread {
                Some(kept(facts, reserved))
            } else {
                has_worked.then(|| counted(facts, Tokens::ZERO))
            };
        };
        let seen = completion.tokens();
        let generated = seen.saturating_sub(facts.prompt_tokens.saturating_mul(self.echoes));
        let generated = generated.max(Tokens(reader.strange_tokens()));
        let own = if is_unread { kept(facts, reserved.max(seen)) } else { counted(facts, seen) };
        let Some(reported) = reader.usage().map(Used::from) else {
            return (is_unread || has_worked(outcome) || seen > Tokens::ZERO).then_some(own);
        };
        // What an answer begins with is reported also of one that then fails, and some servers report nothing as zeros.
        let is_opening = reader.is_opening();
        let has_report = !is_opening && reported.prompt.max(reported.completion) > Tokens::ZERO;
        let is_charged = has_worked(outcome) || seen > Tokens::ZERO || is_unread || has_report;
        let is_part = is_opening || reader.is_followed() || (outcome != Outcome::Ok && !reader.is_settled());
        is_charged.then(|| believed(reported, own, generated, facts, is_part))
    }

    /// Whether the server says in the body that it failed, whatever the status says.
    fn reports_failure(&self) -> bool {
        self.reader.as_deref().is_some_and(|(reader, _)| reader.failed())
    }

    /// Whether it failed, and nothing else can be read in it.
    fn is_only_failure(&self) -> bool {
        self.reader.as_deref().is_some_and(|(reader, _)| reader.failed() && !reader.has_more())
    }

    /// Whether nothing has come of an answer.
    fn is_empty(&self) -> bool {
        match self.reader.as_deref() {
            Some((reader, _)) => reader.reading(self.complete) == Reading::Empty,
            None => self.is_answer && !self.has_body,
        }
    }

    /// Whether something has gone to the client of which it is not known what it is.
    fn is_unread(&self) -> bool {
        let reading = self.reader.as_deref().map(|(reader, _)| reader.reading(self.complete));
        self.is_answer && ((self.is_coded && self.has_body) || reading == Some(Reading::Unread))
    }

    /// Whether the proxy waited no longer for a server that had the request: with a 504, or by breaking off what had begun. A server that
    /// could not be reached in time had nothing of it.
    pub fn proxy_gave_up(&self, properties: &dyn Properties) -> bool {
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

    /// Whether its first token is here.
    pub fn has_begun(&self) -> bool {
        self.first_token.is_some()
    }

    /// The mean time between the pieces of a stream, over its first ones: these fit into what the proxy buffers for a client that does not
    /// read. `None` where there are too few.
    pub fn pace(&self) -> Option<Nanos> {
        let (pieces, until) = self.paced;
        let after_first = pieces.saturating_sub(self.begun);
        let took = until.saturating_sub(self.first_token?);
        (after_first >= PACED_MIN).then(|| Nanos(took.0.checked_div(after_first).unwrap_or(0)))
    }

    /// From the first token to the last.
    pub fn decode_time(&self) -> Millis {
        self.last_token.saturating_sub(self.first_token.unwrap_or(self.last_token)).to_millis()
    }
}

/// Whether a `content-encoding` names a coding (RFC 9110, section 8.4.1, and IANA's registry). Servers also write character sets there, or
/// that there is none.
fn has_coding(value: &[u8]) -> bool {
    const CODINGS: [&[u8]; 11] = [
        b"aes128gcm",
        b"br",
        b"compress",
        b"dcb",
        b"dcz",
        b"deflate",
        b"exi",
        b"gzip",
        b"x-compress",
        b"x-gzip",
        b"zstd",
    ];
    let names = value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
    names.into_iter().any(|name| CODINGS.iter().any(|coding| name.eq_ignore_ascii_case(coding)))
}

fn has_worked(outcome: Outcome) -> bool {
    matches!(outcome, Outcome::Ok | Outcome::Abandoned)
}

/// What is believed of a report, next to what was counted here. A half that is missing or cannot be true is the own one: a prompt is never of
/// no token, and no vocabulary makes less than an eighth of a text's tokens of it ([`SHORTER_MAX`]). `seen`: what was read of what was
/// generated; `is_part`: what was reported was the state of a part, and the own count may be more.
fn believed(reported: Used, own: Used, seen: Tokens, facts: &Facts, is_part: bool) -> Used {
    let prompt_min = if facts.estimated { own.prompt.min(Tokens(1)) } else { own.prompt };
    let has_prompt = reported.prompt.saturating_mul(SHORTER_MAX) >= prompt_min;
    // What was reserved says nothing of how much it was.
    let least = if own.reserved { seen.max(own.completion.min(Tokens(1))) } else { seen };
    let is_short = reported.completion.saturating_mul(SHORTER_MAX) < least;
    let has_completion = !is_short && (!is_part || reported.completion >= own.completion);
    let prompt = if has_prompt { reported.prompt } else { own.prompt };
    let completion = if has_completion { reported.completion } else { own.completion };
    Used {
        prompt,
        // What is cached is a part of the prompt, and what was thought one of the completion.
        cached: reported.cached.min(prompt),
        completion,
        reasoning: reported.reasoning.min(completion),
        counted: !has_prompt || !has_completion,
        reserved: own.reserved && !has_completion,
        ..reported
    }
}

fn counted(facts: &Facts, completion: Tokens) -> Used {
    Used { prompt: facts.prompt_tokens, completion, counted: true, ..Used::default() }
}

/// What stays charged as it was reserved, as nobody here knows how much it was.
fn kept(facts: &Facts, reserved: Tokens) -> Used {
    Used { reserved: true, ..counted(facts, reserved) }
}

/// Which of the servers answers, as far as the proxy tells them apart, for the worker that keeps account of them.
fn host(world: &World<'_>) -> Option<u64> {
    if !world.worker.plugin.owns(Stage::Pending) {
        return None;
    }
    let address = world.properties.get(&["upstream", "address"]).filter(|address| !address.is_empty())?;
    Some(world.worker.secret.hash([address.as_slice()]))
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
