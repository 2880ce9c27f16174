//! Prometheus, as it is installed.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use reqwest::Url;
use serde_json::{Value, json};

use crate::place::DIRECTORY;
use crate::process::{Process, installed, page};

/// Where it listens.
pub const ADDRESS: &str = "127.0.0.1:9090";
const START_SECONDS_MAX: u64 = 30;
const STOP_SECONDS_MAX: u64 = 15;
/// How far it looks back for a sample, in a Prometheus as it comes.
const LOOKBACK_SECONDS: u32 = 300;

/// The path of Envoy's page of metrics.
pub const PATH: &str = "/stats/prometheus";

/// One page that a job scrapes.
#[derive(Clone, Debug)]
pub struct Target {
    /// The job's name, which operators make of a PodMonitor: `NAMESPACE/NAME`.
    pub job: String,
    /// Host and port.
    pub address: String,
    /// What is written on its series besides.
    pub labels: BTreeMap<String, String>,
}

impl Target {
    /// A gateway's pod in `istio-ingress`, with the labels that operators write on it.
    pub fn pod(job: &str, name: &str, address: String) -> Self {
        let labels = [("namespace", "istio-ingress"), ("pod", name)];
        let labels = labels.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Self { job: job.to_owned(), address, labels: BTreeMap::from(labels) }
    }
}

/// What it does.
#[derive(Clone, Debug)]
pub struct Config {
    /// What it scrapes.
    pub targets: Vec<Target>,
    /// How often it scrapes and evaluates rules.
    pub interval: Duration,
    /// Rule files, as the `spec` of a PrometheusRule has them.
    pub rules: Vec<Value>,
    /// By which number times are divided: how far it looks back for a sample.
    pub times: u32,
}

/// A Prometheus that can be away.
#[derive(Debug)]
pub struct Prometheus {
    config: Config,
    directory: PathBuf,
    process: Option<Process>,
}

impl Prometheus {
    /// Starts it, with nothing in its store.
    ///
    /// # Errors
    /// When it is not installed, or does not come up; with the end of its log.
    pub async fn start(config: Config) -> Result<Self, String> {
        let directory = Path::new(DIRECTORY).join("prometheus");
        let mut prometheus = Self { config, directory, process: None };
        prometheus.empty().await?;
        Ok(prometheus)
    }

    /// Whether this machine has one.
    ///
    /// # Errors
    /// How to get it.
    pub fn possible() -> Result<(), String> {
        installed("prometheus", "prometheus")
    }

    /// Starts it anew, without what it stored.
    ///
    /// # Errors
    /// As [`Prometheus::start`].
    pub async fn empty(&mut self) -> Result<(), String> {
        self.process = None;
        match fs::remove_dir_all(self.directory.join("data")) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(format!("{}: {error}", self.directory.display())),
        }
        self.resume().await
    }

    /// Ends it; what it stored is kept.
    ///
    /// # Errors
    /// When it does not end.
    pub async fn stop(&mut self) -> Result<(), String> {
        match self.process.take() {
            Some(mut process) => process.terminate(STOP_SECONDS_MAX).await,
            None => Ok(()),
        }
    }

    /// Starts it again with what it had stored, and with the configuration as it is now.
    ///
    /// # Errors
    /// As [`Prometheus::start`].
    pub async fn resume(&mut self) -> Result<(), String> {
        self.stop().await?;
        let file = self.write()?;
        let mut command = Command::new("prometheus");
        command.arg(format!("--config.file={}", file.display()));
        command.arg(format!("--storage.tsdb.path={}", self.directory.join("data").display()));
        command.arg(format!("--web.listen-address={ADDRESS}"));
        command.arg(format!("--query.lookback-delta={}ms", LOOKBACK_SECONDS * 1000 / self.config.times));
        let mut process = Process::start("prometheus", &mut command)?;
        process.until("ready", START_SECONDS_MAX, || page("http://127.0.0.1:9090/-/ready")).await?;
        self.process = Some(process);
        Ok(())
    }

    /// What it scrapes; takes effect when it is started again.
    pub fn config(&mut self) -> &mut Config {
        &mut self.config
    }

    /// The values of an instant query.
    ///
    /// # Errors
    /// When it does not answer, or the query is wrong.
    pub async fn query(&self, query: &str) -> Result<Vec<f64>, String> {
        let answer = self.api("query", &[("query", query)]).await?;
        let results = answer["data"]["result"].as_array().cloned().unwrap_or_default();
        let value = |result: &Value| result["value"][1].as_str().and_then(|text| text.parse().ok());
        Ok(results.iter().filter_map(value).collect())
    }

    /// The labels of the alerts that fire, in no order.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn firing(&self) -> Result<Vec<BTreeMap<String, String>>, String> {
        let answer = self.api("alerts", &[]).await?;
        let alerts = answer["data"]["alerts"].as_array().cloned().unwrap_or_default();
        let firing = alerts.into_iter().filter(|alert| alert["state"] == "firing");
        Ok(firing.filter_map(|mut alert| serde_json::from_value(alert["labels"].take()).ok()).collect())
    }

    async fn api(&self, path: &str, parameters: &[(&str, &str)]) -> Result<Value, String> {
        let url = Url::parse_with_params(&format!("http://{ADDRESS}/api/v1/{path}"), parameters);
        let url = url.map_err(|error| error.to_string())?;
        // A query that is wrong is answered with 400, and says why.
        let answer = async { reqwest::get(url).await?.json::<Value>().await };
        let answer = answer.await.map_err(|error| format!("prometheus: {error}"))?;
        if answer["status"] == "success" { Ok(answer) } else { Err(format!("prometheus: {}", answer["error"])) }
    }

    fn write(&self) -> Result<PathBuf, String> {
        let Config { targets, interval, rules, .. } = &self.config;
        let interval = format!("{}ms", interval.as_millis());
        let mut jobs: BTreeMap<&str, Vec<&Target>> = BTreeMap::new();
        targets.iter().for_each(|target| jobs.entry(&target.job).or_default().push(target));
        let job = |(name, targets): (&&str, &Vec<&Target>)| {
            let page = |target: &&Target| json!({"targets": [target.address], "labels": target.labels});
            json!({
                "job_name": name, "metrics_path": PATH, "static_configs": targets.iter().map(page).collect::<Vec<_>>(),
                // Those of the shipped PodMonitor.
                "metric_relabel_configs": [
                    {"source_labels": ["__name__"], "regex": "penstock_.*|istio_requests_total", "action": "keep"},
                ],
            })
        };
        let mut files = Vec::new();
        for (number, rules) in rules.iter().enumerate() {
            files.push(self.file(&format!("rules-{number}.yml"), rules)?);
        }
        // JSON is YAML.
        let config = json!({
            "global": {"scrape_interval": interval, "scrape_timeout": interval, "evaluation_interval": interval},
            "rule_files": files, "scrape_configs": jobs.iter().map(job).collect::<Vec<_>>(),
        });
        self.file("prometheus.yml", &config)
    }

    fn file(&self, name: &str, text: &Value) -> Result<PathBuf, String> {
        let path = self.directory.join(name);
        let written = fs::create_dir_all(&self.directory).and_then(|()| fs::write(&path, text.to_string()));
        written.map(|()| path).map_err(|error| format!("{name}: {error}"))
    }
}
