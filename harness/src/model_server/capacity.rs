//! How much the server does at once: a number of slots, and a queue of bounded length before them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Slots and a bounded queue.
#[derive(Debug)]
pub(super) struct Capacity {
    slots: Arc<Semaphore>,
    slots_total: usize,
    waiting: AtomicUsize,
    waiting_max: usize,
}

/// The queue is full.
#[derive(Debug)]
pub(super) struct Overflow;

impl Capacity {
    pub(super) fn new(slots: usize, queue: usize) -> Self {
        Self {
            slots: Arc::new(Semaphore::new(slots)),
            slots_total: slots,
            waiting: AtomicUsize::new(0),
            waiting_max: queue,
        }
    }

    /// Waits for a slot, which is free again when the permit is dropped.
    pub(super) async fn enter(&self) -> Result<OwnedSemaphorePermit, Overflow> {
        if let Ok(permit) = Arc::clone(&self.slots).try_acquire_owned() {
            return Ok(permit);
        }
        let place = Place::take(&self.waiting, self.waiting_max)?;
        let permit = Arc::clone(&self.slots).acquire_owned().await.map_err(|_| Overflow);
        drop(place);
        permit
    }

    pub(super) fn running(&self) -> usize {
        self.slots_total - self.slots.available_permits()
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Share of the slots in use, from 0 to 1.
    pub(super) fn used(&self) -> f64 {
        self.running() as f64 / self.slots_total.max(1) as f64
    }
}

/// A place in the queue; given back when dropped, so that a client that hangs up while waiting does not hold it.
struct Place<'a>(&'a AtomicUsize);

impl<'a> Place<'a> {
    fn take(waiting: &'a AtomicUsize, max: usize) -> Result<Self, Overflow> {
        waiting
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| (n < max).then_some(n + 1))
            .map(|_| Self(waiting))
            .map_err(|_| Overflow)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
