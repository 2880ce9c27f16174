//! Places in documents, and how to get from one to the next.

use std::rc::Rc;

use serde_json::Value;

use crate::node::{Entry, Kind, Node, plain};
use crate::yaml::{self, Trouble};

/// A place in a document: what stands there, if anything does, and how to say where that is.
#[derive(Clone, Debug)]
pub struct At {
    /// The file.
    pub file: Rc<str>,
    /// As in `spec.http[0].timeout`.
    pub path: String,
    /// The line of what is there, or else of what it is missing in.
    pub line: usize,
    node: Option<Rc<Node>>,
}

impl At {
    /// The whole document.
    pub fn root(file: Rc<str>, node: Rc<Node>) -> Self {
        Self { file, path: String::new(), line: node.line, node: Some(node) }
    }

    /// The file as a whole.
    pub fn file(file: Rc<str>) -> Self {
        Self { file, path: String::new(), line: 1, node: None }
    }

    /// Whether something is there. Nothing (`null`) is not.
    pub fn exists(&self) -> bool {
        !matches!(self.node.as_deref(), None | Some(Node { kind: Kind::Scalar { is_plain: true, .. }, .. }))
            || self.text().is_some_and(|text| !plain(text).is_null())
    }

    /// Below a key of a map.
    pub fn get(&self, key: &str) -> Self {
        match self.raw_entries().iter().find(|entry| entry.key == key) {
            Some(entry) => self.entry(entry),
            None => Self { file: self.file.clone(), path: self.path_to(key), line: self.line, node: None },
        }
    }

    fn entry(&self, entry: &Entry) -> Self {
        Self {
            file: self.file.clone(),
            path: self.path_to(&entry.key),
            line: entry.line,
            node: Some(entry.value.clone()),
        }
    }

    fn path_to(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// Below a key that is a protobuf field's, which may be written in both ways: `http_filters`, `httpFilters`.
    pub fn pb(&self, key: &str) -> Self {
        let snake = self.get(key);
        if snake.node.is_some() {
            return snake;
        }
        let mut camel = String::with_capacity(key.len());
        for part in key.split('_') {
            let mut letters = part.chars();
            let first = letters.next().filter(|_| !camel.is_empty());
            camel.extend(first.map(|c| c.to_ascii_uppercase()));
            camel.push_str(if first.is_some() { letters.as_str() } else { part });
        }
        let camel = self.get(&camel);
        if camel.node.is_some() { camel } else { snake }
    }

    /// Down several keys.
    pub fn down(&self, keys: &[&str]) -> Self {
        keys.iter().fold(self.clone(), |at, key| at.pb(key))
    }

    /// The items of a list; none of anything else.
    pub fn items(&self) -> Vec<Self> {
        let Some(Kind::List(items)) = self.node.as_deref().map(|node| &node.kind) else { return Vec::new() };
        let item = |(i, node): (usize, &Rc<Node>)| Self {
            file: self.file.clone(),
            path: format!("{}[{i}]", self.path),
            line: node.line,
            node: Some(node.clone()),
        };
        items.iter().enumerate().map(item).collect()
    }

    /// The entries of a map; none of anything else.
    pub fn entries(&self) -> Vec<(String, Self)> {
        self.raw_entries().iter().map(|entry| (entry.key.clone(), self.entry(entry))).collect()
    }

    fn raw_entries(&self) -> &[Entry] {
        match self.node.as_deref() {
            Some(Node { kind: Kind::Map(entries), .. }) => entries,
            _ => &[],
        }
    }

    /// Whether it is a map.
    pub fn is_map(&self) -> bool {
        matches!(self.node.as_deref(), Some(Node { kind: Kind::Map(_), .. }))
    }

    /// What a scalar says, whatever its type.
    pub fn text(&self) -> Option<&str> {
        match self.node.as_deref() {
            Some(Node { kind: Kind::Scalar { text, .. }, .. }) => Some(text),
            _ => None,
        }
    }

    /// The text, or an empty one.
    pub fn words(&self) -> &str {
        self.text().unwrap_or_default()
    }

    /// A number, also where it is a text.
    pub fn number(&self) -> Option<f64> {
        self.text()?.parse().ok().filter(|number: &f64| number.is_finite())
    }

    /// Whether it says that it is so.
    pub fn is_true(&self) -> bool {
        self.text() == Some("true")
    }

    /// As JSON; `null` where nothing is.
    pub fn json(&self) -> Value {
        self.node.as_ref().map_or(Value::Null, |node| node.json())
    }

    /// The line of a character of a text.
    pub fn line_at(&self, offset: usize) -> usize {
        match self.node.as_deref() {
            Some(Node { line, kind: Kind::Scalar { text, is_literal: true, .. }, .. }) => {
                line + text.bytes().take(offset).filter(|byte| *byte == b'\n').count()
            }
            _ => self.line,
        }
    }

    /// What a text holds that is a document itself.
    pub fn inner(&self) -> Option<Self> {
        self.inner_and_troubles().0
    }

    /// As [`Self::inner`], and what is wrong with it.
    pub fn inner_and_troubles(&self) -> (Option<Self>, Vec<(usize, Trouble)>) {
        let Some(text) = self.text() else { return (None, Vec::new()) };
        let line_of = |line: usize| match self.node.as_deref() {
            Some(Node { line: start, kind: Kind::Scalar { is_literal: true, .. }, .. }) => start + line - 1,
            _ => self.line,
        };
        let read = yaml::read(text, &line_of);
        let node = read.documents.into_iter().next();
        let place = node.map(|node| Self {
            file: self.file.clone(),
            path: self.path.clone(),
            line: node.line,
            node: Some(node),
        });
        (place, read.troubles)
    }

    /// What a text holds that is JSON, and cannot be read as YAML (tabs before a key, a pair of surrogates): all of it in one line.
    pub fn inner_json(&self) -> Option<Self> {
        let value: Value = serde_json::from_str(self.text()?).ok()?;
        Some(Self { node: Some(Node::of_json(&value, self.line)), ..self.clone() })
    }

    /// The place that a path like `limits[2].every` leads to, or the last one on the way that is there.
    pub fn find(&self, path: &str) -> Self {
        let mut at = self.clone();
        let mut rest = path;
        while !rest.is_empty() {
            let next = if let Some(behind) = rest.strip_prefix('[') {
                let (index, behind) = behind.split_once(']').unwrap_or((behind, ""));
                rest = behind.strip_prefix('.').unwrap_or(behind);
                index.parse::<usize>().ok().and_then(|i| at.items().into_iter().nth(i))
            } else {
                // Keys may have dots in them: the longest one that fits.
                let ends = |key: &str| {
                    rest.strip_prefix(key).is_some_and(|behind| behind.is_empty() || behind.starts_with(['.', '[']))
                };
                let key =
                    at.raw_entries().iter().map(|entry| entry.key.clone()).filter(|key| !key.is_empty() && ends(key));
                key.max_by_key(String::len).map(|key| {
                    let behind = rest.get(key.len()..).unwrap_or_default();
                    rest = behind.strip_prefix('.').unwrap_or(behind);
                    at.get(&key)
                })
            };
            match next {
                Some(next) => at = next,
                None => return at,
            }
        }
        at
    }

    /// Whether a key or a text below has a word in it, given in lower case.
    pub fn mentions(&self, word: &str) -> bool {
        fn any(node: &Node, word: &str) -> bool {
            match &node.kind {
                Kind::Scalar { text, .. } => text.to_ascii_lowercase().contains(word),
                Kind::List(items) => items.iter().any(|item| any(item, word)),
                Kind::Map(entries) => {
                    entries.iter().any(|entry| entry.key.to_ascii_lowercase().contains(word) || any(&entry.value, word))
                }
            }
        }
        self.node.as_ref().is_some_and(|node| any(node, word))
    }
}
