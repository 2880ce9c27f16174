//! The table on the terminal while the demo runs.

use std::io::{IsTerminal, Write};

/// The live table: drawn over itself on a terminal, not at all elsewhere.
pub(super) struct Screen {
    live: bool,
    lines: usize,
}

impl Screen {
    /// Silent where the output is to be nothing but the report.
    pub(super) fn new(silent: bool) -> Self {
        Self { live: !silent && std::io::stdout().is_terminal(), lines: 0 }
    }

    pub(super) fn draw(&mut self, table: &str) {
        if !self.live {
            return;
        }
        let mut stdout = std::io::stdout().lock();
        let up = if self.lines > 0 { format!("\x1b[{}A", self.lines) } else { String::new() };
        // A terminal that has gone away is noticed by the final print.
        let _ = write!(stdout, "{up}\x1b[J{table}");
        let _ = stdout.flush();
        self.lines = table.lines().count();
    }
}
