//! What becomes of requests under a configuration.

use std::collections::BTreeMap;

use penstock_exchange::config::Spend;
use penstock_exchange::{Facts, Headers};
use penstock_units::Tokens;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::count::{self, Counted};
use crate::proxy::{Proxy, Way};
use crate::settings::{self, Mistake};

/// More requests than anybody looks at.
const TIMES_MAX: u64 = 2_000;
/// What a request says in the place of its number.
const NUMBER: &str = "{n}";

/// A request under a configuration.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Play {
    /// The configuration, as YAML or JSON.
    pub config: String,
    /// The request.
    pub request: Sent,
    /// How often it is sent, and every how many milliseconds.
    pub times: u64,
    /// The milliseconds between two of them.
    pub every: u64,
    /// How many tokens each answer has.
    pub answer: u64,
}

/// A request. `{n}` in a header or in the body is its number, from 1.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Sent {
    /// Its path.
    pub path: String,
    /// Its headers, a line for each.
    pub headers: String,
    /// Its body.
    pub body: String,
}

/// What became of it.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Played {
    /// What is wrong with the configuration. Nothing else is there then.
    pub mistakes: Vec<Mistake>,
    /// What the first request costs, where it was counted.
    pub counted: Option<Counted>,
    /// What one request and its answer cost, in billionths of a dollar.
    pub nanodollars: Option<u64>,
    /// What became of each.
    pub sent: Vec<Outcome>,
    /// What is to be known besides.
    pub notes: Vec<String>,
}

/// What became of one request.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Outcome {
    /// When it came, in milliseconds.
    pub at: u64,
    /// Its status: 200 where it went on.
    pub status: u32,
    /// The model and the version that it went to.
    pub version: Option<String>,
    /// Who asked, as the access log has it.
    pub tenant: String,
    /// The limit that refused it.
    pub limit: Option<String>,
    /// What the client was told.
    pub message: Option<String>,
    /// The headers that were added to the answer.
    pub headers: BTreeMap<String, String>,
}

/// Many callers, each with one request.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Split {
    /// The configuration, as YAML or JSON.
    pub config: String,
    /// The request, with `{n}` where callers differ.
    pub request: Sent,
    /// How many callers there are.
    pub callers: u64,
    /// Other weights than the configuration's, by version.
    pub weights: BTreeMap<String, u32>,
}

/// How many callers each version gets.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Shares {
    /// By version: how many callers.
    pub versions: BTreeMap<String, u64>,
    /// How many were refused, and what the first of them was told.
    pub refused: u64,
    /// What the first of them was told.
    pub message: Option<String>,
    /// The version of the first caller.
    pub first: Option<String>,
}

/// Sends a request as often as is asked.
pub fn play(play: &Play) -> Played {
    let config = settings::read(&play.config).and_then(|at| settings::checked(&at, |_| {}));
    let config = match config {
        Ok(config) => config,
        Err(mistakes) => return Played { mistakes, ..Played::default() },
    };
    let mut played = Played { notes: config.notices.clone(), ..Played::default() };
    let mut proxy = Proxy::new(config, 0);
    for n in 0..play.times.clamp(1, TIMES_MAX) {
        let at = n.saturating_mul(play.every);
        proxy.at(at);
        let way = send(&mut proxy, &play.request, n.saturating_add(1), play.answer);
        if n == 0 {
            first(&mut played, &proxy, play, &way);
        }
        if way.asked && played.notes.is_empty() {
            played.notes.push("a service that would be asked does not answer here".to_owned());
        }
        played.sent.push(outcome(at, way));
    }
    played
}

/// What is said of the first request alone.
fn first(played: &mut Played, proxy: &Proxy, play: &Play, way: &Way) {
    played.notes.extend(way.said.iter().cloned());
    let Some(facts) = way.facts.as_ref().filter(|facts| !facts.prompt_hash.is_empty()) else { return };
    let body = numbered(&play.request.body, 1);
    played.counted = count::explained(proxy.config(), facts, &play.request.path, body.as_bytes());
    let spend = Spend { prompt: facts.prompt_tokens, cached: Tokens::ZERO, output: Tokens(play.answer) };
    let model = proxy.config().model(&facts.model);
    played.nanodollars = model.map(|model| model.price(facts.version.as_deref()).nanodollars(spend));
}

/// Asks which version each of many callers gets, with no limit in the way.
///
/// # Errors
/// What is wrong with the configuration.
pub fn split(split: &Split) -> Result<Shares, String> {
    let config = settings::read(&split.config).and_then(|at| {
        settings::checked(&at, |value| {
            if let Some(limits) = value.get_mut("limits") {
                *limits = json!([]);
            }
            for model in value.get_mut("models").and_then(Value::as_array_mut).into_iter().flatten() {
                weigh(model, &split.weights);
            }
        })
    });
    let config = config.map_err(|mistakes| {
        let first =
            mistakes.first().map(|mistake| format!("line {}: {}: {}", mistake.line, mistake.path, mistake.what));
        first.unwrap_or_default()
    })?;
    let mut proxy = Proxy::new(config, 0);
    let mut shares = Shares::default();
    for n in 1..=split.callers.min(TIMES_MAX) {
        let way = send(&mut proxy, &split.request, n, 0);
        let version = way.facts.as_ref().and_then(|facts| facts.version.clone()).filter(|_| way.went);
        if n == 1 {
            shares.first.clone_from(&version);
        }
        match way.reply {
            Some(reply) => {
                shares.refused = shares.refused.saturating_add(1);
                shares.message.get_or_insert_with(|| count::said(&reply.body));
            }
            None => {
                let of = shares.versions.entry(version.unwrap_or_else(|| "(no version)".to_owned())).or_default();
                *of = of.saturating_add(1);
            }
        }
    }
    Ok(shares)
}

/// Gives a model's versions other weights.
fn weigh(model: &mut Value, weights: &BTreeMap<String, u32>) {
    for version in model.get_mut("versions").and_then(Value::as_array_mut).into_iter().flatten() {
        let weight = version["name"].as_str().and_then(|name| weights.get(name)).copied();
        if let (Some(weight), Some(version)) = (weight, version.as_object_mut()) {
            version.insert("weight".to_owned(), json!(weight));
        }
    }
}

fn send(proxy: &mut Proxy, sent: &Sent, n: u64, answer: u64) -> Way {
    let headers = headers(sent, n);
    let body = numbered(&sent.body, n);
    proxy.send(&headers, body.as_bytes(), |facts| answered(facts, answer))
}

/// The headers of a request, as a proxy shows them.
fn headers(sent: &Sent, n: u64) -> Headers {
    let mut headers: Headers = vec![
        (":method".to_owned(), b"POST".to_vec()),
        (":path".to_owned(), sent.path.trim().as_bytes().to_vec()),
        (":authority".to_owned(), b"localhost".to_vec()),
        (":scheme".to_owned(), b"https".to_vec()),
        ("content-type".to_owned(), b"application/json".to_vec()),
    ];
    for line in sent.headers.lines() {
        if let Some((name, value)) = line.split_once(':') {
            headers.push((name.trim().to_ascii_lowercase(), numbered(value.trim(), n).into_bytes()));
        }
    }
    headers
}

fn numbered(text: &str, n: u64) -> String {
    text.replace(NUMBER, &n.to_string())
}

/// What a server answers that counted the prompt alike.
fn answered(facts: &Facts, tokens: u64) -> Vec<u8> {
    let prompt = facts.prompt_tokens.0;
    // Each API has its own names for the two.
    json!({"choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "…"}}], "usage": {
        "prompt_tokens": prompt, "completion_tokens": tokens, "total_tokens": prompt.saturating_add(tokens),
        "input_tokens": prompt, "output_tokens": tokens,
    }})
    .to_string()
    .into_bytes()
}

fn outcome(at: u64, way: Way) -> Outcome {
    let facts = way.facts.unwrap_or_default();
    let (status, message, told) = match way.reply {
        Some(reply) => (reply.status, Some(count::said(&reply.body)), reply.headers),
        None => (200, None, Vec::new()),
    };
    Outcome {
        at,
        status,
        version: facts.version,
        tenant: facts.tenant,
        limit: facts.limit,
        message,
        headers: told.into_iter().chain(way.headers).collect(),
    }
}
