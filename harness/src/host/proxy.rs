//! The process: its workers, its clock, and what all of them share.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use super::lock::lock;
use super::metrics::Metrics;
use super::options::{Options, Plugin};
use super::process::{LogLine, Process, SharedData};
use super::status::Status;
use super::worker::Worker;

/// One proxy process.
pub struct Host {
    process: Arc<Process>,
    workers: Vec<Mutex<Worker>>,
}

impl Host {
    /// Loads the chain on every worker. The error is what the plugin logged, and why it did not load.
    pub fn start(chain: &[Plugin], options: &Options) -> Result<Self, String> {
        let process = Arc::new(Process::new(options.start, options.guest_log));
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

    /// Gives the plugins of the chain other configurations, in its order. The error is what a plugin said.
    pub fn reconfigure(&self, configurations: &[Vec<u8>]) -> Result<(), String> {
        (0..self.workers()).try_for_each(|index| self.worker(index).reconfigure(configurations))
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

    /// From now on a call to this cluster by HTTP fails at once. Envoy says [`Status::BadArgument`] where it has no such cluster, and
    /// [`Status::InternalFailure`] where the cluster has no host.
    pub fn fail_calls(&self, cluster: &str, status: Status) {
        self.process.uncallable().insert(cluster.to_owned(), status);
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
