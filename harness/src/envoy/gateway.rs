//! `envoy/gateway.yaml`, the file that users copy, changed for a test only where it must be: ports, endpoints, the modules and the
//! plugin's configuration.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

/// The four plugins in the order in which requests meet them.
const ROW: [&str; 4] = ["token-counter", "tenant-bucket", "canary-router", "pending-gauge"];

/// Which filters stand before the router.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chain {
    /// None: what the traffic costs without Penstock.
    Without,
    /// `penstock.wasm`, all in one.
    One,
    /// Four filters in a row, each from its own module.
    Row,
    /// Four filters in a row out of `penstock.wasm`, told apart by their `root_id` and sharing one VM.
    RowInOneVm,
}

/// A static configuration of Envoy in the making.
#[derive(Clone, Debug)]
pub struct Gateway {
    document: Value,
    modules: PathBuf,
}

/// What is handed to Envoy.
#[derive(Clone, Debug)]
pub struct Rendered {
    /// The bootstrap, JSON.
    pub bootstrap: String,
    /// The listeners, JSON, where they are not part of the bootstrap but read from a file that can be replaced while Envoy runs.
    pub listeners: Option<String>,
}

impl Gateway {
    /// Reads a configuration of the checkout, such as `gateway.yaml`, and sets all ports to 0 and the modules to those in `dist/`.
    ///
    /// # Errors
    /// When the file is not there, is not YAML, or has no wasm filter.
    pub fn load(checkout: &Path, name: &str) -> Result<Self, String> {
        let path = checkout.join("envoy").join(name);
        let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let document: Value = serde_yaml_ng::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?;
        let mut gateway = Self { document, modules: checkout.join("dist") };
        if gateway.wasm_filters(0).is_empty() {
            return Err(format!("{}: the first listener has no filter with a wasm module", path.display()));
        }
        gateway.document["admin"]["address"] = address(SocketAddr::from(([127, 0, 0, 1], 0)));
        for listener in array(&mut gateway.document["static_resources"]["listeners"]) {
            listener["address"] = address(SocketAddr::from(([127, 0, 0, 1], 0)));
        }
        for filter in gateway.wasm_filters(0) {
            let module = module(filter);
            let file = Path::new(module.as_str().unwrap_or_default()).file_name().unwrap_or_default().to_owned();
            *module = json!(gateway_path(&checkout.join("dist"), Path::new(&file)));
        }
        Ok(gateway)
    }

    /// Sends a cluster's requests to this address.
    ///
    /// # Panics
    /// When the file has no such cluster.
    #[must_use]
    pub fn cluster(mut self, name: &str, endpoint: SocketAddr) -> Self {
        let clusters = array(&mut self.document["static_resources"]["clusters"]);
        let cluster = clusters.iter_mut().find(|cluster| cluster["name"] == name);
        let cluster = cluster.unwrap_or_else(|| panic!("no cluster {name}"));
        cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]["address"] = address(endpoint);
        self
    }

    /// Changes which filters stand before the router; all get the same configuration, as each reads its part of it.
    #[must_use]
    pub fn chain(mut self, chain: Chain) -> Self {
        let modules = self.modules.clone();
        let filters = self.http_filters(0);
        let Some(place) = filters.iter().position(is_wasm) else { return self };
        let model = filters[place].clone();
        filters.retain(|filter| !is_wasm(filter));
        let row: Vec<Value> = match chain {
            Chain::Without => Vec::new(),
            Chain::One => vec![model],
            Chain::Row => ROW.iter().map(|name| filter(&model, name, &modules, name)).collect(),
            Chain::RowInOneVm => ROW.iter().map(|name| filter(&model, name, &modules, "penstock")).collect(),
        };
        filters.splice(place..place, row);
        self
    }

    /// Puts another filter in front of all.
    #[must_use]
    pub fn filter_in_front(mut self, filter: Value) -> Self {
        self.http_filters(0).insert(0, filter);
        self
    }

    /// Runs this module in every wasm filter.
    #[must_use]
    pub fn module(mut self, path: &Path) -> Self {
        for filter in self.wasm_filters(0) {
            *module(filter) = json!(path);
        }
        self
    }

    /// Speaks TLS on the first listener, by this `DownstreamTlsContext`.
    #[must_use]
    pub fn tls(mut self, context: &Value) -> Self {
        let mut context = context.clone();
        context["@type"] = json!("type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext");
        self.document["static_resources"]["listeners"][0]["filter_chains"][0]["transport_socket"] =
            json!({"name": "envoy.transport_sockets.tls", "typed_config": context});
        self
    }

    /// Takes clients of this machine for internal ones, whose `x-envoy-*` headers Envoy believes.
    #[must_use]
    pub fn trusts_local_clients(mut self) -> Self {
        let listener = &mut self.document["static_resources"]["listeners"][0];
        listener["filter_chains"][0]["filters"][0]["typed_config"]["internal_address_config"] =
            json!({"cidr_ranges": [{"address_prefix": "127.0.0.0", "prefix_len": 8}]});
        self
    }

    /// Says whether a filter that pauses at the headers still gets the body.
    #[must_use]
    pub fn headers_may_wait(mut self, may: bool) -> Self {
        for filter in self.wasm_filters(0) {
            filter["typed_config"]["config"]["allow_on_headers_stop_iteration"] = json!(may);
        }
        self
    }

    /// Replaces the configuration of every wasm filter.
    #[must_use]
    pub fn plugin_config(mut self, config: &Value) -> Self {
        for filter in self.wasm_filters(0) {
            filter["typed_config"]["config"]["configuration"]["value"] = json!(config.to_string());
        }
        self
    }

    /// The proxy follows redirects of the servers by itself, on all routes.
    #[must_use]
    pub fn follows_redirects(mut self) -> Self {
        let manager = &mut self.document["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0];
        for host in array(&mut manager["typed_config"]["route_config"]["virtual_hosts"]) {
            for route in array(&mut host["routes"]) {
                if route["route"].is_object() {
                    route["route"]["internal_redirect_policy"] =
                        json!({"max_internal_redirects": 3, "redirect_response_codes": [302, 307, 308]});
                }
            }
        }
        self
    }

    /// A version of any name is served: the routes that answer by themselves for those that the file does not have are left out.
    #[must_use]
    pub fn serves_any_version(mut self) -> Self {
        let manager = &mut self.document["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0];
        for host in array(&mut manager["typed_config"]["route_config"]["virtual_hosts"]) {
            array(&mut host["routes"]).retain(|route| route["direct_response"].is_null());
        }
        self
    }

    /// Requests with this header go to where there is no server, by its value: to a cluster without hosts (the first of these), to one that
    /// is not there, and to a port on which nothing listens.
    #[must_use]
    pub fn and_without_servers(mut self, header: &str, [no_host, no_cluster, refused]: &[&str; 3]) -> Self {
        let manager = &mut self.document["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0];
        let routes = &mut manager["typed_config"]["route_config"];
        routes["validate_clusters"] = json!(false);
        for host in array(&mut routes["virtual_hosts"]) {
            for name in [no_host, no_cluster, refused] {
                let is_it = json!([{"name": header, "string_match": {"exact": name}}]);
                let route = json!({"match": {"prefix": "/", "headers": is_it}, "route": {"cluster": name}});
                array(&mut host["routes"]).insert(0, route);
            }
        }
        // A privileged port that nobody listens on.
        let nobody =
            json!([{"lb_endpoints": [{"endpoint": {"address": address(SocketAddr::from(([127, 0, 0, 1], 1)))}}]}]);
        let clusters = array(&mut self.document["static_resources"]["clusters"]);
        for (name, endpoints) in [(no_host, json!([])), (refused, nobody)] {
            let load_assignment = json!({"cluster_name": name, "endpoints": endpoints});
            clusters.push(
                json!({"name": name, "type": "STATIC", "connect_timeout": "1s", "load_assignment": load_assignment}),
            );
        }
        self
    }

    /// The configuration of the first wasm filter, JSON; empty without one.
    pub fn configuration(&mut self) -> String {
        let filters = self.wasm_filters(0);
        let value = filters.first().map(|filter| &filter["typed_config"]["config"]["configuration"]["value"]);
        value.and_then(Value::as_str).unwrap_or_default().to_owned()
    }

    /// Adds a listener of this name that is like the first but has no wasm filter.
    #[must_use]
    pub fn and_listener_without(mut self, name: &str) -> Self {
        let listeners = array(&mut self.document["static_resources"]["listeners"]);
        let mut plain = listeners[0].clone();
        plain["name"] = json!(name);
        listeners.push(plain);
        self.http_filters(1).retain(|filter| !is_wasm(filter));
        self
    }

    /// Sets any other value by its JSON pointer, such as `/static_resources/listeners/0/per_connection_buffer_limit_bytes`.
    ///
    /// # Panics
    /// When the file has nothing that could hold it.
    #[must_use]
    pub fn set(mut self, pointer: &str, value: Value) -> Self {
        match self.document.pointer_mut(pointer) {
            Some(place) => *place = value,
            None => {
                let (parent, key) = pointer.rsplit_once('/').unwrap_or_default();
                let parent = self.document.pointer_mut(parent).and_then(Value::as_object_mut);
                parent.unwrap_or_else(|| panic!("nothing to hold {pointer}")).insert(key.to_owned(), value);
            }
        }
        self
    }

    /// One static file.
    pub fn render(&self) -> Rendered {
        Rendered { bootstrap: self.document.to_string(), listeners: None }
    }

    /// The listeners in a file of their own, `listeners.json`, which [`super::Envoy::replace_listeners`] can replace.
    pub fn render_replaceable(&self) -> Rendered {
        let mut document = self.document.clone();
        let mut listeners = document["static_resources"]["listeners"].take();
        for listener in array(&mut listeners) {
            listener["@type"] = json!("type.googleapis.com/envoy.config.listener.v3.Listener");
        }
        // Envoy watches the directory, and a bare file name has none.
        let source = json!({"path_config_source": {"path": "./listeners.json"}, "resource_api_version": "V3"});
        document["dynamic_resources"] = json!({"lds_config": source});
        if let Some(resources) = document["static_resources"].as_object_mut() {
            resources.remove("listeners");
        }
        let listeners = json!({"resources": listeners}).to_string();
        Rendered { bootstrap: document.to_string(), listeners: Some(listeners) }
    }

    fn http_filters(&mut self, listener: usize) -> &mut Vec<Value> {
        let listener = &mut self.document["static_resources"]["listeners"][listener];
        array(&mut listener["filter_chains"][0]["filters"][0]["typed_config"]["http_filters"])
    }

    fn wasm_filters(&mut self, listener: usize) -> Vec<&mut Value> {
        self.http_filters(listener).iter_mut().filter(|filter| is_wasm(filter)).collect()
    }
}

fn filter(model: &Value, name: &str, modules: &Path, module_name: &str) -> Value {
    let mut filter = model.clone();
    filter["name"] = json!(name);
    filter["typed_config"]["config"]["name"] = json!(name);
    filter["typed_config"]["config"]["root_id"] = json!(name);
    *module(&mut filter) = json!(gateway_path(modules, Path::new(&format!("{module_name}.wasm"))));
    filter
}

fn gateway_path(modules: &Path, file: &Path) -> String {
    modules.join(file).to_string_lossy().into_owned()
}

fn module(filter: &mut Value) -> &mut Value {
    &mut filter["typed_config"]["config"]["vm_config"]["code"]["local"]["filename"]
}

fn is_wasm(filter: &Value) -> bool {
    filter["typed_config"]["config"]["vm_config"].is_object()
}

fn address(socket: SocketAddr) -> Value {
    json!({"socket_address": {"address": socket.ip().to_string(), "port_value": socket.port()}})
}

/// The array at this place of the document; anything else becomes an empty one.
fn array(value: &mut Value) -> &mut Vec<Value> {
    if !value.is_array() {
        *value = json!([]);
    }
    value.as_array_mut().expect("it has just been made an array")
}
