//! etcd and kube-apiserver, and a client of them.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{
    Api, DeleteParams, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams, ValidationDirective,
};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::discovery::{ApiCapabilities, ApiResource, Scope};
use kube::{Client, Config};
use serde_json::{Value, json};

use crate::certificates::Authority;
use crate::keys::Key;
use crate::objects;
use crate::place::{DIRECTORY, Place};
use crate::process::{Process, eventually, page};

/// Who writes: the API server keeps, for each field, who set it.
const MANAGER: &str = "penstock";
const ETCD: &str = "http://127.0.0.1:2379";
const SERVER: &str = "https://127.0.0.1:6443";
/// Nobody else can reach the server.
const TOKEN: &str = "penstock";
const START_SECONDS_MAX: u64 = 120;

/// A running API server and its store.
pub struct Kubernetes {
    client: Client,
    authority: Authority,
    kinds: Mutex<HashMap<GroupVersionKind, (ApiResource, ApiCapabilities)>>,
    // In the order in which they are stopped.
    _server: Process,
    _etcd: Process,
}

impl std::fmt::Debug for Kubernetes {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Kubernetes").field("server", &SERVER).finish_non_exhaustive()
    }
}

impl Kubernetes {
    /// Starts both, with the CustomResourceDefinitions of Istio and of the Gateway API.
    ///
    /// # Errors
    /// When one of them does not come up; with the end of its log.
    pub async fn start(place: &Place) -> Result<Self, String> {
        let mut etcd = Command::new(place.file("etcd")?);
        etcd.args([
            "--data-dir",
            &format!("{DIRECTORY}/etcd"),
            "--listen-client-urls",
            ETCD,
            "--advertise-client-urls",
            ETCD,
        ]);
        etcd.args(["--unsafe-no-fsync", "--log-level", "warn"]);
        let mut etcd = Process::start("etcd", &mut etcd)?;
        etcd.until("healthy", START_SECONDS_MAX, || page("http://127.0.0.1:2379/health")).await?;
        let authority = Authority::in_directory(&Path::new(DIRECTORY).join("authority"))?;
        let mut server = Process::start("kube-apiserver", &mut server(place, &authority)?)?;
        let client = server.until("ready", START_SECONDS_MAX, client).await?;
        let kubernetes = Self { client, authority, kinds: Mutex::default(), _server: server, _etcd: etcd };
        kubernetes.apply(&["istio-system", "istio-ingress", "llm"].map(namespace)).await?;
        kubernetes.define(&place.crds("crds")?).await?;
        Ok(kubernetes)
    }

    /// A client with all rights.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// Who signs the certificates of servers that the API server asks in its turn.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// Where kubectl finds its configuration.
    pub fn kubeconfig() -> PathBuf {
        Path::new(DIRECTORY).join("kubeconfig")
    }

    /// Makes objects what these documents say (server-side apply). Fields that the schemas do not have are errors.
    ///
    /// # Errors
    /// The server's, with the object's kind and name.
    pub async fn apply(&self, documents: &[Value]) -> Result<(), String> {
        let parameters =
            PatchParams { field_validation: Some(ValidationDirective::Strict), ..PatchParams::apply(MANAGER).force() };
        for document in documents {
            let (api, name) = self.api(document).await?;
            let applied = api.patch(&name, &parameters, &Patch::Apply(document)).await;
            applied.map_err(|error| format!("{}: {error}", objects::describe(document)))?;
        }
        Ok(())
    }

    /// Sets the status of an object, as the controller would that is not there.
    ///
    /// # Errors
    /// The server's, with the object's kind and name.
    pub async fn set_status(&self, document: &Value) -> Result<(), String> {
        let (api, name) = self.api(document).await?;
        let set = api.patch_status(&name, &PatchParams::apply(MANAGER).force(), &Patch::Apply(document)).await;
        set.map(drop).map_err(|error| format!("{}: {error}", objects::describe(document)))
    }

    /// Deletes objects; those that are not there are no error.
    ///
    /// # Errors
    /// The server's, with the object's kind and name.
    pub async fn delete(&self, documents: &[Value]) -> Result<(), String> {
        for document in documents {
            let (api, name) = self.api(document).await?;
            match api.delete(&name, &DeleteParams::default()).await {
                Ok(_) => {}
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                Err(error) => return Err(format!("{}: {error}", objects::describe(document))),
            }
        }
        Ok(())
    }

    /// Deletes all objects of these kinds (`apiVersion`, `kind`) in these namespaces.
    ///
    /// # Errors
    /// The server's.
    pub async fn clear(&self, kinds: &[(&str, &str)], namespaces: &[&str]) -> Result<(), String> {
        for (version, kind) in kinds {
            for namespace in namespaces {
                let any =
                    json!({"apiVersion": version, "kind": kind, "metadata": {"name": "any", "namespace": namespace}});
                let (api, _) = self.api(&any).await?;
                let cleared = api.delete_collection(&DeleteParams::default(), &ListParams::default()).await;
                cleared.map_err(|error| format!("{kind} in {namespace}: {error}"))?;
            }
        }
        Ok(())
    }

    /// How many objects of a kind (`apiVersion`, `kind`) a namespace has.
    ///
    /// # Errors
    /// The server's.
    pub async fn count(&self, (version, kind): (&str, &str), namespace: &str) -> Result<usize, String> {
        let any = json!({"apiVersion": version, "kind": kind, "metadata": {"name": "any", "namespace": namespace}});
        let (api, _) = self.api(&any).await?;
        let list = api.list_metadata(&ListParams::default()).await;
        list.map(|list| list.items.len()).map_err(|error| format!("{kind} in {namespace}: {error}"))
    }

    /// The objects of a kind (`apiVersion`, `kind`) in a namespace.
    ///
    /// # Errors
    /// The server's.
    pub async fn list(&self, (version, kind): (&str, &str), namespace: &str) -> Result<Vec<Value>, String> {
        let any = json!({"apiVersion": version, "kind": kind, "metadata": {"name": "any", "namespace": namespace}});
        let (api, _) = self.api(&any).await?;
        let list = api.list(&ListParams::default()).await.map_err(|error| format!("{kind} in {namespace}: {error}"))?;
        Ok(list.items.into_iter().filter_map(|object| serde_json::to_value(object).ok()).collect())
    }

    /// An object as the server has it; `None` where there is none.
    ///
    /// # Errors
    /// The server's.
    pub async fn get(&self, document: &Value) -> Result<Option<Value>, String> {
        let (api, name) = self.api(document).await?;
        let found = api.get_opt(&name).await.map_err(|error| format!("{}: {error}", objects::describe(document)))?;
        Ok(found.and_then(|object| serde_json::to_value(object).ok()))
    }

    /// Applies files of CustomResourceDefinitions, and waits until they are served.
    ///
    /// # Errors
    /// When one cannot be read, is refused, or is not served in time.
    pub async fn define(&self, files: &[PathBuf]) -> Result<(), String> {
        let mut definitions = Vec::new();
        for file in files {
            definitions.extend(objects::read(file)?);
        }
        self.apply(&definitions).await?;
        let api: Api<CustomResourceDefinition> = Api::all(self.client.clone());
        eventually("CustomResourceDefinitions", START_SECONDS_MAX, || async {
            let all = api.list(&ListParams::default()).await.map_err(|error| error.to_string())?;
            let waiting = all.items.iter().find(|one| !is_established(one));
            waiting.map_or(Ok(()), |one| Err(format!("{:?} is not established", one.metadata.name)))
        })
        .await
    }

    async fn api(&self, document: &Value) -> Result<(Api<DynamicObject>, String), String> {
        let said = || objects::describe(document);
        let text = |pointer: &str| document.pointer(pointer).and_then(Value::as_str);
        let (version, kind) = (text("/apiVersion").ok_or_else(said)?, text("/kind").ok_or_else(said)?);
        let name = text("/metadata/name").ok_or_else(said)?.to_owned();
        let (group, version) = version.rsplit_once('/').unwrap_or(("", version));
        let kind = GroupVersionKind::gvk(group, version, kind);
        let known = self.kinds.lock().unwrap_or_else(PoisonError::into_inner).get(&kind).cloned();
        let (resource, capabilities) = match known {
            Some(known) => known,
            None => {
                let found = kube::discovery::pinned_kind(&self.client, &kind).await;
                let found = found.map_err(|error| format!("{}: {error}", said()))?;
                self.kinds.lock().unwrap_or_else(PoisonError::into_inner).insert(kind, found.clone());
                found
            }
        };
        let api = match (capabilities.scope, text("/metadata/namespace")) {
            (Scope::Cluster, _) => Api::all_with(self.client.clone(), &resource),
            (Scope::Namespaced, namespace) => {
                Api::namespaced_with(self.client.clone(), namespace.unwrap_or("default"), &resource)
            }
        };
        Ok((api, name))
    }
}

/// A namespace of this name.
pub fn namespace(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
}

fn server(place: &Place, authority: &Authority) -> Result<Command, String> {
    let write = |name: &str, text: &str| {
        let path = Path::new(DIRECTORY).join(name);
        fs::write(&path, text).map(|()| path.display().to_string()).map_err(|error| format!("{name}: {error}"))
    };
    let key = Key::generate()?;
    let (private, public) = (write("accounts.key", &key.private_pem())?, write("accounts.pub", &key.public_pem())?);
    let tokens = write("tokens.csv", &format!("{TOKEN},penstock,penstock,system:masters\n"))?;
    let proxy = authority.issue("front-proxy", &[])?;
    let mut server = Command::new(place.file("kube-apiserver")?);
    server.arg(format!("--etcd-servers={ETCD}")).args([
        "--bind-address=127.0.0.1",
        "--secure-port=6443",
        "--advertise-address=127.0.0.1",
        // It makes its certificate itself.
        &format!("--cert-dir={DIRECTORY}/certificates"),
        "--endpoint-reconciler-type=none",
        "--service-cluster-ip-range=10.0.0.0/24",
        "--service-account-issuer=https://kubernetes.default.svc",
        &format!("--service-account-signing-key-file={private}"),
        &format!("--service-account-key-file={public}"),
        &format!("--token-auth-file={tokens}"),
        "--authorization-mode=RBAC",
        // These wait for controllers and nodes that are not there.
        "--disable-admission-plugins=ServiceAccount,TaintNodesByCondition,Priority,StorageObjectInUseProtection",
        "--profiling=false",
    ]);
    // How it says to an API that is served by others (metrics) who asks.
    server.args([
        "--requestheader-allowed-names=front-proxy",
        "--requestheader-username-headers=X-Remote-User",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        &format!("--requestheader-client-ca-file={}", authority.directory().join("ca.crt").display()),
        &format!("--proxy-client-cert-file={}", proxy.certificate.display()),
        &format!("--proxy-client-key-file={}", proxy.key.display()),
    ]);
    Ok(server)
}

async fn client() -> Result<Client, String> {
    let certificate = format!("{DIRECTORY}/certificates/apiserver.crt");
    if !Path::new(&certificate).is_file() {
        return Err("it has no certificate yet".to_owned());
    }
    let text = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "penstock",
        "clusters": [{"name": "penstock", "cluster": {"server": SERVER, "certificate-authority": certificate}}],
        "users": [{"name": "penstock", "user": {"token": TOKEN}}],
        "contexts": [{"name": "penstock", "context": {"cluster": "penstock", "user": "penstock"}}],
    })
    .to_string();
    fs::write(Kubernetes::kubeconfig(), &text).map_err(|error| format!("kubeconfig: {error}"))?;
    let read: Kubeconfig = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    let config = Config::from_custom_kubeconfig(read, &KubeConfigOptions::default()).await;
    let client = Client::try_from(config.map_err(|error| error.to_string())?).map_err(|error| error.to_string())?;
    let ready = http::Request::get("/readyz").body(Vec::new()).map_err(|error| error.to_string())?;
    client.request_text(ready).await.map_err(|error| error.to_string())?;
    Ok(client)
}

fn is_established(definition: &CustomResourceDefinition) -> bool {
    let conditions = definition.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == "Established" && condition.status == "True")
}
