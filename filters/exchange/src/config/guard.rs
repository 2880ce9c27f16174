//! Guards: when a version is taken back.

use penstock_canary::guard::{Allowance, Outcome, Rules, Signal};
use penstock_units::{Millis, Nanos, Tokens};

use super::checked::guard::{CATEGORIES_MAX, Category, Guard};
use super::problems::{Problems, mode};
use super::raw;
use super::units::is_name;

/// How sure to be.
const CONFIDENCE: f64 = 0.99;
const REQUESTS_MIN: u64 = 200;
const BAKE_FOR: Nanos = Nanos(24 * 3_600 * Nanos::SECOND.0);
/// Longer prompts are no evidence.
const PROMPT_MAX: Tokens = Tokens(32_768);
/// Longer prompts are none of how fast a version is.
const TTFT_PROMPT_MAX: Tokens = Tokens(8_192);
/// Later than this is as good as never.
const MILLIS_MAX: u64 = 3_600_000;

/// `models[].guard`
pub fn guard(problems: &mut Problems, path: &str, raw: raw::Guard) -> Option<Guard> {
    let mut reader = Reader { problems, path };
    let raw::Guard { errors, ttft, inter_token, cost, length, category, .. } = raw;
    let errors = errors.unwrap_or_default();
    let allowance = reader.confidence(raw.confidence, errors.confidence);
    let mut signals = vec![Signal::More(Outcome::Error)];
    let mut ceilings: Vec<(Outcome, u16)> = Vec::new();
    let mut watch = |reader: &mut Reader<'_, '_>, key: &str, outcome, ceiling: Option<f64>| {
        if outcome != Outcome::Error {
            signals.push(Signal::More(outcome));
        }
        ceilings.extend(reader.share(&format!("{key}.ceiling"), ceiling, 0.001, 0.999).map(|share| (outcome, share)));
    };
    watch(&mut reader, "errors", Outcome::Error, errors.ceiling);
    let ttft = ttft.map(|raw| {
        watch(&mut reader, "ttft", Outcome::Ttft, raw.ceiling);
        let bound = reader.millis("ttft.slowerThanMs", raw.slower_than_ms, "2000");
        (bound, reader.tokens("ttft.promptTokensMax", raw.prompt_tokens_max, TTFT_PROMPT_MAX))
    });
    let inter_token = inter_token.map(|raw| {
        watch(&mut reader, "interToken", Outcome::InterToken, raw.ceiling);
        reader.millis("interToken.slowerThanMs", raw.slower_than_ms, "80")
    });
    for (key, outcome, raw) in [
        ("truncated", Outcome::Truncated, raw.truncated),
        ("empty", Outcome::Empty, raw.empty),
        ("filtered", Outcome::Filtered, raw.filtered),
        ("malformed", Outcome::Malformed, raw.malformed),
        ("feedback", Outcome::Feedback, raw.feedback),
    ] {
        if let Some(raw) = raw {
            watch(&mut reader, key, outcome, raw.ceiling);
        }
    }
    let cost_cap = cost.map(|raw| {
        signals.push(Signal::Costlier);
        reader.dollars("cost.cap", raw.cap)
    });
    let length_cap = length.map(|raw| {
        signals.extend(match raw.worse.unwrap_or(raw::Worse::Either) {
            raw::Worse::Either => [Signal::Longer, Signal::Shorter].as_slice(),
            raw::Worse::Longer => &[Signal::Longer],
            raw::Worse::Shorter => &[Signal::Shorter],
        });
        reader.cap("length.cap", raw.cap)
    });
    let category = category.map(|raw| reader.category(raw));
    let bake_for = raw.bake_for.map_or(Some(BAKE_FOR), |text| reader.duration("bakeFor", &text));
    let margin = raw.margin.and_then(|margin| reader.share("margin", Some(margin), 0.0, 10.0));
    let prompt_max = reader.tokens("promptTokensMax", raw.prompt_tokens_max, PROMPT_MAX);
    let (for_all, for_each) =
        allowance?.shared(category.as_ref().map_or(0, |(_, values)| u32::try_from(values.len()).unwrap_or(u32::MAX)));
    let rules = |allowance| {
        let mut rules = Rules::new(allowance, &signals)?;
        rules = ceilings.iter().fold(rules, |rules, (outcome, share)| rules.ceiling(*outcome, *share));
        if let Some(margin) = margin {
            rules = rules.margin(margin);
        }
        rules.requests_min = raw.min_requests.unwrap_or(REQUESTS_MIN);
        rules.bake_for = bake_for?;
        Some(rules)
    };
    Some(Guard {
        rules: rules(for_all)?,
        mode: mode(raw.mode),
        named_only: matches!(raw.tenants, Some(raw::GuardTenants::Named)),
        prompt_max,
        ttft,
        inter_token,
        cost_cap,
        length_cap,
        category: match category {
            Some((header, values)) => Some(Category { header, values, rules: rules(for_each)? }),
            None => None,
        },
    })
}

/// Reads the keys of one guard.
struct Reader<'a, 'p> {
    problems: &'a mut Problems,
    path: &'p str,
}

impl Reader<'_, '_> {
    fn problem(&mut self, key: &str, what: impl Into<String>) {
        self.problems.problem(format!("{}.{key}", self.path), what);
    }

    fn confidence(&mut self, own: Option<f64>, of_errors: Option<f64>) -> Option<Allowance> {
        if let (Some(own), Some(other)) = (own, of_errors)
            && own != other
        {
            let what = format!(
                "{other} is not the {own} of guard.confidence, and there is one for all signals; write one of them"
            );
            self.problem("errors.confidence", what);
        }
        let (key, given) = match of_errors {
            Some(given) => ("errors.confidence", given),
            None => ("confidence", own.unwrap_or(CONFIDENCE)),
        };
        let allowance = Allowance::at(given);
        if allowance.is_none() {
            self.problem(key, format!("{given} is out of range; write 0.5 to 0.999999, such as 0.99"));
        }
        allowance
    }

    /// In thousandths.
    fn share(&mut self, key: &str, given: Option<f64>, least: f64, most: f64) -> Option<u16> {
        let given = given?;
        if !(least..=most).contains(&given) {
            self.problem(key, format!("{given} is out of range; write a share from {least} to {most}, such as 0.5"));
            return None;
        }
        Some((given * 1000.0).round() as u16)
    }

    fn millis(&mut self, key: &str, given: u64, example: &str) -> Millis {
        if !(1..=MILLIS_MAX).contains(&given) {
            self.problem(key, format!("{given} is out of range; write 1 to {MILLIS_MAX}, such as {example}"));
        }
        Millis(given)
    }

    fn tokens(&mut self, key: &str, given: Option<u64>, otherwise: Tokens) -> Tokens {
        if given == Some(0) {
            self.problem(key, "0 leaves no request; write 1 or more, or leave it out");
        }
        given.map_or(otherwise, Tokens)
    }

    /// In billionths.
    fn dollars(&mut self, key: &str, given: f64) -> u64 {
        if !(1e-6..=1e6).contains(&given) {
            self.problem(
                key,
                format!("{given} is out of range; write a few times what a request costs, in US dollars, such as 0.02"),
            );
        }
        (given * 1e9).round() as u64
    }

    fn cap(&mut self, key: &str, given: u64) -> u64 {
        if given == 0 {
            self.problem(key, "0 tokens; write a few times the tokens of an answer, such as 2000");
        }
        given
    }

    fn duration(&mut self, key: &str, text: &str) -> Option<Nanos> {
        self.problems.duration(format!("{}.{key}", self.path), text)
    }

    fn category(&mut self, raw: raw::GuardCategory) -> (String, Vec<String>) {
        let raw::GuardCategory { header, values } = raw;
        if header.is_empty() || !header.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_')) {
            self.problem("category.header", format!("{header:?} is not a header's name; write one such as x-use"));
        }
        if values.is_empty() {
            self.problem(
                "category.values",
                "none; write the categories that are compared, such as [\"code\", \"chat\"]",
            );
        }
        self.problems.count(&format!("{}.category.values", self.path), values.len(), CATEGORIES_MAX);
        for (k, value) in values.iter().enumerate() {
            if !is_name(value) || values.iter().take(k).any(|other| other == value) {
                let what =
                    format!("{value:?} is not a name, or is there twice; write 1 to 64 of A-Z a-z 0-9 . _ - / : @");
                self.problem(&format!("category.values[{k}]"), what);
            }
        }
        (header.to_ascii_lowercase(), values)
    }
}
