//! The timers of one worker.

use std::time::Duration;

use super::worker::Worker;

impl Worker {
    /// A frozen worker does not tick: a thread that is busy, or a process that is stopped.
    pub fn freeze(&mut self, frozen: bool) {
        self.frozen = frozen;
    }

    /// When the next timer of this worker is due.
    pub(super) fn next_tick(&mut self) -> Option<Duration> {
        if self.frozen {
            return None;
        }
        let live = self.slots.iter_mut().filter(|slot| slot.vm.failed.is_none());
        live.flat_map(|slot| slot.vm.state().ticks.values().map(|tick| tick.due).collect::<Vec<_>>()).min()
    }

    /// Fires the timers that are due.
    pub(super) fn run_due_ticks(&mut self) {
        if !self.frozen {
            let now = self.process.now();
            self.run_ticks(|due| due <= now);
        }
    }

    /// Fires every timer of this worker now, due or not.
    pub fn tick(&mut self) {
        self.run_ticks(|_| true);
    }

    fn run_ticks(&mut self, fires: impl Fn(Duration) -> bool) {
        for index in 0..self.slots.len() {
            let ticks = &self.slots[index].vm.state().ticks;
            let due: Vec<u32> = ticks.iter().filter(|(_, tick)| fires(tick.due)).map(|(root, _)| *root).collect();
            for root in due {
                self.run_tick(index, root);
            }
        }
    }

    fn run_tick(&mut self, slot: usize, root: u32) {
        let now = self.process.now();
        let vm = &mut self.slots[slot].vm;
        if vm.failed.is_some() {
            return;
        }
        if let Some(tick) = vm.state().ticks.get_mut(&root) {
            tick.due = now + tick.every;
        }
        // A trap is logged and leaves the VM dead; there is no stream to fail.
        let _ = vm.call("proxy_on_tick", root, &[root]);
        self.run_actions();
    }
}
