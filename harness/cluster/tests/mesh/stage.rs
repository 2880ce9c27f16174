//! A test's part of the cluster: a set of istio/mesh as it is shipped but for the registry's address, model servers, and a gateway.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use penstock_cluster::gateway::{self, Gateway};
use penstock_cluster::istiod::{Istiod, Mesh};
use penstock_cluster::kubernetes::Kubernetes;
use penstock_cluster::objects;
use penstock_cluster::place::Place;
use penstock_cluster::process::eventually;
use penstock_cluster::registry::{self, Registry};
use penstock_cluster::servers::{self, Server};
use penstock_harness::envoy::Metrics;
use penstock_harness::{model_server, skipped};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

/// How long a test waits for what takes a second or two on a machine with nothing else to do.
pub const PATIENCE_SECONDS: u64 = 60;
/// The host of the shipped routes.
pub const HOST: &str = "llm.example.com";
/// How the shipped files call the module's image.
const SHIPPED_IMAGE: &str = "registry.example.com/penstock/penstock:0.1.0";

/// What every test's objects are of; cleared before each.
const KINDS: [(&str, &str); 15] = [
    ("extensions.istio.io/v1alpha1", "WasmPlugin"),
    ("extensions.istio.io/v1alpha1", "TrafficExtension"),
    ("networking.istio.io/v1alpha3", "EnvoyFilter"),
    ("networking.istio.io/v1", "Gateway"),
    ("networking.istio.io/v1", "VirtualService"),
    ("networking.istio.io/v1", "DestinationRule"),
    ("networking.istio.io/v1", "ServiceEntry"),
    ("telemetry.istio.io/v1", "Telemetry"),
    ("security.istio.io/v1", "RequestAuthentication"),
    ("security.istio.io/v1", "AuthorizationPolicy"),
    ("gateway.networking.k8s.io/v1", "Gateway"),
    ("gateway.networking.k8s.io/v1", "HTTPRoute"),
    ("gateway.networking.k8s.io/v1beta1", "ReferenceGrant"),
    ("v1", "Service"),
    ("v1", "ConfigMap"),
];

/// What is shipped: the two ways in which the module comes into the chain of a gateway of Istio's, one of the Gateway API, and one whose canary's
/// route is Argo's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Set {
    WasmPlugin,
    TrafficExtension,
    GatewayApi,
    Argo,
}

impl Set {
    pub const BOTH: [Set; 2] = [Set::WasmPlugin, Set::TrafficExtension];
    pub const ALL: [Set; 3] = [Set::WasmPlugin, Set::TrafficExtension, Set::GatewayApi];

    pub fn kind(self) -> &'static str {
        match self {
            Set::WasmPlugin => "WasmPlugin",
            Set::TrafficExtension | Set::GatewayApi | Set::Argo => "TrafficExtension",
        }
    }

    fn directory(self) -> &'static str {
        match self {
            Set::WasmPlugin => "istio/mesh/wasmplugin",
            Set::TrafficExtension => "istio/mesh/trafficextension",
            Set::GatewayApi => "istio/gateway-api",
            Set::Argo => "istio/rollout/argo",
        }
    }
}

/// What all tests share.
pub struct Base {
    pub place: Place,
    pub mesh: Mesh,
    pub kubernetes: Kubernetes,
    pub registry: Registry,
    /// How long it took to start.
    pub took: Duration,
    _istiod: Istiod,
}

fn base() -> &'static (Runtime, Result<Base, String>) {
    static BASE: OnceLock<(Runtime, Result<Base, String>)> = OnceLock::new();
    BASE.get_or_init(|| {
        let runtime = Runtime::new().expect("a runtime");
        let base = runtime.block_on(Base::start());
        (runtime, base)
    })
}

impl Base {
    async fn start() -> Result<Self, String> {
        let began = Instant::now();
        let place = Place::find()?;
        let mesh = Mesh::shipped(&place)?;
        let (kubernetes, registry) = tokio::try_join!(Kubernetes::start(&place), Registry::start(&place))?;
        let istiod = Istiod::start(&place, &mesh).await?;
        Ok(Self { place, mesh, kubernetes, registry, took: began.elapsed(), _istiod: istiod })
    }
}

/// Runs a test's steps; without a cluster it says so, loudly.
pub fn run(test: impl AsyncFnOnce(&'static Base)) {
    // The gateways of two tests would listen on the same ports.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    if std::env::var_os("PENSTOCK_CLUSTER_PROGRAMS").is_none() {
        return skipped("there is no cluster; `cargo xtask test --cluster`");
    }
    let (runtime, base) = base();
    let base = base.as_ref().unwrap_or_else(|message| panic!("{message}"));
    runtime.block_on(test(base));
}

/// A gateway in front of model servers.
pub struct Stage {
    pub base: &'static Base,
    pub objects: Vec<Value>,
    pub servers: Vec<Server>,
    pub gateway: Gateway,
    pub http: reqwest::Client,
}

impl Stage {
    /// The set as it is shipped; the module's digest is pinned, as the files say to do.
    pub async fn up(base: &'static Base, set: Set) -> Self {
        Self::with(base, shipped(base, set, "stage"), model_server::Options::default()).await
    }

    /// Any objects, with model servers that answer at once or as told.
    pub async fn with(base: &'static Base, objects: Vec<Value>, options: model_server::Options) -> Self {
        Self::behind(base, objects, options, servers::objects, gateway::Options::default()).await
    }

    /// As [`Stage::with`], with other objects that lead to the servers, and another gateway.
    pub async fn behind(
        base: &'static Base,
        objects: Vec<Value>,
        options: model_server::Options,
        endpoints: fn(&[Server]) -> Vec<Value>,
        gateway: gateway::Options,
    ) -> Self {
        base.kubernetes.clear(&KINDS, &["istio-ingress", "llm"]).await.expect("an empty cluster");
        let servers = servers::start(&options).await.expect("model servers");
        base.kubernetes.apply(&endpoints(&servers)).await.expect("endpoints");
        base.kubernetes.apply(&objects).await.expect("the set is accepted");
        let gateway = Gateway::start(&base.place, &base.mesh, gateway).await;
        let gateway = gateway.unwrap_or_else(|message| panic!("{message}"));
        let http = reqwest::Client::builder().timeout(Duration::from_secs(30)).build().expect("a client");
        Self { base, objects, servers, gateway, http }
    }

    /// A chat completion, with these headers; sent once.
    pub async fn chat(&self, model: &str, headers: &[(&str, &str)]) -> Result<Answer, String> {
        let body = json!({"model": model, "messages": [{"role": "user", "content": "Say hello."}]});
        self.post(&body, headers).await
    }

    /// Any body to the path of chat completions.
    pub async fn post(&self, body: &Value, headers: &[(&str, &str)]) -> Result<Answer, String> {
        let mut request = self.http.post("http://127.0.0.1/v1/chat/completions").json(body).header("host", HOST);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        Answer::read(request.send().await.map_err(|error| error.to_string())?).await
    }

    /// Asks until an answer is as expected; what it was, or the last one that was not.
    pub async fn until(&self, what: &str, model: &str, expected: impl Fn(&Answer) -> bool) -> Answer {
        self.until_with(what, model, &[], expected).await
    }

    /// As [`Stage::until`], with these headers.
    pub async fn until_with(
        &self,
        what: &str,
        model: &str,
        headers: &[(&str, &str)],
        expected: impl Fn(&Answer) -> bool,
    ) -> Answer {
        let asked = eventually(what, PATIENCE_SECONDS, || async {
            let answer = self.chat(model, headers).await?;
            if expected(&answer) { Ok(answer) } else { Err(format!("{answer:?}")) }
        });
        asked.await.unwrap_or_else(|message| panic!("{message}"))
    }

    /// Waits until the module is in the chain and headers wait.
    pub async fn until_in_force(&self) {
        // Routes tell a version whoever is in the chain; the model that the body names is only routed on where headers wait.
        self.until("the module is in force", "chat-small", |answer| {
            let is_counted = answer.status == 200 && answer.has("x-penstock-prompt-tokens");
            is_counted && answer.header("x-served-by") == "chat-small-stable"
        })
        .await;
    }

    /// Asks in session after session, with these headers, until both versions of `chat` have served: each answer is of the version that it
    /// says, a session stays with its version, and the canary's server is asked for its own model.
    pub async fn serves_what_it_says(&self, headers: &[(&str, &str)]) {
        let mut versions = BTreeSet::new();
        for number in 0..150 {
            let session = format!("session-{number}");
            let headers = [headers, &[("x-session-id", session.as_str())]].concat();
            let answer = self.chat("chat", &headers).await.expect("an answer");
            assert_eq!(answer.status, 200, "{answer:?}");
            let version = answer.header("x-penstock-version").to_owned();
            assert_eq!(answer.header("x-served-by"), format!("chat-{version}"), "{answer:?}");
            if versions.insert(version.clone()) {
                let again = self.chat("chat", &headers).await.expect("an answer");
                assert_eq!(again.header("x-penstock-version"), version, "{session} is pinned");
            }
            if versions.len() == 2 {
                break;
            }
        }
        assert_eq!(versions, BTreeSet::from(["canary".to_owned(), "stable".to_owned()]));
        let renamed = self.server("chat", "canary").requests().pop().and_then(|seen| seen.body).unwrap_or_default();
        assert!(renamed.contains(r#""model":"llama-3.1-8b-r2""#), "{renamed}");
    }

    /// Waits until the metrics are as expected.
    pub async fn until_metrics(&self, what: &str, expected: impl Fn(&Metrics) -> bool) -> Metrics {
        let scraped = eventually(what, PATIENCE_SECONDS, || async {
            let metrics = self.gateway.metrics().await?;
            let own: Vec<_> = metrics.0.iter().filter(|sample| sample.name.starts_with("penstock")).collect();
            if expected(&metrics) { Ok(metrics) } else { Err(format!("{own:#?}")) }
        });
        scraped.await.unwrap_or_else(|message| panic!("{message}"))
    }

    /// The server of a version.
    pub fn server(&self, model: &str, version: &str) -> &model_server::ModelServer {
        let found = self.servers.iter().find(|server| server.model == model && server.version == version);
        &found.unwrap_or_else(|| panic!("no server {model} {version}")).server
    }
}

/// What a client reads.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

impl Answer {
    pub async fn read(answer: reqwest::Response) -> Result<Self, String> {
        let status = answer.status().as_u16();
        let text = |value: &reqwest::header::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let headers = answer.headers().iter().map(|(name, value)| (name.to_string(), text(value))).collect();
        let body = answer.text().await.map_err(|error| format!("{status}: {error}"))?;
        Ok(Self { status, headers, body })
    }

    pub fn has(&self, header: &str) -> bool {
        self.headers.contains_key(header)
    }

    /// A header's value; empty without it.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

/// A set as it is shipped, with the built module pushed under a name of the test's own and its digest pinned in all places.
pub fn shipped(base: &Base, set: Set, image: &str) -> Vec<Value> {
    let mut objects = objects::kustomization(&base.place, &base.place.checkout.join(set.directory())).expect("the set");
    let digest = push(base, image);
    let name = format!("{}/{image}:1", registry::ADDRESS);
    objects.iter_mut().for_each(|object| objects::replace(object, SHIPPED_IMAGE, &name));
    pin(&mut objects, set, &digest);
    objects
}

/// Pushes the built module; its digest.
pub fn push(base: &Base, image: &str) -> String {
    let module = base.place.checkout.join("dist/penstock.wasm");
    push_file(base, &module, image)
}

/// Pushes a module; its digest.
pub fn push_file(base: &Base, module: &Path, image: &str) -> String {
    base.registry.push(module, &format!("{image}:1")).unwrap_or_else(|message| panic!("{message}"))
}

/// Pins the digest where the files say to: in the plugin and in the EnvoyFilter.
pub fn pin(objects: &mut [Value], set: Set, digest: &str) {
    for plugin in objects::of_kind(objects, set.kind()) {
        match set {
            Set::WasmPlugin => plugin["spec"]["sha256"] = json!(digest),
            Set::TrafficExtension | Set::GatewayApi | Set::Argo => plugin["spec"]["wasm"]["sha256"] = json!(digest),
        }
    }
    for code in remote_code(objects) {
        code["sha256"] = json!(digest);
    }
}

/// The places of EnvoyFilters that say where a module is from.
pub fn remote_code(objects: &mut [Value]) -> Vec<&mut Value> {
    let patches =
        objects::of_kind(objects, "EnvoyFilter").flat_map(|filter| array(&mut filter["spec"]["configPatches"]));
    let codes = patches.filter_map(|patch| patch.pointer_mut("/patch/value/typed_config/config/vm_config/code/remote"));
    codes.collect()
}

/// Changes the module's configuration wherever the set has it.
pub fn configure(objects: &mut [Value], set: Set, change: impl Fn(&mut Value)) {
    objects::configure(objects, set.kind(), change);
}

fn array(value: &mut Value) -> &mut [Value] {
    value.as_array_mut().map_or(&mut [], Vec::as_mut_slice)
}
