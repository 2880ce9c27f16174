//! The record as JSON, field by field: a general serialiser costs several times as much, and there are two for each request.

use penstock_units::Tokens;

use super::{Facts, Held, Signals, Used};

/// What a record mostly takes: room that grows is copied each time.
const ROOM: usize = 640;

/// JSON that is being written.
struct Writer(Vec<u8>);

/// The record, in the order of its fields; what serde would make of it.
pub fn write(facts: &Facts) -> Vec<u8> {
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
    } = facts;
    let mut out = Writer(Vec::with_capacity(ROOM));
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
    out.any_text(",\"refused\":\"", refused.map(|outcome| outcome.label()));
    out.any_text(",\"would\":\"", would.as_deref());
    out.any_text(",\"outcome\":\"", outcome.map(|outcome| outcome.label()));
    if let Some(used) = used {
        out.used(used);
    }
    if let Some(quality) = quality {
        out.quality(quality);
    }
    out.any_number(",\"ttftMs\":", ttft_ms.map(|ms| ms.0));
    out.raw("}");
    out.0
}

impl Writer {
    fn used(&mut self, used: &Used) {
        let Used { prompt, cached, completion, cache_creation, reasoning, counted, reserved } = used;
        self.number(",\"used\":{\"prompt\":", prompt.0);
        self.number(",\"cached\":", cached.0);
        self.number(",\"completion\":", completion.0);
        self.number(",\"cacheCreation\":", cache_creation.0);
        self.number(",\"reasoning\":", reasoning.0);
        self.raw(match (counted, reserved) {
            (true, true) => ",\"counted\":true,\"reserved\":true}",
            (true, false) => ",\"counted\":true}",
            (false, true) => ",\"counted\":false,\"reserved\":true}",
            (false, false) => ",\"counted\":false}",
        });
    }

    fn quality(&mut self, quality: &Signals) {
        let Signals { finish, empty, malformed_tool_args, malformed_json_output, tool_calls } = quality;
        self.raw(",\"quality\":{");
        if let Some(finish) = finish {
            self.text("\"finish\":\"", finish);
            self.raw(",");
        }
        self.flag("\"empty\":true,", *empty);
        self.flag("\"malformedToolArgs\":true,", *malformed_tool_args);
        self.flag("\"malformedJsonOutput\":true,", *malformed_json_output);
        self.number("\"toolCalls\":", u64::from(*tool_calls));
        self.raw("}");
    }

    fn raw(&mut self, text: &str) {
        self.0.extend_from_slice(text.as_bytes());
    }

    fn flag(&mut self, text: &str, is_set: bool) {
        if is_set {
            self.raw(text);
        }
    }

    fn any_text(&mut self, key: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.text(key, value);
        }
    }

    fn any_number(&mut self, key: &str, value: Option<u64>) {
        if let Some(value) = value {
            self.number(key, value);
        }
    }

    /// A string; its opening quotation mark stands in `key`.
    fn text(&mut self, key: &str, value: &str) {
        self.raw(key);
        if value.bytes().any(|byte| byte < b' ' || byte == b'"' || byte == b'\\') {
            self.escaped(value);
        } else {
            self.raw(value);
        }
        self.0.push(b'"');
    }

    /// What cannot stand in a string as it is; names rarely have such.
    #[cold]
    fn escaped(&mut self, value: &str) {
        let mut quoted = Vec::new();
        // Nothing can go wrong with a string.
        let _ = serde_json::to_writer(&mut quoted, value);
        self.0.extend_from_slice(quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or_default());
    }

    fn number(&mut self, key: &str, value: u64) {
        self.raw(key);
        let mut digits = [0; 20];
        let (mut at, mut rest) = (digits.len(), value);
        while let Some(digit) = at.checked_sub(1).and_then(|at| digits.get_mut(at)) {
            *digit = b'0'.saturating_add((rest % 10) as u8);
            at = at.saturating_sub(1);
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        self.0.extend_from_slice(digits.get(at..).unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use super::super::Outcome;
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
            let (written, expected) = (write(&facts), serde_json::to_vec(&facts).unwrap());
            prop_assert_eq!(String::from_utf8(written).unwrap(), String::from_utf8(expected).unwrap());
            prop_assert_eq!(Facts::decode(&write(&facts)), Some(facts));
        }
    }
}
