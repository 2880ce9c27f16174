//! YAML, and JSON as a part of it, to trees with lines, within bounds: no recursion, no copies of what aliases stand for.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use saphyr_parser::{Event, Parser, ScalarStyle, Span};

use crate::node::{Entry, Kind, Node};

/// More levels than any manifest has; what walks a tree may be recursive.
pub const DEPTH_MAX: usize = 100;
/// More values than any manifest has, aliases counted as what they stand for.
pub const VALUES_MAX: u64 = 500_000;

/// More entries than merges bring in any manifest.
const MERGED_MAX: usize = 100_000;

/// What came of a text.
#[derive(Debug, Default)]
pub struct Read {
    /// The documents, up to the first mistake in syntax.
    pub documents: Vec<Rc<Node>>,
    /// What is wrong, with its line.
    pub troubles: Vec<(usize, Trouble)>,
}

/// What may be wrong with a text.
#[derive(Debug)]
pub enum Trouble {
    /// It is not YAML: why.
    Syntax(String),
    /// A key stands there again: which, and where it first was.
    Duplicate(String, usize),
    /// More than is read: of what, and how many.
    TooMuch(&'static str, u64),
}

/// Something that is not at its end.
enum Open {
    List(Vec<Rc<Node>>),
    Map(Vec<Entry>, Option<(String, usize)>, HashMap<String, usize>),
}

/// Reads all documents of a text. `line_of` says where a line of it stands in the file.
pub fn read(text: &str, line_of: &dyn Fn(usize) -> usize) -> Read {
    let mut reader = Reader { read: Read::default(), open: Vec::new(), anchors: HashMap::new(), left: MERGED_MAX };
    for event in Parser::new_from_str(text) {
        let step = match event {
            Ok((event, span)) => reader.step(event, span, line_of),
            Err(error) => Err((line_of(error.marker().line()), Trouble::Syntax(error.info().to_owned()))),
        };
        if let Err(trouble) = step {
            reader.read.troubles.push(trouble);
            break;
        }
    }
    reader.read
}

struct Reader {
    read: Read,
    /// With the line of each, and the anchor or 0.
    open: Vec<(Open, usize, usize)>,
    anchors: HashMap<usize, Rc<Node>>,
    /// How many entries merges may still bring: unlike aliases, they copy.
    left: usize,
}

impl Reader {
    fn step(&mut self, event: Event<'_>, span: Span, line_of: &dyn Fn(usize) -> usize) -> Result<(), (usize, Trouble)> {
        let line = line_of(span.start.line());
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let is_text = tag.is_some_and(|tag| tag.suffix == "str");
                // A block is said to begin at its first line that is not empty.
                let empty = text.bytes().take_while(|byte| *byte == b'\n').count();
                let line = if style == ScalarStyle::Literal { line.saturating_sub(empty) } else { line };
                let kind = Kind::Scalar {
                    text: text.into_owned(),
                    is_plain: style == ScalarStyle::Plain && !is_text,
                    is_literal: style == ScalarStyle::Literal,
                };
                self.done(Rc::new(Node { line, kind, weight: 1, depth: 0 }), anchor)
            }
            Event::Alias(anchor) => {
                // One that stands inside of what it names has no value yet, and never one that ends.
                let node = self.anchors.get(&anchor).cloned().unwrap_or_else(|| Node::null(line));
                self.done(node, 0)
            }
            Event::SequenceStart(anchor, _) => self.begin(Open::List(Vec::new()), line, anchor),
            Event::MappingStart(anchor, _) => self.begin(Open::Map(Vec::new(), None, HashMap::new()), line, anchor),
            Event::SequenceEnd | Event::MappingEnd => {
                let Some((open, line, anchor)) = self.open.pop() else { return Ok(()) };
                let node = close(open, line, &mut self.left)?;
                self.done(Rc::new(node), anchor)
            }
            Event::DocumentStart(_) => {
                self.anchors.clear();
                Ok(())
            }
            Event::DocumentEnd | Event::StreamStart | Event::StreamEnd | Event::Nothing => Ok(()),
        }
    }

    fn begin(&mut self, open: Open, line: usize, anchor: usize) -> Result<(), (usize, Trouble)> {
        if self.open.len() >= DEPTH_MAX {
            return Err((line, Trouble::TooMuch("levels", DEPTH_MAX as u64)));
        }
        self.open.push((open, line, anchor));
        Ok(())
    }

    /// A value is at its end, and goes to where it belongs.
    fn done(&mut self, node: Rc<Node>, anchor: usize) -> Result<(), (usize, Trouble)> {
        if node.weight > VALUES_MAX {
            return Err((node.line, Trouble::TooMuch("values", VALUES_MAX)));
        }
        if node.depth + self.open.len() > DEPTH_MAX {
            return Err((node.line, Trouble::TooMuch("levels", DEPTH_MAX as u64)));
        }
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        match self.open.last_mut() {
            None => {
                if !matches!(&node.kind, Kind::Scalar { text, is_plain: true, .. } if text.is_empty() || text == "~") {
                    self.read.documents.push(node);
                }
            }
            Some((Open::List(items), ..)) => items.push(node),
            Some((Open::Map(entries, key, firsts), ..)) => match key.take() {
                None => {
                    let text = if let Kind::Scalar { text, .. } = &node.kind { text.clone() } else { "?".to_owned() };
                    if let Some(first) = firsts.insert(text.clone(), node.line) {
                        self.read.troubles.push((node.line, Trouble::Duplicate(text.clone(), first)));
                    }
                    *key = Some((text, node.line));
                }
                Some((key, line)) => entries.push(Entry { key, line, value: node }),
            },
        }
        Ok(())
    }
}

fn close(open: Open, line: usize, left: &mut usize) -> Result<Node, (usize, Trouble)> {
    let kind = match open {
        Open::List(items) => Kind::List(items),
        Open::Map(entries, ..) => {
            let all = merged(entries, left).ok_or((line, Trouble::TooMuch("merged entries", MERGED_MAX as u64)))?;
            Kind::Map(all)
        }
    };
    let (mut weight, mut depth) = (1_u64, 0);
    let mut add = |node: &Node| {
        weight = weight.saturating_add(node.weight);
        depth = depth.max(node.depth + 1);
    };
    match &kind {
        Kind::Scalar { .. } => {}
        Kind::List(items) => items.iter().for_each(|item| add(item)),
        Kind::Map(entries) => entries.iter().for_each(|entry| add(&entry.value)),
    }
    Ok(Node { line, kind, weight, depth })
}

/// `<<: *defaults` brings the entries of another map that are not there yet. None: more than are `left`.
fn merged(entries: Vec<Entry>, left: &mut usize) -> Option<Vec<Entry>> {
    let Some(at) = entries.iter().position(|entry| entry.key == "<<") else { return Some(entries) };
    let mut own = entries;
    let merge = own.remove(at);
    let others = match &merge.value.kind {
        Kind::List(items) => items.iter().collect(),
        _ => vec![&merge.value],
    };
    let mut known: HashSet<String> = own.iter().map(|entry| entry.key.clone()).collect();
    for other in others {
        if let Kind::Map(more) = &other.kind {
            *left = left.checked_sub(more.len())?;
            own.extend(more.iter().filter(|entry| known.insert(entry.key.clone())).cloned());
        }
    }
    Some(own)
}
