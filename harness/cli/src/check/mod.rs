//! `penstock check`: what is wrong with manifests, values, Envoy files and configurations, before they are applied.
//!
//! Documents are [gathered](gather) from files, folders and kustomizations; what is applied together is a [`Set`]; the
//! [rules] are functions from a set to [findings](finding::Findings). What the configuration may say is not written here again: its own
//! parser, in `penstock-exchange`, says it.

mod codes;
mod document;
mod finding;
mod gather;
mod rules;
mod set;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use serde_json::json;

use codes::{CODES, Level, code};
use finding::{Finding, Findings};
use gather::Gathered;
use penstock_document::At;
use set::Set;

/// The page that explains every code.
const PAGE: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/checks.md"));

/// How findings are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// A line for each.
    Text,
    /// One JSON document.
    Json,
}

/// Options of `penstock check`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  penstock check istio/ my-values.yaml
  penstock check --json --strict deploy/
  penstock check --explain PS101")]
pub struct Arguments {
    /// Files, folders, kustomizations; - is standard input. What is given is checked as what is applied together.
    #[arg(required_unless_present_any = ["list", "explain"])]
    paths: Vec<PathBuf>,
    /// How to write what is wrong.
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
    /// Writes JSON, as `--format json` does.
    #[arg(long, conflicts_with = "format")]
    json: bool,
    /// Takes warnings for errors.
    #[arg(long)]
    strict: bool,
    /// Lists all codes.
    #[arg(long, conflicts_with_all = ["paths", "explain"])]
    list: bool,
    /// Says what a code means, why, and how to mend it.
    #[arg(long, value_name = "CODE", conflicts_with = "paths")]
    explain: Option<String>,
}

/// Checks, and prints what is wrong.
///
/// # Errors
/// How much is wrong, or that there is no such code.
pub fn run(arguments: &Arguments) -> Result<(), String> {
    if arguments.list {
        print!("{}", list());
        return Ok(());
    }
    if let Some(id) = &arguments.explain {
        println!("{}", explain(id)?);
        return Ok(());
    }
    let found = check(&arguments.paths);
    match if arguments.json { Format::Json } else { arguments.format } {
        Format::Text => found.all().for_each(|finding| println!("{}", finding.line_of_text())),
        Format::Json => {
            let all: Vec<_> = found.all().map(Finding::json).collect();
            let (errors, warnings) = (found.count(Level::Error), found.count(Level::Warning));
            println!("{:#}", json!({"findings": all, "errors": errors, "warnings": warnings}));
        }
    }
    verdict(&found, arguments.strict)
}

/// The chart's values that a file has.
///
/// # Errors
/// What is wrong with the file, as the findings say it.
pub fn values(file: &Path) -> Result<At, String> {
    let Gathered { common, findings, .. } = gather::gather(&[file.to_owned()]);
    if let Some(finding) = findings.all().find(|finding| finding.level() == Level::Error) {
        return Err(finding.line_of_text());
    }
    let values = common.into_iter().find(|document| document.kind == document::Kind::Values);
    values
        .map(|document| document.root)
        .ok_or_else(|| format!("{}: there is no `config` of Penstock's in it", file.display()))
}

fn verdict(found: &Findings, strict: bool) -> Result<(), String> {
    let (errors, warnings) = (found.count(Level::Error), found.count(Level::Warning));
    if errors == 0 && (warnings == 0 || !strict) {
        return Ok(());
    }
    let first =
        found.all().find(|finding| strict || finding.level() == Level::Error).map_or("CODE", |finding| finding.code);
    let count = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
    let counts = format!("{}, {}", count(errors, "error"), count(warnings, "warning"));
    Err(format!("{counts}; `penstock check --explain {first}` says more"))
}

/// Everything that is wrong with what is applied together.
fn check(paths: &[PathBuf]) -> Findings {
    let Gathered { common, alternatives, mut findings, .. } = gather::gather(paths);
    let alternatives = if alternatives.is_empty() { vec![Vec::new()] } else { alternatives };
    let mut is_ours = false;
    let mut of_each = Vec::new();
    for alternative in alternatives {
        let own: BTreeSet<Rc<str>> = alternative.iter().map(|document| document.root.file.clone()).collect();
        let documents = common.iter().cloned().chain(alternative).collect();
        let mut found = Findings::default();
        let set = Set::new(documents, &mut found);
        if set.is_ours() {
            is_ours = true;
            rules::all(&set, &mut found);
        }
        of_each.push((own, found));
    }
    findings.extend(of_any(&of_each));
    if !is_ours && findings.is_empty() {
        let files = paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ");
        let first = paths.first().map_or_else(String::new, |path| path.display().to_string());
        findings.say("PS006", &At::file(first.into()), &[("files", &files)]);
    }
    findings
}

/// What is wrong in an alternative's own files, and in common ones where no alternative makes it right.
fn of_any(each: &[(BTreeSet<Rc<str>>, Findings)]) -> Vec<Finding> {
    let keys: Vec<BTreeSet<_>> = each.iter().map(|(_, found)| found.all().map(Finding::place).collect()).collect();
    let mut all = Vec::new();
    for (i, (own, found)) in each.iter().enumerate() {
        // The fix may differ: what is common is said once, as the first one has it.
        let is_common = |finding: &Finding| i == 0 && keys.iter().all(|keys| keys.contains(&finding.place()));
        let kept = found.all().filter(|finding| own.contains(finding.file.as_str()) || is_common(finding));
        all.extend(kept.cloned());
    }
    all
}

fn list() -> String {
    let line = |code: &codes::Code| {
        let retired = if code.is_retired { " (retired)" } else { "" };
        format!("{} {:7} {}{retired}\n", code.id, code.level.word(), code.title)
    };
    CODES.iter().map(line).collect()
}

/// The page's section on a code.
fn explain(id: &str) -> Result<String, String> {
    let code = code(id).ok_or_else(|| format!("there is no code {id:?}; `penstock check --list` has all"))?;
    let text = section(code.id).unwrap_or_default();
    Ok(format!("{} ({}): {}\n\n{}", code.id, code.level.word(), code.title, text.trim()))
}

/// What stands under the heading that begins with the code.
fn section(id: &str) -> Option<&'static str> {
    let sections = PAGE.split("\n### ").skip(1);
    let body = sections.into_iter().find_map(|section| section.strip_prefix(id))?;
    let (_, text) = body.split_once('\n')?;
    Some(text.split("\n## ").next().unwrap_or(text))
}
