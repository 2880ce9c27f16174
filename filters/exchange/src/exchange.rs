//! The life of one request.

mod response;

use std::rc::Rc;

use penstock_bucket::Refusal;
use penstock_bucket::credit::{Allowance, Exhausted};
use penstock_dialects::ask::StreamOptions;
use penstock_dialects::refusal::{self, Kind};
use penstock_dialects::{Answer, Ask, Asked, Dialect, Hide, Ignore, Splice, Unreadable, json::Fault};
use penstock_pending::Series;
use penstock_tokens::framing;
use penstock_tokens::ratio::{Features, Ratio};

use crate::config::{Config, Model, Policy};
use crate::counting::{Completion, Prompt};
use crate::expectation::Expectation;
use crate::facts::{FILTER_STATE, Facts, Outcome};
use crate::identity::{ANONYMOUS, Caller, header};
use crate::limits::{self, Charge, Refused, Standing};
use crate::mesh::{self, Next, Question};
use crate::metrics::{Metric, OTHER};
use crate::port::{Effect, Event, Headers, Level, World};
use crate::saturation;
use crate::tools;
use crate::waiting::Verdict;
use crate::worker::UNSPLIT;

/// When to come back to a model that is full.
const SHED_RETRY_SECONDS: &str = "2";

/// Follows one request. Feed it every [`Event`] in order; the effects are in [`World::out`] afterwards.
pub struct Exchange {
    id: u32,
    config: Rc<Config>,
    state: State,
    dialect: Dialect,
    facts: Facts,
    caller: Caller,
    /// An earlier plugin in the row has read this request already.
    told: bool,
    /// When the headers went on without waiting for the body: they can be edited no more, and this is 0 where they were
    /// never held.
    headers_gone: Option<u64>,
    /// The body can no longer be edited.
    is_fixed: bool,
    /// What the request says the length of its body is.
    content_length: Option<usize>,
    /// Some of the body has come.
    body_seen: bool,
    /// What the estimate was made of, where the prompt was read here and its model is estimated.
    features: Option<Features>,
    /// Whether what the server reports of it teaches the estimate.
    teaches: bool,
    /// How many answers were asked for.
    choices: u64,
    /// The answer is to be JSON.
    json_output: bool,
    /// Edits of the body, collected over the stages.
    splices: Vec<Splice>,
    /// The model that is served instead of the one that was asked for.
    fallback: Option<String>,
    /// The ceiling that was written into the request.
    ceiling: Option<u64>,
    /// The usage chunk was asked for here, and is to be hidden from the client.
    hide: Option<Box<Hide>>,
    charges: Vec<Charge>,
    standing: Option<Standing>,
    credit: Option<Allowance>,
    response: Response,
    started: u64,
}

enum State {
    /// Nothing has happened.
    New,
    /// Not ours: passes untouched.
    Foreign,
    /// Held back until its body has been read.
    Reading(Box<(Ask, Prompt)>),
    /// Held back until a service has answered.
    Asking(Box<Asking>),
    /// Let go, or refused.
    Decided,
    /// Over.
    Closed,
}

/// A request whose limits wait for a service.
struct Asking {
    asked: Option<Asked>,
    question: Question,
    /// How often a service was asked for this request.
    times: u8,
}

/// How often a service is asked for one request: others may keep taking what was leased for it.
const QUESTIONS_MAX: u8 = 8;

/// What became of charging the limits.
enum Charged {
    /// All of them, or there are none.
    All,
    /// The request was refused.
    Refused,
    /// A service is to be asked first; nothing is charged.
    Asks(Question),
}

/// What is known of the response.
#[derive(Default)]
struct Response {
    status: Option<u16>,
    complete: bool,
    /// It is compressed, although it was asked not to be.
    unreadable: bool,
    reader: Option<Box<(Answer, Completion)>>,
    first_token: Option<u64>,
    last_token: u64,
}

/// The label of a model: the wildcard has none of its own.
pub(crate) fn model_label(name: &str) -> String {
    if name == "*" { OTHER } else { name }.to_owned()
}

impl Exchange {
    /// A new one. `id` is unique among those of the same worker that are alive.
    pub fn new(id: u32, config: Rc<Config>) -> Self {
        Self {
            id,
            config,
            state: State::New,
            dialect: Dialect::OpenAiChat,
            facts: Facts::default(),
            caller: Caller::default(),
            told: false,
            headers_gone: None,
            is_fixed: false,
            content_length: None,
            body_seen: false,
            features: None,
            teaches: false,
            choices: 1,
            json_output: false,
            splices: Vec::new(),
            fallback: None,
            ceiling: None,
            hide: None,
            charges: Vec::new(),
            standing: None,
            credit: None,
            response: Response::default(),
            started: 0,
        }
    }

    /// Whether the request is being held back.
    pub fn is_holding(&self) -> bool {
        matches!(self.state, State::Reading(_) | State::Asking(_))
    }

    /// Whether it is being held back for its body.
    pub fn is_reading(&self) -> bool {
        matches!(self.state, State::Reading(_))
    }

    /// Whether request and response pass untouched.
    pub fn is_foreign(&self) -> bool {
        matches!(self.state, State::New | State::Foreign | State::Closed)
    }

    /// Something happened.
    pub fn on(&mut self, event: Event<'_>, world: &mut World<'_>) {
        match event {
            Event::RequestHead { headers, end } => self.request_head(headers, end, world),
            Event::Released => self.headers_gone = Some(world.now),
            Event::RequestChunk { bytes, end } => self.request_chunk(bytes, end, world),
            Event::RequestTrailers => {
                // A proxy that did not let the headers wait hands over the trailers while it is forwarding the body.
                self.is_fixed = self.headers_gone.is_some();
                self.request_chunk(&[], true, world);
            }
            Event::ResponseHead { headers, end } => self.response_head(headers, end, world),
            Event::ResponseChunk { bytes, end } => self.response_chunk(bytes, end, world),
            Event::CallDone { message } => self.call_done(message, world),
            Event::Closed => self.closed(world),
        }
    }

    fn request_head(&mut self, headers: &Headers, end: bool, world: &mut World<'_>) {
        self.started = world.now;
        let prior = world.properties.get(&FILTER_STATE).as_deref().and_then(Facts::decode);
        // One that decides at the body has only left its mark by now.
        self.told = prior.as_ref().is_some_and(|facts| !facts.model.is_empty());
        if prior.is_none() {
            for (name, _) in headers.iter().filter(|(name, _)| name.starts_with("x-penstock-")) {
                world.out.push(Effect::DropRequestHeader(name.clone()));
            }
        }
        let path = header(headers, ":path").unwrap_or_default();
        let method = header(headers, ":method").unwrap_or_default();
        let Some(dialect) = Dialect::of(method, path, &self.config.path_prefixes) else {
            self.state = State::Foreign;
            return;
        };
        self.dialect = dialect;
        self.facts = prior.unwrap_or_default();
        let tenant = self.told.then(|| self.facts.tenant.clone());
        let secret = world.worker.secret;
        self.caller = Caller::identify(&self.config, &secret, headers, world.properties, tenant);
        if !self.told {
            self.facts.tenant.clone_from(&self.caller.tenant);
            self.facts.class = self.config.tenant(&self.caller.tenant).and_then(|tenant| tenant.class.clone());
            self.facts.prompt_version = header(headers, "x-prompt-version").and_then(short_token);
            if self.config.tenant(&self.caller.tenant).is_some_and(|tenant| tenant.suspended) {
                let message = "this tenant is suspended";
                return self.refuse(Outcome::Denied, Kind::Permission, message, None, Vec::new(), world);
            }
            if self.config.deny_anonymous && self.facts.tenant == ANONYMOUS {
                let message = "no identity was found in the request; send the credentials that this gateway asks for";
                return self.refuse(Outcome::Denied, Kind::Authentication, message, None, Vec::new(), world);
            }
        }
        let splices = world.worker.stages.route && self.version_model_differs();
        if self.told && !splices {
            return self.decide(None, world);
        }
        if header(headers, "content-encoding").is_some_and(|coding| coding != b"identity") {
            return self.unreadable(Unreadable { at: 0, what: Fault::Encoded }, world);
        }
        if end {
            return self.unreadable(Unreadable { at: 0, what: Fault::Empty }, world);
        }
        let length =
            header(headers, "content-length").and_then(|length| core::str::from_utf8(length).ok()?.parse().ok());
        self.content_length = length;
        let prompt = Prompt::new(&self.config, secret);
        self.state = State::Reading(Box::new((Ask::new(dialect), prompt)));
        self.hold(world);
    }

    /// Holds the headers until the body has been read, where the proxy allows it. Elsewhere they go on now, with what is
    /// known now.
    fn hold(&mut self, world: &mut World<'_>) {
        // An answer that is compressed cannot be read here.
        world.out.push(Effect::DropRequestHeader("accept-encoding".to_owned()));
        if !self.told {
            world.out.push(Effect::RequestHeader("x-penstock-tenant", self.facts.tenant.clone().into_bytes()));
        }
        if world.worker.waiting.verdict() != Verdict::No {
            return world.out.push(Effect::Pause);
        }
        self.headers_gone = Some(0);
        // The body may be edited later, when its length can no longer be told.
        world.out.push(Effect::DropRequestHeader("content-length".to_owned()));
        if world.worker.stages.route {
            let config = self.config.clone();
            if let [model] = config.models.as_slice() {
                self.draw(model, world);
            }
        }
        // The next plugin in the row is to know our headers from the client's.
        world.out.push(Effect::Publish(self.facts.encode()));
    }

    /// The body begins to come: tells whether headers may wait, and whether an earlier plugin has read it by now.
    fn first_chunk(&mut self, end: bool, world: &mut World<'_>) {
        let World { worker, store, out, .. } = world;
        match self.headers_gone {
            None => worker.waiting.body_while_held(*store),
            Some(0) => {}
            Some(at) => worker.waiting.body_after_release(world.now.saturating_sub(at), end, *store, out),
        }
        if !self.told
            && self.headers_gone.is_some()
            && let Some(facts) = world.properties.get(&FILTER_STATE).as_deref().and_then(Facts::decode)
            && !facts.model.is_empty()
        {
            let version = self.facts.version.take();
            self.facts = facts;
            self.facts.version = self.facts.version.take().or(version);
            self.told = true;
        }
    }

    /// Whether some version of the model that an earlier plugin named rewrites the request.
    fn version_model_differs(&self) -> bool {
        let model = self.config.model(&self.facts.model);
        model.is_some_and(|model| model.versions.iter().any(|version| version.model.is_some()))
    }

    fn request_chunk(&mut self, bytes: &[u8], end: bool, world: &mut World<'_>) {
        if !core::mem::replace(&mut self.body_seen, true) && self.is_holding() {
            self.first_chunk(end, world);
        }
        let State::Reading(reading) = &mut self.state else { return };
        let (ask, prompt) = reading.as_mut();
        let read = if self.told { ask.push(bytes, &mut Ignore) } else { ask.push(bytes, prompt) };
        if let Err(error) = read {
            return self.unreadable(error, world);
        }
        if !end {
            return;
        }
        let State::Reading(reading) = core::mem::replace(&mut self.state, State::Decided) else { return };
        let (ask, mut prompt) = *reading;
        match ask.finish(&mut prompt) {
            Err(error) => self.unreadable(error, world),
            Ok(asked) if self.told => self.decide(Some(&asked), world),
            Ok(asked) => self.count(&asked, &prompt, world),
        }
    }

    fn unreadable(&mut self, error: Unreadable, world: &mut World<'_>) {
        match self.config.unreadable {
            Some(Policy::Pass) => self.pass(world),
            _ => {
                let message = format!("penstock: {error}");
                self.refuse(Outcome::ClientError, Kind::InvalidRequest, &message, None, Vec::new(), world);
            }
        }
    }

    fn pass(&mut self, world: &mut World<'_>) {
        self.state = State::Foreign;
        world.out.push(Effect::Resume);
    }

    /// The first stage: what the request asks and what it costs.
    fn count(&mut self, asked: &Asked, prompt: &Prompt, world: &mut World<'_>) {
        let Some(name) = &asked.model else {
            let message = "model is missing; name the model in the request";
            return match self.config.unreadable {
                Some(Policy::Pass) => self.pass(world),
                _ => self.refuse(Outcome::ClientError, Kind::InvalidRequest, message, Some("model"), Vec::new(), world),
            };
        };
        let config = self.config.clone();
        let Some(model) = config.model(name) else {
            return match config.unknown_model {
                Some(Policy::Refuse) => {
                    let message = format!("the model {name:?} is not served here");
                    self.refuse(Outcome::ClientError, Kind::InvalidRequest, &message, Some("model"), Vec::new(), world);
                }
                _ => self.pass(world),
            };
        };
        self.choices = asked.choices;
        self.json_output = asked.json_output;
        self.facts.prompt_hash = format!("{:016x}", prompt.hash());
        self.facts.stream = asked.stream;
        // The configuration has no circle of fallbacks.
        let mut model = model;
        loop {
            if model.suspended {
                self.facts.model.clone_from(&model.name);
                let message = "this model is suspended";
                return self.refuse(Outcome::Shed, Kind::Overloaded, message, Some("model"), Vec::new(), world);
            }
            self.assess(model, asked, prompt, world);
            if saturation::admits(model, &self.facts, world) {
                return self.decide(Some(asked), world);
            }
            let Some(next) = model.fallback.as_ref().and_then(|name| config.model(name)) else { break };
            model = next;
            self.fallback = Some(model.name.clone());
        }
        self.shed(model, world);
    }

    fn shed(&mut self, model: &Model, world: &mut World<'_>) {
        let message = format!("{:?} is saturated; try again later", model.name);
        let retry = vec![("retry-after", SHED_RETRY_SECONDS.to_owned())];
        self.refuse(Outcome::Shed, Kind::Overloaded, &message, None, retry, world);
    }

    /// What a request to this model costs.
    fn assess(&mut self, model: &Model, asked: &Asked, prompt: &Prompt, world: &mut World<'_>) {
        // The estimate for another tokenizer is learnt from texts.
        self.features = model.approximate.then(|| prompt.features(model.encoding, asked.messages));
        let extras = extras(self.dialect, asked, model, world);
        let (framing, framing_is_known) = match self.dialect {
            Dialect::OpenAiChat => (framing::chat(asked.messages, asked.names), true),
            Dialect::OpenAiCompletions | Dialect::OpenAiEmbeddings => (0, true),
            Dialect::OpenAiResponses | Dialect::AnthropicMessages => (framing::chat(asked.messages, 0), false),
        };
        let facts = &mut self.facts;
        facts.model.clone_from(&model.name);
        facts.prompt_tokens = match &self.features {
            Some(features) => ratio(&model.name, world)
                .estimate(features)
                .saturating_add(extras.unwrap_or(0))
                .saturating_add(asked.token_ids),
            None => prompt
                .tokens(model.encoding)
                .saturating_add(asked.token_ids)
                .saturating_add(framing)
                .saturating_add(extras.unwrap_or(0)),
        };
        facts.estimated =
            model.approximate || !framing_is_known || asked.unseen || extras.is_some() || prompt.estimated;
        let ceiling = asked.max_output.into_iter().chain(model.output_max).min();
        // The fit is of texts and messages, and learns nothing from requests with anything else in them.
        self.teaches = extras.is_none() && asked.token_ids == 0 && !asked.unseen;
        self.facts.max_output = asked.max_output.and(ceiling).map(|each| each.saturating_mul(asked.choices));
        let learnt = world.store.get(&expectation_key(&self.facts)).as_deref().map(Expectation::decode);
        let likely = learnt.and_then(|learnt| learnt.most()).unwrap_or(model.output_expect);
        let likely = likely.max(asked.min_output);
        let likely = ceiling.map_or(likely, |ceiling| likely.min(ceiling));
        self.facts.expected_output = likely.saturating_mul(asked.choices);
        if self.dialect == Dialect::OpenAiEmbeddings {
            (self.facts.max_output, self.facts.expected_output) = (Some(0), 0);
        }
    }

    /// The stages after counting, in order. `asked` is there where the body may be edited.
    fn decide(&mut self, asked: Option<&Asked>, world: &mut World<'_>) {
        self.state = State::Decided;
        let config = self.config.clone();
        let Some(model) = config.model(&self.facts.model) else {
            return self.pass(world);
        };
        if world.worker.stages.limit {
            match self.charge(world) {
                Charged::All => {}
                Charged::Refused => return,
                Charged::Asks(question) => {
                    return self.ask(Asking { asked: asked.cloned(), question, times: 1 }, world);
                }
            }
        }
        if let (true, false, Some(asked)) = (world.worker.stages.count, self.told, asked) {
            self.edit(model, asked);
        }
        let mut rename = self.fallback.clone();
        if !self.told && self.headers_gone.is_none() {
            world.out.push(Effect::RequestHeader("x-penstock-model", self.facts.model.clone().into_bytes()));
        }
        if world.worker.stages.route {
            rename = self.route(model, world).or(rename);
        }
        if let (Some(with), Some(asked)) = (rename, asked)
            && asked.model.as_ref() != Some(&with)
        {
            self.splices.extend(asked.with_model(&with));
        }
        if world.worker.stages.pending {
            let series = Series { model: model_label(&model.name), version: self.version_label() };
            let Facts { tenant, prompt_tokens, expected_output, .. } = &self.facts;
            world.worker.ledger.admit(self.id, series, tenant, *prompt_tokens, *expected_output);
            if model.ceiling.is_some() {
                world.worker.tell_load(world.now, world.store);
            }
        }
        if self.is_fixed {
            self.splices.clear();
            (self.ceiling, self.hide) = (None, None);
        }
        if !self.splices.is_empty() {
            if let (None, Some(length)) = (self.headers_gone, self.content_length) {
                let length = self.splices.iter().fold(length, |length, splice| {
                    length.saturating_add(splice.with.len()).saturating_sub(splice.at.len())
                });
                world.out.push(Effect::RequestHeader("content-length", length.to_string().into_bytes()));
            }
            world.out.push(Effect::Splice(core::mem::take(&mut self.splices)));
        }
        world.out.push(Effect::Publish(self.facts.encode()));
        world.out.push(Effect::Resume);
    }

    /// What counting writes into the request: the model's output ceiling, and that usage is reported.
    fn edit(&mut self, model: &Model, asked: &Asked) {
        if let Some(max) = model.output_max {
            let key = match self.dialect {
                Dialect::OpenAiChat => Some(model.output_key),
                // Servers have a ceiling of their own there, which mostly is 16.
                Dialect::OpenAiCompletions => None,
                _ => asked.ceiling_key,
            };
            let room = model.context.map(|context| context.saturating_sub(self.facts.prompt_tokens).max(1));
            let absent = max.min(room.unwrap_or(max));
            let splices = asked.with_ceiling(max, key.map(|key| (key, absent)));
            let set = if asked.max_output.is_some() { max } else { absent };
            self.ceiling = (!splices.is_empty()).then_some(set);
            self.splices.extend(splices);
        }
        if asked.stream && asked.usage_on_request && !asked.include_usage {
            self.splices.extend(asked.with_usage());
            let has_options = asked
                .stream_options
                .iter()
                .any(|options| matches!(options, StreamOptions::Object { empty: false, .. }));
            self.hide = Some(Box::new(if has_options { Hide::all() } else { Hide::default() }));
        }
    }

    /// Asks the service of the limits that all proxies share.
    fn ask(&mut self, asking: Asking, world: &mut World<'_>) {
        let Some(mesh) = &self.config.mesh else { return };
        world.out.push(Effect::Call {
            cluster: mesh.service.clone(),
            service: mesh::SERVICE,
            method: mesh::METHOD,
            message: mesh::encode(&asking.question, &self.config),
            timeout_ms: mesh.timeout_ms,
        });
        self.state = State::Asking(Box::new(asking));
    }

    /// The service has answered, or not: tries again with what is known now.
    fn call_done(&mut self, message: Option<&[u8]>, world: &mut World<'_>) {
        let State::Asking(asking) = core::mem::replace(&mut self.state, State::Decided) else { return };
        let Asking { asked, question, times } = *asking;
        let limit = question.limit.clone();
        match mesh::answered(question, message, world.now, world.store) {
            Some(_) if times >= QUESTIONS_MAX => {
                let retry = vec![("retry-after", "1".to_owned()), ("x-penstock-limit", limit)];
                let message = "the limits' state is contended; try again";
                return self.refuse(Outcome::Shed, Kind::Overloaded, message, None, retry, world);
            }
            Some(Next::Ask(question)) => {
                let times = times.saturating_add(1);
                return self.ask(Asking { asked, question, times }, world);
            }
            Some(Next::Retry) => {
                let config = self.config.clone();
                // Others may have come in meanwhile.
                if let (false, Some(model)) = (self.told, config.model(&self.facts.model))
                    && !saturation::admits(model, &self.facts, world)
                {
                    return self.shed(model, world);
                }
            }
            None => {
                let text = format!("the service of limit {limit:?} does not answer; mesh.onError holds for a second");
                world.out.push(Effect::Log(Level::Warn, text));
            }
        }
        self.decide(asked.as_ref(), world);
        if let State::Asking(asking) = &mut self.state {
            asking.times = times.saturating_add(1);
        }
    }

    /// The limit stage.
    fn charge(&mut self, world: &mut World<'_>) -> Charged {
        let secret = world.worker.secret;
        let mut till = world.worker.till(world.now, world.store);
        let admitted = limits::admit(&self.config, &secret, &self.caller, &self.facts, &mut till);
        match admitted {
            Ok(admitted) => {
                self.charges = admitted.charges;
                self.standing = admitted.standing;
                self.credit = admitted.credit;
                if admitted.retries > 0 {
                    world.out.push(Effect::Count(Metric::SharedContention, Vec::new(), admitted.retries));
                }
                Charged::All
            }
            Err(Refused::Asks(question)) => Charged::Asks(question),
            Err(Refused::Contended) if self.config.contended == Some(Policy::Pass) => {
                world.out.push(Effect::Log(Level::Warn, "limits were not charged: shared state is contended".into()));
                Charged::All
            }
            Err(Refused::Contended) => {
                let retry = vec![("retry-after", "1".to_owned())];
                let message = "the limits' state is contended; try again";
                self.refuse(Outcome::Shed, Kind::Overloaded, message, None, retry, world);
                Charged::Refused
            }
            Err(Refused::Unavailable { limit }) => {
                let message = format!("limit {limit:?} cannot be checked at the moment; try again");
                self.facts.limit = Some(limit.clone());
                let retry = vec![("retry-after", "1".to_owned()), ("x-penstock-limit", limit)];
                self.refuse(Outcome::Shed, Kind::Overloaded, &message, None, retry, world);
                Charged::Refused
            }
            Err(Refused::Concurrent { limit, max }) => {
                let message = format!(
                    "limit {limit:?} of {max} requests at the same time is reached; try again when one has ended"
                );
                self.facts.limit = Some(limit.clone());
                let headers = vec![
                    ("x-penstock-limit", limit),
                    ("retry-after", "1".to_owned()),
                    ("retry-after-ms", "1000".to_owned()),
                ];
                self.refuse(Outcome::Limited, Kind::RateLimit, &message, None, headers, world);
                Charged::Refused
            }
            Err(Refused::Session { limit, exhausted }) => {
                let what = match exhausted {
                    Exhausted::Tokens(left) => format!("{left} tokens are left, and the request needs more"),
                    Exhausted::Calls => "all its calls are made".to_owned(),
                    Exhausted::ToolCalls => "all its tool calls are made".to_owned(),
                    Exhausted::WallClock => "its time is over".to_owned(),
                };
                let message = format!("the credit of this session under limit {limit:?} is used up: {what}");
                self.facts.limit = Some(limit.clone());
                // No time brings it back; the SDKs would try again.
                let headers = vec![("x-penstock-limit", limit), ("x-should-retry", "false".to_owned())];
                self.refuse(Outcome::Limited, Kind::RateLimit, &message, None, headers, world);
                Charged::Refused
            }
            Err(Refused::Limit { standing, cost, refusal }) => {
                self.limited(standing, cost, refusal, world);
                Charged::Refused
            }
        }
    }

    fn limited(&mut self, standing: Standing, cost: u64, refusal: Refusal, world: &mut World<'_>) {
        let Standing { limit, burst, remaining, .. } = &standing;
        let (kind, message, wait) = match refusal {
            Refusal::Never { burst } => (
                Kind::TooLarge,
                format!(
                    "the request needs {cost} tokens and limit {limit:?} never holds more than {burst}; send less or lower max_tokens"
                ),
                None,
            ),
            Refusal::NotYet { wait } => {
                let ms = wait.div_ceil(1_000_000);
                (
                    Kind::RateLimit,
                    format!(
                        "limit {limit:?} of {burst} tokens is reached: {remaining} left, {cost} needed; try again in {ms} ms"
                    ),
                    Some(ms),
                )
            }
        };
        let mut headers = vec![("x-penstock-limit", limit.clone())];
        if let Some(ms) = wait {
            headers.push(("retry-after", ms.div_ceil(1000).to_string()));
            headers.push(("retry-after-ms", ms.to_string()));
        }
        self.facts.limit = Some(limit.clone());
        self.standing = Some(standing);
        self.refuse(Outcome::Limited, kind, &message, None, headers, world);
    }

    /// The route stage: draws the version. What the version's server calls the model.
    fn route(&mut self, model: &Model, world: &mut World<'_>) -> Option<String> {
        if self.headers_gone.is_none() {
            self.draw(model, world);
        }
        let version = model.versions.iter().find(|version| self.facts.version.as_ref() == Some(&version.name));
        version.and_then(|version| version.model.clone())
    }

    fn draw(&mut self, model: &Model, world: &mut World<'_>) {
        let Some(split) = &model.split else { return };
        let key = model.sticky.iter().find_map(|source| self.caller.value(source, &model.name));
        let point = key.map_or((world.entropy >> 32) as u32, |key| penstock_canary::point(&model.name, key));
        let Some(version) = model.versions.get(split.draw(point)) else { return };
        self.facts.version = Some(version.name.clone());
        world.out.push(Effect::RequestHeader("x-penstock-version", version.name.clone().into_bytes()));
    }

    fn version_label(&self) -> String {
        self.facts.version.clone().unwrap_or_else(|| UNSPLIT.to_owned())
    }

    fn refuse(
        &mut self,
        outcome: Outcome,
        kind: Kind,
        message: &str,
        param: Option<&str>,
        mut headers: Vec<(&'static str, String)>,
        world: &mut World<'_>,
    ) {
        self.state = State::Decided;
        self.facts.refused = Some(outcome);
        headers.push(("content-type", "application/json".to_owned()));
        world.out.push(Effect::Publish(self.facts.encode()));
        let body = refusal::body(self.dialect, kind, message, param);
        world.out.push(Effect::Reply { status: kind.status(), headers, body });
    }
}

/// What tools and images cost, where there are any.
fn extras(dialect: Dialect, asked: &Asked, model: &Model, world: &World<'_>) -> Option<u64> {
    let tools = asked.tools.clone().and_then(|at| world.properties.body(at));
    let tools = tools.map(|definition| tools::tokens(&definition, model.encoding));
    let images = asked.images.iter().map(|image| match dialect {
        Dialect::AnthropicMessages => framing::image_by_area(image.size),
        _ => framing::image(image.low, image.size),
    });
    let images = images.reduce(u64::saturating_add);
    tools.map(|tools| tools.saturating_add(images.unwrap_or(0))).or(images)
}

/// Where the workers share how much a model generates for a class of tenants.
fn expectation_key(facts: &Facts) -> String {
    format!("penstock/output/{}/{}", facts.model, facts.class.as_deref().unwrap_or_default())
}

/// Where the workers share what they learnt of a model's tokenizer.
fn ratio_key(model: &str) -> String {
    format!("penstock/ratio/{model}")
}

fn ratio(model: &str, world: &mut World<'_>) -> Ratio {
    world.store.get(&ratio_key(model)).as_deref().map(Ratio::decode).unwrap_or_default()
}

/// A header value that may stand in a log: short, and made of token characters.
fn short_token(value: &[u8]) -> Option<String> {
    let fits = |b: &u8| b.is_ascii_alphanumeric() || b"._-/:@+".contains(b);
    let text = core::str::from_utf8(value).ok()?;
    ((1..=64).contains(&value.len()) && value.iter().all(fits)).then(|| text.to_owned())
}
