//! The counter as WebAssembly on wasmtime, with its fuel (about one unit per instruction; repeatable) and its memory.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use wasmtime::{Config, Engine, Instance, Linker, Memory, Module, Store, TypedFunc};

/// Enough for anything, so that what is left says what was used.
const FUEL: u64 = 1 << 62;
const PAGE_BYTES: u64 = 1 << 16;

/// One instance of the probe module.
pub struct Sandbox {
    store: Store<()>,
    memory: Memory,
    room: TypedFunc<u32, u32>,
    count: TypedFunc<(), u64>,
    count_in_pieces: TypedFunc<u32, u64>,
    nothing: TypedFunc<(), u64>,
}

/// What one count came to.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    /// The tokens.
    pub tokens: u64,
    /// Fuel, without that for reading the text as UTF-8, which the module's caller has done already.
    pub fuel: u64,
    /// Bytes by which the memory grew, beyond the room for the text.
    pub growth: u64,
}

impl Sandbox {
    /// A fresh instance of the probe with the table of `encoding` (`o200k`, `cl100k`), or with none.
    ///
    /// # Errors
    /// When the probe cannot be compiled or does not start.
    pub fn new(encoding: Option<&str>) -> Result<Self, String> {
        let path = build(encoding)?;
        Self::start(&path).map_err(|error| format!("{}: {error:#}", path.display()))
    }

    fn start(path: &Path) -> wasmtime::Result<Self> {
        let mut config = Config::new();
        config.consume_fuel(true);
        let engine = Engine::new(&config)?;
        let module = Module::from_file(&engine, path)?;
        let mut store = Store::new(&engine, ());
        store.set_fuel(FUEL)?;
        let mut linker = Linker::new(&engine);
        linker.define_unknown_imports_as_traps(&module)?;
        let instance: Instance = linker.instantiate(&mut store, &module)?;
        if let Ok(initialize) = instance.get_typed_func::<(), ()>(&mut store, "_initialize") {
            initialize.call(&mut store, ())?;
        }
        let memory =
            instance.get_memory(&mut store, "memory").ok_or_else(|| wasmtime::Error::msg("no memory is exported"))?;
        Ok(Self {
            memory,
            room: instance.get_typed_func(&mut store, "room")?,
            count: instance.get_typed_func(&mut store, "count")?,
            count_in_pieces: instance.get_typed_func(&mut store, "count_in_pieces")?,
            nothing: instance.get_typed_func(&mut store, "nothing")?,
            store,
        })
    }

    /// Bytes of linear memory.
    pub fn memory_bytes(&self) -> u64 {
        self.memory.size(&self.store) * PAGE_BYTES
    }

    /// Counts a text as a whole, or pushed in pieces of so many bytes.
    ///
    /// # Errors
    /// When the module traps.
    pub fn count(&mut self, text: &str, pieces: Option<u32>) -> Result<Cost, String> {
        self.try_count(text, pieces).map_err(|error| format!("{error:#}"))
    }

    fn try_count(&mut self, text: &str, pieces: Option<u32>) -> wasmtime::Result<Cost> {
        let at = self.room.call(&mut self.store, text.len() as u32)?;
        self.memory.write(&mut self.store, at as usize, text.as_bytes())?;
        let before = self.memory_bytes();
        let (_, reading) = self.fuelled(|this| this.nothing.call(&mut this.store, ()))?;
        let (tokens, fuel) = self.fuelled(|this| match pieces {
            Some(bytes) => this.count_in_pieces.call(&mut this.store, bytes),
            None => this.count.call(&mut this.store, ()),
        })?;
        Ok(Cost { tokens, fuel: fuel.saturating_sub(reading), growth: self.memory_bytes() - before })
    }

    fn fuelled<T>(&mut self, run: impl FnOnce(&mut Self) -> wasmtime::Result<T>) -> wasmtime::Result<(T, u64)> {
        self.store.set_fuel(FUEL)?;
        let result = run(self)?;
        Ok((result, FUEL - self.store.get_fuel()?))
    }
}

/// Compiles the probe as the filters are compiled, and says where it is.
fn build(encoding: Option<&str>) -> Result<PathBuf, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."));
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |directory| root.join(directory));
    // Each variant has a directory of its own, so that tests that run at the same time do not overwrite each other's.
    let target = target.join("probe").join(encoding.unwrap_or("empty"));
    let status = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .current_dir(root)
        .args([
            "build",
            "--quiet",
            "--profile",
            "wasm",
            "--target",
            "wasm32-wasip1",
            "--package",
            "penstock-token-probe",
        ])
        .args(["--features", encoding.unwrap_or_default(), "--target-dir"])
        .arg(&target)
        .status()
        .map_err(|error| format!("cargo: {error}"))?;
    if !status.success() {
        return Err(format!("the probe for {encoding:?} cannot be compiled: {status}"));
    }
    Ok(target.join("wasm32-wasip1/wasm/penstock_token_probe.wasm"))
}
