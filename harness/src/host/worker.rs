//! One worker thread of the proxy: its VMs, and what a test can see of them and of the streams.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use wasmtime::StoreLimits;

use super::lock::lock;
use super::module::Module;
use super::options::{FailPolicy, Options, Plugin};
use super::process::Process;
use super::state::{Context, PluginInfo, VmState};
use super::stream::{Stream, StreamId};
use super::traffic::Traffic;
use super::vm::{Fuel, Vm};
use crate::message::Seen;

/// After a trap Envoy loads a VM again at most this often.
const RELOAD_EVERY: Duration = Duration::from_secs(1);

/// One worker: drive it from one thread at a time.
pub struct Worker {
    index: usize,
    pub(super) process: Arc<Process>,
    pub(super) traffic: Arc<Mutex<Traffic>>,
    plugins: Arc<Vec<PluginInfo>>,
    pub(super) options: Options,
    pub(super) slots: Vec<VmSlot>,
    /// Which VM each plugin of the chain lives in.
    pub(super) slot_of: Vec<usize>,
    pub(super) last_stream: StreamId,
    pub(super) properties: HashMap<Vec<u8>, Vec<u8>>,
    pub(super) frozen: bool,
}

/// The plugins of the chain that share a VM.
#[derive(Clone)]
struct Placement {
    module: Module,
    vm_id: String,
    plugins: Vec<usize>,
}

/// A place for a VM, which may have been filled more than once.
pub(super) struct VmSlot {
    placement: Placement,
    pub vm: Vm,
    pub generation: u64,
    roots: Vec<(usize, u32)>,
    /// Root contexts of earlier configurations, which go with their last stream.
    retired: Vec<u32>,
    last_context: u32,
}

impl VmSlot {
    pub fn next_context(&mut self) -> u32 {
        self.last_context += 1;
        self.last_context
    }

    pub fn root_of(&self, plugin: usize) -> Option<u32> {
        self.roots.iter().find(|(p, _)| *p == plugin).map(|(_, context)| *context)
    }

    /// Ends the retired root contexts that no stream has any more.
    pub fn let_roots_go(&mut self) {
        let contexts = &self.vm.state().contexts;
        let is_used = |root: &u32| contexts.iter().any(|(id, context)| context.root == *root && id != root);
        let (used, gone): (Vec<u32>, Vec<u32>) = std::mem::take(&mut self.retired).into_iter().partition(is_used);
        self.retired = used;
        for root in gone {
            // A VM that is dead by then takes them with it.
            let _ = self.vm.call("proxy_on_done", root, &[root]);
            let _ = self.vm.call("proxy_on_delete", root, &[root]);
            self.vm.state().contexts.remove(&root);
            self.vm.state().ticks.remove(&root);
        }
    }
}

impl Worker {
    /// Loads every VM of the chain and configures its plugins. The error is what a plugin or its VM said.
    pub(super) fn start(
        index: usize,
        process: &Arc<Process>,
        chain: &[Plugin],
        options: &Options,
    ) -> Result<Self, String> {
        let plugins = chain.iter().map(|plugin| PluginInfo {
            name: plugin.name.clone(),
            root_id: plugin.root_id.clone(),
            configuration: plugin.configuration.clone(),
        });
        let mut worker = Worker {
            index,
            process: process.clone(),
            traffic: Arc::default(),
            plugins: Arc::new(plugins.collect()),
            options: options.clone(),
            slots: Vec::new(),
            slot_of: Vec::new(),
            last_stream: 0,
            properties: HashMap::new(),
            frozen: false,
        };
        for (slot, placement) in worker.place(chain).into_iter().enumerate() {
            let names: Vec<&str> = placement.plugins.iter().map(|plugin| chain[*plugin].name.as_str()).collect();
            let name = names.join(", ");
            let vm = worker.load(slot, placement, 0).map_err(|error| format!("{name}: {error}"))?;
            worker.slots.push(vm);
        }
        Ok(worker)
    }

    /// Decides which plugins share a VM: those with the same module and `vm_id`.
    fn place(&mut self, chain: &[Plugin]) -> Vec<Placement> {
        let mut placements: Vec<Placement> = Vec::new();
        for (number, plugin) in chain.iter().enumerate() {
            let shared = placements.iter().position(|p| p.vm_id == plugin.vm_id && p.module.same(&plugin.module));
            let slot = shared.unwrap_or_else(|| {
                let (module, vm_id) = (plugin.module.clone(), plugin.vm_id.clone());
                placements.push(Placement { module, vm_id, plugins: Vec::new() });
                placements.len() - 1
            });
            placements[slot].plugins.push(number);
            self.slot_of.push(slot);
        }
        placements
    }

    fn load(&mut self, slot: usize, placement: Placement, generation: u64) -> Result<VmSlot, String> {
        let mut vm = Vm::start(&placement.module, self.fresh_state(slot, &placement.vm_id, generation))?;
        let roots: Vec<(usize, u32)> = placement.plugins.iter().copied().zip(1..).collect();
        for (plugin, context) in &roots {
            configure(&mut vm, &self.plugins[*plugin], *plugin, *context)?;
        }
        let last_context = roots.len() as u32;
        Ok(VmSlot { placement, vm, generation, roots, retired: Vec::new(), last_context })
    }

    /// Gives every plugin another configuration, as Envoy does: a new root context has it, and open streams keep the one that they began with.
    pub(super) fn reconfigure(&mut self, configurations: &[Vec<u8>]) -> Result<(), String> {
        let plugins = self.plugins.iter().zip(configurations);
        let plugins = plugins.map(|(info, new)| PluginInfo { configuration: new.clone(), ..info.clone() });
        self.plugins = Arc::new(plugins.collect());
        for slot in &mut self.slots {
            slot.vm.state().plugins = self.plugins.clone();
            for plugin in slot.placement.plugins.clone() {
                let context = slot.next_context();
                configure(&mut slot.vm, &self.plugins[plugin], plugin, context)?;
                slot.retired.extend(slot.root_of(plugin));
                slot.roots.retain(|(known, _)| *known != plugin);
                slot.roots.push((plugin, context));
            }
            slot.let_roots_go();
        }
        Ok(())
    }

    fn fresh_state(&self, slot: usize, vm_id: &str, generation: u64) -> VmState {
        VmState {
            process: self.process.clone(),
            traffic: self.traffic.clone(),
            worker: self.index,
            index: slot,
            vm_id: vm_id.to_owned(),
            vm_configuration: self.options.vm_configuration.clone(),
            plugins: self.plugins.clone(),
            contexts: HashMap::new(),
            effective: 0,
            configuring: None,
            ticks: BTreeMap::new(),
            answer: None,
            status: (0, String::new()),
            callback: "",
            host_calls: BTreeMap::new(),
            random: self.options.seed ^ (self.index as u64) << 48 ^ (slot as u64) << 32 ^ generation,
            limits: StoreLimits::default(),
        }
    }

    /// Under `FailPolicy::Reload`, gives every dead VM a new life, unless it was loaded less than a second ago.
    pub(super) fn reload_failed(&mut self) {
        if self.options.fail != FailPolicy::Reload {
            return;
        }
        for index in 0..self.slots.len() {
            let slot = &self.slots[index];
            if slot.vm.failed.is_none() || self.process.now() < slot.vm.loaded_at + RELOAD_EVERY {
                continue;
            }
            let (placement, generation) = (slot.placement.clone(), slot.generation + 1);
            match self.load(index, placement, generation) {
                Ok(fresh) => {
                    lock(&self.traffic).callouts.forget_vm(index);
                    self.slots[index] = fresh;
                }
                Err(error) => self.process.say(5, self.index, format!("reload failed: {error}")),
            }
        }
    }

    /// Every stream opened from now on has this attribute; the value is as `proxy_get_property` returns it.
    pub fn set_property(&mut self, path: &[&str], value: &[u8]) {
        self.properties.insert(path.join("\0").into_bytes(), value.to_vec());
    }

    /// Works on a stream that is remembered; `None` where there is none.
    pub(super) fn with<R>(&self, id: StreamId, work: impl FnOnce(&mut Stream) -> R) -> Option<R> {
        lock(&self.traffic).streams.get_mut(&id).map(work)
    }

    /// What has reached the upstream so far.
    pub fn upstream(&self, id: StreamId) -> Seen {
        self.with(id, |stream| stream.request.seen.clone()).unwrap_or_default()
    }

    /// What has reached the client so far.
    pub fn client(&self, id: StreamId) -> Seen {
        self.with(id, |stream| stream.response.seen.clone()).unwrap_or_default()
    }

    /// Filter state as an access log would print it, e.g. `wasm.penstock.exchange`.
    pub fn filter_state(&self, id: StreamId, key: &str) -> Option<Vec<u8>> {
        self.with(id, |stream| stream.filter_state.get(key).cloned()).flatten()
    }

    /// Whether the stream is over: logged and deleted.
    pub fn finished(&self, id: StreamId) -> bool {
        self.with(id, |stream| stream.finished).unwrap_or(true)
    }

    /// Drops what is remembered of a finished stream.
    pub fn forget(&mut self, id: StreamId) {
        let mut traffic = lock(&self.traffic);
        if traffic.streams.get(&id).is_some_and(|stream| stream.finished) {
            traffic.streams.remove(&id);
        }
    }

    /// Fuel by callback, all VMs of the worker together. A reload starts anew.
    pub fn fuel(&self) -> BTreeMap<&'static str, Fuel> {
        let mut sum: BTreeMap<&'static str, Fuel> = BTreeMap::new();
        for (name, fuel) in self.slots.iter().flat_map(|slot| &slot.vm.fuel) {
            let all = sum.entry(name).or_default();
            *all = Fuel {
                calls: all.calls + fuel.calls,
                total: all.total + fuel.total,
                max: all.max.max(fuel.max),
                last: fuel.last,
            };
        }
        sum
    }

    /// How often modules called the host, by callback and function, all VMs of the worker together; where the host had room made in a
    /// module's memory, that as well, as `proxy_on_memory_allocate`.
    pub fn host_calls(&mut self) -> BTreeMap<(&'static str, &'static str), u64> {
        let mut sum = BTreeMap::new();
        for (of, calls) in self.slots.iter_mut().flat_map(|slot| slot.vm.state().host_calls.clone()) {
            *sum.entry(of).or_default() += calls;
        }
        sum
    }

    /// Callbacks of this name get no more fuel than this from now on. One that needs more ends its VM, and [`Worker::failures`] tells where it
    /// was by then.
    pub fn limit_fuel(&mut self, callback: &'static str, fuel: u64) {
        self.slots.iter_mut().for_each(|slot| slot.vm.fuel_max = Some((callback, fuel)));
    }

    /// Bytes of linear memory of all VMs of this worker. A module's memory never shrinks, so this is the peak.
    pub fn memory(&mut self) -> usize {
        self.slots.iter_mut().map(|slot| slot.vm.memory()).sum()
    }

    /// Bytes of those pages of it, of the system's 4 KiB, in which anything stands.
    pub fn touched(&mut self) -> usize {
        self.slots.iter_mut().map(|slot| slot.vm.touched()).sum()
    }

    /// Contexts that live in this worker's VMs: one per plugin, and one per plugin and open stream.
    pub fn contexts(&mut self) -> usize {
        self.slots.iter_mut().map(|slot| slot.vm.state().contexts.len()).sum()
    }

    /// Why VMs of this worker are dead.
    pub fn failures(&self) -> Vec<String> {
        self.slots.iter().filter_map(|slot| slot.vm.failed.clone()).collect()
    }
}

/// Creates a plugin's root context, starts the VM on its behalf and gives it its configuration.
fn configure(vm: &mut Vm, info: &PluginInfo, plugin: usize, context: u32) -> Result<(), String> {
    vm.state().contexts.insert(context, Context { plugin, root: context, stream: None });
    vm.call("proxy_on_context_create", context, &[context, 0])?;
    vm.state().configuring = Some(plugin);
    let vm_configuration = vm.state().vm_configuration.len() as u32;
    if vm.call("proxy_on_vm_start", context, &[context, vm_configuration])? == Some(0) {
        return Err(format!("plugin {}: on_vm_start refused", info.name));
    }
    if vm.call("proxy_on_configure", context, &[context, info.configuration.len() as u32])? == Some(0) {
        return Err(format!("plugin {}: on_configure refused the configuration", info.name));
    }
    vm.state().configuring = None;
    Ok(())
}
