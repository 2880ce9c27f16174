//! The root context: configuration, ticks, and a stream context for each request.

use std::cell::RefCell;
use std::rc::Rc;

use penstock_exchange::{Config, Event, Plugin};
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{BufferType, ContextType};

use crate::abi;
use crate::calls::{self, in_root};
use crate::effects::{Progress, declare_facts};
use crate::log::init;
use crate::stream::Stream;
use crate::vm::{Due, Vm};

/// Tells the SDK how to make root contexts.
pub fn start(make: fn(u32) -> Box<dyn RootContext>) {
    init();
    proxy_wasm::set_root_context(make);
}

/// A root context that runs `plugin`, or the one that its `root_id` names.
pub fn root(id: u32, plugin: Option<Plugin>) -> Box<dyn RootContext> {
    Box::new(Root { id, plugin, vm: None })
}

struct Root {
    id: u32,
    plugin: Option<Plugin>,
    vm: Option<Rc<RefCell<Vm>>>,
}

impl Root {
    /// Does something with the worker, unless that is under way.
    fn with<T>(&self, act: impl FnOnce(&mut Vm) -> T) -> Option<T> {
        let mut vm = self.vm.as_ref()?.try_borrow_mut().ok()?;
        Some(act(&mut vm))
    }

    /// Acts on a stream, and lets it go where that is said; then on those that are to know of it.
    fn with_stream(&self, act: impl FnOnce(&mut Vm) -> Progress) {
        self.with_one(act);
        while let Some((id, exchange)) = self.with(Vm::woken).flatten() {
            if abi::set_effective_context(id).is_ok() {
                self.with_one(|vm| vm.tell(id, &exchange, Event::Tick));
            }
        }
    }

    fn with_one(&self, act: impl FnOnce(&mut Vm) -> Progress) {
        if self.with(act) == Some(Progress::Released) {
            let _ = abi::continue_request();
        }
    }
}

impl Context for Root {
    // The last stream of an earlier configuration is over: nobody has to wait for its heartbeat to grow old.
    fn on_done(&mut self) -> bool {
        self.with(Vm::end);
        true
    }

    // All calls are answered here, as they are made here.
    fn on_grpc_call_response(&mut self, number: u32, status: u32, size: usize) {
        in_root(|| self.with_stream(|vm| vm.grpc_done(number, status, size)));
        let _ = abi::set_effective_context(self.id);
    }

    fn on_http_call_response(&mut self, number: u32, headers: usize, size: usize, _: usize) {
        in_root(|| self.with_stream(|vm| vm.http_done(number, headers, size)));
        let _ = abi::set_effective_context(self.id);
    }
}

impl RootContext for Root {
    fn on_configure(&mut self, size: usize) -> bool {
        let bytes = abi::buffer(BufferType::PluginConfiguration, 0, size).unwrap_or_default();
        let root_id = abi::property(&["plugin_root_id"]).unwrap_or_default();
        let root_id = String::from_utf8_lossy(&root_id);
        let Some(plugin) = self.plugin.or_else(|| Plugin::named(&root_id)) else {
            let fix =
                "use token-counter, tenant-bucket, canary-router or pending-gauge, or leave it empty for all four";
            log::error!("root_id {root_id:?} is not a plugin of this module; {fix}");
            return false;
        };
        let config = match Config::parse(&bytes) {
            Ok(config) => config,
            Err(errors) => {
                for problem in errors.0 {
                    log::error!("configuration refused: {}: {}", problem.path, problem.what);
                }
                return false;
            }
        };
        for notice in &config.notices {
            log::warn!("{notice}");
        }
        declare_facts();
        if abi::set_tick_period(config.tick).is_err() {
            log::error!("the host gives no ticks; gauges will not be set");
        }
        log::info!("configured {} models, {} limits", config.models.len(), config.limits.len());
        self.vm = Some(Rc::new(RefCell::new(Vm::new(config, plugin, self.id))));
        true
    }

    fn on_tick(&mut self) {
        let Due { overdue, ticking } = self.with(Vm::tick).unwrap_or_default();
        let overdue = overdue.iter().map(|(id, call, exchange)| (id, exchange, Some(*call)));
        let ticking = ticking.iter().map(|(id, exchange)| (id, exchange, None));
        for (id, exchange, call) in overdue.chain(ticking) {
            let event = || call.map_or(Event::Tick, |id| Event::CallDone { id, answer: None });
            if abi::set_effective_context(*id).is_ok() {
                in_root(|| self.with_stream(|vm| vm.tell(*id, exchange, event())));
            }
        }
        let _ = abi::set_effective_context(self.id);
    }

    fn on_queue_ready(&mut self, _: u32) {
        calls::told();
    }

    fn create_http_context(&self, id: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Stream::open(id, self.vm.clone()?)?))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}
