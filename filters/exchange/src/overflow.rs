//! Tables of fixed size that are full. What finds no room is added up with others of its kind, and the operator is told once.

use penstock_bucket::{lease, page, permit};
use penstock_pending::slot::{ROWS_MAX, SLOTS};

use crate::port::{Effect, Level};

/// How many tenants that wait for room are remembered for a model, each by itself; the others are added up.
pub const WAITING_MAX: usize = 256;
/// How many buckets are shown.
pub const SHOWN_MAX: usize = 1024;

/// A table of fixed size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    /// Workers and their heartbeats.
    Workers,
    /// What one worker holds, by version.
    Rows,
    /// Tenants that wait for room in a model.
    Waiting,
    /// Buckets of one page.
    Buckets,
    /// Permits of one page.
    Permits,
    /// Leases of one page.
    Leases,
    /// Buckets whose state is shown.
    Shown,
}

/// Which tables of a worker were full, and what was said of them.
#[derive(Debug, Default)]
pub struct Overflow {
    full: Vec<Table>,
    told: usize,
}

impl Overflow {
    /// Something found no room.
    pub fn note(&mut self, table: Table) {
        if !self.full.contains(&table) {
            self.full.push(table);
        }
    }

    /// Tells of those that were full since this was last asked, each once.
    pub fn tell(&mut self, out: &mut Vec<Effect>) {
        let new = self.full.get(self.told..).unwrap_or_default();
        out.extend(new.iter().map(|table| Effect::Log(Level::Warn, table.notice())));
        self.told = self.full.len();
    }
}

impl Table {
    fn notice(self) -> String {
        let rest = "those that find no room share one";
        match self {
            Self::Workers => format!("more than {SLOTS} workers are alive; what is in flight in this one is not shown"),
            Self::Rows => format!("more than {ROWS_MAX} rows of what is in flight; the rest is added up as \"other\""),
            Self::Waiting => {
                format!("more than {WAITING_MAX} tenants wait for room in one model; the rest waits as one")
            }
            Self::Buckets => format!("{} buckets of limits are in use in one page; {rest}", page::ENTRIES_MAX),
            Self::Permits => format!("{} permits are in use in one page; {rest}", permit::ENTRIES_MAX),
            Self::Leases => format!("{} leases are in use in one page; {rest}", lease::ENTRIES_MAX),
            Self::Shown => {
                format!("more than {SHOWN_MAX} buckets are in use; penstock_limit_used_tokens shows no others")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_told_once() {
        let (mut overflow, mut out) = (Overflow::default(), Vec::new());
        overflow.tell(&mut out);
        assert_eq!(out, []);
        for table in [Table::Rows, Table::Waiting, Table::Rows] {
            overflow.note(table);
        }
        overflow.tell(&mut out);
        let warn = |table: Table| Effect::Log(Level::Warn, table.notice());
        assert_eq!(out, [warn(Table::Rows), warn(Table::Waiting)]);
        overflow.note(Table::Waiting);
        overflow.note(Table::Leases);
        overflow.tell(&mut out);
        assert_eq!(out.split_off(2), [warn(Table::Leases)]);
    }
}
