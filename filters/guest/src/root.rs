//! The root context: configuration, ticks, and a stream context for each request.

use std::cell::RefCell;
use std::rc::Rc;

use hashbrown::{HashMap, HashSet};
use penstock_exchange::{Config, Effect, Exchange, Stages, Worker};
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{BufferType, ContextType, LogLevel, MapType};

use crate::abi;
use crate::host::{ERROR, INFO, Metrics, Shared, WARN, entropy};
use crate::stream::Stream;

/// What the streams of one root context share.
pub struct Plugin {
    /// The worker, once configured.
    pub worker: Worker,
    /// Defined metrics.
    pub metrics: Metrics,
    /// A buffer for effects, kept between callbacks.
    pub effects: Vec<Effect>,
    /// Streams whose headers are held and whose body has not begun, with the number of ticks that they have been.
    pub waiting: HashMap<u32, u64>,
    /// Streams whose headers were let go by a tick, and that have not been told so.
    pub released: HashSet<u32>,
}

impl Plugin {
    /// Lets the headers go that have been held for too long without a body.
    fn release(&mut self, root: u32) {
        for ticks in self.waiting.values_mut() {
            *ticks = ticks.saturating_add(1);
        }
        let Some(patience) = self.worker.patience() else { return };
        let overdue = self.waiting.iter().filter(|(_, ticks)| **ticks > patience);
        let overdue: Vec<u32> = overdue.map(|(id, _)| *id).collect();
        for id in overdue {
            self.waiting.remove(&id);
            if abi::set_effective_context(id).is_ok() {
                self.released.insert(id);
                // The body may be edited later, when its length can no longer be told.
                let _ = abi::remove_header(MapType::HttpRequestHeaders, "content-length");
                let _ = abi::continue_request();
            }
        }
        let _ = abi::set_effective_context(root);
    }
}

/// Tells the SDK how to make root contexts.
pub fn start(make: fn(u32) -> Box<dyn RootContext>) {
    // The SDK's own log goes through a call that may panic; at this level it says nothing.
    proxy_wasm::set_log_level(LogLevel::Error);
    proxy_wasm::set_root_context(make);
}

/// A root context that runs `stages`, or those that its `root_id` names.
pub fn root(id: u32, stages: Option<Stages>) -> Box<dyn RootContext> {
    Box::new(Root { id, stages, plugin: None })
}

struct Root {
    id: u32,
    stages: Option<Stages>,
    plugin: Option<Rc<RefCell<Plugin>>>,
}

impl Context for Root {}

impl RootContext for Root {
    fn on_configure(&mut self, size: usize) -> bool {
        let bytes = abi::buffer(BufferType::PluginConfiguration, 0, size).unwrap_or_default();
        let root_id = abi::property(&["plugin_root_id"]).unwrap_or_default();
        let root_id = String::from_utf8_lossy(&root_id);
        let Some(stages) = self.stages.or_else(|| Stages::named(&root_id)) else {
            let fix =
                "use token-counter, tenant-bucket, canary-router or pending-gauge, or leave it empty for all four";
            abi::log(ERROR, &format!("root_id {root_id:?} is not a plugin of this module; {fix}"));
            return false;
        };
        let config = match Config::parse(&bytes) {
            Ok(config) => config,
            Err(errors) => {
                for problem in errors.0 {
                    abi::log(ERROR, &format!("configuration refused: {}: {}", problem.path, problem.what));
                }
                return false;
            }
        };
        for notice in &config.notices {
            abi::log(WARN, notice);
        }
        let tick = u32::try_from(config.tick_ms).unwrap_or(500);
        if abi::set_tick_period(tick).is_err() {
            abi::log(ERROR, "the host gives no ticks; gauges will not be set");
        }
        abi::log(INFO, &format!("configured {} models, {} limits", config.models.len(), config.limits.len()));
        let worker = Worker::new(config, stages, [entropy(), entropy(), entropy()], &mut Shared);
        let plugin = Plugin {
            worker,
            metrics: Metrics::default(),
            effects: Vec::new(),
            waiting: HashMap::new(),
            released: HashSet::new(),
        };
        self.plugin = Some(Rc::new(RefCell::new(plugin)));
        true
    }

    fn on_tick(&mut self) {
        let Some(plugin) = &self.plugin else { return };
        let Ok(mut plugin) = plugin.try_borrow_mut() else { return };
        let Plugin { worker, metrics, effects, .. } = &mut *plugin;
        let now = worker.time(abi::now(), &mut Shared);
        worker.tick(now, &mut Shared, effects);
        metrics.run(effects);
        plugin.release(self.id);
    }

    fn create_http_context(&self, id: u32) -> Option<Box<dyn HttpContext>> {
        let plugin = self.plugin.clone()?;
        let config = plugin.try_borrow().ok()?.worker.config.clone();
        Some(Box::new(Stream::new(id, Exchange::new(id, config), plugin)))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}
