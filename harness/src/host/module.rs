//! Compiled plugins, and the engine that all of them run on.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{LazyLock, Mutex};

use wasmtime::{Config, Engine};

use super::lock::lock;

pub(super) static ENGINE: LazyLock<Engine> = LazyLock::new(|| {
    let mut config = Config::new();
    config.consume_fuel(true);
    Engine::new(&config).expect("the engine's configuration is constant")
});

static COMPILED: LazyLock<Mutex<HashMap<Vec<u8>, Module>>> = LazyLock::new(Mutex::default);

/// What a module of proxy-wasm exports, one of them: the versions that Envoy takes.
const VERSIONS: [&str; 3] = ["proxy_abi_version_0_1_0", "proxy_abi_version_0_2_0", "proxy_abi_version_0_2_1"];

/// A compiled plugin. Compiling the same bytes again in this process costs nothing.
#[derive(Clone)]
pub struct Module(pub(super) wasmtime::Module);

impl Module {
    /// Compiles a `.wasm` (or WAT text).
    ///
    /// # Errors
    /// When it is no module, or none that a proxy would take: one says by an export which version of proxy-wasm it is for.
    pub fn compile(bytes: &[u8]) -> Result<Self, String> {
        let mut compiled = lock(&COMPILED);
        if let Some(module) = compiled.get(bytes) {
            return Ok(module.clone());
        }
        let module = wasmtime::Module::new(&ENGINE, bytes).map_err(|e| format!("no WebAssembly module: {e:#}"))?;
        if !module.exports().any(|export| VERSIONS.contains(&export.name())) {
            return Err(format!(
                "a WebAssembly module, but none for a proxy: it exports none of {}",
                VERSIONS.join(", ")
            ));
        }
        let module = Module(module);
        compiled.insert(bytes.to_vec(), module.clone());
        Ok(module)
    }

    pub(super) fn same(&self, other: &Module) -> bool {
        wasmtime::Module::same(&self.0, &other.0)
    }

    /// Reads and compiles a file.
    ///
    /// # Errors
    /// As [`Module::compile`], with the file's name.
    pub fn from_file(path: &Path) -> Result<Self, String> {
        let bytes = std::fs::read(path).map_err(|e| format!("{}: {e}", path.display()))?;
        Module::compile(&bytes).map_err(|e| format!("{}: {e}", path.display()))
    }
}
