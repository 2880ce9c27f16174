//! The scenario file: syntax, and the checks that syntax alone cannot make. The form is documented in the module above.

use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use penstock_document::{At, yaml};
use serde::Deserialize;
use serde::de::IntoDeserializer;
use serde_json::Value;

/// One scenario.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// Printed with the result.
    pub name: String,
    /// What would go wrong otherwise.
    #[serde(default)]
    pub why: String,
    /// How many workers the proxy has.
    #[serde(default = "one")]
    pub workers: usize,
    /// Whether headers may wait for the body.
    #[serde(default = "yes")]
    pub wait_for_body: bool,
    /// The plugins' configuration.
    #[serde(default)]
    pub config: Value,
    /// The configuration is refused, with these words.
    #[serde(default)]
    pub config_refused: Vec<String>,
    /// What happens, in order.
    #[serde(default)]
    pub steps: Vec<Step>,
}

/// One step.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// A request from beginning to end, perhaps repeated.
    Request(Box<Request>),
    /// Requests in flight together.
    Concurrent(Box<Concurrent>),
    /// Time passes.
    Advance(Span),
    /// Another configuration is in force from now on.
    Configure(Value),
    /// What clusters answer from now on to calls that the plugins make by HTTP.
    Servers(BTreeMap<String, Servers>),
    /// What the statistics must say.
    Metrics(BTreeMap<String, Bound>),
}

/// A request and what must come of it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "the module above documents every key")]
pub struct Request {
    pub method: Option<String>,
    #[serde(default = "chat_completions")]
    pub path: String,
    #[serde(default)]
    pub headers: BTreeMap<String, Bytes>,
    pub body: Option<Value>,
    pub text: Option<String>,
    pub hex: Option<Hex>,
    pub repeat: Option<Repeat>,
    #[serde(default = "one")]
    pub chunks: usize,
    #[serde(default)]
    pub body_after: Span,
    pub worker: Option<usize>,
    pub abort_after: Option<Abort>,
    #[serde(default = "one")]
    pub times: usize,
    #[serde(default)]
    pub upstream: Upstream,
    #[serde(default)]
    pub expect: Expect,
}

impl Request {
    /// The body's bytes; `None` for a request without one.
    pub fn bytes(&self) -> Option<Vec<u8>> {
        let json = self.body.as_ref().map(|body| body.to_string().into_bytes());
        let text = self.text.as_ref().map(|text| text.clone().into_bytes());
        let hex = self.hex.as_ref().map(|hex| hex.0.clone());
        json.or(text).or(hex).or_else(|| self.repeat.as_ref().map(Repeat::bytes))
    }
}

/// A long body.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Repeat {
    #[serde(default)]
    before: String,
    text: String,
    times: usize,
    #[serde(default)]
    after: String,
}

impl Repeat {
    fn bytes(&self) -> Vec<u8> {
        [self.before.as_str(), &self.text.repeat(self.times), &self.after].concat().into_bytes()
    }
}

/// What the servers of a cluster answer to calls that the plugins make by HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Value")]
pub enum Servers {
    /// This status.
    Status(u16),
    /// Nothing.
    Silent,
}

impl TryFrom<Value> for Servers {
    type Error = String;

    fn try_from(value: Value) -> Result<Self, String> {
        match (value.as_u64().and_then(|status| u16::try_from(status).ok()), value.as_str()) {
            (Some(status), _) => Ok(Servers::Status(status)),
            (_, Some("silent")) => Ok(Servers::Silent),
            _ => Err(format!("{value} is no answer to a call; write a status, or silent")),
        }
    }
}

/// When the client leaves.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Abort {
    /// After so much time without an answer.
    Waiting(Span),
    /// After so many bytes of its own body.
    Bytes(usize),
    /// After so many pieces of the answer.
    Events(usize),
}

/// The model server's answer.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "the module above documents every key")]
pub struct Upstream {
    pub status: Option<u16>,
    #[serde(default)]
    pub headers: BTreeMap<String, Bytes>,
    pub json: Option<Value>,
    pub text: Option<String>,
    pub sse: Option<Vec<Value>>,
    pub chunks: Option<usize>,
    #[serde(default)]
    pub delay: Span,
    #[serde(default)]
    pub every: Span,
    pub reset_after: Option<usize>,
    pub unreachable: Option<Unreachable>,
    pub follow: Option<Box<Upstream>>,
}

/// Why the proxy has no server for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unreachable {
    /// The cluster has no host.
    NoHost,
    /// There is no such cluster.
    NoCluster,
    /// Nothing listens where the host is.
    Refused,
}

impl Unreachable {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::NoHost, Self::NoCluster, Self::Refused];

    /// What Envoy 1.40 says of it in `response.code_details`.
    pub fn details(self) -> &'static str {
        match self {
            Self::NoHost => "no_healthy_upstream",
            Self::NoCluster => "cluster_not_found",
            Self::Refused => {
                "upstream_reset_before_response_started{remote_connection_failure|delayed_connect_error:_Connection_refused}"
            }
        }
    }

    /// A name for it.
    pub fn label(self) -> &'static str {
        match self {
            Self::NoHost => "no-host",
            Self::NoCluster => "no-cluster",
            Self::Refused => "refused",
        }
    }
}

/// What must come of a request.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "the module above documents every key")]
pub struct Expect {
    pub status: Option<u16>,
    #[serde(default)]
    pub headers: BTreeMap<String, Match>,
    pub body: Option<Value>,
    pub text: Option<String>,
    pub reset: Option<bool>,
    #[serde(default)]
    pub upstream: ExpectUpstream,
    #[serde(default)]
    pub same: Vec<String>,
    #[serde(default)]
    pub spread: BTreeMap<String, BTreeMap<String, Bound>>,
}

/// What must have reached the model server.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "the module above documents every key")]
pub struct ExpectUpstream {
    pub called: Option<bool>,
    #[serde(default)]
    pub headers: BTreeMap<String, Match>,
    pub body: Option<Value>,
    pub text: Option<String>,
    pub edits: Option<Vec<Edit>>,
}

/// A replacement in the body, at the first place where `from` occurs.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Edit {
    pub from: String,
    pub to: String,
}

/// Requests in flight together.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "the module above documents every key")]
pub struct Concurrent {
    pub requests: Vec<Request>,
    #[serde(default)]
    pub waiting: Vec<Step>,
    pub admitted: Bound,
    #[serde(default)]
    pub meanwhile: Vec<Step>,
    #[serde(default)]
    pub refused: Expect,
}

/// A header's value.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "Value")]
pub struct Bytes(pub Vec<u8>);

impl TryFrom<Value> for Bytes {
    type Error = String;

    fn try_from(value: Value) -> Result<Self, String> {
        match value {
            Value::String(text) => Ok(Bytes(text.into_bytes())),
            Value::Object(map) if map.len() == 1 && map.contains_key("hex") => {
                Hex::try_from(map["hex"].as_str().unwrap_or("?").to_owned()).map(|hex| Bytes(hex.0))
            }
            Value::Object(map) if map.len() == 2 && map.contains_key("times") => {
                let long = map["times"].as_u64().and_then(|times| usize::try_from(times).ok()).zip(map.get("text"));
                let long = long.and_then(|(times, text)| Some(Bytes(text.as_str()?.repeat(times).into_bytes())));
                long.ok_or_else(|| "a long header value is {text: a, times: 1000}".to_owned())
            }
            other => {
                Err(format!("{other} is not a header value; write a string, {{hex: ff00}} or {{text: a, times: 1000}}"))
            }
        }
    }
}

/// Bytes in hexadecimal.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "String")]
pub struct Hex(pub Vec<u8>);

impl TryFrom<String> for Hex {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not hexadecimal; write two digits per byte, quoted when all are decimal");
        let digits: Option<Vec<u8>> = text.chars().map(|c| c.to_digit(16).map(|digit| digit as u8)).collect();
        let digits = digits.filter(|digits| digits.len() % 2 == 0).ok_or_else(wrong)?;
        Ok(Hex(digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()))
    }
}

/// What a header must be.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "Value")]
#[allow(missing_docs, reason = "the names say it")]
pub enum Match {
    Is(String),
    Present,
    Absent,
    Prefix(String),
    Within(Bound),
}

impl TryFrom<Value> for Match {
    type Error = String;

    fn try_from(value: Value) -> Result<Self, String> {
        let form = "write \"text\", {present: true}, {absent: true}, {prefix: text} or {min: 1, max: 9}";
        let key = |key: &str| value.as_object().filter(|map| map.len() == 1).and_then(|map| map.get(key));
        if let Some(text) = value.as_str() {
            return Ok(Match::Is(text.to_owned()));
        }
        match (key("present"), key("absent"), key("prefix")) {
            (Some(Value::Bool(true)), _, _) => Ok(Match::Present),
            (_, Some(Value::Bool(true)), _) => Ok(Match::Absent),
            (_, _, Some(Value::String(prefix))) => Ok(Match::Prefix(prefix.clone())),
            _ if value.is_object() => Bound::try_from(value.clone())
                .map(Match::Within)
                .map_err(|_| format!("{value} says nothing of a header; {form}")),
            _ => Err(format!("{value} says nothing of a header; {form}")),
        }
    }
}

/// A number that is known, or known within bounds.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "Value")]
#[allow(missing_docs, reason = "the names say it")]
pub struct Bound {
    pub min: u64,
    pub max: u64,
}

impl Bound {
    /// Whether the number fits.
    pub fn holds(self, number: u64) -> bool {
        (self.min..=self.max).contains(&number)
    }
}

impl std::fmt::Display for Bound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.min, self.max) {
            (min, max) if min == max => write!(f, "{min}"),
            (min, u64::MAX) => write!(f, "at least {min}"),
            (min, max) => write!(f, "{min} to {max}"),
        }
    }
}

impl TryFrom<Value> for Bound {
    type Error = String;

    fn try_from(value: Value) -> Result<Self, String> {
        let wrong = || format!("{value} is not a count; write 3, or {{min: 1, max: 5}}");
        if let Some(exact) = value.as_u64() {
            return Ok(Bound { min: exact, max: exact });
        }
        let map = value.as_object().filter(|map| !map.is_empty()).ok_or_else(wrong)?;
        let mut bound = Bound { min: 0, max: u64::MAX };
        for (key, limit) in map {
            let limit = limit.as_u64().ok_or_else(wrong)?;
            match key.as_str() {
                "min" => bound.min = limit,
                "max" => bound.max = limit,
                _ => return Err(wrong()),
            }
        }
        Ok(bound)
    }
}

/// A duration such as `500ms`, `2s` or `1m`.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(try_from = "String")]
pub struct Span(pub Duration);

impl TryFrom<String> for Span {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
        let factor = match unit {
            "ms" => Some(1),
            "s" => Some(1_000),
            "m" => Some(60_000),
            "h" => Some(3_600_000),
            _ => None,
        };
        let millis = number.parse::<u64>().ok().zip(factor).map(|(number, factor)| number * factor);
        Ok(Span(Duration::from_millis(
            millis.ok_or_else(|| format!("{text:?} is not a duration; write 500ms, 2s, 1m"))?,
        )))
    }
}

impl Scenario {
    /// All steps, those among them that happen meanwhile too.
    pub fn all_steps(&self) -> impl Iterator<Item = &Step> {
        self.steps.iter().flat_map(Step::all)
    }

    /// The requests of all steps.
    pub fn requests(&self) -> impl Iterator<Item = &Request> {
        self.all_steps().flat_map(|step| match step {
            Step::Request(request) => std::slice::from_ref(request.as_ref()),
            Step::Concurrent(concurrent) => &concurrent.requests,
            Step::Advance(_) | Step::Configure(_) | Step::Servers(_) | Step::Metrics(_) => &[],
        })
    }
}

impl Step {
    fn all(&self) -> Vec<&Step> {
        let inner = match self {
            Step::Concurrent(concurrent) => [concurrent.waiting.as_slice(), &concurrent.meanwhile],
            _ => [[].as_slice(); 2],
        };
        [self].into_iter().chain(inner.into_iter().flatten().flat_map(Step::all)).collect()
    }
}

/// Reads the scenarios of a file. The error names the file, the key's path and what is wrong there.
pub fn load(file: &Path) -> Result<Vec<Scenario>, String> {
    let text = std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    parse(&text).map_err(|error| format!("{}: {error}", file.display()))
}

/// Reads the scenarios of a YAML text: a list.
pub fn parse(text: &str) -> Result<Vec<Scenario>, String> {
    // The way over YAML's own value finds repeated keys; the JSON value knows enums as `{request: …}`.
    let yaml: serde_yaml_ng::Value = serde_yaml_ng::from_str(text).map_err(|error| error.to_string())?;
    let json = serde_json::to_value(yaml).map_err(|error| error.to_string())?;
    let scenarios: Vec<Scenario> = serde_path_to_error::deserialize(json.into_deserializer())
        .map_err(|error| format!("line {}: {error}", line(text, &error.path().to_string())))?;
    for (index, scenario) in scenarios.iter().enumerate() {
        let line = || line(text, &format!("[{index}]"));
        verify(scenario).map_err(|error| format!("line {}: {}: {error}", line(), scenario.name))?;
    }
    Ok(scenarios)
}

/// The line of a path, or of the last place on the way that is there.
fn line(text: &str, path: &str) -> usize {
    let read = yaml::read(text, &|line| line);
    read.documents.into_iter().next().map_or(1, |node| At::root(Rc::from(""), node).find(path).line)
}

fn verify(scenario: &Scenario) -> Result<(), String> {
    if scenario.steps.is_empty() == scenario.config_refused.is_empty() {
        return Err("a scenario has either steps or config_refused".to_owned());
    }
    for request in scenario.requests() {
        let forms = [request.body.is_some(), request.text.is_some(), request.hex.is_some(), request.repeat.is_some()];
        if forms.iter().filter(|given| **given).count() > 1 {
            return Err("a request has one of body, text, hex, repeat".to_owned());
        }
        for upstream in passes(&request.upstream) {
            let forms = [upstream.json.is_some(), upstream.text.is_some(), upstream.sse.is_some()];
            if forms.iter().filter(|given| **given).count() > 1 {
                return Err("an upstream has one of json, text, sse".to_owned());
            }
            if upstream.follow.is_some() && !upstream.headers.contains_key("location") {
                return Err("an upstream with follow has a location among its headers".to_owned());
            }
        }
        if request.worker.is_some_and(|worker| worker >= scenario.workers) {
            return Err(format!("worker {} is not among {} workers", request.worker.unwrap_or(0), scenario.workers));
        }
    }
    Ok(())
}

/// The answer, and those after redirects that the proxy follows.
fn passes(upstream: &Upstream) -> impl Iterator<Item = &Upstream> {
    std::iter::successors(Some(upstream), |upstream| upstream.follow.as_deref())
}

fn one() -> usize {
    1
}

fn yes() -> bool {
    true
}

fn chat_completions() -> String {
    "/v1/chat/completions".to_owned()
}
