//! What is known of one exchange: the record that goes between plugins and into the access log.

use penstock_dialects::{Quality, Usage};
use penstock_units::{Millis, Tokens};
use serde::Deserialize;

use crate::config::Spend;
use crate::json::Json;
use crate::port::Properties;

/// Where the facts stand for another plugin of the same stream.
pub const FILTER_STATE: [&str; 2] = ["filter_state", "wasm.penstock.exchange"];

/// How many bytes a record mostly takes: room that grows is copied each time.
const ROOM: usize = 640;

/// How an exchange ended, as `penstock_requests_total{outcome}` says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Answered in full.
    Ok,
    /// Refused by a limit.
    Limited,
    /// Refused because of saturation.
    Shed,
    /// Refused because of who asked.
    Denied,
    /// Refused or answered with 4xx because of what was asked.
    ClientError,
    /// Not answered, or with 5xx, or not to the end, or with a success that is none.
    UpstreamError,
    /// The client left.
    Abandoned,
}

impl Outcome {
    /// As a label value.
    pub fn label(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Limited => "limited",
            Self::Shed => "shed",
            Self::Denied => "denied",
            Self::ClientError => "client_error",
            Self::UpstreamError => "upstream_error",
            Self::Abandoned => "abandoned",
        }
    }
}

/// Token usage, as the facts carry it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(rename_all = "camelCase", default)]
pub struct Used {
    /// All prompt tokens.
    pub prompt: Tokens,
    /// Cached prompt tokens.
    pub cached: Tokens,
    /// All completion tokens.
    pub completion: Tokens,
    /// Prompt tokens that were written to a cache.
    pub cache_creation: Tokens,
    /// Reasoning tokens.
    pub reasoning: Tokens,
    /// Counted here, because the server did not report it.
    pub counted: bool,
    /// The completion is what was reserved, because the answer could not be read, or is worked on later.
    #[serde(skip_serializing_if = "is_false")]
    pub reserved: bool,
}

impl Used {
    /// As limits see it.
    pub fn spend(self) -> Spend {
        Spend { prompt: self.prompt, cached: self.cached, output: self.completion }
    }

    fn write(&self, out: &mut Json) {
        let Used { prompt, cached, completion, cache_creation, reasoning, counted, reserved } = self;
        out.number(",\"used\":{\"prompt\":", prompt.0);
        out.number(",\"cached\":", cached.0);
        out.number(",\"completion\":", completion.0);
        out.number(",\"cacheCreation\":", cache_creation.0);
        out.number(",\"reasoning\":", reasoning.0);
        out.raw(match (counted, reserved) {
            (true, true) => ",\"counted\":true,\"reserved\":true}",
            (true, false) => ",\"counted\":true}",
            (false, true) => ",\"counted\":false,\"reserved\":true}",
            (false, false) => ",\"counted\":false}",
        });
    }
}

impl From<Usage> for Used {
    fn from(usage: Usage) -> Self {
        let Usage { prompt, cached, cache_creation, completion, reasoning } = usage;
        Self {
            prompt: Tokens(prompt),
            cached: Tokens(cached),
            completion: Tokens(completion),
            cache_creation: Tokens(cache_creation),
            reasoning: Tokens(reasoning),
            counted: false,
            reserved: false,
        }
    }
}

/// How a request waited for a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(rename_all = "camelCase", default)]
pub struct Held {
    /// It waits, and has not gone on.
    #[serde(skip_serializing_if = "is_false")]
    pub waits: bool,
    /// For how many milliseconds it has waited.
    pub ms: Millis,
}

/// What the structure of a response told; what is not there is as it should be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(rename_all = "camelCase", default)]
pub struct Signals {
    /// Why it ended: `stop`, `tool_calls`, `length`, `filter`, `other`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finish: Option<String>,
    /// Nothing was generated.
    #[serde(skip_serializing_if = "is_false")]
    pub empty: bool,
    /// The arguments of some tool call are not JSON.
    #[serde(skip_serializing_if = "is_false")]
    pub malformed_tool_args: bool,
    /// JSON was asked for, and the text is none.
    #[serde(skip_serializing_if = "is_false")]
    pub malformed_json_output: bool,
    /// How many tools it calls.
    pub tool_calls: u32,
}

#[cfg(test)]
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
fn is_false(flag: &bool) -> bool {
    !flag
}

impl Signals {
    fn write(&self, out: &mut Json) {
        let Signals { finish, empty, malformed_tool_args, malformed_json_output, tool_calls } = self;
        out.raw(",\"quality\":{");
        if let Some(finish) = finish {
            out.text("\"finish\":\"", finish);
            out.raw(",");
        }
        out.flag("\"empty\":true,", *empty);
        out.flag("\"malformedToolArgs\":true,", *malformed_tool_args);
        out.flag("\"malformedJsonOutput\":true,", *malformed_json_output);
        out.number("\"toolCalls\":", u64::from(*tool_calls));
        out.raw("}");
    }
}

impl From<Quality> for Signals {
    fn from(quality: Quality) -> Self {
        let Quality { finish, empty, malformed_tool_args, malformed_json_output, tool_calls } = quality;
        let finish = finish.map(|finish| finish.label().to_owned());
        Self { finish, empty, malformed_tool_args, malformed_json_output, tool_calls }
    }
}

/// The record. No text of a prompt or completion, and no tenant key that is not a configured name.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(rename_all = "camelCase", default)]
pub struct Facts {
    /// A configured tenant's name, else a keyed hash, else `anonymous`.
    pub tenant: String,
    /// Its class.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// The configured model; `*` for one that only the wildcard matches.
    pub model: String,
    /// The version that was drawn.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// What narrowed the choice: `override`, `pin`, `fallback`, or the name of a rule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chosen_by: Option<String>,
    /// The version that a copy of it is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shadow: Option<String>,
    /// What is left of the limit that binds, in percent, where some rule asks for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget_left: Option<u64>,
    /// What the client calls its prompt, from `x-prompt-version`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt_version: Option<String>,
    /// A keyed hash of the prompt's texts, in hexadecimal.
    pub prompt_hash: String,
    /// Prompt tokens, as counted here.
    pub prompt_tokens: Tokens,
    /// Whether that is an estimate.
    pub estimated: bool,
    /// The output tokens that the client allows, over all choices.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_output: Option<Tokens>,
    /// Output tokens that are expected.
    pub expected_output: Tokens,
    /// Whether the answer is worked on after its response.
    #[serde(skip_serializing_if = "is_false")]
    pub background: bool,
    /// Whether the answer is streamed.
    pub stream: bool,
    /// It passes unread, as what is not the API of a model does.
    #[serde(skip_serializing_if = "is_false")]
    pub passed: bool,
    /// The proxy follows a redirect of the server with it: under which number the exchange goes on with its second pass.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redirected: Option<u64>,
    /// How it waited for a server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held: Option<Box<Held>>,
    /// The limit that refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<String>,
    /// How it was refused; none where it was forwarded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<Outcome>,
    /// What would have refused it if that were enforced, in the order of the stages: `limited; limit=tpm, shed`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub would: Option<String>,
    /// How it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// What was used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub used: Option<Used>,
    /// What the response's structure told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quality: Option<Signals>,
    /// Milliseconds from the request's headers to the first token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttft_ms: Option<Millis>,
}

impl Facts {
    /// As JSON.
    pub fn encode(&self) -> Vec<u8> {
        let Facts {
            tenant,
            class,
            model,
            version,
            chosen_by,
            shadow,
            budget_left,
            prompt_version,
            prompt_hash,
            prompt_tokens,
            estimated,
            max_output,
            expected_output,
            background,
            stream,
            passed,
            redirected,
            held,
            limit,
            refused,
            would,
            outcome,
            used,
            quality,
            ttft_ms,
        } = self;
        let mut out = Json::with_room(ROOM);
        out.text("{\"tenant\":\"", tenant);
        out.any_text(",\"class\":\"", class.as_deref());
        out.text(",\"model\":\"", model);
        out.any_text(",\"version\":\"", version.as_deref());
        out.any_text(",\"chosenBy\":\"", chosen_by.as_deref());
        out.any_text(",\"shadow\":\"", shadow.as_deref());
        out.any_number(",\"budgetLeft\":", *budget_left);
        out.any_text(",\"promptVersion\":\"", prompt_version.as_deref());
        out.text(",\"promptHash\":\"", prompt_hash);
        out.number(",\"promptTokens\":", prompt_tokens.0);
        out.raw(if *estimated { ",\"estimated\":true" } else { ",\"estimated\":false" });
        out.any_number(",\"maxOutput\":", max_output.map(|Tokens(most)| most));
        out.number(",\"expectedOutput\":", expected_output.0);
        out.flag(",\"background\":true", *background);
        out.raw(if *stream { ",\"stream\":true" } else { ",\"stream\":false" });
        out.flag(",\"passed\":true", *passed);
        out.any_number(",\"redirected\":", *redirected);
        if let Some(Held { waits, ms }) = held.as_deref() {
            out.raw(if *waits { ",\"held\":{\"waits\":true," } else { ",\"held\":{" });
            out.number("\"ms\":", ms.0);
            out.raw("}");
        }
        out.any_text(",\"limit\":\"", limit.as_deref());
        if let Some(refused) = refused {
            out.word(",\"refused\":\"", refused.label());
        }
        out.any_text(",\"would\":\"", would.as_deref());
        if let Some(outcome) = outcome {
            out.word(",\"outcome\":\"", outcome.label());
        }
        if let Some(used) = used {
            used.write(&mut out);
        }
        if let Some(quality) = quality {
            quality.write(&mut out);
        }
        out.any_number(",\"ttftMs\":", ttft_ms.map(|ms| ms.0));
        out.raw("}");
        out.finish()
    }

    /// What an earlier plugin of the same stream, or this one, has left there.
    pub fn published(properties: &dyn Properties) -> Option<Self> {
        properties.get(&FILTER_STATE).as_deref().and_then(Self::decode)
    }

    /// The inverse of [`Facts::encode`]; `None` for anything else.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use penstock_units::Millis;
    use proptest::prelude::*;

    fn text() -> impl Strategy<Value = String> {
        prop_oneof![
            Just(String::new()),
            "[a-z0-9-]{1,40}",
            "\\PC{0,20}",
            "[\\x00-\\x7f]{0,20}",
            Just("a\"\\\u{7f}é".into())
        ]
    }

    fn maybe() -> impl Strategy<Value = Option<String>> {
        prop::option::of(text())
    }

    fn outcome() -> impl Strategy<Value = Option<Outcome>> {
        use Outcome::{Abandoned, ClientError, Denied, Limited, Ok, Shed, UpstreamError};
        prop::option::of(prop::sample::select(vec![Ok, Limited, Shed, Denied, ClientError, UpstreamError, Abandoned]))
    }

    fn used() -> impl Strategy<Value = Used> {
        (any::<[u64; 5]>(), any::<bool>(), any::<bool>()).prop_map(|(n, counted, reserved)| Used {
            prompt: Tokens(n[0]),
            cached: Tokens(n[1] % 11),
            completion: Tokens(n[2] % 1000),
            cache_creation: Tokens(n[3] % 2),
            reasoning: Tokens(n[4] % 101),
            counted,
            reserved,
        })
    }

    fn quality() -> impl Strategy<Value = Signals> {
        (maybe(), any::<[bool; 3]>(), any::<u32>()).prop_map(|(finish, flags, tool_calls)| Signals {
            finish,
            empty: flags[0],
            malformed_tool_args: flags[1],
            malformed_json_output: flags[2],
            tool_calls,
        })
    }

    prop_compose! {
        fn facts()(
            [tenant, model, prompt_hash] in [text(), text(), text()],
            [class, version, chosen_by, shadow] in [maybe(), maybe(), maybe(), maybe()],
            [prompt_version, limit, would] in [maybe(), maybe(), maybe()],
            numbers in any::<[Option<u64>; 4]>(),
            prompt_tokens in any::<u64>(),
            [estimated, background, stream, passed, waits] in any::<[bool; 5]>(),
            ms in any::<Option<u64>>(),
            [refused, outcome] in [outcome(), outcome()],
            (used, quality) in (prop::option::of(used()), prop::option::of(quality())),
        ) -> Facts {
            let [budget_left, max_output, redirected, ttft_ms] = numbers;
            Facts {
                tenant, class, model, version, chosen_by, shadow, budget_left, prompt_version, prompt_hash,
                prompt_tokens: Tokens(prompt_tokens),
                estimated,
                max_output: max_output.map(Tokens),
                expected_output: Tokens(prompt_tokens / 7),
                background, stream, passed, redirected,
                held: ms.map(|ms| Box::new(Held { waits, ms: Millis(ms) })),
                limit, refused, would, outcome, used, quality,
                ttft_ms: ttft_ms.map(Millis),
            }
        }
    }

    proptest! {
        #[test]
        fn is_what_serde_would_write(facts in facts()) {
            let (written, expected) = (facts.encode(), serde_json::to_vec(&facts).unwrap());
            prop_assert_eq!(String::from_utf8(written).unwrap(), String::from_utf8(expected).unwrap());
            prop_assert_eq!(Facts::decode(&facts.encode()), Some(facts));
        }
    }
}
