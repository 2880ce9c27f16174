//! Feedback: where callers say what they think of answers.

use penstock_dialects::Target;
use penstock_units::Nanos;

use super::checked::{Feedback, Model};
use super::problems::Problems;
use super::raw;
use crate::hash::digest;

const PATH: &str = "/penstock/feedback";
const AGE_MAX: Nanos = Nanos(24 * 3_600 * Nanos::SECOND.0);
const NEGATIVE_BELOW: f64 = 0.5;
const KEY_MIN: usize = 16;

/// `feedback`
pub fn feedback(problems: &mut Problems, raw: Option<raw::Feedback>, models: &[Model]) -> Option<Feedback> {
    let watches = |model: &&Model| model.guard.as_ref().is_some_and(|guard| guard.watches_feedback());
    if raw.is_none() {
        for (i, _) in models.iter().enumerate().filter(|(_, model)| watches(model)) {
            let text = format!(
                "models[{i}].guard.feedback has no effect: nobody can say anything of answers; write feedback: {{}} beside models"
            );
            problems.notices.push(text);
        }
    }
    let raw::Feedback { path, key, max_age, negative_below } = raw?;
    let path = path.unwrap_or_else(|| PATH.to_owned());
    let is_path = path.starts_with('/') && path.len() > 1 && !path.contains(['?', '#', '%', '*', ' ']);
    let is_free = matches!(Target::of(b"POST", path.as_bytes(), &[]), Target::Other(_));
    if !is_path || !is_free {
        problems.problem("feedback.path", format!("{path:?} is not a path of its own; write one such as {PATH}"));
    }
    if let Some(short) = key.as_ref().filter(|key| key.len() < KEY_MIN) {
        let what = format!(
            "{} characters are not enough; write {KEY_MIN} or more, as openssl rand -hex 16 gives",
            short.len()
        );
        problems.problem("feedback.key", what);
    }
    let negative_below = negative_below.unwrap_or(NEGATIVE_BELOW);
    if !(-1.0..=1.0).contains(&negative_below) {
        problems
            .problem("feedback.negativeBelow", format!("{negative_below} is out of range; write -1 to 1, such as 0.5"));
    }
    let age_max = max_age.map_or(Some(AGE_MAX), |text| problems.duration("feedback.maxAge".to_owned(), &text));
    Some(Feedback { path, key: key.map(|key| digest(key.as_bytes())), age_max: age_max?, negative_below })
}
