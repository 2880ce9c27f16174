//! The file that says what is asked, and what the answers have to be: as it is written, and as it is meant.

use std::path::Path;
use std::time::Duration;

use jsonschema::Validator;
use reqwest::Url;
use serde::Deserialize;
use serde_json::{Value, json};

/// Answers and questions that are larger are no probes.
const PROBES_MAX: usize = 200;
const ROUNDS_MAX: u32 = 1_000;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RawFile {
    gateway: Option<String>,
    host: Option<String>,
    #[serde(default = "chat_completions")]
    path: String,
    key: Option<RawKey>,
    model: String,
    #[serde(rename = "override")]
    chooses: Option<String>,
    versions: Vec<String>,
    #[serde(default = "ten_seconds")]
    every: String,
    #[serde(default = "five")]
    rounds: u32,
    #[serde(default)]
    failures: f64,
    feedback: Option<String>,
    probes: Vec<RawProbe>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RawKey {
    #[serde(default = "authorization")]
    header: String,
    #[serde(default)]
    prefix: String,
    env: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RawProbe {
    name: String,
    prompt: Option<String>,
    messages: Option<Vec<Value>>,
    #[serde(default = "hundred")]
    max_tokens: u32,
    #[serde(default)]
    expect: RawExpect,
    golden: Option<RawGolden>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct RawExpect {
    status: Option<u16>,
    within: Option<String>,
    finish: Option<String>,
    json: bool,
    schema: Option<Value>,
    matches: Option<String>,
    min_characters: Option<usize>,
    max_characters: Option<usize>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum RawGolden {
    Is(bool),
    Text(String),
}

fn chat_completions() -> String {
    "/v1/chat/completions".to_owned()
}

fn ten_seconds() -> String {
    "10s".to_owned()
}

fn five() -> u32 {
    5
}

fn hundred() -> u32 {
    100
}

fn authorization() -> String {
    "authorization".to_owned()
}

/// What is probed, and how.
#[derive(Debug)]
pub struct Plan {
    pub url: Url,
    pub host: Option<String>,
    /// The header that says who probes, and the name of the variable that has its value.
    pub key: Option<Key>,
    pub model: String,
    /// The header that chooses the version.
    pub chooses: Option<String>,
    /// The first one is what the others are held against.
    pub versions: Vec<String>,
    pub every: Duration,
    pub rounds: u32,
    /// The share of a version's answers that may fail.
    pub failures: f64,
    pub feedback: Option<Url>,
    pub probes: Vec<Probe>,
}

/// Who probes.
#[derive(Debug)]
pub struct Key {
    pub header: String,
    pub prefix: String,
    pub env: String,
}

/// One question.
#[derive(Debug)]
pub struct Probe {
    pub name: String,
    /// The request's body, whoever is to answer it.
    pub body: Value,
    pub expect: Expect,
    pub golden: Option<Golden>,
}

/// What an answer has to be.
#[derive(Debug)]
pub struct Expect {
    pub status: u16,
    pub within: Option<Duration>,
    pub finish: Option<String>,
    pub is_json: bool,
    pub schema: Option<Validator>,
    pub matches: Option<Validator>,
    pub characters: (usize, usize),
}

/// What an answer is compared with.
#[derive(Debug)]
pub enum Golden {
    Text(String),
    /// The first answer of the first version.
    First,
}

impl Plan {
    /// Reads a file. `gateway` takes the place of the file's.
    ///
    /// # Errors
    /// What is wrong with it: the place, the value, and what to write.
    pub fn read(path: &Path, text: &str, gateway: Option<&Url>) -> Result<Self, String> {
        let raw: RawFile = serde_yaml_ng::from_str(text).map_err(|error| format!("{}: {error}", path.display()))?;
        raw.check(gateway).map_err(|error| format!("{}: {error}", path.display()))
    }
}

impl RawFile {
    fn check(self, gateway: Option<&Url>) -> Result<Plan, String> {
        let own = self.gateway.as_deref().map(|text| {
            Url::parse(text).map_err(|error| format!("gateway: {text:?}: {error}; write http://HOST:PORT"))
        });
        let base = gateway.cloned().map_or_else(|| own.transpose(), |given| Ok(Some(given)))?;
        let base = base.ok_or("gateway: say where it is, here or with --gateway")?;
        if base.scheme() != "http" {
            return Err(format!("gateway: {base}: this command speaks http alone; probe from inside of the network"));
        }
        let below = |path: &str| base.join(path).map_err(|error| format!("{path:?}: {error}"));
        if self.versions.is_empty() {
            return Err("versions: name at least one".to_owned());
        }
        if self.versions.len() > 1 && self.chooses.is_none() {
            return Err(
                "override: without the header of models[].override.header nobody chooses the version; name one version, or the header"
                    .to_owned(),
            );
        }
        if !(0.0..1.0).contains(&self.failures) {
            return Err(format!("failures: {} is no share; write 0 to 0.99", self.failures));
        }
        if self.rounds == 0 || self.rounds > ROUNDS_MAX {
            return Err(format!("rounds: {}; write 1 to {ROUNDS_MAX}", self.rounds));
        }
        if self.probes.is_empty() || self.probes.len() > PROBES_MAX {
            return Err(format!("probes: {} of them; write 1 to {PROBES_MAX}", self.probes.len()));
        }
        let every = duration(&self.every).map_err(|error| format!("every: {error}"))?;
        let mut probes: Vec<Probe> = Vec::new();
        for (i, raw) in self.probes.into_iter().enumerate() {
            let probe = raw.check(&self.model).map_err(|error| format!("probes[{i}].{error}"))?;
            if probes.iter().any(|known| known.name == probe.name) {
                return Err(format!("probes[{i}].name: {:?} is another one's; give each its own", probe.name));
            }
            probes.push(probe);
        }
        Ok(Plan {
            url: below(&self.path)?,
            host: self.host,
            key: self.key.map(|key| Key { header: key.header, prefix: key.prefix, env: key.env }),
            model: self.model,
            chooses: self.chooses,
            versions: self.versions,
            every,
            rounds: self.rounds,
            failures: self.failures,
            feedback: self.feedback.as_deref().map(below).transpose()?,
            probes,
        })
    }
}

impl RawProbe {
    fn check(self, model: &str) -> Result<Probe, String> {
        let messages = match (self.prompt, self.messages) {
            (Some(prompt), None) => json!([{"role": "user", "content": prompt}]),
            (None, Some(messages)) if !messages.is_empty() => Value::Array(messages),
            _ => return Err("prompt: write a prompt, or messages, and not both".to_owned()),
        };
        let body = json!({"model": model, "messages": messages, "max_tokens": self.max_tokens, "temperature": 0});
        let golden = match self.golden {
            None | Some(RawGolden::Is(false)) => None,
            Some(RawGolden::Is(true)) => Some(Golden::First),
            Some(RawGolden::Text(text)) => Some(Golden::Text(text)),
        };
        let expect = self.expect.check().map_err(|error| format!("expect.{error}"))?;
        Ok(Probe { name: self.name, body, expect, golden })
    }
}

impl RawExpect {
    fn check(self) -> Result<Expect, String> {
        let schema =
            |name: &str, schema: &Value| jsonschema::validator_for(schema).map_err(|error| format!("{name}: {error}"));
        let matches = self.matches.map(|pattern| {
            schema("matches", &json!({"pattern": pattern}))
                .map_err(|_| format!("matches: {pattern:?} is no regular expression"))
        });
        let characters = (self.min_characters.unwrap_or(1), self.max_characters.unwrap_or(usize::MAX));
        if characters.0 > characters.1 {
            return Err(format!("maxCharacters: {} is less than minCharacters", characters.1));
        }
        Ok(Expect {
            status: self.status.unwrap_or(200),
            within: self.within.map(|text| duration(&text).map_err(|error| format!("within: {error}"))).transpose()?,
            finish: self.finish,
            is_json: self.json || self.schema.is_some(),
            schema: self.schema.as_ref().map(|own| schema("schema", own)).transpose()?,
            matches: matches.transpose()?,
            characters,
        })
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is not a duration; write 500ms, 30s, 5m");
    let number = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let unit = match &text[number.len()..] {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        _ => return Err(wrong()),
    };
    let milliseconds = number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit));
    milliseconds.filter(|own| *own <= 3_600_000).map(Duration::from_millis).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = r#"
gateway: http://127.0.0.1:8080
model: chat
override: x-version
versions: [stable, canary]
key: {header: authorization, prefix: "Bearer ", env: KEY}
probes:
- name: capital
  prompt: What is the capital of France?
  expect: {within: 5s, matches: "(?i)paris", schema: {type: object}}
  golden: true
"#;

    fn read(text: &str) -> Result<Plan, String> {
        Plan::read(Path::new("probes.yaml"), text, None)
    }

    #[test]
    fn what_is_not_said_is_usual() {
        let plan = read(WHOLE).unwrap();
        assert_eq!(plan.url.as_str(), "http://127.0.0.1:8080/v1/chat/completions");
        assert_eq!((plan.every, plan.rounds, plan.failures), (Duration::from_secs(10), 5, 0.0));
        let probe = &plan.probes[0];
        assert_eq!(probe.body["messages"][0]["content"], "What is the capital of France?");
        assert!(probe.expect.status == 200 && probe.expect.is_json && matches!(probe.golden, Some(Golden::First)));
        let elsewhere = Url::parse("http://gateway:9000").unwrap();
        let plan = Plan::read(Path::new("probes.yaml"), WHOLE, Some(&elsewhere)).unwrap();
        assert_eq!(plan.url.host_str(), Some("gateway"));
    }

    #[test]
    fn mistakes_are_named() {
        for (find, replace, wanted) in [
            ("gateway: http://127.0.0.1:8080\n", "", "gateway: say where it is"),
            ("http://127.0.0.1:8080", "127.0.0.1", "gateway:"),
            ("http://127.0.0.1:8080", "https://127.0.0.1", "http alone"),
            ("override: x-version\n", "", "override: without"),
            ("[stable, canary]", "[]", "versions: name at least one"),
            ("versions:", "every: 5\nversions:", "every: \"5\" is not a duration"),
            ("versions:", "rounds: 0\nversions:", "rounds: 0"),
            ("versions:", "failures: 2\nversions:", "failures: 2 is no share"),
            ("versions:", "round: 1\nversions:", "unknown field `round`"),
            ("  prompt: What is the capital of France?\n", "", "probes[0].prompt:"),
            ("(?i)paris", "(paris", "probes[0].expect.matches: \"(paris\" is no regular expression"),
            ("{type: object}", "{type: objects}", "probes[0].expect.schema:"),
            ("within: 5s", "within: soon", "probes[0].expect.within: \"soon\""),
            ("within: 5s", "minCharacters: 5, maxCharacters: 3", "probes[0].expect.maxCharacters: 3"),
            ("  golden: true\n", "  golden: true\n- {name: capital, prompt: x}\n", "probes[1].name:"),
        ] {
            let text = WHOLE.replace(find, replace);
            assert_ne!(text, WHOLE, "{find}");
            let said = read(&text).expect_err(wanted);
            assert!(said.starts_with("probes.yaml: ") && said.contains(wanted), "{said}");
        }
    }
}
