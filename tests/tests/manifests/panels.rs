//! Panels of the dashboard for whoever is on call, drawn for the docs from what a Prometheus answers that scrapes an Envoy under load.

use std::fs;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use penstock_harness::chart::{self, Line, Panel};
use penstock_harness::model_server::{ModelServer, Options};
use penstock_harness::prometheus::Prometheus;
use penstock_tests::{checkout, gateway};
use reqwest::{Client, Url};
use serde_json::{Value, json};

use super::asked;
use super::set::{SETS, Set, list};
use super::tools;

/// What is drawn, in this order; each has the name that the dashboard gives it.
const PANELS: [&str; 6] = [
    "Pending tokens",
    "What arrives",
    "Requests by outcome",
    "Requests refused, by reason",
    "The oldest wait",
    "Time to first token",
];

/// For how long so many requests a second come: what one model server can do, twice as much, and the first again.
const PHASES: [(u64, f64); 3] = [(90, 4.0), (60, 14.0), (120, 4.0)];
/// Words of a prompt, of about one token each.
const WORDS: usize = 1500;
/// The scrapes that it takes until the first rate.
const BEFORE: Duration = Duration::from_secs(6);
const STEP_SECONDS: f64 = 2.0;
const COLOURS: [&str; 6] = ["#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#17becf"];
/// What a page is asked to load.
const BYTES_MAX: usize = 60_000;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "draws docs/on-call.svg, from a load of some minutes"]
async fn the_panels_of_the_docs_are_drawn() {
    let Some(program) = tools::program("prometheus", "PENSTOCK_PROMETHEUS") else {
        return tools::skip_or_fail("the_panels_of_the_docs_are_drawn", "no Prometheus");
    };
    let set = Set::load(SETS[0]);
    let replica = &set.config()["models"][0]["replica"];
    let config = json!({
        "tick": "1s",
        "tenant": {"from": [{"header": "x-tenant", "trusted": true}], "anonymous": "allow"},
        "tenants": {"acme": {}, "globex": {}},
        "models": [{"name": "chat", "replica": replica, "pending": {"ceiling": 100_000}, "versions": [{"name": "stable", "weight": 1}]}],
        "limits": [{"name": "tpm", "per": ["tenant"], "match": {"tenant": "globex"}, "tokens": 600, "every": "1m"}],
    });
    let figure = |key: &str| replica[key].as_u64().expect("a figure");
    let options = Options {
        prefill_tokens_per_second: figure("prefillTokensPerSecond"),
        decode_tokens_per_second: figure("decodeTokensPerSecond"),
        ..Options::default()
    };
    let server = ModelServer::start(options).await.expect("a free port");
    let Some((envoy, _unused)) = gateway(&config, |gateway| gateway.cluster("stable", server.address())).await else {
        return;
    };
    let rules = &set.one("PrometheusRule")["spec"];
    let monitor = &set.one("PodMonitor")["spec"]["podMetricsEndpoints"][0];
    let target = envoy.admin_url();
    let prometheus = asked::prometheus("panels", &program, target.trim_start_matches("http://"), monitor, rules);
    let client = Client::new();
    let begin = SystemTime::now().duration_since(UNIX_EPOCH).expect("a time") + BEFORE;
    load(&client, &envoy.url()).await;

    let mut drawn = Vec::new();
    for (title, unit, targets) in panels(&set) {
        let mut series = Vec::new();
        for (query, name) in targets {
            series.extend(range(&prometheus, &client, &asked::filled(&query), &name, begin.as_secs_f64()).await);
        }
        assert!(!series.is_empty(), "{title} shows nothing");
        drawn.push((format!("{title}{unit}"), series));
    }
    let picture = picture(&drawn);
    assert!(picture.len() < BYTES_MAX, "{} bytes", picture.len());
    fs::write(checkout().join("docs/on-call.svg"), picture).expect("written");
}

/// What a panel shows: its title, and its series by their names.
type Drawn = (String, Vec<(String, Vec<f64>)>);
/// A title, its unit, and its queries with the names of what they answer.
type Asked = (String, &'static str, Vec<(String, String)>);

/// The dashboard's panels, and what KEDA would ask for.
fn panels(set: &Set) -> Vec<Asked> {
    let boards = set.dashboards();
    let (_, board) = boards.iter().find(|(name, _)| name == "on-call.json").expect("a dashboard");
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let of_board = PANELS.map(|title| {
        let panel = list(&board["panels"]).iter().find(|panel| panel["title"] == title);
        let panel = panel.unwrap_or_else(|| panic!("no panel {title}"));
        let unit = match panel["fieldConfig"]["defaults"]["unit"].as_str() {
            Some("ms") => ", ms",
            Some("reqps") => ", a second",
            _ => "",
        };
        let targets = list(&panel["targets"]).iter();
        (title.to_owned(), unit, targets.map(|target| (text(&target["expr"]), text(&target["legendFormat"]))).collect())
    });
    let object = set.of_kind("ScaledObject").find(|object| object.value["metadata"]["name"] == "chat-stable");
    let query = text(&object.expect("a ScaledObject").value["spec"]["triggers"][0]["metadata"]["query"]);
    let wanted = ("Replicas that the ScaledObject asks for".to_owned(), "", vec![(query, "chat stable".to_owned())]);
    of_board.into_iter().chain([wanted]).collect()
}

/// Long prompts of one tenant as [`PHASES`] say, and short ones of another, which has a limit.
async fn load(client: &Client, url: &str) {
    let ask = |tenant: &'static str, words: usize, number: usize| {
        // No two begin alike, so that nothing of them is cached.
        let content = format!("{number} {}", "word ".repeat(words));
        let body = json!({"model": "chat", "stream": true, "max_tokens": 60, "messages": [{"role": "user", "content": content}]});
        let request = client.post(format!("{url}/v1/chat/completions")).json(&body).header("x-tenant", tenant);
        tokio::spawn(async move { Ok::<_, reqwest::Error>(request.send().await?.bytes().await?.len()) });
    };
    let mut number = 0;
    for (seconds, rate) in PHASES {
        let end = Instant::now() + Duration::from_secs(seconds);
        let mut turns = tokio::time::interval(Duration::from_secs_f64(1.0 / rate));
        while Instant::now() < end {
            turns.tick().await;
            number += 1;
            ask("acme", WORDS, number);
            if number % 4 == 0 {
                ask("globex", 20, number);
            }
        }
    }
}

/// What a query answers from `begin` on until now, each series with its name; nothing is NaN.
async fn range(
    prometheus: &Prometheus,
    client: &Client,
    query: &str,
    name: &str,
    begin: f64,
) -> Vec<(String, Vec<f64>)> {
    let points = points();
    let end = begin + STEP_SECONDS * (points - 1) as f64;
    let (from, to, step) = (begin.to_string(), end.to_string(), STEP_SECONDS.to_string());
    let parameters = [("query", query), ("start", &from), ("end", &to), ("step", &step)];
    let url = Url::parse_with_params(&format!("{}/api/v1/query_range", prometheus.url()), parameters).expect("a URL");
    let answer: Value = client.get(url).send().await.expect("an answer").json().await.expect("JSON");
    assert_eq!(answer["status"], "success", "{query}: {answer}");
    let series = list(&answer["data"]["result"]).iter().map(|series| {
        let mut values = vec![f64::NAN; points];
        for sample in list(&series["values"]) {
            let at = sample[0].as_f64().expect("a time");
            let value = sample[1].as_str().and_then(|value| value.parse().ok()).expect("a number");
            values[((at - begin) / STEP_SECONDS).round() as usize] = value;
        }
        (named(name, &series["metric"]), values)
    });
    series.collect()
}

fn points() -> usize {
    let seconds: u64 = PHASES.iter().map(|(seconds, _)| seconds).sum();
    ((seconds - BEFORE.as_secs()) as f64 / STEP_SECONDS) as usize
}

/// As Grafana fills in `{{label}}`.
fn named(format: &str, labels: &Value) -> String {
    let labels = labels.as_object().into_iter().flatten();
    labels.fold(format.to_owned(), |name, (label, value)| {
        name.replace(&format!("{{{{{label}}}}}"), value.as_str().unwrap_or_default())
    })
}

fn picture(panels: &[Drawn]) -> String {
    type Values<'a> = Box<dyn Fn(&usize) -> f64 + 'a>;
    let values: Vec<Vec<Values<'_>>> = panels
        .iter()
        .map(|(_, series)| series.iter().map(|(_, values)| Box::new(|at: &usize| values[*at]) as Values<'_>).collect())
        .collect();
    let lines: Vec<Vec<Line<'_, usize>>> = panels
        .iter()
        .zip(&values)
        .map(|((_, series), values)| {
            let named = series.iter().zip(values).zip(COLOURS.iter().cycle());
            named.map(|(((name, _), value), colour)| Line { name, colour, is_stepped: false, value }).collect()
        })
        .collect();
    let panels: Vec<_> = panels.iter().zip(&lines).map(|((title, _), lines)| Panel { title, lines }).collect();
    let times: Vec<usize> = (0..points()).collect();
    chart::svg("", &times, |at| *at as f64 * STEP_SECONDS, &panels)
}
