//! A Rust file, as far as the rules ask: its modules, what they bring in, what they define, the paths that they name, and their strings.
//!
//! It is read as tokens, so that comments and strings are never taken for code, and that the arguments of macros are read like any other
//! code. What is only there for tests (`#[cfg(test)]`, `#[test]`) is left out, and so are attributes that are documentation.

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::{Delimiter, Group, Literal, Spacing, TokenStream, TokenTree};

/// A module: a file's, or one that is written inside another.
#[derive(Debug, Default)]
pub struct Module {
    pub children: BTreeMap<String, Child>,
    pub imports: Vec<Import>,
    /// Paths of more than one word, wherever they stand but in a `use`; also those of one word in attributes (`#[serde(with = "x")]`).
    pub paths: Vec<Named>,
    /// What is defined here.
    pub items: BTreeSet<String>,
    /// Every word of the code, but for those in a `use`.
    pub words: BTreeSet<String>,
    pub strings: Vec<String>,
    /// The text of each attribute of the module itself, `#![…]`.
    pub attributes: Vec<String>,
}

/// `mod name`.
#[derive(Debug)]
pub enum Child {
    Inside(Module),
    /// In a file of its own, perhaps with `#[path]`.
    File(Option<String>),
}

/// One name that a `use` brings in; `*` for all that there is.
#[derive(Debug)]
pub struct Import {
    pub name: String,
    pub path: Vec<String>,
    /// `pub use`, whatever the visibility says further.
    pub handed_on: bool,
    pub line: usize,
}

/// A path in the code.
#[derive(Debug)]
pub struct Named {
    pub path: Vec<String>,
    pub line: usize,
}

/// Reads a file.
///
/// # Errors
/// When it is no Rust.
pub fn parse(text: &str) -> Result<Module, String> {
    let tokens: TokenStream = text.parse().map_err(|error| format!("{error}"))?;
    let mut module = Module::default();
    module.read(tokens, true);
    Ok(module)
}

impl Module {
    /// All modules that are written in this one, and itself.
    pub fn all(&self) -> Vec<&Self> {
        let inside = self.children.values().filter_map(|child| match child {
            Child::Inside(module) => Some(module),
            Child::File(_) => None,
        });
        std::iter::once(self).chain(inside.flat_map(Self::all)).collect()
    }

    fn read(&mut self, tokens: TokenStream, top: bool) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let (mut at, mut handed_on, mut file) = (0, false, None);
        while let Some(token) = tokens.get(at) {
            match token {
                TokenTree::Punct(punct) if punct.as_char() == '#' => {
                    let inner = is(&tokens, at + 1, '!');
                    let Some(TokenTree::Group(group)) = tokens.get(at + 1 + usize::from(inner)) else {
                        at += 1;
                        continue;
                    };
                    at += 2 + usize::from(inner);
                    if for_tests(group) {
                        if inner {
                            return;
                        }
                        at = after_item(&tokens, at);
                        continue;
                    }
                    if inner && top {
                        self.attributes.push(group.stream().to_string());
                    }
                    file = path_attribute(group).or(file);
                    self.read_attribute(group);
                }
                TokenTree::Group(group) => {
                    self.read(group.stream(), false);
                    at += 1;
                }
                TokenTree::Literal(literal) => {
                    self.strings.extend(string(literal));
                    at += 1;
                }
                TokenTree::Punct(_) => at += 1,
                TokenTree::Ident(ident) => match ident.to_string().as_str() {
                    "pub" => {
                        at += 1 + usize::from(group(&tokens, at + 1, Delimiter::Parenthesis).is_some());
                        handed_on = word(&tokens, at).as_deref() == Some("use");
                    }
                    // What follows `+ use` in a type is no import.
                    "use" if !is(&tokens, at + 1, '<') => {
                        let end = (at..tokens.len()).find(|end| is(&tokens, *end, ';')).unwrap_or(tokens.len());
                        let line = ident.span().start().line;
                        self.read_use(&tokens[at + 1..end], &[], handed_on && top, line);
                        (at, handed_on) = (end + 1, false);
                    }
                    "mod" if word(&tokens, at + 1).is_some() => {
                        let name = word(&tokens, at + 1).unwrap_or_default();
                        if let Some(group) = group(&tokens, at + 2, Delimiter::Brace) {
                            let mut child = Self::default();
                            child.read(group.stream(), true);
                            self.children.insert(name, Child::Inside(child));
                        } else {
                            self.children.insert(name, Child::File(file.take()));
                        }
                        at += 3;
                    }
                    keyword => {
                        if top && let Some(name) = defined(keyword, &tokens, at) {
                            self.items.insert(name);
                        }
                        at = self.read_path(&tokens, at);
                    }
                },
            }
        }
    }

    /// Reads a path, or a single word; where it ends.
    fn read_path(&mut self, tokens: &[TokenTree], start: usize) -> usize {
        let first = word(tokens, start).unwrap_or_default();
        let (mut path, mut at) = (vec![first.clone()], start + 1);
        while is_path_separator(tokens, at)
            && let Some(next) = word(tokens, at + 2)
        {
            path.push(next);
            at += 3;
        }
        // A field, a method, a lifetime, and what a type or trait in angle brackets has, are found by other means than a module's names.
        let before = start.checked_sub(1).and_then(|before| tokens.get(before));
        if matches!(before, Some(TokenTree::Punct(punct)) if matches!(punct.as_char(), '.' | ':' | '\''))
            && !begins_after_colon(tokens, start)
        {
            return at;
        }
        self.words.insert(first);
        if path.len() > 1 {
            self.paths.push(Named { path, line: tokens[start].span().start().line });
        }
        at
    }

    /// Attributes name paths, and some name them in strings.
    fn read_attribute(&mut self, group: &Group) {
        if group.stream().into_iter().next().is_some_and(|token| token.to_string() == "doc") {
            return;
        }
        let mut inner = Self::default();
        inner.read(group.stream(), false);
        let line = group.span_open().start().line;
        for text in inner.strings {
            let path: Vec<String> = text.split("::").map(str::to_owned).collect();
            let is_name = |part: &String| part.chars().all(|letter| letter.is_alphanumeric() || letter == '_');
            if path.iter().all(|part| !part.is_empty() && is_name(part)) {
                self.paths.push(Named { path, line });
            }
        }
        self.paths.extend(inner.paths);
        self.words.extend(inner.words);
    }

    /// Reads what stands between `use` and `;`.
    fn read_use(&mut self, tokens: &[TokenTree], prefix: &[String], handed_on: bool, line: usize) {
        for tree in tokens.split(|token| matches!(token, TokenTree::Punct(punct) if punct.as_char() == ',')) {
            let (mut path, mut name, mut at) = (prefix.to_vec(), None, 0);
            while let Some(token) = tree.get(at) {
                match token {
                    TokenTree::Ident(ident) if ident == "as" => {
                        name = tree.get(at + 1).map(ToString::to_string);
                        at += 1;
                    }
                    TokenTree::Ident(_) => path.extend(word(tree, at).filter(|word| word != "self" || path.is_empty())),
                    TokenTree::Punct(punct) if punct.as_char() == '*' => name = Some("*".to_owned()),
                    TokenTree::Group(group) => {
                        let inner: Vec<TokenTree> = group.stream().into_iter().collect();
                        self.read_use(&inner, &path, handed_on, line);
                        path.clear();
                    }
                    _ => {}
                }
                at += 1;
            }
            if let Some(last) = path.last() {
                let name = name.unwrap_or_else(|| last.clone());
                self.imports.push(Import { name, path, handed_on, line });
            }
        }
    }
}

/// What a keyword here defines.
fn defined(keyword: &str, tokens: &[TokenTree], at: usize) -> Option<String> {
    match keyword {
        "struct" | "enum" | "union" | "trait" | "type" | "fn" => word(tokens, at + 1),
        "const" | "static" => {
            let name = word(tokens, at + 1).filter(|name| name != "mut").or_else(|| word(tokens, at + 2));
            name.filter(|name| !matches!(name.as_str(), "fn" | "unsafe" | "async" | "extern"))
        }
        "macro_rules" => word(tokens, at + 2),
        _ => None,
    }
}

/// Whether what follows the attribute is only there for tests.
fn for_tests(attribute: &Group) -> bool {
    let tokens: Vec<TokenTree> = attribute.stream().into_iter().collect();
    let is_test = |token: &TokenTree| matches!(token, TokenTree::Ident(ident) if ident == "test");
    // `#[test]`, `#[tokio::test(…)]`
    let path: Vec<&TokenTree> = tokens.iter().take_while(|token| !matches!(token, TokenTree::Group(_))).collect();
    if path.last().is_some_and(|last| is_test(last)) {
        return true;
    }
    let (Some("cfg"), Some(condition)) = (word(&tokens, 0).as_deref(), group(&tokens, 1, Delimiter::Parenthesis))
    else {
        return false;
    };
    let condition: Vec<TokenTree> = condition.stream().into_iter().collect();
    match (condition.first(), word(&condition, 0).as_deref(), group(&condition, 1, Delimiter::Parenthesis)) {
        (_, Some("all"), Some(all)) => {
            let all: Vec<TokenTree> = all.stream().into_iter().collect();
            all.split(|token| matches!(token, TokenTree::Punct(punct) if punct.as_char() == ','))
                .any(|part| matches!(part, [only] if is_test(only)))
        }
        (Some(first), _, None) => condition.len() == 1 && is_test(first),
        _ => false,
    }
}

/// Where the item, field, arm or statement ends that begins here.
fn after_item(tokens: &[TokenTree], mut at: usize) -> usize {
    while is(tokens, at, '#') {
        at += 2;
    }
    if word(tokens, at).as_deref() == Some("pub") {
        at += 1 + usize::from(group(tokens, at + 1, Delimiter::Parenthesis).is_some());
    }
    let keyword = word(tokens, at).unwrap_or_default();
    let constant = keyword == "const" && !matches!(word(tokens, at + 1).as_deref(), Some("fn" | "unsafe" | "async"));
    let to_semicolon = constant || matches!(keyword.as_str(), "use" | "static" | "type" | "let");
    let is_item = matches!(
        keyword.as_str(),
        "fn" | "mod" | "impl" | "struct" | "enum" | "union" | "trait" | "const" | "unsafe" | "async" | "extern"
    );
    while let Some(token) = tokens.get(at) {
        at += 1;
        match token {
            TokenTree::Punct(punct) if punct.as_char() == ';' => return at,
            TokenTree::Punct(punct) if punct.as_char() == ',' && !is_item && !to_semicolon => return at,
            TokenTree::Group(group) if group.delimiter() == Delimiter::Brace && !to_semicolon => return at,
            _ => {}
        }
    }
    at
}

/// The file in `#[path = "…"]`.
fn path_attribute(attribute: &Group) -> Option<String> {
    let tokens: Vec<TokenTree> = attribute.stream().into_iter().collect();
    match tokens.as_slice() {
        [TokenTree::Ident(path), _, TokenTree::Literal(file)] if path == "path" => string(file),
        _ => None,
    }
}

/// The text of a string; escapes stay as they are written, which no rule here minds.
fn string(literal: &Literal) -> Option<String> {
    let text = literal.to_string();
    let text = text.trim_start_matches(['b', 'c', 'r', '#']).trim_end_matches('#');
    Some(text.strip_prefix('"')?.strip_suffix('"')?.to_owned())
}

fn word(tokens: &[TokenTree], at: usize) -> Option<String> {
    match tokens.get(at) {
        Some(TokenTree::Ident(ident)) => Some(ident.to_string().trim_start_matches("r#").to_owned()),
        _ => None,
    }
}

fn is(tokens: &[TokenTree], at: usize, punct: char) -> bool {
    matches!(tokens.get(at), Some(TokenTree::Punct(found)) if found.as_char() == punct)
}

fn group(tokens: &[TokenTree], at: usize, delimiter: Delimiter) -> Option<&Group> {
    match tokens.get(at) {
        Some(TokenTree::Group(group)) if group.delimiter() == delimiter => Some(group),
        _ => None,
    }
}

/// `::`
fn is_path_separator(tokens: &[TokenTree], at: usize) -> bool {
    let joint = matches!(tokens.get(at), Some(TokenTree::Punct(punct)) if punct.spacing() == Spacing::Joint);
    joint && is(tokens, at, ':') && is(tokens, at + 1, ':')
}

/// Whether the colon before a word is a single one, as in `name: Type` or `a: &b`; or two dots, as in `..Default`.
fn begins_after_colon(tokens: &[TokenTree], start: usize) -> bool {
    let before = |back: usize| start.checked_sub(back).unwrap_or(usize::MAX);
    let range = is(tokens, before(1), '.') && is(tokens, before(2), '.');
    range || is(tokens, before(1), ':') && !is_path_separator(tokens, before(2))
}
