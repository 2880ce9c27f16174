//! From what gateways say of themselves to replicas, by the real Prometheus, KEDA and HorizontalPodAutoscaler; and to a canary's fate, by Argo Rollouts.
//!
//! Started by `cargo xtask test --cluster`. One chain serves all tests, one after the other, and is emptied before each.

#[path = "scaling/follows.rs"]
mod follows;
#[path = "scaling/rollouts.rs"]
mod rollouts;
#[path = "scaling/shipped.rs"]
mod shipped;
#[path = "scaling/stage.rs"]
mod stage;
