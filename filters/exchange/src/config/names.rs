//! Names of models, and what happens to names that lead to none.

use super::checked::names::{Door, Names};
use super::checked::policy::UnknownModel;
use super::problems::Problems;
use super::{Model, raw};

/// How many aliases a model may have.
pub const ALIASES_MAX: usize = 64;
/// How long an alias may be: as long as a model's name in a request.
const ALIAS_BYTES_MAX: usize = penstock_dialects::MODEL_BYTES_MAX;

/// The names of `models`, whose aliases are `aliases`, in the same order.
pub fn names(problems: &mut Problems, models: &[Model], aliases: &[(usize, Vec<String>)]) -> Names {
    let mut names = Names { rest: models.iter().position(|model| model.name == "*"), ..Names::default() };
    for (at, model) in models.iter().enumerate().filter(|(_, model)| model.name != "*") {
        names.exact.push((model.name.clone(), Door::To(at)));
    }
    names.exact.sort_by(|(a, _), (b, _)| a.cmp(b));
    // Twice the same name is told where the models are read.
    names.exact.dedup_by(|(a, _), (b, _)| a == b);
    for (at, (i, aliases)) in aliases.iter().enumerate() {
        problems.count(&format!("models[{i}].aliases"), aliases.len(), ALIASES_MAX);
        for (j, text) in aliases.iter().enumerate() {
            alias(&mut names, problems, &format!("models[{i}].aliases[{j}]"), text, at, models);
        }
    }
    names.prefixes.sort_by_key(|(prefix, _)| core::cmp::Reverse(prefix.len()));
    for version in models.iter().flat_map(|model| &model.versions).filter_map(|version| version.model.as_ref()) {
        if let Err(free) = names.place(version) {
            names.exact.insert(free, (version.clone(), Door::Closed));
        }
    }
    names
}

fn alias(names: &mut Names, problems: &mut Problems, path: &str, alias: &str, at: usize, models: &[Model]) {
    let (name, is_prefix) = alias.strip_suffix('*').map_or((alias, false), |prefix| (prefix, true));
    let is_own = models.get(at).is_some_and(|model| model.name == "*");
    if is_own || name.is_empty() {
        let what = format!("{alias:?} is not an alias; a model that is called \"*\" takes every other name");
        return problems.problem(path, what);
    }
    if alias.len() > ALIAS_BYTES_MAX || name.contains('*') || name.contains(char::is_control) {
        let what = format!(
            "{alias:?} is not an alias; write a name of at most {ALIAS_BYTES_MAX} bytes, or a prefix and one * at its end"
        );
        return problems.problem(path, what);
    }
    let known = if is_prefix {
        let known = names.prefixes.iter().find(|(known, _)| known == name).map(|(_, at)| *at);
        names.prefixes.push((name.to_owned(), at));
        known
    } else {
        match names.place(name) {
            Ok(known) => names.exact.get(known).and_then(|(_, door)| door.leads_to()),
            Err(free) => {
                names.exact.insert(free, (name.to_owned(), Door::To(at)));
                None
            }
        }
    };
    if let Some(known) = known.and_then(|known| models.get(known)) {
        let what = format!("{alias:?} already leads to the model {:?}; let each name lead to one model", known.name);
        problems.problem(path, what);
    }
}

/// What to do with models that are not configured, and what the operator is to be told of it.
pub fn unknown(problems: &mut Problems, raw: Option<raw::UnknownModel>, models: &[Model]) -> UnknownModel {
    use UnknownModel::{Observe, Pass, Refuse};
    let has_wildcard = models.iter().any(|model| model.name == "*");
    match raw {
        Some(raw::UnknownModel::Refuse) => Refuse,
        Some(raw::UnknownModel::Pass) => Pass,
        Some(raw::UnknownModel::Observe) => Observe,
        None if models.is_empty() => {
            let text =
                "no models are configured: whatever is asked for is counted as the model `other`, by an estimate";
            problems.notices.push(text.to_owned());
            Pass
        }
        None => {
            if !has_wildcard {
                let text = "unknownModel is not set: a model that is neither in models[].name nor in models[].aliases is refused (404); \
                            it passed uncounted before. Write unknownModel: refuse, pass or observe";
                problems.notices.push(text.to_owned());
            }
            Refuse
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    #[test]
    fn a_name_leads_to_one_model() {
        let config = |unknown: &str| {
            let text = r#"{"unknownModel":"UNKNOWN","models":[
                {"name":"chat","aliases":["gpt-4o","claude-*","llama-7"],
                    "versions":[{"name":"a","weight":1,"model":"llama-8"},{"name":"b","weight":1,"model":"llama-7"},
                        {"name":"c","weight":1,"model":"claude-x"},{"name":"d","weight":1,"model":"small"}]},
                {"name":"small","aliases":["claude-haiku-*","claude-opus"]}]}"#;
            Config::parse(text.replace("UNKNOWN", unknown).as_bytes()).unwrap()
        };
        for (unknown, other) in [("refuse", None), ("pass", Some("*")), ("observe", Some("*"))] {
            let config = config(unknown);
            for (name, model) in [
                ("chat", Some("chat")),
                ("gpt-4o", Some("chat")),
                ("gpt-4o-mini", other),
                ("claude-sonnet-4", Some("chat")),
                ("claude-", Some("chat")),
                ("claude", other),
                ("claude-haiku-4", Some("small")),
                ("claude-opus", Some("small")),
                ("claude-opus-4", Some("chat")),
                ("small", Some("small")),
                // A version's name is a way in only where somebody wrote it down as one, and a prefix does not.
                ("llama-7", Some("chat")),
                ("llama-8", None),
                ("claude-x", None),
                ("llama-8 ", other),
                ("Chat", other),
                ("*", other),
                ("claude-*", Some("chat")),
                ("", other),
                ("lora-of-llama-8", other),
            ] {
                assert_eq!(config.asked(name).map(|model| model.name.as_str()), model, "{unknown} {name}");
            }
        }
    }

    #[test]
    fn mistakes_in_aliases_are_told() {
        for (aliases, said) in [
            (r#"["other"]"#, r#"models[0].aliases[0]: "other" already leads to the model "other""#),
            (r#"["chat"]"#, r#"models[0].aliases[0]: "chat" already leads to the model "chat""#),
            (r#"["a","a"]"#, r#"models[0].aliases[1]: "a" already leads to the model "chat""#),
            (r#"["b-*"]"#, r#"models[1].aliases[0]: "b-*" already leads to the model "chat""#),
            (r#"["*"]"#, r#"models[0].aliases[0]: "*" is not an alias; a model that is called "*""#),
            (r#"["a*b"]"#, r#"models[0].aliases[0]: "a*b" is not an alias"#),
            (r#"["a**"]"#, r#"models[0].aliases[0]: "a**" is not an alias"#),
            (r#"[""]"#, r#"models[0].aliases[0]: "" is not an alias"#),
            (r#"["a\u0000"]"#, "models[0].aliases[0]: "),
        ] {
            let text = format!(
                r#"{{"models":[{{"name":"chat","aliases":{aliases}}},{{"name":"other","aliases":["b-*"]}},{{"name":"*"}}]}}"#
            );
            let errors = Config::parse(text.as_bytes()).unwrap_err().to_string();
            assert!(errors.contains(said), "{aliases}: {errors}");
        }
        let errors = Config::parse(br#"{"models":[{"name":"*","aliases":["a"]}]}"#).unwrap_err().to_string();
        assert!(errors.contains("models[0].aliases[0]"), "{errors}");
    }

    #[test]
    fn what_happens_to_other_models_is_told_where_nobody_said_it() {
        let notices = |text: &str| Config::parse(text.as_bytes()).unwrap().notices.join("\n");
        assert!(notices("{}").contains("counted as the model `other`"));
        assert!(notices(r#"{"models":[{"name":"chat"}]}"#).contains("unknownModel is not set"));
        for said in [r#"{"models":[{"name":"*"}]}"#, r#"{"unknownModel":"refuse","models":[{"name":"chat"}]}"#] {
            assert!(!notices(said).contains("unknownModel"), "{said}");
        }
    }
}
