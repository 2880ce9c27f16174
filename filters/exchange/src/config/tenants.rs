//! Tenants: who has a name.

use std::collections::BTreeMap;

use penstock_pending::fair::Priority;

use super::checked::{TENANTS_MAX, Tenant};
use super::problems::Problems;
use super::raw;

/// `tenants`: sorted by name, as the document's map is.
pub fn tenants(problems: &mut Problems, raw: BTreeMap<String, raw::Tenant>) -> Vec<Tenant> {
    problems.count("tenants", raw.len(), TENANTS_MAX);
    raw.into_iter().map(|(name, raw)| tenant(problems, name, raw)).collect()
}

fn tenant(problems: &mut Problems, name: String, raw: raw::Tenant) -> Tenant {
    problems.name(format!("tenants.{name:?}"), &name);
    if matches!(name.as_str(), "other" | "anonymous") {
        problems.problem(format!("tenants.{name}"), "the name is reserved for callers without one; use another");
    }
    let weight = raw.weight.unwrap_or(1);
    if weight == 0 {
        problems.problem(format!("tenants.{name}.weight"), "0 is not a weight; write 1 or more");
    }
    let priority = match raw.priority {
        Some(raw::Priority::Low) => Priority::Low,
        Some(raw::Priority::High) => Priority::High,
        Some(raw::Priority::Normal) | None => Priority::Normal,
    };
    Tenant { name, class: raw.class, weight, priority, suspended: raw.suspended }
}
