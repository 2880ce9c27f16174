//! Just enough PromQL to see which series a query asks for.

/// A series selector: the metric's name and its label matchers as (label, value).
#[derive(Debug, PartialEq, Eq)]
pub struct Selector {
    pub metric: String,
    pub matchers: Vec<(String, String)>,
}

/// What a query names.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Names {
    pub selectors: Vec<Selector>,
    /// Labels in `by (…)`, `on (…)` and their like.
    pub grouping: Vec<String>,
}

const GROUPING: [&str; 6] = ["by", "without", "on", "ignoring", "group_left", "group_right"];
const OPERATORS: [&str; 5] = ["and", "or", "unless", "bool", "offset"];

/// Reads a query. Words that a parenthesis follows are functions, except the grouping words; ranges and strings are
/// skipped.
pub fn names(query: &str) -> Names {
    let mut names = Names::default();
    let mut rest = query;
    while let Some(next) = rest.chars().next() {
        if let Some(word) = leading_word(rest) {
            rest = rest[word.len()..].trim_start();
            if GROUPING.contains(&word) {
                let list = inside(&mut rest, '(', ')').unwrap_or("");
                let labels = list.split(',').map(str::trim).filter(|label| !label.is_empty());
                names.grouping.extend(labels.map(str::to_owned));
            } else if !is_function(rest) && !OPERATORS.contains(&word) {
                let matchers = inside(&mut rest, '{', '}').map(matchers).unwrap_or_default();
                names.selectors.push(Selector { metric: word.to_owned(), matchers });
            }
        } else if next.is_ascii_digit() {
            rest = rest.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || c == '.');
        } else if inside(&mut rest, '"', '"').is_none() && inside(&mut rest, '[', ']').is_none() {
            rest = &rest[next.len_utf8()..];
        }
    }
    names
}

/// `sum(` and `sum by (`.
fn is_function(behind: &str) -> bool {
    behind.starts_with('(') || matches!(leading_word(behind), Some("by" | "without"))
}

fn leading_word(text: &str) -> Option<&str> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let end = text.find(|c| !is_word(c)).unwrap_or(text.len());
    let word = &text[..end];
    word.starts_with(|c: char| !c.is_ascii_digit()).then_some(word).filter(|word| !word.is_empty())
}

/// What stands between the delimiters, if the text starts with the first one; the text then continues behind the
/// second.
fn inside<'a>(text: &mut &'a str, open: char, close: char) -> Option<&'a str> {
    let body = text.strip_prefix(open)?;
    let end = body.find(close)?;
    *text = &body[end + close.len_utf8()..];
    Some(&body[..end])
}

fn matchers(list: &str) -> Vec<(String, String)> {
    let pairs = list.split(',').filter(|pair| !pair.trim().is_empty());
    pairs
        .map(|pair| {
            let (label, value) = pair.split_at(pair.find(['=', '!']).unwrap_or(pair.len()));
            let value = value.trim_start_matches(['=', '!', '~']).trim().trim_matches('"');
            (label.trim().to_owned(), value.to_owned())
        })
        .collect()
}
