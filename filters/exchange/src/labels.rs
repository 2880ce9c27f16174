//! The values of metric labels: configured names, and a word for everything that has none.

use crate::config::{Model, Version};

/// The label value of whatever has no name of its own.
pub const OTHER: &str = "other";
/// The version label of a model that is not split.
pub const UNSPLIT: &str = "default";

/// The limit of what no limit refused.
pub const NO_LIMIT: &str = "none";

/// What narrowed the choice of a version where whoever asks has chosen it.
pub const OVERRIDE: &str = "override";
/// What narrowed it where another model serves.
pub const FALLBACK: &str = "fallback";

/// The label of a model: the wildcard, and one that is not known, have none of their own.
pub fn model(name: &str) -> &str {
    if name == "*" || name.is_empty() { OTHER } else { name }
}

/// The label of whatever serves the model first: the stable version, where there are several.
pub fn stable(model: &Model) -> &str {
    version(model.versions.first().map(|version| version.name.as_str()))
}

/// The labels of what serves: a version of the model, or the model itself.
pub fn served<'c>(of: &'c Model, by: Option<&'c Version>) -> [&'c str; 2] {
    [model(&of.name), version(by.map(|version| version.name.as_str()))]
}

/// The label of a version.
pub fn version(name: Option<&str>) -> &str {
    name.unwrap_or(UNSPLIT)
}
