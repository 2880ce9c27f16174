//! `penstock canary` on a real Envoy and a real Prometheus: a version that fails half of what it is asked, is slow, and answers at length.

use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use penstock_harness::envoy::{self, Envoy, Gateway};
use penstock_harness::model_server::{ModelServer, Options};
use penstock_harness::port::Port;
use penstock_harness::prometheus::Prometheus;
use penstock_harness::skipped;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

const REQUESTS: usize = 400;

#[test]
fn a_version_that_is_worse_is_seen_by_an_envoy_and_by_a_prometheus() {
    let checkout = envoy::checkout().unwrap();
    let (Some(binary), true) = (envoy::find(&checkout), checkout.join("dist/penstock.wasm").is_file()) else {
        return skipped("there is no Envoy, or no module; run `cargo xtask tools` and `cargo xtask build`");
    };
    Runtime::new().unwrap().block_on(async {
        let stable = server(Options { ttft_ms: 20, completion_tokens: 20, ..Options::default() }).await;
        let canary =
            server(Options { ttft_ms: 400, completion_tokens: 60, error_rate: 0.5, seed: 7, ..Options::default() })
                .await;
        let gateway = Gateway::load(&checkout, "gateway.yaml").unwrap();
        let gateway = gateway.cluster("stable", stable.address()).cluster("canary", canary.address());
        let gateway = gateway.plugin_config(&json!({"models": [{
            "name": "chat", "tokenizer": "o200k_base", "price": {"input": 1, "output": 10},
            "versions": [{"name": "stable", "weight": 1}, {"name": "canary", "weight": 1}],
        }]}));
        let envoy = Envoy::start(&binary, &gateway.render(), 2).await.unwrap();
        let prometheus = prometheus(&envoy.admin_url());
        // A version that served something before is not new to Prometheus.
        ask(&envoy.url(), 0..20).await;
        tokio::time::sleep(Duration::from_secs(3)).await;
        let asking = tokio::spawn(traffic(envoy.url()));

        let admin = envoy.admin_url();
        let looked =
            tokio::task::spawn_blocking(move || penstock(&["canary", "--envoy", &admin, "--window", "12s", "--json"]));
        worse(&json_of(&looked.await.unwrap()));
        let admin = envoy.admin_url();
        let looked = tokio::task::spawn_blocking(move || penstock(&["top", "--envoy", &admin, "--once", "--json"]));
        busy(&json_of(&looked.await.unwrap()));
        asking.await.unwrap();

        let Some(prometheus) = prometheus else {
            return skipped("there is no Prometheus; on Debian: apt-get install prometheus");
        };
        let url = prometheus.url();
        let looked = tokio::task::spawn_blocking(move || {
            let common = ["canary", "--prometheus", &url, "--window", "36s"];
            let whole = penstock(&common);
            let nobody = penstock(&[&common[..], &["--model", "nobody"]].concat());
            let top = penstock(&["top", "--prometheus", &url, "--every", "1", "--json"]);
            (penstock(&[&common[..], &["--json"]].concat()), whole, nobody, top)
        });
        let (looked, whole, nobody, top) = looked.await.unwrap();
        let top = json_of(&top);
        assert_eq!((&top["filters"], &top["models"][0]["name"]), (&json!(true), &json!("chat")), "{top:#}");
        worse(&json_of(&looked));

        let text = String::from_utf8(whole.stdout).unwrap();
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        let failed = text.lines().find(|line| line.starts_with("failed")).unwrap_or_else(|| panic!("{text}"));
        assert!(failed.ends_with('*') && failed.contains("0.00%"), "{text}");
        assert!(text.starts_with("chat") && text.contains("stable") && text.contains("tokens an answer"), "{text}");
        let said = String::from_utf8(nobody.stderr).unwrap();
        assert!(!nobody.status.success() && said.contains("no version served anything"), "{said}");
    });
}

#[test]
fn who_does_not_answer_is_named() {
    let nobody = Port::reserve().unwrap();
    let free = nobody.address();
    let elsewhere = format!("http://{free}");
    for source in ["--envoy", "--prometheus"] {
        let output = penstock(&["canary", source, &elsewhere]);
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && said.contains(&free.to_string()), "{said}");
        let output = penstock(&["canary", source, "https://127.0.0.1:1"]);
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(
            !output.status.success() && said.contains("https://127.0.0.1:1/: this command speaks http alone"),
            "{said}"
        );
    }
    let output = penstock(&["canary", "--envoy", &elsewhere, "--window", "1s"]);
    assert!(String::from_utf8(output.stderr).unwrap().contains("write 30s, 5m, 1h, 7d"));
}

/// The canary is worse in all that was made worse, and nothing is said that cannot be.
fn worse(said: &Value) {
    let one = &said["models"][0];
    let (stable, canary) = (&one["stable"]["version"], &one["canary"]["version"]);
    assert_eq!((stable, canary), (&json!("stable"), &json!("canary")), "{said:#}");
    let figure = |name: &str, of: &str| {
        one["figures"][name][of]["value"].as_f64().unwrap_or_else(|| panic!("{name} {of} in {said:#}"))
    };
    let failed = &one["figures"]["errors"];
    assert!(figure("errors", "stable") == 0.0 && (0.3..0.7).contains(&figure("errors", "canary")), "{said:#}");
    assert!(failed["difference"]["low"].as_f64().is_some_and(|low| low > 0.2) && failed["differs"] == true, "{said:#}");
    assert!(figure("ttft_p50_milliseconds", "stable") < 250.0, "{said:#}");
    assert!((250.0..=1000.0).contains(&figure("ttft_p50_milliseconds", "canary")), "{said:#}");
    for name in ["tokens_per_answer", "microdollars_per_answer"] {
        let more = &one["figures"][name]["ratio"];
        assert!(
            more["low"].as_f64().is_some_and(|low| low > 1.2) && one["figures"][name]["differs"] == true,
            "{said:#}"
        );
    }
}

async fn server(options: Options) -> ModelServer {
    ModelServer::start(Options { inter_token_ms: 1, ..options }).await.unwrap()
}

/// Some twenty questions a second.
async fn traffic(url: String) {
    for from in (0..REQUESTS).step_by(20) {
        let began = Instant::now();
        ask(&url, from..from + 20).await;
        tokio::time::sleep(Duration::from_secs(1).saturating_sub(began.elapsed())).await;
    }
}

/// Asks them all at once; what comes of it is counted by others.
async fn ask(url: &str, numbers: std::ops::Range<usize>) {
    let client = reqwest::Client::new();
    let questions = numbers.map(|number| {
        let body = json!({"model": "chat", "stream": true, "messages": [{"role": "user", "content": format!("Say {number}.")}]});
        let request = client.post(format!("{url}/v1/chat/completions")).json(&body);
        tokio::spawn(async move { request.send().await.unwrap().text().await.unwrap() })
    });
    for question in questions.collect::<Vec<_>>() {
        question.await.unwrap();
    }
}

/// A Prometheus that scrapes an Envoy once a second. `None` where this machine has none.
fn prometheus(admin: &str) -> Option<Prometheus> {
    let target = admin.trim_start_matches("http://");
    let job = json!({
        "job_name": "penstock", "metrics_path": "/stats/prometheus", "static_configs": [{"targets": [target]}],
    });
    let config = json!({"global": {"scrape_interval": "1s", "scrape_timeout": "1s"}, "scrape_configs": [job]});
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("canary-prometheus");
    Prometheus::start(Path::new("prometheus"), &folder, &config, &[]).ok()
}

fn penstock(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_penstock")).args(arguments).output().unwrap()
}

/// `penstock top` sees the same traffic: some twenty a second, about half of them to each version.
fn busy(seen: &Value) {
    let versions = seen["models"][0]["versions"].as_array().unwrap();
    let rate: f64 = versions.iter().map(|version| version["perSecond"].as_f64().unwrap()).sum();
    assert!(versions.len() == 2 && (5.0..60.0).contains(&rate), "{seen:#}");
    assert!(versions.iter().all(|version| version["ttftP95"].as_f64().is_some_and(|ms| ms > 1.0)), "{seen:#}");
}

fn json_of(output: &Output) -> Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}
