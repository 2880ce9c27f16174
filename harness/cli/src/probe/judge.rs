//! Whether an answer is what it has to be, and whether a version is.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use super::file::{Expect, Golden, Plan};
use crate::canary::statistics::{Estimate, difference, share};

/// What came back.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    pub status: u16,
    /// Who says that it served.
    pub version: Option<String>,
    /// The gateway refused, by this limit or otherwise: no version answered.
    pub refused: Option<String>,
    pub took: Duration,
    pub body: String,
    /// What feedback names it by.
    pub id: Option<String>,
}

impl Answer {
    /// The text, of a chat completion.
    fn text(&self) -> Option<String> {
        let body: Value = serde_json::from_str(&self.body).ok()?;
        body["choices"][0]["message"]["content"].as_str().map(str::to_owned)
    }

    fn finish(&self) -> Option<String> {
        let body: Value = serde_json::from_str(&self.body).ok()?;
        body["choices"][0]["finish_reason"].as_str().map(str::to_owned)
    }
}

/// What is wrong with an answer; nothing where all is well. Says nothing of its text: that may be private.
pub fn wrong(expect: &Expect, answer: &Answer) -> Vec<String> {
    if answer.status != expect.status {
        return vec![format!("status {}", answer.status)];
    }
    let mut wrong = Vec::new();
    if let Some(within) = expect.within.filter(|within| answer.took > *within) {
        wrong.push(format!("took {} ms, not {}", answer.took.as_millis(), within.as_millis()));
    }
    // What is to fail has no text.
    if expect.status != 200 {
        return wrong;
    }
    let Some(text) = answer.text() else {
        wrong.push("no text".to_owned());
        return wrong;
    };
    let finish = answer.finish();
    if let Some(wanted) = expect.finish.as_ref().filter(|wanted| finish.as_ref() != Some(wanted)) {
        wrong.push(format!("finish {}, not {wanted}", finish.as_deref().unwrap_or("none")));
    }
    let (characters, (least, most)) = (text.trim().chars().count(), expect.characters);
    if characters < least || characters > most {
        wrong.push(format!("{characters} characters"));
    }
    if expect.matches.as_ref().is_some_and(|pattern| !pattern.is_valid(&Value::String(text.clone()))) {
        wrong.push("no match".to_owned());
    }
    match serde_json::from_str::<Value>(text.trim()) {
        Err(_) if expect.is_json => wrong.push("no JSON".to_owned()),
        Ok(value) if expect.schema.as_ref().is_some_and(|schema| !schema.is_valid(&value)) => {
            wrong.push("not as the schema has it".to_owned());
        }
        Ok(_) | Err(_) => {}
    }
    wrong
}

/// What was seen of one version.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    pub answers: u32,
    pub failed: u32,
    /// How often it gave each reason, by probe.
    pub reasons: BTreeMap<(String, String), u32>,
    /// Answers that were compared with a golden one, and those that differed.
    pub compared: u32,
    pub differed: u32,
    /// The gateway refused it, or another version served it.
    pub refused: BTreeMap<String, u32>,
    pub elsewhere: BTreeMap<String, u32>,
    pub milliseconds: Vec<u64>,
}

/// All that was seen, by version.
#[derive(Debug)]
pub struct Trial<'a> {
    plan: &'a Plan,
    pub seen: Vec<Seen>,
    /// What the first version answered first, by probe.
    first: Vec<Option<String>>,
}

impl<'a> Trial<'a> {
    pub fn new(plan: &'a Plan) -> Self {
        Self { plan, seen: vec![Seen::default(); plan.versions.len()], first: vec![None; plan.probes.len()] }
    }

    /// Takes an answer to the books. Whether it is well, and not another than the golden one: the guard sets the versions against each
    /// other, so it sees beyond how often the first differs from itself. Nothing where it says nothing of the version.
    pub fn take(&mut self, version: usize, probe: usize, answer: &Answer) -> Option<bool> {
        let (Some(wanted), Some(of)) = (self.plan.versions.get(version), self.plan.probes.get(probe)) else {
            return None;
        };
        let seen = self.seen.get_mut(version)?;
        if let Some(why) = &answer.refused {
            *seen.refused.entry(why.clone()).or_default() += 1;
            return None;
        }
        if let Some(other) = answer.version.as_ref().filter(|other| *other != wanted) {
            *seen.elsewhere.entry(other.clone()).or_default() += 1;
            return None;
        }
        seen.answers += 1;
        seen.milliseconds.push(u64::try_from(answer.took.as_millis()).unwrap_or(u64::MAX));
        let wrong = wrong(&of.expect, answer);
        for reason in &wrong {
            *seen.reasons.entry((of.name.clone(), reason.clone())).or_default() += 1;
        }
        if !wrong.is_empty() {
            seen.failed += 1;
        }
        let mut is_another = false;
        if let (Some(golden), Some(text)) = (&of.golden, answer.text()) {
            let first = self.first.get_mut(probe)?;
            let reference = match golden {
                Golden::Text(text) => Some(text.clone()),
                Golden::First => first.clone(),
            };
            match reference {
                Some(reference) => {
                    seen.compared += 1;
                    is_another = plain(&reference) != plain(&text);
                    seen.differed += u32::from(is_another);
                }
                // It is what the others are compared with, so it says nothing itself.
                None if version == 0 => *first = Some(text),
                None => {}
            }
        }
        Some(wrong.is_empty() && !is_another)
    }

    /// Whether each version may be said to be well.
    pub fn verdicts(&self) -> Vec<Verdict> {
        let golden = |seen: &Seen| share(f64::from(seen.differed), f64::from(seen.compared));
        let floor = self.seen.first().and_then(golden);
        let verdict = |(number, seen): (usize, &Seen)| {
            let failed = share(f64::from(seen.failed), f64::from(seen.answers));
            let differs = golden(seen);
            let beyond = differs.zip(floor).filter(|_| number > 0).map(|(own, floor)| difference(own, floor));
            let is_beyond = beyond.and_then(|beyond| beyond.interval).is_some_and(|(low, _)| low > 0.0);
            let is_well = failed.is_some_and(|failed| failed.value <= self.plan.failures) && !is_beyond;
            Verdict { failed, differs, is_beyond, is_well }
        };
        self.seen.iter().enumerate().map(verdict).collect()
    }
}

/// What is to be said of a version.
#[derive(Clone, Copy, Debug)]
pub struct Verdict {
    /// The share of its answers that are not as they have to be. `None`: it gave none.
    pub failed: Option<Estimate>,
    /// The share of its answers that are not the golden ones.
    pub differs: Option<Estimate>,
    /// Whether that is more than the first version differs from itself, beyond chance.
    pub is_beyond: bool,
    pub is_well: bool,
}

/// A text without what nobody sees: case, and how much space there is.
fn plain(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::json;

    use super::*;

    fn plan(expect: &str) -> Plan {
        let text = format!(
            "gateway: http://gateway\nmodel: chat\noverride: x-version\nversions: [stable, canary]\nprobes:\n\
             - {{name: one, prompt: x, golden: true, expect: {{{expect}}}}}\n"
        );
        Plan::read(Path::new("probes.yaml"), &text, None).unwrap()
    }

    fn answer(text: &str) -> Answer {
        let body = json!({"choices": [{"message": {"content": text}, "finish_reason": "stop"}]});
        Answer { status: 200, body: body.to_string(), took: Duration::from_millis(50), ..Answer::default() }
    }

    #[test]
    fn every_expectation_can_fail_and_can_hold() {
        for (expect, good, bad, reason) in [
            ("matches: paris", "it is paris", "it is rome", "no match"),
            ("json: true", "{\"a\": 1}", "{\"a\": ", "no JSON"),
            ("schema: {required: [a]}", "{\"a\": 1}", "{\"b\": 1}", "not as the schema has it"),
            ("schema: {required: [a]}", "{\"a\": 1}", "a", "no JSON"),
            ("maxCharacters: 3", "abc", "abcd", "4 characters"),
            ("minCharacters: 3", "abc", "ab", "2 characters"),
            ("", "a", "  ", "0 characters"),
        ] {
            let plan = plan(expect);
            assert_eq!(wrong(&plan.probes[0].expect, &answer(good)), [""; 0], "{expect}");
            assert_eq!(wrong(&plan.probes[0].expect, &answer(bad)), [reason], "{expect}");
        }
        let strict = plan("within: 40ms, finish: length");
        assert_eq!(wrong(&strict.probes[0].expect, &answer("a")), ["took 50 ms, not 40", "finish stop, not length"]);
        let refused = plan("status: 400");
        assert_eq!(wrong(&refused.probes[0].expect, &Answer { status: 400, ..Answer::default() }), [""; 0]);
        assert_eq!(wrong(&refused.probes[0].expect, &answer("a")), ["status 200"]);
        let broken = Answer { body: "{".to_owned(), ..answer("") };
        assert_eq!(wrong(&plan("").probes[0].expect, &broken), ["no text"]);
    }

    /// A stable version that differs from itself in a third of its answers: as much is no fault of the canary's, and more is.
    #[test]
    fn a_version_has_to_differ_more_than_the_other_from_itself() {
        let plan = plan("");
        for (canary, is_well) in [(0, true), (10, true), (12, true), (28, false)] {
            let mut trial = Trial::new(&plan);
            trial.take(0, 0, &answer("Paris."));
            for number in 0..30 {
                let of = |limit| answer(if number < limit { "Lyon." } else { " paris. " });
                trial.take(0, 0, &of(10));
                trial.take(1, 0, &of(canary));
            }
            assert_eq!((trial.seen[0].compared, trial.seen[0].differed), (30, 10));
            let verdicts = trial.verdicts();
            assert!(verdicts[0].is_well && verdicts[1].is_well == is_well, "{canary}: {verdicts:?}");
        }
    }

    #[test]
    fn what_another_version_served_or_nobody_says_nothing_of_it() {
        let plan = plan("matches: never");
        let mut trial = Trial::new(&plan);
        assert_eq!(trial.take(1, 0, &Answer { version: Some("stable".to_owned()), ..answer("a") }), None);
        assert_eq!(trial.take(1, 0, &Answer { refused: Some("limit tpm".to_owned()), ..answer("a") }), None);
        assert_eq!(trial.seen[1].answers, 0);
        assert!(!trial.verdicts()[1].is_well, "who gave no answer has not shown anything");
        assert_eq!(trial.take(1, 0, &Answer { version: Some("canary".to_owned()), ..answer("a") }), Some(false));
        assert_eq!(trial.seen[1].failed, 1);
    }
}
