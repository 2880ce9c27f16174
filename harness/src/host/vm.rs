//! One virtual machine: a compiled module with memory, contexts and a fuel gauge.

use std::collections::BTreeMap;
use std::time::Duration;

use wasmtime::{Instance, Linker, Store, StoreLimitsBuilder, Trap, Val};

use super::module::{ENGINE, Module};
use super::state::VmState;
use super::{abi, wasi};

/// Envoy's V8 gives a module at most this much.
const MEMORY_MAX: usize = 1 << 30;

/// What a callback may take: ten seconds here, and a hundred times what a prompt of a megabyte takes. Envoy has no such bound: it stands still.
const FUEL_MAX: u64 = 10_000_000_000;

/// Why a module stopped, in one line.
fn trap(error: &wasmtime::Error) -> String {
    if error.downcast_ref::<Trap>() == Some(&Trap::OutOfFuel) {
        return format!("took more than {FUEL_MAX} instructions, as a loop without an end does; out of fuel");
    }
    format!("{error:#}").lines().collect::<Vec<_>>().join(" ")
}

/// What one kind of callback cost so far, in wasmtime's fuel (about one unit per instruction; repeatable).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fuel {
    /// Calls made.
    pub calls: u64,
    /// All of them together.
    pub total: u64,
    /// The dearest one.
    pub max: u64,
    /// The latest one.
    pub last: u64,
}

pub(super) struct Vm {
    store: Store<VmState>,
    instance: Instance,
    /// Why this VM is dead, if it is.
    pub failed: Option<String>,
    pub loaded_at: Duration,
    pub fuel: BTreeMap<&'static str, Fuel>,
    /// What callbacks of one name may take.
    pub fuel_max: Option<(&'static str, u64)>,
}

impl Vm {
    /// Instantiates the module and runs its initialiser. The error is a trap's or linker's text.
    pub fn start(module: &Module, state: VmState) -> Result<Self, String> {
        let mut linker = Linker::new(&ENGINE);
        let text = |e: wasmtime::Error| format!("{e:#}");
        abi::link(&mut linker).map_err(text)?;
        wasi::link(&mut linker, module).map_err(text)?;
        let loaded_at = state.process.now();
        let mut store = Store::new(&ENGINE, state);
        let unknown =
            module.0.imports().filter(|import| linker.get(&mut store, import.module(), import.name()).is_err());
        let unknown: Vec<String> = unknown.map(|import| format!("{}.{}", import.module(), import.name())).collect();
        if !unknown.is_empty() {
            return Err(format!("imports what no proxy has: {}", unknown.join(", ")));
        }
        store.data_mut().limits = StoreLimitsBuilder::new().memory_size(MEMORY_MAX).build();
        store.limiter(|state| &mut state.limits);
        store.set_fuel(FUEL_MAX).map_err(text)?;
        let instance =
            linker.instantiate(&mut store, &module.0).map_err(|error| format!("does not start: {}", trap(&error)))?;
        let mut vm = Vm { store, instance, failed: None, loaded_at, fuel: BTreeMap::new(), fuel_max: None };
        // As Envoy does: of a library the one, of a program the other.
        if vm.call("_initialize", 0, &[])?.is_none() {
            vm.call("_start", 0, &[])?;
        }
        Ok(vm)
    }

    pub fn state(&mut self) -> &mut VmState {
        self.store.data_mut()
    }

    /// Calls an export on behalf of a context. `None` when the module does not export it. A trap kills the VM.
    pub fn call(&mut self, name: &'static str, context: u32, args: &[u32]) -> Result<Option<u32>, String> {
        let Some(function) = self.instance.get_func(&mut self.store, name) else {
            return Ok(None);
        };
        self.store.data_mut().effective = context;
        self.store.data_mut().callback = name;
        let args: Vec<Val> = args.iter().map(|arg| Val::I32(*arg as i32)).collect();
        let mut results = vec![Val::I32(0); function.ty(&self.store).results().len()];
        let full = self.fuel_max.filter(|(limited, _)| *limited == name).map_or(FUEL_MAX, |(_, fuel)| fuel);
        let outcome = self.store.set_fuel(full).and_then(|()| function.call(&mut self.store, &args, &mut results));
        self.store.data_mut().effective = 0;
        let used = full - self.store.get_fuel().unwrap_or(full);
        let fuel = self.fuel.entry(name).or_default();
        *fuel = Fuel { calls: fuel.calls + 1, total: fuel.total + used, max: fuel.max.max(used), last: used };
        match outcome {
            Ok(()) => Ok(Some(results.first().and_then(Val::i32).unwrap_or(0) as u32)),
            Err(error) => {
                let trap = format!("{name}: {}", trap(&error));
                let state = self.store.data();
                state.process.say(5, state.worker, format!("vm failed: {trap}"));
                self.failed = Some(trap.clone());
                Err(trap)
            }
        }
    }

    /// Bytes of linear memory; it never shrinks, so this is the peak.
    pub fn memory(&mut self) -> usize {
        let memory = self.instance.get_memory(&mut self.store, "memory");
        memory.map_or(0, |memory| memory.data_size(&self.store))
    }

    /// Bytes of those pages of linear memory in which anything stands: the others cost a proxy nothing, as nobody ever wrote to them.
    pub fn touched(&mut self) -> usize {
        const PAGE: usize = 4096;
        let Some(memory) = self.instance.get_memory(&mut self.store, "memory") else { return 0 };
        let pages = memory.data(&self.store).chunks(PAGE);
        pages.filter(|page| page.iter().any(|byte| *byte != 0)).count() * PAGE
    }
}
