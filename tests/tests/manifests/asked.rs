//! Every query that is shipped, asked of a Prometheus that scrapes an Envoy: each is understood, and each panel shows something.

use std::path::Path;
use std::time::{Duration, Instant};

use penstock_harness::prometheus::Prometheus;
use penstock_tests::gateway;
use reqwest::{Client, StatusCode, Url};
use serde_json::{Value, json};

use super::checks;
use super::set::{SETS, Set, list};
use super::tools;

const PATIENCE: Duration = Duration::from_secs(60);

/// One that scrapes this address each second, as this PodMonitor does, with these rules; in a folder of this name.
pub fn prometheus(name: &str, program: &Path, target: &str, monitor: &Value, rules: &Value) -> Prometheus {
    // Kubernetes has names of its own for what Prometheus has.
    let names = [("sourceLabels", "source_labels"), ("targetLabel", "target_label")];
    let relabelings = monitor["metricRelabelings"].to_string();
    let relabelings = names.iter().fold(relabelings, |text, (theirs, ours)| text.replace(theirs, ours));
    let relabelings: Value = serde_json::from_str(&relabelings).expect("JSON");
    let config = json!({
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
        "rule_files": ["rules.json"],
        "scrape_configs": [{
            "job_name": "istio-ingress/penstock", "metrics_path": monitor["path"],
            "metric_relabel_configs": relabelings,
            "static_configs": [{"targets": [target], "labels": {"namespace": "istio-ingress", "pod": "gateway-0"}}],
        }],
    });
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    Prometheus::start(program, &folder, &config, &[("rules.json", rules)]).expect("it starts")
}

/// The series of an answer, or what is wrong with the query.
async fn shows(prometheus: &Prometheus, client: &Client, query: &str) -> Result<usize, String> {
    let url = format!("{}/api/v1/query", prometheus.url());
    let url = Url::parse_with_params(&url, [("query", query)]).map_err(|error| error.to_string())?;
    let answer = client.get(url).send().await.map_err(|error| error.to_string())?;
    let answer: Value = answer.json().await.map_err(|error| error.to_string())?;
    match answer["status"].as_str() {
        Some("success") => Ok(list(&answer["data"]["result"]).len()),
        _ => Err(answer["error"].to_string()),
    }
}

/// What is asked for by a panel, with the variables that Grafana fills in.
pub fn filled(query: &str) -> String {
    query.replace("$model", ".*").replace("$__rate_interval", "10s")
}

#[tokio::test(flavor = "multi_thread")]
async fn every_panel_shows_something_and_every_rule_is_understood() {
    let name = "every_panel_shows_something_and_every_rule_is_understood";
    let Some(program) = tools::program("prometheus", "PENSTOCK_PROMETHEUS") else {
        return tools::skip_or_fail(name, "no Prometheus; install Debian's package, or set PENSTOCK_PROMETHEUS");
    };
    let config = json!({
        "tick": "200ms",
        "tenant": {"from": [{"header": "x-tenant", "trusted": true}], "anonymous": "allow"},
        "tenants": {"acme": {}, "globex": {}},
        "models": [{
            "name": "chat", "price": {"input": 1000, "output": 1000}, "pending": {"ceiling": 100_000},
            "guard": {"errors": {"confidence": 0.99}},
            "versions": [{"name": "stable", "weight": 1}, {"name": "canary", "weight": 1}],
        }, {"name": "off", "suspended": true}],
        "limits": [
            {"name": "tpm", "per": ["tenant"], "match": {"tenant": "globex"}, "tokens": 60, "every": "1h"},
            {"name": "seen", "per": ["tenant"], "match": {"tenant": "acme"}, "tokens": 1, "every": "1h", "mode": "observe"},
            {"name": "acme", "per": ["tenant"], "match": {"tenant": "acme"}, "tokens": 1_000_000, "every": "1m"},
        ],
    });
    let Some((envoy, _server)) = gateway(&config, |gateway| gateway).await else { return };
    let set = Set::load(SETS[0]);
    let rules = &set.one("PrometheusRule")["spec"];
    let monitor = &set.one("PodMonitor")["spec"]["podMetricsEndpoints"][0];
    let prometheus = prometheus("asked", &program, envoy.admin_url().trim_start_matches("http://"), monitor, rules);
    let client = Client::new();
    let ask = async |tenant: &str, model: &str, stream: bool| {
        let body = json!({"model": model, "stream": stream, "max_tokens": 40, "messages": [{"role": "user", "content": "hello"}]});
        let request =
            client.post(format!("{}/v1/chat/completions", envoy.url())).json(&body).header("x-tenant", tenant);
        let request = request.header("x-model-server", r#"{"tokens":20,"inter_token_ms":2,"cached_tokens":4}"#);
        let answer = request.send().await.expect("an answer");
        let status = answer.status();
        answer.bytes().await.expect("a body");
        status
    };
    // Some of each kind, all the time, until every panel has something to show.
    let began = Instant::now();
    let mut empty = set.panels();
    while !empty.is_empty() {
        for stream in [true, false] {
            assert_eq!(ask("acme", "chat", stream).await, StatusCode::OK);
            ask("globex", "chat", stream).await;
            assert_eq!(ask("acme", "off", stream).await, StatusCode::SERVICE_UNAVAILABLE);
        }
        let mut still = Vec::new();
        for query in empty {
            match shows(&prometheus, &client, &filled(&query)).await {
                Ok(1..) => {}
                answer => still.push((query, answer)),
            }
        }
        assert!(began.elapsed() < PATIENCE, "nothing is answered to {still:#?}");
        empty = still.into_iter().map(|(query, _)| query).collect();
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    let runbooks = super::runbooks();
    let confirms = runbooks.split("**Confirm** with `").skip(1).filter_map(|rest| rest.split('`').next());
    let triggers = set.of_kind("ScaledObject").flat_map(|object| list(&object.value["spec"]["triggers"]));
    let triggers = triggers.filter_map(|trigger| trigger["metadata"]["query"].as_str());
    let rules = checks::rules(&set).filter_map(|rule| rule["expr"].as_str());
    for query in confirms.chain(triggers).chain(rules) {
        let answer = shows(&prometheus, &client, query).await;
        assert!(answer.is_ok(), "{query}: {answer:?}");
    }
    // What rules record is there, but for what needs other sources; some of it a few evaluations later than what it is made of.
    for record in checks::rules(&set).filter_map(|rule| rule["record"].as_str()) {
        loop {
            match shows(&prometheus, &client, record).await {
                Ok(1..) => break,
                answer => assert!(began.elapsed() < PATIENCE, "{record} has no series: {answer:?}"),
            }
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    }
}
