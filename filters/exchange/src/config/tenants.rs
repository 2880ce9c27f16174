//! Tenants: who has a name.

use std::collections::BTreeMap;
use std::rc::Rc;

use penstock_pending::fair::Priority;

use super::checked::{Model, TENANTS_MAX, Tenant};
use super::problems::Problems;
use super::raw;

/// What the models of a class are: `None` is every one.
type Classes = BTreeMap<String, Option<Rc<[String]>>>;

/// `tenants` and `classes`: the tenants, sorted by name, as the document's map is.
pub fn tenants(
    problems: &mut Problems,
    raw: BTreeMap<String, raw::Tenant>,
    classes: BTreeMap<String, raw::Class>,
    models: &[Model],
) -> Vec<Tenant> {
    problems.count("tenants", raw.len(), TENANTS_MAX);
    problems.count("classes", classes.len(), TENANTS_MAX);
    let classes: Classes = classes
        .into_iter()
        .map(|(name, class)| {
            let list = usable(problems, &format!("classes.{name}.models"), class.models, models);
            (name, list.flatten())
        })
        .collect();
    raw.into_iter().map(|(name, raw)| tenant(problems, name, raw, &classes, models)).collect()
}

/// A list of models that may be used. The outer `None`: there is no list.
fn usable(
    problems: &mut Problems,
    path: &str,
    raw: Option<Vec<String>>,
    models: &[Model],
) -> Option<Option<Rc<[String]>>> {
    let mut names = raw?;
    for (i, name) in names.iter().enumerate() {
        if name != "*" && models.iter().all(|model| model.name != *name) {
            let what = format!("{name:?} is not a configured model; use one of models[].name, or \"*\" for every one");
            problems.problem(format!("{path}[{i}]"), what);
        }
    }
    names.sort();
    Some((!names.iter().any(|name| name == "*")).then(|| names.into()))
}

fn tenant(problems: &mut Problems, name: String, raw: raw::Tenant, classes: &Classes, models: &[Model]) -> Tenant {
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
    let own = usable(problems, &format!("tenants.{name}.models"), raw.models, models);
    let of_class = || raw.class.as_ref().and_then(|class| classes.get(class)).cloned().flatten();
    let models = own.unwrap_or_else(of_class);
    Tenant { name, class: raw.class, weight, priority, suspended: raw.suspended, models }
}
