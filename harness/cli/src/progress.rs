//! How far long work is: a bar on a terminal, and nothing elsewhere.

use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicUsize, Ordering};

/// A bar on standard error, where that is a terminal.
pub struct Progress {
    all: usize,
    done: AtomicUsize,
    shown: bool,
}

impl Progress {
    /// Nothing of `all` is done yet.
    pub fn new(all: usize) -> Self {
        Self { all, done: 0.into(), shown: std::io::stderr().is_terminal() }
    }

    /// One more is done. It is drawn anew for each percent.
    pub fn step(&self) {
        const BAR: usize = 40;
        let done = self.done.fetch_add(1, Ordering::Relaxed) + 1;
        let percent = |done: usize| done * 100 / self.all.max(1);
        if self.shown && percent(done) != percent(done - 1) {
            let filled = "#".repeat(BAR * done / self.all.max(1));
            let _ = write!(std::io::stderr(), "\r[{filled:<BAR$}] {done}/{}", self.all);
        }
    }

    /// Takes the bar away.
    pub fn end(&self) {
        if self.shown {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}
