//! What a real istiod and a real agent make of the files in istio/, and what their gateway then does.
//!
//! Started by `cargo xtask test --cluster`. One cluster serves all tests, one after the other; each has a gateway of its own.

#[path = "mesh/analysis.rs"]
mod analysis;
#[path = "mesh/drains.rs"]
mod drains;
#[path = "mesh/faults.rs"]
mod faults;
#[path = "mesh/gateway_api.rs"]
mod gateway_api;
#[path = "mesh/picker.rs"]
mod picker;
#[path = "mesh/rollout.rs"]
mod rollout;
#[path = "mesh/schemas.rs"]
mod schemas;
#[path = "mesh/serves.rs"]
mod serves;
#[path = "mesh/shared_limits.rs"]
mod shared_limits;
#[path = "mesh/stage.rs"]
mod stage;
#[path = "mesh/updates.rs"]
mod updates;
