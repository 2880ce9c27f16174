//! The plan as values of the chart.

use super::decide::Plan;
use super::explain::Reason;
use super::figures::Figures;
use super::tree::Tree;

/// What is planned for.
#[derive(Clone, Debug)]
pub struct Target {
    /// The model.
    pub model: String,
    /// Its version, or `default` where it is not split.
    pub version: String,
    /// All models of the values that the plan is laid over; none where there are no such values.
    pub models: Option<Tree>,
}

impl Target {
    /// The one that is named, of values that are not known.
    pub fn fresh(model: &str, version: Option<&str>) -> Self {
        Self { model: model.to_owned(), version: version.unwrap_or("default").to_owned(), models: None }
    }

    /// The one that is named, as it stands in values.
    ///
    /// # Errors
    /// What there is instead.
    pub fn find(model: &str, version: Option<&str>, values: &Tree) -> Result<Self, String> {
        let Some(Tree::List(models)) = values.get("config").and_then(|config| config.get("models")) else {
            return Err("there is no list config.models in it".to_owned());
        };
        let Some(entry) = models.iter().find(|entry| name(entry) == model) else {
            return Err(format!("config.models has no `{model}`; it has {}", names(models)));
        };
        let versions = match entry.get("versions") {
            Some(Tree::List(versions)) if !versions.is_empty() => versions.as_slice(),
            _ => &[],
        };
        let version = match (version, versions) {
            (None, []) => "default",
            (None, [only]) => name(only),
            (None, several) => return Err(format!("say which --version of `{model}`; it has {}", names(several))),
            (Some("default"), []) => "default",
            (Some(version), versions) if versions.iter().any(|entry| name(entry) == version) => version,
            (Some(version), []) => return Err(format!("`{model}` is not split, so it has no version `{version}`")),
            (Some(version), versions) => {
                return Err(format!("`{model}` has no version `{version}`; it has {}", names(versions)));
            }
        };
        Ok(Self { model: model.to_owned(), version: version.to_owned(), models: Some(Tree::List(models.clone())) })
    }
}

fn name(entry: &Tree) -> &str {
    match entry.get("name") {
        Some(Tree::Leaf(name)) => name.as_str().unwrap_or_default(),
        _ => "",
    }
}

fn names(entries: &[Tree]) -> String {
    entries.iter().map(name).collect::<Vec<_>>().join(", ")
}

/// The values, with a line above each that says why.
pub fn values(target: &Target, figures: &Figures, plan: &Plan, reasons: &[Reason]) -> Tree {
    let why =
        |about: &str| reasons.iter().find(|reason| reason.about == about).map_or("", |reason| reason.why.as_str());
    let mut values = Tree::map();
    let note = if target.models.is_some() {
        "All of config.models, as Helm puts a list in the place of another."
    } else {
        "Helm puts a list in the place of another: give --values FILE for one that has all of your models."
    };
    values.at("config").put("models", models(target, figures, plan, &why), &[note]);
    let mut own = Tree::map();
    for (key, value) in [
        ("min", f64::from(plan.min)),
        ("max", f64::from(plan.max)),
        ("utilization", plan.utilization),
        ("backlogSeconds", plan.backlog),
        ("coldStartSeconds", plan.ahead),
        ("scaleDownWindowSeconds", plan.window),
        ("scaleDownPeriodSeconds", plan.period),
        ("cooldownSeconds", plan.cooldown),
    ] {
        own.put(key, value, &[why(key)]);
    }
    *values.at("autoscaling").at("models").at(&target.model).at(&target.version) = own;
    values
}

fn models<'a>(target: &Target, figures: &Figures, plan: &Plan, why: &dyn Fn(&str) -> &'a str) -> Tree {
    let fresh = || {
        let mut entry = Tree::map();
        entry.put("name", target.model.as_str(), &[]);
        Tree::List(vec![entry])
    };
    let mut models = target.models.clone().unwrap_or_else(fresh);
    let mut replica = Tree::map();
    replica.put("prefillTokensPerSecond", figures.prefill, &[]);
    replica.put("decodeTokensPerSecond", figures.decode, &[]);
    for entry in models.items_mut().iter_mut().filter(|entry| name(entry) == target.model) {
        let pending = entry.at("pending");
        pending.put("perReplica", plan.per_replica, &[why("perReplica")]);
        pending.put("ceiling", plan.ceiling, &[why("ceiling")]);
        // Figures of its own win over those of the model, so they are what is measured anew.
        let is_own = |version: &Tree| name(version) == target.version && version.get("replica").is_some();
        let own = match entry.get("versions") {
            Some(Tree::List(versions)) => versions.iter().position(is_own),
            _ => None,
        };
        let place = match own {
            Some(i) => &mut entry.at("versions").items_mut()[i],
            None => entry,
        };
        place.put("replica", replica.clone(), &["As measured."]);
    }
    models
}
