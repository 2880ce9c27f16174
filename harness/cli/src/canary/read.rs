//! Where counts come from: a Prometheus, or an Envoy's own page.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use penstock_harness::envoy::Metrics;
use reqwest::Url;
use serde_json::Value;

use crate::http::client;
use crate::samples::{ask, number, sample, scrape};

use super::counts::{COUNTERS, Counts, STATE, growth};

/// Into so many stretches of time a look is cut: what varies between them tells how sure a mean is.
const STRETCHES: u32 = 12;
const TIMEOUT: Duration = Duration::from_secs(30);

/// What a Prometheus has counted over the last `window`.
///
/// # Errors
/// When it does not answer, or says why not.
pub async fn prometheus(address: &Url, window: Duration, model: Option<&str>) -> Result<Counts, String> {
    let client = client(TIMEOUT)?;
    let step = (window.as_secs() / u64::from(STRETCHES)).max(1);
    let end = SystemTime::now().duration_since(UNIX_EPOCH).map_err(|error| error.to_string())?.as_secs();
    let matcher = model.map(|model| format!("{{model={model:?}}}")).unwrap_or_default();
    let mut counts = Counts { stretches: vec![Metrics::default(); STRETCHES as usize], states: Metrics::default() };
    for (name, labels) in COUNTERS {
        let query = format!("sum by ({}) (increase({name}{matcher}[{step}s]))", labels.join(", "));
        let start = end - step * u64::from(STRETCHES - 1);
        let range = [("start", start.to_string()), ("end", end.to_string()), ("step", step.to_string())];
        for series in ask(&client, address, "api/v1/query_range", &query, &range).await? {
            for (stretch, value) in points(&series["values"], start, step) {
                if let Some(stretch) = counts.stretches.get_mut(stretch) {
                    stretch.0.push(sample(name, &series["metric"], value));
                }
            }
        }
    }
    for series in ask(&client, address, "api/v1/query", &format!("{STATE}{matcher}"), &[]).await? {
        if let Some(value) = number(&series["value"][1]) {
            counts.states.0.push(sample(STATE, &series["metric"], value));
        }
    }
    Ok(counts)
}

/// What an Envoy counts while one waits: its admin page is read at the beginning, at the end, and in between.
///
/// # Errors
/// When it does not answer, or was started anew meanwhile.
pub async fn envoy(address: &Url, during: Duration, mut seen: impl FnMut(u32, u32)) -> Result<Counts, String> {
    let client = client(TIMEOUT)?;
    let mut counts = Counts::default();
    let mut before = scrape(&client, address).await?;
    for number in 1..=STRETCHES {
        tokio::time::sleep(during / STRETCHES).await;
        let after = scrape(&client, address).await?;
        counts.stretches.push(growth(&before, &after)?);
        before = after;
        seen(number, STRETCHES);
    }
    counts.states = Metrics(before.0.into_iter().filter(|sample| sample.name == STATE).collect());
    Ok(counts)
}

/// Which stretch each point of a series is of, and its value; what is no number is left out.
fn points(values: &Value, start: u64, step: u64) -> Vec<(usize, f64)> {
    let point = |one: &Value| {
        let at = one[0].as_f64()? - start as f64;
        let value = number(&one[1])?;
        Some(((at / step as f64).round() as usize, value))
    };
    values.as_array().into_iter().flatten().filter_map(point).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn points_are_of_their_stretch() {
        let values = json!([[1000, "1"], [1060.0, "NaN"], [1120, "2.5"]]);
        assert_eq!(points(&values, 1000, 60), [(0, 1.0), (2, 2.5)]);
    }
}
