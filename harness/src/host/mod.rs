//! A proxy-wasm host: one proxy process with several workers, on wasmtime, under the test's control.
//!
//! It runs the very `.wasm` files that Envoy runs and answers their host calls as Envoy does, including where that is surprising: headers that
//! cannot be edited once they went on, compare-and-swap that creates missing keys, gauges that wrap below zero, plugins that share a VM. Time
//! stands still until [`Host::advance`], randomness is seeded, other services answer when the test does. Each worker may be driven from a
//! thread of its own; shared data and statistics are one per process, behind a mutex, so contention is real.
//!
//! It does not speak HTTP: no parsing, no routing, no retries, no trailers, no shared queues and no gRPC streams. What a real proxy makes of
//! a configuration file is for the tests against Envoy.

mod abi;
mod chain;
mod guest;
mod headers;
mod metrics;
mod process;
mod properties;
mod status;
mod stream;
mod vm;
mod wasi;
mod worker;

#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

pub use headers::Headers;
pub use metrics::Metrics;
pub use process::{LogLine, SharedData};
pub use status::Status;
pub use stream::{Callout, Seen, StreamId};
pub use vm::{Fuel, Module};
pub use worker::{FailPolicy, Worker};

use process::{Process, lock};

/// One plugin of the chain, as a filter's `PluginConfig` describes it.
#[derive(Clone)]
pub struct Plugin {
    /// What runs.
    pub module: Module,
    /// `name`.
    pub name: String,
    /// `root_id`: which of the module's plugins this is.
    pub root_id: String,
    /// `vm_config.vm_id`. Plugins with the same module and `vm_id` share one VM per worker, and all with the same `vm_id` share their data.
    pub vm_id: String,
    /// `configuration`, as the plugin reads it.
    pub configuration: Vec<u8>,
}

/// How the process runs.
#[derive(Clone, Debug)]
pub struct Options {
    /// How many workers there are.
    pub workers: usize,
    /// Whether pausing at the headers still lets the body come (`allow_on_headers_stop_iteration`).
    pub wait_for_body: bool,
    /// How many bytes a pausing filter may hold before the client gets 413.
    pub buffer_limit: usize,
    /// What a trap does.
    pub fail: FailPolicy,
    /// Seeds `random_get`.
    pub seed: u64,
    /// The clock's first value, since 1970.
    pub start: Duration,
    /// `vm_config.configuration`.
    pub vm_configuration: Vec<u8>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            workers: 1,
            wait_for_body: true,
            buffer_limit: 1 << 20,
            fail: FailPolicy::Reload,
            seed: 1,
            start: Duration::from_secs(1_767_225_600),
            vm_configuration: Vec::new(),
        }
    }
}

/// One proxy process.
pub struct Host {
    process: Arc<Process>,
    workers: Vec<Mutex<Worker>>,
}

impl Host {
    /// Loads the chain on every worker. The error is what the plugin logged, and why it did not load.
    pub fn start(chain: &[Plugin], options: &Options) -> Result<Self, String> {
        let process = Arc::new(Process::new(options.start));
        let workers: Result<Vec<_>, String> =
            (0..options.workers).map(|index| Worker::start(index, &process, chain, options).map(Mutex::new)).collect();
        match workers {
            Ok(workers) => Ok(Host { process, workers }),
            Err(error) => {
                let said: Vec<String> =
                    process.log().iter().filter(|line| line.level >= 3).map(|line| line.message.clone()).collect();
                Err([vec![error], said].concat().join("\n"))
            }
        }
    }

    /// A worker, for as long as the guard lives.
    pub fn worker(&self, index: usize) -> MutexGuard<'_, Worker> {
        lock(&self.workers[index])
    }

    /// How many workers there are.
    pub fn workers(&self) -> usize {
        self.workers.len()
    }

    /// The process's clock, since 1970.
    pub fn now(&self) -> Duration {
        self.process.now()
    }

    /// Lets time pass. Timers fire at their moments, in order, on every worker that is not frozen.
    pub fn advance(&self, by: Duration) {
        let target = self.now() + by;
        while let Some(due) =
            (0..self.workers()).filter_map(|index| self.worker(index).next_tick()).min().filter(|due| *due <= target)
        {
            self.process.set_now(due);
            (0..self.workers()).for_each(|index| self.worker(index).run_due_ticks());
        }
        self.process.set_now(target);
    }

    /// The statistics of all workers.
    pub fn metrics(&self) -> MutexGuard<'_, Metrics> {
        self.process.metrics()
    }

    /// The shared data of all workers.
    pub fn shared_data(&self) -> MutexGuard<'_, SharedData> {
        self.process.shared()
    }

    /// Everything logged so far.
    pub fn log(&self) -> Vec<LogLine> {
        self.process.log().clone()
    }
}
