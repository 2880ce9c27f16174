//! Locks that outlive a failed test.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks even after another test thread panicked: its assertion is the failure to report, not the poisoned lock.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
