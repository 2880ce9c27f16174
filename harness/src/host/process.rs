//! What all workers of one proxy process have in common.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use super::lock::lock;
use super::metrics::Metrics;
use super::options::GuestLog;
use super::status::Status;

/// Where lines of plugins can be told from the harness's own.
const LOG_TARGET: &str = "wasm";

/// A line that a plugin logged, or that the host has to say about one.
#[derive(Clone, Debug)]
pub struct LogLine {
    /// 0 trace … 5 critical, as in the ABI.
    pub level: u32,
    /// Which worker it came from.
    pub worker: usize,
    /// The text.
    pub message: String,
}

#[derive(Debug, Default)]
pub(super) struct Process {
    now_ns: AtomicU64,
    shared: Mutex<SharedData>,
    metrics: Mutex<Metrics>,
    log: Mutex<Vec<LogLine>>,
    /// Clusters that cannot be called by HTTP, and what plugins are told then.
    uncallable: Mutex<HashMap<String, Status>>,
    guest_log: GuestLog,
}

impl Process {
    pub fn new(start: Duration, guest_log: GuestLog) -> Self {
        Process { now_ns: AtomicU64::new(start.as_nanos() as u64), guest_log, ..Process::default() }
    }

    pub fn now(&self) -> Duration {
        Duration::from_nanos(self.now_ns.load(Ordering::SeqCst))
    }

    pub fn set_now(&self, now: Duration) {
        self.now_ns.fetch_max(now.as_nanos() as u64, Ordering::SeqCst);
    }

    pub fn uncallable(&self) -> MutexGuard<'_, HashMap<String, Status>> {
        lock(&self.uncallable)
    }

    pub fn shared(&self) -> MutexGuard<'_, SharedData> {
        lock(&self.shared)
    }

    pub fn metrics(&self) -> MutexGuard<'_, Metrics> {
        lock(&self.metrics)
    }

    pub fn log(&self) -> MutexGuard<'_, Vec<LogLine>> {
        lock(&self.log)
    }

    pub fn say(&self, level: u32, worker: usize, message: String) {
        if self.guest_log == GuestLog::Forwarded {
            log::log!(target: LOG_TARGET, level_of(level), "worker {worker}: {message}");
        }
        self.log().push(LogLine { level, worker, message });
    }
}

/// The `log` crate has no level above error.
fn level_of(level: u32) -> log::Level {
    match level {
        0 => log::Level::Trace,
        1 => log::Level::Debug,
        2 => log::Level::Info,
        3 => log::Level::Warn,
        _ => log::Level::Error,
    }
}

/// The process-wide key-value map, with Envoy's compare-and-swap: 0 always overwrites, and any number creates a missing key.
#[derive(Debug, Default)]
pub struct SharedData {
    values: HashMap<(String, String), (Vec<u8>, u32)>,
    last_cas: u32,
}

impl SharedData {
    /// The value and the number to present when replacing it.
    pub fn get(&self, vm_id: &str, key: &str) -> Option<(&[u8], u32)> {
        self.values.get(&(vm_id.to_owned(), key.to_owned())).map(|(value, cas)| (value.as_slice(), *cas))
    }

    /// Writes a value; `cas` is 0 or the number the last read gave.
    pub fn set(&mut self, vm_id: &str, key: &str, value: &[u8], cas: u32) -> Result<(), Status> {
        let key = (vm_id.to_owned(), key.to_owned());
        if cas != 0 && self.values.get(&key).is_some_and(|(_, current)| *current != cas) {
            return Err(Status::CasMismatch);
        }
        self.last_cas = self.last_cas.checked_add(1).unwrap_or(1);
        self.values.insert(key, (value.to_vec(), self.last_cas));
        Ok(())
    }

    /// How many keys there are, and how many bytes keys and values take: shared data has no delete, so this is a leak's measure.
    pub fn size(&self) -> (usize, usize) {
        let bytes = self.values.iter().map(|((_, key), (value, _))| key.len() + value.len()).sum();
        (self.values.len(), bytes)
    }

    /// All keys, sorted.
    pub fn keys(&self) -> Vec<String> {
        let mut keys: Vec<String> = self.values.keys().map(|(_, key)| key.clone()).collect();
        keys.sort();
        keys
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compare_and_swap_is_envoys() {
        let mut shared = SharedData::default();
        assert_eq!(shared.set("vm", "k", b"a", 0xffff_fff0), Ok(()), "a number never issued creates a missing key");
        assert_eq!(shared.set("vm", "k", b"b", 0xffff_fff0), Err(Status::CasMismatch), "and not an existing one");
        let (_, first) = shared.get("vm", "k").unwrap();
        assert_eq!(shared.set("vm", "k", b"c", first), Ok(()));
        assert_eq!(shared.set("vm", "k", b"d", first), Err(Status::CasMismatch));
        assert_eq!(shared.set("vm", "k", b"e", 0), Ok(()), "0 overwrites");
        assert_eq!(shared.get("vm", "k").unwrap().0, b"e");
        assert!(shared.get("other", "k").is_none(), "keys are per vm_id");
    }
}
