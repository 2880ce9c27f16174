//! Models: what clients may ask for, and what serves it.

use penstock_pending::Figures;
use penstock_tokens::Encoding;
use penstock_units::{Millis, Tokens};

use super::checked::{Bounds, Flat, MODELS_MAX, Mode, Model, Price, VERSIONS_MAX, Version};
use super::cold_start::{self, Said};
use super::guard::guard;
use super::problems::{Problems, mode};
use super::raw;
use super::routing::{self, WhoServes, routing, weights};

/// The output tokens that are expected of a model of which nothing is known.
const OUTPUT_EXPECT: Tokens = Tokens(256);

/// The aliases of each model, and its place in the document.
pub type Aliases = Vec<(usize, Vec<String>)>;

/// `models`
pub fn models(problems: &mut Problems, raw: Vec<raw::Model>) -> (Vec<Model>, Aliases) {
    problems.count("models", raw.len(), MODELS_MAX);
    let mut aliases = Aliases::new();
    let read = |(i, mut raw): (usize, raw::Model)| {
        let names = core::mem::take(&mut raw.aliases);
        let model = model(problems, i, raw)?;
        aliases.push((i, names));
        Some((i, model))
    };
    let indexed: Vec<(usize, Model)> = raw.into_iter().enumerate().filter_map(read).collect();
    for (at, (i, model)) in indexed.iter().enumerate() {
        if indexed.iter().take(at).any(|(_, other)| other.name == model.name) {
            problems
                .problem(format!("models[{i}].name"), format!("{:?} is configured twice; merge the two", model.name));
        }
        fallback(problems, *i, model, &indexed);
    }
    (indexed.into_iter().map(|(_, model)| model).collect(), aliases)
}

/// The model that stands for those that are not configured. Nothing is known of their tokenizers, so that what is counted is an estimate.
pub fn implicit() -> Option<Model> {
    let (_, encoding) = *Encoding::ALL.first()?;
    Some(Model {
        name: "*".to_owned(),
        is_implicit: true,
        encoding,
        approximate: true,
        output_expect: OUTPUT_EXPECT,
        output_max: None,
        output_key: "max_tokens",
        context: None,
        price: Price::default(),
        media: Flat::default(),
        versions: Vec::new(),
        routing: None,
        suspended: false,
        replica: Figures::default(),
        cold_start: None,
        ceiling: None,
        ceiling_mode: Mode::Enforce,
        fallback: None,
        falls_back_when_full: false,
        guard: None,
        place: 0,
        series: 0,
        breaker: None,
    })
}

fn model(problems: &mut Problems, i: usize, raw: raw::Model) -> Option<Model> {
    let path = format!("models[{i}]");
    if raw.name != "*" {
        problems.name(format!("{path}.name"), &raw.name);
    }
    let (encoding, approximate) = encoding(problems, &path, raw.tokenizer.as_ref());
    if raw.output.max == Some(0) {
        problems.problem(format!("{path}.output.max"), "0 leaves no output; write 1 or more, or leave it out");
    }
    let pending = raw.pending.unwrap_or_default();
    for (key, value) in [("ceiling", pending.ceiling), ("perReplica", pending.per_replica)] {
        if value == Some(0) {
            problems.problem(format!("{path}.pending.{key}"), "0 tokens; write 1 or more, or leave it out");
        }
    }
    let falls_back = pending.when_full == Some(raw::WhenFull::Fallback);
    if falls_back && raw.fallback.is_none() {
        problems.problem(format!("{path}.fallback"), "missing; name the model to serve when this one is full");
    }
    let has_breaker = raw.breaker.is_some();
    let replica = replica(problems, &format!("{path}.replica"), &raw.replica, Figures::default());
    let said = raw.cold_start.map(|raw| cold_start::said(problems, &format!("{path}.coldStart"), raw));
    let price = price(problems, &format!("{path}.price"), &raw.price);
    let is_pinned = raw.owns == Some(raw::Owns::Pin);
    let by = WhoServes { active: raw.active.as_deref(), is_pinned };
    let versions = versions(problems, &path, raw.versions, by, (price, replica), said.as_ref());
    let chosen = routing::Said {
        sticky: raw.sticky,
        choosers: raw.choosers,
        active: raw.active,
        rules: raw.rules,
        shadow: raw.shadow,
        is_pinned,
        price,
        has_fallback: raw.fallback.is_some(),
    };
    let routing = routing(problems, &path, chosen, &versions);
    let weighs_fallbacks = routing.as_ref().is_some_and(|routing| routing.weighs_fallbacks);
    let guard = raw.guard.and_then(|raw| guard(problems, &format!("{path}.guard"), raw));
    if guard.is_some() && versions.len() < 2 {
        let text = format!("{path}.guard has no effect: the model has no second version; add one under versions");
        problems.notices.push(text);
    }
    let breaker = raw.breaker.map(|breaker| mode(breaker.mode));
    let alone = if is_pinned { Some("which version serves is the route's (owns: pin)") } else { None };
    let alone = alone.or((versions.len() < 2).then_some("the model has no second version"));
    if let (Some(Mode::Enforce), Some(alone), None) = (breaker, alone, &raw.fallback) {
        let what = "steers nothing, and only shows what fails";
        problems.notices.push(format!("{path}.breaker {what}: {alone}, and no fallback; name a model under fallback"));
    }
    Some(Model {
        encoding: encoding?,
        is_implicit: false,
        approximate,
        output_expect: raw.output.expect.map_or(OUTPUT_EXPECT, Tokens),
        output_max: raw.output.max.map(Tokens),
        output_key: match raw.output.key {
            Some(raw::OutputKey::MaxCompletionTokens) => "max_completion_tokens",
            Some(raw::OutputKey::MaxTokens) | None => "max_tokens",
        },
        context: raw.output.context.map(Tokens),
        price,
        media: flat(problems, &path, &raw.media),
        routing,
        suspended: raw.suspended,
        replica,
        cold_start: match versions.as_slice() {
            [] => cold_start::of(problems, &format!("{path}.coldStart"), None, said.as_ref()),
            _ => None,
        },
        ceiling: pending.ceiling.map(Tokens),
        ceiling_mode: mode(pending.mode),
        fallback: raw.fallback.filter(|_| falls_back || has_breaker || weighs_fallbacks),
        falls_back_when_full: falls_back,
        guard: guard.filter(|_| versions.len() > 1),
        place: 0,
        series: 0,
        breaker,
        name: raw.name,
        versions,
    })
}

/// The versions.
fn versions(
    problems: &mut Problems,
    path: &str,
    raw: Vec<raw::Version>,
    by: WhoServes<'_>,
    (price_of_model, figures_of_model): (Price, Figures),
    said: Option<&Said>,
) -> Vec<Version> {
    problems.count(&format!("{path}.versions"), raw.len(), VERSIONS_MAX);
    let named: Vec<_> = raw.iter().map(|version| (version.name.clone(), version.weight)).collect();
    let weights = weights(problems, path, by, &named);
    let mut versions: Vec<Version> = Vec::new();
    let mut inherits = 0usize;
    for ((j, version), weight) in raw.into_iter().enumerate().zip(weights) {
        let raw::Version {
            name,
            model,
            price: own_price,
            bounds,
            cluster,
            replica: figures,
            cold_start: own,
            weight: _,
        } = version;
        let price_at = format!("{path}.versions[{j}].price");
        let price = own_price.map_or(price_of_model, |own| price(problems, &price_at, &own));
        problems.name(format!("{path}.versions[{j}].name"), &name);
        if versions.iter().any(|other| other.name == name) {
            problems.problem(format!("{path}.versions[{j}].name"), format!("{name:?} is used twice in this model"));
        }
        let replica = replica(problems, &format!("{path}.versions[{j}].replica"), &figures, figures_of_model);
        let at = format!("{path}.versions[{j}].coldStart");
        inherits = inherits.saturating_add(usize::from(own.as_ref().is_none_or(|own| own.cluster.is_none())));
        let own = own.map(|raw| cold_start::said(problems, &at, raw));
        let cold_start = cold_start::of(problems, &at, own, said);
        let bounds = Bounds {
            pending: bounds.pending_tokens.map(Tokens),
            oldest_wait: bounds.oldest_wait_ms.map(|ms| Millis(ms).to_nanos()),
            ttft: bounds.ttft_ms.map(|ms| Millis(ms).to_nanos()),
        };
        versions.push(Version { name, model, weight, price, bounds, cluster, replica, cold_start });
    }
    cold_start::shared(problems, &format!("{path}.coldStart"), said, inherits);
    versions
}

/// Whether following the fallbacks from a model ends.
fn fallback(problems: &mut Problems, i: usize, model: &Model, models: &[(usize, Model)]) {
    let mut at = model;
    for _ in 0..models.len() {
        let Some(next) = &at.fallback else { return };
        match models.iter().map(|(_, known)| known).find(|known| known.name == *next && known.name != "*") {
            Some(known) => at = known,
            None => {
                let what = format!("{next:?} is not a configured model; use one of models[].name");
                return problems.problem(format!("models[{i}].fallback"), what);
            }
        }
    }
    problems.problem(format!("models[{i}].fallback"), "leads back to the model itself; let the last one shed");
}

/// The model's encoding, the module's first one by default, and whether counts with it are estimates.
fn encoding(problems: &mut Problems, path: &str, raw: Option<&raw::Tokenizer>) -> (Option<Encoding>, bool) {
    let first = Encoding::ALL.first().map(|(_, encoding)| *encoding);
    let Some((name, approximate)) = raw.map(raw::Tokenizer::name) else { return (first, false) };
    let encoding = Encoding::named(name);
    if encoding.is_none() {
        let known = Encoding::ALL.map(|(name, _)| name).join(", ");
        let path = if approximate { format!("{path}.tokenizer.like") } else { format!("{path}.tokenizer") };
        problems.problem(path, format!("{name:?} is not built into this module; write one of {known}"));
    }
    (encoding.or(first), approximate)
}

/// What a replica does; `otherwise` where that is not said.
fn replica(problems: &mut Problems, path: &str, raw: &raw::Replica, otherwise: Figures) -> Figures {
    let mut read = |key: &str, given: Option<f64>, otherwise: Option<u64>| {
        let Some(rate) = given else { return otherwise };
        if !(1.0..=1e9).contains(&rate) {
            let what =
                format!("{rate} is no rate; write tokens per second, such as 2000, or leave it out to have it learnt");
            problems.problem(format!("{path}.{key}"), what);
            return None;
        }
        Some(rate.round() as u64)
    };
    Figures {
        prefill: read("prefillTokensPerSecond", raw.prefill_tokens_per_second, otherwise.prefill),
        decode: read("decodeTokensPerSecond", raw.decode_tokens_per_second, otherwise.decode),
    }
}

fn flat(problems: &mut Problems, path: &str, raw: &raw::Media) -> Flat {
    let mut read = |key: &str, tokens: Option<u64>| {
        if tokens == Some(0) {
            problems.problem(format!("{path}.media.{key}"), "0 tokens; write 1 or more, or leave it out");
        }
        tokens.map(Tokens)
    };
    Flat {
        image: read("image", raw.image),
        audio: read("audio", raw.audio),
        video: read("video", raw.video),
        file: read("file", raw.file),
    }
}

fn price(problems: &mut Problems, path: &str, raw: &raw::Price) -> Price {
    let mut read = |key: &str, dollars: f64| {
        if !(0.0..=1e6).contains(&dollars) {
            let what = format!("{dollars} is not a price; write US dollars for a million tokens");
            problems.problem(format!("{path}.{key}"), what);
            return 0;
        }
        // From US dollars for a million tokens to billionths of a dollar for one.
        (dollars * 1000.0).round() as u64
    };
    Price {
        input: read("input", raw.input),
        cached: read("cached", raw.cached.unwrap_or(raw.input)),
        output: read("output", raw.output),
    }
}
