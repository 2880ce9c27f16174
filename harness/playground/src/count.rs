//! What a request costs: in total as the filters count it, and where that comes from.

use penstock_dialects::{Dialect, PromptSink, Request, RequestReader, Target};
use penstock_exchange::{Config, Facts};
use penstock_tokens::{Encoding, Vocabulary, cut};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::proxy::Proxy;

/// A question about a text.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OfText {
    /// The name of an encoding.
    pub tokenizer: String,
    /// The text.
    pub text: String,
}

/// A text, and what it costs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Text {
    /// All of its tokens.
    pub tokens: u64,
    /// Its pieces in order, with the tokens of each.
    pub pieces: Vec<(String, u64)>,
}

/// A message, and what it costs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Message {
    /// Who speaks in it, where it says so.
    pub role: String,
    /// The tokens of its texts, and those around them.
    pub tokens: u64,
    /// The tokens around its texts.
    pub framing: u64,
    /// Its texts, the role among them.
    pub texts: Vec<Text>,
}

/// A request, and what it costs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Counted {
    /// The model that it is counted for.
    pub model: String,
    /// The prompt's tokens, as the filters count them.
    pub tokens: u64,
    /// Whether that is an estimate.
    pub estimated: bool,
    /// Its messages, where it has some.
    pub messages: Vec<Message>,
    /// Its texts that belong to no message.
    pub texts: Vec<Text>,
    /// The tokens that prime the reply.
    pub reply: u64,
    /// What the rest costs: tools, images, token ids; below zero where an estimate is lower than its texts.
    pub rest: i64,
}

/// What a text costs.
///
/// # Errors
/// There is no such encoding.
pub fn of_text(of: &OfText) -> Result<Text, String> {
    Ok(text(encoding(&of.tokenizer)?.vocabulary(), &of.text))
}

/// The encoding of that name.
///
/// # Errors
/// There is none; which there are.
pub fn encoding(name: &str) -> Result<Encoding, String> {
    let all = || Encoding::ALL.map(|(name, _)| name).join(", ");
    Encoding::named(name).ok_or_else(|| format!("there is no encoding {name:?} built in; there are {}", all()))
}

/// A text with its pieces.
pub fn text(vocabulary: &'static Vocabulary, text: &str) -> Text {
    let pieces = cut(vocabulary, text);
    Text {
        tokens: pieces.iter().map(|(_, tokens)| tokens).sum(),
        pieces: pieces.into_iter().map(|(at, tokens)| (text.get(at).unwrap_or_default().to_owned(), tokens)).collect(),
    }
}

/// What a request to `path` costs by itself, whatever limits there are and whoever asks. It may name no model where `config` has only one.
///
/// # Errors
/// What is wrong with the request, or with the configuration.
pub fn of_request(config: &Value, path: &str, body: &[u8]) -> Result<Counted, String> {
    let config = counting(config);
    let config = Config::parse(config.to_string().as_bytes()).map_err(|errors| errors.to_string())?;
    let mut proxy = Proxy::new(config, 0);
    let headers = vec![(":method".to_owned(), b"POST".to_vec()), (":path".to_owned(), path.as_bytes().to_vec())];
    let way = proxy.send(&headers, body, |_| b"{}".to_vec());
    match way.reply {
        Some(reply) => Err(said(&reply.body)),
        None => explained(proxy.config(), &way.facts.unwrap_or_default(), path, body)
            .ok_or_else(|| format!("{path} is no path of a request with a prompt; write --path /v1/chat/completions")),
    }
}

/// What a message of an error says to a person.
pub fn said(body: &str) -> String {
    let value: Value = serde_json::from_str(body).unwrap_or_default();
    value["error"]["message"].as_str().unwrap_or(body).to_owned()
}

/// Of a configuration what counting depends on: how models are called and counted.
fn counting(config: &Value) -> Value {
    const KEPT: [&str; 6] = ["name", "aliases", "tokenizer", "output", "price", "media"];
    let model = |model: &Value| -> Value {
        let kept = KEPT.into_iter().filter_map(|key| Some((key.to_owned(), model.get(key)?.clone())));
        Value::Object(kept.collect())
    };
    let models: Vec<Value> = config["models"].as_array().into_iter().flatten().map(model).collect();
    let mut counting = json!({"models": models, "background": "reserve"});
    for key in ["countBytesMax", "decodedBytesMax", "defaultModel", "pathPrefixes", "unknownModel"] {
        if let Some(value) = config.get(key) {
            counting[key] = value.clone();
        }
    }
    if let ([only], None) = (models.as_slice(), config.get("defaultModel")) {
        counting["defaultModel"] = only["name"].clone();
    }
    counting
}

/// Where what the filters counted comes from. `None` where the path is no API's.
pub fn explained(config: &Config, facts: &Facts, path: &str, body: &[u8]) -> Option<Counted> {
    let Target::Api(dialect) = Target::of(b"POST", path.as_bytes(), &config.path_prefixes) else { return None };
    let vocabulary = config.model(&facts.model)?.encoding.vocabulary();
    let value: Value = serde_json::from_slice(body).unwrap_or_default();
    let key = if dialect == Dialect::Responses { "input" } else { "messages" };
    let list = value.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
    let framing = dialect.framing();
    let message = |message: &Value| {
        let mut alone = json!({});
        alone[key] = json!([message]);
        let (request, texts) = read(dialect, alone.to_string().as_bytes(), vocabulary);
        let (messages, names) = request.map_or((1, 0), |request| (request.messages, request.names));
        let around = framing.tokens(messages, names).saturating_sub(framing.reply);
        Message {
            role: message["role"].as_str().or(message["type"].as_str()).unwrap_or_default().to_owned(),
            tokens: texts.iter().map(|text| text.tokens).sum::<u64>().saturating_add(around),
            framing: around,
            texts,
        }
    };
    let messages: Vec<Message> = list.iter().map(message).collect();
    let texts = if list.is_empty() {
        read(dialect, body, vocabulary).1
    } else {
        let mut others = value.clone();
        others[key] = json!([]);
        read(dialect, others.to_string().as_bytes(), vocabulary).1
    };
    let parts = messages.iter().map(|message| message.tokens).chain(texts.iter().map(|text| text.tokens));
    let known = parts.sum::<u64>().saturating_add(framing.reply);
    let signed = |tokens: u64| i64::try_from(tokens).unwrap_or(i64::MAX);
    Some(Counted {
        model: facts.model.clone(),
        tokens: facts.prompt_tokens.0,
        estimated: facts.estimated,
        messages,
        texts,
        reply: framing.reply,
        rest: signed(facts.prompt_tokens.0).saturating_sub(signed(known)),
    })
}

/// What a body asks, and its texts that cost tokens, as far as it can be read.
fn read(dialect: Dialect, body: &[u8], vocabulary: &'static Vocabulary) -> (Option<Request>, Vec<Text>) {
    let mut texts = Texts::default();
    let mut reader = RequestReader::new(dialect);
    let request = reader.push(body, &mut texts).and_then(|()| reader.finish(&mut texts));
    (request.ok(), texts.done.iter().map(|done| text(vocabulary, done)).filter(|text| text.tokens > 0).collect())
}

/// The texts of a prompt, as they are counted: each by itself.
#[derive(Default)]
struct Texts {
    done: Vec<String>,
    open: String,
}

impl PromptSink for Texts {
    fn part(&mut self, text: &str) {
        self.open.push_str(text);
    }

    fn end(&mut self) {
        self.done.push(std::mem::take(&mut self.open));
    }
}
