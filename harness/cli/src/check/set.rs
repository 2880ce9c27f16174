//! What is applied together, and what of it is Penstock's.

use std::collections::BTreeMap;

use penstock_document::at::At;
use penstock_document::yaml::Trouble;
use penstock_exchange::Config;
use serde_json::Value;

use super::document::{Document, Kind, MODULES, is_config, is_module};
use super::finding::Findings;

/// More of Penstock's own than any proxy has; what holds each against each other stays quick.
const OURS_MAX: usize = 200;
/// More models than are allowed.
const MODELS_MAX: usize = 2 * penstock_exchange::config::MODELS_MAX;
/// More versions than are allowed.
const VERSIONS_MAX: usize = 2 * penstock_exchange::config::VERSIONS_MAX;

/// The annotation of a gateway's pods.
const STAT_TAGS: &str = "sidecar.istio.io/extraStatTags";

/// Documents that are in force at the same time.
pub struct Set {
    /// All of them.
    pub documents: Vec<Document>,
    /// Penstock's WasmPlugins and TrafficExtensions.
    pub plugins: Vec<Plugin>,
    /// EnvoyFilters that have a part of Penstock.
    pub filters: Vec<Filter>,
    /// Envoys with Penstock in them.
    pub envoys: Vec<Envoy>,
    /// Configurations by themselves.
    pub others: Vec<At>,
    /// Those of values, each with manifests of its own that the chart makes.
    pub values: Vec<At>,
}

/// Penstock's module, as Istio has it.
pub struct Plugin {
    /// The resource.
    pub document: Document,
    /// `spec`, or `spec.wasm`.
    pub wasm: At,
    /// Its configuration.
    pub config: Option<At>,
}

/// An EnvoyFilter.
pub struct Filter {
    /// The resource.
    pub document: Document,
    /// The filters that it adds.
    pub added: Vec<Wasm>,
}

/// A wasm filter in Envoy's own terms.
pub struct Wasm {
    /// The name under which it stands in the chain.
    pub name: At,
    /// `config` of the filter.
    pub plugin: At,
    /// Penstock's configuration.
    pub config: Option<At>,
}

/// A static Envoy.
pub struct Envoy {
    /// All of it.
    pub root: At,
    /// The HTTP connection managers with Penstock.
    pub chains: Vec<Chain>,
}

/// An HTTP connection manager.
pub struct Chain {
    /// The listener around it.
    pub listener: At,
    /// The manager.
    pub manager: At,
    /// Penstock's filters.
    pub wasms: Vec<Wasm>,
}

impl Set {
    /// Finds Penstock's parts, and reads their configurations.
    pub fn new(documents: Vec<Document>, found: &mut Findings) -> Self {
        let mut set = Self {
            documents,
            plugins: Vec::new(),
            filters: Vec::new(),
            envoys: Vec::new(),
            others: Vec::new(),
            values: Vec::new(),
        };
        for document in &set.documents {
            if let Some(wasm) = document.wasm() {
                let at = wasm.get("pluginConfig");
                let config = if at.exists() {
                    read_config(&at, found)
                } else {
                    found.say("PS103", &at, &[("key", &"pluginConfig")]);
                    None
                };
                set.plugins.push(Plugin { document: document.clone(), wasm, config });
            } else if document.is("networking.istio.io", "EnvoyFilter") {
                let added = added(document, found);
                if !added.is_empty() || document.spec().mentions("penstock") {
                    set.filters.push(Filter { document: document.clone(), added });
                }
            }
            match document.kind {
                Kind::Envoy => {
                    let chains = chains(&document.root, found);
                    if !chains.is_empty() {
                        set.envoys.push(Envoy { root: document.root.clone(), chains });
                    }
                }
                Kind::Values => set.values.extend(read_config(&document.root.get("config"), found)),
                Kind::Config => set.others.extend(read_config(&document.root, found)),
                _ => {}
            }
        }
        for (n, document) in [
            (set.plugins.len(), set.plugins.last().map(|plugin| &plugin.document)),
            (set.filters.len(), set.filters.last().map(|filter| &filter.document)),
        ] {
            if let Some(document) = document.filter(|_| n > OURS_MAX) {
                found.say("PS005", &document.root, &[("what", &"of Penstock's resources"), ("max", &OURS_MAX)]);
            }
        }
        set.plugins.truncate(OURS_MAX);
        set.filters.truncate(OURS_MAX);
        set
    }

    /// Whether anything in it is Penstock's.
    pub fn is_ours(&self) -> bool {
        !self.others.is_empty()
            || !self.values.is_empty()
            || !self.plugins.is_empty()
            || !self.envoys.is_empty()
            || self.documents.iter().any(|document| {
                matches!(document.kind, Kind::Values | Kind::Config) || document.root.mentions("penstock")
            })
    }

    /// Resources of a kind.
    pub fn of<'a>(&'a self, group: &'a str, kind: &'a str) -> impl Iterator<Item = &'a Document> {
        self.documents.iter().filter(move |document| document.is(group, kind))
    }

    /// The configurations of the mesh's gateways, what is in force first: an EnvoyFilter's stands in the plugin's place.
    pub fn mesh_configs(&self) -> Vec<At> {
        let filters = self.filters.iter().flat_map(|filter| &filter.added).filter_map(|wasm| wasm.config.clone());
        let plugins = self.plugins.iter().filter_map(|plugin| plugin.config.clone());
        filters.chain(plugins).chain(self.others.iter().cloned()).collect()
    }

    /// The models of all configurations, by name, those of static Envoys too.
    pub fn models(&self) -> BTreeMap<String, At> {
        let wasms = self.envoys.iter().flat_map(|envoy| &envoy.chains).flat_map(|chain| &chain.wasms);
        let mut all = self.mesh_configs();
        all.extend(wasms.filter_map(|wasm| wasm.config.clone()));
        models(if all.is_empty() { &self.values } else { &all })
    }

    /// How many gateways there may be at a time, as far as a file here says so: an autoscaler or a Deployment in the plugin's namespace, or
    /// values of Istio's chart `gateway`.
    pub fn gateways(&self) -> f64 {
        let is_there =
            |document: &Document| self.plugins.iter().any(|plugin| plugin.document.namespace == document.namespace);
        let scalers = self.of("autoscaling", "HorizontalPodAutoscaler").filter(|document| is_there(document));
        let deployments = self.of("apps", "Deployment").filter(|document| is_there(document));
        let values = self.documents.iter().map(|document| &document.root);
        let values = values.filter(|root| root.get("podAnnotations").get(STAT_TAGS).exists()).map(|root| {
            let scaling = root.get("autoscaling");
            let is_fixed = scaling.get("enabled").text() == Some("false");
            if is_fixed { root.get("replicaCount") } else { scaling.get("maxReplicas") }
        });
        let said = scalers.map(|document| document.spec().get("maxReplicas"));
        let said = said.chain(deployments.map(|document| document.spec().get("replicas"))).chain(values);
        said.filter_map(|at| at.number()).fold(1.0, f64::max)
    }

    /// The models of the mesh's gateways.
    pub fn mesh_models(&self) -> BTreeMap<String, At> {
        models(&self.mesh_configs())
    }
}

fn models(configs: &[At]) -> BTreeMap<String, At> {
    let mut models = BTreeMap::new();
    for model in configs.iter().flat_map(|config| config.get("models").items()).take(MODELS_MAX) {
        models.entry(model.get("name").words().to_owned()).or_insert(model);
    }
    models
}

/// The names of a model's versions, with their places.
pub fn versions(model: &At) -> Vec<(String, At)> {
    let versions = model.get("versions").items().into_iter().take(VERSIONS_MAX);
    versions.map(|version| (version.get("name").words().to_owned(), version)).collect()
}

/// Reads a configuration, which may be JSON in a text, and says what its parser says.
pub fn read_config(at: &At, found: &mut Findings) -> Option<At> {
    let (text, root) = if let Some(text) = at.text() {
        if let Err(error) = serde_json::from_str::<serde::de::IgnoredAny>(text) {
            let start = text.split_inclusive('\n').take(error.line().saturating_sub(1)).map(str::len).sum();
            found.say_in_line("PS102", at, at.line_at(start), &[("why", &error)]);
            return None;
        }
        let (inner, troubles) = at.inner_and_troubles();
        for (line, trouble) in troubles {
            if let Trouble::Duplicate(key, first) = trouble {
                found.say_in_line("PS003", at, line, &[("key", &key), ("first", &first)]);
            }
        }
        let whole = inner.filter(At::is_map).or_else(|| at.inner_json());
        (text.to_owned(), whole.unwrap_or_else(|| at.clone()))
    } else {
        (at.json().to_string(), at.clone())
    };
    if let Err(errors) = Config::parse(text.as_bytes()) {
        for problem in errors.0 {
            let mut place = root.find(&problem.path);
            // Keys that stand twice were told, and a vocabulary that was built into the module is not in this command.
            let is_said = problem.what.starts_with("duplicate field") && at.text().is_some();
            if is_said
                || problem.path.ends_with("tokenizer")
                    && matches!(place.json(), Value::String(name) if name == "custom")
            {
                continue;
            }
            // serde says which key it does not know, and where it is looked for.
            let unknown = problem.what.strip_prefix("unknown field `").and_then(|rest| rest.split('`').next());
            if let Some(key) = unknown.filter(|key| place.get(key).exists()) {
                place = place.get(key);
            }
            let is_there = place.path.ends_with(&problem.path);
            let said = if is_there { problem.what } else { format!("{}: {}", problem.path, problem.what) };
            found.say("PS101", &place, &[("problem", &said)]);
        }
    }
    root.is_map().then_some(root)
}

/// The wasm filters of Penstock's that an EnvoyFilter adds.
fn added(document: &Document, found: &mut Findings) -> Vec<Wasm> {
    let mut all = Vec::new();
    for patch in document.spec().get("configPatches").items() {
        let value = patch.get("patch").get("value");
        if matches!(patch.get("applyTo").words(), "EXTENSION_CONFIG" | "HTTP_FILTER") {
            all.extend(wasm(&value, found));
        }
    }
    all
}

fn wasm(filter: &At, found: &mut Findings) -> Option<Wasm> {
    let typed = filter.pb("typed_config");
    let plugin = if typed.get("@type").words().ends_with("udpa.type.v1.TypedStruct") {
        typed.get("value").get("config")
    } else {
        typed.get("config")
    };
    let code = plugin.down(&["vm_config", "code"]);
    let configuration = plugin.get("configuration");
    let value = configuration.get("value");
    let is_ours = MODULES.contains(&plugin.pb("root_id").words())
        || is_module(code.down(&["local", "filename"]).words())
        || is_module(code.down(&["remote", "http_uri", "uri"]).words())
        || value.inner().is_some_and(|inner| is_config(&inner));
    if !is_ours {
        return None;
    }
    let kind = configuration.get("@type");
    let config = if !configuration.exists() {
        found.say("PS103", &plugin, &[("key", &"configuration")]);
        None
    } else if !kind.words().ends_with("google.protobuf.StringValue") {
        found.say("PS104", &kind, &[("type", &kind.text().unwrap_or("missing"))]);
        value.is_map().then_some(value)
    } else {
        read_config(&value, found)
    };
    Some(Wasm { name: filter.get("name"), plugin, config })
}

fn chains(root: &At, found: &mut Findings) -> Vec<Chain> {
    let mut all = Vec::new();
    for listener in root.down(&["static_resources", "listeners"]).items() {
        let mut chains = listener.pb("filter_chains").items();
        chains.push(listener.pb("default_filter_chain"));
        for filter in chains.iter().flat_map(|chain| chain.get("filters").items()) {
            let manager = filter.pb("typed_config");
            let filters = manager.pb("http_filters").items();
            let wasms: Vec<_> = filters.iter().take(OURS_MAX).filter_map(|filter| wasm(filter, found)).collect();
            if !wasms.is_empty() {
                all.push(Chain { listener: listener.clone(), manager, wasms });
            }
        }
    }
    all
}
