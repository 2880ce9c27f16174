//! A real Envoy as a fixture: find it, render `envoy/gateway.yaml` for it, start it, ask it, and kill it when it is dropped.
//!
//! Envoy picks its own ports (every address is rendered with port 0), so that any number of fixtures can run at once. Its log is kept in a
//! file of its own and printed only when the test that owns the fixture panics.

mod gateway;
mod prometheus;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

pub use gateway::{Chain, Gateway, Rendered};
pub use prometheus::{Metrics, Sample};

/// How long Envoy may take until it is ready. Compiling the module is most of it, on a machine that may be busy with other tests.
const START_SECONDS_MAX: u64 = 90;

/// A running Envoy.
#[derive(Debug)]
pub struct Envoy {
    child: Child,
    directory: Directory,
    admin: SocketAddr,
    listeners: BTreeMap<String, SocketAddr>,
    client: reqwest::Client,
}

impl Envoy {
    /// Starts `binary` with a configuration and that many workers, and waits until it is ready.
    ///
    /// # Errors
    /// When it cannot be started, exits (the message has the end of its log) or is not ready in time.
    pub async fn start(binary: &Path, config: &Rendered, concurrency: u32) -> Result<Self, String> {
        let directory = Directory::create()?;
        directory.write("envoy.json", &config.bootstrap)?;
        if let Some(listeners) = &config.listeners {
            directory.write("listeners.json", listeners)?;
        }
        log::debug!("starting {} in {}", binary.display(), directory.0.display());
        let child = Command::new(binary)
            // Paths in the configuration (listeners.json) are relative to the fixture's own directory.
            .current_dir(&directory.0)
            .args(["--config-path", "envoy.json", "--admin-address-path", "admin", "--concurrency"])
            .arg(concurrency.to_string())
            .args(["--use-dynamic-base-id", "--disable-hot-restart", "--service-node", "penstock"])
            .args(["--service-cluster", "penstock", "--log-level", "warning", "--component-log-level", "wasm:info"])
            .stdin(Stdio::null())
            .stdout(directory.file("access.log")?)
            .stderr(directory.file("envoy.log")?)
            .spawn()
            .map_err(|error| format!("cannot start {}: {error}", binary.display()))?;
        let mut envoy = Self {
            child,
            directory,
            admin: SocketAddr::from(([127, 0, 0, 1], 0)),
            listeners: BTreeMap::new(),
            client: reqwest::Client::new(),
        };
        envoy.wait_ready().await?;
        envoy.listeners = envoy.read_listeners().await?;
        log::info!("Envoy {} is ready: {:?}", envoy.pid(), envoy.listeners);
        Ok(envoy)
    }

    async fn wait_ready(&mut self) -> Result<(), String> {
        let deadline = Instant::now() + Duration::from_secs(START_SECONDS_MAX);
        loop {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(format!("Envoy ended with {status}; the end of its log:\n{}", tail(&self.log())));
            }
            let address = fs::read_to_string(self.directory.0.join("admin")).ok();
            if let Some(address) = address.and_then(|text| text.trim().parse().ok()) {
                self.admin = address;
                if self.admin_get("/ready").await.is_ok_and(|body| body.contains("LIVE")) {
                    return Ok(());
                }
            }
            if Instant::now() > deadline {
                let log = tail(&self.log());
                return Err(format!("Envoy is not ready after {START_SECONDS_MAX} s; the end of its log:\n{log}"));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The addresses that port 0 became, by listener name.
    async fn read_listeners(&self) -> Result<BTreeMap<String, SocketAddr>, String> {
        let text = self.admin_get("/listeners?format=json").await?;
        let value: Value = serde_json::from_str(&text).map_err(|error| format!("/listeners: {error}"))?;
        let statuses = value["listener_statuses"].as_array().cloned().unwrap_or_default();
        let addresses = statuses.iter().filter_map(|status| {
            let port = status["local_address"]["socket_address"]["port_value"].as_u64()?;
            let address = SocketAddr::from(([127, 0, 0, 1], u16::try_from(port).ok()?));
            Some((status["name"].as_str()?.to_owned(), address))
        });
        Ok(addresses.collect())
    }

    /// `http://127.0.0.1:port` of the listener `gateway`.
    pub fn url(&self) -> String {
        self.url_of("gateway").unwrap_or_default()
    }

    /// `http://127.0.0.1:port` of a listener; `None` if there is none of this name.
    pub fn url_of(&self, listener: &str) -> Option<String> {
        self.listeners.get(listener).map(|address| format!("http://{address}"))
    }

    /// `http://127.0.0.1:port` of the admin interface.
    pub fn admin_url(&self) -> String {
        format!("http://{}", self.admin)
    }

    /// The body of an admin page such as `/stats` or `/config_dump`.
    ///
    /// # Errors
    /// When the admin interface does not answer, or not with 200.
    pub async fn admin_get(&self, path: &str) -> Result<String, String> {
        let answer = self.client.get(format!("http://{}{path}", self.admin)).send().await;
        let answer =
            answer.and_then(reqwest::Response::error_for_status).map_err(|error| format!("{path}: {error}"))?;
        answer.text().await.map_err(|error| format!("{path}: {error}"))
    }

    /// All metrics, as Prometheus would scrape them.
    ///
    /// # Errors
    /// When the admin interface does not answer.
    pub async fn metrics(&self) -> Result<Metrics, String> {
        Ok(Metrics::parse(&self.admin_get("/stats/prometheus").await?))
    }

    /// Envoy's log so far.
    pub fn log(&self) -> String {
        self.directory.read("envoy.log")
    }

    /// The access log so far. Envoy writes it with a delay of up to a second.
    pub fn access_log(&self) -> String {
        self.directory.read("access.log")
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Replaces the listeners of an Envoy that was started with [`Rendered::listeners`], as a control plane would.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn replace_listeners(&self, listeners: &str) -> Result<(), String> {
        // Envoy watches for the file being moved into place: a file that is written in place could be read half.
        self.directory.write("next.json", listeners)?;
        let (next, current) = (self.directory.0.join("next.json"), self.directory.0.join("listeners.json"));
        fs::rename(next, current).map_err(|error| format!("listeners.json: {error}"))
    }
}

impl Drop for Envoy {
    fn drop(&mut self) {
        // Nothing can be done about a process that is already gone.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            // Part of a failed test's output rather than a line of a log: tests start no logger.
            eprintln!("The end of Envoy's log:\n{}", tail(&self.log()));
        }
    }
}

/// The root of the checkout: the nearest directory above the current one that has `envoy/ENVOY_VERSION`.
///
/// # Errors
/// When there is none.
pub fn checkout() -> Result<PathBuf, String> {
    let current = std::env::current_dir().map_err(|error| format!("no current directory: {error}"))?;
    let root = current.ancestors().find(|directory| directory.join("envoy/ENVOY_VERSION").is_file());
    root.map(Path::to_owned)
        .ok_or_else(|| format!("{} is not in a checkout of Penstock; change into one", current.display()))
}

/// The Envoy to test with: `PENSTOCK_ENVOY`, or else the pinned version where `cargo xtask tools` puts it.
pub fn find(checkout: &Path) -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("PENSTOCK_ENVOY") {
        return Some(PathBuf::from(path));
    }
    let version = fs::read_to_string(checkout.join("envoy/ENVOY_VERSION")).ok()?;
    let libraries = checkout.join("target/tools").join(format!("envoy-{}", version.trim())).join("lib");
    let pythons = fs::read_dir(libraries).ok()?;
    let binaries = pythons.flatten().map(|python| python.path().join("site-packages/envoy/_bin/envoy"));
    binaries.into_iter().find(|binary| binary.is_file())
}

/// The last lines of a log.
fn tail(log: &str) -> String {
    const LINES: usize = 40;
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}

/// A directory for one fixture's files, removed when dropped.
#[derive(Debug)]
struct Directory(PathBuf);

impl Directory {
    fn create() -> Result<Self, String> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("penstock-envoy-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Self(path))
    }

    fn write(&self, name: &str, text: &str) -> Result<(), String> {
        fs::write(self.0.join(name), text).map_err(|error| format!("{name}: {error}"))
    }

    fn file(&self, name: &str) -> Result<File, String> {
        File::create(self.0.join(name)).map_err(|error| format!("{name}: {error}"))
    }

    fn read(&self, name: &str) -> String {
        fs::read(self.0.join(name)).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // A directory that stays behind in /tmp harms nobody.
        let _ = fs::remove_dir_all(&self.0);
    }
}
