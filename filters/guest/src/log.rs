//! The proxy's log, behind the facade that all crates use.

use log::{Level, LevelFilter, Log, Metadata, Record};

use crate::abi;

/// The ABI's number for what ends the VM.
const CRITICAL: u32 = 5;

/// Writes to the proxy's log.
struct HostLog;

static LOG: HostLog = HostLog;

impl Log for HostLog {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            abi::log(number(record.level()), &record.args().to_string());
        }
    }

    fn flush(&self) {}
}

/// The ABI's number of a level.
fn number(level: Level) -> u32 {
    match level {
        Level::Trace => 0,
        Level::Debug => 1,
        Level::Info => 2,
        Level::Warn => 3,
        Level::Error => 4,
    }
}

/// Sends what is logged, and the last words of a VM, to the proxy's log. The SDK's own way there panics on statuses that a host may answer.
pub fn init() {
    // Plugins of one module share it, so it may be there already.
    if log::set_logger(&LOG).is_ok() {
        log::set_max_level(LevelFilter::Info);
        std::panic::set_hook(Box::new(|info| abi::log(CRITICAL, &info.to_string())));
    }
}
