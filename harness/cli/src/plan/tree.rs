//! YAML to be read by people: in the order that it was made in, with comments.

use serde_json::{Map, Value};

use penstock_document::At;

/// A document.
#[derive(Clone, Debug, PartialEq)]
pub enum Tree {
    /// A text, a number, a boolean or nothing.
    Leaf(Value),
    /// A list.
    List(Vec<Tree>),
    /// A map.
    Map(Vec<Entry>),
}

/// An entry of a map.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    key: String,
    comments: Vec<String>,
    value: Tree,
}

/// What fits into a line.
const WIDTH: usize = 110;

impl Tree {
    /// An empty map.
    pub fn map() -> Self {
        Self::Map(Vec::new())
    }

    /// What stands in a file.
    pub fn of(at: &At) -> Self {
        if at.is_map() {
            let entry = |(key, at): (String, At)| Entry { key, comments: Vec::new(), value: Self::of(&at) };
            return Self::Map(at.entries().into_iter().map(entry).collect());
        }
        match at.json() {
            Value::Array(_) => Self::List(at.items().iter().map(Self::of).collect()),
            leaf => Self::Leaf(leaf),
        }
    }

    /// The value of a key; `None` where this is no map, or has none.
    pub fn get(&self, key: &str) -> Option<&Self> {
        let Self::Map(entries) = self else { return None };
        entries.iter().find(|entry| entry.key == key).map(|entry| &entry.value)
    }

    /// The value of a key, which becomes an empty map where there is none, as this does where it is no map.
    pub fn at(&mut self, key: &str) -> &mut Self {
        if !matches!(self, Self::Map(_)) {
            *self = Self::map();
        }
        let Self::Map(entries) = self else { unreachable!("it was made one") };
        let place = entries.iter().position(|entry| entry.key == key).unwrap_or_else(|| {
            entries.push(Entry { key: key.to_owned(), comments: Vec::new(), value: Self::map() });
            entries.len() - 1
        });
        &mut entries[place].value
    }

    /// Puts a value under a key, with comments above it.
    pub fn put(&mut self, key: &str, value: impl Into<Self>, comments: &[&str]) {
        *self.at(key) = value.into();
        let Self::Map(entries) = self else { return };
        if let Some(entry) = entries.iter_mut().find(|entry| entry.key == key) {
            entry.comments = comments.iter().map(|comment| (*comment).to_owned()).collect();
        }
    }

    /// The items of a list; none of anything else.
    pub fn items_mut(&mut self) -> &mut [Self] {
        if let Self::List(items) = self { items } else { &mut [] }
    }

    /// As JSON, without the comments.
    pub fn json(&self) -> Value {
        match self {
            Self::Leaf(value) => value.clone(),
            Self::List(items) => items.iter().map(Self::json).collect(),
            Self::Map(entries) => Value::Object(
                entries.iter().map(|entry| (entry.key.clone(), entry.value.json())).collect::<Map<_, _>>(),
            ),
        }
    }

    /// As YAML.
    pub fn yaml(&self) -> String {
        let mut out = String::new();
        self.block(0, &mut out);
        out
    }

    /// In lines of its own, the first of which begins where `out` ends.
    fn block(&self, indent: usize, out: &mut String) {
        let pad = " ".repeat(indent);
        match self {
            Self::Map(entries) if !entries.is_empty() => {
                for (i, entry) in entries.iter().enumerate() {
                    if i > 0 {
                        out.push_str(&pad);
                    }
                    for comment in &entry.comments {
                        out.push_str(&format!("# {comment}\n{pad}"));
                    }
                    out.push_str(&format!("{}:", word(&entry.key)));
                    entry.value.behind(indent, out);
                }
            }
            Self::List(items) if !items.is_empty() => {
                for (i, item) in items.iter().enumerate() {
                    if i > 0 {
                        out.push_str(&pad);
                    }
                    out.push_str("- ");
                    if item.fits(indent) {
                        out.push_str(&format!("{}\n", item.flow()));
                    } else {
                        item.block(indent + 2, out);
                    }
                }
            }
            _ => out.push_str(&format!("{}\n", self.flow())),
        }
    }

    /// Behind a key: in its line, if it fits there.
    fn behind(&self, indent: usize, out: &mut String) {
        if self.is_plain() || indent > 0 && self.fits(indent) {
            out.push_str(&format!(" {}\n", self.flow()));
            return;
        }
        // Items stand below the key, entries to the right of it.
        let indent = if matches!(self, Self::List(_)) { indent } else { indent + 2 };
        out.push_str(&format!("\n{}", " ".repeat(indent)));
        self.block(indent, out);
    }

    /// Whether there is nothing below it.
    fn is_plain(&self) -> bool {
        match self {
            Self::Leaf(_) => true,
            Self::List(items) => items.is_empty(),
            Self::Map(entries) => entries.is_empty(),
        }
    }

    /// Whether a line has it all.
    fn fits(&self, indent: usize) -> bool {
        !self.is_commented() && self.flow().chars().count() + indent < WIDTH
    }

    fn is_commented(&self) -> bool {
        match self {
            Self::Leaf(_) => false,
            Self::List(items) => items.iter().any(Self::is_commented),
            Self::Map(entries) => entries.iter().any(|entry| !entry.comments.is_empty() || entry.value.is_commented()),
        }
    }

    fn flow(&self) -> String {
        match self {
            Self::Leaf(Value::String(text)) => word(text),
            Self::Leaf(value) => value.to_string(),
            Self::List(items) => format!("[{}]", items.iter().map(Self::flow).collect::<Vec<_>>().join(", ")),
            Self::Map(entries) => {
                let entry = |entry: &Entry| format!("{}: {}", word(&entry.key), entry.value.flow());
                format!("{{{}}}", entries.iter().map(entry).collect::<Vec<_>>().join(", "))
            }
        }
    }
}

/// A text, in quotes where it could be taken for something else.
fn word(text: &str) -> String {
    let is_plain = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/'))
        && !["true", "false", "null", "yes", "no", "on", "off", "y", "n"].contains(&text.to_ascii_lowercase().as_str());
    if is_plain { text.to_owned() } else { Value::from(text).to_string() }
}

impl From<f64> for Tree {
    /// A whole number without a point.
    fn from(number: f64) -> Self {
        let is_whole = number.fract() == 0.0 && number.abs() < 1e15;
        Self::Leaf(if is_whole { Value::from(number as i64) } else { Value::from(number) })
    }
}

impl From<&str> for Tree {
    fn from(text: &str) -> Self {
        Self::Leaf(Value::from(text))
    }
}

impl From<Vec<Self>> for Tree {
    fn from(items: Vec<Self>) -> Self {
        Self::List(items)
    }
}
