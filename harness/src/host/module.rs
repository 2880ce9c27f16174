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

/// A compiled plugin. Compiling the same bytes again in this process costs nothing.
#[derive(Clone)]
pub struct Module(pub(super) wasmtime::Module);

impl Module {
    /// Compiles a `.wasm` (or WAT text). The error says what is wrong with the module.
    pub fn compile(bytes: &[u8]) -> Result<Self, String> {
        let mut compiled = lock(&COMPILED);
        if let Some(module) = compiled.get(bytes) {
            return Ok(module.clone());
        }
        let module = Module(wasmtime::Module::new(&ENGINE, bytes).map_err(|e| format!("{e:#}"))?);
        compiled.insert(bytes.to_vec(), module.clone());
        Ok(module)
    }

    pub(super) fn same(&self, other: &Module) -> bool {
        wasmtime::Module::same(&self.0, &other.0)
    }

    /// Reads and compiles a file. The error names the file.
    pub fn from_file(path: &Path) -> Result<Self, String> {
        let bytes = std::fs::read(path).map_err(|e| format!("{}: {e}", path.display()))?;
        Module::compile(&bytes).map_err(|e| format!("{}: {e}", path.display()))
    }
}
