//! Whose requests wait for a server, as one worker knows it: what [`hold`](crate::stage) shares out among tenants.

use hashbrown::HashMap;
use penstock_pending::{Series, Sum};
use penstock_units::Tokens;

/// The places that tenants have, by what they wait for and by their labels. Those without a name have theirs together.
#[derive(Debug, Default)]
pub struct Places {
    rows: HashMap<Series, Sum>,
}

impl Places {
    /// What requests for this version wait at, as a name that no model has.
    pub fn name([model, version]: [&str; 2]) -> String {
        ["held", model, version].join("\0")
    }

    /// So many more requests of the tenant wait there, with so many pieces of their bodies.
    pub fn add(&mut self, name: &str, tenant: &str, requests: u64, pieces: u32) {
        let sum = Sum { requests, prefill: Tokens(u64::from(pieces)), ..Sum::default() };
        self.rows.entry(row(name, tenant)).or_default().add(sum);
    }

    /// One waits no longer.
    pub fn leave(&mut self, name: &str, tenant: &str, pieces: u32) {
        let row = row(name, tenant);
        let Some(sum) = self.rows.get_mut(&row) else { return };
        sum.requests = sum.requests.saturating_sub(1);
        sum.prefill = sum.prefill.saturating_sub(Tokens(u64::from(pieces)));
        if sum.requests == 0 {
            self.rows.remove(&row);
        }
    }

    /// All of them; the tenant stands in the place of the version.
    pub fn rows(&self) -> impl Iterator<Item = (Series, Sum)> {
        self.rows.iter().map(|(series, sum)| (series.clone(), *sum))
    }
}

fn row(name: &str, tenant: &str) -> Series {
    Series { model: name.to_owned(), version: tenant.to_owned() }
}
