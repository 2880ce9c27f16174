//! Every query that is shipped, asked of a Prometheus that scrapes an Envoy: each is understood, and each panel shows something.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use penstock_tests::gateway;
use reqwest::{Client, StatusCode, Url};
use serde_json::{Value, json};

use super::checks;
use super::set::{SETS, Set, list};
use super::tools;

const PATIENCE: Duration = Duration::from_secs(60);

/// Ended with the test.
struct Prometheus {
    process: Child,
    url: String,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Prometheus {
    /// Scrapes this address each second, as this PodMonitor does, with these rules.
    fn start(program: &Path, target: &str, monitor: &Value, rules: &Value) -> Self {
        // Kubernetes has names of its own for what Prometheus has.
        let names = [("sourceLabels", "source_labels"), ("targetLabel", "target_label")];
        let relabelings = monitor["metricRelabelings"].to_string();
        let relabelings = names.iter().fold(relabelings, |text, (theirs, ours)| text.replace(theirs, ours));
        let relabelings: Value = serde_json::from_str(&relabelings).expect("JSON");
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("asked");
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).expect("a folder");
        let config = json!({
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
            "rule_files": ["rules.json"],
            "scrape_configs": [{
                "job_name": "istio-ingress/penstock", "metrics_path": monitor["path"],
                "metric_relabel_configs": relabelings,
                "static_configs": [{"targets": [target], "labels": {"namespace": "istio-ingress", "pod": "gateway-0"}}],
            }],
        });
        // JSON is YAML.
        fs::write(folder.join("prometheus.json"), config.to_string()).expect("written");
        fs::write(folder.join("rules.json"), rules.to_string()).expect("written");
        let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port").port();
        let mut command = Command::new(program);
        command.current_dir(&folder).args(["--config.file=prometheus.json", "--storage.tsdb.path=data"]);
        command.arg(format!("--web.listen-address=127.0.0.1:{port}")).stdout(Stdio::null()).stderr(Stdio::null());
        let process = command.spawn().expect("it starts");
        Self { process, url: format!("http://127.0.0.1:{port}/api/v1/query") }
    }

    /// The series of an answer, or what is wrong with the query.
    async fn ask(&self, client: &Client, query: &str) -> Result<usize, String> {
        let url = Url::parse_with_params(&self.url, [("query", query)]).map_err(|error| error.to_string())?;
        let answer = client.get(url).send().await.map_err(|error| error.to_string())?;
        let answer: Value = answer.json().await.map_err(|error| error.to_string())?;
        match answer["status"].as_str() {
            Some("success") => Ok(list(&answer["data"]["result"]).len()),
            _ => Err(answer["error"].to_string()),
        }
    }
}

/// What is asked for by a panel, with the variables that Grafana fills in.
fn filled(query: &str) -> String {
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
    let prometheus = Prometheus::start(&program, envoy.admin_url().trim_start_matches("http://"), monitor, rules);
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
            match prometheus.ask(&client, &filled(&query)).await {
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
        let answer = prometheus.ask(&client, query).await;
        assert!(answer.is_ok(), "{query}: {answer:?}");
    }
    // What rules record is there, but for what needs other sources.
    for record in checks::rules(&set).filter_map(|rule| rule["record"].as_str()) {
        assert!(prometheus.ask(&client, record).await.is_ok_and(|series| series > 0), "{record} has no series");
    }
}
