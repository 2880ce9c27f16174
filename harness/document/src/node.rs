//! A document as a tree, in which everything knows its line.

use std::rc::Rc;

use serde_json::{Map, Number, Value};

/// A value of a YAML or JSON document.
#[derive(Debug)]
pub struct Node {
    /// Where it begins; lines count from 1.
    pub line: usize,
    /// What it is.
    pub kind: Kind,
    /// How many values it is made of, those behind aliases as often as they are used.
    pub weight: u64,
    /// How many levels are below it.
    pub depth: usize,
}

/// What a value is.
#[derive(Debug)]
pub enum Kind {
    /// A text, a number, a boolean or nothing: YAML tells them apart by how they are written.
    Scalar {
        /// What it says.
        text: String,
        /// Whether it has no quotes, and so may be something else than a text.
        is_plain: bool,
        /// Whether it is a block whose lines are lines of the file, the first of them here.
        is_literal: bool,
    },
    /// A list.
    List(Vec<Rc<Node>>),
    /// A map, in the document's order.
    Map(Vec<Entry>),
}

/// One entry of a map.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its key.
    pub key: String,
    /// The key's line.
    pub line: usize,
    /// Its value.
    pub value: Rc<Node>,
}

impl Node {
    /// Nothing.
    pub fn null(line: usize) -> Rc<Self> {
        Rc::new(Self {
            line,
            kind: Kind::Scalar { text: String::new(), is_plain: true, is_literal: false },
            weight: 1,
            depth: 0,
        })
    }

    /// What JSON says, all of it in one line.
    pub fn of_json(value: &Value, line: usize) -> Rc<Self> {
        let scalar = |text: String, is_plain| Kind::Scalar { text, is_plain, is_literal: false };
        let kind = match value {
            Value::String(text) => scalar(text.clone(), false),
            Value::Array(items) => Kind::List(items.iter().map(|item| Self::of_json(item, line)).collect()),
            Value::Object(entries) => {
                let entry = |(key, value): (&String, &Value)| Entry {
                    key: key.clone(),
                    line,
                    value: Self::of_json(value, line),
                };
                Kind::Map(entries.iter().map(entry).collect())
            }
            other => scalar(other.to_string(), true),
        };
        Rc::new(Self { line, kind, weight: 1, depth: 0 })
    }

    /// As JSON; plain scalars by YAML's core schema.
    pub fn json(&self) -> Value {
        match &self.kind {
            Kind::Scalar { text, is_plain, .. } => {
                if *is_plain {
                    plain(text)
                } else {
                    Value::from(text.as_str())
                }
            }
            Kind::List(items) => items.iter().map(|item| item.json()).collect(),
            Kind::Map(entries) => Value::Object(
                entries.iter().map(|entry| (entry.key.clone(), entry.value.json())).collect::<Map<_, _>>(),
            ),
        }
    }
}

/// A scalar without quotes, by YAML's core schema.
pub fn plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        _ => {}
    }
    if let Ok(number) = text.parse::<u64>() {
        return Value::from(number);
    }
    if let Ok(number) = text.parse::<i64>() {
        return Value::from(number);
    }
    let is_number = text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '-' | '+' | '.'));
    let number = is_number.then(|| text.parse::<f64>().ok().and_then(Number::from_f64)).flatten();
    number.map_or_else(|| Value::from(text), Value::Number)
}
