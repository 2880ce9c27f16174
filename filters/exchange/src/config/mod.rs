//! The configuration: one JSON document, every section optional.
//!
//! [`raw`] is its syntax, [`checked`] its meaning. [`Config::parse`] is the only way from one to the other, so a [`Config`] that exists is
//! valid: names are bounded and unique, rates are not zero, every reference leads somewhere, and every default is resolved.

mod check;
pub mod checked;
mod cold_start;
mod feedback;
mod guard;
mod hosts;
mod limits;
mod models;
mod names;
mod paths;
mod problems;
pub mod raw;
mod routing;
mod sources;
mod tenants;
mod units;

pub use checked::{
    Bounds, Category, Choosers, ColdStart, Config, CountEndpoints, Feedback, Flat, Guard, Kind, LIMITS_MAX, Limit,
    MODELS_MAX, Mode, Model, OnError, Origin, Owner, PathPattern, Paths, Policy, Price, RateLimitService, Routing,
    Rule, Shadow, Source, Spend, TENANTS_MAX, Tenant, UnknownModel, VERSIONS_MAX, Version, WaitForBody, Weights, When,
    Whose,
};
pub use problems::{ConfigErrors, Problem};

/// The JSON Schema of the document: what keys there are, and of what type. What is said in `check` it does not say.
#[cfg(feature = "schema")]
pub fn schema() -> serde_json::Value {
    schemars::schema_for!(raw::Document).to_value()
}
