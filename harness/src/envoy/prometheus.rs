//! Reads Prometheus' text format, as far as Envoy and the model server write it.

use std::collections::BTreeMap;

/// One line: a name, its labels and the value.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// The metric's name, with `_bucket`, `_sum` or `_count` where it belongs to a histogram.
    pub name: String,
    /// Labels by name.
    pub labels: BTreeMap<String, String>,
    /// The value.
    pub value: f64,
}

/// All samples of one scrape.
#[derive(Clone, Debug, Default)]
pub struct Metrics(pub Vec<Sample>);

impl Metrics {
    /// Reads a scrape; comments and lines that are not samples are left out.
    pub fn parse(text: &str) -> Self {
        Self(text.lines().filter(|line| !line.starts_with('#')).filter_map(Sample::parse).collect())
    }

    /// The samples of this name that have at least these labels.
    pub fn select<'a>(&'a self, name: &'a str, labels: &'a [(&'a str, &'a str)]) -> impl Iterator<Item = &'a Sample> {
        self.0.iter().filter(move |sample| sample.name == name && sample.has(labels))
    }

    /// The sum of [`Metrics::select`]; 0 where there is none, as a metric that was never written is not exposed.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        // The sum of no floats is -0 in the standard library, which would be printed with its sign.
        self.select(name, labels).fold(0.0, |sum, sample| sum + sample.value)
    }
}

impl Sample {
    fn parse(line: &str) -> Option<Self> {
        let (series, value) = line.trim().rsplit_once(' ')?;
        let value = value.parse().ok()?;
        let Some((name, labels)) = series.split_once('{') else {
            return Some(Self { name: series.to_owned(), labels: BTreeMap::new(), value });
        };
        let labels = parse_labels(labels.strip_suffix('}')?)?;
        Some(Self { name: name.to_owned(), labels, value })
    }

    fn has(&self, labels: &[(&str, &str)]) -> bool {
        labels.iter().all(|(name, value)| self.labels.get(*name).is_some_and(|have| have == value))
    }
}

/// `a="1",b="2"`. A quote in a value is escaped by whoever follows the format; Envoy does not, hence values here never have one.
fn parse_labels(mut text: &str) -> Option<BTreeMap<String, String>> {
    let mut labels = BTreeMap::new();
    while !text.is_empty() {
        let (name, rest) = text.split_once("=\"")?;
        let (value, rest) = rest.split_once('"')?;
        labels.insert(name.to_owned(), value.to_owned());
        text = rest.strip_prefix(',').unwrap_or(rest);
    }
    Some(labels)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_values_and_comments() {
        let metrics = Metrics::parse(concat!(
            "# TYPE penstock_pending_tokens gauge\n",
            "penstock_pending_tokens{model=\"chat\",version=\"stable\",phase=\"prefill\"} 120\n",
            "penstock_pending_tokens{model=\"chat\",version=\"canary\",phase=\"prefill\"} 30.5\n",
            "penstock_pending_tokens{model=\"a,b\",version=\"\"} 1\n",
            "envoy_server_live{} 1\n",
            "plain 7\n",
            "not a sample\n",
        ));
        assert_eq!(metrics.sum("penstock_pending_tokens", &[("model", "chat")]), 150.5);
        assert_eq!(metrics.sum("penstock_pending_tokens", &[("model", "a,b"), ("version", "")]), 1.0);
        assert_eq!(metrics.sum("plain", &[]), 7.0);
        assert_eq!(metrics.sum("envoy_server_live", &[]), 1.0);
        assert_eq!(metrics.0.len(), 5);
    }
}
