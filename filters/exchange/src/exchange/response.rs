//! The way back: the answer is read as it passes, and at the end everything is settled by what it was.

use penstock_bucket::credit::Allowance;
use penstock_dialects::{Answer, Dialect};
use penstock_tokens::ratio::Ratio;

use super::{Exchange, State, expectation_key, model_label, ratio_key};
use crate::counting::Completion;
use crate::expectation::Expectation;
use crate::facts::{FILTER_STATE, Facts, Outcome, Used};
use crate::identity::header;
use crate::limits;
use crate::metrics::{Labels, Metric, OTHER};
use crate::port::{Effect, Headers, Level, World};

impl Exchange {
    pub(super) fn response_head(&mut self, headers: &Headers, end: bool, world: &mut World<'_>) {
        if self.is_foreign() {
            return;
        }
        let status = header(headers, ":status").and_then(|status| core::str::from_utf8(status).ok()?.parse().ok());
        self.response.status = status;
        self.response.complete = end;
        self.learn(world);
        let stages = world.worker.stages;
        if stages.count && !self.facts.model.is_empty() {
            let tokens = self.facts.prompt_tokens.to_string().into_bytes();
            world.out.push(Effect::ResponseHeader("x-penstock-prompt-tokens", tokens));
        }
        if let Some(fallback) = &self.fallback {
            world.out.push(Effect::ResponseHeader("x-penstock-fallback", fallback.clone().into_bytes()));
        }
        if let Some(max) = self.ceiling {
            world.out.push(Effect::ResponseHeader("x-penstock-max-tokens", max.to_string().into_bytes()));
        }
        if stages.route
            && let Some(version) = &self.facts.version
        {
            world.out.push(Effect::ResponseHeader("x-penstock-version", version.clone().into_bytes()));
        }
        if let Some(standing) = self.standing.as_ref().filter(|_| stages.limit) {
            for (name, value) in [
                ("x-ratelimit-limit-tokens", standing.burst.to_string()),
                ("x-ratelimit-remaining-tokens", standing.remaining.to_string()),
                ("x-ratelimit-reset-tokens", seconds(standing.reset)),
            ] {
                world.out.push(Effect::ResponseHeader(name, value.into_bytes()));
            }
        }
        let is_firm = self.facts.max_output.is_some();
        for (name, value) in self.credit.iter().flat_map(|left| left_of(left, is_firm)) {
            world.out.push(Effect::ResponseHeader(name, value));
        }
        let kind = header(headers, "content-type").unwrap_or_default();
        let plain = header(headers, "content-encoding").is_none_or(|coding| coding == b"identity");
        self.hide = self.hide.take().filter(|_| plain && kind.starts_with(b"text/event-stream"));
        if self.hide.is_some() {
            world.out.push(Effect::DropResponseHeader("content-length"));
        }
        self.response.unreadable = !plain;
        if plain && self.facts.refused.is_none() && status.is_some_and(|status| (200..300).contains(&status)) {
            let encoding = self.config.model(&self.facts.model).map(|model| model.encoding);
            self.response.reader = encoding.map(|encoding| {
                let events = kind.starts_with(b"text/event-stream");
                Box::new((Answer::new(self.dialect, events, self.json_output), Completion::new(encoding)))
            });
        }
    }

    pub(super) fn response_chunk(&mut self, bytes: &[u8], end: bool, world: &mut World<'_>) {
        self.response.complete = end;
        if let Some(hide) = &mut self.hide {
            let mut forward = hide.push(bytes);
            if let (true, Some(forward)) = (end, &mut forward) {
                forward.extend(hide.finish());
            }
            world.out.extend(forward.map(Effect::ResponseBytes));
        }
        let Some(reader) = &mut self.response.reader else { return };
        let (answer, completion) = reader.as_mut();
        let before = completion.deltas;
        answer.push(bytes, completion);
        let fresh = completion.deltas.saturating_sub(before);
        if fresh > 0 {
            self.response.first_token.get_or_insert(world.now);
            self.response.last_token = world.now;
            world.worker.ledger.first_token(self.id);
            world.worker.ledger.decoded(self.id, fresh);
        }
    }

    /// A plugin that runs by itself asks what later ones found; the all-in-one knows.
    fn learn(&mut self, world: &World<'_>) {
        if world.worker.stages == crate::Stages::ALL {
            return;
        }
        if let Some(facts) = world.properties.get(&FILTER_STATE).as_deref().and_then(Facts::decode) {
            self.facts.version = self.facts.version.take().or(facts.version);
            self.facts.limit = self.facts.limit.take().or(facts.limit);
            self.facts.refused = self.facts.refused.or(facts.refused);
        }
    }

    /// It is over: settles everything, and says what it came to.
    pub(super) fn closed(&mut self, world: &mut World<'_>) {
        let ours = !self.is_foreign();
        let state = core::mem::replace(&mut self.state, State::Closed);
        world.worker.ledger.done(self.id);
        if !ours {
            return;
        }
        self.learn(world);
        let forwarded = matches!(state, State::Decided) && self.facts.refused.is_none();
        let reading = matches!(state, State::Reading(_) | State::Asking(_));
        let outcome = self.facts.refused.unwrap_or_else(|| self.outcome(reading, world));
        self.facts.quality = self.response.reader.as_deref_mut().map(|(answer, _)| answer.quality().into());
        let used = if forwarded { self.used(outcome) } else { None };
        self.learn_ratio(used, world);
        self.learn_output(outcome, used, world);
        let first_token = self.response.first_token;
        self.facts.outcome = Some(outcome);
        self.facts.used = used;
        self.facts.ttft_ms = first_token.map(|at| at.saturating_sub(self.started) / 1_000_000);
        let charges = core::mem::take(&mut self.charges);
        let tool_calls = self.facts.quality.as_ref().map_or(0, |quality| quality.tool_calls);
        if limits::settle(&charges, used, tool_calls, &mut world.worker.till(world.now, world.store)) > 0 {
            world.out.push(Effect::Log(Level::Warn, "limits were not settled: shared state is contended".into()));
        }
        if world.worker.stages.count {
            self.totals(outcome, used, world);
        }
        if world.worker.stages.pending {
            self.latencies(used, world);
        }
        world.out.push(Effect::Publish(self.facts.encode()));
    }

    /// The server's own count teaches the estimate of the next request.
    fn learn_ratio(&self, used: Option<Used>, world: &mut World<'_>) {
        let features = self.features.as_ref().filter(|_| self.teaches);
        let (Some(features), Some(used)) = (features, used.filter(|used| !used.counted)) else { return };
        let _ = world.store.update(&ratio_key(&self.facts.model), &mut |old| {
            let mut ratio = old.map(Ratio::decode).unwrap_or_default();
            ratio.learn(features, used.prompt);
            Some(ratio.encode())
        });
    }

    /// How much was generated tells how much to expect.
    fn learn_output(&self, outcome: Outcome, used: Option<Used>, world: &mut World<'_>) {
        let (false, Outcome::Ok, Some(used)) = (self.told, outcome, used) else { return };
        if self.dialect == Dialect::OpenAiEmbeddings {
            return;
        }
        let each = used.completion.checked_div(self.choices).unwrap_or(0);
        let _ = world.store.update(&expectation_key(&self.facts), &mut |old| {
            let mut expectation = old.map(Expectation::decode).unwrap_or_default();
            expectation.learn(each);
            Some(expectation.encode())
        });
    }

    /// How a request that was let go ended.
    fn outcome(&self, reading: bool, world: &World<'_>) -> Outcome {
        let details = world.properties.get(&["response", "code_details"]).unwrap_or_default();
        let left = b"downstream";
        // A client of HTTP/1 is gone with its connection; one of HTTP/2 or HTTP/3 resets its stream, which the codec reports.
        let client_left = details.windows(left.len()).any(|window| window == left)
            || [b"http2.", b"http3."].iter().any(|codec| details.starts_with(*codec));
        match self.response.status {
            Some(status @ 400..) if status < 500 => Outcome::ClientError,
            Some(500..) => Outcome::UpstreamError,
            Some(_) if self.response.reader.as_deref().is_some_and(|(answer, _)| answer.failed()) => {
                Outcome::UpstreamError
            }
            Some(_) if self.response.complete => Outcome::Ok,
            None if reading => Outcome::Abandoned,
            _ if client_left => Outcome::Abandoned,
            _ => Outcome::UpstreamError,
        }
    }

    /// What a forwarded request used: what the server says, else what can be known without it. A request that failed
    /// before its first token used nothing; one that the client left has been read by then.
    fn used(&mut self, outcome: Outcome) -> Option<Used> {
        let reader = self.response.reader.as_deref_mut();
        if let Some((answer, completion)) = reader
            && let Some(usage) = answer.usage()
        {
            let mut used = Used::from(usage);
            if outcome == Outcome::Ok || answer.is_settled() {
                return Some(used);
            }
            // What was reported was the state of a part; what was seen may be more.
            let seen = completion.tokens();
            used.completion = used.completion.max(seen);
            return (outcome == Outcome::Abandoned || seen > 0).then_some(used);
        }
        let reader = self.response.reader.as_deref_mut();
        let unread = if self.response.unreadable && outcome == Outcome::Ok { self.facts.expected_output } else { 0 };
        let completion = reader.map_or(unread, |(_, completion)| completion.tokens());
        let worked = matches!(outcome, Outcome::Ok | Outcome::Abandoned) || completion > 0;
        worked.then_some(Used { prompt: self.facts.prompt_tokens, completion, counted: true, ..Used::default() })
    }

    fn totals(&self, outcome: Outcome, used: Option<Used>, world: &mut World<'_>) {
        let labels: Labels = vec![
            if self.facts.model.is_empty() { OTHER.to_owned() } else { model_label(&self.facts.model) },
            self.version_label(),
            match self.config.tenant(&self.facts.tenant) {
                Some(tenant) => tenant.name.clone(),
                None => OTHER.to_owned(),
            },
        ];
        let with = |last: &str| labels.iter().cloned().chain([last.to_owned()]).collect::<Labels>();
        world.out.push(Effect::Count(Metric::Requests, with(outcome.label()), 1));
        let Some(used) = used else { return };
        for (kind, tokens) in [
            ("prompt", used.prompt),
            ("cached", used.cached),
            ("completion", used.completion),
            ("reasoning", used.reasoning),
        ] {
            if tokens > 0 {
                world.out.push(Effect::Count(Metric::Tokens, with(kind), tokens));
            }
        }
        let Some(model) = self.config.model(&self.facts.model) else { return };
        let fresh = used.prompt.saturating_sub(used.cached);
        let nano = fresh
            .saturating_mul(model.price.input)
            .saturating_add(used.cached.saturating_mul(model.price.cached))
            .saturating_add(used.completion.saturating_mul(model.price.output));
        let micro = world.worker.microdollars(&labels, nano);
        if micro > 0 {
            world.out.push(Effect::Count(Metric::Cost, labels.clone(), micro));
        }
        if !used.counted {
            let error = used.prompt.abs_diff(self.facts.prompt_tokens);
            let labels = labels.iter().take(2).cloned().collect();
            world.out.push(Effect::Observe(Metric::EstimateError, labels, error));
        }
    }

    fn latencies(&self, used: Option<Used>, world: &mut World<'_>) {
        if used.is_none() {
            return;
        }
        let labels: Labels = vec![model_label(&self.facts.model), self.version_label()];
        let duration = world.now.saturating_sub(self.started) / 1_000_000;
        world.out.push(Effect::Observe(Metric::Duration, labels.clone(), duration));
        if let (Some(ttft), true) = (self.facts.ttft_ms, self.facts.stream) {
            world.out.push(Effect::Observe(Metric::Ttft, labels.clone(), ttft));
            let after_first = used.map_or(0, |used| used.completion).saturating_sub(1);
            let first = self.response.first_token.unwrap_or(self.response.last_token);
            let decode = self.response.last_token.saturating_sub(first) / 1_000_000;
            if let Some(between) = decode.checked_div(after_first) {
                world.out.push(Effect::Observe(Metric::InterToken, labels, between));
            }
        }
    }
}

/// What is left of a session's credit, as response headers. Where nothing is left for another call, this is the last; tokens that are
/// reserved for an answer whose length is a guess may come back.
fn left_of(left: &Allowance, is_firm: bool) -> impl Iterator<Item = (&'static str, Vec<u8>)> {
    let seconds = left.wall_clock.map(|nanos| nanos / 1_000_000_000);
    let counts = [left.tokens, left.calls, left.tool_calls];
    let used_up = [left.tokens.filter(|_| is_firm), left.calls, left.tool_calls];
    let last = used_up.contains(&Some(0)).then(|| ("x-penstock-session-final", b"true".to_vec()));
    let names = ["x-penstock-session-remaining-tokens", "x-penstock-session-remaining-calls"];
    let names =
        names.into_iter().chain(["x-penstock-session-remaining-tool-calls", "x-penstock-session-remaining-seconds"]);
    let values = counts.into_iter().chain([seconds]);
    let headers = names.zip(values).filter_map(|(name, value)| Some((name, value?.to_string().into_bytes())));
    headers.chain(last)
}

/// A duration in the form that OpenAI's `x-ratelimit-reset-*` headers have: `820ms`, `7.5s`.
fn seconds(nanos: u64) -> String {
    let ms = nanos.div_ceil(1_000_000);
    if ms < 1000 {
        return format!("{ms}ms");
    }
    let text = format!("{}.{:03}", ms / 1000, ms % 1000);
    format!("{}s", text.trim_end_matches('0').trim_end_matches('.'))
}
