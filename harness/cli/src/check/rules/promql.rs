//! What a query in PromQL names. Not a parser: Prometheus says what is no PromQL, and promtool does before.

/// A series that a query selects.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Selector {
    /// Its name.
    pub metric: String,
    /// Where in the query it stands, in bytes.
    pub offset: usize,
    /// Label, operator (`=`, `!=`, `=~`, `!~`), value.
    pub matchers: Vec<(String, String, String)>,
}

impl Selector {
    /// The values that a label may have here: those of `=`, and of `=~` where it is a list of words.
    pub fn values(&self, label: &str) -> Vec<&str> {
        let of_label = self.matchers.iter().filter(|(own, operator, _)| own == label && operator.starts_with('='));
        let words = |operator: &str, value: &str| {
            operator == "=" || value.chars().all(|c| c.is_ascii_alphanumeric() || "_-/:@|".contains(c))
        };
        let lists = of_label
            .filter(|(_, operator, value)| words(operator, value) && !value.contains("{{") && !value.contains('$'));
        lists
            .flat_map(
                |(_, operator, value)| if operator == "=" { vec![value.as_str()] } else { value.split('|').collect() },
            )
            .collect()
    }
}

/// What a query names.
#[derive(Debug, Default)]
pub struct Names {
    /// Series.
    pub selectors: Vec<Selector>,
    /// Functions and aggregations.
    pub functions: Vec<String>,
    /// Whether it calculates.
    pub has_arithmetic: bool,
    /// Numbers that something is divided by.
    pub divisors: Vec<f64>,
}

/// Reads a query.
pub fn names(query: &str) -> Names {
    const KEYWORDS: [&str; 13] = [
        "and",
        "or",
        "unless",
        "by",
        "without",
        "on",
        "ignoring",
        "group_left",
        "group_right",
        "offset",
        "bool",
        "inf",
        "nan",
    ];
    let mut names = Names::default();
    let mut at = 0;
    while let Some(rest) = query.get(at..).filter(|rest| !rest.is_empty()) {
        let word = word(rest);
        if !word.is_empty() {
            let behind = rest[word.len()..].trim_start();
            let lower = word.to_ascii_lowercase();
            let mut next = at + word.len();
            let is_grouping =
                matches!(lower.as_str(), "by" | "without" | "on" | "ignoring" | "group_left" | "group_right");
            if is_grouping {
                // A list of labels.
                if let Some(list) = behind.strip_prefix('(') {
                    next = query.len() - list.len() + list.find(')').map_or(list.len(), |end| end + 1);
                }
            } else if behind.starts_with('(') || matches!(self::word(behind), "by" | "without") {
                names.functions.push(lower);
            } else if !KEYWORDS.contains(&lower.as_str()) {
                let (matchers, end) = matchers(query, query.len() - behind.len());
                names.selectors.push(Selector { metric: word.to_owned(), offset: at, matchers });
                next = end.unwrap_or(next);
            }
            at = next;
            continue;
        }
        let first = rest.chars().next().unwrap_or_default();
        at += match first {
            '"' | '\'' | '`' => quoted(rest).1,
            '[' => rest.find(']').map_or(rest.len(), |end| end + 1),
            '{' => {
                let (matchers, end) = matchers(query, at);
                let is_name = |(label, operator, _): &&(String, String, String)| label == "__name__" && operator == "=";
                if let Some((_, _, metric)) = matchers.iter().find(is_name) {
                    names.selectors.push(Selector { metric: metric.clone(), offset: at, matchers: matchers.clone() });
                }
                end.map_or(1, |end| end - at)
            }
            '0'..='9' => {
                let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '.').unwrap_or(rest.len());
                if query[..at].trim_end().ends_with('/') {
                    names.divisors.extend(rest[..end].parse::<f64>());
                }
                end
            }
            '#' => rest.find('\n').unwrap_or(rest.len()),
            _ => {
                names.has_arithmetic |= "+-*/%^".contains(first);
                first.len_utf8()
            }
        };
    }
    names
}

/// The word at the beginning.
fn word(text: &str) -> &str {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let word = &text[..text.find(|c| !is_word(c)).unwrap_or(text.len())];
    if word.starts_with(|c: char| c.is_ascii_digit()) { "" } else { word }
}

/// A quoted text at the beginning, and how long it is with its quotes.
fn quoted(text: &str) -> (String, usize) {
    let mut letters = text.char_indices();
    let Some((_, quote)) = letters.next() else { return (String::new(), 0) };
    let mut value = String::new();
    while let Some((at, c)) = letters.next() {
        match c {
            '\\' if quote != '`' => value.extend(letters.next().map(|(_, c)| c)),
            c if c == quote => return (value, at + c.len_utf8()),
            c => value.push(c),
        }
    }
    (value, text.len())
}

/// The matchers in braces that begin here, if any do, and where what follows begins.
fn matchers(query: &str, start: usize) -> (Vec<(String, String, String)>, Option<usize>) {
    let mut all = Vec::new();
    let Some(mut rest) = query.get(start..).and_then(|rest| rest.strip_prefix('{')) else { return (all, None) };
    loop {
        rest = rest.trim_start_matches(|c: char| c.is_whitespace() || c == ',');
        if let Some(behind) = rest.strip_prefix('}') {
            return (all, Some(query.len() - behind.len()));
        }
        let label = word(rest);
        let behind = rest[label.len()..].trim_start();
        let operator = ["=~", "!~", "!=", "="].into_iter().find(|operator| behind.starts_with(operator));
        let Some(operator) = operator.filter(|_| !label.is_empty()) else { return (all, Some(query.len())) };
        let behind = behind[operator.len()..].trim_start();
        if !behind.starts_with(['"', '\'', '`']) {
            return (all, Some(query.len()));
        }
        let (value, length) = quoted(behind);
        all.push((label.to_owned(), operator.to_owned(), value));
        rest = &behind[length..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_names_its_series_and_what_they_are_matched_by() {
        let query = r#"sum by (model, pod) (rate(a_total{m="x",v=~"y|z"}[5m])) / on (pod) group_left b{n!="}"} > 0.5 or {__name__="c"}"#;
        let names = names(query);
        let found: Vec<_> = names.selectors.iter().map(|selector| selector.metric.as_str()).collect();
        assert_eq!((found, names.has_arithmetic), (vec!["a_total", "b", "c"], true));
        assert_eq!(names.functions, ["sum", "rate"]);
        assert_eq!(self::names("a / 12000 - b/ 1.8e3 * 0.5 / on (c) d[5m] / x").divisors, [12_000.0, 1_800.0]);
        assert_eq!(names.selectors[0].values("v"), ["y", "z"]);
        assert_eq!(names.selectors[1].matchers, [("n".to_owned(), "!=".to_owned(), "}".to_owned())]);
        assert_eq!(&query[names.selectors[1].offset..][..2], "b{");
    }

    #[test]
    fn what_is_no_promql_is_read_to_its_end() {
        for text in [
            "{",
            "a{",
            "a{b",
            "a{b=",
            "a{b=\"",
            "a{b=\"\\",
            "(((",
            "\"",
            "by (",
            "é{é=\"é\"}",
            "a{\"b\"}",
            "1e",
            "[",
            "a by",
        ] {
            names(text);
        }
    }
}
