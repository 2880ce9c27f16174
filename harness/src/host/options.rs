//! What a test asks of the host: the chain of plugins, and how the process runs.

use std::time::Duration;

use super::module::Module;

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
    /// Who hears what the plugins log.
    pub guest_log: GuestLog,
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
            guest_log: GuestLog::Collected,
            seed: 1,
            start: Duration::from_secs(1_767_225_600),
            vm_configuration: Vec::new(),
        }
    }
}

/// What happens to streams of a VM that trapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailPolicy {
    /// They get 503, until the process ends.
    Closed,
    /// They get 503, until a fresh VM serves the next request (at most one a second).
    Reload,
    /// They pass by the plugin.
    Open,
}

/// Who hears what the plugins log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GuestLog {
    /// The test, by `Host::log`.
    #[default]
    Collected,
    /// The test as before, and people: every line also goes to the `log` crate, under the target `wasm`.
    Forwarded,
}
