//! The rules, by subject: each is a function from a set to what is wrong with it.

mod aggregates;
mod buffers;
mod filters;
mod identity;
mod paths;
mod plugins;
mod promql;
mod queries;
mod routes;
mod scaling;
mod tags;
mod wasm;

use super::finding::Findings;
use super::set::Set;

/// Holds a set against every rule there is.
pub fn all(set: &Set, found: &mut Findings) {
    const RULES: [fn(&Set, &mut Findings); 11] = [
        plugins::check,
        filters::check,
        wasm::check,
        tags::check,
        buffers::check,
        paths::check,
        routes::check,
        aggregates::check,
        identity::check,
        scaling::check,
        queries::check,
    ];
    for rule in RULES {
        rule(set, found);
    }
}
