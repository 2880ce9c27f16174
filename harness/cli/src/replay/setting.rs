//! The configuration that is tried, changed so that recorded callers are known by what the log calls them.

use std::fs;
use std::path::Path;

use penstock_playground::settings;
use serde_json::{Value, json};

/// The header that says who asks, here.
pub const CALLER: &str = "x-replay-caller";

/// A configuration to play under.
pub struct Setting {
    /// As it was named.
    pub file: String,
    /// What the filter is given.
    pub config: Value,
    /// The first of its models that has a name of its own.
    pub first_model: Option<String>,
    /// What of it cannot be tried with what is recorded.
    pub notes: Vec<String>,
}

impl Setting {
    /// Reads one. Callers are told apart by [`CALLER`] alone: keys and tokens are not recorded.
    ///
    /// # Errors
    /// Every mistake, with file and line.
    pub fn read(path: &Path) -> Result<Self, String> {
        let file = path.display().to_string();
        let said = |mistakes: Vec<settings::Mistake>| {
            let one = |mistake: &settings::Mistake| {
                let path = if mistake.path.is_empty() { String::new() } else { format!("{}: ", mistake.path) };
                format!("{file}:{}: {path}{}", mistake.line, mistake.what)
            };
            mistakes.iter().map(one).collect::<Vec<_>>().join("\n")
        };
        let text = fs::read_to_string(path).map_err(|error| format!("{file}: {error}"))?;
        let at = settings::read(&text).map_err(said)?;
        // What stands there has to hold as it stands; only then is it changed.
        settings::checked(&at, |_| {}).map_err(said)?;
        let mut config = at.json();
        if config.is_null() {
            config = json!({});
        }
        let notes = unrecorded(&config);
        config["tenant"]["from"] = json!([{"header": CALLER, "trusted": true}]);
        for tenant in config["tenants"].as_object_mut().into_iter().flat_map(|tenants| tenants.values_mut()) {
            if let Some(tenant) = tenant.as_object_mut() {
                tenant.remove("apiKeys");
            }
        }
        let mut names = config["models"].as_array().into_iter().flatten().filter_map(|model| model["name"].as_str());
        let first_model = names.find(|name| *name != "*").map(str::to_owned);
        Ok(Self { file, config, first_model, notes })
    }
}

/// Limits by headers, which no log has.
fn unrecorded(config: &Value) -> Vec<String> {
    let mut notes = Vec::new();
    for (place, list) in [("limits", "per"), ("models", "sticky")] {
        for (index, one) in config[place].as_array().into_iter().flatten().enumerate() {
            let sources = one[list].as_array().into_iter().flatten();
            if sources.into_iter().any(|source| source["header"].is_string()) {
                notes.push(format!("{place}[{index}].{list}: what clients send in headers is not recorded"));
            }
        }
    }
    notes
}
