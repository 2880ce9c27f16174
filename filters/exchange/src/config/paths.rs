//! Paths: what passes besides the APIs of models.

use penstock_dialects::{Target, normal};

use super::checked::paths::{PathPattern, Paths};
use super::checked::policy::Policy;
use super::problems::{Problems, mode};
use super::raw;

/// `paths`
pub fn paths(problems: &mut Problems, raw: Option<raw::Paths>, prefixes: &[String], has_models: bool) -> Paths {
    let is_configured = raw.is_some() || has_models;
    if raw.is_none() && has_models {
        let what = "requests that are neither to an API's own path nor GET, HEAD or OPTIONS are refused (404)";
        problems.notices.push(format!("paths is not set: {what}; name others under paths.allow"));
    }
    let raw = raw.unwrap_or_default();
    let other = match raw.other {
        Some(raw::Policy::Pass) => Policy::Pass,
        Some(raw::Policy::Refuse) | None => Policy::Refuse,
    };
    let allow = patterns(problems, "paths.allow", &raw.allow, prefixes);
    let public = patterns(problems, "paths.public", &raw.public, prefixes);
    Paths { allow, public, other, mode: mode(raw.mode), is_configured }
}

fn patterns(problems: &mut Problems, path: &str, raw: &[String], prefixes: &[String]) -> Vec<PathPattern> {
    let mut read = |(i, text): (usize, &String)| {
        let pattern = PathPattern::new(text);
        let at = format!("{path}[{i}]");
        match &pattern {
            None => problems
                .problem(at, format!("{text:?} is not a path; write /v1/files, or /v1/files/* for all below it")),
            Some(_) if matches!(Target::of(b"POST", text.as_bytes(), prefixes), Target::Like(_)) => {
                problems.problem(at, format!("{text:?} reads like an API's own path; write it as the API does"));
            }
            Some(_) => {}
        }
        pattern
    };
    raw.iter().enumerate().filter_map(&mut read).collect()
}

/// `pathPrefixes`
pub fn prefixes(problems: &mut Problems, raw: &[String]) {
    for (i, prefix) in raw.iter().enumerate() {
        if prefix == "/" || normal(prefix.as_bytes()).is_none_or(|form| form != prefix.to_ascii_lowercase()) {
            let what = format!("{prefix:?} must start with a slash and not end with one, as in /openai");
            problems.problem(format!("pathPrefixes[{i}]"), what);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn has(pattern: &str, path: &str) -> bool {
        let form = normal(path.as_bytes());
        form.is_some_and(|form| PathPattern::new(pattern).unwrap().has(path.as_bytes(), &form))
    }

    #[test]
    fn a_path_is_open_by_its_name_or_below_one() {
        for (pattern, path, open) in [
            ("/v1/files", "/v1/files", true),
            ("/v1/files", "/v1/files?purpose=batch", true),
            ("/v1/files", "/v1/files/", false),
            ("/v1/files", "/v1/filesystem", false),
            ("/v1/files", "/V1/files", false),
            ("/v1/files", "//v1/files", false),
            ("/v1/files/*", "/v1/files/a/b%20c", true),
            ("/v1/files/*", "/v1/files", false),
            ("/v1/files/*", "/v1/files/../audio", false),
            ("/v1/files/*", "/v1/files/%2e%2e/audio", false),
            ("/v1/files/*", "/v1/files/..;/audio", false),
            ("/v1/files/*", "/v1/audio/../files/a", false),
            ("/v1/files/*", "/v1/files/a%2fb", true),
            ("/v1/files/*", "/v1/files/a?x=/../..", true),
            ("/v1/Files/*", "/v1/Files/A", true),
            ("/*", "/anything", true),
        ] {
            assert_eq!(has(pattern, path), open, "{pattern} {path}");
        }
    }

    #[test]
    fn a_pattern_is_a_plain_path() {
        for text in
            ["", "v1", "*", "/v1/*/x", "/v1*", "/v1//x", "/v1/../x", "/v1/x/", "/v1/%61", "/v1/x?y", "/v1/x;y", "/*/*"]
        {
            assert_eq!(PathPattern::new(text), None, "{text}");
        }
    }
}
