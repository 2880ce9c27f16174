//! Attempts to walk around what is configured, on a real Envoy: one test for each row of the table in `docs/security.md`, under its name.

#[path = "evasion/coded.rs"]
mod coded;
#[path = "evasion/demand.rs"]
mod demand;
#[path = "evasion/identity.rs"]
mod identity;
#[path = "evasion/limits.rs"]
mod limits;
#[path = "evasion/paths.rs"]
mod paths;
#[path = "evasion/recorder.rs"]
mod recorder;
#[path = "evasion/stage.rs"]
mod stage;
#[path = "evasion/texts.rs"]
mod texts;
#[path = "evasion/waiting.rs"]
mod waiting;
