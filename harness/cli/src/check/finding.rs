//! What is wrong, and how that is said.

use std::collections::BTreeSet;
use std::fmt::{Display, Write};

use penstock_document::at::At;
use serde_json::{Value, json};

use super::codes::{Code, Level, code};

/// One thing that is wrong at one place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// The file, as it was given or found.
    pub file: String,
    /// From 1.
    pub line: usize,
    /// Which rule.
    pub code: &'static str,
    /// Where in the document; empty for the file as a whole.
    pub path: String,
    /// What is wrong, with the value.
    pub message: String,
    /// What to write instead.
    pub mend: String,
}

impl Finding {
    /// Whether it is an error.
    pub fn level(&self) -> Level {
        code(self.code).map_or(Level::Error, |code| code.level)
    }

    /// Which fault it is: file, line, code and path.
    pub fn place(&self) -> (&str, usize, &str, &str) {
        (&self.file, self.line, self.code, &self.path)
    }

    /// One line.
    pub fn line_of_text(&self) -> String {
        let Self { file, line, code, path, message, mend } = self;
        let path = if path.is_empty() { String::new() } else { format!("{path}: ") };
        one_line(&format!("{file}:{line}: {} {code}: {path}{message}; {mend}", self.level().word()))
    }

    /// As an object.
    pub fn json(&self) -> Value {
        let Self { file, line, code, path, message, mend } = self;
        json!({"code": code, "level": self.level().word(), "file": file, "line": line, "path": path, "message": message, "fix": mend})
    }
}

/// What files say may hold what moves a terminal's cursor.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Gathers what is wrong, each thing once, in the order of files and lines.
#[derive(Debug, Default)]
pub struct Findings(BTreeSet<Finding>);

/// The arguments of a template.
pub type Arguments<'a> = [(&'a str, &'a dyn Display)];

impl Findings {
    /// The rule `id` is broken at this place.
    pub fn say(&mut self, id: &'static str, at: &At, arguments: &Arguments<'_>) {
        self.say_in_line(id, at, at.line, arguments);
    }

    /// As [`Self::say`], in another line.
    pub fn say_in_line(&mut self, id: &'static str, at: &At, line: usize, arguments: &Arguments<'_>) {
        let Some(Code { says, mend, .. }) = code(id) else {
            debug_assert!(false, "{id} is not in the table");
            return;
        };
        self.0.insert(Finding {
            file: at.file.to_string(),
            line,
            code: id,
            path: at.path.clone(),
            message: filled(says, arguments),
            mend: filled(mend, arguments),
        });
    }

    /// More of them.
    pub fn extend(&mut self, more: Vec<Finding>) {
        self.0.extend(more);
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = &Finding> {
        self.0.iter()
    }

    /// Whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many are of a level.
    pub fn count(&self, level: Level) -> usize {
        self.0.iter().filter(|finding| finding.level() == level).count()
    }
}

/// A template with its arguments in the places of their names.
fn filled(template: &str, arguments: &Arguments<'_>) -> String {
    const VALUE_MAX: usize = 300;
    let mut out = String::new();
    let mut rest = template;
    while let Some((before, behind)) = rest.split_once('{') {
        let (name, after) = behind.split_once('}').unwrap_or((behind, ""));
        out.push_str(before);
        let value = arguments.iter().find(|(known, _)| *known == name).map(|(_, value)| value);
        debug_assert!(value.is_some(), "{template:?} lacks {name}");
        if let Some(value) = value {
            let text = value.to_string();
            let end = text.char_indices().nth(VALUE_MAX).map_or(text.len(), |(at, _)| at);
            out.push_str(&text[..end]);
            let _ = if end < text.len() { write!(out, "…") } else { Ok(()) };
        }
        rest = after;
    }
    out.push_str(rest);
    out
}
