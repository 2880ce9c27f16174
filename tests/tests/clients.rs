//! Real clients through a real Envoy: the `openai` package, two workers, and a model server for each version.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Stdio;

use penstock_harness::envoy::{Chain, Envoy, Gateway, Metrics};
use penstock_harness::model_server::{ModelServer, Options};
use penstock_tests::{checkout, find_envoy, find_python, module, need, until_metrics};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

#[tokio::test(flavor = "multi_thread")]
async fn counted_prompt_tokens_are_the_servers_streamed_and_not_in_both_deployments() {
    let tools = need!(Tools::find());
    for chain in [Chain::One, Chain::Row, Chain::RowInOneVm] {
        let stage = Stage::start(&tools, chain, &config(json!({}))).await;
        let calls: Vec<Value> = conversations()
            .into_iter()
            .flat_map(|messages| {
                let plain = json!({"model": "chat", "messages": messages, "max_tokens": 7});
                let mut streamed = plain.clone();
                streamed["stream"] = json!(true);
                streamed["stream_options"] = json!({"include_usage": true});
                [json!({"request": plain}), json!({"request": streamed})]
            })
            .collect();
        let outcomes = stage.call(4, &calls).await;
        for (call, outcome) in calls.iter().zip(&outcomes) {
            assert_eq!((outcome.status, &outcome.error), (200, &None), "{chain:?} {call} {outcome:?}");
            let usage = outcome.usage.as_ref().unwrap_or_else(|| panic!("{chain:?}: no usage for {call}"));
            let counted: u64 = outcome.header("x-penstock-prompt-tokens").parse().expect("a number");
            assert_eq!(counted, usage["prompt_tokens"].as_u64().expect("a number"), "{chain:?} {call}");
            assert_eq!(outcome.text.split(' ').count() as u64, usage["completion_tokens"].as_u64().expect("a number"));
        }
        let prompt: u64 = stage.totals(|server| server.totals().prompt_tokens);
        let completion: u64 = stage.totals(|server| server.totals().completion_tokens);
        let name = "penstock_tokens_total";
        stage.until(|metrics| metrics.sum(name, &[("kind", "prompt")]) == prompt as f64).await;
        stage.until(|metrics| metrics.sum(name, &[("kind", "completion")]) == completion as f64).await;
        let ok = [("model", "chat"), ("outcome", "ok")];
        stage.until(|metrics| metrics.sum("penstock_requests_total", &ok) == calls.len() as f64).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_did_not_ask_for_usage_gets_none_and_is_still_settled_exactly() {
    let tools = need!(Tools::find());
    let stage = Stage::start(&tools, Chain::One, &config(json!({}))).await;
    let call = json!({"request": {"model": "chat", "stream": true, "messages": [{"role": "user", "content": "Hello."}]},
        "headers": script(json!({"tokens": 31}))});
    let outcomes = stage.call(1, &[call]).await;
    assert_eq!((outcomes[0].status, &outcomes[0].usage), (200, &None), "{:?}", outcomes[0]);
    assert_eq!(outcomes[0].text.split(' ').count(), 31);
    stage.until(|metrics| metrics.sum("penstock_tokens_total", &[("kind", "completion")]) == 31.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_the_sdks_rate_limit_error_and_says_when_to_come_back() {
    let tools = need!(Tools::find());
    let limits =
        json!([{"name": "tenant-tpm", "per": ["tenant", "model"], "tokens": 300, "every": "10m", "burst": 300}]);
    let stage = Stage::start(&tools, Chain::One, &config(json!({"limits": limits}))).await;
    // Each costs its prompt and 60 completion tokens, so that the fifth is over 300, on whichever worker it lands, for a minute and a half.
    let call = |tenant: &str| {
        json!({"request": {"model": "chat", "max_tokens": 60, "messages": [{"role": "user", "content": "Hello there."}]},
            "headers": {"x-api-key": tenant, "x-model-server": json!({"tokens": 60}).to_string()}})
    };
    let outcomes = stage.call(2, &vec![call("key-1"); 8]).await;
    let (admitted, refused): (Vec<_>, Vec<_>) = outcomes.iter().partition(|outcome| outcome.status == 200);
    assert_eq!(admitted.len(), 4, "{outcomes:?}");
    for refusal in &refused {
        assert_eq!((refusal.status, refusal.error.as_deref()), (429, Some("RateLimitError")), "{refusal:?}");
        let error = &refusal.body["error"];
        assert_eq!(error["code"], "rate_limit_exceeded");
        assert!(error["message"].as_str().is_some_and(|message| message.contains("tenant-tpm")), "{error}");
        assert!(error.get("type").is_some() && error.get("param").is_some(), "{error}");
        assert_eq!(refusal.header("x-penstock-limit"), "tenant-tpm");
        let (seconds, millis) = (refusal.number("retry-after"), refusal.number("retry-after-ms"));
        assert!(
            (1..=120).contains(&seconds) && millis <= seconds * 1000 && millis > (seconds - 1) * 1000,
            "{refusal:?}"
        );
        assert_eq!(refusal.number("x-ratelimit-limit-tokens"), 300);
        assert!(refusal.number("x-ratelimit-remaining-tokens") < 60 + 10);
        assert!(!refusal.header("x-ratelimit-reset-tokens").is_empty());
    }
    assert_eq!(stage.totals(|server| server.totals().requests), 4, "a refused request must not reach a server");
    stage.until(|metrics| metrics.sum("penstock_requests_total", &[("outcome", "limited")]) == 4.0).await;
    // Another tenant has a budget of its own.
    assert_eq!(stage.call(1, &[call("key-2")]).await[0].status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_split_is_the_configured_one_and_sessions_stay() {
    const SESSIONS: usize = 300;
    const CANARY_SHARE: f64 = 0.3;
    let tools = need!(Tools::find());
    let stage = Stage::start(&tools, Chain::One, &config(json!({}))).await;
    let call = |session: usize| {
        json!({"request": {"model": "chat", "max_tokens": 1, "messages": [{"role": "user", "content": "Hi"}]},
            "headers": {"x-session-id": format!("session-{session}")}})
    };
    let calls: Vec<Value> = (0..SESSIONS).chain(0..SESSIONS).map(call).collect();
    let versions: Vec<String> =
        stage.call(8, &calls).await.iter().map(|outcome| outcome.header("x-penstock-version").to_owned()).collect();
    let (first, second) = versions.split_at(SESSIONS);
    assert_eq!(first, second, "a session changed its version");

    let canary = first.iter().filter(|version| *version == "canary").count();
    let mean = SESSIONS as f64 * CANARY_SHARE;
    // 4.5 standard deviations: a correct split is outside once in 150,000 draws, and the hash makes this one draw the same every time.
    let tolerance = 4.5 * (mean * (1.0 - CANARY_SHARE)).sqrt();
    assert!((canary as f64 - mean).abs() <= tolerance, "{canary} of {SESSIONS}, expected {mean} ± {tolerance}");
    // The route followed the header, and the version's own model name was written into the body.
    assert_eq!(stage.canary.totals().completed, 2 * canary as u64);
    assert_eq!(stage.stable.totals().completed, 2 * (SESSIONS - canary) as u64);
}

#[tokio::test(flavor = "multi_thread")]
async fn pending_gauges_rise_under_load_and_return_to_zero_after_aborts_and_resets() {
    const EACH: usize = 8;
    let tools = need!(Tools::find());
    for chain in [Chain::One, Chain::Row] {
        let stage = Stage::start(&tools, chain, &config(json!({}))).await;
        let request =
            json!({"model": "chat", "stream": true, "messages": [{"role": "user", "content": "Hello ".repeat(50)}]});
        // Nothing comes before all have arrived, and who hangs up or is cut off would otherwise go on for a minute: whether the machine
        // is slow decides nothing.
        let short = json!({"tokens": 50, "ttft_ms": 6000, "inter_token_ms": 15});
        let long = json!({"tokens": 4000, "ttft_ms": 6000, "inter_token_ms": 15});
        let mut reset = long.clone();
        reset["reset_after_events"] = json!(20);
        let complete = json!({"request": request, "headers": script(short)});
        let abort = json!({"request": request, "headers": script(long), "abort_after": 10});
        let broken = json!({"request": request, "headers": script(reset)});
        let calls: Vec<Value> = [complete, abort, broken].into_iter().flat_map(|call| vec![call; EACH]).collect();

        let load = stage.call(calls.len(), &calls);
        let rise = async {
            stage.until(|metrics| pending(metrics, "penstock_pending_requests") == 3.0 * EACH as f64).await;
            let prefill = [("phase", "prefill")];
            stage.until(|metrics| metrics.sum("penstock_pending_tokens", &prefill) > 0.0).await;
            let decode = [("phase", "decode")];
            stage.until(|metrics| metrics.sum("penstock_pending_tokens", &decode) > 0.0).await;
        };
        let (outcomes, ()) = tokio::join!(load, rise);
        let errors = outcomes.iter().filter(|outcome| outcome.error.is_some()).count();
        assert_eq!(errors, EACH, "only the resets are errors: {outcomes:?}");
        stage.until(|metrics| pending(metrics, "penstock_pending_requests") == 0.0).await;
        stage.until(|metrics| pending(metrics, "penstock_pending_tokens") == 0.0).await;
        for (outcome, count) in [("ok", EACH), ("abandoned", EACH), ("upstream_error", EACH)] {
            let labels = [("outcome", outcome)];
            stage.until(|metrics| metrics.sum("penstock_requests_total", &labels) == count as f64).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_with_an_error_is_refused_and_the_one_in_force_stays() {
    let tools = need!(Tools::find());
    let limit =
        |every: &str| config(json!({"limits": [{"name": "l", "per": ["tenant"], "tokens": 1000, "every": every}]}));
    let (stable, canary) = Stage::servers().await;
    let gateway = Stage::gateway(Chain::One, &limit("1m"), &stable, &canary);
    let envoy = Envoy::start(&tools.envoy, &gateway.render_replaceable(), 2).await.expect("Envoy starts");
    let stage = Stage { envoy, stable, canary, python: tools.python };
    let call = json!({"request": {"model": "chat", "max_tokens": 1, "messages": [{"role": "user", "content": "Hi"}]}});
    assert_eq!(stage.call(1, std::slice::from_ref(&call)).await[0].number("x-ratelimit-limit-tokens"), 1000);

    let bad = gateway.plugin_config(&limit("1x")).render_replaceable();
    stage.envoy.replace_listeners(&bad.listeners.expect("a file of listeners")).expect("written");
    stage.until(|metrics| metrics.sum("envoy_listener_manager_lds_update_rejected", &[]) == 1.0).await;
    let log = stage.envoy.log();
    let said = log.lines().find(|line| line.contains("limits[0].every"));
    let said = said.unwrap_or_else(|| panic!("the log does not name the path:\n{log}"));
    assert!(said.contains("\"1x\"") && said.contains("30s, 5m, 1h"), "neither value nor fix: {said}");
    assert_eq!(stage.call(1, &[call]).await[0].number("x-ratelimit-limit-tokens"), 1000);
}

/// Messages that a counter gets wrong when it is almost right.
fn conversations() -> Vec<Value> {
    vec![
        json!([{"role": "user", "content": "Say this is a test."}]),
        json!([
            {"role": "system", "content": "You are a helpful assistant.\r\n\tBe brief. "},
            {"role": "user", "name": "alice_1", "content": "Wie geht's? 你好,世界 🙂👨‍👩‍👧 naïve café ſ"},
            {"role": "assistant", "content": "   "},
            {"role": "user", "content": "def f(x):\n    return x**2  # <|endoftext|> 1234567890"},
        ]),
        json!([{"role": "user", "content": [{"type": "text", "text": "One part."}, {"type": "text", "text": " And another."}]}]),
        json!([{"role": "user", "content": "The water turns the wheel, the wheel turns the stone. ".repeat(400)}]),
    ]
}

/// A configuration of one model in two versions, with these sections added.
fn config(sections: Value) -> Value {
    let mut config = json!({
        "tenant": {"from": [{"header": "x-api-key"}], "anonymous": "allow"},
        "models": [{
            "name": "chat", "tokenizer": "o200k_base", "output": {"expect": 100, "max": 4096},
            "versions": [{"name": "stable", "weight": 70, "model": "base-r1"}, {"name": "canary", "weight": 30, "model": "base-r2"}],
            "sticky": [{"header": "x-session-id"}],
        }],
    });
    for (name, section) in sections.as_object().into_iter().flatten() {
        config[name] = section.clone();
    }
    config
}

fn script(script: Value) -> Value {
    json!({"x-model-server": script.to_string()})
}

/// The sum of a gauge that must exist: a gauge that was never written would read as 0 here.
fn pending(metrics: &Metrics, name: &str) -> f64 {
    if metrics.select(name, &[]).next().is_some() { metrics.sum(name, &[]) } else { f64::NAN }
}

struct Tools {
    envoy: PathBuf,
    python: PathBuf,
}

impl Tools {
    fn find() -> Result<Self, String> {
        Ok(Self { envoy: find_envoy()?, python: find_python()? })
    }
}

/// Envoy with two workers and a model server per version, each of which only knows its own model's name.
struct Stage {
    envoy: Envoy,
    stable: ModelServer,
    canary: ModelServer,
    python: PathBuf,
}

/// What one call came to.
#[derive(Debug, Deserialize)]
struct Outcome {
    status: u16,
    headers: BTreeMap<String, String>,
    #[serde(default)]
    text: String,
    usage: Option<Value>,
    error: Option<String>,
    #[serde(default)]
    body: Value,
}

impl Stage {
    async fn start(tools: &Tools, chain: Chain, config: &Value) -> Self {
        let (stable, canary) = Self::servers().await;
        let gateway = Self::gateway(chain, config, &stable, &canary);
        let envoy = Envoy::start(&tools.envoy, &gateway.render(), 2).await.expect("Envoy starts");
        Self { envoy, stable, canary, python: tools.python.clone() }
    }

    async fn servers() -> (ModelServer, ModelServer) {
        let start = async |model: &str| {
            let options =
                Options { models: vec![model.to_owned()], ttft_ms: 1, inter_token_ms: 0, ..Options::default() };
            ModelServer::start(options).await.expect("a free port")
        };
        (start("base-r1").await, start("base-r2").await)
    }

    fn gateway(chain: Chain, config: &Value, stable: &ModelServer, canary: &ModelServer) -> Gateway {
        module("penstock");
        let gateway = Gateway::load(&checkout(), "gateway.yaml").expect("gateway.yaml");
        let gateway = gateway.cluster("stable", stable.address()).cluster("canary", canary.address());
        gateway.chain(chain).plugin_config(config)
    }

    /// Makes these calls with the SDK, so many at a time; the outcomes are in the order of the calls.
    async fn call(&self, concurrency: usize, calls: &[Value]) -> Vec<Outcome> {
        let plan = json!({"base_url": format!("{}/v1", self.envoy.url()), "concurrency": concurrency, "calls": calls});
        let mut child = Command::new(&self.python)
            .arg(checkout().join("tests/tests/clients/openai_calls.py"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("Python runs");
        let mut stdin = child.stdin.take().expect("a pipe");
        stdin.write_all(plan.to_string().as_bytes()).await.expect("Python reads the plan");
        drop(stdin);
        let output = child.wait_with_output().await.expect("Python ends");
        assert!(output.status.success(), "openai_calls.py failed");
        serde_json::from_slice(&output.stdout).expect("outcomes")
    }

    fn totals(&self, of: impl Fn(&ModelServer) -> u64) -> u64 {
        of(&self.stable) + of(&self.canary)
    }

    /// Waits until Envoy's metrics satisfy the condition.
    #[track_caller]
    fn until(&self, condition: impl Fn(&Metrics) -> bool) -> impl Future<Output = ()> {
        until_metrics(&self.envoy, condition)
    }
}

impl Outcome {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).unwrap_or_else(|| panic!("no header {name} in {self:?}"))
    }

    fn number(&self, name: &str) -> u64 {
        self.header(name).parse().unwrap_or_else(|_| panic!("{name} is not a number in {self:?}"))
    }
}
