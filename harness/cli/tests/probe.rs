//! `penstock probe` through a real Envoy, as a tenant with a key, in front of the model server.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::thread;
use std::time::{Duration, Instant};

use penstock_harness::envoy::{self, Envoy, Gateway};
use penstock_harness::model_server::{ModelServer, Options};
use penstock_harness::port::Port;
use penstock_harness::skipped;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

/// Of `sk-probe` and `sk-acme-1`.
const KEYS: [&str; 2] = [
    "sha256:8b6a72e2322f2fb567a9046e5e3e555969cccb8a3642cc9e63f5f5c44cbf8895",
    "sha256:819685611e044dc4918e558945f580790befd0786cc2fb36e3417477ed704a3d",
];

#[test]
fn a_version_is_asked_judged_and_reported() {
    let Some((runtime, envoy, _servers)) = gateway(1) else { return };
    // Others have spent what all share; the prober has a budget of its own.
    let others = runtime.block_on(ask_as_acme(&envoy, 8));
    assert!(others.contains(&429), "{others:?}");
    let well = probe(&envoy, "", "golden: true");
    let said = json_of(&well, 0);
    let one = &said["versions"][0];
    assert_eq!(
        (&one["version"], &one["well"], &one["answers"]),
        (&json!("stable"), &json!(true), &json!(3)),
        "{said:#}"
    );
    // The first answer is what the others are compared with.
    assert_eq!((&one["compared"], &one["differs"]["value"]), (&json!(2), &json!(0.0)), "{said:#}");
    let labelled = runtime.block_on(envoy.metrics()).unwrap();
    let own = [("tenant", "prober"), ("outcome", "ok"), ("version", "stable")];
    assert_eq!(labelled.sum("penstock_requests_total", &own), 3.0);

    let wrong = probe(&envoy, "expect: {matches: '^never$', within: 1ms}", "golden: something else");
    let said = json_of(&wrong, 1);
    let one = &said["versions"][0];
    assert_eq!(
        (&one["well"], &one["failed"]["value"], &one["differs"]["value"]),
        (&json!(false), &json!(1.0), &json!(1.0))
    );
    assert!(said.to_string().contains("no match"), "{said:#}");

    // What people read has no text of an answer, and fits.
    let words = penstock(&["probe", path().to_str().unwrap(), "--gateway", &envoy.url()], "sk-probe");
    let text = String::from_utf8(words.stdout).unwrap();
    assert!(text.starts_with("chat stable: NOT WELL\n  failed   3 of 3:"), "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
}

/// The canary has no weight, so nobody but who may choose reaches it. Another seed is another model: it answers otherwise.
#[test]
fn each_version_is_asked_and_held_against_the_first() {
    for (seed, code) in [(0, 0), (1, 1)] {
        let Some((runtime, envoy, _servers)) = gateway(seed) else { return };
        write("", "golden: true");
        both(&path());
        let said = json_of(
            &penstock(&["probe", path().to_str().unwrap(), "--gateway", &envoy.url(), "--json"], "sk-probe"),
            code,
        );
        let [stable, canary] = [&said["versions"][0], &said["versions"][1]];
        assert_eq!((&stable["well"], &stable["differs"]["value"]), (&json!(true), &json!(0.0)), "{said:#}");
        assert_eq!((&canary["well"], &canary["answers"]), (&json!(seed == 0), &json!(8)), "{said:#}");
        assert_eq!(canary["differs_beyond_noise"], seed != 0, "{said:#}");
        let served = runtime.block_on(envoy.metrics()).unwrap();
        let own = [("tenant", "prober"), ("version", "canary")];
        assert_eq!(served.sum("penstock_requests_total", &own), 8.0);
    }
    // Who may not choose is told so.
    let Some((_runtime, envoy, _servers)) = gateway(1) else { return };
    let output = penstock(&["probe", path().to_str().unwrap(), "--gateway", &envoy.url()], "sk-acme-1");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(2) && said.contains("canary was never asked: stable served"), "{said}");
}

/// Nobody else asks it: its share of what is asked is none.
#[test]
fn a_version_whose_answers_are_wrong_is_taken_back_without_traffic() {
    for (seed, state) in [(0, 1.0), (1, 2.0)] {
        let Some((runtime, envoy, _servers)) = gateway(seed) else { return };
        write("", "golden: true");
        both(&path());
        let text = fs::read_to_string(path()).unwrap();
        let text = text.replace("every: 10ms", "every: 10ms\nfeedback: /penstock/feedback");
        fs::write(path(), text.replace("rounds: 8", "rounds: 40")).unwrap();
        let output = penstock(&["probe", path().to_str().unwrap(), "--gateway", &envoy.url()], "sk-probe");
        assert_eq!(output.stderr, b"", "{}", String::from_utf8_lossy(&output.stderr));
        // Told with a tick of a second, or two.
        let deadline = Instant::now() + Duration::from_secs(10);
        let told = || runtime.block_on(envoy.metrics()).unwrap().sum("penstock_canary_state", &[("version", "canary")]);
        while told() != state {
            assert!(Instant::now() < deadline, "{} where {state} is expected", told());
            thread::sleep(Duration::from_millis(200));
        }
    }
}

/// Both versions, and rounds enough to tell chance from a difference.
fn both(path: &Path) {
    let text = fs::read_to_string(path).unwrap();
    let text = text.replace("versions: [stable]", "override: x-version\nversions: [stable, canary]");
    fs::write(path, text.replace("rounds: 3", "rounds: 8")).unwrap();
}

#[test]
fn what_cannot_be_told_is_neither_well_nor_wrong() {
    let Some((_runtime, envoy, _servers)) = gateway(1) else { return };
    write("", "");
    let of = |output: &Output| (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned());
    let (code, said) = of(&penstock(&["probe", path().to_str().unwrap(), "--gateway", &envoy.url()], "sk-nobody"));
    assert!(code == Some(2) && said.contains("stable was never asked: the gateway refused (status 401)"), "{said}");
    let (code, said) = of(&penstock(&["probe", path().to_str().unwrap(), "--gateway", &envoy.url()], ""));
    assert!(code == Some(2) && said.contains("PENSTOCK_PROBE_KEY is not set"), "{said}");
    let nobody = Port::reserve().unwrap();
    let free = nobody.address();
    let (code, said) =
        of(&penstock(&["probe", path().to_str().unwrap(), "--gateway", &format!("http://{free}")], "sk-probe"));
    assert!(code == Some(2) && said.contains(&free.to_string()), "{said}");
    let (code, said) = of(&penstock(&["probe", "/nowhere/probes.yaml"], "sk-probe"));
    assert!(code == Some(2) && said.contains("/nowhere/probes.yaml"), "{said}");
}

#[test]
fn the_page_has_a_file_that_is_read() {
    let page = fs::read_to_string(envoy::checkout().unwrap().join("docs/probe.md")).unwrap();
    let text = page.split("```yaml probes\n").nth(1).unwrap().split("```").next().unwrap();
    fs::write(path(), text.replace("localhost:8080", "127.0.0.1:1")).unwrap();
    let output = penstock(&["probe", path().to_str().unwrap()], "sk-probe");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(2) && said.contains("http://127.0.0.1:1/v1/chat/completions"), "{said}");
}

fn path() -> PathBuf {
    let test = std::thread::current().name().unwrap_or_default().to_owned();
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("probes-{test}.yaml"))
}

fn write(expect: &str, golden: &str) {
    let more: String =
        [expect, golden].iter().filter(|line| !line.is_empty()).map(|line| format!("  {line}\n")).collect();
    let text = format!(
        "model: chat\nkey: {{prefix: 'Bearer ', env: PENSTOCK_PROBE_KEY}}\nversions: [stable]\nevery: 10ms\nrounds: 3\n\
         probes:\n- name: one\n  prompt: Say something.\n  maxTokens: 10\n{more}"
    );
    fs::write(path(), text).unwrap();
}

fn probe(envoy: &Envoy, expect: &str, golden: &str) -> Output {
    write(expect, golden);
    penstock(&["probe", path().to_str().unwrap(), "--gateway", &envoy.url(), "--json"], "sk-probe")
}

/// A gateway with a budget that all share, and is soon spent; its canary answers by this seed.
fn gateway(seed: u64) -> Option<(Runtime, Envoy, [ModelServer; 2])> {
    let checkout = envoy::checkout().unwrap();
    let (Some(binary), true) = (envoy::find(&checkout), checkout.join("dist/penstock.wasm").is_file()) else {
        skipped("there is no Envoy, or no module; run `cargo xtask tools` and `cargo xtask build`");
        return None;
    };
    let [prober, acme] = KEYS;
    let config = json!({
        "tenant": {"from": [{"apiKey": {"header": "authorization"}}]},
        "tenants": {"prober": {"apiKeys": [prober], "probe": true}, "acme": {"apiKeys": [acme]}},
        "models": [{"name": "chat", "tokenizer": "o200k_base",
            "versions": [{"name": "stable", "weight": 1}, {"name": "canary", "weight": 0}],
            "override": {"header": "x-version", "tenants": ["prober"]}, "guard": {"feedback": {}}}],
        "feedback": {},
        "limits": [{"name": "all", "tokens": 100, "every": "1h"}, {"name": "each", "per": ["tenant"], "tokens": 100000, "every": "1m"}],
    });
    let runtime = Runtime::new().unwrap();
    let (envoy, servers) = runtime.block_on(async {
        let stable = ModelServer::start(Options::default()).await.unwrap();
        let canary = ModelServer::start(Options { seed, ..Options::default() }).await.unwrap();
        let gateway = Gateway::load(&checkout, "gateway.yaml").unwrap();
        let gateway = gateway.cluster("stable", stable.address()).cluster("canary", canary.address());
        let envoy = Envoy::start(&binary, &gateway.plugin_config(&config).render(), 2).await.unwrap();
        (envoy, [stable, canary])
    });
    Some((runtime, envoy, servers))
}

/// The statuses of so many questions of somebody else.
async fn ask_as_acme(envoy: &Envoy, times: usize) -> Vec<u16> {
    let client = reqwest::Client::new();
    let body = json!({"model": "chat", "max_tokens": 20, "messages": [{"role": "user", "content": "Hello."}]});
    let mut statuses = Vec::new();
    for _ in 0..times {
        let request = client.post(format!("{}/v1/chat/completions", envoy.url())).json(&body);
        statuses.push(request.header("authorization", "Bearer sk-acme-1").send().await.unwrap().status().as_u16());
    }
    statuses
}

fn penstock(arguments: &[&str], key: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_penstock")).args(arguments).env("PENSTOCK_PROBE_KEY", key).output().unwrap()
}

fn json_of(output: &Output, code: i32) -> Value {
    assert_eq!(output.status.code(), Some(code), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}
