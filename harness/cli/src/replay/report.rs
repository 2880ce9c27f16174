//! What came of a replay: figures of one configuration, or of two side by side.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use penstock_exchange::{Facts, Outcome};
use serde_json::{Value, json};

use super::lines::{Line, Lines, Missing};

/// What one configuration made of the requests.
#[derive(Debug, Default)]
pub struct Run {
    /// The configuration's file.
    pub file: String,
    /// What is to be known besides.
    pub notes: Vec<String>,
    pub tenants: BTreeMap<String, Tenant>,
    pub versions: BTreeMap<String, Version>,
    /// By reason: requests of which nothing is known.
    pub failures: BTreeMap<String, usize>,
    pub microdollars: u64,
    /// Calls to services that are not there.
    pub unanswered: usize,
    /// Requests that the filter counted differently from what is recorded: how many, and by how many tokens in sum.
    pub miscounted: (usize, i128),
}

/// What became of the requests of one tenant.
#[derive(Debug, Default)]
pub struct Tenant {
    pub admitted: usize,
    /// By limit.
    pub limited: BTreeMap<String, Limited>,
    /// By how it is refused otherwise: `shed`, `denied`, `client_error`.
    pub refused: BTreeMap<&'static str, usize>,
    /// Admitted, and refused if `mode` were `enforce`.
    pub would: usize,
}

/// What one limit refused.
#[derive(Debug, Default)]
pub struct Limited {
    pub requests: usize,
    /// What clients were told, in seconds: the shortest and the longest; none where it can never be.
    pub retry_after: Option<(u64, u64)>,
    /// Told that they never fit.
    pub never: usize,
}

/// What went to one version.
#[derive(Debug, Default)]
pub struct Version {
    pub requests: usize,
    pub prompt: u64,
    pub output: u64,
    pub microdollars: u64,
}

impl Run {
    /// Of a request that is over.
    pub fn over(&mut self, line: &Line, facts: &Facts, went: bool, retry_after: Option<u64>) {
        let tenant = self.tenants.entry(line.tenant.clone().unwrap_or_else(|| "anonymous".into())).or_default();
        if facts.prompt_tokens.0 != line.prompt && facts.prompt_tokens.0 > 0 {
            self.miscounted.0 += 1;
            self.miscounted.1 += i128::from(facts.prompt_tokens.0) - i128::from(line.prompt);
        }
        if went {
            tenant.admitted += 1;
            tenant.would += usize::from(facts.would.is_some());
            let used = facts.used.unwrap_or_default();
            let version = self.version(format!("{}/{}", facts.model, facts.version.as_deref().unwrap_or("default")));
            version.requests += 1;
            version.prompt += used.prompt.0;
            version.output += used.completion.0;
            return;
        }
        match facts.refused {
            Some(Outcome::Limited) => {
                let by = tenant.limited.entry(facts.limit.clone().unwrap_or_default()).or_default();
                by.requests += 1;
                match retry_after {
                    Some(after) => {
                        let (least, most) = by.retry_after.unwrap_or((after, after));
                        by.retry_after = Some((least.min(after), most.max(after)));
                    }
                    None => by.never += 1,
                }
            }
            Some(outcome) => *tenant.refused.entry(outcome.label()).or_default() += 1,
            None => self.failed("neither sent on nor refused"),
        }
    }

    /// Of a request of which nothing is known.
    pub fn failed(&mut self, why: &str) {
        *self.failures.entry(why.to_owned()).or_default() += 1;
    }

    pub fn version(&mut self, name: String) -> &mut Version {
        self.versions.entry(name).or_default()
    }

    /// How many requests are over.
    pub fn played(&self) -> usize {
        self.admitted() + self.limited() + self.refused() + self.failures.values().sum::<usize>()
    }

    fn admitted(&self) -> usize {
        self.tenants.values().map(|tenant| tenant.admitted).sum()
    }

    fn limited(&self) -> usize {
        self.tenants.values().flat_map(|tenant| tenant.limited.values()).map(|limited| limited.requests).sum()
    }

    fn refused(&self) -> usize {
        self.tenants.values().flat_map(|tenant| tenant.refused.values()).sum()
    }
}

/// Everything, for programs.
pub fn in_json(lines: &Lines, runs: &[Run]) -> Value {
    let fields = |fields: &BTreeMap<&str, Missing>| -> Vec<Value> {
        let one = |(field, missing): (&&str, &Missing)| json!({"field": field, "lines": missing.lines, "firstLine": missing.first});
        fields.iter().map(one).collect()
    };
    json!({
        "lines": lines.all,
        "played": lines.requests.len(),
        "skipped": fields(&lines.skipped),
        "assumed": fields(&lines.assumed),
        "refusedWhenRecorded": lines.refused,
        "runs": runs.iter().map(run_in_json).collect::<Vec<_>>(),
    })
}

fn run_in_json(run: &Run) -> Value {
    let limited = |limited: &Limited| {
        let (least, most) = limited.retry_after.unzip();
        json!({"requests": limited.requests, "retryAfterMin": least, "retryAfterMax": most, "never": limited.never})
    };
    let tenants: BTreeMap<_, _> = run.tenants.iter().map(|(name, tenant)| {
        let limits: BTreeMap<_, _> = tenant.limited.iter().map(|(name, by)| (name, limited(by))).collect();
        (name, json!({"admitted": tenant.admitted, "limited": limits, "refused": tenant.refused, "would": tenant.would}))
    }).collect();
    let versions: BTreeMap<_, _> = run.versions.iter().map(|(name, version)| {
        let Version { requests, prompt, output, microdollars } = version;
        (name, json!({"requests": requests, "promptTokens": prompt, "outputTokens": output, "microdollars": microdollars}))
    }).collect();
    json!({
        "config": run.file,
        "admitted": run.admitted(),
        "limited": run.limited(),
        "refused": run.refused(),
        "failed": run.failures.values().sum::<usize>(),
        "failures": run.failures,
        "tenants": tenants,
        "versions": versions,
        "microdollars": run.microdollars,
        "unansweredCalls": run.unanswered,
        "countedDifferently": {"requests": run.miscounted.0, "tokens": i64::try_from(run.miscounted.1).unwrap_or(i64::MAX)},
        "notes": run.notes,
    })
}

/// How wide the names are, and each column.
const NAMES: usize = 38;
const COLUMN: usize = 20;

/// A table with a column for each configuration, and what is to be known of it.
pub fn in_words(lines: &Lines, runs: &[Run]) -> String {
    let mut text = String::new();
    let _ = writeln!(text, "{} lines, {} of them requests that are played\n", lines.all, lines.requests.len());
    row(&mut text, "", runs, |run| fitting(&run.file, COLUMN - 1));
    row(&mut text, "admitted", runs, |run| run.admitted().to_string());
    row(&mut text, "limited", runs, |run| run.limited().to_string());
    row(&mut text, "refused otherwise", runs, |run| run.refused().to_string());
    row(&mut text, "failed", runs, |run| run.failures.values().sum::<usize>().to_string());
    row(&mut text, "cost, in dollars", runs, |run| dollars(run.microdollars));
    for name in union(runs, |run| run.tenants.keys()) {
        let _ = writeln!(text, "\ntenant {}", fitting(&name, NAMES + COLUMN));
        let of = |run: &Run, get: &dyn Fn(&Tenant) -> usize| run.tenants.get(&name).map_or(0, get).to_string();
        row(&mut text, "  admitted", runs, |run| of(run, &|tenant| tenant.admitted));
        let limits = runs.iter().filter_map(|run| run.tenants.get(&name)).flat_map(|tenant| tenant.limited.keys());
        for limit in limits.collect::<BTreeSet<_>>() {
            let by = |run: &Run| run.tenants.get(&name).and_then(|tenant| tenant.limited.get(limit)).map(told);
            row(&mut text, &format!("  limited by {limit}"), runs, |run| {
                by(run).map_or("0".into(), |(count, _)| count)
            });
            row(&mut text, "    retry after", runs, |run| by(run).map_or("-".into(), |(_, after)| after));
        }
        let kinds = runs.iter().filter_map(|run| run.tenants.get(&name)).flat_map(|tenant| tenant.refused.keys());
        for kind in kinds.collect::<BTreeSet<_>>() {
            row(&mut text, &format!("  refused: {kind}"), runs, |run| {
                of(run, &|tenant| tenant.refused.get(kind).copied().unwrap_or(0))
            });
        }
        if runs.iter().filter_map(|run| run.tenants.get(&name)).any(|tenant| tenant.would > 0) {
            row(&mut text, "  would be refused if enforced", runs, |run| of(run, &|tenant| tenant.would));
        }
    }
    for name in union(runs, |run| run.versions.keys()) {
        let _ = writeln!(text, "\nversion {}", fitting(&name, NAMES + COLUMN));
        let of = |run: &Run, get: &dyn Fn(&Version) -> String| run.versions.get(&name).map_or("0".into(), get);
        row(&mut text, "  requests", runs, |run| of(run, &|version| share(version.requests, run.admitted())));
        row(&mut text, "  prompt tokens", runs, |run| of(run, &|version| version.prompt.to_string()));
        row(&mut text, "  output tokens", runs, |run| of(run, &|version| version.output.to_string()));
        row(&mut text, "  cost, in dollars", runs, |run| of(run, &|version| dollars(version.microdollars)));
    }
    notes(&mut text, lines, runs);
    text
}

fn notes(text: &mut String, lines: &Lines, runs: &[Run]) {
    let mut notes = Vec::new();
    for (field, missing) in &lines.skipped {
        notes.push(format!(
            "{} lines without {field} are not played; the first is line {}",
            missing.lines, missing.first
        ));
    }
    for (field, missing) in &lines.assumed {
        notes.push(format!(
            "{} lines without {field}, for which it is assumed; the first is line {}",
            missing.lines, missing.first
        ));
    }
    if lines.refused > 0 {
        notes
            .push(format!("{} were refused when they were recorded; their output is what was expected", lines.refused));
    }
    for run in runs {
        let mut say = |what: String| notes.push(format!("{}: {what}", fitting(&run.file, COLUMN)));
        let (requests, tokens) = run.miscounted;
        if requests > 0 {
            say(format!("{requests} prompts counted differently from the record, by {tokens:+} tokens in sum"));
        }
        if run.unanswered > 0 {
            say(format!("{} calls to a service that is not there", run.unanswered));
        }
        run.failures.iter().for_each(|(why, count)| say(format!("{count} failed: {why}")));
        run.notes.iter().for_each(|note| say(note.clone()));
    }
    if !notes.is_empty() {
        let _ = writeln!(text);
    }
    for note in notes {
        wrapped(text, &note);
    }
}

/// A note, in lines of a terminal.
fn wrapped(text: &mut String, note: &str) {
    let mut line = String::from("-");
    for word in note.split(' ') {
        if line.chars().count() + 1 + word.chars().count() > 80 {
            let _ = writeln!(text, "{line}");
            line = " ".to_owned();
        }
        let _ = write!(line, " {word}");
    }
    let _ = writeln!(text, "{line}");
}

fn row(text: &mut String, name: &str, runs: &[Run], value: impl Fn(&Run) -> String) {
    let mut line = format!("{:<NAMES$}", fitting(name, NAMES));
    runs.iter().for_each(|run| {
        let _ = write!(line, "{:>COLUMN$}", value(run));
    });
    let _ = writeln!(text, "{}", line.trim_end());
}

fn union<'a, K: Iterator<Item = &'a String>>(runs: &'a [Run], keys: impl Fn(&'a Run) -> K) -> BTreeSet<String> {
    runs.iter().flat_map(keys).cloned().collect()
}

fn told(by: &Limited) -> (String, String) {
    let after = match by.retry_after {
        Some((least, most)) if least == most => format!("{least} s"),
        Some((least, most)) => format!("{least} s to {most} s"),
        None => "never".to_owned(),
    };
    (by.requests.to_string(), after)
}

fn share(part: usize, all: usize) -> String {
    format!("{part} ({:.1} %)", part as f64 * 100.0 / all.max(1) as f64)
}

fn dollars(microdollars: u64) -> String {
    format!("{}.{:06}", microdollars / 1_000_000, microdollars % 1_000_000)
}

/// The end of a name that is too long, which tells more than its beginning; nothing that a terminal obeys.
fn fitting(name: &str, width: usize) -> String {
    let name: String = name.chars().map(|letter| if letter.is_control() { '?' } else { letter }).collect();
    let count = name.chars().count();
    if count <= width {
        return name;
    }
    format!("…{}", name.chars().skip(count - width + 1).collect::<String>())
}
