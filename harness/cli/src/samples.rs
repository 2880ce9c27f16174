//! Samples of an Envoy's own page, and of a Prometheus.

use penstock_harness::envoy::{Metrics, Sample};
use reqwest::{Client, Url};
use serde_json::Value;

use crate::http::said;

/// What the filters in an Envoy have counted so far.
///
/// # Errors
/// When it does not answer.
pub async fn scrape(client: &Client, address: &Url) -> Result<Metrics, String> {
    let url = below(address, "stats/prometheus?filter=penstock_")?;
    let answer = client.get(url.clone()).send().await.and_then(reqwest::Response::error_for_status);
    let text = answer.map_err(|error| said(&url, &error))?.text().await.map_err(|error| said(&url, &error))?;
    Ok(Metrics::parse(&text))
}

/// The result of a query.
///
/// # Errors
/// What Prometheus says against it, or that none answers.
pub async fn ask(
    client: &Client,
    address: &Url,
    path: &str,
    query: &str,
    more: &[(&str, String)],
) -> Result<Vec<Value>, String> {
    let url = below(address, path)?;
    let mut whole = url.clone();
    whole.query_pairs_mut().append_pair("query", query).extend_pairs(more);
    let answer = client.get(whole).send().await.map_err(|error| said(&url, &error))?;
    let status = answer.status();
    let text = answer.text().await.map_err(|error| said(&url, &error))?;
    let Ok(mut value) = serde_json::from_str::<Value>(&text) else {
        return Err(format!("{url} is no Prometheus: it answers {status} without JSON"));
    };
    if value["status"] != "success" {
        return Err(format!("{url}: {status}: {}", value["error"].as_str().unwrap_or("no result")));
    }
    match value["data"]["result"].take() {
        Value::Array(series) => Ok(series),
        _ => Err(format!("{url} answers without a result")),
    }
}

/// A path below an address, whatever path that has itself.
fn below(address: &Url, path: &str) -> Result<Url, String> {
    let mut base = address.clone();
    if !base.path().ends_with('/') {
        base.set_path(&format!("{}/", address.path()));
    }
    base.join(path).map_err(|error| format!("{address}: {error}"))
}

/// A value as Prometheus writes it, if it is a number.
pub fn number(value: &Value) -> Option<f64> {
    value.as_str()?.parse::<f64>().ok().filter(|number| number.is_finite())
}

/// One of a series of a result.
pub fn sample(name: &str, labels: &Value, value: f64) -> Sample {
    let labels = labels.as_object().into_iter().flatten();
    let labels = labels.map(|(name, value)| (name.clone(), value.as_str().unwrap_or_default().to_owned())).collect();
    Sample { name: name.to_owned(), labels, value }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_stays_in_front() {
        for (address, wanted) in [
            ("http://127.0.0.1:9090", "http://127.0.0.1:9090/api/v1/query"),
            ("https://example.com/prometheus", "https://example.com/prometheus/api/v1/query"),
            ("https://example.com/prometheus/", "https://example.com/prometheus/api/v1/query"),
        ] {
            assert_eq!(below(&Url::parse(address).unwrap(), "api/v1/query").unwrap().as_str(), wanted);
        }
    }
}
