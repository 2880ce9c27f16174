//! Configurations as they are pasted: YAML or JSON, and what is wrong with them, by line.

use std::rc::Rc;

use penstock_document::At;
use penstock_document::yaml::{self, Trouble};
use penstock_exchange::Config;
use serde::Serialize;
use serde_json::Value;

/// Something that is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Mistake {
    /// The line, from 1.
    pub line: usize,
    /// As in `limits[2].every`; empty where it is the syntax.
    pub path: String,
    /// What is wrong, and what to write instead.
    pub what: String,
}

/// A configuration as a value. One below `pluginConfig` or `config`, as in Istio's resources and the chart's values, is found there.
///
/// # Errors
/// The mistakes, by line.
pub fn read(text: &str) -> Result<At, Vec<Mistake>> {
    let read = yaml::read(text, &|line| line);
    let mistakes: Vec<Mistake> = read
        .troubles
        .iter()
        .map(|(line, trouble)| {
            let what = match trouble {
                Trouble::Syntax(why) => format!("this is neither YAML nor JSON: {why}"),
                Trouble::Duplicate(key, first) => format!("`{key}` stands in line {first} already; keep one of them"),
                Trouble::TooMuch(what, most) => format!("more {what} than the {most} that are read"),
            };
            Mistake { line: *line, path: String::new(), what }
        })
        .collect();
    if !mistakes.is_empty() {
        return Err(mistakes);
    }
    let Some(node) = read.documents.into_iter().next() else {
        return Ok(At::file(Rc::from("")));
    };
    let root = At::root(Rc::from(""), node);
    let inner = [root.down(&["spec", "pluginConfig"]), root.get("config")].into_iter().find(At::is_map);
    Ok(inner.unwrap_or(root))
}

/// The checked configuration that `change` leaves of what stands there.
///
/// # Errors
/// The mistakes, by line of what stands there.
pub fn checked(at: &At, change: impl FnOnce(&mut Value)) -> Result<Config, Vec<Mistake>> {
    let mut value = at.json();
    change(&mut value);
    let text = if value.is_null() { String::new() } else { value.to_string() };
    Config::parse(text.as_bytes()).map_err(|errors| {
        let mistake = |problem: penstock_exchange::config::Problem| Mistake {
            line: at.find(problem.path.strip_prefix("configuration").unwrap_or(&problem.path)).line,
            path: problem.path,
            what: problem.what,
        };
        errors.0.into_iter().map(mistake).collect()
    })
}
