//! What the host calls of one VM work on: its contexts, its timers, and the answer that is being delivered.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use wasmtime::StoreLimits;

use super::process::Process;
use super::stream::StreamId;
use super::traffic::Traffic;
use crate::message::Headers;

/// Which plugin, and on which stream, a context id of a VM stands for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Context {
    pub plugin: usize,
    /// The plugin's root context in this VM; the context itself where it is one.
    pub root: u32,
    pub stream: Option<StreamId>,
}

/// The state that belongs to one VM.
pub(super) struct VmState {
    pub process: Arc<Process>,
    pub traffic: Arc<Mutex<Traffic>>,
    pub worker: usize,
    pub index: usize,
    pub vm_id: String,
    pub vm_configuration: Vec<u8>,
    pub plugins: Arc<Vec<PluginInfo>>,
    pub contexts: HashMap<u32, Context>,
    /// The context of the running callback, or the one it switched to.
    pub effective: u32,
    /// The plugin that is being configured: only then its configuration can be read.
    pub configuring: Option<usize>,
    /// Timers by root context.
    pub ticks: BTreeMap<u32, Tick>,
    /// The answer of a callout while its callback runs.
    pub answer: Option<Answer>,
    pub status: (u32, String),
    pub random: u64,
    /// The callback that runs.
    pub callback: &'static str,
    /// How often the module called the host, by callback and function.
    pub host_calls: BTreeMap<(&'static str, &'static str), u64>,
    pub limits: StoreLimits,
}

/// A root context's timer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tick {
    pub every: Duration,
    pub due: Duration,
}

/// What a plugin knows about itself.
#[derive(Clone, Debug)]
pub(super) struct PluginInfo {
    pub name: String,
    pub root_id: String,
    pub configuration: Vec<u8>,
}

/// The answer to a callout.
#[derive(Clone, Debug)]
pub(super) enum Answer {
    Http { headers: Headers, body: Vec<u8> },
    Grpc { message: Vec<u8> },
}

impl VmState {
    pub fn context(&self) -> Option<Context> {
        self.contexts.get(&self.effective).copied()
    }

    /// A function is called across the module's border.
    pub fn called(&mut self, function: &'static str) {
        *self.host_calls.entry((self.callback, function)).or_default() += 1;
    }
}
